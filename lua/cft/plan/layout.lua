--- Ranks that share a model: what each of them holds, and what they send each other in an optimizer step.
--
-- ZeRO's stages (Rajbhandari et al. 2020, arXiv 1910.02054): 0 holds all on every rank; 1 shares out the optimizer's state, 2
-- the gradients as well, 3 the weights as well. docs/plan.md derives the numbers.

local cost = require "cft.plan.cost"
local memory_plan = require "cft.train.memory_plan"
local rates_of = require "cft.plan.rates"

local M = {}

M.STAGES = { 0, 1, 2, 3 }

local AHEAD = 2  -- blocks that are whole at a time where their weights or gradients are shared out: one in use, one on its way

--- Bytes of a rank, by class.
-- @tab c config of the model
-- @tab how as of `cft.plan.cost.weight_bytes`; and `recompute`, how many blocks
-- @int tokens of a micro-batch @int ranks @int stage of ZeRO @int host_memory 1 on a CPU, else 0
-- @treturn table `param`, `grad`, `optim`, `activation` (what a step makes, and blocks that are gathered), and `total`
function M.memory(c, how, tokens, ranks, stage, host_memory)
  local count, block, embedding, last = cost.weights(c)
  local weight, gradient, state = cost.weight_bytes(how)
  local function share(from) return stage >= from and ranks or 1 end
  -- A tied head adds to the embedding's gradient first and the embedding last: it is whole all the time.
  local whole = ranks > 1 and AHEAD * block + math.max(embedding, last) or 0
  local m = {
    param = weight * count / share(3), grad = gradient * count / share(2), optim = state * count / share(1),
    activation = memory_plan.activations(c, how.dtype, tokens, how.recompute, host_memory)
      + (stage >= 2 and gradient * whole or 0) + (stage >= 3 and weight * whole or 0),
  }
  m.total = m.param + m.grad + m.optim + m.activation
  return m
end

-- Bytes/s of what a rank sends and receives in a collective: rings go through every link of a host and leave it through the
-- network of all its GPUs.
local function bandwidth(rates, ranks, hosts)
  if hosts == 1 then return rates.link end
  return math.min(rates.link, rates.network * ranks / hosts)
end

--- Bytes that a rank sends in an optimizer step, and how long that takes.
-- @tab c config @tab how as of `memory` @tab rates of the GPU @int ranks @int hosts @int stage @int micros micro-batches a step
-- @treturn table `bytes`; `gradients`, seconds of what can go on beside backward; `weights`, seconds of what gathers weights,
-- beside the compute of every micro-batch in stage 3, at the step's end in 1 and 2
function M.communication(c, how, rates, ranks, hosts, stage, micros)
  if ranks == 1 then return { bytes = 0, gradients = 0, weights = 0 } end
  local count = cost.weights(c)
  local weight, gradient = cost.weight_bytes(how)
  local part, groups = (ranks - 1) / ranks, c.layers + 2
  local function of(times, bytes)
    local sent = times * part * bytes * count
    return { bytes = sent, seconds = sent / bandwidth(rates, ranks, hosts)
      + times * groups * rates_of.CALL * math.ceil(math.log(ranks) / math.log(2)) }
  end
  local reduced = of(stage == 0 and 2 or stage == 1 and 1 or micros, gradient)  -- a sum to all is a sum to each and a gather
  local gathered = stage == 0 and { bytes = 0, seconds = 0 } or of(stage == 3 and 2 * micros or 1, weight)
  return { bytes = reduced.bytes + gathered.bytes, gradients = reduced.seconds, weights = gathered.seconds }
end

--- Seconds of a step: what computes, and what of the communication nothing hides.
-- @number forward_backward seconds of all micro-batches @number backward of these
-- @number change seconds in which the optimizer changes the weights
-- @tab sent as of `communication` @int stage @int micros @int groups buckets of the gradient
-- @treturn table `compute`, `exposed` (seconds of communication that compute waits for), `total`
function M.step(forward_backward, backward, change, sent, stage, micros, groups)
  -- Stages 0 and 1 reduce beside the last micro-batch's way back alone, the others beside each. The last bucket has
  -- nothing to hide behind.
  local behind = stage <= 1 and backward / micros or backward
  local exposed = math.max(sent.gradients - behind, sent.gradients / groups)
  if stage == 3 then
    local free = forward_backward - math.min(behind, sent.gradients)
    exposed = exposed + math.max(sent.weights - free, sent.weights / groups)
  else
    exposed = exposed + sent.weights
  end
  local compute = forward_backward + change
  return { compute = compute, exposed = exposed, total = compute + exposed }
end

return M
