--- Queries, keys and values as attention takes them: views of what a linear layer made, rotated in place by
-- their positions.

local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"

local M = {}

--- The parts of `q` (n, (H + 2K) D); with `kv` (n, 2K D), q is (nq, H D).
-- @tab a `heads`, `kv_heads`
-- @treturn Tensor queries (nq, H D) @treturn Tensor keys (n, K D) @treturn Tensor values (n, K D)
-- @treturn Tensor keys and values (n, 2K D); all of them views
function M.split(a, q, kv)
  local width = kv and q:dim(1) or q:dim(1) / (1 + 2 * a.kv_heads / a.heads)
  local kv_width = width / a.heads * a.kv_heads
  local keys, from = kv or q, kv and 0 or width
  return tensor.narrow(q, 1, 0, width), tensor.narrow(keys, 1, from, kv_width),
         tensor.narrow(keys, 1, from + kv_width, kv_width), tensor.narrow(keys, 1, from, 2 * kv_width)
end

--- Rotate queries and keys in place, or back with `inverse` 1.
-- @tab a as for `split`, and `cos`, `sin` (positions, D/2), `q_at` (nq), `k_at` (n): positions, i32
function M.rotate(a, q, k, inverse)
  kernels.rope(q, a.cos, a.sin, a.q_at, a.heads, inverse)
  kernels.rope(k, a.cos, a.sin, a.k_at, a.kv_heads, inverse)
end

return M
