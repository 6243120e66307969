--- The probe of a run: verdicts read each so many steps, of what is held out or of a benchmark of steps.
-- @module cft.eval.judge.follow

local benchmarks = require "cft.eval.benchmarks"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local critique = require "cft.text.critique"
local host = require "cft.host"
local probe = require "cft.eval.judge.probe"
local problems = require "cft.eval.problems"
local ranks = require "cft.ranks"

local M = {}

--- What `probe` may say.
M.spec = { every = { "integer", min = 1 }, limit = { "integer", 200, min = 1 },
           steps = { "string", optional = true }, bench = { "string", optional = true }, data = { "string", optional = true } }

-- Critiques step by step, by rule, of the solutions of a benchmark.
local function of_bench(o)
  local bench = benchmarks.get(o.bench)
  if not bench.judged then
    blame("probe: the benchmark '%s' has no steps that are labelled; processbench and mr-gsm8k have", o.bench)
  end
  local make = critique.steps()
  return (problems.read(bench, o.data, true, o.limit, function(record) return make(bench.judged(record)) end))
end

--- @tab opts of `spec`
-- @treturn table for `now`
function M.new(opts)
  local self = check.options("probe", opts, M.spec)
  if self.data and not self.bench then
    blame "probe: 'data' is where a benchmark's data are, and no bench is named"
  end
  if self.bench then self.records = of_bench(self) end
  if self.steps then require("cft.eval.judge.slots").steps(self.steps) end
  return self
end

-- The first held-out records of a run.
local function heldout(run, limit)
  local records = {}
  for i = 0, math.min(limit, run.heldout_source:size()) - 1 do
    records[#records + 1] = run.heldout_source:get(i)
  end
  return records
end

-- The verdicts on records, of which each rank reads its share. @treturn table @treturn int how many were left out
local function read(self, run, records)
  local here, list, left_out = ranks.here(), {}, 0
  here:at "probe"
  local own, without = probe.read(run:model(), run.tokenizer, run.chat, here:share(records), self.steps)
  for r, part in ipairs(here:gather { list = own, left_out = without }) do
    left_out = left_out + part.left_out
    for _, one in ipairs(part.list) do
      one.record = (one.record - 1) * here.size + r
      list[#list + 1] = one
    end
  end
  return list, left_out
end

local NAMES = { "accuracy", "auroc", "ece", "brier" }

-- Numbers as metrics, and in words.
local function enter(made, prefix, what, n)
  for _, name in ipairs(NAMES) do made[prefix .. name] = n[name] end
  return ("%d %s, accuracy %.3f, AUROC %s, ECE %.3f"):format(n.n, what, n.accuracy,
    n.auroc and ("%.3f"):format(n.auroc) or "none (one verdict only)", n.ece)
end

local FEW = 8  -- steps whose accuracy stands in a line

local function by_step(n)
  local parts = {}
  for i = 1, math.min(FEW, #n.by_step) do
    parts[i] = n.by_step[i] and ("%.2f"):format(n.by_step[i].accuracy) or "-"
  end
  return table.concat(parts, " ")
end

--- Read, where it is due, and say it.
-- @tab self of `new` @tab run @tab t numbers of the step @tab made gets the metrics: `probe_accuracy` and its
-- like, and of steps
-- `probe_step_accuracy` and its like, with `probe_step_f1`
function M.now(self, run, t, made)
  if not (t.step % self.every == 0 or t.step == run.last_step) then return end
  local records = self.records or run.heldout_source and heldout(run, self.limit)
  if not records then
    if not self.told then
      run.log:say "probe: nothing is held out, and no bench is named: there is nothing to read"
    end
    self.told = true
    return
  end
  local began, says = host.now(), {}
  local list, left_out = read(self, run, records)
  local whole, steps = probe.numbers(probe.whole(list)), probe.steps(list)
  if whole then says[1] = enter(made, "probe_", "verdicts", whole) end
  if steps then
    made.probe_step_f1 = steps.f1
    says[#says + 1] = enter(made, "probe_step_", "of steps", steps)
      .. (steps.f1 and (", F1 of the first wrong one %.3f"):format(steps.f1) or "")
      .. ", accuracy by step " .. by_step(steps)
  end
  if #says == 0 then
    run.log:say("probe: of %d records none has a verdict that can be read", #records)
    return
  end
  run.log:say("probe: %s; %s%.1f s", table.concat(says, "; "),
    left_out > 0 and ("%d of %d records left out, "):format(left_out, #records) or "", host.now() - began)
end

return M
