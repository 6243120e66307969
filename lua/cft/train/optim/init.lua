--- AdamW over a model's groups, with the global norm and its clip.

local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"
local C, ffi = door.C, door.ffi

local M = {}
local AdamW = {}
AdamW.__index = AdamW

local spec = {
  beta1 = { "number", 0.9, min = 0, max = 1 }, beta2 = { "number", 0.999, min = 0, max = 1 },
  eps = { "number", 1e-8, min = 0 }, weight_decay = { "number", 0, min = 0 },
  clip = { "number", 1, min = 0 },           -- 0: no clip
  master = { "boolean", true },              -- f32 weights beside bf16 ones; else stochastic rounding
  moments = { "string", "f32", one_of = { "f32", "bf16" } },
  seed = { "integer", 0, min = 0 },          -- of the stochastic rounding
}

--- AdamW (Loshchilov & Hutter 2019) with the defaults of Hugging Face's Trainer. Weight decay is
-- for matrices: none on biases and norms.
-- @tparam Model model @tab[opt] opts `beta1`, `beta2`, `eps`, `weight_decay`, `clip`, `master`, `moments`
-- @treturn AdamW
function M.adamw(model, opts)
  local self = setmetatable(check.options("optim.adamw", opts or {}, spec), AdamW)
  self.model, self.count, self.slots = model, 0, {}
  local wide = model.dtype == "f64" and "f64" or "f32"
  local moments = model.dtype == "f64" and "f64" or self.moments
  model:zero_grad()
  tensor.as_class("optim", function()
    for i, g in ipairs(model.groups) do
      local n, device = { g.flat:count() }, { dtype = moments, device = model.device }
      local s = { m = tensor.zeros(n, device):keep(), v = tensor.zeros(n, device):keep() }
      if model.dtype == "bf16" and self.master then s.master = tensor.cast(g.flat, wide):keep() end
      self.slots[i] = s
    end
    self.sum = tensor.zeros({ 1 }, { dtype = "f64", device = model.device }):keep()
    self.scale = tensor.zeros({ 2 }, { device = model.device }):keep()
  end)
  return self
end

local adamw, options = door.call(C.cft_adamw_step, 7), ffi.new "cft_adamw_options"
local sum_squares, clip_scale = door.call(C.cft_sum_squares, 3), door.call(C.cft_clip_scale, 4)

-- The part of a group's buffers that decay applies to, and the rest.
local function halves(g)
  local n = g.flat:count()
  return { { 0, g.decayed, true }, { g.decayed, n - g.decayed, false } }
end

--- Queue one update from the gradients that the model holds; nothing waits for the device. Where the
-- gradient's norm or one of the losses is no finite number, the device itself leaves weights and moments
-- as they are. Whether it did is told to `settle` when the norm, `scale[1]`, has been read.
-- @number lr
-- @number[opt=1] weight what the summed loss is divided by: the sum of weights of the whole update
-- @tab[opt] losses tensors that must be finite as well
function AdamW:queue(lr, weight, losses)
  self.sum:zero_()
  for _, g in ipairs(self.model.groups) do sum_squares(self.sum, g.grad, 1) end
  -- Times 0, what is finite adds nothing; infinity and NaN make the sum NaN.
  for _, loss in ipairs(losses or {}) do sum_squares(self.sum, loss, 0) end
  clip_scale(self.scale, self.sum, 1 / (weight or 1), self.clip)
  self.count = self.count + 1
  options.lr, options.beta1, options.beta2, options.eps = lr, self.beta1, self.beta2, self.eps
  options.step = self.count
  for i, g in ipairs(self.model.groups) do
    local s = self.slots[i]
    for half, part in ipairs(halves(g)) do
      if part[2] > 0 then
        options.decay = part[3] and self.weight_decay or 0
        options.seed = self.seed + 2 * i + half  -- no two buffers round alike
        local function cut(t) return t and tensor.narrow(t, 0, part[1], part[2]) end
        local views = { cut(g.flat), cut(s.master), cut(s.m), cut(s.v), cut(g.grad) }
        adamw(views[1], views[2], views[3], views[4], views[5], self.scale, options)
        for j = 1, 5 do if views[j] then views[j]:release() end end
      end
    end
  end
end

--- What a queued update came to. @number norm as it was read
-- @treturn boolean whether it was made; one that was not does not count
function AdamW:settle(norm)
  local made = norm == norm and norm < math.huge
  if not made then self.count = self.count - 1 end
  return made
end

--- `queue`, and wait for what it comes to.
-- @treturn number the gradient's norm before the clip; where that is NaN or infinite, nothing was updated
function AdamW:step(lr, weight)
  self:queue(lr, weight)
  local norm = (self.scale:to_host())[1]
  self:settle(norm)
  return norm
end

--- Moments and master weights by parameter name, as views, for saving and resuming.
-- @treturn function iterator of name, "m" | "v" | "master", Tensor
function AdamW:named()
  return coroutine.wrap(function()
    for i, g in ipairs(self.model.groups) do
      for _, p in ipairs(g.parts) do
        for _, kind in ipairs { "m", "v", "master" } do
          local flat = self.slots[i][kind]
          if flat then coroutine.yield(p.name, kind, g:part(flat, p)) end
        end
      end
    end
  end)
end

function AdamW:release()
  for _, s in ipairs(self.slots) do
    for _, t in pairs(s) do t:release() end
  end
  self.sum:release()
  self.scale:release()
end

return M
