--- Saves beside a running program: a thread writes what is saved while the next step computes, and what is not written
-- when that step wants to change it is copied.
-- @module cft.io.saver

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local saves = require "cft.io.save"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi

local M = {}

local RETRY_S = 2  -- between two tries on a full disk
local LOOK_S = 0.25  -- between two looks at Ctrl-C while the last save is waited for

--- A saver of one run. `stalled`: seconds that the program waited for it so far.
-- @type Saver
local Saver = {}
Saver.__index = Saver

--- @param device where the tensors lie that are saved
-- @tab[opt] o `retry_s`, seconds between two tries on a full disk; `now`, a clock for `stalled`
-- @treturn Saver
function M.new(device, o)
  o = o or {}
  local out = ffi.new "cft_saver *[1]"
  door.check(C.cft_saver_new(out, tensor.device(device), o.retry_s or RETRY_S))
  return setmetatable({ c = ffi.gc(out[0], C.cft_saver_release), stalled = 0, now = o.now or os.clock }, Saver)
end

-- How long a call made the program wait.
local function waiting(self, f, ...)
  local from = self.now()
  local a, b = f(self, ...)
  self.stalled = self.stalled + self.now() - from
  return a, b
end

--- Have pinned memory for saves of so many bytes of tensors, so that the first one need not wait for it.
-- @treturn boolean false where there is not so much
function Saver:reserve(bytes)
  local status = C.cft_saver_reserve(self.c, bytes)
  if status ~= C.CFT_E_OOM then door.check(status) end
  return status == C.CFT_OK
end

local function start(self, path, fill, seconds)
  local save = saves.begin(path)
  save:defer()
  local ok, err = pcall(fill, save)
  local c = ok and save:give()
  if not ok then
    save:discard()
    error(err, 0)
  end
  local status = C.cft_saver_start(self.c, c, seconds or 0)
  if status == C.CFT_OK then
    self.path = path
    return true
  end
  local message = ffi.string(C.cft_last_error())
  C.cft_save_release(c)
  if status ~= C.CFT_E_OOM then blame("%s", message) end
  saves.whole(path, fill)  -- no memory for a copy: it is written while the program waits
  return false
end

--- Begin a save; the one before must have been `take`n. Without pinned memory, where the device wants such, it is written
-- before this returns.
-- @string path of the folder that is to appear
-- @func fill gets a `Save`, as `saves.whole` has it; tensors that it writes stay as they are until `copied`
-- @number[opt=0] seconds in which they are expected to stay so; what cannot be written by then is copied ahead
-- @treturn boolean whether it goes on beside the program
function Saver:start(path, fill, seconds) return (waiting(self, start, path, fill, seconds)) end

--- Write a save before this returns, of what is there only while it is written.
-- @string path @func fill as of `start`
-- @treturn boolean false: nothing goes on beside the program
function Saver:write(path, fill)
  waiting(self, function() saves.whole(path, fill) end)
  return false
end

--- Wait until the tensors of the save under way may change.
function Saver:copied() waiting(self, function() door.check(C.cft_saver_copied(self.c)) end) end

local states = { [0] = "idle", "copying", "writing", "no room", "done", "failed" }

--- What it does: "idle", "copying", "writing", "no room", or the end of a save, "done" or "failed".
-- @number[opt=0] seconds to wait for its end
-- @treturn string @treturn string what failed, or what there is no room for
function Saver:look(seconds)
  local state = states[tonumber(C.cft_saver_look(self.c, seconds or 0))]
  return state, ffi.string(C.cft_saver_message(self.c))
end

--- Take the end of a save, once.
-- @treturn string "done" or "failed"; else what `look` says
-- @treturn string why it failed
function Saver:take()
  local state = states[tonumber(C.cft_saver_take(self.c))]
  return state, ffi.string(C.cft_saver_message(self.c))
end

--- Wait for the save under way, and take its end.
-- @func[opt] meanwhile gets state and message now and then; false gives up waiting
-- @treturn string "done", "failed", "idle", or what it was doing when `meanwhile` gave up
-- @treturn string why
function Saver:wait(meanwhile)
  return waiting(self, function()
    while true do
      local state, message = self:look(LOOK_S)
      if state == "done" or state == "failed" or state == "idle" then return self:take() end
      if meanwhile and meanwhile(state, message) == false then return state, message end
    end
  end)
end

--- What the last save took: seconds until all could change, seconds until it was over, bytes that were copied.
function Saver:times()
  local took = C.cft_saver_took(self.c)
  return took.copied, took.over, tonumber(took.copied_bytes)
end

--- Give up what waits for room; what is being written is waited for.
function Saver:release()
  if self.c then C.cft_saver_release(ffi.gc(self.c, nil)) end
  self.c = nil
end

return M
