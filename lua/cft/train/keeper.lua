--- Keeps what a run has won: saves beside it, tells what became of them, removes what a newer one replaces.
--
-- One save is under way at a time. A save that fails is said at the next step, and the run goes on; it is forgotten when a
-- later one succeeds. A full disk is waited for: the run stands still only where the next save is due, or at its end.

local costs = require "cft.train.save_cost"
local format = require "cft.base.format"
local host = require "cft.host"
local ranks = require "cft.ranks"
local saver = require "cft.io.saver"
local saves = require "cft.io.save"

local M = {}

local Keeper = {}
Keeper.__index = Keeper

--- @tab o `device` of the model; `log`; `fill(save, trainer, how)` writes a checkpoint's files; `folder(step)` → its
-- path; `whole(path, trainer)` is called when one is on the disk and read back; `retry_s` of a full disk
-- @treturn Keeper with `saved`, the folder of the latest whole checkpoint; `failed`, why the last save failed, nil where
-- it did not; `passing`, a checkpoint that the next one replaces; `cost`, what saves took of the run
function M.new(o)
  local self = setmetatable({ log = o.log, fill = o.fill, folder = o.folder, whole = o.whole, cost = costs.new(), unsaid = 0 }, Keeper)
  self.saver = saver.new(o.device, { now = host.now, retry_s = o.retry_s })
  return self
end

local SIZE = { f64 = 8, f32 = 4, bf16 = 2 }

--- Bytes of weights and of what the optimizer keeps: what a save copies. @tparam Model model @tparam Optimizer optim
function M.bytes_of(model, optim)
  local bytes = 0
  for i, group in ipairs(model.groups) do
    bytes = bytes + group.length * SIZE[model.dtype]
    for _, t in pairs(optim.slots[i]) do bytes = bytes + t:count() * SIZE[t:dtype()] end
  end
  return bytes
end

-- Call a method of the saver, and count how long the run stood still for it.
local function waiting(self, how, method, ...)
  local before, here = self.saver.stalled, ranks.here()
  here:at("saving", { saves = true })
  local ok, a, b = pcall(self.saver[method], self.saver, ...)
  local seconds = self.saver.stalled - before
  here:at "after saving"
  self.cost:wait(seconds, how)
  self.unsaid = self.unsaid + seconds
  if not ok then error(a, 0) end
  return a, b
end

--- Have pinned memory for the copy before the first step: pinning it takes long. Where there is not so much, each save is
-- written while the run waits.
-- @int bytes
function Keeper:reserve(bytes)
  if not self.saver:reserve(bytes + 2 ^ 20) then
    self.log:say("no memory for a copy of %s: the run waits while it is saved", format.bytes(bytes))
  end
end

-- ---- a rank that saves nothing ---------------------------------------------------------------

local Bystander = {}
Bystander.__index = Bystander
for _, name in ipairs { "reserve", "poll", "settle", "before_update", "before_change", "stepped", "finish" } do
  Bystander[name] = function() end
end
function Bystander.save() return true end
function Bystander.takes() return 0 end

--- In place of a keeper, in a rank for which the first one saves.
-- @treturn Keeper
function M.bystander() return setmetatable({ cost = costs.new() }, Bystander) end

-- ---- what became of a save -------------------------------------------------------------------

local function failed(self, step, why)
  self.failed = ("the save of step %d failed: %s"):format(step, why)
  self.log:close_line()
  self.log:say("%s%s", self.failed, self.saved and "; the last one is " .. self.saved or "; there is none before it")
end

local function done(self)
  local one = self.under_way
  local _, seconds = self.saver:times()
  if not one.beside then seconds = host.now() - one.begun end
  self.saved, self.failed, self.seconds = one.path, nil, seconds
  if self.passing and self.passing ~= one.path and self.passing ~= one.best then saves.remove(self.passing) end
  self.passing = one.by_time and one.path or nil
  if self.whole then self.whole(one.path, one.trainer) end
end

local function settle(self, state, why)
  if not self.under_way then return end
  if state == "done" then done(self) end
  if state == "failed" then failed(self, self.under_way.step, why) end
  if state == "done" or state == "failed" or state == "idle" then self.under_way, self.told = nil, nil end
end

-- A full disk is said once a save.
local function tell_of_room(self, state, why)
  if state ~= "no room" or self.told then return end
  self.told = true
  self.log:close_line()
  self.log:say("no room for the checkpoint of step %d: %s; it is tried again until there is%s", self.under_way.step, why,
    self.saved and (", and %s stays"):format(self.saved) or "")
end

--- Find out about the save under way; nothing waits.
function Keeper:poll()
  if not self.under_way then return end
  local state, why = self.saver:look()
  tell_of_room(self, state, why)
  if state == "done" or state == "failed" then settle(self, self.saver:take()) end
end

--- Wait until the save under way is over. A full disk is waited for; a further Ctrl-C ends the program.
-- @bool[opt] asked for: nothing else is to be done meanwhile
function Keeper:settle(asked)
  if not self.under_way then return end
  settle(self, waiting(self, { asked = asked }, "wait", function(state, why) tell_of_room(self, state, why) end))
end

--- Before weights or moments change: what the save under way holds is written or copied.
-- @tab[opt] how as `Cost:wait` has it
function Keeper:before_change(how)
  if self.under_way then waiting(self, how, "copied") end
end

--- The same within a step, which has a save beside it then.
function Keeper:before_update()
  self.beside = self.under_way ~= nil
  self:before_change { inside = true }
end

--- A step was made. @tab t its numbers; gets `save_wait` where a save was under way: seconds that the run stood still for it, in the
-- step and before it
function Keeper:stepped(t)
  self.cost:step(t.seconds, t.tokens, self.beside)
  if self.beside then t.save_wait = self.unsaid end
  self.unsaid, self.beside = 0, nil
end

-- ---- a save ----------------------------------------------------------------------------------

local function is_full(why)
  why = tostring(why)
  return why:find("No space left on device", 1, true) or why:find("Disk quota exceeded", 1, true)
end

-- Begin; the folder of a save is made at once, and may find the disk full.
local function begin(self, trainer, how)
  local told
  local in_parts = trainer.optim.is_whole and not trainer.optim:is_whole()  -- on several ranks, which wait until it is written
  while true do
    local method = in_parts and "write" or "start"
    local ok, result = pcall(waiting, self, { asked = how.now }, method, self.under_way.path,
                             function(save) self.fill(save, trainer, how) end, trainer.until_update)
    if ok then return true, result end
    if not is_full(result) then return false, result end
    if not told then tell_of_room(self, "no room", tostring(result)) end
    told = true
    ranks.here():at("waiting for room on the disk", { saves = true })
    host.sleep(1)
  end
end

--- Save the trainer's state. The save before is waited for.
-- @tparam Trainer trainer
-- @tab[opt] how `now`: return when it is over; `by_time`: the next one replaces it
-- @treturn boolean whether it has not failed so far
function Keeper:save(trainer, how)
  how = how or {}
  self:settle(how.now)
  self.cost:begun()
  self.under_way = { path = self.folder(trainer.done), step = trainer.done, by_time = how.by_time, trainer = trainer,
                     best = trainer.found_best and self.folder(trainer.found_best.step), begun = host.now() }
  local ok, beside = begin(self, trainer, how)
  if not ok then
    failed(self, trainer.done, tostring(beside))
    self.under_way = nil
    return false
  end
  self.under_way.beside = beside
  if not beside then settle(self, "done") end
  if how.now then self:settle(true) end
  return self.failed == nil
end

--- How long a save takes, for who must be in time: as the last one did, or by the bytes that it has to write.
-- @int bytes of the state
-- @treturn number seconds
function Keeper:takes(bytes) return self.seconds or bytes / 100e6 + 1 end

local TOLD = 1  -- seconds that saves take of a run before it says so

-- What saves cost, in a line.
local function tell_of_cost(self, seconds)
  local c = self.cost:summary(seconds)
  if not c or c.waited + c.awaited + math.max(0, c.slower or 0) < TOLD then return end
  self.log:say("saves: %d; training stood still %.2f s for them, %.2f s at most for one%s%s", c.count, c.waited, c.longest,
    c.share and (" (a step takes %.2f s); the steps beside them took %.2f s longer: %.1f%% of the run"):format(c.step, c.slower,
      100 * c.share) or "",
    c.awaited > 0.1 and ("; then %.1f s until the last one was on the disk"):format(c.awaited) or "")
end

--- The last word: all is over, or has failed.
-- @number seconds of the run
-- @treturn ?string why what is on the disk is not the run's last state
function Keeper:finish(seconds)
  self:settle(true)
  tell_of_cost(self, seconds)
  self.saver:release()
  return self.failed
end

return M
