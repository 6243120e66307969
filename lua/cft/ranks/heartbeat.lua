--- The heartbeat of the ranks: whoever is gone, or stands still, is named by the others, who end. See runtime/cft_heartbeat.h.

local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local host = require "cft.host"
local ffi, C = door.ffi, door.C

local M = {}

local Heartbeat = {}
Heartbeat.__index = Heartbeat

M.PATIENCE_S = 4  -- a rank of which nothing is heard for so long is lost
local WARN_S = 30  -- after so long of a wait for a rank that lives the table is printed
local GRACE_S = 0.25  -- between that and the end of all others: there is nothing that they could do without it

--- Begin, all ranks together.
-- @int rank of this one @int size how many there are
-- @number stall_s how long a rank that does nothing new is waited for
-- @func tell gets a text, or "" but on rank 0, and gives that of rank 0
-- @treturn Heartbeat
function M.start(rank, size, stall_s, tell)
  local out, place = ffi.new "cft_heartbeat *[1]", ffi.new "cft_heartbeat_place"
  local how = ffi.new("cft_heartbeat_how", { rank = rank, size = size, patience_s = M.PATIENCE_S, grace_s = GRACE_S,
                                             exit_code = exit.LOST, stall_s = stall_s,
                                             warn_s = math.min(WARN_S, stall_s / 2) })
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

local function say(self, doing, state, where)
  if self.c then C.cft_heartbeat_at(self.c, self.step, self.calls, state, doing, where or place()) end
end

--- Say what this rank does from now on.
-- @string doing such as "backward"
-- @tab[opt] o `step`, of the optimizer, from 1, as before if absent; `where`, a place of the program, that of the script's line
-- if absent; `saves`: it may take as long as it likes, also between the collectives that come now
function Heartbeat:at(doing, o)
  o = o or {}
  self.step, self.saves = o.step or self.step, o.saves
  say(self, doing, o.saves and C.CFT_RANK_SAVES or C.CFT_RANK_WORKS, o.where)
end

--- This rank has come to a collective. @string op
-- @string[opt] how "beside": it goes on meanwhile; "wait": it waits for those that are under way
function Heartbeat:comes_to(op, how)
  if how ~= "wait" then self.calls = self.calls + 1 end
  say(self, op, how == "beside" and C.CFT_RANK_WORKS or C.CFT_RANK_WAITS)
end

--- It has come out of it. @string op
function Heartbeat:comes_out(op)
  if self.saves then say(self, "saving", C.CFT_RANK_SAVES) else say(self, "after " .. op, C.CFT_RANK_WORKS) end
end

--- NCCL sums from now on: at a loss its own view of the ranks is asked for, where it answers (RAS, of 2.24 and newer).
-- @treturn ?string why it will not be asked, where somebody has said where it answers and nobody can be there
function Heartbeat:asks_nccl()
  if os.getenv "NCCL_RAS_ENABLE" == "0" then return nil end
  local address = os.getenv "NCCL_RAS_ADDR"
  if C.cft_heartbeat_ask_nccl(self.c, address or "localhost:28028") == C.CFT_OK or not address then return nil end
  return "NCCL_RAS_ADDR: " .. ffi.string(C.cft_last_error())
end

--- A collective has failed, most likely since a rank is gone: then the heartbeat ends this process when it knows which, with the
-- table and the code of that. Returns where it hears of nothing.
function Heartbeat:await_loss()
  if self.c then host.sleep(M.PATIENCE_S + 2) end
end

--- Leave.
-- @string[opt] why the error that ends this rank; nil: the run is over
function Heartbeat:leave(why)
  if self.c then C.cft_heartbeat_leave(self.c, why) end
  self.c = nil
end

return M
