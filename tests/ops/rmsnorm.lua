local op = require "tests.op"
local ops = require "cft.engine.ops"

local function reference(flat, shapes)  -- doubles, one row at a time, no cleverness
  local x, w, d, eps = flat[1], flat[2], shapes[2][1], 1e-6
  local y = {}
  for row = 0, #x / d - 1 do
    local ss = 0
    for j = 1, d do ss = ss + x[row * d + j] ^ 2 end
    for j = 1, d do y[row * d + j] = w[j] * x[row * d + j] / math.sqrt(ss / d + eps) end
  end
  return y
end

local width = { w = function(case) return { case.x[#case.x] } end }
local tests = op.run("rmsnorm", { "x", "w" }, reference, {
  { "one row", x = { 1, 8 }, args = { 1e-6 } },
  { "odd width", x = { 3, 7 }, args = { 1e-6 } },             -- fits no vector load
  { "a vector", x = { 9 }, args = { 1e-6 } },                 -- of w's own shape
  { "leading dims", x = { 2, 3, 16 }, args = { 1e-6 } },
  { "many rows", x = { 67, 40 }, args = { 1e-6 } },           -- several blocks of dw's sum
  { "no rows", x = { 0, 16 }, args = { 1e-6 } },
  { "huge values", x = { 2, 8 }, scale = 1e15, args = { 1e-6 }, },
  { "no columns", x = { 3, 0 }, args = { 1e-6 }, raises = "an empty row has no mean" },
  { "w too short", x = { 2, 8 }, w = { 7 }, args = { 1e-6 }, raises = "w is %(7%) but x is %(2, 8%)" },
  { "no eps", x = { 2, 8 }, args = { 0 }, raises = "eps is 0" },
}, { default = width })

-- y and the sum both carry gradient: added, so that one scalar sees both paths.
local function both(inputs, case)
  local y, s = ops.add_rmsnorm(inputs[1], inputs[2], inputs[3], case.eps or 1e-6)
  return y + s
end
local function reference_add(flat, shapes)
  local s = {}
  for i, v in ipairs(flat[1]) do s[i] = v + flat[2][i] end
  local y = reference({ s, flat[3] }, { shapes[1], shapes[3] })
  for i, v in ipairs(s) do y[i] = y[i] + v end
  return y
end
for _, t in ipairs(op.run("add_rmsnorm", { "x", "residual", "w" }, reference_add, {
  { "one row", x = { 1, 8 } },
  { "a vector", x = { 9 } },
  { "odd", x = { 5, 7 } },
  { "many rows", x = { 40, 24 } },
  { "residual of another shape", x = { 5, 7 }, residual = { 4, 7 }, raises = "residual is %(4, 7%)" },
}, { default = width, call = both })) do tests[#tests + 1] = t end
return tests
