--- A run is scored while it trains: `select`, which chooses a checkpoint by a benchmark; `retain`, what was lost; `probe`.
--
-- Scores are of the weights in memory. Each is compared, problem by problem, with the best so far.
-- @module cft.eval.live

local benchmarks = require "cft.eval.benchmarks"
local check = require "cft.base.check"
local compare = require "cft.eval.compare"
local eval = require "cft.eval"
local grade = require "cft.grade"
local host = require "cft.host"
local probe = require "cft.eval.probe"
local prompts = require "cft.eval.prompts"
local score = require "cft.eval.score"

local M = {}

local spec = {
  bench = { "string", "math-validation" }, data = { "string", optional = true }, limit = { "integer", optional = true, min = 1 },
  template = { "string", "auto", one_of = prompts.names }, grade = { "string", "symbolic", one_of = grade.modes },
  max_new = { "integer", optional = true, min = 1 }, samples = { "integer", 1, min = 1, max = 4096 },
  temperature = { "number", 0, min = 0 }, seed = { "integer", 0, min = 0 },
}

--- What `select` may say beside that: how often, which number, what share of the time at most, and whether a run that is worse
-- than its best, by more than chance, is stopped.
local select_spec = { every = { "integer", min = 1 }, metric = { "string", "pass@1" }, share = { "number", 0.25, min = 0, max = 1 },
                      stop = { "boolean", false } }
for name, one in pairs(spec) do select_spec[name] = one end

local probe_spec = { every = { "integer", min = 1 }, limit = { "integer", 200, min = 1 } }

-- A benchmark with its problems, for a run.
local function set_of(o)
  local bench = benchmarks.get(o.bench)
  local call = { n = o.samples, batch = 64, chunk = 512, deterministic = false, top_k = 0, top_p = 1, min_p = 0, penalty = 1 }
  for name, value in pairs(o) do call[name] = value end
  return { bench = bench, o = call, lists = eval.problems({ bench }, o) }
end

local function measure(set, run)
  local entries = eval.entries(run:model(), run.tokenizer, { set.bench }, set.lists, set.o)[set.bench.name]
  return entries, score.of(set.bench, entries, set.o.grade).rows
end

local function row_of(rows, name, where)
  local names = {}
  for _, row in ipairs(rows) do
    if row[1] == name then return row end
    names[#names + 1] = row[1]
  end
  require "cft.base.blame"("%s: no number '%s' is made; there are %s", where, name, table.concat(names, ", "))
end

-- ---- select --------------------------------------------------------------------------------------

local function score_step(self, run, t)
  local s, began = self.select, host.now()
  local entries, rows = measure(s, run)
  s.spent, s.last, s.count = s.spent + host.now() - began, host.now() - began, s.count + 1
  local row = row_of(rows, s.o.metric, "select")
  local against = s.best and compare.of(s.best, entries)
  s.worse = against and against.high < 0
  run.log:say("select %s: %s %s at step %d%s; %.0f%% of the time", s.bench.name, row[1], score.percent(row[2], row[3]), t.step,
    against and (", %+.1f (%+.1f to %+.1f) to the best before"):format(100 * against.difference, 100 * against.low, 100 * against.high) or "",
    100 * s.spent / math.max(1e-9, host.now() - self.began))
  if not s.top or row[2] > s.top then s.top, s.best = row[2], entries end
  return row[2]
end

-- Whether scoring now keeps to the share of the time that it may take. The first and the last are always made.
local function affordable(self)
  local s = self.select
  if s.count == 0 then return true end
  local total = host.now() - self.began + s.last
  return s.spent + s.last <= s.o.share * total
end

local function select_now(self, run, t)
  local s, last = self.select, t.step == run.last_step
  if not s or not (t.step % s.o.every == 0 or last) then return nil end
  if not last and not affordable(self) then
    s.skipped = s.skipped + 1
    return nil
  end
  return score_step(self, run, t)
end

-- ---- probe ---------------------------------------------------------------------------------------

local function probe_now(self, run, t, made)
  local p = self.probe
  if not p or not run.heldout_source or not (t.step % p.every == 0 or t.step == run.last_step) then return end
  local records = {}
  for i = 0, math.min(p.limit, run.heldout_source:size()) - 1 do records[#records + 1] = run.heldout_source:get(i) end
  local began = host.now()
  local n = probe.numbers(probe.read(run:model(), run.tokenizer, run.chat, records))
  if not n then
    run.log:say "probe: no held-out record has a verdict"
    return
  end
  for _, name in ipairs { "accuracy", "auroc", "ece", "brier" } do made["probe_" .. name] = n[name] end
  run.log:say("probe: %d verdicts, accuracy %.3f, AUROC %s, ECE %.3f, %.1f s", n.n, n.accuracy,
    n.auroc and ("%.3f"):format(n.auroc) or "none (one verdict only)", n.ece, host.now() - began)
end

-- ---- retain --------------------------------------------------------------------------------------

local function retain_end(self, run, t, made)
  local r = self.retain
  if not r or t.step ~= run.last_step or not r.before then return end
  local entries, rows = measure(r, run)
  made[r.bench.name .. "_before"], made[r.bench.name .. "_after"] = r.row[2], rows[1][2]
  run.log:say("retain %s: %s before, %s after. %s", r.bench.name, score.percent(r.row[2], r.row[3]),
    score.percent(rows[1][2], rows[1][3]), compare.of(r.before, entries).says)
end

-- ---- a run's hooks -------------------------------------------------------------------------------

--- What a run does with `select`, `retain` and `probe`.
-- @tab o of these, tables of options; at least one
-- @treturn table `begin(run)`, before the first step; `after_step(run, t)` gives metrics; `best`, what is followed;
-- `stop(t)`
function M.hooks(o)
  local self = { began = host.now() }
  if o.select then
    local s = check.options("select", o.select, select_spec)
    self.select = set_of(s)
    self.select.spent, self.select.count, self.select.skipped = 0, 0, 0
    self.name = s.bench .. "_" .. s.metric
  end
  if o.retain then self.retain = set_of(check.options("retain", o.retain, spec)) end
  if o.probe then self.probe = check.options("probe", o.probe, probe_spec) end
  return {
    best = self.name and { self.name, "max" },
    begin = function(run)
      if self.retain then
        local rows
        self.retain.before, rows = measure(self.retain, run)
        self.retain.row = rows[1]
      end
      self.began = host.now()
    end,
    after_step = function(run, t)
      local made = {}
      if self.name then made[self.name] = select_now(self, run, t) end
      probe_now(self, run, t, made)
      retain_end(self, run, t, made)
      local s = self.select
      if s and t.step == run.last_step then
        run.log:say("select: the checkpoint is chosen by %s, so its score on %s says too much; report another benchmark%s",
          s.bench.name, s.bench.name, s.skipped > 0 and ("; %d scores were left out to keep to %.0f%% of the time"):format(
            s.skipped, 100 * s.o.share) or "")
        run.selected_by = s.bench.name
      end
      return next(made) and made or nil
    end,
    stop = function()
      if self.select and self.select.o.stop and self.select.worse then return "worse than its best by more than chance, on " .. self.select.bench.name end
    end,
  }
end


return M
