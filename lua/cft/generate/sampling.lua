--- How a token is chosen: the settings of each sequence of a batch as `cft_sample` takes them.
-- What the filters do, and in which order, is said in kernels/kernels.h and docs/generate.md.

local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"

local M = {}

-- Lists, one a row, as C takes them: where each begins, and all of them behind each other.
local function lists(rows, of)
  local cu, count = inputs.ints(#rows + 1), 0
  for i, seq in ipairs(rows) do
    count = count + #of(seq)
    cu[i] = count
  end
  return cu, count
end

-- C takes f32, where smaller numbers become 0, or have an inverse that is infinite.
local LEAST = 2 ^ -100

-- Temperature, top_p, min_p and penalty of a request.
local function numbers_of(r)
  return r.temperature < LEAST and 0 or r.temperature, math.max(r.top_p, LEAST), r.min_p, math.max(r.penalty, LEAST)
end

local none = {}
local function seen_of(seq) return seq.request.penalty ~= 1 and seq.seen or none end
local function bias_of(seq) return seq.request.bias or none end

--- Choose the next token of each sequence.
-- @tparam Tensor logits (rows, V)
-- @tab rows the sequence of each row: `ids`, `sample`, `seen` (its ids without repeats), and `request`, whose
-- `temperature`, `top_k`, `top_p`, `min_p`, `penalty`, `bias` (a list of { id, number }), `seed` and `sequence` are used
-- @int top how many of the largest are wanted of each row
-- @treturn table on the host, arrays from 0: `token`, `logprob`, and for row i from i * top on `top` and `top_logprob`
function M.choose(logits, rows, top)
  local n, device = #rows, logits:device()
  local numbers, keys = inputs.floats(4 * n), inputs.longs(4 * n)
  for i, seq in ipairs(rows) do
    local r, at = seq.request, 4 * (i - 1)
    numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3] = numbers_of(r)
    keys[at], keys[at + 1], keys[at + 2], keys[at + 3] = r.seed, r.sequence + seq.sample - 1, #seq.ids, r.top_k
  end
  local cu_seen, seen_count = lists(rows, seen_of)
  local cu_bias, bias_count = lists(rows, bias_of)
  local seen, bias_id = inputs.ints(math.max(seen_count, 1)), inputs.ints(math.max(bias_count, 1))
  local bias = inputs.floats(math.max(bias_count, 1))
  for i, seq in ipairs(rows) do
    for j, id in ipairs(seen_of(seq)) do seen[cu_seen[i - 1] + j - 1] = id end
    for j, entry in ipairs(bias_of(seq)) do
      bias_id[cu_bias[i - 1] + j - 1], bias[cu_bias[i - 1] + j - 1] = entry[1], entry[2]
    end
  end
  local function put(buffer, dims, dtype) return tensor.from_host(buffer, dims, dtype, { device = device }) end
  local token, logprob, top_id, top_logprob = kernels.sample(
    logits, put(numbers, { n, 4 }, "f32"), put(keys, { n, 4 }, "i64"), put(cu_seen, { n + 1 }, "i32"),
    put(seen, { seen_count }, "i32"), put(cu_bias, { n + 1 }, "i32"), put(bias_id, { bias_count }, "i32"),
    put(bias, { bias_count }, "f32"), top)
  local chosen = { token = token:to_host(), logprob = logprob:to_host() }
  if top > 0 then chosen.top, chosen.top_logprob = top_id:to_host(), top_logprob:to_host() end
  return chosen
end

return M
