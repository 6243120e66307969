--- Ops as functions and as methods and operators of tensors. Their gradients are in
-- `cft.engine.rules`; `ops.define` adds one of your own.

local autograd = require "cft.engine.autograd"
local kernels = require "cft.engine.kernels"
local rules = require "cft.engine.rules"
local tensor = require "cft.engine.tensor"
local blame = require "cft.base.blame"

local M = {}
local Tensor = tensor.Tensor

for name, rule in pairs(rules) do
  local op = autograd.op(name, rule)
  M[name] = function(x, ...)
    if not tensor.is(x) then blame("%s: a tensor is wanted, got %s", name, type(x)) end
    return op(x, ...)
  end
  if rule.method then Tensor[name] = M[name] end
end

--- Add an op with its gradient.
-- @string name how it is called: `ops.NAME(...)`, and `x:NAME(...)`
-- @tab rule `forward(ctx, ...)` and `backward(ctx, dy)`, see `cft.engine.rules`
-- @usage cft.ops.define("double", {
--   forward = function(ctx, x) return x:scale(2) end,
--   backward = function(ctx, dy) return dy:scale(2) end,
-- })
function M.define(name, rule)
  if type(rule) ~= "table" or type(rule.forward) ~= "function" or type(rule.backward) ~= "function" then
    blame(("ops.define '%s': a rule is { forward = function, backward = function }"):format(name))
  end
  -- Ops used inside of a rule are its own business, not the tape's.
  local op = autograd.op(name, {
    differentiable = rule.differentiable,
    forward = function(...) return autograd.no_grad(rule.forward, ...) end,
    backward = rule.backward,
  })
  M[name], Tensor[name] = op, op
  return op
end

-- A number beside a tensor is a tensor of one number.
local function operand(v, like)
  if type(v) == "number" then
    return tensor.full({ 1 }, v, { dtype = like:dtype(), device = like:device() })
  end
  return v
end

function Tensor.__add(a, b)
  if type(a) == "number" then a, b = b, a end
  return M.add(a, operand(b, a))
end

function Tensor.__mul(a, b)
  if type(a) == "number" then a, b = b, a end
  if type(b) == "number" then return M.scale(a, b) end
  return M.mul(a, b)
end

function Tensor.__sub(a, b)
  if type(a) == "number" then return M.add(M.scale(b, -1), operand(a, b)) end
  return M.sub(a, operand(b, a))
end

function Tensor.__div(a, b)
  if type(a) == "number" then return M.scale(M.reciprocal(b), a) end
  if type(b) == "number" then return M.scale(a, 1 / b) end
  return M.div(a, b)
end

function Tensor.__unm(a) return M.scale(a, -1) end

--- The mean of all numbers.
function Tensor:mean() return M.scale(M.sum(self), 1 / self:count()) end

--- The largest of each row, or the place of it (i32); no gradient flows through either.
function Tensor:max(dim) return kernels.reduction("maximum", self, dim) end
function Tensor:argmax(dim) return kernels.reduction("argmax", self, dim) end

return M
