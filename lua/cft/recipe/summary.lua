--- What is left of a run: summary.json, and the last lines on the screen.

local curve = require "cft.report.curve"
local json = require "cft.base.json"
local ledger = require "cft.train.ledger"
local format = require "cft.base.format"
local paces = require "cft.ranks.pace"
local plans = require "cft.recipe.plan"
local save = require "cft.io.save"
local tensor = require "cft.engine.tensor"
local term = require "cft.base.term"

local M = {}

--- Write summary.json.
-- @tab run of `cft.recipe`
-- @tab summary what the trainer counted
-- @treturn table all that the file holds
function M.write(run, summary)
  local m = run:model()
  local all = { recipe = run.name, model = run.cfg.demo and "demo" or run.cfg.model or run.own.name, device = run.device,
                dtype = m.dtype, parameters = m:count(), peak_bytes = tensor.memory(m.device).peak,
                checkpoint = run.saved or json.null, template_check = run.template_report,
                changes = run.changes and #run.changes > 0 and run.changes or nil }
  all.expected_tokens_per_s = run.expected
  all.selected_by, all.selected_and_reported = run.selected_by, run.selected_and_reported
  for k, v in pairs(summary) do all[k] = v end
  all = json.sayable(all)
  if run.writes then save.write(run.writes .. "/summary.json", json.encode(all, { indent = 2 }) .. "\n") end
  return all
end

local FEW = 10  -- steps that need no curve

--- Say how it went.
-- @tab run @tab summary as `write` returned it
function M.say(run, summary)
  local losses = run.log:losses()
  for _, line in ipairs(#losses > FEW and curve.draw(losses, term.width()) or {}) do run.log:say("%s", line) end
  if not summary.loss_first then return run.log:say "no step was made" end
  run.log:say("loss %.4f -> %.4f%s; %s tokens, %s tok/s, %s", summary.loss_first, summary.loss_last,
              summary.heldout_loss_after and (", held out %.4f -> %.4f"):format(
                summary.heldout_loss_before, summary.heldout_loss_after) or "",
              format.count(summary.tokens), format.count(summary.tokens_per_s), format.duration(summary.seconds))
  if summary.expected_tokens_per_s then
    run.log:say("plan: %s", plans.error(summary.expected_tokens_per_s, summary.tokens_per_s))
  end
  local slow = summary.slow_rank
  if slow then run.log:say("%s", paces.describe(slow, slow.host)) end
  local columns = { { "first tenth", summary.ledger_first }, { "last tenth", summary.ledger_last } }
  if summary.heldout_ledger_after then
    columns[3], columns[4] = { "held out", summary.heldout_ledger_before }, { "after", summary.heldout_ledger_after }
  end
  for _, line in ipairs(ledger.table(columns)) do run.log:say("%s", line) end
  local own = {}
  for name, value in pairs(summary.metrics or {}) do
    own[#own + 1] = ("%s %s"):format(name, type(value) == "number" and ("%.6g"):format(value) or tostring(value))
  end
  table.sort(own)
  if own[1] then run.log:say("last of the recipe's own: %s", table.concat(own, ", ")) end
  local best = summary.best
  if best then
    local chooser = summary.selected_by
    run.log:say("best %s %.6g at step %d%s", best.metric, best.value, best.step,
                chooser and best.metric:sub(1, #chooser + 1) == chooser .. "_" and (": chosen by %s, which is no benchmark to report it by"):format(chooser) or "")
  end
  if run.saved then run.log:say("saved in %s", run.saved) end
end

return M
