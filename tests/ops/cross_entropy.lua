local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local function labels(like, case)
  local t, w = tensor.new(case.target, { dtype = "i32" }), tensor.new(case.weight)
  if like:device() ~= t:device() then t, w = t:to(like:device()), w:to(like:device()) end
  return t, w
end

local function loss(logits, V, case)
  local sum = 0
  for i, w in ipairs(case.weight) do
    if w ~= 0 then
      local top, z = -math.huge, 0
      for j = 1, V do top = math.max(top, logits[(i - 1) * V + j]) end
      for j = 1, V do z = z + math.exp(logits[(i - 1) * V + j] - top) end
      sum = sum + w * (top + math.log(z) - logits[(i - 1) * V + case.target[i] + 1])
    end
  end
  return { sum }
end

local tests = {}
local function add(list) for _, t in ipairs(list) do tests[#tests + 1] = t end end

add(op.run("cross_entropy", { "x" }, function(flat, shapes, case) return loss(flat[1], shapes[1][2], case) end, {
  { "one row", x = { 1, 7 }, target = { 3 }, weight = { 1 } },
  { "weights, a row without", x = { 4, 11 }, target = { 0, 10, -1, 5 }, weight = { 1, 0.5, 0, 2 } },
  { "large logits", x = { 2, 9 }, scale = 200, target = { 1, 8 }, weight = { 1, 1 } },
  { "a target outside", x = { 2, 5 }, target = { 0, 5 }, weight = { 1, 1 }, raises = "target%[1%] is 5 with weight 1" },
}, { call = function(inputs, case) return (ops.cross_entropy(inputs[1], labels(inputs[1], case))) end }))

local function head(flat, shapes, case)
  local x, w, d, V = flat[1], flat[2], shapes[1][2], shapes[2][1]
  local logits = {}
  for i = 0, shapes[1][1] - 1 do
    for v = 0, V - 1 do
      local s = 0
      for j = 1, d do s = s + x[i * d + j] * w[v * d + j] end
      logits[#logits + 1] = s
    end
  end
  return loss(logits, V, case)
end

add(op.run("linear_cross_entropy", { "x", "w" }, head, {
  { "one chunk", x = { 5, 6 }, w = { 13, 6 }, target = { 0, 12, 3, -1, 7 }, weight = { 1, 0.5, 2, 0, 1 } },
  { "as many rows as words", x = { 4, 6 }, w = { 4, 6 }, target = { 0, 3, 2, -1 }, weight = { 1, 0.5, 2, 0 } },
  { "chunks of two", x = { 5, 6 }, w = { 13, 6 }, target = { 0, 12, 3, 4, 7 }, weight = { 1, 0.5, 2, 0, 1 }, chunk = 2 },
}, { call = function(inputs, case)
  local t, w = labels(inputs[1], case)
  return (ops.linear_cross_entropy(inputs[1], inputs[2], t, w, { chunk = case.chunk }))
end }))

tests[#tests + 1] = { "linear_cross_entropy: ahead gives the same gradients", function()
  local t, wt = tensor.new({ 1, 0, 2 }, { dtype = "i32" }), tensor.new { 1, 0.5, 2 }
  local function gradients(ahead)
    local x = tensor.randn({ 3, 4 }, { seed = 1, counter = 1, requires_grad = true })
    local w = tensor.randn({ 5, 4 }, { seed = 1, counter = 2, requires_grad = true })
    w.grad = tensor.zeros { 5, 4 }
    ops.linear_cross_entropy(x, w, t, wt, { ahead = ahead }):backward()
    return { op.numbers(x.grad), op.numbers(w.grad) }
  end
  local a, b = gradients(true), gradients(false)
  for i = 1, 2 do op.agree(a[i], b[i], 1e-6, "gradient " .. i) end
end }
tests[#tests + 1] = { "linear_cross_entropy: a NaN reaches the loss", function()
  local x = tensor.full({ 2, 3 }, 0 / 0)
  local sum = ops.linear_cross_entropy(x, tensor.ones { 4, 3 }, tensor.new({ 0, 1 }, { dtype = "i32" }), tensor.ones { 2 })
  expect.truthy(sum:item() ~= sum:item(), "the loss of NaN logits is NaN")
end }

tests[#tests + 1] = { "linear_cross_entropy: how many rows at a time", function()
  local gpu, cpu = 0, 1
  local function chunk(host_memory, n, V) return tonumber(door.C.cft_head_chunk(host_memory, n, V)) end
  local V = 151936  -- of Qwen2.5-0.5B
  expect.same(chunk(gpu, 5000, V), 1728)
  expect.truthy(1728 * V * 4 <= 2 ^ 30 and 1792 * V * 4 > 2 ^ 30, "the most steps of 64 rows in 1 GiB")
  expect.same(5000 - 2 * chunk(gpu, 5000, V), 1544)  -- rows of the last chunk
  expect.same({ chunk(gpu, 1729, V), chunk(gpu, 1728, V), chunk(gpu, 1727, V), chunk(gpu, 1, V), chunk(gpu, 0, V) },
              { 1728, 1728, 1727, 1, 0 })
  expect.same(chunk(gpu, 5000, 152064), 1728)  -- of 7B
  expect.same({ chunk(cpu, 5000, V), chunk(cpu, 100, V) }, { 256, 100 })  -- 128 MiB would be 192 rows
  expect.same(chunk(cpu, 5000, 32000), 1024)
  expect.same({ chunk(gpu, 9, 2 ^ 40), chunk(gpu, 900, 2 ^ 40), chunk(gpu, 900, 0) }, { 9, 256, 900 })
end }

tests[#tests + 1] = { "linear_cross_entropy: chunks and a short last one give what one gives", function()
  local n, V, d = 77, 151, 16
  local targets, weights = {}, {}
  for i = 1, n do targets[i], weights[i] = (i * 37) % V, i % 5 == 0 and 0 or i % 3 + 0.5 end
  local t, wt = tensor.new(targets, { dtype = "i32" }), tensor.new(weights)
  for dtype, within in pairs { f32 = 1e-5, bf16 = 2e-2 } do
    local function all(chunk)
      local x = tensor.randn({ n, d }, { seed = 1, counter = 1, dtype = dtype, requires_grad = true })
      local w = tensor.randn({ V, d }, { seed = 1, counter = 2, dtype = dtype, requires_grad = true })
      w.grad = tensor.zeros { V, d }  -- in f32, and added to by each chunk
      local loss, nll = ops.linear_cross_entropy(x, w, t, wt, { ahead = true, chunk = chunk })
      loss:backward()
      return { op.numbers(nll), op.numbers(x.grad), op.numbers(w.grad) }
    end
    local want, got = all(n), all(32)  -- 32, 32, 13
    for i, what in ipairs { "nll", "dx", "dw" } do op.agree(got[i], want[i], within, dtype .. ": " .. what) end
  end
end }
return tests
