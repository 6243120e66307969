local op = require "tests.op"

local function reference(flat, shapes)
  local x, d, y = flat[1], shapes[1][#shapes[1]], {}
  for row = 0, #x / d - 1 do
    local top, sum = -math.huge, 0
    for j = 1, d do top = math.max(top, x[row * d + j]) end
    for j = 1, d do sum = sum + math.exp(x[row * d + j] - top) end
    for j = 1, d do y[row * d + j] = math.exp(x[row * d + j] - top) / sum end
  end
  return y
end

return op.run("softmax", { "x" }, reference, {
  { "one number", x = { 1, 1 } },
  { "odd width", x = { 3, 7 } },
  { "wide", x = { 2, 133 } },
  { "large values", x = { 2, 9 }, scale = 100 },
})
