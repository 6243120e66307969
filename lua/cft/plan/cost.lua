--- What a training step costs: its FLOPs and bytes, and the seconds these take at a device's rates.
--
-- One function for all who want to know before, or to compare after: `cftrun plan`, `--dry-run`, and the last lines of a run.

local archs = require "cft.models.archs"

local M = {}

local size_of = { f32 = 4, bf16 = 2, f64 = 8 }

--- How many weights a model has.
-- @tab c its config
-- @treturn int all @treturn int of a block @treturn int of the embedding @treturn int of the last norm and the head
function M.weights(c)
  local embedding, block, last = archs.module(c).counts(c)
  return embedding + c.layers * block + last, block, embedding, last
end

--- Bytes of what a rank keeps for each weight.
-- @tab how `dtype`; `gradients`, their dtype; `moments`, their dtype; `master`, whether f32 weights stand beside the bf16 ones;
-- `states`, how many moments the optimizer has
-- @treturn int of the weight @treturn int of its gradient @treturn int of the optimizer's
function M.weight_bytes(how)
  local master = how.master and 4 or 0
  return size_of[how.dtype], size_of[how.gradients], how.states * size_of[how.moments] + master
end

--- What a rank does in an optimizer step.
-- @tab c config of the model
-- @tab how as of `weight_bytes`; and `recomputed`, the share of the blocks whose forward pass is made twice
-- @tab batch `tokens` of this rank; `rows` of them that reach the head; `pairs`, the sum of T (T + 1) / 2 over sequences
-- @number owned the share of the weights that this rank's optimizer changes
-- @treturn table `products` and `attention` (FLOPs), `moved` (bytes); of these, backward alone has
-- `products_back`, `attention_back`, `moved_back`; `update` (bytes), the optimizer's
function M.work(c, how, batch, owned)
  local arch, n, again = archs.module(c), batch.tokens, how.recomputed
  local q = c.heads * c.head_dim
  local attention = 4 * batch.pairs * q * c.layers             -- forward
  local products = arch.flops(c, n, batch.rows, 0) / 3          -- forward
  local head = 2 * batch.rows * c.d * c.vocab
  local size = size_of[how.dtype]
  local forward, backward, row = arch.traffic(c, size)
  local weight, gradient, state = M.weight_bytes(how)
  local w = {
    products_back = 2 * products + again * (products - head), attention_back = (2.5 + again) * attention,
    moved_back = n * c.layers * (backward + again * forward) + batch.rows * row / 2,
    -- Gradients are read for the norm, read once more and zeroed; states are read and written, weights written.
    update = M.weights(c) * (2 * gradient + owned * (gradient + 2 * state + (how.master and 1 or 2) * weight)),
  }
  w.products, w.attention = products + w.products_back, attention + w.attention_back
  w.moved = n * c.layers * forward + batch.rows * row / 2 + w.moved_back
  return w
end

--- How long that takes.
-- @tab work as of `work` @tab rates as of `cft.plan.rates`
-- @treturn number seconds of forward and backward @treturn number of backward alone @treturn number of the optimizer
function M.seconds(work, rates)
  local function of(suffix)
    return work["products" .. suffix] / rates.matmul + work["attention" .. suffix] / rates.attention
      + work["moved" .. suffix] / rates.copy
  end
  return of "", of "_back", work.update / rates.copy
end

return M
