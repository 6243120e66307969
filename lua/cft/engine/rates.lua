--- What a device can do at best, measured: multiply-adds of a dtype, and a large copy. Times of ops are held against these.
-- @module cft.engine.rates

local autograd = require "cft.engine.autograd"
local door = require "cft.engine.ffi"
local host = require "cft.host"
local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"
local C = door.C

local M = {}

local COPIED = 2 ^ 26    -- bytes on the CPU: more than the caches of two cores hold
local COPIED_GPU = 2 ^ 28
local LONG = 0.005       -- seconds of one measurement on a GPU, so that waiting for it counts little
local WIDEST = 8192      -- of the matrices that are multiplied on a GPU

--- FLOP/s of multiply-adds on registers alone, in all threads of the CPU. @string dtype "f32" or "bf16"
function M.burst(dtype) return C.cft_cpu_burst(door.constant[dtype]) end

--- How many threads the CPU's ops have.
function M.threads() return C.cft_cpu_threads() end

--- A large copy on a device, for who measures it in turn with something else.
-- @param device of `tensor.device`
-- @treturn table `run`, which makes it and returns when it is done; `bytes` that it reads and writes; `release`
function M.copying(device)
  local size = device.host_memory ~= 0 and COPIED or COPIED_GPU
  local function made() return tensor.zeros({ size / 4 }, { device = device }):fill_(1):keep() end
  local from, to = tensor.as_class("cache", made), tensor.as_class("cache", made)  -- of no run's peak a part
  return {
    bytes = 2 * size,
    run = function()
      door.check(device.copy(device, device.stream(device), to.c.data, from.c.data, size))
      if device.host_memory == 0 then door.check(C.cft_device_sync(device)) end
    end,
    release = function()
      from:release()
      to:release()
    end,
  }
end

-- The best seconds of `fn` in a few runs.
local function best_of(fn)
  local best = math.huge
  for _ = 1, 5 do
    local start = host.now()
    fn()
    best = math.min(best, host.now() - start)
  end
  return best
end

-- FLOP/s of the largest product that takes long enough for a clock on the host.
local function products(device, dtype)
  local n, seconds = 256, 0
  repeat
    n = 2 * n
    tensor.as_class("cache", tensor.scope, function()
      local o = { dtype = dtype, device = device }
      local a, b = tensor.zeros({ n, n }, o):fill_(1), tensor.zeros({ n, n }, o):fill_(1)
      local function run()
        tensor.scope(kernels.matmul, a, b, 0, 1)
        door.check(C.cft_device_sync(device))
      end
      run()
      seconds = best_of(run)
    end)
  until seconds > LONG or n >= WIDEST
  return 2 * n ^ 3 / seconds
end

--- What a device reaches now.
-- @param device of `tensor.device`
-- @tab dtypes a list of "f32", "bf16"
-- @treturn table `copy`, bytes/s read and written; `flops`, dtype → FLOP/s; `by`, how these were measured
function M.of(device, dtypes)
  local result = { flops = {} }
  local copying = M.copying(device)
  copying.run()
  result.copy = copying.bytes / best_of(copying.run)
  copying.release()
  local on_cpu = device.host_memory ~= 0
  result.by = on_cpu and "a burst of multiply-adds" or "the largest of a few products"
  for _, dtype in ipairs(dtypes) do
    result.flops[dtype] = on_cpu and math.max(M.burst(dtype), M.burst(dtype), M.burst(dtype)) or autograd.no_grad(products, device, dtype)
  end
  return result
end

return M
