local expect = require "tests.expect"
local inputs_of = require "cft.nn.inputs"
local op = require "tests.op"
local ops = require "cft.ops"
local rope = require "cft.nn.rope"
local tensor = require "cft.tensor"

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
  local cos, sin = rope.tables(256, rope.frequencies(case.D, 100), case.D, like:dtype() == "f64" and "f64" or "f32", dev)
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

local function rotate(row, at, heads, d, offset)
  local f = rope.frequencies(d, 100)
  for h = 0, heads - 1 do
    for j = 0, d / 2 - 1 do
      local p, q = offset + h * d + j + 1, offset + h * d + j + d / 2 + 1
      local c, s = math.cos(at * f[j]), math.sin(at * f[j])
      row[p], row[q] = row[p] * c - row[q] * s, row[q] * c + row[p] * s
    end
  end
end

local function reference(flat, shapes, case)
  local H, K, D = case.heads, case.kv, case.D
  local function rows(list, width)
    local r = {}
    for i = 0, #list / width - 1 do
      r[i] = {}
      for j = 1, width do r[i][j] = list[i * width + j] end
    end
    return r
  end
  local q, keys, kv_from, q_cu, q_at = nil, nil, 0, { 0 }, {}
  if case.picked then
    q, keys = rows(flat[1], H * D), rows(flat[2], 2 * K * D)
    for _, list in ipairs(case.picked) do
      for _, p in ipairs(list) do q_at[#q_at + 1] = p end
      q_cu[#q_cu + 1] = #q_at
    end
  else
    q, keys, kv_from = rows(flat[1], (H + 2 * K) * D), rows(flat[1], (H + 2 * K) * D), H * D
    for _, len in ipairs(case.lens) do
      for p = 0, len - 1 do q_at[#q_at + 1] = p end
      q_cu[#q_cu + 1] = #q_at
    end
  end
  local at = 0
  for _, len in ipairs(case.lens) do
    for p = 0, len - 1 do rotate(keys[at + p], p, K, D, kv_from) end
    at = at + len
  end
  for i, p in ipairs(q_at) do rotate(q[i - 1], p, H, D, 0) end
  local y, first = {}, 0
  for b, len in ipairs(case.lens) do
    for i = q_cu[b], q_cu[b + 1] - 1 do
      for h = 0, H - 1 do
        local g, s, top = math.floor(h / (H / K)), {}, -math.huge
        for p = 0, q_at[i + 1] do
          s[p] = 0
          for j = 1, D do s[p] = s[p] + q[i][h * D + j] * keys[first + p][kv_from + g * D + j] end
          s[p] = s[p] / math.sqrt(D)
          top = math.max(top, s[p])
        end
        local sum = 0
        for p = 0, q_at[i + 1] do s[p] = math.exp(s[p] - top) sum = sum + s[p] end
        for j = 1, D do
          local o = 0
          for p = 0, q_at[i + 1] do o = o + s[p] / sum * keys[first + p][kv_from + K * D + g * D + j] end
          y[#y + 1] = o
        end
      end
    end
    first = first + len
  end
  return y
end

local tests = op.run("attention", { "x" }, reference, {
  { "one token", x = { 1, 6 }, heads = 1, kv = 1, D = 2, lens = { 1 } },
  { "grouped heads, odd lengths", x = { 9, 32 }, heads = 4, kv = 2, D = 4, lens = { 5, 1, 3 } },
  { "one kv head", x = { 7, 30 }, heads = 3, kv = 1, D = 6, lens = { 7 } },
  { "heads do not divide", x = { 2, 28 }, heads = 3, kv = 2, D = 4, lens = { 2 }, raises = "over 2 kv heads" },
}, { call = call })
for _, t in ipairs(op.run("attention", { "q", "kv_rows" }, reference, {
  { "only some rows ask", q = { 4, 8 }, kv_rows = { 8, 8 }, heads = 2, kv = 1, D = 4,
    lens = { 5, 3 }, picked = { { 1, 2, 4 }, { 2 } } },
  { "a sequence asks nothing", q = { 2, 8 }, kv_rows = { 6, 8 }, heads = 2, kv = 1, D = 4,
    lens = { 4, 2 }, picked = { { 0, 3 }, {} } },
  { "a position past its keys", q = { 1, 8 }, kv_rows = { 2, 8 }, heads = 2, kv = 1, D = 4,
    lens = { 2 }, picked = { { 2 } }, raises = "q_position%[0%] is 2" },
}, { call = call })) do tests[#tests + 1] = t end

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
