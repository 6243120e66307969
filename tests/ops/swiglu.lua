local op = require "tests.op"

local function reference(flat, shapes)
  local x, width = flat[1], shapes[1][#shapes[1]]
  local d, y = width / 2, {}
  for row = 0, #x / math.max(width, 1) - 1 do
    for j = 1, d do
      local g, u = x[row * width + j], x[row * width + d + j]
      y[#y + 1] = g / (1 + math.exp(-g)) * u
    end
  end
  return y
end

return op.run("swiglu", { "x" }, reference, {
  { "one row", x = { 1, 8 } },
  { "odd half", x = { 3, 14 } },
  { "leading dims", x = { 2, 3, 10 } },
  { "large", x = { 4, 6 }, scale = 40 },  -- the sigmoid saturates both ways
  { "no rows", x = { 0, 4 } },
  { "odd width", x = { 2, 7 }, raises = "must be even" },
})
