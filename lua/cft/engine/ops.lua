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
-- cft.tensor({ 1, 2 }):double()   --> (2) f32 on cpu {2, 4}
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

-- ---- rows by number ----------------------------------------------------------------------------

-- Rows count from 1, as in a Lua table and in `to_table`; the dimensions of `narrow` and the like from 0.
local function check_row(t, i)
  local n = t:dim(0)
  if i ~= math.floor(i) or i < 1 or i > n then blame("x[%s]: a row from 1 to %d is wanted", tostring(i), n) end
end

local function row(t, i)
  check_row(t, i)
  if t:ndim() == 1 then return tensor.narrow(t, 0, i - 1, 1):item() end
  return M.reshape(M.narrow(t, 0, i - 1, 1), { select(2, t:dims()) })
end

local function set_row(t, i, value)
  check_row(t, i)
  local to = tensor.narrow(t, 0, i - 1, 1)
  if type(value) == "number" then return to:fill_(value) end
  if not tensor.is(value) then value = tensor.new(value, { dtype = t:dtype(), device = t:device() }) end
  to:copy_(tensor.reshape(tensor.contiguous(value), to:shape()))
end

Tensor.__methods = Tensor  -- what Tab lists

--- Row `i` of x, from 1: a view through which the gradient flows; of one dimension, a number.
function Tensor.__index(t, key)
  if type(key) == "number" then return row(t, key) end
  return Tensor[key]
end

--- `x[i] = v`, a number, a tensor or a table, overwrites row `i`; the tape does not see it.
function Tensor.__newindex(t, key, value)
  if type(key) == "number" then return set_row(t, key, value) end
  rawset(t, key, value)
end

--- The mean of all numbers.
-- @usage cft.tensor({ 1, 2, 6 }):mean()   --> () f32 on cpu 3
function Tensor:mean() return M.scale(M.sum(self), 1 / self:count()) end

--- The largest of each row; no gradient flows through it. @int[opt] dim from 0; of all numbers if nil
-- @usage cft.tensor({ { 1, 5 }, { 7, 2 } }):max(1), cft.tensor({ 1, 5, 3 }):max():item()   --> (2) f32 on cpu {5, 7} 5
function Tensor:max(dim) return kernels.reduction("maximum", self, dim) end

--- The place of the largest of each row, i32. @int[opt] dim from 0
-- @usage cft.tensor({ { 1, 5 }, { 7, 2 } }):argmax(1)   --> (2) i32 on cpu {1, 0}
function Tensor:argmax(dim) return kernels.reduction("argmax", self, dim) end

return M
