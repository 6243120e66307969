-- What a rank holds, sends and computes: sums that must come out whichever way they are made, and choices.

local cost = require "cft.plan.cost"
local expect = require "tests.expect"
local layout = require "cft.plan.layout"
local models = require "cft.models"
local optim = require "cft.train.optim"
local plan = require "cft.plan"
local rates = require "cft.plan.rates"
local shapes = require "cft.models.shapes"
local tensor = require "cft.engine.tensor"

local small = { arch = "qwen2", d = 24, layers = 3, heads = 4, kv_heads = 2, ffn = 40, vocab = 51, tied = true }
local f32 = { dtype = "f32", gradients = "f32", moments = "f32", master = false, states = 2, recompute = 0, recomputed = 0 }
local bf16 = { dtype = "bf16", gradients = "f32", moments = "f32", master = true, states = 2, recompute = 0, recomputed = 0 }

local function step(samples, length)
  return { samples = samples, tokens = samples * length, rows = samples * length, pairs = samples * length * (length + 1) / 2,
           micro = 8192, longest = length }
end

local function cluster(gpu, gpus, hosts) return { rates = rates.of(gpu), gpus = gpus, hosts = hosts or 1 } end

local function seven() return models.shape(shapes.named "Qwen/Qwen2.5-Math-7B-Instruct") end

return {
  { "weights are those of a model, and bytes those that it holds", function()
    for _, tied in ipairs { true, false } do
      small.tied = tied
      local m = models.new(small)
      local o = optim.adamw(m, {})
      expect.same(cost.weights(m.config), m:count())
      local held, a_rank = tensor.memory(m.device), layout.memory(m.config, f32, 10, 1, 0, 1)
      local aligned = 1.02  -- parts of a group begin on 64-byte lines, which weighs in a model as small as this
      for _, class in ipairs { "param", "grad", "optim" } do
        expect.truthy(held[class] >= a_rank[class] and held[class] <= aligned * a_rank[class] + 1024,
          ("%s: %d held, %d planned"):format(class, held[class], a_rank[class]))
      end
      o:release()
      m:release()
    end
  end },
  { "FLOPs are those of cft.models.flops, and recomputation adds the blocks' forward pass", function()
    local c, lengths, pairs_ = models.shape(small), { 5, 9, 1 }, 15 + 45 + 1
    local batch = { tokens = 15, rows = 15, pairs = pairs_ }
    local w = cost.work(c, f32, batch, 1)
    expect.close(w.products + w.attention, models.flops(c, lengths), 1e-6 * w.products)
    local again = setmetatable({ recomputed = 1 }, { __index = f32 })
    local head = 2 * 15 * c.d * c.vocab
    local twice = cost.work(c, again, batch, 1)
    expect.close(twice.products - w.products, w.products / 3 - head, 1)
    expect.close(twice.attention, w.attention * 4.5 / 3.5, 1)
  end },
  { "each stage of ZeRO shares out what it says, by the number of ranks", function()
    local c = seven()
    local one = layout.memory(c, bf16, 4096, 1, 0, 0)
    expect.same({ one.param, one.grad, one.optim }, { 2 * cost.weights(c), 4 * cost.weights(c), 12 * cost.weights(c) })
    for _, ranks in ipairs { 2, 8, 64 } do
      for stage, shared in pairs { [0] = {}, { "optim" }, { "optim", "grad" }, { "optim", "grad", "param" } } do
        local m, is_shared = layout.memory(c, bf16, 4096, ranks, stage, 0), {}
        for _, class in ipairs(shared) do is_shared[class] = true end
        for _, class in ipairs { "param", "grad", "optim" } do
          expect.close(m[class], one[class] / (is_shared[class] and ranks or 1), 1)
        end
      end
    end
  end },
  { "bytes sent: a sum to all is twice a sum to each; one rank sends nothing", function()
    local c, r = seven(), rates.of "h100"
    local weights, part = cost.weights(c), 7 / 8
    local function sent(stage, micros, ranks) return layout.communication(c, bf16, r, ranks or 8, 1, stage, micros).bytes end
    expect.close(sent(0, 4), 2 * part * 4 * weights, 1)
    expect.close(sent(1, 4), part * (4 + 2) * weights, 1)
    expect.close(sent(2, 4), part * (4 * 4 + 2) * weights, 1)
    expect.close(sent(3, 4), part * 4 * (4 + 2 * 2) * weights, 1)
    expect.same(sent(3, 4, 1), 0)
  end },
  { "communication that compute covers costs its last bucket; more of it is waited for", function()
    local hidden = layout.step(9, 6, 1, { gradients = 1, weights = 0 }, 0, 1, 30)
    expect.close(hidden.exposed, 1 / 30, 1e-9)
    local bare = layout.step(9, 6, 1, { gradients = 8, weights = 0 }, 0, 2, 30)
    expect.close(bare.exposed, 8 - 6 / 2, 1e-9)
    expect.close(bare.total, 10 + 5, 1e-9)
    expect.close(layout.step(9, 6, 1, { gradients = 1, weights = 2 }, 1, 1, 30).exposed, 1 / 30 + 2, 1e-9)
  end },
  { "what is taken fits, is fastest, and shares out no more than that takes", function()
    local c = seven()
    local list = plan.choices(c, bf16, step(512, 1400), cluster("h100", 8))
    local best = plan.best(list)
    expect.truthy(best.fits and best.memory.total <= rates.of("h100").memory)
    for _, r in ipairs(list) do
      expect.truthy(not r.fits or best.total <= 1.02 * r.total, "nothing that fits is much faster")
      expect.truthy(not (r.fits and r.stage < best.stage) or r.total > 1.02 * best.total, "and a lower stage is slower")
    end
    expect.same(plan.best(plan.choices(c, bf16, step(512, 1400), cluster("rtx4090", 1))), nil)
    local tiny = plan.best(plan.choices(models.shape(small), f32, step(8, 16), cluster("h100", 1)))
    expect.same({ tiny.stage, tiny.recompute }, { 0, 0 })
    for _, r in ipairs(plan.choices(c, bf16, step(512, 1400), cluster("h100", 4096, 512))) do
      expect.truthy(r.total > 0 and r.total < 10 and r.exposed >= 0, "thousands of GPUs")
    end
  end },
  { "this machine's rates are numbers above 0; to measure them is in no run's peak", function()
    local m = models.new(small)
    tensor.memory(m.device, true)
    local before = tensor.memory(m.device)
    local r = rates.measure(m.config, "f32", 64, m.device)
    local after = tensor.memory(m.device)
    expect.same(after.total, before.total)
    expect.truthy(after.peak - before.peak < 2 ^ 20, "but a matmul's workspace")  -- the copies take 128 MiB
    for _, name in ipairs { "matmul", "attention", "copy" } do
      expect.truthy(r[name] > 1e6 and r[name] < 1e16, name)
    end
    m:release()
  end },
  { "names with and without organisation, trained further or not; others are not known", function()
    expect.same(shapes.named("Qwen/Qwen2.5-Math-1.5B").d, 1536)
    expect.same(shapes.named("HuggingFaceTB/SmolLM2-135M-Instruct").layers, 30)
    expect.same(shapes.named "Qwen/Qwen3-8B", nil)
    expect.same(rates.of "h101", nil)
  end },
}
