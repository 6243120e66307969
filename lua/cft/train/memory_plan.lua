--- What a training step will hold, from the model's shape, and how many blocks must be recomputed on
-- the way back so that it fits a budget. docs/memory.md derives the numbers.

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local format = require "cft.base.format"
local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"

local M = {}

--- "8GiB" → bytes. @string text a number with B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB
function M.bytes(text)
  return format.size(tostring(text)) or blame("memory: '%s' is no size; say 8GiB or 500MiB", tostring(text))
end

--- Bytes of a token in a block: what the model's architecture says.
-- @tparam Model model
-- @treturn table `kept`, `input`, `backward`; see `cft.models.llama`
function M.a_token(model) return model.arch.memory(model.config, door.dtype_bytes[model.dtype]) end

-- The head works on a chunk of rows: logits in f32, their gradient in the model's dtype.
local function head_bytes(c, dtype, rows, device)
  return kernels.head_chunk(device, rows, c.vocab) * c.vocab * (4 + (dtype == "bf16" and 2 or 0))
end

--- Plan a step.
-- @tparam Model model @int tokens of the largest micro-batch
-- @number[opt] budget bytes; nil: nothing is recomputed
-- @number held what is in use before the step: weights, gradients, optimizer state
-- @treturn table `recompute`, how many blocks; `bytes`, the estimate; `kept`, bytes a token of a block
function M.plan(model, tokens, budget, held)
  local c, per = model.config, M.a_token(model)
  local function estimate(recompute)
    local blocks = (c.layers - recompute) * per.kept + recompute * per.input
    if recompute > 0 then blocks = blocks + per.kept end  -- the one that is being recomputed
    return held + tokens * (blocks + per.backward) + head_bytes(c, model.dtype, tokens, model.device)
  end
  local k = 0
  while budget and k < c.layers - 1 and estimate(k) > budget do k = k + 1 end
  local bytes = estimate(k)
  if budget and bytes > budget then
    blame("memory: %d tokens a micro-batch need about %s with every block but the last recomputed, "
          .. "more than the budget of %s; lower tokens =", tokens, format.bytes(bytes), format.bytes(budget))
  end
  return { recompute = k, bytes = bytes, kept = per.kept }
end

--- Plan a step, and have the model recompute as many blocks as that takes.
-- @tparam Model model @int tokens of the largest micro-batch
-- @string[opt] budget such as "8GiB"
-- @treturn string what was planned, for the log
function M.apply(model, tokens, budget)
  local plan = M.plan(model, tokens, budget and M.bytes(budget), tensor.memory(model.device).total)
  if plan.recompute > 0 then model.options.recompute = function(i) return i <= plan.recompute end end
  return ("memory: about %s a step of %d tokens, %d of %d blocks recomputed"):format(format.bytes(plan.bytes),
    tokens, plan.recompute, model.config.layers)
end

return M
