-- Small models against PyTorch: logits, every gradient, 20 steps. tests/golden/README.md tells how
-- the numbers were made.

local archs = require "cft.models.archs"
local configs = require "cft.models.config"
local expect = require "tests.expect"
local golden = require "tests.golden"
local inputs = require "cft.nn.inputs"
local models = require "cft.models"
local op = require "tests.op"
local optim = require "cft.train.optim"
local schedule = require "cft.train.schedule"
local tensor = require "cft.engine.tensor"

-- Batch `b` as lists of ids and weights.
local function batch_of(get, b)
  local ids, cu, weights
  tensor.scope(function()
    ids, cu, weights = op.numbers(get("batch." .. b .. ".ids")), op.numbers(get("batch." .. b .. ".cu_seqlens")),
                       op.numbers(get("batch." .. b .. ".weights"))
  end)
  local sequences, theirs = {}, {}
  for s = 1, #cu - 1 do
    sequences[s], theirs[s] = {}, {}
    for i = cu[s] + 1, cu[s + 1] do
      table.insert(sequences[s], ids[i])
      table.insert(theirs[s], weights[i])
    end
  end
  return inputs.sequences(sequences, theirs), sequences
end

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

for _, name in ipairs { "llama-small", "qwen2-small", "llama-small-llama3", "llama-small-linear",
                    "mistral-small" } do
  local folder = "tests/golden/" .. name

  local function with_model(fn)
    local m = assert(models.load(folder, { device = os.getenv "CFT_TEST_DEVICE" }))
    local get = golden.open(folder .. "/expected.safetensors")
    fn(m, get)
    m:release()
  end

  test(name .. ": logits", function()
    with_model(function(m, get)
      local _, sequences = batch_of(get, 0)
      tensor.scope(function()
        op.agree(op.numbers(m:logits(sequences)), op.numbers(get "logits"), 1e-4, "logits")
      end)
    end)
  end)

  test(name .. ": loss and gradients", function()
    with_model(function(m, get)
      local b = batch_of(get, 0)
      m:zero_grad()
      tensor.scope(function()
        local weight = get("weight_sum"):item()
        local loss = m:loss(b)
        expect.close(loss:item(), get("loss_sum"):item(), 1e-4, "loss")
        expect.close(b.weight, weight, 1e-6, "weight")
        loss:backward()
        for part, _, g in m:named() do
          local wanted = get("grad." .. part)
          if wanted then
            local scaled = op.numbers(tensor.contiguous(g))
            for i, v in ipairs(scaled) do scaled[i] = v / weight end
            op.agree(scaled, op.numbers(wanted), 1e-4, part, 1e-6)
          elseif name == "llama-small" or name == "qwen2-small" or name == "mistral-small" then
            error("no golden gradient for " .. part)
          end
        end
      end)
    end)
  end)
end

for _, name in ipairs { "llama-small", "qwen2-small", "mistral-small" } do
  test(name .. ": 20 steps of AdamW, cosine, warm-up, clip", function()
    local folder = "tests/golden/" .. name
    local m = assert(models.load(folder, { device = os.getenv "CFT_TEST_DEVICE" }))
    local get = golden.open(folder .. "/expected.safetensors")
    local opt = optim.adamw(m, { weight_decay = 0.1, clip = 1 })
    local lr = schedule.cosine { steps = 20, warmup = 5 }
    local want = {}
    tensor.scope(function()
      for _, key in ipairs { "loss", "lr", "grad_norm", "final_loss" } do want[key] = op.numbers(get("train." .. key)) end
    end)
    local function loss_of(b, train)
      return tensor.scope(function()
        local l = m:loss(b)
        if train then l:backward() end
        return l:item() / b.weight
      end)
    end
    for step = 0, 19 do
      local b = batch_of(get, step % 4)
      m:zero_grad()
      local loss = loss_of(b, true)
      local rate = 1e-2 * lr(step)
      local norm = opt:update(rate, b.weight)
      expect.close(loss, want.loss[step + 1], 1e-3, "loss of step " .. step)
      expect.close(rate, want.lr[step + 1], 1e-7, "rate of step " .. step, 1e-3)
      expect.close(norm, want.grad_norm[step + 1], 1e-3, "norm of step " .. step)
    end
    for b = 0, 3 do
      expect.close(loss_of(batch_of(get, b)), want.final_loss[b + 1], 1e-3, "final loss of batch " .. b)
    end
    opt:release()
    m:release()
  end)
end

test("mistral: within its window or not at all, and written as its own", function()
  local json, process = require "cft.base.json", require "tests.process"
  local folder = "tests/golden/mistral-small"
  local raw = assert(json.read(folder .. "/config.json"))
  local back = configs.write(assert(configs.read(raw)), "f32")
  expect.same({ back.model_type, back.architectures, back.sliding_window, back.head_dim },
              { "mistral", { "MistralForCausalLM" }, raw.sliding_window, raw.head_dim })

  local m = assert(models.load(folder))
  local copy = process.folder()
  m:save(copy)
  local written = assert(json.read(copy .. "/config.json"))
  expect.same({ written.model_type, written.sliding_window }, { "mistral", raw.sliding_window })
  local ids = {}
  for i = 1, raw.sliding_window do ids[i] = i % 90 end
  m:logits(ids):release()
  ids[#ids + 1] = 1
  expect.raises("a sequence of 48 tokens, but the model attends in a sliding window of 47", m.logits, m, ids)
  expect.raises("sliding window of 47.*max_tokens = 47 or less", m.loss, m, (inputs.sequences({ ids }, { ids })))
  m:release()

  raw.sliding_window = json.null
  expect.same(assert(configs.read(raw)).window, nil)
end)

test("config.json: what is not implemented is named", function()
  local base = { model_type = "llama", hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2,
                 intermediate_size = 16, vocab_size = 11 }
  local function refuses(pattern, change)
    local c = {}
    for k, v in pairs(base) do c[k] = v end
    for k, v in pairs(change) do c[k] = v end
    expect.fails(pattern, configs.read(c))
  end
  expect.truthy(configs.read(base), "the plain one")
  refuses("model_type 'mixtral'", { model_type = "mixtral" })
  refuses("rope type 'yarn' is not implemented", { rope_scaling = { rope_type = "yarn", factor = 4 } })
  refuses("rope type 'dynamic'", { rope_parameters = { rope_type = "dynamic", rope_theta = 1e4 } })
  refuses("sliding_window = 4096: a sliding window", { sliding_window = 4096 })
  refuses("partial_rotary_factor", { partial_rotary_factor = 0.5 })
  refuses("partial_rotary_factor", { rope_parameters = { partial_rotary_factor = 0.5 } })
  refuses("hidden_act 'gelu'", { hidden_act = "gelu" })
  refuses("attention_bias = true", { attention_bias = true })
  refuses("layer_types has 'sliding_attention'", { layer_types = { "sliding_attention" } })
  refuses("sliding_window must be an integer", { model_type = "mistral", sliding_window = 0.5 })
  refuses("hidden_size must be an integer, got nil", { hidden_size = require("cft.base.json").null })
  refuses("no multiple of num_key_value_heads 3", { num_key_value_heads = 3 })
  refuses("without a 'factor' above 0", { rope_scaling = { type = "linear" } })
end)

test("an architecture is a row: what it is called, and where its window ends", function()
  local raw = { model_type = "toy", hidden_size = 8, num_hidden_layers = 2, num_attention_heads = 2,
                intermediate_size = 16, vocab_size = 11, sliding_window = 6 }
  expect.fails("model_type 'toy' is not implemented; llama, mistral and qwen2 are", configs.read(raw))
  archs.rows.toy = { module = "cft.models.llama", class = "ToyForCausalLM", qkv_bias = true, window = "limit" }
  local c = assert(configs.read(raw))
  expect.same({ c.arch, c.qkv_bias, c.window }, { "toy", true, 6 })
  expect.same(configs.write(c, "f32").architectures, { "ToyForCausalLM" })
  archs.rows.toy.window = nil
  expect.fails("sliding_window = 6: a sliding window is not implemented", configs.read(raw))
  archs.rows.toy.window = "if_used"
  expect.same(assert(configs.read(raw)).window, nil)
  archs.rows.toy = nil
end)

return tests
