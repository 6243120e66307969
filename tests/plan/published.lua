-- The arithmetic of `cft.plan` against rates that others measured on H100s.
--
-- LLMQ (github.com/IST-DASLab/llmq at b77d969, benchmarks/H100x1.md and H100x8.md, May 2026): Qwen2.5 trained in bf16,
-- moments in bf16 and no master weights, sequences of 1,024 tokens, 524,288 tokens a step, the optimizer shared out over
-- 8 GPUs. Milliseconds of the second step or later, when warm. One constant is fitted to half of them: the share of the peak
-- that products reach; the other half is predicted.

local cost = require "cft.plan.cost"
local expect = require "tests.expect"
local layout = require "cft.plan.layout"
local models = require "cft.models"
local rates = require "cft.plan.rates"
local shapes = require "cft.models.shapes"

local TOKENS, LENGTH = 524288, 1024

-- model, GPUs, tokens a micro-batch, measured ms, fitted
local published = {
  { "qwen2.5-0.5b", 1, 32768, 3504, true }, { "qwen2.5-1.5b", 1, 32768, 8905 },
  { "qwen2.5-3b", 1, 16384, 16958, true }, { "qwen2.5-7b", 1, 4096, 37854 },
  { "qwen2.5-0.5b", 8, 32768, 438 }, { "qwen2.5-1.5b", 8, 32768, 1148, true },
  { "qwen2.5-3b", 8, 16384, 2183 }, { "qwen2.5-7b", 8, 8192, 4665, true },
}

local how = { dtype = "bf16", gradients = "bf16", moments = "bf16", master = false, states = 2, recompute = 0, recomputed = 0 }

-- Milliseconds of a row, with a share of the peak for products.
local function predicted(row, share)
  local name, gpus, micro = unpack(row, 1, 3)
  local c, r = models.shape(shapes.named(name)), rates.of "h100"
  r.matmul = share * r.peak
  local tokens = TOKENS / gpus
  local batch = { tokens = tokens, rows = tokens, pairs = tokens * (LENGTH + 1) / 2 }
  local stage, micros = gpus > 1 and 1 or 0, tokens / micro
  local forward_backward, backward, update = cost.seconds(cost.work(c, how, batch, 1 / gpus), r)
  local sent = layout.communication(c, how, r, gpus, 1, stage, micros)
  return 1000 * layout.step(forward_backward, backward, update, sent, stage, micros, c.layers + 2).total
end

-- The share with the least sum of squared relative errors over the fitted half.
local function fit()
  local best, least = nil, math.huge
  for percent = 50, 95 do
    local sum = 0
    for _, row in ipairs(published) do
      if row[5] then sum = sum + math.log(predicted(row, percent / 100) / row[4]) ^ 2 end
    end
    if sum < least then best, least = percent / 100, sum end
  end
  return best
end

return {
  { "the share of the peak that products reach is the one that fits half of the published rates", function()
    expect.close(rates.shares.matmul, fit(), 0.0051)
  end },
  { "the other half is predicted within 10%", function()
    for _, row in ipairs(published) do
      local error = predicted(row, rates.shares.matmul) / row[4] - 1
      if os.getenv "CFT_SHOW" then
        print(("%-14s %d  %6d ms  %6.0f ms  %+5.1f%%%s"):format(row[1], row[2], row[4], predicted(row, rates.shares.matmul),
          100 * error, row[5] and "  fitted" or ""))
      end
      expect.truthy(math.abs(error) < 0.1, ("%s on %d: %+.1f%%"):format(row[1], row[2], 100 * error))
    end
  end },
}
