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

--- Put a batch of `cft.batch` on a device.
-- @tab b host arrays: `ids`, `cu_seqlens`, `positions`, `targets`, `weights`, and for the rows that
-- carry loss `rows`, `cu_rows`, `row_positions` (see `cft.batch`)
-- @tab o `device`, `skip` (only rows with loss go through the last block and the head; default
-- true), `deterministic`
-- @treturn table `n`, `ids`, `positions`, `rows` (nil without skipping), `targets` and `weights` of the
-- rows that reach the head, and the two layouts
function M.put(b, o)
  local owner = {}
  local function i32(buffer, count)
    return tensor.from_host(buffer, { count }, "i32", { device = o.device })
  end
  -- In C's batch these are 64-bit integers, which stay boxed in Lua.
  local n, m = tonumber(b.n), tonumber(b.m)
  local sequences, longest = tonumber(b.sequences), tonumber(b.longest)
  local at = { n = n, sequences = sequences, longest = longest, owner = owner }
  at.ids, at.positions = i32(b.ids, n), i32(b.positions, n)
  local cu = i32(b.cu_seqlens, sequences + 1)
  local targets, weights, count = b.targets, b.weights, n
  if o.skip ~= false and m < n then
    count = m
    at.rows = i32(b.rows, count)
    targets, weights = ffi.new("int32_t[?]", math.max(count, 1)), ffi.new("float[?]", math.max(count, 1))
    for i = 0, count - 1 do
      targets[i], weights[i] = b.targets[b.rows[i]], b.weights[b.rows[i]]
    end
    at.row_positions = i32(b.row_positions, count)
    at.row_layout = layout({ cu_q = i32(b.cu_rows, sequences + 1), cu_k = cu, longest_q = longest,
                             longest_k = longest, q_position = at.row_positions,
                             deterministic = o.deterministic }, owner)
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
