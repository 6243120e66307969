--- Whole training steps on the CUDA device against the CPU's:  cftrun tests/cuda_emu/training.lua
-- With CFT_CUDA_MODULE naming the emulated module this needs no GPU: the device's host code and kernels
-- run on the CPU, streams are worked off late and in whatever order their events allow.

local ffi = require "ffi"
local memory_plan = require "cft.train.memory_plan"
local models = require "cft.models"
local optim = require "cft.train.optim"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"
local train = require "cft.train"

local STEPS = 6
local passed, failed = 0, 0

local function report(ok, what)
  print((ok and "ok    " or "FAIL  ") .. what)
  if ok then passed = passed + 1 else failed = failed + 1 end
end

-- How often the host waited for the device so far; nil on a card, which does not count.
ffi.cdef "uint64_t cuda_emu_waits(void); uint64_t cuda_emu_uploads(void);"
local module = os.getenv "CFT_CUDA_MODULE"
local counts, emulator = pcall(function()
  local m = ffi.load(module)
  return m.cuda_emu_waits and m
end)
local function waits() return counts and tonumber(emulator.cuda_emu_waits()) or 0 end

--- Losses of a few steps, and how often each waited.
local function losses_of(device, o)
  local model = models.new { arch = o.arch, d = 64, layers = 2, heads = 4, kv_heads = o.kv_heads, ffn = 150,
                             vocab = 211, tied = o.tied, theta = 1000, dtype = o.dtype, device = device, seed = 3 }
  if o.skip ~= nil then model.options.skip = o.skip end
  model.options.deterministic = o.deterministic or false
  tensor.set_autotune(device, o.autotune or false)
  local opt = optim[o.optimizer or "adamw"](model, {})
  local losses, most = {}, 0
  for i = 1, STEPS do
    -- Packs of other lengths each time: sizes that divide by nothing.
    local parts, weight = {}, 0
    for part = 1, o.parts or 1 do
      parts[part] = step.batch(211, 150 + 29 * i + 83 * (part - 1), 0.4, { 31, 7, 64, 1, 50 })
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
      opt:step(2e-3, weight, results)
      results[#results + 1] = opt.scale
      local read = tensor.read_all(results)
      local norm = table.remove(read)[1]
      losses[i] = 0
      for _, loss in ipairs(read) do losses[i] = losses[i] + loss[0] / weight end
      assert(opt:finish(norm), "a step was not made")
    end)
    if i > 2 then most = math.max(most, waits() - before) end  -- plans are compiled in the first
  end
  opt:release()
  return losses, most
end

--- Losses of a trainer's optimizer steps on batches of one pack, and where in an optimizer step data was uploaded: before it
-- was queued whole, and between then and the wait for it.
local function trained(device, samples)
  local model = models.new { arch = "qwen2", d = 64, layers = 2, heads = 4, kv_heads = 2, ffn = 150, vocab = 211,
                             dtype = "f32", device = device, seed = 3 }
  tensor.set_autotune(device, false)
  local opt = optim.adamw(model, {})
  local batches = { updates = function() return 3 end,
                    update = function(_, _, index) return { { batch = samples[index + 1] } }, samples[index + 1].weight end }
  local trainer = train.new { model = model, batches = batches, optim = opt, lr = function() return 2e-3 end,
                              steps = STEPS, log = require("cft.base.log").open(nil, { quiet = true }) }
  local seen, count = {}, function() return counts and tonumber(emulator.cuda_emu_uploads()) or 0 end
  local now
  function opt.step(...)
    getmetatable(opt).__index.step(...)
    now.queued, now.waits = count(), waits()
  end
  function trainer.read(...)
    now.asked, now.waited_early = count(), waits() - now.waits
    return train.Trainer.read(...)
  end
  local losses = {}
  for i = 1, STEPS do
    now = { begun = count() }
    losses[i] = trainer:step().loss
    seen[i] = { before = now.queued - now.begun, ahead = now.asked - now.queued, early = now.waited_early }
  end
  opt:release()
  return losses, seen
end

local function worst(a, b)
  local w = 0
  for i = 1, STEPS do w = math.max(w, math.abs(a[i] - b[i]) / math.abs(b[i])) end
  return w
end

for _, o in ipairs {
  { "Qwen2 in f32", arch = "qwen2", kv_heads = 2, tied = true, dtype = "f32", within = 1e-5 },
  { "Qwen2 in f32 by Lion", arch = "qwen2", kv_heads = 2, tied = true, dtype = "f32", optimizer = "lion", within = 1e-3 },
  { "Qwen2 in bf16", arch = "qwen2", kv_heads = 2, tied = true, dtype = "bf16", within = 2e-3 },
  { "Qwen2 in f32, two micro-batches a step", arch = "qwen2", kv_heads = 2, parts = 2, dtype = "f32", within = 1e-5 },
  { "Qwen2 in bf16, two micro-batches a step", arch = "qwen2", kv_heads = 2, parts = 2, dtype = "bf16", within = 2e-3 },
  { "Llama in bf16, every row computed", arch = "llama", kv_heads = 4, dtype = "bf16", skip = false, within = 2e-3 },
  { "Qwen2 in bf16, deterministic", arch = "qwen2", kv_heads = 1, dtype = "bf16", deterministic = true, within = 2e-3 },
  { "Qwen2 in bf16, matmuls timed", arch = "qwen2", kv_heads = 2, tied = true, dtype = "bf16", autotune = true, within = 2e-3 },
} do
  local cpu = losses_of("cpu", o)
  local gpu, most = losses_of("cuda", o)
  local off = worst(gpu, cpu)
  report(off <= o.within, ("%s: %d steps, losses %.4f to %.4f, off by %.1e"):format(o[1], STEPS, gpu[1], gpu[STEPS], off))
  if counts and not o.autotune then  -- with a shape that is new the clock is waited for
    report(most <= 1, ("%s: %d waits a step (for the losses and the gradient's norm)"):format(o[1], most))
  end
  if o.deterministic then
    local again = losses_of("cuda", o)
    report(worst(again, gpu) == 0, o[1] .. ": the same to the bit again")
  end
end
-- The next step's data is queued for upload before this step is waited for.
do
  local samples = {}
  for i = 1, 3 do
    samples[i] = step.batch(211, 90 + 70 * i, 0.4, { 31, 7, 64, 1, 50 })
    samples[i].kinds = ffi.new("uint8_t[?]", samples[i].n)
  end
  local cpu = trained("cpu", samples)
  local gpu, seen = trained("cuda", samples)
  report(worst(gpu, cpu) <= 1e-5, ("a trainer's steps: losses %.4f to %.4f, off by %.1e"):format(gpu[1], gpu[STEPS], worst(gpu, cpu)))
  if counts then
    local ok = seen[1].before > 0
    for i = 1, STEPS do
      if i > 1 then ok = ok and seen[i].before == 0 end
      ok = ok and (seen[i].ahead > 0) == (i < STEPS) and seen[i].early == 0
    end
    report(ok, ("the next step's data: %d uploads behind a step, before the wait for it; none at its own start"):format(
      seen[1].ahead))
  end
end
-- Without `memory =` the budget is the card's memory less 1.5 GiB; one that was asked for must hold.
do
  local model = models.new { arch = "llama", d = 64, layers = 3, heads = 4, ffn = 150, vocab = 211, device = "cuda" }
  local few, many = memory_plan.apply(model, 1000), memory_plan.apply(model, 1e6)
  report(few:find "; 0 of 3 blocks recomputed$" and many:find "; 2 of 3 blocks recomputed, and 2.50 GiB are there for it",
    "memory: " .. many)
  report(not pcall(memory_plan.apply, model, 1e6, "2.5GiB"), "memory: one that was asked for is refused where it cannot hold")
end
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
