--- What stands around the steps of a trainer: it measures, logs, saves and stops, whoever owns the loop.
--
-- A step is open until the next one is made, or until `close` or `finish`: whoever owns the loop may look at its numbers
-- meanwhile, and set further ones, which are logged with it. These are methods of `cft.train`'s Trainer.

local blame = require "cft.base.blame"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local host = require "cft.host"
local ledgers = require "cft.train.ledger"
local logs = require "cft.base.log"
local paces = require "cft.ranks.pace"
local tensor = require "cft.engine.tensor"
local trace = require "cft.engine.trace"

local M = {}

local function due(every, step) return every ~= nil and step % every == 0 end

-- ---- metrics of a recipe's own -----------------------------------------------------------------

local plain = { number = true, boolean = true, string = true }

-- Enter what a hook returned, or what a loop has set, into `t.own`.
local function enter(self, t, values, who)
  if values == nil then return end
  if type(values) ~= "table" then
    blame("%s gave a %s; a table of names and values is wanted, or nothing", who, type(values))
  end
  for name, value in pairs(values) do
    if type(name) ~= "string" or not plain[type(value)] then
      blame("%s gave '%s', a %s; a metric has a name, and is a number, a text or a boolean", who, tostring(name), type(value))
    end
    if logs.taken[name] then blame("%s gave '%s', which the log has itself; give it another name", who, name) end
    if name == "" then blame("%s gave a metric without a name", who) end
    t.own = t.own or {}
    t.own[name], t[name], self.made[name] = value, value, value
  end
end

-- The ledger is the run's own: what somebody has entered there goes, and is named.
local function check_ledger(t, who)
  if type(t.ledger) ~= "table" then return end  -- named as any other number of the step that was taken away
  for name, entry in pairs(t.ledger) do
    if type(entry) ~= "table" or type(entry.loss) ~= "number" or type(entry.tokens) ~= "number" then
      t.ledger[name] = nil
      blame("%s set '%s' in the step's ledger, which has kinds of text alone; set it on the step itself: t.%s", who,
        tostring(name), tostring(name))
    end
  end
end

-- What was set on an open step, or changed of it.
local function take_set(self, t, who)
  check_ledger(t, who)
  local set = {}
  for name, value in pairs(t) do
    if name ~= "own" and self.made[name] ~= value then set[name] = value end
  end
  for name, value in pairs(self.made) do
    if t[name] == nil and logs.taken[name] then
      t[name] = value  -- the step was made, and its line is written all the same
      blame("%s took '%s' away, which the log needs", who, name)
    end
  end
  enter(self, t, set, who)
end

-- ---- the best so far ---------------------------------------------------------------------------

-- Is this the best value of the metric that `best` names? Then it is kept, with its step.
local function look_for_best(self, t, measured)
  local name, direction = unpack(self.best or {})
  local value = name and self.ranks:of_first(t[name])
  if value ~= nil and type(value) ~= "number" then blame("best: '%s' is a %s; a number is wanted", name, type(value)) end
  local found = self.found_best
  self.metric = value
  if value and value == value and (not found or direction == "max" and value > found.value
                                   or direction == "min" and value < found.value) then
    self.found_best = { step = self.done, value = value, metric = name }
    t.is_best = true
  end
  found = self.found_best
  if not found and value == nil and measured and name ~= self.missed then
    self.missed = name
    self.log:say("best: step %d was measured and has no '%s', so that there is no best value yet", self.done, name)
  end
  if found then t.best, t.since_best = found.value, self.done - found.step end
end

-- ---- the way of a run --------------------------------------------------------------------------

-- Before the first step: what is held out is measured once, and the clock starts.
local function begin(self)
  self.begun = { time = host.now(), done = self.done, tokens = self.tokens }
  self.summary = { ledger_first = {}, ledger_last = {} }
  self.tenth, self.recent = math.max(1, math.floor((self.steps - self.done) / 10)), {}
  if self.heldout and self.done < self.steps then
    local s = self.summary
    s.heldout_loss_before, s.heldout_ledger_before = self:evaluate(self.heldout)
    s.heldout_loss_after, s.heldout_ledger_after = s.heldout_loss_before, s.heldout_ledger_before
    self.log:say("held-out loss before: %.4f", s.heldout_loss_before)
  end
  self.saved_time = host.now()
  host.interrupts(true)
  host.interrupts()  -- asking is what keeps Ctrl-C from stopping the first step half way
end

-- What is held out, and what the recipe measures itself.
local function measure(self, t)
  local s = self.summary
  if self.heldout then
    local span = trace.begin "held out"
    t.heldout_loss, t.heldout_ledger = self:evaluate(self.heldout)
    trace.done(span)
    s.heldout_loss_after, s.heldout_ledger_after = t.heldout_loss, t.heldout_ledger
  end
  if self.hooks.evaluate then
    local made = self.hooks.evaluate(self, t)
    enter(self, t, made, "evaluate")
    t.evaluated = made
  end
end

-- Whether a deadline would be missed by one more step and a save.
local function time_is_over(self, t)
  if not self.deadline then return false end
  self.longest = math.max(t.seconds, 0.9 * (self.longest or 0))
  local wanted = 1.2 * self.longest
  if self.keeper then wanted = wanted + 1.5 * self.keeper:takes(16 * self.model:count()) end
  return host.now() + wanted > self.deadline
end

-- Why a run ends after this step; nil where it goes on.
local function reason_of(self, t, last)
  if self.ranks:any(host.interrupts() > 0 and not self.by_hand) then return "interrupted" end
  if self.ranks:any(not last and time_is_over(self, t)) then
    self.stopped = "the time of --until is nearly over; --resume goes on from there"
    return "stopped"
  end
  local asked = self.ranks:of_first(not last and self.hooks.stop and self.ranks:in_hook("stop", self.hooks.stop, t))
  if asked and asked ~= true and type(asked) ~= "string" then
    blame("stop gave a %s; true or a text that says why is wanted, or false or nil to go on", type(asked))
  end
  if asked then
    self.stopped = type(asked) == "string" and asked or "the recipe's stop"
    return "stopped"
  end
end

-- Save, unless this step is saved. @tab[opt] how `now`: it is over when this returns; `by_time`: the next one replaces it
local function save(self, how)
  how = how or {}
  if self.ruined or not (self.save or self.keeper) then return end
  local span = trace.begin "save"
  local again = self.saved_at == self.done
  self.saved_at, self.saved_time = self.done, host.now()
  self.measured[self.done] = self.metric  -- for who decides which checkpoints stay
  if self.journal and not again then self.journal:sync() end
  if not again then
    local write = self.keeper and function() self.keeper:save(self, how) end or function() self.save(self) end
    if self.optim.lend then self.optim:lend(write) else write() end
  elseif self.keeper and how.now then
    self.keeper:settle(true)
  end
  if self.keeper then self.saved_in = self.keeper.saved end
  trace.done(span)
end

-- What a line says of where the state is.
local function saved_in(self)
  if not (self.save or self.keeper) then return "; nothing was saved" end
  if self.keeper and self.keeper.failed then return "; it could not be saved" end
  return self.saved_in and "; saved in " .. self.saved_in or "; saved"
end

-- A step's hooks are in the midst of closing it: the next one, or the run's end, is not theirs to ask for.
local function refuse_hook(self, what)
  if self.looking then blame("%s was called by a hook of the step; stop = ends a run early", what) end
end

-- Measure a step as it is due, and find out whether it is the last. @treturn ?string why it is
local function look(self, t, ending)
  local at_end = self.done >= self.steps or ending
  take_set(self, t, "the loop")
  if self.hooks.after_step then
    enter(self, t, self.hooks.after_step(self, t), "after_step")
    take_set(self, t, "after_step")
  end
  local measured = at_end or due(self.eval_every, self.done)
  if measured then measure(self, t) end
  look_for_best(self, t, measured)
  local reason = reason_of(self, t, at_end) or ending
  if reason == "stopped" and not measured then
    measure(self, t)
    look_for_best(self, t, true)
  end
  return reason
end

local function enter_journal(self)
  if self.journal and self.entry then self.journal:add(self.entry) end
  self.entry = nil
end

-- Close the step that is open: hooks, measures, its line in the log, a checkpoint if one is due. Nothing where none is.
-- Ctrl-C meanwhile ends the run: the step is saved. `ending` "stopped": it is the last one, though there are steps left.
local function close(self, ending)
  local t = self.open_step
  if not t then return end
  self.open_step, self.closing = nil, t
  local whole = trace.begin "step closed: measures, log, save"
  local s = self.summary
  s.loss_first, s.loss_last = s.loss_first or t.loss, t.loss
  self.looking = true
  local reason = finally(function() self.looking = nil end, look, self, t, ending)
  -- The first step is no measure: it takes memory, compiles and times kernels.
  if self.first_made then t.seconds_a_step = (host.now() - self.first_made) / (self.done - self.begun.done - 1) end
  self.first_made = self.first_made or host.now()
  local notes, slow = tensor.notes(), self.pace and self.pace:news()
  if slow then notes[#notes + 1] = paces.describe(slow, self.ranks.places[slow.rank + 1].host) end
  if notes[1] then t.notes = notes end
  self.closing = nil
  if self.keeper then self.keeper:stepped(t) end
  self.log:progress(t, self.steps)
  for name, value in pairs(t.own or {}) do
    s.metrics = s.metrics or {}
    s.metrics[name] = value
  end
  if self.done - self.begun.done <= self.tenth then ledgers.add(s.ledger_first, t.ledger) end
  self.recent[#self.recent + 1] = t.ledger
  if #self.recent > self.tenth then table.remove(self.recent, 1) end
  enter_journal(self)
  if self.keeper then self.keeper:poll() end
  local asked = self.ranks:any(host.save_asked())
  local by_time = self.ranks:of_first(not self.save_every and self.save_seconds
                                      and host.now() - self.saved_time >= self.save_seconds)
  if reason or self.done >= self.steps then
    save(self, { now = true })
  elseif t.is_best or asked or due(self.save_every, self.done) then
    save(self)
  elseif by_time then
    save(self, { by_time = true })
  end
  if asked then
    self.log:close_line()
    self.log:say("SIGUSR1: step %d is saved, and the run goes on", self.done)
  end
  trace.done(whole)
  if self.tracer then self.tracer:after(self.done) end
  self.over = reason or self.done >= self.steps and "finished" or nil
  if reason then self.log:close_line() end
  local saved = saved_in(self)
  if reason == "interrupted" then self.log:say("interrupted after step %d%s", self.done, saved) end
  if reason == "stopped" then
    self.log:say("stopped after step %d%s: %s", self.done, saved, self.stopped or "its loop ended")
  end
  if reason == "interrupted" and self.hooks.leave then self.hooks.leave(self) end
end

--- Somebody may change weights or moments between two steps: what a save under way holds is copied first.
-- @usage local trainer = run:trainer()
-- trainer:step()
-- trainer:before_change()   -- weights may be set by hand now
-- run:finish()
function M:before_change()
  if self.keeper then self.keeper:before_change() end
end

--- Close the step that is open: hooks, measures, its line in the log, a checkpoint if one is due. Nothing where none is.
-- Weights and moments may be changed when this returns. Ctrl-C meanwhile ends the run: the step is saved.
-- @usage local trainer = run:trainer()
-- trainer:step().mine = 3   -- logged with the step when it is closed
-- trainer:close()
-- trainer:save_now(), trainer:goes_on()   --> true true
-- trainer:finish().steps   --> 1
-- run:finish()
function M:close()
  close(self)
  self:before_change()
end

--- Save the state after the last step, whatever is due; the step is closed.
-- @treturn bool false where no step was made since the beginning
function M:save_now()
  close(self)
  if not self.begun or self.done == self.begun.done then return false end
  save(self, { now = true })
  return true
end

-- Somebody may do something between two steps, or before the first one; steps that are made there are closed.
local function between(self)
  close(self)
  if self.hooks.between and not self.over and self.done < self.steps then
    self.hooks.between(self)
    close(self)
  end
  if not self.begun then begin(self) end
end

-- Before a step is made: the one before is closed, and the run is not over.
function M:open()
  refuse_hook(self, "trainer:step")
  between(self)
  if self.over == "interrupted" then exit.leave(exit.INTERRUPTED) end
  if self.over or self.done >= self.steps then
    blame("trainer:step: the run is over (%s): %d of %d steps are made", self.over or "finished", self.done, self.steps)
  end
end

--- Is there a step to make? Closes the one that is open.
-- @treturn bool false where all are made, or where the run was stopped or interrupted
function M:goes_on()
  between(self)
  return not self.over and self.done < self.steps
end

--- End the run, wherever it is: the open step is closed as the last, and what is not saved is saved.
-- @treturn table the run's numbers, for summary.json; `ledger_first` and `ledger_last` are the ledgers of
-- the first and the last tenth of its optimizer steps, `heldout_ledger_before` and `heldout_ledger_after` those of
-- what is held out; `metrics` the last values of the recipe's own; `best`; `stopped`, why, and `interrupted`
function M:finish()
  refuse_hook(self, "finish")
  if not self.begun then begin(self) end
  if self.summary.steps then return self.summary end  -- it has ended
  local early = self.open_step and self.done < self.steps
  close(self, early and "stopped" or nil)
  local s = self.summary
  if self.done > self.begun.done then save(self, { now = true }) end
  host.interrupts(true)
  self.log:close_line()
  for _, ledger in ipairs(self.recent) do ledgers.add(s.ledger_last, ledger) end
  ledgers.close(s.ledger_first)
  ledgers.close(s.ledger_last)
  s.interrupted = self.over == "interrupted" or nil
  if self.done < self.steps and not s.interrupted then s.stopped = self.stopped or "its loop ended" end
  s.best = self.found_best
  s.steps, s.seconds = self.done, host.now() - self.begun.time
  s.tokens, s.learned_tokens, s.shared_tokens = self.tokens, self.learned, self.shared
  s.tokens_per_s = (self.tokens - self.begun.tokens) / math.max(s.seconds, 1e-9)
  s.slow_rank = self.pace and self.pace:straggler()
  if s.slow_rank then s.slow_rank.host = self.ranks.places[s.slow_rank.rank + 1].host end
  s.saves = self.keeper and self.keeper.cost:summary(s.seconds)
  self.over = self.over or "stopped"  -- no step is made behind it
  return s
end

-- An error ends the run: what was won since the last checkpoint is saved first, if the state is good. Waits until it is
-- on the disk; a failure of the save is said, and the error stays the one that counts.
-- @bool[opt=false] quiet do not say where it is
-- @bool[opt=false] together all ranks do this; else it may be the error of one, and nobody is asked for what it keeps
-- @treturn ?string where the state after the last step is
function M:keep(quiet, together)
  local apart = not together and self.ranks.size > 1 and not self.optim:is_whole()
  if not self.begun or self.updating or self.done == self.begun.done or apart then
    if self.keeper then self.keeper:settle() end
    return nil
  end
  local known = self.saved_at == self.done
  local t = self.closing or self.open_step
  if t then self.log:record(t) end  -- it was made: its line and its entry stand for it
  self.closing, self.open_step = nil, nil
  enter_journal(self)
  self.log:close_line()
  local ok, why = pcall(save, self, { now = true })
  if not ok then self.log:say("the state after step %d could not be saved: %s", self.done, tostring(why)) end
  if self.ruined or not ok or not self.saved_in or self.keeper and self.keeper.failed then return nil end
  if not known and not quiet then self.log:say("the state after step %d is saved in %s", self.done, self.saved_in) end
  return self.saved_in
end

--- Train until `steps` optimizer steps are made, or until the run is stopped. Ctrl-C ends the step, saves and ends; a second
-- one leaves at once.
-- @treturn table as `finish`
-- @usage run:trainer():run().steps   --> 2
-- run:finish()
function M:run()
  while self:goes_on() do self:step() end
  return self:finish()
end

return M
