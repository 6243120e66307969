local expect = require "tests.expect"
local inputs_of = require "cft.nn.inputs"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local reference = require "tests.attention_reference"
local rope = require "cft.nn.rope"
local tensor = require "cft.engine.tensor"

-- A case: heads, kv, D, lens (tokens of each sequence), and for queries that are only some of the
-- rows `picked`: for each sequence the positions that ask.
local function settings(case, like)
  local dev = like:device()
  local function i32(list)
    local t = #list == 0 and tensor.empty({ 0 }, { dtype = "i32" }) or tensor.new(list, { dtype = "i32" })
    return t:device() == dev and t or t:to(dev)
  end
  local cu, positions, longest = { 0 }, {}, 0
  for _, len in ipairs(case.lens) do
    cu[#cu + 1] = cu[#cu] + len
    longest = math.max(longest, len)
    for p = 0, len - 1 do positions[#positions + 1] = p end
  end
  local cu_q, q_at = cu, positions
  local l = { cu_k = i32(cu), longest_q = longest, longest_k = longest }
  if case.picked then
    cu_q, q_at = { 0 }, {}
    for _, list in ipairs(case.picked) do
      for _, p in ipairs(list) do q_at[#q_at + 1] = p end
      cu_q[#cu_q + 1] = #q_at
    end
    l.q_position = i32(q_at)
  end
  l.cu_q = i32(cu_q)
  local owner = { l }
  local cos, sin = rope.tables(256, rope.frequencies(case.D, reference.BASE), case.D, like:dtype() == "f64" and "f64" or "f32", dev)
  return { heads = case.heads, kv_heads = case.kv, scale = 1 / math.sqrt(case.D), cos = cos, sin = sin,
           layout = inputs_of.layout(l, owner), owner = owner, q_at = i32(q_at), k_at = i32(positions) }
end

-- The op rotates its arguments in place, so it is given copies.
local function call(inputs, case)
  local a = settings(case, inputs[1])
  local function copy(x) return ops.scale(x, 1) end
  if case.picked then return ops.attention(copy(inputs[1]), copy(inputs[2]), a) end
  return ops.attention(copy(inputs[1]), nil, a)
end

local function reference_of(flat, _, case)
  local key_at, asks, first = {}, {}, 0
  for b, len in ipairs(case.lens) do
    local seen = {}
    for p = 0, len - 1 do key_at[#key_at + 1], seen[p] = p, first + p end
    local function ask(p) asks[#asks + 1] = { at = p, sees = { unpack(seen, 0, p) } } end
    if case.picked then
      for _, p in ipairs(case.picked[b]) do ask(p) end
    else
      for p = 0, len - 1 do ask(p) end
    end
    first = first + len
  end
  return reference.attend(flat, case, key_at, asks)
end

local tests = op.run("attention", { "x" }, reference_of, {
  { "one token", x = { 1, 6 }, heads = 1, kv = 1, D = 2, lens = { 1 } },
  { "grouped heads, odd lengths", x = { 9, 32 }, heads = 4, kv = 2, D = 4, lens = { 5, 1, 3 } },
  { "one kv head", x = { 7, 30 }, heads = 3, kv = 1, D = 6, lens = { 7 } },
  { "heads do not divide", x = { 2, 28 }, heads = 3, kv = 2, D = 4, lens = { 2 }, raises = "over 2 kv heads" },
}, { call = call })
for _, t in ipairs(op.run("attention", { "q", "kv_rows" }, reference_of, {
  { "only some rows ask", q = { 4, 8 }, kv_rows = { 8, 8 }, heads = 2, kv = 1, D = 4,
    lens = { 5, 3 }, picked = { { 1, 2, 4 }, { 2 } } },
  { "a sequence asks nothing", q = { 2, 8 }, kv_rows = { 6, 8 }, heads = 2, kv = 1, D = 4,
    lens = { 4, 2 }, picked = { { 0, 3 }, {} } },
  { "a position past its keys", q = { 1, 8 }, kv_rows = { 2, 8 }, heads = 2, kv = 1, D = 4,
    lens = { 2 }, picked = { { 2 } }, raises = "q_position%[0%] is 2" },
}, { call = call })) do tests[#tests + 1] = t end

tests[#tests + 1] = { "attention: one tensor as q and kv would be rotated twice", function()
  local x = tensor.randn({ 3, 8 }, { dtype = "f64", seed = 1 })
  local a = settings({ heads = 2, kv = 1, D = 4, lens = { 3 }, picked = { { 0, 1, 2 } } }, x)
  expect.raises("attention: q and kv share memory", ops.attention, x, x, a)
  expect.raises("attention: q and kv share memory", ops.attention, x, tensor.narrow(x, 0, 0, 3), a)
end }

-- A sequence's numbers do not depend on its neighbours, to the bit.
for _, dtype in ipairs { "f32", "bf16" } do
  tests[#tests + 1] = { "attention: a neighbour changed leaves " .. dtype .. " bit-equal", function()
    local case = { heads = 4, kv = 2, D = 16, lens = { 37, 150, 5 } }
    local n = 37 + 150 + 5
    local x = tensor.randn({ n, 128 }, { seed = 3, counter = 0 })
    local function result(first_scale, second_scale)
      local changed = x:to(dtype)
      local a, b = tensor.narrow(changed, 0, 0, 37), tensor.narrow(changed, 0, 187, 5)
      a:copy_(ops.scale(tensor.contiguous(a), first_scale))
      b:copy_(ops.scale(tensor.contiguous(b), second_scale))
      return op.numbers(tensor.contiguous(tensor.narrow(call({ changed }, case), 0, 37, 150)))
    end
    expect.same(result(1, 1), result(-3, 0.5))
  end }
end
return tests
