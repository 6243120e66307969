-- A decoder block in one call. That its bits are those of the ops one by one, tests/generate/engine.lua says of whole
-- models; here are what it refuses, and a cache that is written where it says.

local expect = require "tests.expect"
local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local kv_cache = require "cft.nn.kv_cache"
local op = require "tests.op"
local tensor = require "cft.engine.tensor"

local H, K, D, F = 4, 2, 8, 24
local d = H * D

local function weights(bias)
  local function w(seed, ...) return tensor.randn({ ... }, { seed = seed }) end
  return { norm1 = w(1, d), norm2 = w(2, d), qkv = w(3, (H + 2 * K) * D, d), o = w(4, d, d), gate_up = w(5, 2 * F, d),
           down = w(6, d, F), qkv_bias = bias and w(7, (H + 2 * K) * D) or nil }
end

-- What a pass over one sequence of `n` tokens needs.
local function placed(n)
  local c = { layers = 1, heads = H, kv_heads = K, head_dim = D, eps = 1e-5 }
  local cache = kv_cache.new(c, 2, { dtype = "f32", device = tensor.default_device() })
  local ids = {}
  for i = 1, n do ids[i] = i end
  local at = cache:place({ { ids = ids, from = 0, count = n, pages = { 1, 0 } } }, { n - 1 })
  at.of_all = { scale = 1 / math.sqrt(D), heads = H, kv_heads = K, q_at = at.positions, k_at = at.positions,
                layout = at.layout, cos = tensor.randn({ 64, D / 2 }, { seed = 8 }),
                sin = tensor.randn({ 64, D / 2 }, { seed = 9 }) }
  return at, cache, c
end

local ops = require "cft.engine.ops"
local rotary = require "cft.engine.rotary"

-- The same, op by op.
local function one_by_one(at, cache, w, x, branch)
  local y
  if branch then y, x = ops.add_rmsnorm(branch, x, w.norm1, 1e-5) else y = ops.rmsnorm(x, w.norm1, 1e-5) end
  local q, k, v, kv = rotary.split(at.of_all, ops.linear(y, w.qkv, w.qkv_bias))
  rotary.rotate(at.of_all, q, k, 0)
  kernels.scatter_rows(cache.layers[0], kv, at.place, 0)
  local keys, values = tensor.narrow(cache.layers[0], 1, 0, K * D), tensor.narrow(cache.layers[0], 1, K * D, K * D)
  local o = kernels.attention_paged(q, keys, values, H, K, at.of_all.scale, at.layout)
  y, x = ops.add_rmsnorm(ops.linear(o, w.o), x, w.norm2, 1e-5)
  return x, ops.linear(ops.swiglu(ops.linear(y, w.gate_up)), w.down)
end

local function same_bits(a, b, what)
  local x, y = op.numbers(a), op.numbers(b)
  expect.same(#x, #y)
  for i = 1, #x do
    if x[i] ~= y[i] then error(("%s: [%d] is %a, op by op %a"):format(what, i - 1, x[i], y[i]), 0) end
  end
end

return {
  { "block_paged: the bits of its ops, with a branch and a bias and without", function()
    for _, n in ipairs { 1, 3, 40 } do
      for _, more in ipairs { false, true } do
        tensor.scope(function()
          local w, x = weights(more), tensor.randn({ n, d }, { seed = 10 })
          local branch = more and tensor.randn({ n, d }, { seed = 11 }) or nil
          local at, cache = placed(n)
          local other_at, other = placed(n)
          local sum, y = kv_cache.block(at, 0, w, x, branch)
          local sum1, y1 = one_by_one(other_at, other, w, x, branch)
          same_bits(y, y1, "y")
          same_bits(sum, sum1, "sum")
          local rows = tensor.narrow(cache.layers[0], 0, kv_cache.PAGE, math.min(n, kv_cache.PAGE))
          same_bits(rows, tensor.narrow(other.layers[0], 0, kv_cache.PAGE, math.min(n, kv_cache.PAGE)), "the cache")
          cache:release()
          other:release()
        end)
      end
    end
  end },

  { "block_paged: what it refuses", function()
    tensor.scope(function()
      local w, x = weights(), tensor.randn({ 2, d }, { seed = 10 })
      local at, cache, c = placed(2)
      local step, block = inputs.paged_step(at), inputs.block_weights(w, c)
      local function call(with) return function() kernels.block_paged(x, nil, with, block, step) end end
      expect.raises("the cache is %(64, 8%) but qkv %(2, 64%)", call(tensor.narrow(cache.layers[0], 1, 0, 8)))
      expect.raises("'cache' must be a tensor, got nil", call(nil))
      block.kv_heads = 0
      expect.raises("4 heads over 0; at least 1 wanted", call(cache.layers[0]))
      cache:release()
    end)
  end },
}
