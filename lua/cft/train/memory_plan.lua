--- What a training step will hold, from the model's shape, and how many blocks must be recomputed on
-- the way back so that it fits a budget. docs/memory.md derives the numbers.

local archs = require "cft.models.archs"
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
local function head_bytes(c, dtype, rows, host_memory)
  return kernels.head_chunk(host_memory, rows, c.vocab) * c.vocab * (4 + (dtype == "bf16" and 2 or 0))
end

--- Bytes of a micro-batch at the step's fullest moment, beside weights, gradients and the optimizer's state.
-- @tab c config of the model @string dtype of its weights @int tokens
-- @int recompute blocks that are recomputed on the way back
-- @int host_memory 1 on a device whose memory is the host's, else 0
function M.activations(c, dtype, tokens, recompute, host_memory)
  local per = archs.module(c).memory(c, door.dtype_bytes[dtype])
  local blocks = (c.layers - recompute) * per.kept + recompute * per.input
  if recompute > 0 then blocks = blocks + per.kept end  -- the one that is being recomputed
  return tokens * (blocks + per.backward) + head_bytes(c, dtype, tokens, host_memory)
end

--- Plan a step.
-- @tparam Model model @int tokens of the largest micro-batch
-- @number[opt] budget bytes; nil: nothing is recomputed
-- @number held what is in use before the step: weights, gradients, optimizer state
-- @bool[opt] anyway whether a budget that nothing keeps is no error: it is an estimate that nobody asked to hold
-- @treturn table `recompute`, how many blocks; `bytes`, the estimate; `kept`, bytes a token of a block
function M.plan(model, tokens, budget, held, anyway)
  local c = model.config
  local function estimate(recompute)
    return held + M.activations(c, model.dtype, tokens, recompute, model.device.host_memory)
  end
  local k = 0
  while budget and k < c.layers - 1 and estimate(k) > budget do k = k + 1 end
  local bytes = estimate(k)
  if budget and bytes > budget and not anyway then
    blame("memory: %d tokens a micro-batch need about %s with every block but the last recomputed, "
          .. "more than the budget of %s; lower tokens =", tokens, format.bytes(bytes), format.bytes(budget))
  end
  return { recompute = k, bytes = bytes, kept = M.a_token(model).kept }
end

local LOOKED = 2 ^ 18  -- samples whose lengths are looked at: under a second

-- Tokens of the fullest micro-batch that an optimizer step of samples of these lengths can have: packs hold no more than
-- all of them, and no more than `batches.tokens`; rows without packing come as they stand.
local function fullest_of(batches, lengths)
  local most, sum = 0, 0
  for i, n in ipairs(lengths) do
    sum = sum + n
    if not batches.packing and (i % batches.rows == 0 or i == #lengths) then most, sum = math.max(most, sum), 0 end
  end
  return batches.packing and math.min(sum, batches.tokens) or most
end

--- What the steps of a run hold.
-- @tparam Batches batches @int steps
-- @treturn table `fullest`, tokens of the largest micro-batch, or more, and `at`, the step (from 0) that has it; of all samples
-- `tokens`, `pairs`, the sum of T (T + 1) / 2, and `longest`; nil where that is not known before they come
function M.survey(batches, steps)
  local s = { fullest = batches.tokens, at = 0 }
  if not batches.lengths or batches.samples.stream or steps == 0 then return s end
  local looked = math.min(steps, math.max(1, math.floor(LOOKED / batches.batch)))
  local per_epoch = batches:updates()
  s.fullest, s.tokens, s.pairs, s.longest = 0, 0, 0, 0
  for step = 0, looked - 1 do
    local lengths = batches:lengths(math.floor(step / per_epoch), step % per_epoch)
    local fullest = fullest_of(batches, lengths)
    if fullest > s.fullest then s.fullest, s.at = fullest, step end
    for _, n in ipairs(lengths) do
      s.tokens, s.pairs, s.longest = s.tokens + n, s.pairs + n * (n + 1) / 2, math.max(s.longest, n)
    end
  end
  if looked < steps then  -- of the rest only what no micro-batch exceeds is known
    s.fullest = batches.packing and batches.tokens or math.max(s.fullest, s.longest * math.min(batches.rows, batches.batch))
    s.tokens, s.pairs = s.tokens / looked * steps, s.pairs / looked * steps
  end
  return s
end

-- Of a GPU's memory, what is left for the libraries' workspaces, kernels that are loaded late, and the pool's holes.
local RESERVE = 1.5 * 2 ^ 30

--- Plan a step, and have the model recompute as many blocks as that takes.
-- @tparam Model model @int tokens of the largest micro-batch that comes: see `survey`
-- @string[opt] budget such as "8GiB"; absent: on a GPU its memory but 1.5 GiB, elsewhere none
-- @int[opt=0] passing bytes of weights and gradients that are whole for a while, of what ranks keep in parts
-- @treturn string what was planned, for the log
function M.apply(model, tokens, budget, passing)
  local use, own = tensor.memory(model.device), nil
  if not budget and model.device.host_memory == 0 then own = use.limit - RESERVE end
  local plan = M.plan(model, tokens, budget and M.bytes(budget) or own, use.total + (passing or 0), own ~= nil)
  if plan.recompute > 0 then model.options.recompute = function(i) return i <= plan.recompute end end
  return ("memory: about %s for the fullest micro-batch, %d tokens; %d of %d blocks recomputed%s"):format(
    format.bytes(plan.bytes), tokens, plan.recompute, model.config.layers, own and plan.bytes > own
    and (", and %s are there for it: lower tokens = if it runs out"):format(format.bytes(own)) or "")
end

--- Bytes of a checkpoint: weights, and what the optimizer keeps.
-- @tparam Model model @param optim its optimizer
-- @treturn int weights @treturn int state
function M.saved(model, optim)
  local state = 0
  for _, _, t in optim:state() do
    if tensor.is(t) then
      state = state + t:bytes()
      t:release()
    else  -- of several ranks, which have parts of it
      state = state + door.dtype_bytes[t.dtype] * t.dims[1] * (t.dims[2] or 1)
    end
  end
  return model:count() * door.dtype_bytes[model.dtype], state
end

return M
