--- A packed batch on its device, in the form that models take.

local door = require "cft.ffi"
local tensor = require "cft.tensor"
local blame = require "cft.blame"
local ffi = door.ffi

local M = {}

-- The C struct that says where sequences lie. It holds bare handles: `owner` keeps them alive.
local function layout(l, owner)
  local s = ffi.new "cft_attention_layout"
  s.cu_q, s.cu_k = door.raw(l.cu_q), door.raw(l.cu_k)
  if l.k_len then s.k_len = door.raw(l.k_len) end
  if l.q_position then s.q_position = door.raw(l.q_position) end
  s.longest_q, s.longest_k = l.longest_q, l.longest_k
  s.causal, s.deterministic = 1, l.deterministic and 1 or 0
  owner[#owner + 1] = l
  return s
end
M.layout = layout

-- The rows of a batch that reach the head: those that carry loss, or with `suffix` all from a
-- sequence's first of these to its end, which is the form that fused attention kernels take.
-- @return count, rows, positions, first row of each sequence: arrays as in the batch
local function head_rows(b, sequences, suffix)
  if not suffix then return tonumber(b.m), b.rows, b.row_positions, b.cu_rows end
  local n, count = tonumber(b.n), 0
  local rows, positions = ffi.new("int32_t[?]", n), ffi.new("int32_t[?]", n)
  local cu = ffi.new("int32_t[?]", sequences + 1)
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

--- Put a batch of `cft.batch` on a device.
-- @tab b host arrays: `ids`, `cu_seqlens`, `positions`, `targets`, `weights`, and for the rows that
-- carry loss `rows`, `cu_rows`, `row_positions` (see `cft.batch`)
-- @tab o `device`, `skip` (only rows with loss go through the last block and the head; default
-- true), `suffix` (these, and what follows them in their sequence), `deterministic`
-- @treturn table `n`, `ids`, `positions`, `rows` (nil where all reach the head), `targets` and `weights`
-- of the rows that do, the two layouts; on the host `host_rows` and `cu_rows`, those rows and where
-- each sequence's begin
function M.put(b, o)
  local owner = {}
  local function i32(buffer, count)
    return tensor.from_host(buffer, { count }, "i32", { device = o.device })
  end
  -- In C's batch these are 64-bit integers, which stay boxed in Lua.
  local n = tonumber(b.n)
  local sequences, longest = tonumber(b.sequences), tonumber(b.longest)
  local at = { n = n, sequences = sequences, longest = longest, owner = owner }
  at.ids, at.positions = i32(b.ids, n), i32(b.positions, n)
  local cu = i32(b.cu_seqlens, sequences + 1)
  local targets, weights, count = b.targets, b.weights, n
  local m, rows, row_positions, cu_rows
  if o.skip ~= false then m, rows, row_positions, cu_rows = head_rows(b, sequences, o.suffix) end
  if m and m < n then
    count = m
    at.rows, at.cu_rows = i32(rows, count), cu_rows
    targets, weights = ffi.new("int32_t[?]", math.max(count, 1)), ffi.new("float[?]", math.max(count, 1))
    for i = 0, count - 1 do
      targets[i], weights[i] = b.targets[rows[i]], b.weights[rows[i]]
    end
    at.row_positions = i32(row_positions, count)
    -- A suffix is what a layout without positions means.
    at.row_layout = layout({ cu_q = i32(cu_rows, sequences + 1), cu_k = cu, longest_q = longest,
                             longest_k = longest, q_position = not o.suffix and at.row_positions or nil,
                             deterministic = o.deterministic }, owner)
    at.host_rows = rows
  end
  at.targets = i32(targets, count)
  at.weights = tensor.from_host(weights, { count }, "f32", { device = o.device })
  at.layout = layout({ cu_q = cu, cu_k = cu, longest_q = longest, longest_k = longest,
                       deterministic = o.deterministic }, owner)
  return at
end

-- The rows of a batch that carry loss, sequence by sequence.
local function find_rows(b)
  b.rows, b.row_positions = ffi.new("int32_t[?]", b.n), ffi.new("int32_t[?]", b.n)
  b.cu_rows, b.m = ffi.new("int32_t[?]", b.sequences + 1), 0
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
function M.sequences(sequences, weights)
  local n, longest = 0, 0
  for i, s in ipairs(sequences) do
    if #s == 0 then blame(("sequence %d has no ids"):format(i)) end
    n, longest = n + #s, math.max(longest, #s)
  end
  local b = { n = n, sequences = #sequences, longest = longest, weight = 0,
              ids = ffi.new("int32_t[?]", n), positions = ffi.new("int32_t[?]", n),
              cu_seqlens = ffi.new("int32_t[?]", #sequences + 1), targets = ffi.new("int32_t[?]", n),
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
