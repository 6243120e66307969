--- Collectives: tensors summed or copied over several processes with a device each: GPUs by NCCL, CPUs by MPI or Gloo.
--
-- All ranks make the same calls in the same order. On a GPU nothing waits for a collective but what waits for the
-- device anyway (reading a tensor), on a CPU the call does; that a rank has died, or did not come in time, is an error there.
-- A communicator's `before`, if it is set, is called with the name of each collective that is to begin, and with "beside" where
-- the call does not wait for it; so is `after` when the call returns, and `failed` when it fails. What `wait` waits for is "wait", and
-- no new collective.
-- @module cft.engine.comm
-- @usage local comm = require "cft.engine.comm"
-- local id = comm.id "cpu"                 -- by one rank; GPUs' others get it by a file, a pipe, a socket
-- local c = comm.open { id = id, rank = 0, size = 1, device = "cpu" }
-- local gradients, part = cft.ones { 4 }, cft.zeros { 4 }
-- c:all_reduce(gradients)                  -- the sum over all ranks
-- c:broadcast(gradients, 0)                -- those of rank 0
-- c:reduce_scatter(part, gradients)        -- this rank's part of the sum
-- c:beside(function() c:all_gather(gradients, part) end)  -- and what follows does not wait for it
-- c:wait()                                 -- from here on it does
-- c:group(function() c:all_reduce(part) end)
-- print(c:gather_texts "mine"[1])          --> mine
-- c:close()                                -- or at once, c:abort()

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local tensor = require "cft.engine.tensor"
local ffi, C = door.ffi, door.C

local M = {}

local Comm = {}
Comm.__index = Comm

-- A missing library ends a run as a missing device does: then a GPU has no id either, and a CPU cannot open. That ranks
-- do not come, or do not go together, is an error like any.
local function must(status, device, opens)
  if status == C.CFT_E_DEVICE then
    local why = ffi.string(C.cft_last_error())
    if opens and device.host_memory == 1 or C.cft_comm_new_id(device, ffi.new "cft_comm_id") == C.CFT_E_DEVICE then
      exit.fail(exit.DEVICE, "%s", why)
    end
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
  rendezvous = { "any", optional = true },
  timeout = { "number", 600, min = 1e-3, max = 1e9 },
}

--- Join a communicator. Returns when all its ranks have. A missing library ends the run with exit code 3.
-- @tab o
-- @string o.id from `id`, the same for all ranks; of CPUs, whose ranks are those that MPI has started, any
-- @int o.rank which of them this process is, from 0
-- @int o.size how many there are
-- @tparam[opt] string o.device the default device if absent; a GPU that no other rank has, or the CPU, which a process
-- can have so once
-- @param[opt] o.rendezvous of CPUs that no MPI has started: where their processes have met (runtime/cft_rendezvous.h); they go by Gloo
-- @number[opt=600] o.timeout seconds that this and any later wait for other ranks may last
-- @return a communicator; its fields `rank`, `size`, `device` are for reading
-- @raise an option that does not fit; the device has no collectives; other ranks did not come in time, have
-- died, or came with another size or the same rank
function M.open(o)
  o = check.options("comm.open", o, specs)
  if o.rank >= o.size then blame("comm.open: rank %d of %d; ranks are numbered from 0", o.rank, o.size) end
  local device, id, out = device_of(o.device), ffi.new "cft_comm_id", ffi.new "cft_comm *[1]"
  ffi.copy(id.bytes, o.id, #o.id)
  local status = o.rendezvous and C.cft_rendezvous_comm(out, device, o.rendezvous, o.timeout)
    or C.cft_comm_open(out, device, id, o.rank, o.size, o.timeout)
  must(status, device, true)
  -- One that is forgotten must not wait for the others.
  return setmetatable({ c = ffi.gc(out[0], C.cft_comm_abort), rank = o.rank, size = o.size, device = device }, Comm)
end

local all_reduce = door.bind "comm_all_reduce: *communicator x"
local broadcast = door.bind "comm_broadcast: *communicator x #from"
local reduce_scatter = door.bind "comm_reduce_scatter: *communicator part x"
local all_gather = door.bind "comm_all_gather: *communicator x part"

local function opened(self) return self.c or blame "this communicator was closed" end

-- Call what begins a collective, or waits for some: `before` and `after`, where somebody has set them, hear of it.
local function call(self, op, fn, ...)
  local c, how = opened(self), op == "wait" and op or self.is_beside and "beside" or nil
  if self.before then self.before(op, how) end
  local ok, why = pcall(fn, c, ...)
  local hears = self[ok and "after" or "failed"]
  if hears then hears(op, how) end
  if not ok then error(why, 0) end
end

--- Replace a tensor by the sum of all ranks' tensors. Queued, like any op.
-- @tparam Tensor x contiguous, f32, bf16, f64 or i32, of one shape on all ranks
-- @treturn Tensor x
function Comm:all_reduce(x)
  call(self, "all_reduce", all_reduce, x)
  return x
end

--- Replace a tensor by that of one rank. Queued, like any op.
-- @tparam Tensor x contiguous, of one shape and dtype on all ranks
-- @int from the rank that has it, the same for all
-- @treturn Tensor x
function Comm:broadcast(x, from)
  check.value("broadcast", "from", from, { "integer", min = 0, max = self.size - 1 })
  call(self, "broadcast", broadcast, x, from)
  return x
end

--- This rank's part of the sum of all ranks' tensors. Queued, like any op.
-- @tparam Tensor part gets it; contiguous; may be the whole's own part
-- @tparam Tensor x the whole, contiguous, `size` times as long, of the dtypes of `all_reduce`
-- @treturn Tensor part
function Comm:reduce_scatter(part, x)
  call(self, "reduce_scatter", reduce_scatter, part, x)
  return part
end

--- The parts of all ranks, one behind the other. Queued, like any op.
-- @tparam Tensor x gets them; contiguous, `size` times as long as a part
-- @tparam Tensor part this rank's; may be the whole's own part
-- @treturn Tensor x
function Comm:all_gather(x, part)
  call(self, "all_gather", all_gather, x, part)
  return x
end

local BOX = 4096  -- bytes of a text that goes at once, its length in front; a longer one takes a second round

local function boxed(self, text, bytes)
  local size = ffi.sizeof "double"
  local part = tensor.empty({ bytes }, { dtype = "u8", device = "cpu" })
  local whole = tensor.empty({ bytes * self.size }, { dtype = "u8", device = "cpu" })
  local to = ffi.cast("char *", part.c.data)
  ffi.cast("double *", to)[0] = #text
  ffi.copy(to + size, text, math.min(#text, bytes - size))
  call(self, "all_gather", all_gather, whole, part)
  local texts, longest, from = {}, 0, ffi.cast("char *", whole.c.data)
  for r = 0, self.size - 1 do
    local n = ffi.cast("double *", from + r * bytes)[0]
    longest = math.max(longest, n)
    texts[r + 1] = ffi.string(from + r * bytes + size, math.min(n, bytes - size))
  end
  part:release()
  whole:release()
  return texts, math.ceil((longest + size) / 8) * 8
end

--- A text of each rank, of a communicator of CPUs.
-- @string text
-- @treturn table a list, that of rank 0 first
function Comm:gather_texts(text)
  local texts, wanted = boxed(self, text, BOX)
  return wanted <= BOX and texts or (boxed(self, text, wanted))
end

--- Call `fn`; the collectives in it go together, which is faster for many small ones.
-- @func fn
function Comm:group(fn)
  door.check(C.cft_comm_group(opened(self), 1))
  return finally(function() door.check(C.cft_comm_group(opened(self), 0)) end, fn)
end

--- Call `fn`; the collectives in it go beside what the device does otherwise, and nothing waits for them before `wait` is
-- called. Meanwhile nobody may touch their tensors.
-- @func fn
function Comm:beside(fn)
  C.cft_comm_beside(opened(self), 1)
  self.is_beside = true
  return finally(function()
    self.is_beside = nil
    C.cft_comm_beside(self.c, 0)
  end, fn)
end

--- What comes now waits for all collectives so far. An error where one has failed.
function Comm:wait()
  call(self, "wait", function(c) door.check(C.cft_comm_wait(c)) end)
end

--- Has a collective failed, as far as is known? Waits for nothing.
-- @usage local c = cft.comm.open { id = cft.comm.id "cpu", rank = 0, size = 1, device = "cpu" }
-- c:has_failed()   --> false
-- c:close()
function Comm:has_failed() return C.cft_comm_failed(opened(self)) ~= 0 end

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
