--- A run: what a recipe's settings came to, and the loop over it, whoever owns that.
--
-- `cft.recipe.prepare` makes one. Its fields: `cfg`, `name`, `source` and `heldout_source`, `tokenizer`, `chat`, `samples`
-- and `heldout_samples`, `batches` and `heldout`, `last_step`, `lr` (step from 0 → rate), `log`, `out`, `id`, `device`, `dtype`.

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local checkpoint = require "cft.train.checkpoint"
local config = require "cft.config"
local demo = require "cft.demo"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local hand = require "cft.recipe.hand"
local identity = require "cft.train.identity"
local journals = require "cft.train.journal"
local keepers = require "cft.train.keeper"
local kept = require "cft.report.kept"
local memory = require "cft.train.memory_plan"
local optim = require "cft.train.optim"
local plans = require "cft.recipe.plan"
local record = require "cft.recipe.record"
local retention = require "cft.train.retention"
local several = require "cft.recipe.ranks"
local spikes = require "cft.train.spikes"
local run_folder = require "cft.recipe.run_folder"
local stages = require "cft.recipe.stages"
local summaries = require "cft.recipe.summary"
local traces = require "cft.report.trace"
local train = require "cft.train"
local world = require "cft.recipe.world"

local M = {}

local Run = { __methods = {} }  -- for Tab: what `__index`, a function, finds
for name, method in pairs(hand.methods) do Run[name] = method end
local lazy = {}  -- fields that are made when they are first asked for: that is when their settings are read

--- Step (from 0) → learning rate, by `lr`, `schedule` and `warmup`.
function lazy.lr(run)
  if type(config.peek(run.cfg, "schedule")) == "function" then
    config.idle(run.cfg, "warmup", "the schedule is a function of the recipe")
  end
  return stages.rate(function(name) return run.cfg[name] end, run.last_step)
end

Run.__index = function(run, name)
  if lazy[name] then
    local value = lazy[name](run)
    rawset(run, name, value)
    return value
  end
  return Run[name]
end

local open = {}  -- runs that have begun and are not over

-- Settings that a loop with rates of its own may read as late as in its first step.
local rates = { lr = true, warmup = true, schedule = true }

-- A run, nothing of it made yet.
-- @tab fields `cfg`, `options`, `name`
-- @treturn Run
function M.new(fields)
  fields.script = (rawget(_G, "arg") or {})[0]
  return setmetatable(fields, Run)
end

-- ---- its parts -----------------------------------------------------------------------------------

--- The model, loaded when it is first asked for: that of `model=`, the recipe's own, or the demo's.
-- @treturn Model the same one each time
-- @usage run:model().config.d   --> 8
-- run:finish()
function Run:model()
  if not self.loaded then self.loaded = world.model(self) end
  if not self.forward_set then
    self.forward_set = true
    for name, value in pairs(config.group(self.cfg, "forward")) do self.loaded.options[name] = value end
  end
  return self.loaded
end

local trainer_spec = {
  model = { "table", optional = true }, optim = { "table", optional = true }, lr = { "function", optional = true },
  batches = { "table", optional = true }, loss = { "function", optional = true },
  after_step = { "function", optional = true }, evaluate = { "function", optional = true },
  stop = { "function", optional = true }, best = { "table", optional = true },
  keep = { "number|table", optional = true }, select = { "table", optional = true }, retain = { "table", optional = true },
  probe = { "table", optional = true },
}

-- A table of the recipe's with what the settings say in place of its fields; nil where neither says anything.
local function joined(own, said)
  if next(said) == nil then return own end
  local all = {}
  for _, t in ipairs { own or {}, said } do
    for name, value in pairs(t) do all[name] = value end
  end
  return all
end

-- What the settings say of scores stands in front of the recipe's tables of them.
local function scores_of_settings(run, o)
  local cfg = run.cfg
  local selects, retains = cfg.select or o.select, cfg.retain or o.retain
  local function when(name, condition, why) return config.when(cfg, name, condition, why) end
  local none = "neither select nor retain says which benchmark"
  local every = when("select_every", selects, "no benchmark selects")
  local said = {}
  for _, name in ipairs { "data", "limit", "max_new" } do said[name] = when("score_" .. name, selects or retains, none) end
  if selects then
    o.select = joined(o.select, joined(said, { bench = cfg.select, every = every }))
    o.select.every = o.select.every or math.max(1, math.floor(run.last_step / 10))
  end
  if retains then o.retain = joined(o.retain, joined(said, { bench = cfg.retain })) end
  local probes = cfg.probe_every or o.probe
  local steps = when("probe_steps", probes, "probe_every says how often verdicts are read, and it is absent")
  if probes then o.probe = joined(o.probe, { every = cfg.probe_every, steps = steps }) end
end

-- Scores while it trains stand beside the hooks of the recipe.
local function with_scores(o)
  if not (o.select or o.retain or o.probe) then return nil end
  local live, after_step, stop = require("cft.eval.live").hooks(o), o.after_step, o.stop
  o.best = o.best or live.best
  o.stop = function(t) return stop and stop(t) or live:stop() end
  o.after_step = function(run, t)
    local made = live:after_step(run, t) or {}
    for name, value in pairs(after_step and after_step(run, t) or {}) do made[name] = value end
    return made
  end
  return live
end

-- What `--resume` compares, as `identity`.
-- @tparam Model model
function Run:identify(model)
  self.identity = identity.of {
    settings = config.identity(self.cfg), data = self.source, heldout = self.heldout_source, chat = self.chat,
    options = self.options.template, tokenizer = self.tokenizer, model = model.config, steps = self.last_step, dtype = self.dtype,
  }
end

-- The state of a checkpoint, where one is to be gone on from.
local function resume(run)
  local from = run.cfg.resume
  if not from then return end
  local path, by_time
  path, run.resumed_at, by_time = checkpoint.resume(run, from)
  if run.keeper and by_time then run.keeper.passing = path end
  run.log:go_on(run.resumed_at)
  run.log:say("resumed at step %d from %s", run.resumed_at, path)
  local changed = record.changed_by_hand(path)
  if changed then
    run.was_changed_by_hand = true
    run.log:say("this run was changed by hand: %s/attached.jsonl has the lines", changed)
  end
end

-- Which checkpoints stay: as the command line says, else as the loop does, else as the recipe's key does.
local function rule_of(run, o)
  local cfg = run.cfg
  local keep = config.when(cfg, "keep", run.out, "nothing is saved without out=")
  if o.keep and config.origin(cfg, "keep") ~= "command line" then keep = o.keep end
  return keep and retention.rule(keep, o.best ~= nil)
end

-- Where the state of a run is saved, beside it.
local function keeper_of(run, model, rule)
  if run.out and not run.writes then return keepers.bystander() end
  return run.out and keepers.new {
    device = model.device, log = run.log,
    folder = function(step) return checkpoint.folder(run.out, step) end,
    fill = function(save, trainer, how) checkpoint.fill(save, run, trainer, how) end,
    whole = function(path, trainer)
      run.saved = path
      if rule then retention.apply(run.out, rule, trainer.measured, trainer.best and trainer.best[2]) end
    end,
  } or nil
end

-- When --until is over, by `host.now`. It counts from when this program began.
local function deadline_of(cfg)
  local text = cfg.time_limit
  return text and config.began + format.seconds(text) or nil
end

-- What a trainer is told of when to measure, to save and to stop.
local function bookkeeping(run, o)
  local cfg, measures = run.cfg, run.heldout or o.evaluate
  local nothing = "nothing is saved without out="
  local every = config.when(cfg, "save_every", run.out, nothing)
  local minutes = config.when(cfg, "save_minutes", run.out and not every, every and "save_every says when" or nothing)
  return {
    eval_every = config.when(cfg, "eval_every", measures, "nothing is held out, and the recipe has no evaluate"),
    save_every = every,
    save_seconds = minutes and minutes > 0 and 60 * minutes or nil,
    context = config.when(cfg, "context_loss", run.heldout, "nothing is held out") or false,
    spikes = cfg.spike ~= "off" and spikes.new(cfg.spike, cfg.spike_factor) or nil,
    deadline = deadline_of(cfg),
    leave = function() run:finish() end,
    between = function(trainer) hand.between(run, trainer) end,
  }
end

-- What of the steps is traced; nil where nobody asked. Of several ranks the first one's device is looked at.
local function tracer_of(run)
  local cfg, trainer = run.cfg, run.training
  local path = cfg.trace
  local steps = config.when(cfg, "trace_steps", path, "--trace FILE says where to")
  if not path or trainer.done >= trainer.steps or not run.ranks.first then return nil end
  run_folder.refuse_own(run.out, "--trace", path)
  return traces.plan { path = path, steps = steps, done = trainer.done, all = trainer.steps, device = run.loaded.device,
                       log = run.log }
end

--- The trainer: all settings applied, the state of the checkpoint taken that `--resume` goes on from. It logs, measures,
-- saves and stops by itself; see `cft.train`.
-- @tab[opt] opts in place of what the settings say: `model`, `optim`, `lr`, `batches`; `loss(model, batch)`;
-- `after_step(run, t)`, `evaluate(run, t)`, `stop(t)`, `best`, `keep`; see `cft.recipe.run`
-- @treturn Trainer the same one each time
-- @usage local trainer = run:trainer { stop = function(t) return t.step == 1 and "enough" end }
-- while trainer:goes_on() do trainer:step() end
-- run:finish().steps   --> 1
function Run:trainer(opts)
  if self.training then
    if opts then blame "run:trainer: this run has its trainer already; give options the first time" end
    return self.training
  end
  local o, cfg = check.options("run:trainer", opts, trainer_spec), self.cfg
  train.check_parts("run:trainer", o)
  scores_of_settings(self, o)
  several.check_scores(self, o)
  self.live = with_scores(o)
  train.check_best(o.best, self.heldout ~= nil)
  local rule = rule_of(self, o)
  self.loaded = o.model or self.loaded
  local m = self:model()  -- what is wrong with the options is said before it is loaded
  local how = bookkeeping(self, o)
  self.optim = o.optim or optim.of(m, function(name) return cfg[name] end)
  self.survey = memory.survey(o.batches or self.batches, self.last_step)
  local passing = self.optim.zero and self.optim.zero:passing()
  self.log:say("%s", memory.apply(m, self.survey.fullest or cfg.tokens, cfg.memory, passing))
  for _, name in ipairs { "after_step", "evaluate" } do
    local hook = o[name]
    how[name] = hook and function(_, t) return self.ranks:in_hook(name, hook, self, t) end
  end
  how.model, how.optim, how.log, how.steps, how.heldout = m, self.optim, self.log, self.last_step, self.heldout
  self.keeper = keeper_of(self, m, rule)
  if self.keeper and not self.device:find "^cpu" then self.keeper:reserve(keepers.bytes_of(m, self.optim)) end
  how.keeper = self.keeper
  how.batches, how.lr, how.loss, how.stop, how.best = o.batches or self.batches, o.lr or self.lr, o.loss, o.stop, o.best
  self.training = train.new(how)
  if self.out or cfg.resume then self:identify(m) end
  resume(self)
  several.compare(self, m)
  self.training.tracer = tracer_of(self)
  if self.training.done < self.last_step then
    self.own_rates = o.lr ~= nil
    if not hand.waits() then self:begin_steps() end
  end
  return self.training
end

-- ---- its way -------------------------------------------------------------------------------------

-- A batch is asked for: whoever does that trains. A loop that has no trainer of the run, or rates of its own, may ask for
-- its first rate when it has the batch; by the second one it has.
function Run:first_batch()
  self:begin(rates)
  if not self.training then several.refuse "a loop without run:trainer" end
  if self.training and not self.own_rates then return end
  self.batches.before_first = function() config.refuse_unread(self.cfg) end
end

-- Before the first step, once: `begin`, and what the demo measures.
function Run:begin_steps()
  self:begin(self.own_rates and rates)
  if self.cfg.demo and not self.judge then self.judge = demo.begin(self) end
  self.expected = plans.expected(self, self.loaded)
  if self.live then self.live:begin(self) end
end

-- Before the first step, once: a setting that nobody has read is an error, the folder becomes this run's, and its
-- record is written. `run:trainer` does this, and so does the first batch that is asked for.
-- @tab[opt] later a set of keys that may still be read
function Run:begin(later)
  if self.record then return end
  local keeps = self.out and self.heldout_samples and self.loaded
  local in_parts = self.optim and self.optim.zero and self.optim.zero.cuts_weights
  self.kept = config.when(self.cfg, "report_samples", keeps and not in_parts, in_parts
    and "with zero=3 no rank has the weights to write text with" or "samples of held-out records are kept in out=") or 0
  local listens = config.when(self.cfg, "attach", self.out, "cftrun attach finds a run by its out=")
    and self.ranks.size == 1
  config.refuse_unread(self.cfg, false, later)
  self.id = self.id or self.earlier and self.earlier.id or run_folder.new_id()
  if self.overwrites and self.writes then
    self.log:say("%s: the run that it held is removed", self.out)
    run_folder.clear(self.out)
  end
  if self.writes then run_folder.tidy(self.writes) end
  record.begin(self, self.earlier and self.earlier.record, self.resumed_at)
  if self.training and self.writes then
    self.training.journal = journals.open(self.out, self.resumed_at or 0, self.log)
  end
  self.log:of(self.id, self.record.started)
  open[#open + 1] = self
  if self.writes then kept.begin(self, self.loaded, self.kept) end
  hand.begin(self, listens)
end

local function close(run)
  for i = #open, 1, -1 do
    if open[i] == run then table.remove(open, i) end
  end
  run.log:close()
  if run.training and run.training.journal then run.training.journal:close() end
  hand.close(run)
  if run.lock then run.lock:release() end
  run.lock = nil
end

--- The steps, for a loop of one's own: `for t in run:steps() do ... end`. What the loop sets on `t` is logged with the
-- step. After the last one the run is finished; a loop that is left earlier stops the run there.
-- @treturn function iterator of the numbers of a step, see `trainer:step`
-- @usage for t in run:steps() do print(t.step, t.loss > 0) end   --> 1   true 2   true
-- run:finish().steps   --> 2
function Run:steps()
  local trainer = self:trainer()
  return function()
    if trainer:goes_on() then return trainer:step() end
    self:finish()
  end
end

local function status_of(run, summary)
  if not run.training then return "finished" end
  return summary.interrupted and "interrupted" or summary.stopped and "stopped" or "finished"
end

--- End the run, wherever its loop is: measure, save, write summary.json, say how it went. Once; later calls give the same.
-- After Ctrl-C it leaves with code 130.
-- @treturn table what summary.json holds
function Run:finish()
  if self.ended then return self.summary end
  local trainer = self.training
  local summary = trainer and trainer:finish() or {}
  if trainer and trainer.tracer then trainer.tracer:finish() end
  if self.samples.stream then self.samples:close() end
  local unsaved = self.keeper and self.keeper:finish(summary.seconds)
  if trainer and not self.record then  -- what an earlier run wrote stays
    self.log:say("nothing to train: %d of %d steps are made", trainer.done, self.last_step)
    close(self)
    self.summary, self.ended = summary, true
    return summary
  end
  self.summary = trainer and summaries.write(self, summary) or summary
  if self.writes and trainer and not summary.interrupted then kept.finish(self, self.loaded, self.kept, trainer.done) end
  record.finish(self, unsaved and "failed" or status_of(self, summary))
  self.ended = true
  if unsaved then
    if not summary.interrupted then summaries.say(self, self.summary) end
    close(self)
    exit.fail(exit.FAILED, "%s; %s", unsaved, self.saved and "the last checkpoint is " .. self.saved or "nothing is saved")
  end
  if summary.interrupted then
    close(self)
    exit.leave(exit.INTERRUPTED)
  end
  if trainer then summaries.say(self, self.summary) end
  local last = self.judge or self.options.finish
  if last then last(self) end
  close(self)
  return self.summary
end

-- End a run that has made no step: nothing was written, and its folder is free again.
function Run:give_up()
  if self.samples.stream then self.samples:close() end
  self.ended = true
  close(self)
end

-- End the run after an error.
-- @param err what was raised
function Run:fail(err)
  if not self.ended and self.training then pcall(self.training.keep, self.training) end
  local tracer = self.training and self.training.tracer
  if tracer then pcall(tracer.finish, tracer) end
  if not self.ended then record.finish(self, exit.code(err) == exit.INTERRUPTED and "interrupted" or "failed") end
  self.ended = true
  close(self)
end

-- Call `fn`; an error ends the run as failed, and goes on up.
-- @func fn
-- @return what it returns
function Run:guard(fn)
  local ok, result = xpcall(fn, function(err)
    if type(err) == "string" and os.getenv "CFT_TRACEBACK" == "1" then err = debug.traceback(err, 2) end
    return err
  end)
  if ok then return result end
  self:fail(result)
  error(result, 0)
end

--- What the prompt shows of it.
function Run:__tostring()
  local done = self.training and self.training.done or 0
  return ("run %s: step %d of %d, %s, on %s%s"):format(self.name, done, self.last_step, self.source and self.source.name or "no data",
    self.device, self.out and ", in " .. self.out or "")
end

for name, method in pairs(Run) do
  if type(method) == "function" and not name:find "^__" then Run.__methods[name] = method end
end
M.Run = Run

-- ---- runs whose script is over -------------------------------------------------------------------

-- A script has ended: runs that it has begun are finished.
function M.finish_open()
  while open[1] do open[1]:finish() end
end

-- A script has failed: runs that it has begun have failed with it.
-- @param err what was raised
function M.fail_open(err)
  while open[1] do open[1]:fail(err) end
end

return M
