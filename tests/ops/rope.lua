local expect = require "tests.expect"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local rope = require "cft.nn.rope"
local tensor = require "cft.engine.tensor"

local function tables(x, d)
  d = math.floor(d / 2) * 2
  local wide = x:dtype() == "f64" and "f64" or "f32"
  return rope.tables(32, rope.frequencies(d, 100), d, wide, x:device())
end

local function call(inputs, case)
  local x = inputs[1]
  local cos, sin = tables(x, case.x[2] / case.heads)
  local at = tensor.new(case.at, { dtype = "i32" })
  if x:device() ~= at:device() then at = at:to(x:device()) end
  return ops.rope(x, cos, sin, at, case.heads)
end

local function reference(flat, shapes, case)
  local n, width = shapes[1][1], shapes[1][2]
  local d = width / case.heads
  local f, y = rope.frequencies(d, 100), {}
  for i = 0, n - 1 do
    for h = 0, case.heads - 1 do
      for j = 0, d / 2 - 1 do
        local a = case.at[i + 1] * f[j]
        local p, q = i * width + h * d + j + 1, i * width + h * d + j + d / 2 + 1
        y[p] = flat[1][p] * math.cos(a) - flat[1][q] * math.sin(a)
        y[q] = flat[1][q] * math.cos(a) + flat[1][p] * math.sin(a)
      end
    end
  end
  return y
end

local tests = op.run("rope", { "x" }, reference, {
  { "one head", x = { 3, 6 }, heads = 1, at = { 0, 1, 2 } },
  { "heads, positions that start again", x = { 5, 24 }, heads = 3, at = { 0, 1, 0, 1, 31 } },
  { "odd heads", x = { 2, 9 }, heads = 3, at = { 0, 1 }, raises = "must be 3 heads of even width" },
  { "a position outside the tables", x = { 2, 8 }, heads = 2, at = { 0, 32 }, raises = "position%[1%] is 32" },
}, { call = call })

tests[#tests + 1] = { "rope: linear and llama3 scalings", function()
  local plain = rope.frequencies(16, 10000)
  local linear = rope.frequencies(16, 10000, { type = "linear", factor = 4 })
  expect.close(linear[3], plain[3] / 4, 1e-7)
  local s = { type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4,
              original_max_position_embeddings = 8192 }
  local l = rope.frequencies(64, 500000, s)
  local p = rope.frequencies(64, 500000)
  expect.close(l[0], p[0], 1e-7)            -- short waves stay
  expect.close(l[31], p[31] / 8, 1e-9, nil, 1e-9)  -- long ones are stretched in full
end }
return tests
