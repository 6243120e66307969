-- x[i] and x[i] = v: rows from 1, with a gradient where they are read; how tensors are shown.
local cft = require "cft"
local expect = require "tests.expect"

local function matrix(opts) return cft.tensor({ { 1, 2 }, { 3, 4 }, { 5, 6 } }, opts) end

return {
  { "a row is a view, a number of one dimension", function()
    local x = matrix()
    expect.same(x[2]:to_table(), { 3, 4 })
    expect.same({ x[3][2], x[1]:ndim() }, { 6, 1 })
    expect.truthy(x[2]:shares(x))
  end },
  { "the gradient flows through a row", function()
    local x = matrix { requires_grad = true };
    (x[2] * x[2]):sum():backward()
    expect.same(x.grad:to_table(), { { 0, 0 }, { 6, 8 }, { 0, 0 } })
  end },
  { "a row is overwritten by a number, a table, a tensor", function()
    local x = matrix()
    x[1], x[2], x[3] = 7, { 8, 9 }, cft.ones { 2 }
    expect.same(x:to_table(), { { 7, 7 }, { 8, 9 }, { 1, 1 } })
    local v = cft.zeros({ 2 }, { dtype = "bf16" })
    v[2] = 0.5
    expect.same(v:to_table(), { 0, 0.5 })
  end },
  { "what is no row is an error, read and written", function()
    local x = matrix()
    for _, i in ipairs { 0, 4, -1, 1.5, 0 / 0, 1 / 0 } do
      expect.raises("a row from 1 to 3 is wanted", function() return x[i] end)
      expect.raises("a row from 1 to 3 is wanted", function() x[i] = 1 end)
    end
    expect.raises("shape", function() x[1] = { 1, 2, 3 } end)
    expect.same({ x.nothing, x:to_table()[1] }, { nil, { 1, 2 } })
  end },
  { "a large tensor shows corners, min, mean, max and NaNs", function()
    local x = cft.zeros { 200, 100 }
    x[1], x[200] = 4, -2
    local text = tostring(x)
    expect.match(text, "^%(200, 100%) f32 on cpu; min %-2, mean 0%.01, max 4\n{{4, 4, 4, 4, %.%.%., 4, 4, 4},\n")
    expect.match(text, "{%-2, %-2, %-2, %-2, %.%.%., %-2, %-2, %-2}}$")
    x[2] = 0 / 0
    expect.match(tostring(x), "min %-2, mean [%d.e-]+, max 4, 100 NaN\n")
    expect.match(tostring(cft.full({ 20000 }, 0 / 0)), "; 20000 NaN\n{")
    expect.match(tostring(cft.ones { 3, 50, 2, 100 }), "max 1\n{{{{1, 1, 1, 1, %.%.%., 1, 1, 1},")
  end },
}
