-- Facts of config.json that more than one key tells, and keys that nobody knows: as transformers 5 decides, said, or
-- refused by name. docs/models.md has the table.

local configs = require "cft.models.config"
local expect = require "tests.expect"
local json = require "cft.base.json"
local models = require "cft.models"
local process = require "tests.process"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local function with(more)
  local c = { model_type = "llama", hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2,
              intermediate_size = 16, vocab_size = 11, max_position_embeddings = 512 }
  for k, v in pairs(more) do c[k] = v end
  return c
end

-- ---- RoPE ---------------------------------------------------------------------------------------

local function llama3(more)
  local r = { rope_type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4 }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

-- What transformers 5.24 makes of each (LlamaConfig.from_dict(...).rope_parameters), and the line that is said.
local forms = {
  { "no key", {}, 10000 },
  { "theta alone", { rope_theta = 5e5 }, 5e5 },
  { "theta, and nulls", { rope_theta = 5e5, rope_scaling = json.null, rope_parameters = json.null }, 5e5 },
  { "version 5", { rope_parameters = { rope_type = "default", rope_theta = 1e6 } }, 1e6 },
  { "version 5, theta beside", { rope_parameters = { rope_type = "default" }, rope_theta = 7e4 }, 7e4 },
  { "an empty rope_scaling", { rope_scaling = {}, rope_parameters = llama3 { rope_theta = 7 } }, 7, "llama3", 512 },
  { "llama3 without its own context", { rope_scaling = llama3(), rope_theta = 5e5 }, 5e5, "llama3", 512 },
  { "llama3 with it", { rope_scaling = llama3 { original_max_position_embeddings = 64 } }, 10000, "llama3", 64 },
  { "version 4, by type", { rope_scaling = { type = "linear", factor = 2 }, rope_theta = 3 }, 3, "linear" },
  { "both, saying the same", { rope_theta = 5, rope_scaling = { type = "linear", factor = 2 },
      rope_parameters = { rope_type = "linear", factor = 2, rope_theta = 5 } }, 5, "linear" },
  { "rope_scaling replaces the other whole", { rope_scaling = { type = "linear", factor = 2 },
      rope_parameters = { rope_type = "default", rope_theta = 1e6 } }, 10000, "linear", nil,
    "rope_scaling %(linear by 2, theta 10000%) and rope_parameters %(no scaling, theta 1e%+06%) disagree" },
  { "rope_scaling beside what is not implemented", { rope_scaling = { type = "linear", factor = 2 }, rope_theta = 9,
      rope_parameters = { rope_type = "yarn", factor = 4 } }, 9, "linear", nil, "rope_parameters %(not implemented%)" },
  { "two thetas", { rope_theta = 5e5, rope_parameters = { rope_type = "default", rope_theta = 1e4 } }, 1e4, nil, nil,
    "rope_theta is 500000, and 10000 in rope_parameters; the latter is taken, as in transformers 5" },
  { "two types", { rope_scaling = { rope_type = "linear", type = "llama3", factor = 2 } }, 10000, "linear", nil,
    "rope_type 'linear' and type 'llama3'; rope_type is taken" },
}

for _, form in ipairs(forms) do
  local name, keys, theta, kind, original, said = unpack(form, 1, 6)
  test("rope: " .. name, function()
    local c, notes = assert(configs.read(with(keys)))
    expect.same({ c.theta, c.scaling and c.scaling.type, c.scaling and c.scaling.original_max_position_embeddings },
                { theta, kind, original })
    if not said then return expect.same(notes, {}) end
    expect.same(#notes, 1)
    expect.truthy(notes[1]:find(said), notes[1])
  end)
end

test("rope: what is not implemented is named, in each place", function()
  local function refuses(pattern, keys) expect.fails(pattern, configs.read(with(keys))) end
  local fine = { rope_type = "default", rope_theta = 1e6 }
  refuses("rope type 'yarn' is not implemented",
          { rope_parameters = fine, rope_scaling = { type = "yarn", factor = 4 } })
  refuses("rope type 'yarn'", { rope_parameters = { rope_type = "yarn", factor = 4 } })
  refuses("rope type 'longrope'", { rope_scaling = { rope_type = "longrope", short_factor = 2 } })
  refuses("rope type 'dynamic'", { rope_scaling = { type = "dynamic", factor = 2 } })
  refuses("has an object 'full_attention': RoPE by type of layer", { rope_parameters = { full_attention = fine } })
  refuses("rope_parameters has 'mrope_interleaved' = true",
          { rope_parameters = { rope_type = "default", mrope_interleaved = true } })
  refuses("rope_scaling has an object 'mrope_section'", { rope_scaling = { type = "default", mrope_section = { 1 } } })
  refuses("rope_scaling is no object", { rope_scaling = 2 })
  refuses("rope_parameters is no object", { rope_parameters = "default" })
  refuses("rope_theta is no number above 0", { rope_theta = "1e4" })
  refuses("'llama3' without a 'low_freq_factor' above 0", { rope_scaling = { rope_type = "llama3", factor = 2 } })
end)

-- ---- keys ---------------------------------------------------------------------------------------

-- config.json as the Hub has them.
local real = {
  { "Qwen2.5-Math-1.5B", [[{
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
  "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 8960,
  "max_position_embeddings": 4096, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 12,
  "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "sliding_window": 4096, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.44.0",
  "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936 }]] },
  { "Llama-3.2-1B-Instruct", [[{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": { "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                    "original_max_position_embeddings": 8192, "rope_type": "llama3" },
  "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256 }]] },
  { "SmolLM2-135M-Instruct", [[{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
  "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
  "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
  "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
  "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers.js_config": { "kv_cache_dtype": { "q4f16": "float16", "fp16": "float16" } },
  "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 49152 }]] },
  { "Mistral-7B-v0.1", [[{
  "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
  "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
  "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000 }]] },
  { "llama-7b of 2023", [[{
  "_name_or_path": "x", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008, "initializer_range": 0.02,
  "max_sequence_length": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
  "pad_token_id": 0, "rms_norm_eps": 1e-06, "torch_dtype": "float16", "transformers_version": "4.28.0.dev0",
  "use_cache": true, "vocab_size": 32000 }]] },
}

for _, row in ipairs(real) do
  local name, text = unpack(row)
  test("keys: config.json of " .. name, function()
    local c, notes = assert(configs.read(assert(json.decode(text))))
    expect.same(notes, {})
    local again = assert(configs.read(configs.write(c, "f32")))  -- what we write, we read
    for _, key in ipairs { "d", "theta", "eps", "tied", "context", "window" } do
      expect.same(again[key], c[key], key)
    end
  end)
end

test("keys: one that is neither read nor known to be harmless is refused by name", function()
  local function refuses(pattern, keys) expect.fails(pattern, configs.read(with(keys))) end
  refuses("is_causal = false: attention to later tokens is not implemented", { is_causal = false })
  refuses("attention_bias = true", { attention_bias = true })
  refuses("residual_multiplier = 0.22: a key that is not known, and may change what the model computes",
          { residual_multiplier = 0.22 })
  refuses("a_key_of_tomorrow = false: a key that is not known", { a_key_of_tomorrow = false, z = 1 })
  refuses("auto_map = {\"AutoModel\":\"x.Y\"}: code that comes with a model", { auto_map = { AutoModel = "x.Y" } })
  refuses("rope_interleaved = true", { rope_interleaved = true })
  refuses("original_max_position_embeddings = 9: a key that is not known", { original_max_position_embeddings = 9 })
  refuses("pruned_heads = {\"0\":%[1%]}", { pruned_heads = { ["0"] = json.array { 1 } } })
  refuses("quantization = {\"bits\":4}: quantised weights", { quantization = { bits = 4 } })
  refuses("resid_pdrop = 0.1: dropout is", { resid_pdrop = 0.1 })
  expect.truthy(configs.read(with { is_causal = true, pruned_heads = {}, auto_map = json.null, nobody = json.null,
                                    resid_pdrop = 0 }), "their neutral values")
end)

test("keys: one that is not there is what transformers makes of it, and a null is another matter", function()
  local function kv(arch, value)
    return assert(configs.read(with { model_type = arch, num_attention_heads = 64, hidden_size = 128,
                                      num_key_value_heads = value })).kv_heads
  end
  expect.same({ kv "llama", kv "mistral", kv "qwen2" }, { 64, 8, 32 })
  expect.same({ kv("llama", json.null), kv("qwen2", json.null), kv("mistral", 16) }, { 64, 64, 16 })
  expect.fails("num_key_value_heads is null, which transformers refuses for mistral",
               configs.read(with { model_type = "mistral", num_key_value_heads = json.null }))
  expect.fails("head_dim is null, which transformers refuses for qwen2",
               configs.read(with { model_type = "qwen2", num_key_value_heads = 2, head_dim = json.null }))
  expect.truthy(configs.read(with { head_dim = json.null }))
  local by_layers = { model_type = "mistral", num_key_value_heads = 2, layer_types = json.array { "full_attention" } }
  expect.fails("layer_types without head_dim, which transformers refuses for mistral", configs.read(with(by_layers)))
  by_layers.head_dim = 4
  expect.truthy(configs.read(with(by_layers)))
  expect.fails("num_attention_heads 2 is no multiple of num_key_value_heads 8",
               configs.read(with { model_type = "mistral" }))

  local function window(more)
    local keys = { model_type = "mistral", num_key_value_heads = 2 }
    for key, value in pairs(more) do keys[key] = value end
    local c = assert(configs.read(with(keys)))
    expect.same(assert(configs.read(configs.write(c, "f32"))).window, c.window)  -- saved, it is the same
    return c.window
  end
  expect.same({ window {}, window { sliding_window = json.null }, window { sliding_window = 9 },
                window { sliding_window = 9, use_sliding_window = false } }, { 4096, nil, 9, 9 })

  for _, key in ipairs { "max_position_embeddings", "tie_word_embeddings", "rms_norm_eps", "hidden_act",
                         "initializer_range" } do
    expect.fails(key .. " is null", configs.read(with { [key] = json.null }))
  end
end)

test("a new mistral has no window, and neither has what is saved of it", function()
  local m = models.new { arch = "mistral", d = 8, layers = 1, heads = 2, ffn = 16, vocab = 11 }
  local folder = process.folder() .. "/m"
  m:save(folder)
  m:release()
  m = assert(models.load(folder))
  expect.same({ m.config.window, m.config.kv_heads }, { nil, 2 })
  m:release()
end)

return tests
