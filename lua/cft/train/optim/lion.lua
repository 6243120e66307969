--- Lion: Chen et al. 2023 (arXiv 2302.06675), algorithm 2. The step is a sign, so a learning rate is 3 to 10
-- times smaller than AdamW's, and weight decay as much larger.
--
--     p -= lr (sign(beta1 m + (1 - beta1) g) + decay p);  m = beta2 m + (1 - beta2) g
--
-- AdamW's kernel makes both: with betas 0 its step is lr g / |g|, the sign where g is one, and its first
-- moment is m. So bf16, master weights, stochastic rounding and steps that are left out are as they are there.

local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local kernels = require "cft.engine.kernels"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"
local C, ffi = door.C, door.ffi

local M = { name = "lion", state = { "m" } }

M.settings = {
  { "beta1", { "number", 0.9, min = 0, max = 1, help = "share of the momentum in the direction" } },
  { "beta2", { "number", 0.99, min = 0, fits = check.below_one, help = "decay of the momentum" } },
}

local CHUNK = 2 ^ 20  -- elements at a time, so that what a step makes has not the size of a group

local adamw = door.call(C.cft_adamw_step, 7)
local for_p, for_m = ffi.new "cft_adamw_options", ffi.new "cft_adamw_options"

-- step(x) - step(-x); x is scratch, and negated in place.
local function sign(x)
  local s = kernels.unary("step", x)
  kernels.axpby(x, x, -1, 0)
  kernels.axpby(s, kernels.unary("step", x), -1, 1)
  return s
end

-- `factor` is what g is multiplied by, `made` (3) as `scale` of `cft.train.optim`: 1, or NaN where the step is left out.
local function update_chunk(t, scale, factor, made, beta1)
  local wide, n = factor:dtype(), { t.p:count() }
  local function scratch(dtype) return tensor.zeros(n, { dtype = dtype, device = t.p:device() }) end
  local g = tensor.cast(t.g, wide)  -- bf16 gradients are no kernel's beside scratch in f32
  local direction = ops.mul(g, factor)
  kernels.axpby(direction, t.m, beta1, 1 - beta1)
  adamw(t.p, t.master, scratch(wide), scratch(wide), sign(direction), made, for_p)
  adamw(scratch(wide), nil, t.m, scratch(t.m:dtype()), g, scale, for_m)
end

--- Enqueue the update of a run of weights; see `cft.train.optim`.
function M.update(t, scale, o, at)
  for_p.lr, for_p.decay, for_p.eps, for_p.step = at.lr, at.decay, 1e-30, 1  -- eps: sign(0) is 0
  for_m.beta1, for_m.eps, for_m.step = o.beta2, 1, at.count
  tensor.scope(tensor.as_class, "workspace", function()
    local made = scale:scale(0)  -- 1 or NaN, unused, and 1 where a weight is no finite number
    kernels.axpby(tensor.narrow(made, 0, 0, 1), tensor.zeros({ 1 }, { device = scale:device() }):fill_(1), 1, 1)
    local factor = tensor.cast(tensor.narrow(scale, 0, 0, 1), t.p:dtype() == "f64" and "f64" or "f32")
    for from = 0, t.p:count() - 1, CHUNK do
      -- the kernel takes p's words by `step`, which is 1 here, and by its place in the chunk
      for_p.seed = at.seed + at.count * 0x9E3779B97F4A7C15ULL + from * 0xBF58476D1CE4E5B9ULL
      for_m.seed = for_p.seed
      tensor.scope(function()
        local part = {}
        for kind, flat in pairs(t) do
          part[kind] = tensor.narrow(flat, 0, from, math.min(CHUNK, flat:count() - from))
        end
        update_chunk(part, scale, factor, made, o.beta1)
      end)
    end
    kernels.axpby(tensor.narrow(scale, 0, 2, 1), tensor.narrow(made, 0, 2, 1), 1, 1)
  end)
end

return M
