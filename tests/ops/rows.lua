local expect = require "tests.expect"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local function i32(list) return tensor.new(list, { dtype = "i32" }) end

-- The device's ids follow the table there.
local function on(x, list)
  local t = i32(list)
  local d = x:device()
  return d == t:device() and t or t:to(d)
end

local function take(list) -- rows of x by number
  return function(flat, shapes)
    local d, y = shapes[1][2], {}
    for _, row in ipairs(list) do
      for j = 1, d do y[#y + 1] = flat[1][row * d + j] end
    end
    return y
  end
end

local tests = {}
local function add(list) for _, t in ipairs(list) do tests[#tests + 1] = t end end

local ids = { 3, 0, 3, 3, 6, 1, 0 }  -- repeated ids: their gradients add up
add(op.run("embedding", { "table" }, take(ids), {
  { "repeated ids", table = { 7, 5 } },
  { "wide", table = { 7, 67 } },
}, { call = function(inputs) return ops.embedding(inputs[1], on(inputs[1], ids)) end }))

local picked = { 4, 0, 2 }
add(op.run("gather_rows", { "x" }, take(picked), {
  { "some rows", x = { 5, 3 } },
  { "wide rows", x = { 5, 65 } },
}, { call = function(inputs) return ops.gather_rows(inputs[1], on(inputs[1], picked)) end }))

tests[#tests + 1] = { "embedding: an id outside the table", function()
  expect.raises("ids%[1%] is 7; it must be in %[0, 7%)", function()
    ops.embedding(tensor.zeros { 7, 2 }, i32 { 0, 7 })
  end)
  expect.raises("ids%[0%] is %-1", function() ops.embedding(tensor.zeros { 7, 2 }, i32 { -1 }) end)
end }
tests[#tests + 1] = { "gather_rows: none", function()
  local y = ops.gather_rows(tensor.zeros { 4, 2 }, tensor.empty({ 0 }, { dtype = "i32" }))
  expect.same(y:shape(), { 0, 2 })
end }
tests[#tests + 1] = { "gather_rows: an index that is no i32", function()
  expect.raises("index is f32 %(2%); a vector of i32 wanted", function()
    ops.gather_rows(tensor.zeros { 4, 2 }, tensor.zeros { 2 })
  end)
end }
return tests
