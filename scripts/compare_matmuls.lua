-- Each matmul of a step beside oneDNN's, in processor time of one thread, for a machine that does other work too: who is
-- stopped meanwhile loses nothing but what its caches held.
--
--   OMP_NUM_THREADS=1 CFT_ISA=avx2 DNNL_MAX_CPU_ISA=AVX2 cftrun scripts/compare_matmuls.lua [ROUNDS] [DTYPE] [MODEL]
--
-- In each round ours runs once, then oneDNN's with weights packed before and not; the best of 5 rounds counts. 2,048 tokens.

local onednn = require "cft.cli.bench.onednn"
local rates = require "cft.engine.rates"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local rounds, dtype, name = tonumber(arg[1] or 5), arg[2] or "f32", arg[3] or "smollm2-135m"
local library, why = onednn.open()
if not library then error(why, 0) end
if rates.threads() ~= 1 then error("OMP_NUM_THREADS=1 is wanted: processor time is that of all threads", 0) end

local function processor_time(op)
  local seconds
  tensor.scope(function()
    local start = os.clock()
    op.run()
    seconds = os.clock() - start
  end)
  return seconds
end

local model = step.model(name, dtype, "cpu")
print(("%s in %s, %s"):format(name, dtype, tensor.device_description(model.device)))
step.each_op(model, step.batch(model.config.vocab, 2048, 1, { 512 }), function(op)
  if not op.matmul then return end
  processor_time(op)
  local ours, theirs = math.huge, math.huge
  for _ = 1, rounds do
    ours = math.min(ours, processor_time(op))
    onednn.instead(library, function()
      processor_time(op)  -- what it compiles and packs
      theirs = math.min(theirs, processor_time(op))
    end)
  end
  print(("%-12s %8.2f ms  %6.1f GFLOP/s   oneDNN %6.1f   %.2f of it"):format(op.name, 1e3 * ours, op.flops / ours / 1e9,
    op.flops / theirs / 1e9, theirs / ours))
  io.stdout:flush()
end)
