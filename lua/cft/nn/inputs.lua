--- A packed batch on its device, in the form that models take.

local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"
local blame = require "cft.base.blame"
local ffi = door.ffi

local M = {}

-- An array of int32 zeros on the host, counted from 0.
function M.ints(n) return ffi.new("int32_t[?]", n) end

-- The same of int64.
function M.longs(n) return ffi.new("int64_t[?]", n) end

-- The same of float.
function M.floats(n) return ffi.new("float[?]", n) end

-- The C struct that says where the keys of generated sequences lie, see `cft_attention_paged`. It holds bare handles:
-- `owner` keeps them alive.
function M.paged_layout(l, owner)
  local s = ffi.new "cft_paged_layout"
  s.cu_q, s.cu_pages, s.pages, s.k_len = door.raw(l.cu_q), door.raw(l.cu_pages), door.raw(l.pages), door.raw(l.k_len)
  s.page, s.longest_q, s.longest_k = l.page, l.longest_q, l.longest_k
  owner[#owner + 1] = l
  return s
end

-- The C struct of what a decoder block is made of, see `cft_block_weights`. It holds bare handles: `group` keeps them.
-- @tab group of `cft.nn.parameters` @tab c the model's config
function M.block_weights(group, c)
  local s = ffi.new "cft_block_weights"
  for _, key in ipairs { "norm1", "norm2", "qkv", "o", "gate_up", "down" } do s[key] = door.raw(group[key]) end
  if group.qkv_bias then s.qkv_bias = door.raw(group.qkv_bias) end
  s.heads, s.kv_heads, s.eps = c.heads, c.kv_heads, c.eps
  return s
end

-- The C struct of what the blocks of a pass share, see `cft_paged_step`. It holds bare handles: `at` keeps them.
-- @tab at of `cft.nn.kv_cache`, placed by the model
function M.paged_step(at)
  local s, a = ffi.new "cft_paged_step", at.of_all
  s.cos, s.sin, s.position, s.place = door.raw(a.cos), door.raw(a.sin), door.raw(at.positions), door.raw(at.place)
  s.scale, s.layout = a.scale, at.layout
  return s
end

-- The C struct that says where sequences lie. It holds bare handles: `owner` keeps them alive.
function M.layout(l, owner)
  local s = ffi.new "cft_attention_layout"
  s.cu_q, s.cu_k = door.raw(l.cu_q), door.raw(l.cu_k)
  if l.k_len then s.k_len = door.raw(l.k_len) end
  if l.q_position then s.q_position = door.raw(l.q_position) end
  s.longest_q, s.longest_k = l.longest_q, l.longest_k
  s.pairs = l.pairs or 0
  s.causal, s.deterministic = 1, l.deterministic and 1 or 0
  if l.prefix then
    local p = s.prefix
    p.cu_q, p.cu_k = door.raw(l.prefix.cu_q), door.raw(l.prefix.cu_k)
    p.first_q, p.queries, p.keys = l.prefix.first_q, l.prefix.queries, l.prefix.keys
    p.longest_q, p.longest_k, p.pairs = l.prefix.longest_q, l.prefix.longest_k, l.prefix.pairs
  end
  owner[#owner + 1] = l
  return s
end

-- The rows of a batch that reach the head: those that carry loss, or with `suffix` all from a
-- sequence's first of these to its end, which is the form that fused attention kernels take.
-- @return count, rows, positions, first row of each sequence: arrays as in the batch
local function head_rows(b, sequences, suffix)
  if not suffix then return tonumber(b.m), b.rows, b.row_positions, b.cu_rows end
  local n, count = tonumber(b.n), 0
  local rows, positions, cu = M.ints(n), M.ints(n), M.ints(sequences + 1)
  for s = 0, sequences - 1 do
    if b.cu_rows[s] < b.cu_rows[s + 1] then
      for row = b.rows[b.cu_rows[s]], b.cu_seqlens[s + 1] - 1 do
        rows[count], positions[count] = row, b.positions[row]
        count = count + 1
      end
    end
    cu[s + 1] = count
  end
  return count, rows, positions, cu
end

-- Pairs of a row and a row of its own sequence that it sees, which are the work of attention: of all rows of the
-- sequences that `cu` divides, and of the rows that reach the head.
local function pairs_of_all(cu, sequences)
  local sum = 0
  for s = 0, sequences - 1 do
    local length = cu[s + 1] - cu[s]
    sum = sum + length * (length + 1) / 2
  end
  return sum
end

local function pairs_of_rows(b, rows, cu_rows, samples)
  local sum = 0
  for s = 0, samples - 1 do
    for i = cu_rows[s], cu_rows[s + 1] - 1 do sum = sum + rows[i] - b.cu_seqlens[s] + 1 end
  end
  return sum
end

-- Where rows stand in their own sequences, a prefix before them not counted.
local function own_places(b, rows, cu_rows, samples)
  local places = M.ints(math.max(cu_rows[samples], 1))
  for s = 0, samples - 1 do
    for i = cu_rows[s], cu_rows[s + 1] - 1 do places[i] = rows[i] - b.cu_seqlens[s] end
  end
  return places
end

-- Prefixes of a batch and the queries behind each; `cu` says where those of each sample begin. What
-- is counted from the first of them is the same for all of a sample's rows and for those of the head.
local function behind_prefixes(b, cu, i32)
  local count = tonumber(b.prefixes)
  local cu_q, longest_q, longest_k, seen = M.ints(count + 1), 0, 0, 0
  for g = 0, count do cu_q[g] = cu[b.cu_shared[g]] - cu[0] end
  for g = 0, count - 1 do
    longest_q = math.max(longest_q, cu_q[g + 1] - cu_q[g])
    longest_k = math.max(longest_k, b.cu_prefix[g + 1] - b.cu_prefix[g])
    seen = seen + (cu_q[g + 1] - cu_q[g]) * (b.cu_prefix[g + 1] - b.cu_prefix[g])
  end
  return { cu_q = i32(cu_q, count + 1), cu_k = i32(b.cu_prefix, count + 1), first_q = cu[0],
           queries = cu_q[count], keys = b.cu_prefix[count], longest_q = longest_q, longest_k = longest_k,
           pairs = seen }
end

--- Put a batch of `cft.batch` on a device.
-- @tab b host arrays: `ids`, `cu_seqlens`, `positions`, `targets`, `weights`, and for the rows that
-- carry loss `rows`, `cu_rows`, `row_positions` (see `cft.batch`); where it has shared prefixes theirs
-- @tab o `device`, `skip` (only rows with loss go through the last block and the head; default
-- true), `suffix` (these, and what follows them in their sequence), `deterministic`, `keep` (until
-- `M.release`, whatever scope this is made in)
-- @treturn table `n`, `ids`, `positions`, `rows` (nil where all reach the head), `targets` and `weights`
-- of the rows that do, the two layouts; on the host `host_rows` and `cu_rows`, those rows and where
-- each sample's begin
function M.put(b, o)
  local owner, made = {}, {}
  local function array(buffer, count, dtype)
    local t = tensor.from_host(buffer, { count }, dtype, { device = o.device })
    made[#made + 1] = o.keep and t:keep() or t
    return t
  end
  local function i32(buffer, count) return array(buffer, count, "i32") end
  -- In C's batch these are 64-bit integers, which stay boxed in Lua.
  local n = tonumber(b.n)
  local samples, prefixes, longest = tonumber(b.sequences), tonumber(b.prefixes or 0), tonumber(b.longest)
  local sequences = prefixes + samples  -- to attention, a prefix is one
  local at = { n = n, sequences = samples, longest = longest, owner = owner, made = made,
               position_end = b.reach and tonumber(b.reach) }
  at.ids, at.positions = i32(b.ids, n), i32(b.positions, n)
  local starts = prefixes > 0 and b.cu_prefix or b.cu_seqlens
  local cu = i32(starts, sequences + 1)
  local targets, weights, count = b.targets, b.weights, n
  local m, rows, row_positions, cu_rows
  if o.skip ~= false then m, rows, row_positions, cu_rows = head_rows(b, samples, o.suffix) end
  if m and m < n then
    count = m
    at.rows, at.cu_rows, at.host_rows = i32(rows, count), cu_rows, rows
    targets, weights = M.ints(math.max(count, 1)), ffi.new("float[?]", math.max(count, 1))
    for i = 0, count - 1 do targets[i], weights[i] = b.targets[rows[i]], b.weights[rows[i]] end
    at.row_positions = i32(row_positions, count)
    -- A suffix is what a layout without positions means. Of a prefix no row asks.
    local asking, places = cu_rows, not o.suffix and at.row_positions or nil
    if prefixes > 0 then
      asking = M.ints(sequences + 1)
      ffi.copy(asking + prefixes, cu_rows, (samples + 1) * ffi.sizeof "int32_t")
      if not o.suffix then places = i32(own_places(b, rows, cu_rows, samples), count) end
    end
    at.row_layout = M.layout({ cu_q = i32(asking, sequences + 1), cu_k = cu, longest_q = longest,
                             longest_k = longest, q_position = places,
                             pairs = pairs_of_rows(b, rows, cu_rows, samples),
                             prefix = prefixes > 0 and behind_prefixes(b, cu_rows, i32) or nil,
                             deterministic = o.deterministic }, owner)
  end
  at.targets = i32(targets, count)
  at.weights = array(weights, count, "f32")
  at.layout = M.layout({ cu_q = cu, cu_k = cu, longest_q = longest, longest_k = longest,
                       pairs = pairs_of_all(starts, sequences),
                       prefix = prefixes > 0 and behind_prefixes(b, b.cu_seqlens, i32) or nil,
                       deterministic = o.deterministic }, owner)
  return at
end

--- Release what `put` made with `keep`. @tab at what it gave
function M.release(at)
  for _, t in ipairs(at.made) do t:release "with its batch" end
end

-- The rows of a batch that carry loss, sequence by sequence.
local function find_rows(b)
  b.rows, b.row_positions, b.cu_rows, b.m = M.ints(b.n), M.ints(b.n), M.ints(b.sequences + 1), 0
  for s = 0, b.sequences - 1 do
    for row = b.cu_seqlens[s], b.cu_seqlens[s + 1] - 1 do
      if b.weights[row] ~= 0 then
        b.rows[b.m], b.row_positions[b.m] = row, b.positions[row]
        b.m = b.m + 1
      end
    end
    b.cu_rows[s + 1] = b.m
  end
end

--- A batch of whole sequences, from Lua lists.
-- @tab sequences a list of lists of ids
-- @tab[opt] weights a list of lists: the weight of each id as a target; a sequence's first is never
-- one. Without it nothing carries loss
-- @treturn table as `put` takes it
-- @usage local b = cft.nn.inputs.sequences({ { 5, 6, 7 }, { 5, 8 } }, { { 0, 1, 1 }, { 0, 1 } })  -- weights of targets
-- local at = cft.nn.inputs.put(b, { device = "cpu", keep = true })
-- at.n, at.sequences, at.targets   --> 5 2 (3) i32 on cpu {6, 7, 8}
-- cft.nn.inputs.release(at)
function M.sequences(sequences, weights)
  local n, longest = 0, 0
  for i, s in ipairs(sequences) do
    if #s == 0 then blame(("sequence %d has no ids"):format(i)) end
    n, longest = n + #s, math.max(longest, #s)
  end
  local b = { n = n, sequences = #sequences, longest = longest, weight = 0,
              ids = M.ints(n), positions = M.ints(n), cu_seqlens = M.ints(#sequences + 1), targets = M.ints(n),
              weights = ffi.new("float[?]", n) }
  local at = 0
  for i, s in ipairs(sequences) do
    for j, id in ipairs(s) do
      b.ids[at], b.positions[at], b.targets[at] = id, j - 1, s[j + 1] or -1
      if weights and s[j + 1] then b.weights[at] = weights[i][j + 1] end
      b.weight = b.weight + b.weights[at]
      at = at + 1
    end
    b.cu_seqlens[i] = at
  end
  find_rows(b)
  return b
end

return M
