-- Attention where sequences share a prefix: against every sample alone, prefix and all, in doubles.

local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local inputs_of = require "cft.nn.inputs"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local reference = require "tests.attention_reference"
local rope = require "cft.nn.rope"
local tensor = require "cft.engine.tensor"
local ffi, C = door.ffi, door.C

-- A batch of groups { prefix, { own tokens of each sample } } and of samples that share nothing. A
-- sample's last tokens have loss weight: all but its first own one, or half of these.
local function batch_of(groups, alone, half)
  local list, kept = {}, {}
  local function add(context, own, id)
    local n = context + own
    local ids, spans = ffi.new("int32_t[?]", n), ffi.new("cft_batch_span[?]", 2)
    for i = 0, n - 1 do ids[i] = i < context and 100 * id + i or 7 + i end
    local plain = math.min(n, math.max(1, context + 1 + (half and math.floor(own / 2) or 0)))
    spans[0].count, spans[1].count, spans[1].weight = plain, n - plain, 1
    list[#list + 1] = { ids = ids, n = n, spans = spans, count = plain < n and 2 or 1, shared = context }
  end
  for g, group in ipairs(groups) do
    for _, own in ipairs(group[2]) do add(group[1], own, g) end
  end
  for _, n in ipairs(alone) do add(0, n, 0) end
  local samples = ffi.new("cft_batch_sample[?]", #list)
  for i, s in ipairs(list) do
    local to = samples[i - 1]
    to.ids, to.n, to.spans, to.span_count, to.scale, to.shared = s.ids, s.n, s.spans, s.count, 1, s.shared
    kept[i] = s
  end
  local bytes = ffi.new "size_t[1]"
  door.check(C.cft_batch_bytes(bytes, samples, #list))
  local b = ffi.new("cft_batch", bytes[0])
  C.cft_batch_lay(b, samples, #list)
  return b
end

-- Of each row: its position, and which rows it sees, in order.
local function rows_of(groups, alone)
  local at, sees, first, behind = {}, {}, {}, 0
  local function add(from, count, before)
    for i = 0, count - 1 do
      local list = {}
      for j = 0, #before - 1 do list[j + 1] = before[j + 1] end
      for j = 0, i do list[#list + 1] = from + j end
      at[from + i], sees[from + i] = #before + i, list
    end
  end
  local row = 0
  for g, group in ipairs(groups) do
    first[g], behind = row, behind + #group[2]
    add(row, group[1], {})
    row = row + group[1]
  end
  for g, group in ipairs(groups) do
    local before = {}
    for j = 0, group[1] - 1 do before[j + 1] = first[g] + j end
    for _, own in ipairs(group[2]) do
      add(row, own, before)
      row = row + own
    end
  end
  for _, n in ipairs(alone) do
    add(row, n, {})
    row = row + n
  end
  return row, at, sees
end

local function reference_of(flat, _, case)
  local n, at, sees = rows_of(case.groups, case.alone)
  local key_at, asks = {}, {}
  for row = 0, n - 1 do key_at[row + 1] = at[row] end
  local function ask(row) asks[#asks + 1] = { at = at[row], sees = sees[row] } end
  if case.form then
    local host = inputs_of.put(batch_of(case.groups, case.alone, case.half), { suffix = case.form == "suffix" })
    for i = 0, host.rows:count() - 1 do ask(tonumber(host.host_rows[i])) end
  else
    for row = 0, n - 1 do ask(row) end
  end
  return reference.attend(flat, case, key_at, asks)
end

local function settings(case, like)
  local b = batch_of(case.groups, case.alone, case.half)
  local at = inputs_of.put(b, { device = like:device(), suffix = case.form == "suffix",
                                skip = case.form ~= nil, deterministic = case.deterministic })
  local cos, sin = rope.tables(256, rope.frequencies(case.D, reference.BASE), case.D, like:dtype() == "f64" and "f64" or "f32",
                               like:device())
  return { heads = case.heads, kv_heads = case.kv, scale = 1 / math.sqrt(case.D), cos = cos, sin = sin,
           layout = case.form and at.row_layout or at.layout, owner = at,
           q_at = case.form and at.row_positions or at.positions, k_at = at.positions }
end

-- The op rotates its arguments in place, so it is given copies.
local function call(inputs, case)
  local a = settings(case, inputs[1])
  local function copy(x) return ops.scale(x, 1) end
  if case.form then return ops.attention(copy(inputs[1]), copy(inputs[2]), a) end
  return ops.attention(copy(inputs[1]), nil, a)
end

-- A row of the table with the shapes of what it needs.
local function case(name, groups, alone, o)
  local row = { name, groups = groups, alone = alone, heads = 2, kv = 1, D = 4 }
  for k, v in pairs(o or {}) do row[k] = v end
  local n = rows_of(groups, alone)
  row.x = { n, (row.heads + 2 * row.kv) * row.D }
  if row.form then
    local b = batch_of(groups, alone, row.half)
    local at = inputs_of.put(b, { suffix = row.form == "suffix" })
    row.q, row.kv_rows = { at.rows:count(), row.heads * row.D }, { n, 2 * row.kv * row.D }
  end
  return row
end

local tests = op.run("attention", { "x" }, reference_of, {
  case("a prefix of one, two behind it", { { 1, { 1, 2 } } }, {}),
  case("two prefixes and one alone", { { 5, { 3, 1, 2 } }, { 2, { 4, 3 } } }, { 6 }, { heads = 4, kv = 2 }),
  case("one behind a prefix", { { 4, { 3 } } }, { 2, 1 }, { D = 6, heads = 3 }),
}, { call = call })
local some = op.run("attention", { "q", "kv_rows" }, reference_of, {
  case("a prefix, rows with loss ask", { { 5, { 3, 4 } }, { 3, { 2, 1, 6 } } }, { 6, 2 }, { form = "rows", half = true }),
  case("a prefix, the suffix with loss asks", { { 5, { 3, 4 } }, { 3, { 2, 6 } } }, { 6 }, { form = "suffix", half = true }),
  case("a prefix, nobody alone", { { 2, { 3, 5 } } }, {}, { form = "rows" }),
}, { call = call })
for _, t in ipairs(some) do tests[#tests + 1] = t end

-- What stands behind a prefix does not see what else does: to the bit, in value and in length.
local function numbers_behind(x, groups, alone, from, count)
  local y = call({ x }, { groups = groups, alone = alone, heads = 4, kv = 2, D = 16 })
  return op.numbers(tensor.contiguous(tensor.narrow(y, 0, from, count)))
end

for _, dtype in ipairs { "f32", "bf16" } do
  tests[#tests + 1] = { "attention: behind a prefix, a neighbour changed leaves " .. dtype .. " bit-equal", function()
    local groups, alone = { { 130, { 37, 50, 101 } }, { 20, { 9, 3 } } }, { 40 }
    local x = tensor.randn({ (rows_of(groups, alone)), 128 }, { seed = 3, counter = 0 })
    local function result(...)
      local changed = x:to(dtype)
      for _, part in ipairs { ... } do
        local rows = tensor.narrow(changed, 0, part[1], part[2])
        rows:copy_(ops.scale(tensor.contiguous(rows), -3))
      end
      return numbers_behind(changed, groups, alone, 150 + 37, 50)
    end
    -- other samples of its prefix, the other prefix, the samples behind that, the one alone
    expect.same(result({ 150, 37 }, { 237, 101 }, { 130, 20 }, { 338, 12 }, { 350, 40 }), result())
    expect.truthy(table.concat(result { 0, 1 }) ~= table.concat(result()))  -- its own prefix it does see
  end }
end

tests[#tests + 1] = { "attention: prefixes that do not add up", function()
  local c = case("", { { 5, { 3, 4 } } }, { 2 })
  local x = tensor.randn(c.x, { seed = 3, counter = 0 })
  local function try(change)
    local a = settings(c, x)
    change(a.layout.prefix)
    return function() ops.attention(ops.scale(x, 1), nil, a) end
  end
  expect.raises("8 queries from row 5 of 14 stand behind prefixes of 15 of 14 keys", try(function(p)
    p.keys, p.queries = 15, 8
  end))
  expect.raises("rise from 0 to 6 and 5", try(function(p) p.queries = 6 end))
  expect.raises("by at most 7 and 4", try(function(p) p.longest_k = 4 end))
  expect.raises("10 queries from row 5", try(function(p) p.queries = 10 end))
end }
return tests
