--- One op, by a table of cases: against a reference in Lua doubles, its gradient against finite
-- differences in f64, and other dtypes and devices against the CPU in f64.
--
-- A row says only what is special about it:
--   { "odd width", x = { 3, 7 }, raises = "pattern", scale = 1e-20, args = { 1e-6 } }

local autograd = require "cft.engine.autograd"
local expect = require "tests.expect"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local M = {}

-- Relative to the largest value of the result. f32: sums of up to a few thousand terms in another
-- order; bf16: eight bits of mantissa, rounded on the way in and out.
local TOLERANCE = { f64 = 1e-12, f32 = 2e-5, bf16 = 2e-2 }

local function numbers(t)
  local buffer, n = t:to_host()
  local list = {}
  for i = 1, n do list[i] = tonumber(buffer[i - 1]) end
  return list
end
M.numbers = numbers

local function largest(list)
  local m = 0
  for _, v in ipairs(list) do m = math.max(m, math.abs(v)) end
  return m
end

--- Two lists of numbers agree relative to the largest wanted one, or to `floor` if that is larger.
function M.agree(got, wanted, tolerance, what, floor)
  expect.same(#got, #wanted, what .. ": count")
  local scale = math.max(largest(wanted), floor or 1e-30)
  for i = 1, #wanted do
    local d = math.abs(got[i] - wanted[i])
    if not (d <= tolerance * scale) then
      error(("%s: [%d] is %.9g, wanted %.9g (tolerance %g of %.3g)"):format(
        what, i - 1, got[i], wanted[i], tolerance, scale), 0)
    end
  end
end

local function make(dims, counter, dtype, scale, device)
  local t = tensor.randn(dims, { dtype = "f64", seed = 11, counter = counter })
  if scale then t = ops.scale(t, scale) end
  -- Through bf16 or f32, so that every dtype sees the same values.
  if dtype ~= "f64" then
    local narrow = tensor.cast(t, dtype)
    return device and narrow:to(device) or narrow
  end
  return t
end

--- The gradient of sum(seed * f(inputs)) against central differences in f64.
-- @param f of tensors, gives one tensor @tab inputs f64 tensors; all are differentiated
function M.gradcheck(f, inputs, what)
  for _, x in ipairs(inputs) do x.requires_grad, x.grad = true, nil end
  local y = f(unpack(inputs))
  local seed = tensor.randn(y:shape(), { dtype = "f64", seed = 5, counter = 99 })
  local weights = numbers(seed)
  y:backward(seed)
  local function value()
    local list, sum = numbers(autograd.no_grad(f, unpack(inputs))), 0
    for i, v in ipairs(list) do sum = sum + v * weights[i] end
    return sum
  end
  for k, x in ipairs(inputs) do
    local host, n = x:to_host()
    local got, wanted = x.grad and numbers(x.grad) or {}, {}
    if not x.grad then for i = 1, n do got[i] = 0 end end
    for i = 0, n - 1 do
      local old = host[i]
      local h = 1e-5 * math.max(1, math.abs(old))
      local function at(v)
        host[i] = v
        x:copy_(tensor.from_host(host, x:shape(), "f64"))
        return value()
      end
      wanted[i + 1] = (at(old + h) - at(old - h)) / (2 * h)
      at(old)
    end
    M.agree(got, wanted, 2e-6, ("%s: gradient of argument %d"):format(what, k), 1e-2)
  end
end

-- The first pair of a case's tensors that have one shape: one tensor may be both of them.
local function alike(case, names)
  for i = 1, #names do
    for j = i + 1, #names do
      if table.concat(case[names[i]], " ") == table.concat(case[names[j]], " ") then return i, j end
    end
  end
end

-- gradcheck with one tensor as arguments i and j: one that is an input itself, one that an op has made, and
-- one that has a gradient already when that of the op reaches it.
local function check_twice(call, case, list, i, j, what)
  table.remove(list, j)
  local function twice(made)
    return function(...)
      local t = { ... }
      if made then t[i] = ops.scale(t[i], 1) end
      table.insert(t, j, t[i])
      return call(t, case), t[i]
    end
  end
  M.gradcheck(function(...) return (twice(false)(...)) end, list, what .. ", an input")
  M.gradcheck(function(...) return (twice(true)(...)) end, list, what .. ", made")
  M.gradcheck(function(...)
    local y, x = twice(true)(...)
    return y + ops.reshape(ops.sum(ops.square(x)), { 1 })  -- backward before the op's
  end, list, what .. ", used elsewhere")
end

-- "rmsnorm" with inputs of a case in one dtype, through the tape; result and gradients as lists.
local function run(f, case, names, dtype, device)
  local inputs = {}
  for i, name in ipairs(names) do
    inputs[i] = make(case[name], i, "bf16", case.scale)  -- values every dtype holds
    inputs[i] = inputs[i]:to(dtype)
    if device then inputs[i] = inputs[i]:to(device) end
    inputs[i].requires_grad = true
  end
  local y = f(inputs, case)
  local seed = make(y:shape(), 99, "bf16"):to(dtype)
  if device then seed = seed:to(device) end
  local results = { numbers(y) }
  y:backward(seed)
  for i, x in ipairs(inputs) do results[i + 1] = x.grad and numbers(x.grad) or {} end
  return results, inputs
end

--- Tests of an op.
-- @string op name @tab names of its tensor arguments, in order
-- @param reference of lists of numbers, the shapes, and the case; a list of numbers. nil: none
-- @tab cases rows as above; every name a row leaves out takes `default(case)`
-- @tab[opt] o `call(inputs, case)` how the op is called (default: the tensors, then `case.args`),
-- `default`, `tolerance` by dtype, `forward_only`
-- @treturn table a list of { name, fn }
function M.run(op, names, reference, cases, o)
  o = o or {}
  local call = o.call or function(inputs, case)
    local list = {}
    for i, x in ipairs(inputs) do list[i] = x end
    for i, a in ipairs(case.args or {}) do list[#inputs + i] = a end
    return (ops[op](unpack(list, 1, #inputs + #(case.args or {}))))
  end
  local tests = {}
  local function add(name, fn) tests[#tests + 1] = { ("%s: %s"):format(op, name), fn } end

  for _, row in ipairs(cases) do
    local case = setmetatable({}, { __index = row })
    for _, name in ipairs(names) do
      case[name] = row[name] or o.default and o.default[name] and o.default[name](row) or row.x
    end
    local function inputs(dtype)
      local list = {}
      for i, name in ipairs(names) do list[i] = make(case[name], i, dtype, row.scale) end
      return list
    end
    if row.raises then
      add(row[1], function() expect.raises(row.raises, function() call(inputs "f64", case) end) end)
    else
      if reference then
        add(row[1] .. ", reference", function()
          local list, shapes = inputs "f64", {}
          local flat = {}
          for i, x in ipairs(list) do flat[i], shapes[i] = numbers(x), x:shape() end
          M.agree(numbers(call(list, case)), reference(flat, shapes, case), TOLERANCE.f64, row[1])
        end)
      end
      if not o.forward_only then
        add(row[1] .. ", gradcheck", function()
          local list = inputs "f64"
          M.gradcheck(function(...) return call({ ... }, case) end, list, row[1])
        end)
      end
      local i, j = alike(case, names)
      if i and not o.forward_only then
        add(("%s, one tensor as %s and %s"):format(row[1], names[i], names[j]), function()
          check_twice(call, case, inputs "f64", i, j, row[1])
        end)
      end
      add(row[1] .. ", f32 and bf16", function()
        local wanted = run(call, case, names, "f64")
        for _, dtype in ipairs { "f32", "bf16" } do
          local got = run(call, case, names, dtype)
          local tolerance = o.tolerance and o.tolerance[dtype] or TOLERANCE[dtype]
          for i = 1, #wanted do
            M.agree(got[i], wanted[i], tolerance, ("%s in %s, %s"):format(
              row[1], dtype, i == 1 and "result" or "gradient of " .. names[i - 1]))
          end
        end
      end)
      local device = os.getenv "CFT_TEST_DEVICE"
      if device then
        add(row[1] .. ", " .. device, function()
          for _, dtype in ipairs { "f32", "bf16" } do
            local wanted = run(call, case, names, dtype)
            local got = run(call, case, names, dtype, device)
            for i = 1, #wanted do
              M.agree(got[i], wanted[i], TOLERANCE[dtype], ("%s in %s on %s"):format(row[1], dtype, device))
            end
          end
        end)
      end
    end
  end
  return tests
end

return M
