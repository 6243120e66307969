--- A run is scored while it trains: `select`, which chooses a checkpoint by a benchmark; `retain`, what was
-- lost; `probe`.
--
-- Scores are of the weights in memory. Each is compared, problem by problem, with the best so far. What later
-- scores are compared with goes into checkpoints, so that a run that is resumed goes on as if it had never
-- stopped.
-- @module cft.eval.live

local benchmarks = require "cft.eval.benchmarks"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local compare = require "cft.eval.compare"
local critics = require "cft.eval.judge.critic"
local eval = require "cft.eval"
local follow = require "cft.eval.judge.follow"
local grade = require "cft.grade"
local hash = require "cft.io.hash"
local host = require "cft.host"
local prompts = require "cft.eval.prompts"
local ranks = require "cft.ranks"
local score = require "cft.eval.score"

local M = {}
local Live = {}
Live.__index = Live

local spec = {
  bench = { "string", "math-validation" }, data = { "string", optional = true },
  limit = { "integer", optional = true, min = 1 }, metric = { "string", optional = true },
  template = { "string", "auto", one_of = prompts.names },
  grade = { "string", "symbolic", one_of = grade.modes },
  max_new = { "integer", optional = true, min = 1 }, samples = { "integer", 1, min = 1, max = 4096 },
  temperature = { "number", 0, min = 0 }, seed = { "integer", 0, min = 0 },
  critiques = { "integer", 0, min = 0, max = 4096 },
  critique_form = { "string", "paper", one_of = critics.forms },
  critic_template = { "string", "auto", one_of = critics.templates },
  critique_max_new = { "integer", optional = true, min = 1 },
}

--- What `select` may say beside that: how often, what share of the time at most, and whether a run that is
-- worse than its best, by more than chance, is stopped.
local select_spec = { every = { "integer", min = 1 }, share = { "number", 0.25, min = 0, max = 1 },
                      stop = { "boolean", false } }
for name, one in pairs(spec) do select_spec[name] = one end

-- A benchmark with its problems, for a run.
local function set_of(where, o)
  local bench = benchmarks.get(o.bench)
  for name, n in pairs { samples = o.samples, critiques = o.critiques } do
    if n > 1 and o.temperature == 0 then
      blame("%s: %s = %d wants a temperature above 0: at 0 all of them are the same", where, name, n)
    end
  end
  if o.critiques > 0 and bench.no_votes then
    blame("%s: critiques weigh equal answers, and no two answers of %s are equal", where, bench.name)
  end
  local call = { n = o.samples, batch = 64, chunk = 512, deterministic = false, top_k = 0, top_p = 1, min_p = 0,
                 penalty = 1 }
  for name, value in pairs(o) do call[name] = value end
  return { where = where, bench = bench, o = call, metric = o.metric or bench.metric or "pass@1",
           lists = eval.problems({ bench }, o) }
end

-- Of entries what comparisons read, as a checkpoint can hold it: verdicts in place of texts.
local function slim(entries)
  local list = {}
  for i, entry in ipairs(entries) do
    local samples = {}
    for k, s in ipairs(entry.samples) do
      samples[k] = { verdict = s.verdict, answer = s.answer, finish = s.finish, parts = s.parts,
                     critiques = s.critiques and {} }
      for c, one in ipairs(s.critiques or {}) do samples[k].critiques[c] = { right = one.right, p = one.p } end
    end
    list[i] = { bench = entry.bench, samples = samples,
                problem = { number = entry.problem.number, question = hash.text(entry.problem.question),
                            reference = entry.problem.reference, part = entry.problem.part } }
  end
  return list
end

-- Score the weights as they are, each rank its share of the problems. @treturn table entries @treturn table the row of the
-- metric
local function measure(set, run)
  local here = ranks.here()
  here:at(set.where)
  local made = eval.entries(run:model(), run.tokenizer, { set.bench }, set.lists, set.o, here)
  local entries = here:joined(slim(made[set.bench.name] or {}))
  local rows, names = score.of(set.bench, entries, set.o.grade).rows, {}
  for _, row in ipairs(rows) do
    if row[1] == set.metric then return entries, row end
    names[#names + 1] = row[1]
  end
  blame("%s: no number '%s' is made; there are %s", set.where, set.metric, table.concat(names, ", "))
end

local function compared(set, before, after)
  local of, total = score.parts_of(set.bench, after, set.o.grade, set.metric)
  return compare.of(before, after, { of = of, total = total })
end

-- ---- select --------------------------------------------------------------------------------------

local function score_step(self, run, t)
  local s, began = self.select, host.now()
  local entries, row = measure(s, run)
  s.spent, s.last, s.count = s.spent + host.now() - began, host.now() - began, s.count + 1
  local against = s.best and compared(s, s.best, entries)
  s.worse = against and against.high < 0
  local beside = against and (", %+.1f (%+.1f to %+.1f) to the best before"):format(100 * against.difference,
    100 * against.low, 100 * against.high) or ""
  run.log:say("select %s: %s %s at step %d%s; %.0f%% of the time", s.bench.name, row[1],
    score.percent(row[2], row[3]), t.step, beside, 100 * s.spent / math.max(1e-9, host.now() - self.began))
  if not s.top or row[2] > s.top then s.top, s.best = row[2], entries end
  return row[2]
end

-- Whether scoring now keeps to the share of the time that it may take. The first and the last are always
-- made.
local function affordable(self)
  local s = self.select
  if s.count == 0 then return true end
  local total = host.now() - self.began + s.last
  return s.spent + s.last <= s.o.share * total
end

local function select_now(self, run, t)
  local s, last = self.select, t.step == run.last_step
  if not s or not (t.step % s.o.every == 0 or last) then return nil end
  if not last and not ranks.here():of_first(affordable(self)) then
    s.skipped = s.skipped + 1
    return nil
  end
  return score_step(self, run, t)
end

-- ---- retain --------------------------------------------------------------------------------------

local function retain_end(self, run, t, made)
  local r = self.retain
  if not r or t.step ~= run.last_step or not r.before then return end
  local entries, row = measure(r, run)
  made[r.bench.name .. "_before"], made[r.bench.name .. "_after"] = r.row[2], row[2]
  run.log:say("retain %s: %s %s before, %s after. %s", r.bench.name, r.metric, score.percent(r.row[2], r.row[3]),
    score.percent(row[2], row[3]), compared(r, r.before, entries).says)
end

-- ---- what a checkpoint holds ---------------------------------------------------------------------

--- What later scores are compared with, for a checkpoint.
-- @treturn table
function Live:state()
  local s, r = self.select, self.retain
  local of_select = s and { bench = s.bench.name, name = self.name, top = s.top, best = s.best, count = s.count,
                            skipped = s.skipped, spent = s.spent, last = s.last }
  local of_retain = r and r.before and { name = r.bench.name .. "_" .. r.metric, row = r.row, before = r.before }
  return { select = of_select or nil, retain = of_retain or nil, seconds = host.now() - self.began }
end

-- Entries of a state, which anybody may have written.
local function entries_in(list)
  if type(list) ~= "table" or #list == 0 then return nil end
  for _, entry in ipairs(list) do
    local problem = type(entry) == "table" and entry.problem
    local ok = type(problem) == "table" and type(problem.number) == "number" and type(problem.question) == "string"
      and type(entry.samples) == "table" and #entry.samples > 0
    for _, s in ipairs(ok and entry.samples or {}) do
      ok = ok and type(s) == "table" and type(s.verdict) == "string"
    end
    if not ok then return nil end
  end
  return list
end

local function is_of(state, name) return type(state) == "table" and state.name == name end

local function number(value) return type(value) == "number" and value or 0 end

--- Go on from what a checkpoint has. What is of another benchmark or metric, or damaged, is left, and said.
-- @tab state of `state`; nil where the checkpoint has none @tab run
function Live:restore(state, run)
  state = type(state) == "table" and state or {}
  local s, r, was, base = self.select, self.retain, state.select, state.retain
  if s and is_of(was, self.name) then
    s.count, s.skipped = number(was.count), number(was.skipped)
    s.spent, s.last = number(was.spent), number(was.last)
    s.top, s.best = type(was.top) == "number" and was.top or nil, entries_in(was.best)
    self.before = number(state.seconds)
  elseif s then
    run.log:say("select: the checkpoint has no scores of %s; the next one is compared with none", self.name)
  end
  if not r then return end
  local row = is_of(base, r.bench.name .. "_" .. r.metric) and base.row
  if type(row) == "table" and type(row[2]) == "number" then
    r.before, r.row = entries_in(base.before), { r.metric, row[2], type(row[3]) == "number" and row[3] or nil }
  end
  if not r.before then
    r.lost = true
    run.log:say("retain: the checkpoint does not say what %s was before the first step, so what was lost is not said",
      r.bench.name)
  end
end

-- ---- a run's hooks -------------------------------------------------------------------------------

-- The benchmark that chooses says too much where it reports as well: named, wherever the run is summed up.
local function name_the_chooser(self, run)
  local s, r = self.select, self.retain
  run.selected_by, run.selected_and_reported = s.bench.name, r and r.bench.name == s.bench.name or nil
  run.log:say("select: the checkpoint is chosen by %s, so its score on %s says too much; report another benchmark%s%s", s.bench.name,
    s.bench.name, run.selected_and_reported and ("; retain reports %s all the same"):format(s.bench.name) or "",
    s.skipped > 0 and ("; %d %s left out to keep to %.0f%% of the time"):format(s.skipped,
      s.skipped == 1 and "score was" or "scores were", 100 * s.o.share) or "")
end

--- Before the first step of this process.
-- @tab run
function Live:begin(run)
  local r = self.retain
  if r and not r.before and not r.lost then r.before, r.row = measure(r, run) end
  self.began = host.now() - (self.before or 0)
end

--- After a step. @tab run @tab t @treturn ?table metrics
function Live:after_step(run, t)
  local made = {}
  if self.select then made[self.name] = select_now(self, run, t) end
  if self.probe then follow.now(self.probe, run, t, made) end
  retain_end(self, run, t, made)
  if self.select and t.step == run.last_step then name_the_chooser(self, run) end
  return next(made) and made or nil
end

--- Why the run is to stop, if it is.
function Live:stop()
  local s = self.select
  if s and s.o.stop and s.worse then return "worse than its best by more than chance, on " .. s.bench.name end
end

--- What a run does with `select`, `retain` and `probe`.
-- @tab o of these, tables of options; at least one
-- @treturn table `begin(run)`, before the first step; `after_step(run, t)` gives metrics; `best`, what is
-- followed;
-- `stop()`; `state()` and `restore(state, run)`
function M.hooks(o)
  local self = setmetatable({ began = host.now() }, Live)
  if o.select then
    local s = set_of("select", check.options("select", o.select, select_spec))
    self.select, self.name = s, s.bench.name .. "_" .. s.metric
    s.spent, s.count, s.skipped, self.best = 0, 0, 0, { self.name, "max" }
  end
  if o.retain then self.retain = set_of("retain", check.options("retain", o.retain, spec)) end
  if o.probe then self.probe = follow.new(o.probe) end
  return self
end

return M
