--- How fast a device computes, copies and talks: of GPUs by what their makers publish, of this machine by measuring it.
--
-- What a training step reaches of a published peak is one set of numbers for all of them, `shares`: fitted to rates that
-- others measured on H100s, and checked against as many again (docs/plan.md, "The arithmetic, checked").

local host = require "cft.host"
local kernels = require "cft.engine.kernels"
local measured = require "cft.engine.rates"
local tensor = require "cft.engine.tensor"

local M = {}

local G, T = 1e9, 1e12
local GIB = 2 ^ 30

-- A GPU a row: bf16 FLOP/s without sparsity; bytes of memory as the driver tells them; bytes/s of that memory; and bytes/s a
-- direction of its link to its neighbours (NVLink, or PCI Express) and of its share of the network between hosts, both as
-- commonly built. From NVIDIA's data sheets.
local gpus = {
  { "h100", 989.4 * T, 79.6 * GIB, 3.35 * T, 450 * G, 50 * G },
  { "h100-pcie", 756 * T, 79.6 * GIB, 2.0 * T, 50 * G, 25 * G },
  { "h200", 989.4 * T, 139.8 * GIB, 4.8 * T, 450 * G, 50 * G },
  { "b200", 2250 * T, 178.4 * GIB, 7.7 * T, 900 * G, 50 * G },
  { "a100", 312 * T, 79.2 * GIB, 2.04 * T, 300 * G, 25 * G },
  { "a100-40", 312 * T, 39.4 * GIB, 1.555 * T, 300 * G, 25 * G },
  { "l40s", 362 * T, 44.4 * GIB, 0.864 * T, 25 * G, 12.5 * G },
  { "rtx4090", 165.2 * T, 23.5 * GIB, 1.008 * T, 25 * G, 12.5 * G },
  { "rtx5090", 209.5 * T, 31.4 * GIB, 1.792 * T, 50 * G, 12.5 * G },
}

--- What a training step reaches of the published figures.
--
-- - `matmul`: of the peak, in matrix products of training's shapes; `attention`: of the peak, in its products
-- - `copy`: of the memory's rate, in all that reads and writes
-- - `link`: of a link's rate, in collectives
M.shares = { matmul = 0.68, attention = 0.45, copy = 0.75, link = 0.80 }

M.CALL = 10e-6  -- seconds a collective takes before bytes move, for each doubling of the ranks

--- The names of `of`.
-- @treturn table in the order of the list
function M.names()
  local names = {}
  for i, row in ipairs(gpus) do names[i] = row[1] end
  return names
end

--- The rates of a GPU by its name.
-- @string name one of `names`
-- @treturn ?table nil where the name is not known; else `name`, `peak` (FLOP/s), `memory` (bytes), and what a step reaches:
-- `matmul` and `attention` (FLOP/s), `copy` (bytes/s, read and written), `link` and `network` (bytes/s a GPU)
function M.of(name)
  for _, row in ipairs(gpus) do
    if row[1] == name then
      local s = M.shares
      return { name = name, peak = row[2], memory = row[3], matmul = s.matmul * row[2], attention = s.attention * row[2],
               copy = s.copy * row[4], link = s.link * row[5], network = s.link * row[6] }
    end
  end
end

-- ---- this machine --------------------------------------------------------------------------------

local SECONDS, RUNS = 0.05, 3  -- of each measure, at least

-- The best seconds of some calls, each waited for; what they make is gone afterwards.
local function best_of(done, call)
  local best, began, runs = math.huge, host.now(), 0
  repeat
    tensor.scope(function()
      done:to_host()
      local start = host.now()
      call()
      done:to_host()
      best = math.min(best, host.now() - start)
    end)
    runs = runs + 1
  until runs > RUNS and host.now() - began > SECONDS
  return best
end

local ROWS = 4096  -- of the product, at most

--- Rates of a device of this machine for a model's shapes, measured: the product that gives gate and up, and a large copy.
-- Attention is taken to be as much slower than that product as it is on GPUs. It takes a tenth of a second.
-- @tab c config of the model @string dtype of its weights @int tokens of a micro-batch
-- @param device of `cft.device`
-- @treturn table `name`, `matmul`, `attention`, `copy` as of `of`
function M.measure(c, dtype, tokens, device)
  local how = { dtype = dtype, device = device }
  return tensor.as_class("cache", tensor.scope, function()  -- of no run's peak a part
    local done = tensor.zeros({ 1 }, { device = device })
    local x, w = tensor.ones({ math.min(tokens, ROWS), c.d }, how), tensor.ones({ 2 * c.ffn, c.d }, how)
    local copying = measured.copying(device)
    local copy = copying.bytes / best_of(done, copying.run)
    copying.release()
    local matmul = 4 * c.d * c.ffn * x:dim(0) / best_of(done, function() kernels.linear_fwd(x, w, nil) end)
    return { name = tensor.device_description(device), matmul = matmul,
             attention = matmul * M.shares.attention / M.shares.matmul,
             copy = copy }
  end)
end

local SENT = 2 ^ 20  -- elements of the sum

--- Bytes/s that a rank sends and receives in a sum over all ranks, measured: they call this together.
-- @param comm of `cft.engine.comm` @int size how many ranks there are
-- @param device of `cft.device`
-- @treturn number
function M.link(comm, size, device)
  return tensor.as_class("cache", tensor.scope, function()
    local x, best = tensor.zeros({ SENT }, { device = device }), math.huge
    for _ = 1, RUNS do  -- as often on all of them
      local start = host.now()
      comm:all_reduce(x)
      x:to_host()
      best = math.min(best, host.now() - start)
    end
    return 2 * (size - 1) / size * x:bytes() / best
  end)
end

return M
