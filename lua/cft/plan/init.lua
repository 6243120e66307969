--- What a run takes on so many GPUs, by arithmetic: memory, communication and time of each way to share a model out, and the
-- way to take. Nothing is opened or computed for it, and no GPU is wanted.
-- @usage local plan = require "cft.plan"
-- local c = cft.models.shape(require "cft.models.shapes".named "qwen2.5-7b")
-- print(#plan.choices(c, { dtype = "bf16", gradients = "f32", moments = "f32", master = true, states = 2 },
--   { samples = 512, tokens = 512 * 1400, rows = 512 * 1400, pairs = 512 * 1400 * 1401 / 2, micro = 16384,
--     longest = 1400 },
--   { rates = require "cft.plan.rates".of "h100", gpus = 8, hosts = 1 }))   --> 14

local cost = require "cft.plan.cost"
local layout = require "cft.plan.layout"

local M = {}

local RESERVED = 1.6 * 2 ^ 30  -- of a GPU: driver and context, libraries' workspace, what the pool cannot use again at once
local FEWEST_TOKENS = 2048     -- of a micro-batch that the published shares of the peak may be expected of
local CLOSE = 1.02             -- a stage that is faster by less than this is not worth its bytes

-- One way: ZeRO's stage, blocks that are recomputed, tokens a micro-batch.
local function choice(c, how, step, cluster, stage, recompute, tokens)
  local ranks, rates = cluster.gpus, cluster.rates
  local o = setmetatable({ recompute = recompute, recomputed = recompute / c.layers }, { __index = how })
  local share = 1 / ranks
  local mine = { tokens = step.tokens * share, rows = step.rows * share, pairs = step.pairs * share }
  local micros = math.max(1, math.ceil(mine.tokens / tokens))
  local micro = math.ceil(mine.tokens / micros)
  local forward_backward, backward, update = cost.seconds(cost.work(c, o, mine, stage >= 1 and share or 1), rates)
  local sent = layout.communication(c, o, rates, ranks, cluster.hosts, stage, micros)
  local r = layout.step(forward_backward, backward, update, sent, stage, micros, c.layers + 2)
  r.stage, r.recompute, r.tokens, r.micros, r.sent = stage, recompute, tokens, micros, sent.bytes
  r.memory = layout.memory(c, o, micro, ranks, stage, 0)
  r.fits = r.memory.total + RESERVED <= rates.memory
  return r
end

-- The fewest recomputed blocks with which a stage fits, or nil.
local function fewest(c, how, step, cluster, stage)
  for recompute = 1, c.layers - 1 do
    local r = choice(c, how, step, cluster, stage, recompute, step.micro)
    if r.fits then return r end
  end
end

-- Micro-batches halved until a stage fits without recomputation, or nil: they hold the longest sample, and enough tokens for
-- products to run at their rate.
local function smaller(c, how, step, cluster, stage)
  local tokens = math.floor(step.micro / 2)
  while tokens >= math.max(step.longest, FEWEST_TOKENS) do
    local r = choice(c, how, step, cluster, stage, 0, tokens)
    if r.fits then return r end
    tokens = math.floor(tokens / 2)
  end
end

--- Every way: for each stage of ZeRO with no block recomputed, in micro-batches that make it fit if there are such, with as
-- many blocks recomputed as it takes to fit, and with all but the last.
-- @tab c config of the model
-- @tab how `dtype`, `gradients`, `moments`, `master`, `states`: see `cft.plan.cost.weight_bytes`
-- @tab step of all ranks together: `samples`, `tokens`, `rows` (that carry loss), `pairs`; `micro`, tokens a micro-batch, and
-- `longest`, tokens of the longest sample
-- @tab cluster `rates` of a GPU, `gpus` in all, `hosts`
-- @treturn table list of `stage`, `recompute`, `tokens` (of a micro-batch), `micros` (of a rank and step), `memory` (by class), `fits`, `sent` (bytes), `compute`,
-- `exposed`, `total` (seconds a step)
function M.choices(c, how, step, cluster)
  local list = {}
  for _, stage in ipairs(layout.STAGES) do
    if stage == 0 or cluster.gpus > 1 then
      local none = choice(c, how, step, cluster, stage, 0, step.micro)
      local all = choice(c, how, step, cluster, stage, c.layers - 1, step.micro)
      list[#list + 1] = none
      if not none.fits then
        list[#list + 1] = smaller(c, how, step, cluster, stage)
        list[#list + 1] = all.fits and fewest(c, how, step, cluster, stage) or nil
      end
      if all.recompute ~= list[#list].recompute then list[#list + 1] = all end
    end
  end
  return list
end

--- The way to take: the fastest that fits; of those that are about as fast, the one that shares out least.
-- @tab list as of `choices`
-- @treturn ?table one of them; nil where none fits
function M.best(list)
  local fastest
  for _, r in ipairs(list) do
    if r.fits and (not fastest or r.total < fastest.total) then fastest = r end
  end
  for _, r in ipairs(list) do
    if r.fits and r.total <= CLOSE * fastest.total then return r end
  end
end

return M
