--- A GGUF file seen as the Hugging Face folder that it was made from: a config, and tensors in f32 by
-- Hugging Face's names and in its order of rows.

local archs = require "cft.models.archs"
local blame = require "cft.base.blame"
local gguf = require "cft.io.gguf"

local M = {}

local ROPE_FACTORS = "rope_freqs.weight"  -- a tensor of the file that belongs to the config

-- What files call an architecture → our row's name.
local by_name, gguf_names = {}, {}
for _, arch in ipairs(archs.names) do
  local row = archs.rows[arch]
  if row.gguf then
    by_name[row.gguf.name] = arch
    gguf_names[#gguf_names + 1] = row.gguf.name
  end
end

-- ---- config ------------------------------------------------------------------------------------

-- What would change the arithmetic of these architectures and has no place in our models.
local unused = { "expert_count", "attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias",
                 "attn_logit_softcapping", "final_logit_softcapping", "logit_scale",
                 "embedding_scale", "residual_scale" }

-- What llama.cpp's converter makes of rope type llama3: each frequency is divided by a factor that
-- is 1 for short waves, `factor` for long ones, and in between goes from one to the other.
local function llama3_factors(scaling, theta, head_dim)
  local factors, context = {}, scaling.original_max_position_embeddings
  local low, high = scaling.low_freq_factor, scaling.high_freq_factor
  for i = 0, head_dim / 2 - 1 do
    local wave = 2 * math.pi * theta ^ (2 * i / head_dim)
    local smooth = math.max(0, math.min(1, (context / wave - low) / (high - low)))
    factors[i + 1] = 1 / ((1 - smooth) / scaling.factor + smooth)
  end
  return factors
end

-- The file keeps the factors and not what they were made from. All Llama 3 have the same but for
-- `factor`, so these are tried, and taken only if they give the file's numbers.
local function scaling_of_factors(file, theta, head_dim, context)
  local dims, n = file:shape(ROPE_FACTORS), head_dim / 2
  if not dims then return nil end
  if #dims ~= 1 or dims[1] ~= n then blame("%s: %s is not of %d numbers", file.path, ROPE_FACTORS, n) end
  local t = file:tensor(ROPE_FACTORS)
  local got, largest = t:to_table(), 1
  t:release()
  for _, factor in ipairs(got) do largest = math.max(largest, factor) end
  local scaling = { rope_type = "llama3", factor = gguf.shortest(largest), low_freq_factor = 1,
                    high_freq_factor = 4, original_max_position_embeddings = context or 8192 }
  for k, want in ipairs(llama3_factors(scaling, theta, head_dim)) do
    if math.abs(got[k] - want) > 1e-4 * want then
      blame("%s: %s: number %d is %g, where Llama 3 has %g; other factors are not implemented",
            file.path, ROPE_FACTORS, k - 1, got[k], want)
    end
  end
  return largest > 1 and scaling or nil
end

local function rope_scaling(file, key, theta, head_dim)
  local kind = file:value(key "rope.scaling.type")
  local factor = file:value(key "rope.scaling.factor") or file:value(key "rope.scale_linear")
  local context = file:value(key "rope.scaling.original_context_length")
  if not kind and factor and factor ~= 1 then kind = "linear" end  -- as old converters wrote it
  if kind and kind ~= "none" then
    return { rope_type = kind, factor = factor, original_max_position_embeddings = context }
  end
  return scaling_of_factors(file, theta, head_dim, context)
end

local function config_of(file)
  local name = file:value "general.architecture"
  local arch = by_name[name]
  if not arch then
    blame("%s: architecture '%s' is not implemented; %s are", file.path, tostring(name), archs.listed(gguf_names))
  end
  local row = archs.rows[arch]
  local function key(of) return name .. "." .. of end
  local function number(of)
    local v = file:value(key(of))
    if type(v) ~= "number" then
      blame("%s: '%s' is %s; a number wanted", file.path, key(of), v == nil and "missing" or "a " .. type(v))
    end
    return v
  end
  if (file:value "split.count" or 1) > 1 then
    blame("%s: is one of %d parts; merge them with llama-gguf-split", file.path, file:value "split.count")
  end
  for _, of in ipairs(unused) do
    local v = file:value(key(of))
    if v and v ~= 0 then blame("%s: %s = %s is not implemented", file.path, key(of), tostring(v)) end
  end

  local c = {
    architectures = { row.class }, model_type = arch, hidden_act = "silu",
    hidden_size = number "embedding_length", num_hidden_layers = number "block_count",
    num_attention_heads = number "attention.head_count", intermediate_size = number "feed_forward_length",
    max_position_embeddings = number "context_length",
    rms_norm_eps = number "attention.layer_norm_rms_epsilon",
    rope_theta = file:value(key "rope.freq_base") or 10000,
    tie_word_embeddings = not file:shape "output.weight",
    bos_token_id = file:value "tokenizer.ggml.bos_token_id",
    eos_token_id = file:value "tokenizer.ggml.eos_token_id",
    pad_token_id = file:value "tokenizer.ggml.padding_token_id",
  }
  c.num_key_value_heads = file:value(key "attention.head_count_kv") and number "attention.head_count_kv"
    or c.num_attention_heads
  c.head_dim = file:value(key "attention.key_length") or c.hidden_size / c.num_attention_heads
  if (file:value(key "attention.value_length") or c.head_dim) ~= c.head_dim then
    blame("%s: values of another width than keys are not implemented", file.path)
  end
  local embedding = file:shape "token_embd.weight"
  if not embedding then blame("%s: no tensor 'token_embd.weight'", file.path) end
  c.vocab_size = embedding[1]

  -- What our models refuse is said in config.json's words, so that it is refused in one place.
  local rotated = file:value(key "rope.dimension_count") or c.head_dim
  if rotated ~= c.head_dim then c.partial_rotary_factor = rotated / c.head_dim end
  local window = file:value(key "attention.sliding_window")
  if window and window ~= 0 then c.sliding_window, c.use_sliding_window = window, true end
  if not row.qkv_bias then
    c.attention_bias = file:shape "blk.0.attn_q.bias" ~= nil
    c.mlp_bias = file:shape "blk.0.ffn_up.bias" ~= nil
  end
  c.rope_scaling = rope_scaling(file, key, c.rope_theta, c.head_dim)
  return c, row.gguf
end

-- ---- tensors -----------------------------------------------------------------------------------

--- The file as a folder. `config` holds what config.json would, `path` the file's path.
-- @type Folder
local Folder = {}
Folder.__index = Folder

-- Hugging Face's name; a tensor that it has none for keeps its own, and fits no model of ours.
local function hf_name(name, names)
  local block, part, kind = name:match "^blk%.(%d+)%.([%w_]+)%.(%w+)$"
  if block and names.block[part] then return ("model.layers.%s.%s.%s"):format(block, names.block[part], kind) end
  return names.outside[name] or name
end

--- The names of its tensors, as Hugging Face has them, in the file's order.
-- @treturn table
function Folder:names()
  local list = {}
  for i, name in ipairs(self.order) do list[i] = name end
  return list
end

--- A tensor, dequantised to f32 in memory of its own on the CPU.
-- @string name Hugging Face's
-- @treturn ?Tensor nil where the file has none of that name
function Folder:tensor(name)
  local part = self.interleaved and name:match "%.([qk])_proj%."
  local heads = part == "q" and self.config.num_attention_heads
    or part == "k" and self.config.num_key_value_heads or 0
  return self.own[name] and self.file:tensor(self.own[name], heads)
end

--- A value of the file's metadata. See `cft.io.gguf`.
function Folder:value(key) return self.file:value(key) end

--- Close the file now; else the collector does.
function Folder:release()
  self.file:release()
  self.order, self.own = {}, {}
end

--- Open a file. @string path
-- @treturn Folder
-- @usage local g = cft.models.gguf "SmolLM2-135M-Instruct.Q4_1.gguf"
-- print(g.config.num_hidden_layers, g:tensor("model.norm.weight"))
function M.open(path)
  local file = gguf.open(path)
  local config, row = config_of(file)
  local self = setmetatable({ file = file, path = path, config = config, interleaved = row.interleaved,
                              order = {}, own = {} }, Folder)
  for _, name in ipairs(file:names()) do
    if name ~= ROPE_FACTORS then
      local theirs = hf_name(name, row.tensors)
      self.order[#self.order + 1], self.own[theirs] = theirs, name
    end
  end
  return self
end

return M
