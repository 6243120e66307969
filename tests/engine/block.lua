-- tensor.block: what a block of a model leaves behind.

local autograd = require "cft.engine.autograd"
local expect = require "tests.expect"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local function layer(made)  -- what it makes is listed in `made`
  return function(x, w)
    local y = ops.linear(x, w)
    local z = y:square()
    local out = ops.scale(z, 2)
    made.y, made.z, made.out = y, z, out
    return out
  end
end

local function input() return tensor.new({ { 1, 2 }, { 3, 4 } }, { requires_grad = true }) end

return {
  { "block: without recording all but the result is released", function()
    tensor.scope(autograd.no_grad, function()
      local made, x = {}, input()
      local out = tensor.block(layer(made), x, x)
      expect.same({ made.y.c, made.z.c }, {})
      expect.truthy(out == made.out and out.c ~= nil and x.c ~= nil, "the result and what came in stay")
      expect.raises("released when the forward pass needed it no more", ops.exp, made.y)
    end)
  end },
  { "block: recording, what a rule saved stays, and the gradient is the same", function()
    local function gradient(run)
      local x, made = input(), {}
      tensor.scope(function()
        local out = run(layer(made), x, x)
        expect.truthy(made.y.c ~= nil, "square saved it")
        if run == tensor.block then expect.same(made.z.c ~= nil, true, "square saved its result") end
        ops.sum(run(layer {}, out, x)):backward()
      end)
      return op.numbers(x.grad)
    end
    expect.same(gradient(tensor.block), gradient(function(f, ...) return f(...) end))
  end },
  { "block: what one returned is released by the next, if nothing saved it", function()
    tensor.scope(autograd.no_grad, function()
      local x = input()
      local first = tensor.block(layer {}, x, x)
      local second = tensor.block(layer {}, first, x)
      expect.same(first.c, nil)
      local third = tensor.block(function(t) return t end, second)
      expect.truthy(third == second and second.c ~= nil, "unless the next returns it")
      second:keep()
      tensor.block(layer {}, second, x)
      expect.truthy(second.c ~= nil, "or it was told to keep")
      second:release()
    end)
  end },
  { "block: outside of a scope, and with nil among its values", function()
    local made, x = {}, input()
    local none, out = autograd.no_grad(tensor.block, function(t) return nil, layer(made)(t, t) end, x)
    expect.same(none, nil)
    expect.truthy(out.c ~= nil and made.z.c == nil, "the rest is released")
  end },
  { "block: an error passes through, and the scope releases what was made", function()
    local made, x = {}, input()
    expect.raises("stop here", tensor.scope, function()
      tensor.block(function() layer(made)(x, x) error("stop here", 0) end)
    end)
    expect.same(made.out.c, nil)
    expect.truthy(x.c ~= nil, "what came in stays")
  end },
}
