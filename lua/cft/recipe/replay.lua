--- One step of a run once more: its samples, what each of them came to, and its tokens' losses.
--
-- The state before the step is that of the nearest checkpoint before it, or of the beginning, and of the steps since,
-- made again. Nothing is written.

local autograd = require "cft.engine.autograd"
local blame = require "cft.base.blame"
local checkpoint = require "cft.train.checkpoint"
local exit = require "cft.base.exit"
local host = require "cft.host"
local journals = require "cft.train.journal"
local saves = require "cft.io.save"
local tensor = require "cft.engine.tensor"
local texts = require "cft.base.text"

local M = {}

local function say(line, ...) print(texts.printable(line:format(...))) end

--- The nearest whole checkpoint of a run before a step is made. @string out @int step
-- @treturn ?string nil where there is none
function M.nearest(out, step)
  local best, at
  for _, name in ipairs(host.list(out) or {}) do
    local n = tonumber(name:match "^step%-(%d+)$")
    local path = n and checkpoint.folder(out, n)
    if n and n < step and n > (at or -1) and saves.size(path .. "/state.msgpack") and saves.verify(path) then
      best, at = path, n
    end
  end
  return best
end

-- The samples of a step, each with its loss and those of its tokens.
local function look(trainer)
  local per_epoch, list, gathered = trainer.batches:updates(), {}, journals.empty()
  local micros, weight = trainer.batches:update(math.floor(trainer.done / per_epoch), trainer.done % per_epoch)
  autograd.no_grad(function()
    for _, micro in ipairs(micros) do
      tensor.scope(function()
        local _, nll, at = trainer.model:loss(micro.batch)
        local values = nll:to_host()
        local first = #gathered.losses
        journals.gather(gathered, micro, values, at)
        local cu, b = at.cu_rows or micro.batch.cu_seqlens, micro.batch
        for s = 0, tonumber(b.sequences) - 1 do
          local one = { name = micro.names[s + 1], loss = gathered.losses[first + s + 1],
                        weight = gathered.weights[first + s + 1], tokens = {} }
          for i = cu[s], cu[s + 1] - 1 do
            local row = at.host_rows and at.host_rows[i] or i
            if b.weights[row] ~= 0 then
              one.tokens[#one.tokens + 1] = { id = tonumber(b.targets[row]), loss = values[i], weight = b.weights[row] }
            end
          end
          list[#list + 1] = one
        end
      end)
    end
  end)
  return list, gathered, weight
end

-- Whether the journal has the same of each sample, bit for bit.
local function compare(entry, gathered)
  if not entry then return "the journal has no entry of this step", false end
  for k, loss in ipairs(gathered.losses) do
    if entry.contents[k] ~= gathered.contents[k] then return ("sample %d has other tokens than it had then"):format(k), false end
    if entry.losses[k] ~= loss then
      return ("the loss of sample %d is %.9g, and was %.9g"):format(k, loss, entry.losses[k] or 0 / 0), false
    end
  end
  if #entry.losses ~= #gathered.losses then return "the step had other samples", false end
  return ("all %d losses are those of the journal, bit for bit"):format(#gathered.losses), true
end

local function show(list, weight, o, tok)
  local sum = 0
  for _, one in ipairs(list) do sum = sum + one.loss end
  if o.blame then table.sort(list, function(a, b) return a.loss > b.loss end) end
  say("  %9s %9s %7s  sample", "loss", "weight", "share")
  for _, one in ipairs(list) do
    say("  %9.4f %9g %6.1f%%  %s", one.loss / math.max(one.weight, 1e-300), one.weight, 100 * one.loss / sum, one.name)
    if o.tokens then
      for _, t in ipairs(one.tokens) do
        say("    %9.4f %9g          %q", t.loss, t.weight, tok:token(t.id) or "?")
      end
    end
  end
  say("sum of weights %g, loss %.9g", weight, sum / weight)
end

--- Show a step and leave: with 1 where it is not what the journal says.
-- @tparam Run run nothing of it made yet
-- @func make the stages of a run
-- @tab o `step`, `out` of the run; `blame`, order samples by their share of the loss; `tokens`, show each token
function M.leave(run, make, o)
  run.cfg.out, run.cfg.resume = nil, M.nearest(o.out, o.step) or false
  make(run, true)
  if o.step > run.last_step then exit.fail(exit.USAGE, "replay: --step %d: the run has %d steps", o.step, run.last_step) end
  local trainer = run:trainer()
  trainer.heldout, trainer.eval_every, trainer.log.quiet = nil, nil, true
  if trainer.done > o.step - 1 then blame("replay: %s is behind step %d", tostring(run.cfg.resume), o.step) end
  say("step %d, from %s and %d steps made again", o.step, run.cfg.resume or "the beginning", o.step - 1 - trainer.done)
  while trainer.done < o.step - 1 do trainer:step() end
  local list, gathered, weight = look(trainer)
  local entry = (journals.read(o.out) or {})[o.step]
  show(list, weight, o, run.tokenizer)
  local text, same = compare(entry, gathered)
  say("%s", text)
  if entry and entry.spike then say("an outlier: spike=%s", entry.spike) end
  o.code = same and exit.OK or exit.FAILED
  exit.leave(o.code)
end

return M
