-- Attention of a step, forward and backward, beside a burst of multiply-adds, in processor time of one thread: for a machine
-- that does other work too, and for two builds in turn.
--
--   OMP_NUM_THREADS=1 CFT_ISA=avx2 cftrun scripts/time_attention.lua [ROUNDS] [DTYPE] [MODEL] [LENGTH]
--
-- The best of 10 rounds counts. 2,048 tokens in samples of 512; FLOPs are those of pairs that see each other.

local rates = require "cft.engine.rates"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local rounds, dtype, name, length = tonumber(arg[1] or 10), arg[2] or "f32", arg[3] or "smollm2-135m", tonumber(arg[4] or 512)
if rates.threads() ~= 1 then error("OMP_NUM_THREADS=1 is wanted: processor time is that of all threads", 0) end

local function processor_time(op)
  local seconds
  tensor.scope(function()
    local made = op.prepare and op.prepare()
    local start = os.clock()
    op.run(made)
    seconds = os.clock() - start
  end)
  if op.after then op.after() end
  return seconds
end

local model = step.model(name, dtype, "cpu")
print(("%s in %s, %s"):format(name, dtype, tensor.device_description(model.device)))
local burst, lines = 0, {}
step.each_op(model, step.batch(model.config.vocab, 2048, 1, { length }), function(op)
  if not op.name:find "^attention" then return end
  local best = math.huge
  for _ = 1, rounds do
    best, burst = math.min(best, processor_time(op)), math.max(burst, rates.burst(dtype))
  end
  lines[#lines + 1] = { op, best }
end)
for _, line in ipairs(lines) do  -- a burst is timed by the clock: the best one had the processor for itself
  local op, best = line[1], line[2]
  print(("%-20s %8.2f ms  %6.1f GFLOP/s  %3.0f%% of a burst's %.1f"):format(op.name, 1e3 * best, op.flops / best / 1e9,
    100 * op.flops / best / burst, burst / 1e9))
end
