--- Generation on the CUDA device against the CPU's:  cftrun tests/cuda_emu/generate.lua
-- With CFT_CUDA_MODULE naming the emulated module this needs no GPU.

local autograd = require "cft.engine.autograd"
local demo = require "cft.demo"
local engines = require "cft.generate.engine"
local expect = require "tests.expect"
local ffi = require "ffi"
local generate = require "cft.generate"
local inputs = require "cft.nn.inputs"
local json = require "cft.base.json"
local models = require "cft.models"
local process = require "tests.process"
local steps = require "cft.generate.steps"
local tensor = require "cft.engine.tensor"

local passed, failed = 0, 0

local function test(name, fn)
  local ok, why = xpcall(fn, debug.traceback)
  print((ok and "ok    " or "FAIL  ") .. name .. (ok and "" or ": " .. tostring(why)))
  if ok then passed = passed + 1 else failed = failed + 1 end
end

local V = 301
tensor.set_autotune("cuda", false)

local function model(device, o)
  local shape = { arch = "qwen2", d = 96, layers = 2, heads = 6, kv_heads = 2, ffn = 208, vocab = V, seed = 4, init = 0.2,
                  device = device }
  for name, value in pairs(o or {}) do shape[name] = value end
  return models.new(shape)
end

-- Prompts of 4 to 90 ids; two begin alike for a page and more.
local function prompts()
  local list = {}
  for i = 1, 6 do
    list[i] = {}
    for j = 1, 4 + (i - 1) * 17 do list[i][j] = (i * j * 7 + j * j) % V end
  end
  for j = 1, 40 do list[6][j] = list[4][j] end
  return list
end

local function generated(m, o, list)
  local all = { max_new = 12, ends = false, logprobs = 2 }
  for name, value in pairs(o or {}) do all[name] = value end
  return generate(m, list or prompts(), all)
end

local function ids_of(results)
  local list = {}
  for i, r in ipairs(results) do
    for s, sample in ipairs(r.samples) do list[#list + 1] = ("%d.%d: %s"):format(i, s, table.concat(sample.ids, " ")) end
  end
  return table.concat(list, "\n")
end

-- Log-probabilities of the same tokens, and of those beside them, from two devices.
local function close(got, wanted, within)
  for i, r in ipairs(wanted) do
    for s, sample in ipairs(r.samples) do
      local other = got[i].samples[s]
      expect.close(other.logprobs, sample.logprobs, within)
      for j, top in ipairs(sample.top) do
        for t, entry in ipairs(top) do expect.close(other.top[j][t].logprob, entry.logprob, within) end
      end
    end
  end
end

local sampled = { temperature = 1.2, top_k = 50, top_p = 0.95, min_p = 0.001, penalty = 1.1, bias = { [7] = 2 }, n = 2, seed = 3 }

test("f32: greedy and drawn tokens are the CPU's, batch, chunk, pages and preemption as they may", function()
  local cpu, gpu = model "cpu", model "cuda"
  for _, o in ipairs { {}, sampled } do
    local wanted = generated(cpu, o)
    local function check(more)
      local all = setmetatable(more, { __index = o })
      for name, value in pairs(o) do all[name] = value end
      local got = generated(gpu, all)
      expect.same(ids_of(got), ids_of(wanted))
      close(got, wanted, 1e-4)
      return got.counts
    end
    check {}
    check { batch = 1 }
    expect.truthy(check({ batch = 4, chunk = 7 }).shared > 0, "no page was shared")
    expect.truthy(check({ memory = engines.page_bytes(gpu) * 4, chunk = 200 }).preempted > 0, "nobody was preempted")
  end
  cpu:release() gpu:release()
end)

test("bf16, by tensor cores: log-probabilities are the CPU's to rounding", function()
  local cpu, gpu = model("cpu", { dtype = "bf16" }), model("cuda", { dtype = "bf16" })
  -- One token each: what follows another token is another text.
  close(generated(gpu, { max_new = 1 }), generated(cpu, { max_new = 1 }), 0.1)
  cpu:release() gpu:release()
end)

-- Ids and log-probabilities, to the bit.
local function same(got, wanted, what)
  for i, r in ipairs(wanted) do
    for s, sample in ipairs(r.samples) do
      local where = ("%s: prompt %d, sample %d"):format(what, i, s)
      expect.same(got[i].samples[s].ids, sample.ids, where)
      expect.same(got[i].samples[s].logprobs, sample.logprobs, where)
      expect.same(got[i].samples[s].top, sample.top, where)
    end
  end
end

-- What `fn` gives where no step is recorded.
local function without_graphs(fn, ...)
  local most = steps.MOST
  steps.MOST = 0
  local result = fn(...)
  steps.MOST = most
  return result
end

test("steps as graphs: the same bits as without, batches that grow and shrink, preemption, other rows beside them", function()
  local m = model("cuda", { dtype = "bf16" })
  local seen = { recorded = 0, replayed = 0, preempted = 0 }
  for _, o in ipairs { { n = 2, chunk = 40, max_new = 16 }, { chunk = 200, memory = engines.page_bytes(m) * 4 },
                       { n = 2, batch = 3, temperature = 1.2, penalty = 1.1, bias = { [7] = 2 }, top_k = 40, seed = 3 } } do
    o.deterministic = true
    local got, wanted = generated(m, o), without_graphs(generated, m, o)
    same(got, wanted, "graphs")
    expect.same(wanted.counts.replayed, 0)
    expect.same(got.counts.refused, 0)
    for name, count in pairs(seen) do seen[name] = count + got.counts[name] end
  end
  expect.truthy(seen.recorded >= 6, ("%d graphs were recorded"):format(seen.recorded))
  expect.truthy(seen.replayed > 15, ("%d steps were graphs"):format(seen.replayed))
  expect.truthy(seen.preempted > 0, "nobody was preempted")
  m:release()
end)

test("steps as graphs: a longer sequence has more blocks of attention, and rotary tables that move", function()
  local m = model("cuda", { dtype = "bf16", d = 32, layers = 1, heads = 2, kv_heads = 1, ffn = 48 })
  local long = {}
  for i = 1, 505 do long[i] = i * i % V end
  local o = { deterministic = true, max_new = 16 }
  local got = generated(m, o, { long, { 5, 6, 7 } })
  same(got, without_graphs(generated, m, o, { long, { 5, 6, 7 } }), "past 512 tokens")
  expect.truthy(got.counts.recorded >= 2 and got.counts.replayed > 8, "few steps were graphs")
  m:release()
end)

test("a step that cannot be recorded is done without a graph, counted, and said once", function()
  local m = model "cuda"
  local wanted = without_graphs(generated, m, { max_new = 8 })
  local hidden = m.arch.hidden
  m.arch = setmetatable({ hidden = function(...)
    tensor.from_host(inputs.ints(1), { 1 }, "i32", { device = "cuda" })
    return hidden(...)
  end }, { __index = m.arch })
  tensor.notes()
  local got = generated(m, { max_new = 8 })
  expect.same(ids_of(got), ids_of(wanted))
  expect.same({ got.counts.recorded, got.counts.replayed, got.counts.refused > 0 }, { 0, 0, true })
  expect.same(tensor.notes(), { "a step is not recorded as a graph: cuda:0: upload while a graph is recorded" })
  m:release()
end)

ffi.cdef "uint64_t cuda_emu_calls(void);"
local emulator = os.getenv "CFT_CUDA_MODULE" and ffi.load(os.getenv "CFT_CUDA_MODULE")
if emulator and pcall(function() return emulator.cuda_emu_calls end) then
  test("what the host queues in a step does not grow with the layers", function()
    local function calls(layers)
      local m = model("cuda", { dtype = "bf16", layers = layers })
      local engine = engines.new(m, { pages = 8, batch = 2, chunk = 64 })
      engine:add { prompt = { 1, 2, 3 }, n = 2, max_new = 9, stop = {}, top = 0, temperature = 1, top_k = 0, top_p = 1, min_p = 0,
                   penalty = 1, seed = 0, sequence = 0 }
      local list = {}
      for i = 1, 5 do
        local before = emulator.cuda_emu_calls()
        engine:step()
        list[i] = tonumber(emulator.cuda_emu_calls() - before)
      end
      engine:release()
      m:release()
      return list
    end
    local few, many = calls(2), calls(8)
    expect.same(many[4], few[4])
    expect.same(many[5], few[4])
    expect.truthy(many[4] < 60 and many[2] > 3 * many[4],
                  ("8 layers: %s calls; 2 layers: %s"):format(table.concat(many, " "), table.concat(few, " ")))
  end)
end

for _, dtype in ipairs { "f32", "bf16" } do
  test(dtype .. ", deterministic: the same bits for any batch, chunk, order and preemption; and the trainer's", function()
    local m = model("cuda", { dtype = dtype, arch = dtype == "f32" and "llama" or "qwen2" })
    local list = { prompts()[2], prompts()[4], prompts()[3] }
    local function run(o)
      local all = { deterministic = true, temperature = 1.3, n = 2, seed = 5, max_new = 5 }
      for name, value in pairs(o or {}) do all[name] = value end
      return generated(m, all, list)
    end
    local wanted = run()
    same(run { batch = 1 }, wanted, "batch 1")
    same(run { batch = 5, chunk = 17 }, wanted, "batch 5")
    local tight = run { memory = engines.page_bytes(m) * 3, chunk = 30 }
    same(tight, wanted, "three pages")
    expect.truthy(tight.counts.preempted > 1, "nobody was preempted")
    expect.same(tensor.set_rows_alone("cuda", true), false)  -- an engine leaves it as it was
    local ids, weights = {}, {}
    for i, r in ipairs(wanted) do
      ids[i], weights[i] = {}, {}
      for _, id in ipairs(r.prompt) do table.insert(ids[i], id) table.insert(weights[i], 0) end
      for _, id in ipairs(r.samples[2].ids) do table.insert(ids[i], id) table.insert(weights[i], 1) end
    end
    m.options.suffix = false  -- only rows with loss
    tensor.scope(autograd.no_grad, function()
      local _, nll = m:loss(inputs.sequences(ids, weights))
      local host, at = nll:to_host(), 0
      for i, r in ipairs(wanted) do
        for j, logprob in ipairs(r.samples[2].logprobs) do
          expect.same(logprob, -host[at], ("the trainer's: prompt %d, token %d"):format(i, j))
          at = at + 1
        end
      end
    end)
    tensor.set_rows_alone("cuda", false)
    m:release()
  end)
end

test("with rows alone, what they are not promised of is refused", function()
  local m = model "cuda"
  tensor.set_rows_alone("cuda", true)
  expect.raises("rows alone are promised of x w%^T", function()
    tensor.scope(function() m:loss(inputs.sequences({ { 1, 2, 3 } }, { { 0, 1, 1 } })):backward() end)
  end)
  tensor.set_rows_alone("cuda", false)
  m:release()
end)

test("nothing is left of a call but the model", function()
  local gpu = model "cuda"
  generated(gpu, { max_new = 2 })
  local before = tensor.memory("cuda").total
  generated(gpu, { max_new = 3 })
  expect.same(tensor.memory("cuda").total, before)
  gpu:release()
end)

test("logits that are no numbers end a call with words", function()
  local gpu = model "cuda"
  gpu.weights.embed.table:fill_(0 / 0)
  expect.raises("logits are NaN or infinite", function() generate(gpu, { 1, 2 }, {}) end)
  gpu:release()
end)

test("cftrun generate --device cuda writes the file that the CPU writes", function()
  local folder = process.folder()
  local tok = demo.tokenizer(1)
  local m = models.new { arch = "llama", d = 32, layers = 2, heads = 2, ffn = 48, vocab = tok:size(), tied = true, seed = 2,
                         init = 0.5, context = 128 }
  m:save(folder .. "/model", { tokenizer = tok })
  m:release()
  process.write(folder .. "/prompts", '{"prompt": "How many?"}\n{"ids": [5, 6, 7]}\n')
  local function written(device)
    local out = ("%s/%s"):format(folder, device)
    local r = process.cftrun { "generate", folder .. "/model", "--file", folder .. "/prompts", "--out", out, "--device", device,
                               "--dtype", "f32", "--raw", "--no-ends", "--max-new", "9", "--temperature", "1", "--n", "2" }
    expect.same(r.code, 0, r.err)
    return process.contents(out)
  end
  local cpu = written "cpu"
  expect.same(#json.decode(cpu:match "[^\n]+").generated, 2)
  expect.same(written "cuda", cpu)
end)

print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
