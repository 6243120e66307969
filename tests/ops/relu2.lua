local expect = require "tests.expect"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local function reference(flat)
  local y = {}
  for i, v in ipairs(flat[1]) do y[i] = math.max(v, 0) ^ 2 end
  return y
end

local tests = op.run("relu2", { "x" }, reference, {
  { "a vector", x = { 9 } },
  { "odd width", x = { 3, 7 } },
  { "leading dims", x = { 2, 3, 5 } },
  { "large values", x = { 4, 6 }, scale = 40 },
  { "nothing", x = { 0, 4 } },
})
local function add(name, fn) tests[#tests + 1] = { "relu2: " .. name, fn } end

add("relu and square, one after the other", function()
  local function of(f)
    local x = tensor.randn({ 5, 8 }, { seed = 3 })
    x.requires_grad = true
    local y = f(x)
    y:sum():backward()
    return { op.numbers(y), op.numbers(x.grad) }
  end
  expect.same(of(ops.relu2), of(function(x) return x:relu():square() end))
end)

add("a second use of x adds to its gradient", function()
  local x = tensor.new({ -1, 0, 3 })
  x.requires_grad = true
  (ops.relu2(x) + ops.relu2(x)):sum():backward()
  expect.same(op.numbers(x.grad), { 0, 0, 12 })
end)

add("what it does not take", function()
  expect.raises("relu2: x %(2, 3%) is not contiguous", function() ops.relu2(tensor.ones({ 3, 2 }):transpose(0, 1)) end)
  expect.raises("relu2: a tensor %(2%) is i32", function() ops.relu2(tensor.new({ 1, 2 }, { dtype = "i32" })) end)
end)

-- y = w2 relu2(w1 x), by plain gradient steps.
add("a model of two layers learns by it", function()
  local x, wanted = tensor.randn({ 16, 4 }, { seed = 1 }), tensor.randn({ 16, 2 }, { seed = 2 })
  local w1, w2 = tensor.randn({ 12, 4 }, { seed = 3 }), tensor.randn({ 2, 12 }, { seed = 4 })
  w1, w2 = w1:scale(0.3):detach(), w2:scale(0.3):detach()
  w1.requires_grad, w2.requires_grad = true, true
  local losses = {}
  for i = 1, 60 do
    local loss = (ops.linear(ops.relu2(ops.linear(x, w1)), w2) - wanted):square():mean()
    losses[i] = loss:item()
    loss:backward()
    for _, w in ipairs { w1, w2 } do
      w:copy_(w:detach() - w.grad:scale(0.05))
      w.grad = nil
    end
  end
  expect.truthy(losses[60] < 0.7 * losses[1], ("from %g to %g"):format(losses[1], losses[60]))
end)

return tests
