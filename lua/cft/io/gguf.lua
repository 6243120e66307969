--- GGUF files (llama.cpp's), seen as the Hugging Face folder they were made from: a config, and
-- tensors in f32 by Hugging Face's names and in its order of rows.
-- @module cft.io.gguf

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi

local M = {}

--- An open file. `config` holds what config.json would, `path` its path.
-- @type Gguf
local Gguf = {}
Gguf.__index = Gguf

-- ---- values ------------------------------------------------------------------------------------

-- The shortest decimal that is this f32: 1e-05, where the double beside it is 9.99999974737875e-06.
local single = ffi.new "float[1]"
local function shortest(number)
  for digits = 1, 9 do
    local short = tonumber(("%%.%dg"):format(digits):format(number))
    single[0] = short
    if single[0] == number then return short end
  end
  return number
end

local function lua_value(v)
  if v.kind == C.CFT_GGUF_STRING then return ffi.string(v.string, v.bytes) end
  if v.kind == C.CFT_GGUF_INT then return tonumber(v.integer) end
  if v.kind == C.CFT_GGUF_BOOL then return v.integer ~= 0 end
  return v.single and shortest(v.number) or v.number
end

--- A value of the file's metadata.
-- @string key "tokenizer.ggml.pre"
-- @return a string, number, boolean or list of them; nil where the file has none of that name
function Gguf:value(key)
  local v = ffi.new "cft_gguf_value"
  if not C.cft_gguf_find_value(self.file, key, v) then return nil end
  if v.kind ~= C.CFT_GGUF_LIST then return lua_value(v) end
  local list, item = {}, ffi.new "cft_gguf_value"
  for i = 1, tonumber(v.count) do
    door.check(C.cft_gguf_item(self.file, v, i - 1, item))
    list[i] = lua_value(item)
  end
  return list
end

-- ---- names -------------------------------------------------------------------------------------

local outside = {
  ["token_embd.weight"] = "model.embed_tokens.weight",
  ["output_norm.weight"] = "model.norm.weight",
  ["output.weight"] = "lm_head.weight",
}
local in_block = {
  attn_norm = "input_layernorm", ffn_norm = "post_attention_layernorm",
  attn_q = "self_attn.q_proj", attn_k = "self_attn.k_proj", attn_v = "self_attn.v_proj",
  attn_output = "self_attn.o_proj",
  ffn_gate = "mlp.gate_proj", ffn_up = "mlp.up_proj", ffn_down = "mlp.down_proj",
}

-- Hugging Face's name; a tensor that it has none for keeps its own, and fits no model of ours.
local function hf_name(name)
  local block, part, kind = name:match "^blk%.(%d+)%.([%w_]+)%.(%w+)$"
  if block and in_block[part] then return ("model.layers.%s.%s.%s"):format(block, in_block[part], kind) end
  return outside[name] or name
end

-- ---- config ------------------------------------------------------------------------------------

local classes = { llama = "LlamaForCausalLM", qwen2 = "Qwen2ForCausalLM" }

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
local function scaling_of_factors(self, theta, head_dim, context)
  local i = C.cft_gguf_index(self.file, "rope_freqs.weight")
  if i < 0 then return nil end
  local n = head_dim / 2
  local info, got = ffi.new "cft_gguf_tensor", ffi.new("float[?]", n)
  door.check(C.cft_gguf_at(self.file, i, info))
  if info.ndim ~= 1 or info.dims[0] ~= n then
    blame("%s: rope_freqs.weight is not of %d numbers", self.path, n)
  end
  door.check(C.cft_gguf_read(self.file, i, 0, 1, 0, got))
  local largest = 1
  for k = 0, n - 1 do largest = math.max(largest, got[k]) end
  local scaling = { rope_type = "llama3", factor = shortest(largest), low_freq_factor = 1,
                    high_freq_factor = 4, original_max_position_embeddings = context or 8192 }
  for k, want in ipairs(llama3_factors(scaling, theta, head_dim)) do
    if math.abs(got[k - 1] - want) > 1e-4 * want then
      blame("%s: rope_freqs.weight: number %d is %g, where Llama 3 has %g; other factors are not implemented",
            self.path, k - 1, got[k - 1], want)
    end
  end
  return largest > 1 and scaling or nil
end

local function rope_scaling(self, key, theta, head_dim)
  local kind = self:value(key "rope.scaling.type")
  local factor = self:value(key "rope.scaling.factor") or self:value(key "rope.scale_linear")
  local context = self:value(key "rope.scaling.original_context_length")
  if not kind and factor and factor ~= 1 then kind = "linear" end  -- as old converters wrote it
  if kind and kind ~= "none" then
    return { rope_type = kind, factor = factor, original_max_position_embeddings = context }
  end
  return scaling_of_factors(self, theta, head_dim, context)
end

local function config_of(self)
  local arch = self:value "general.architecture"
  if not classes[arch] then
    blame("%s: architecture '%s' is not implemented; llama and qwen2 are", self.path, tostring(arch))
  end
  local function key(name) return arch .. "." .. name end
  local function number(name)
    local v = self:value(key(name))
    if type(v) ~= "number" then
      blame("%s: '%s' is %s; a number wanted", self.path, key(name), v == nil and "missing" or "a " .. type(v))
    end
    return v
  end
  if (self:value "split.count" or 1) > 1 then
    blame("%s: is one of %d parts; merge them with llama-gguf-split", self.path, self:value "split.count")
  end
  for _, name in ipairs(unused) do
    local v = self:value(key(name))
    if v and v ~= 0 then blame("%s: %s = %s is not implemented", self.path, key(name), tostring(v)) end
  end

  local c = {
    architectures = { classes[arch] }, model_type = arch, hidden_act = "silu",
    hidden_size = number "embedding_length", num_hidden_layers = number "block_count",
    num_attention_heads = number "attention.head_count",
    intermediate_size = number "feed_forward_length",
    max_position_embeddings = number "context_length",
    rms_norm_eps = number "attention.layer_norm_rms_epsilon",
    rope_theta = self:value(key "rope.freq_base") or 10000,
    tie_word_embeddings = C.cft_gguf_index(self.file, "output.weight") < 0,
    bos_token_id = self:value "tokenizer.ggml.bos_token_id",
    eos_token_id = self:value "tokenizer.ggml.eos_token_id",
    pad_token_id = self:value "tokenizer.ggml.padding_token_id",
  }
  c.num_key_value_heads = self:value(key "attention.head_count_kv") and number "attention.head_count_kv"
    or c.num_attention_heads
  c.head_dim = self:value(key "attention.key_length") or c.hidden_size / c.num_attention_heads
  if (self:value(key "attention.value_length") or c.head_dim) ~= c.head_dim then
    blame("%s: values of another width than keys are not implemented", self.path)
  end
  local embeddings = ffi.new "cft_gguf_tensor"
  local at = C.cft_gguf_index(self.file, "token_embd.weight")
  if at < 0 then blame("%s: no tensor 'token_embd.weight'", self.path) end
  door.check(C.cft_gguf_at(self.file, at, embeddings))
  c.vocab_size = tonumber(embeddings.dims[0])

  -- What our models refuse is said in config.json's words, so that it is refused in one place.
  local rotated = self:value(key "rope.dimension_count") or c.head_dim
  if rotated ~= c.head_dim then c.partial_rotary_factor = rotated / c.head_dim end
  local window = self:value(key "attention.sliding_window")
  if window and window ~= 0 then c.sliding_window, c.use_sliding_window = window, true end
  if arch == "llama" then
    c.attention_bias = C.cft_gguf_index(self.file, "blk.0.attn_q.bias") >= 0
    c.mlp_bias = C.cft_gguf_index(self.file, "blk.0.ffn_up.bias") >= 0
  end
  c.rope_scaling = rope_scaling(self, key, c.rope_theta, c.head_dim)
  return c
end

-- ---- the file ----------------------------------------------------------------------------------

--- The names of its tensors, as Hugging Face has them, in the file's order.
-- @treturn table
function Gguf:names()
  local list = {}
  for i, name in ipairs(self.order) do list[i] = name end
  return list
end

--- A tensor, dequantised to f32 in memory of its own on the CPU.
-- @string name Hugging Face's
-- @treturn ?Tensor nil where the file has none of that name
function Gguf:tensor(name)
  local i = self.index[name]
  if not i then return nil end
  local info, dims, rows = ffi.new "cft_gguf_tensor", {}, 1
  door.check(C.cft_gguf_at(self.file, i, info))
  for d = 1, info.ndim do dims[d] = tonumber(info.dims[d - 1]) end
  -- Only llama's q and k are in another order in the file.
  local part = self.config.model_type == "llama" and name:match "%.([qk])_proj%."
  local heads = part == "q" and self.config.num_attention_heads
    or part == "k" and self.config.num_key_value_heads or 0
  for d = 1, (info.ndim == 1 and heads > 0) and 1 or info.ndim - 1 do rows = rows * dims[d] end
  local t = tensor.empty(dims, { dtype = "f32", device = "cpu" })
  local status = C.cft_gguf_read(self.file, i, 0, rows, heads, ffi.cast("float *", t.c.data))
  if status ~= C.CFT_OK then t:release() end
  door.check(status)
  return t
end

--- Close the file now; else the collector does.
function Gguf:release()
  if self.file then C.cft_gguf_release(ffi.gc(self.file, nil)) end
  self.file, self.order, self.index = nil, {}, {}
end

--- Open a file.
-- @string path
-- @treturn Gguf
-- @usage local g = cft.gguf.open "SmolLM2-135M-Instruct.Q4_1.gguf"
-- print(g.config.num_hidden_layers, g:tensor("model.norm.weight"))
function M.open(path)
  local out = ffi.new "cft_gguf *[1]"
  door.check(C.cft_gguf_open(out, path))
  local self = setmetatable({ file = ffi.gc(out[0], C.cft_gguf_release), path = path, order = {},
                              index = {} }, Gguf)
  local info = ffi.new "cft_gguf_tensor"
  for i = 0, tonumber(C.cft_gguf_count(self.file)) - 1 do
    door.check(C.cft_gguf_at(self.file, i, info))
    local name = ffi.string(info.name)
    if name ~= "rope_freqs.weight" then  -- it is part of the config
      self.order[#self.order + 1] = hf_name(name)
      self.index[self.order[#self.order]] = i
    end
  end
  self.config = config_of(self)
  return self
end

return M
