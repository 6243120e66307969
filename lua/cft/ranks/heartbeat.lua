--- The heartbeat of the ranks: whoever is gone, or stands still, is named by the others, who end. See runtime/cft_heartbeat.h.

local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local ffi, C = door.ffi, door.C

local M = {}

local Heartbeat = {}
Heartbeat.__index = Heartbeat

M.PATIENCE_S = 4  -- a rank of which nothing is heard for so long is lost
local GRACE_S = 0.25  -- between that and the end of all others: there is nothing that they could do without it

--- Begin, all ranks together.
-- @int rank of this one @int size how many there are
-- @func tell gets a text, or "" but on rank 0, and gives that of rank 0
-- @treturn Heartbeat
function M.start(rank, size, tell)
  local out, place = ffi.new "cft_heartbeat *[1]", ffi.new "cft_heartbeat_place"
  local how = ffi.new("cft_heartbeat_how", { rank = rank, size = size, patience_s = M.PATIENCE_S, grace_s = GRACE_S,
                                             exit_code = exit.LOST })
  if rank == 0 then door.check(C.cft_heartbeat_listen(out, place, how)) end
  local told = tell(rank == 0 and ffi.string(place, ffi.sizeof(place)) or "")
  if rank > 0 then
    ffi.copy(place, told, math.min(#told, ffi.sizeof(place)))
    door.check(C.cft_heartbeat_join(out, place, how))
  end
  return setmetatable({ c = out[0], step = 0, calls = 0 }, Heartbeat)
end

-- The line of the script that has led here, "recipe.lua:12": of the frames, the first outside of the library.
local function place()
  for level = 3, 100 do
    local f = debug.getinfo(level, "Sl")
    if not f then return nil end
    if f.currentline > 0 and not f.source:find "^@?lua/cft/" and not f.source:find("/lua/cft/", 1, true) then
      return ("%s:%d"):format(f.short_src, f.currentline)
    end
  end
end

--- Say what this rank does from now on.
-- @string doing such as "backward"
-- @int[opt] step the optimizer step, from 1; as before if absent
function Heartbeat:at(doing, step)
  self.step = step or self.step
  if self.c then C.cft_heartbeat_at(self.c, self.step, self.calls, doing, place()) end
end

--- This rank has come to a collective, where it may wait for others.
-- @string op
function Heartbeat:calls_for(op)
  self.calls = self.calls + 1
  self:at(op)
end

--- Leave.
-- @string[opt] why the error that ends this rank; nil: the run is over
function Heartbeat:leave(why)
  if self.c then C.cft_heartbeat_leave(self.c, why) end
  self.c = nil
end

return M
