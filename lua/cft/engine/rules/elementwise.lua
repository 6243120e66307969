--- Rules of elementwise ops.

local door = require "cft.engine.ffi"
local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"
local u, b = kernels.unary, kernels.binary

local rule = {}

-- The slope of each f(x), a tensor of x's shape: dx = dy * slope(x, y).
local slopes = {
  exp = function(_, y) return y end,
  log = function(x) return u("reciprocal", x) end,
  sqrt = function(_, y) return u("reciprocal", y, 0.5) end,
  rsqrt = function(x, y) return u("neg", b("div", y, x), 0.5) end,
  sin = function(x) return u("cos", x) end,
  cos = function(x) return u("sin", x, -1) end,
  relu = function(x) return u("step", x) end,
  square = function(x) return u("neg", x, -2) end,
  reciprocal = function(_, y) return u("square", y, -1) end,
  tanh = function(_, y)  -- 1 - y^2
    local s = u("square", y, -1)
    return b("add", s, tensor.ones({ 1 }, { dtype = s:dtype(), device = s:device() }))
  end,
  sigmoid = function(_, y) return b("sub", y, u("square", y)) end,
  silu = function(x, y)  -- s + y (1 - s)
    local s = u("sigmoid", x)
    return b("sub", b("add", s, y), b("mul", y, s))
  end,
  abs = function(x) return b("sub", u("step", x), u("step", u("neg", x))) end,
}

for f, slope in pairs(slopes) do
  rule[f] = {
    method = true,
    forward = function(ctx, x)
      local y = u(f, x)
      ctx:save(x, y)
      return y
    end,
    backward = function(ctx, dy) return b("mul", dy, slope(ctx:saved())) end,
  }
end

-- y = alpha * x, alpha a Lua number.
rule.scale = {
  method = true,
  forward = function(ctx, x, alpha)
    door.number("scale", "alpha", alpha)
    ctx:save(alpha)
    return u("neg", x, -alpha)
  end,
  backward = function(ctx, dy) return u("neg", dy, -ctx:saved()) end,
}

local function binary(f, dx, dy)
  return {
    forward = function(ctx, x, y) ctx:save(x, y) return b(f, x, y) end,
    backward = function(ctx, g)
      local x, y = ctx:saved()
      return ctx:needs(1) and dx(g, x, y), ctx:needs(2) and kernels.unbroadcast(dy(g, x, y), y)
    end,
  }
end

local function same(g) return tensor.cast(g, g:dtype()) end
rule.add = binary("add", same, same)
rule.sub = binary("sub", same, function(g) return u("neg", g) end)
rule.mul = binary("mul", function(g, _, y) return b("mul", g, y) end, function(g, x) return b("mul", g, x) end)
rule.div = binary("div", function(g, _, y) return b("div", g, y) end,
                  function(g, x, y) return u("neg", b("div", b("div", b("mul", g, x), y), y)) end)  -- -g x / y^2

return rule
