local expect = require "tests.expect"
local finally = require "cft.base.finally"
local kernels = require "cft.engine.kernels"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local function reference(flat, shapes)
  local x, w, b = flat[1], flat[2], flat[3]
  local o, k = shapes[2][1], shapes[2][2]
  local y = {}
  for row = 0, #x / math.max(k, 1) - 1 do
    for j = 0, o - 1 do
      local sum = b and b[j + 1] or 0
      for i = 1, k do sum = sum + x[row * k + i] * w[j * k + i] end
      y[#y + 1] = sum
    end
  end
  return y
end

local tests = op.run("linear", { "x", "w", "b" }, reference, {
  { "one row", x = { 1, 8 }, w = { 3, 8 }, b = { 3 } },
  { "odd everything", x = { 5, 7 }, w = { 11, 7 }, b = { 11 } },
  { "leading dims", x = { 2, 3, 16 }, w = { 5, 16 }, b = { 5 } },
  { "one output", x = { 1 }, w = { 1, 1 }, b = { 1 } },
  { "wide", x = { 9, 33 }, w = { 35, 33 }, b = { 35 } },
  { "no rows", x = { 0, 4 }, w = { 3, 4 }, b = { 3 } },
  { "w of another width", x = { 2, 8 }, w = { 3, 7 }, b = { 3 }, raises = "w is %(3, 7%) but x is %(2, 8%)" },
  { "b of another width", x = { 2, 8 }, w = { 3, 8 }, b = { 4 }, raises = "b is %(4%) but w is %(3, 8%)" },
})
for _, t in ipairs(op.run("linear", { "x", "w" }, reference, {
  { "without bias", x = { 4, 6 }, w = { 3, 6 } },
  { "a square", x = { 5, 5 }, w = { 5, 5 } },
})) do tests[#tests + 1] = t end

local function product(flat, shapes)
  local a, b = flat[1], flat[2]
  local m, k, n = shapes[1][1], shapes[1][2], shapes[2][2]
  local y = {}
  for i = 0, m - 1 do
    for j = 1, n do
      local sum = 0
      for l = 0, k - 1 do sum = sum + a[i * k + l + 1] * b[l * n + j] end
      y[#y + 1] = sum
    end
  end
  return y
end
for _, t in ipairs(op.run("matmul", { "a", "b" }, product, {
  { "odd", a = { 3, 5 }, b = { 5, 7 } },
  { "squares", a = { 4, 4 }, b = { 4, 4 } },
  { "a column", a = { 4, 9 }, b = { 9, 1 } },
  { "inner dimensions differ", a = { 3, 5 }, b = { 4, 7 }, raises = "inner dimensions must be equal" },
})) do tests[#tests + 1] = t end

-- What generation stands on: a row's product has the same bits alone, among few and among many, in its own order of sums
-- (dots.h) and in training's.
local function rows_alone()
  for _, dtype in ipairs { "f32", "bf16", "f64" } do
    for _, size in ipairs { { 576, 960 }, { 64, 48 }, { 63, 50 }, { 1536, 100 }, { 5000, 33 }, { 131, 17 }, { 1, 1 } } do
      local k, n = unpack(size)
      tensor.scope(function()
        local function make(dims, seed) return tensor.randn(dims, { seed = seed }):to(dtype) end
        local x, w, b = make({ 64, k }, 1), make({ n, k }, 2), make({ n }, 3)
        local all = op.numbers(ops.linear(x, w, b))
        for _, m in ipairs { 1, 2, 3, 7, 8, 15, 32, 33 } do
          local few = op.numbers(ops.linear(tensor.narrow(x, 0, 7, m), w, b))
          for i, v in ipairs(few) do
            if v ~= all[7 * n + i] then
              error(("%s, k %d, n %d, %d rows: [%d] is %a, among 64 %a"):format(dtype, k, n, m, i - 1, v, all[7 * n + i]), 0)
            end
          end
        end
      end)
    end
  end
end
for _, alone in ipairs { true, false } do
  local order = alone and "generation's order" or "training's order"
  tests[#tests + 1] = { "linear: the bits of a row do not depend on how many there are, in " .. order, function()
    local was = tensor.set_rows_alone("cpu", alone)
    finally(function() tensor.set_rows_alone("cpu", was) end, rows_alone)
  end }
end

tests[#tests + 1] = { "logits: linear in f32 where x is bf16", function()
  tensor.scope(function()
    local x, w = tensor.randn({ 5, 70 }, { seed = 1 }):to "bf16", tensor.randn({ 33, 70 }, { seed = 2 }):to "bf16"
    local y = kernels.logits(x, w)
    expect.same(y:dtype(), "f32")
    op.agree(op.numbers(y), op.numbers(kernels.logits(x:to "f64", w:to "f64")), 1e-5, "bf16 in, f32 out")
    expect.raises("w is %(4, 3%) but x is %(5, 70%)", function() kernels.logits(x, tensor.zeros({ 4, 3 }, { dtype = "bf16" })) end)
  end)
end }
return tests
