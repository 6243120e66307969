--- Whole training steps on the CUDA device against the CPU's:  cftrun tests/cuda_emu/training.lua
-- With CFT_CUDA_MODULE naming the emulated module this needs no GPU: the device's host code and kernels
-- run on the CPU, streams are worked off late and in whatever order their events allow.

local ffi = require "ffi"
local models = require "cft.models"
local optim = require "cft.optim"
local step = require "cft.bench.step"
local tensor = require "cft.tensor"

local STEPS = 6
local passed, failed = 0, 0

local function report(ok, what)
  print((ok and "ok    " or "FAIL  ") .. what)
  if ok then passed = passed + 1 else failed = failed + 1 end
end

-- How often the host waited for the device so far; nil on a card, which does not count.
ffi.cdef "uint64_t cuda_emu_waits(void);"
local module = os.getenv "CFT_CUDA_MODULE"
local counts, emulator = pcall(function()
  local m = ffi.load(module)
  return m.cuda_emu_waits and m
end)
local function waits() return counts and tonumber(emulator.cuda_emu_waits()) or 0 end

--- Losses of a few steps, and how often each waited.
local function train(device, o)
  local model = models.new { arch = o.arch, d = 64, layers = 2, heads = 4, kv_heads = o.kv_heads, ffn = 150,
                             vocab = 211, tied = o.tied, theta = 1000, dtype = o.dtype, device = device, seed = 3 }
  if o.skip ~= nil then model.options.skip = o.skip end
  model.options.deterministic = o.deterministic or false
  tensor.set_autotune(device, o.autotune or false)
  local opt = optim.adamw(model, {})
  local losses, most = {}, 0
  for i = 1, STEPS do
    -- Packs of other lengths each time: sizes that divide by nothing.
    local parts, weight = {}, 0
    for part = 1, o.parts or 1 do
      parts[part] = step.batch(211, 150 + 29 * i + 83 * (part - 1), nil, 0.4, { 31, 7, 64, 1, 50 })
      weight = weight + parts[part].weight
    end
    local before = waits()
    model:zero_grad()
    tensor.scope(function()
      local results = {}
      for part, batch in ipairs(parts) do
        results[part] = model:loss(batch)
        results[part]:backward()
      end
      opt:queue(2e-3, weight, results)
      results[#results + 1] = opt.scale
      local read = tensor.read_all(results)
      local norm = table.remove(read)[1]
      losses[i] = 0
      for _, loss in ipairs(read) do losses[i] = losses[i] + loss[0] / weight end
      assert(opt:settle(norm), "an update was not made")
    end)
    if i > 2 then most = math.max(most, waits() - before) end  -- plans are compiled in the first
  end
  opt:release()
  return losses, most
end

local function worst(a, b)
  local w = 0
  for i = 1, STEPS do w = math.max(w, math.abs(a[i] - b[i]) / math.abs(b[i])) end
  return w
end

for _, o in ipairs {
  { "Qwen2 in f32", arch = "qwen2", kv_heads = 2, tied = true, dtype = "f32", within = 1e-5 },
  { "Qwen2 in bf16", arch = "qwen2", kv_heads = 2, tied = true, dtype = "bf16", within = 2e-3 },
  { "Qwen2 in f32, two micro-batches an update", arch = "qwen2", kv_heads = 2, parts = 2, dtype = "f32", within = 1e-5 },
  { "Qwen2 in bf16, two micro-batches an update", arch = "qwen2", kv_heads = 2, parts = 2, dtype = "bf16", within = 2e-3 },
  { "Llama in bf16, every row computed", arch = "llama", kv_heads = 4, dtype = "bf16", skip = false, within = 2e-3 },
  { "Qwen2 in bf16, deterministic", arch = "qwen2", kv_heads = 1, dtype = "bf16", deterministic = true, within = 2e-3 },
  { "Qwen2 in bf16, matmuls timed", arch = "qwen2", kv_heads = 2, tied = true, dtype = "bf16", autotune = true, within = 2e-3 },
} do
  local cpu = train("cpu", o)
  local gpu, most = train("cuda", o)
  local off = worst(gpu, cpu)
  report(off <= o.within, ("%s: %d steps, losses %.4f to %.4f, off by %.1e"):format(o[1], STEPS, gpu[1], gpu[STEPS], off))
  if counts and not o.autotune then  -- with a shape that is new the clock is waited for
    report(most <= 1, ("%s: %d waits a step (for the losses and the gradient's norm)"):format(o[1], most))
  end
  if o.deterministic then
    local again = train("cuda", o)
    report(worst(again, gpu) == 0, o[1] .. ": the same to the bit again")
  end
end
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
