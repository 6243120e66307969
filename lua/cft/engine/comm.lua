--- Collectives: tensors summed or copied over several processes with a GPU each.
--
-- All ranks make the same calls in the same order. Nothing waits for a collective but what waits for the
-- device anyway (reading a tensor); that a rank has died, or did not come in time, is an error there.
-- @module cft.engine.comm
-- @usage local comm = require "cft.engine.comm"
-- local id = comm.id "cuda"                -- by one rank; the others get it by a file, a pipe, a socket
-- local c = comm.open { id = id, rank = 0, size = 1, device = "cuda" }
-- c:all_reduce(gradients)                  -- the sum over all ranks
-- c:broadcast(weights, 0)                  -- those of rank 0
-- c:close()                                -- or at once, c:abort()

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local tensor = require "cft.engine.tensor"
local ffi, C = door.ffi, door.C

local M = {}

local Comm = {}
Comm.__index = Comm

-- A missing library ends a run as a missing device does: then there is no id either. That ranks do not
-- come, or do not go together, is an error like any.
local function must(status, device)
  if status == C.CFT_E_DEVICE then
    local why = ffi.string(C.cft_last_error())
    if C.cft_comm_new_id(device, ffi.new "cft_comm_id") == C.CFT_E_DEVICE then exit.fail(exit.DEVICE, "%s", why) end
    blame(why)
  end
  door.check(status)
end

local function device_of(name) return name and tensor.device(name) or tensor.default_device() end

--- An id for a new communicator: 128 bytes. One rank makes it; all of them open it. A missing library ends
-- the run with exit code 3.
-- @tparam[opt] string device the default device if absent
-- @treturn string
-- @raise the device has no collectives
function M.id(device)
  local id = ffi.new "cft_comm_id"
  device = device_of(device)
  must(C.cft_comm_new_id(device, id), device)
  return ffi.string(id.bytes, ffi.sizeof(id.bytes))
end

local specs = {
  id = { "string", fits = function(id)
    if #id ~= C.CFT_COMM_ID_BYTES then return ("what comm.id() has made, %d bytes"):format(C.CFT_COMM_ID_BYTES) end
  end },
  rank = { "integer", min = 0 },
  size = { "integer", min = 1, max = 2 ^ 31 - 1 },
  device = { "any", optional = true },
  timeout = { "number", 600, min = 1e-3, max = 1e9 },
}

--- Join a communicator. Returns when all its ranks have. A missing library ends the run with exit code 3.
-- @tab o
-- @string o.id from `id`, the same for all ranks
-- @int o.rank which of them this process is, from 0
-- @int o.size how many there are
-- @tparam[opt] string o.device the default device if absent; a GPU that no other rank has
-- @number[opt=600] o.timeout seconds that this and any later wait for other ranks may last
-- @return a communicator; its fields `rank`, `size`, `device` are for reading
-- @raise an option that does not fit; the device has no collectives; other ranks did not come in time, have
-- died, or came with another size or the same rank
function M.open(o)
  o = check.options("comm.open", o, specs)
  if o.rank >= o.size then blame("comm.open: rank %d of %d; ranks are numbered from 0", o.rank, o.size) end
  local device, id, out = device_of(o.device), ffi.new "cft_comm_id", ffi.new "cft_comm *[1]"
  ffi.copy(id.bytes, o.id, #o.id)
  must(C.cft_comm_open(out, device, id, o.rank, o.size, o.timeout), device)
  -- One that is forgotten must not wait for the others.
  return setmetatable({ c = ffi.gc(out[0], C.cft_comm_abort), rank = o.rank, size = o.size, device = device }, Comm)
end

local all_reduce = door.bind "comm_all_reduce: *communicator x"
local broadcast = door.bind "comm_broadcast: *communicator x #from"

local function opened(self)
  return self.c or blame "this communicator was closed"
end

--- Replace a tensor by the sum of all ranks' tensors. Queued, like any op.
-- @tparam Tensor x contiguous, f32 or bf16, of one shape on all ranks
-- @treturn Tensor x
function Comm:all_reduce(x)
  all_reduce(opened(self), x)
  return x
end

--- Replace a tensor by that of one rank. Queued, like any op.
-- @tparam Tensor x contiguous, f32 or bf16, of one shape on all ranks
-- @int from the rank that has it, the same for all
-- @treturn Tensor x
function Comm:broadcast(x, from)
  check.value("broadcast", "from", from, { "integer", min = 0, max = self.size - 1 })
  broadcast(opened(self), x, from)
  return x
end

--- Leave when all that was queued is done. What failed is an error, and the communicator closed all the same.
function Comm:close()
  local c = opened(self)
  self.c = nil
  door.check(C.cft_comm_close(ffi.gc(c, nil)))
end

--- Leave at once, whatever is queued: for a way out that must not wait for the others.
-- @usage local c = cft.comm.open { id = cft.comm.id "cuda", rank = 0, size = 1, device = "cuda" }
-- c:abort()
function Comm:abort()
  local c = self.c
  self.c = nil
  if c then C.cft_comm_abort(ffi.gc(c, nil)) end
end

return M
