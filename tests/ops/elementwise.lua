local expect = require "tests.expect"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local tests = {}
local function add(list) for _, t in ipairs(list) do tests[#tests + 1] = t end end

local sigmoid = function(v) return 1 / (1 + math.exp(-v)) end
local unary = {
  exp = math.exp, sin = math.sin, cos = math.cos, tanh = math.tanh, abs = math.abs, sigmoid = sigmoid,
  relu = function(v) return math.max(v, 0) end, square = function(v) return v * v end,
  silu = function(v) return v * sigmoid(v) end,
}
local positive = { log = math.log, sqrt = math.sqrt, rsqrt = function(v) return 1 / math.sqrt(v) end,
                   reciprocal = function(v) return 1 / v end }

for name, f in pairs(unary) do
  add(op.run(name, { "x" }, function(flat)
    local y = {}
    for i, v in ipairs(flat[1]) do y[i] = f(v) end
    return y
  end, { { "odd count", x = { 3, 11 } }, { "none", x = { 0, 3 } } }))
end
for name, f in pairs(positive) do  -- of x^2 + 0.5
  add(op.run(name, { "x" }, function(flat)
    local y = {}
    for i, v in ipairs(flat[1]) do y[i] = f(v * v + 0.5) end
    return y
  end, { { "odd count", x = { 3, 11 } } },
  { call = function(inputs) return ops[name](inputs[1]:square() + 0.5) end }))
end

local arithmetic = {
  add = function(a, b) return a + b end, sub = function(a, b) return a - b end,
  mul = function(a, b) return a * b end, div = function(a, b) return a / b end,
}
for name, f in pairs(arithmetic) do
  add(op.run(name, { "a", "b" }, function(flat, shapes)
    local y, d, b, sb = {}, shapes[1][#shapes[1]], flat[2], shapes[2]
    for i, v in ipairs(flat[1]) do
      local row, col = math.floor((i - 1) / d), (i - 1) % d
      local j
      if #b == #flat[1] then j = i elseif #b == 1 then j = 1
      elseif #sb == 1 then j = col + 1 else j = row + 1 end
      y[i] = f(v, b[j] * b[j] + 0.5)
    end
    return y
  end, {
    { "same shape", a = { 3, 5 }, b = { 3, 5 } },
    { "a row", a = { 4, 5 }, b = { 5 } },
    { "a number a row", a = { 4, 5 }, b = { 4, 1 } },
    { "one number", a = { 4, 5 }, b = { 1 } },
    { "shapes that do not fit", a = { 4, 5 }, b = { 3 }, raises = "binary: %(4, 5%) and %(3%)" },
  }, { call = function(inputs) return ops[name](inputs[1], inputs[2]:square() + 0.5) end }))
end

for dim = -1, 2 do
  add(op.run("sum", { "x" }, function(flat, shapes)
    local x, s = flat[1], shapes[1]
    local y = {}
    for i = 0, s[1] - 1 do
      for j = 0, s[2] - 1 do
        for k = 0, s[3] - 1 do
          local to = dim == -1 and 0 or dim == 0 and j * s[3] + k or dim == 1 and i * s[3] + k or i * s[2] + j
          y[to + 1] = (y[to + 1] or 0) + x[(i * s[2] + j) * s[3] + k + 1]
        end
      end
    end
    return y
  end, { { "dimension " .. dim, x = { 3, 4, 5 } } },
  { call = function(inputs) return inputs[1]:sum(dim) end }))
end

local function same(flat) return flat[1] end
add(op.run("reshape", { "x" }, same, { { "to a vector", x = { 3, 4 } } },
           { call = function(i) return i[1]:reshape { 12 } end }))
add(op.run("narrow", { "x" }, nil, { { "columns", x = { 3, 4 } } },
           { call = function(i) return i[1]:narrow(1, 1, 2):contiguous() end }))
add(op.run("transpose", { "x" }, nil, { { "two", x = { 3, 4 } } },
           { call = function(i) return i[1]:transpose(0, 1):contiguous() end }))

local function test(name, fn) tests[#tests + 1] = { name, fn } end

test("cast: bf16 rounds to nearest even, NaN stays", function()
  local x = tensor.new { 1, 1.00390625, 1.01171875, 0 / 0, 1 / 0, -3.0e38 }
  local y = op.numbers(x:to "bf16")
  expect.same({ y[1], y[2], y[3], y[5] }, { 1, 1, 1.015625, 1 / 0 })
  expect.truthy(y[4] ~= y[4], "NaN")
end)
test("cast: gradients come back in the input's dtype", function()
  local x = tensor.new({ 1, 2, 3 }, { requires_grad = true })
  x:cast("f64"):square():sum():backward()
  expect.same(x.grad:dtype(), "f32")
  expect.same(op.numbers(x.grad), { 2, 4, 6 })
end)
test("max and argmax take the first of equals", function()
  local x = tensor.new { { 1, 5, 5 }, { -1, -2, -1 } }
  expect.same(x:argmax(1):to_table(), { 1, 0 })
  expect.same(x:max(1):to_table(), { 5, -1 })
end)
test("operators with numbers", function()
  local x = tensor.new { 1, 2 }
  expect.same((2 - x):to_table(), { 1, 0 })
  expect.same((4 / x):to_table(), { 4, 2 })
  expect.same((-x * 3 + 1):to_table(), { -2, -5 })
  expect.same(x:mean():item(), 1.5)
end)
test("random numbers are a function of seed and counter", function()
  local a = tensor.randn({ 1000 }, { seed = 7, counter = 3 })
  local b = tensor.randn({ 1000 }, { seed = 7, counter = 3 })
  local c = tensor.randn({ 1000 }, { seed = 7, counter = 4 })
  expect.same(op.numbers(a), op.numbers(b))
  expect.truthy(op.numbers(a)[1] ~= op.numbers(c)[1], "another counter, other numbers")
  expect.close(a:mean():item(), 0, 0.15)
  expect.close(a:square():mean():item(), 1, 0.15)
end)
test("a dtype that an op does not take", function()
  expect.raises("i32; f32, bf16 or f64 wanted", function() ops.exp(tensor.zeros({ 2 }, { dtype = "i32" })) end)
  expect.raises("one tensor is f32, another bf16", function()
    ops.add(tensor.zeros { 2 }, tensor.zeros({ 2 }, { dtype = "bf16" }))
  end)
end)
return tests
