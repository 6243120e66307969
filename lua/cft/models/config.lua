--- config.json → what our models compute, in the spellings of transformers 4 and 5.
--
-- A key that changes the arithmetic and is not implemented is an error that names it: a model that
-- is nearly right trains, and nobody notices.

local archs = require "cft.models.archs"
local check = require "cft.base.check"

local M = {}

local ACTIVATIONS = { silu = true, swish = true }

-- Keys that change what a model computes, and the values that mean "not used". `window` is the architecture's rule.
local unused = {
  { "sliding_window", function(c, v, window)
      return v == nil or c.use_sliding_window == false or window == "limit" or
             (window == "if_used" and c.use_sliding_window == nil)
    end, "a sliding window is not implemented" },
  { "use_sliding_window", function(_, v) return not v end, "a sliding window is not implemented" },
  { "partial_rotary_factor", function(_, v) return v == nil or v == 1 end,
    "partial rotary embedding is not implemented" },
  { "attention_bias", function(_, v) return not v end, "biases on attention's projections are not implemented" },
  { "mlp_bias", function(_, v) return not v end, "biases in the MLP are not implemented" },
  { "attention_dropout", function(_, v) return v == nil or v == 0 end, "dropout is not implemented" },
  { "pretraining_tp", function(_, v) return v == nil or v == 1 end, "sliced matmuls are not implemented" },
  { "quantization_config", function(_, v) return v == nil end, "quantised weights are not implemented" },
  { "qk_layernorm", function(_, v) return not v end, "norms of q and k are not implemented" },
  { "logit_scale", function(_, v) return v == nil or v == 1 end, "scaled logits are not implemented" },
  { "final_logit_softcapping", function(_, v) return v == nil end, "capped logits are not implemented" },
}

local function above_zero(v) return type(v) == "number" and v > 0 and v < math.huge end

local function scaling_of(r)
  if not r then return nil end
  local kind = r.rope_type or r.type or "default"
  if kind == "default" then return nil end
  local function need(key)
    if not above_zero(r[key]) then
      return nil, ("rope type '%s' without a '%s' above 0"):format(kind, key)
    end
    return r[key]
  end
  local s, why = { type = kind }
  if kind == "linear" then
    s.factor, why = need "factor"
  elseif kind == "llama3" then
    for _, key in ipairs { "factor", "low_freq_factor", "high_freq_factor",
                           "original_max_position_embeddings" } do
      s[key], why = need(key)
      if why then break end
    end
  else
    why = ("rope type '%s' is not implemented; default, linear and llama3 are"):format(tostring(kind))
  end
  return s, why
end

-- JSON's null is a value of its own; here it means "absent".
local function without_nulls(c, null)
  local t = {}
  for k, v in pairs(c) do
    if v ~= null then t[k] = type(v) == "table" and without_nulls(v, null) or v end
  end
  return t
end

local LARGEST = 2 ^ 31 - 1

local function size(c, key, default)
  local v = c[key]
  if v == nil then v = default end
  local problem = check.problem(v, { "integer", min = 1, max = LARGEST })
  if problem then return nil, key .. " " .. problem end
  return v
end

--- Read a decoded config.json.
-- @tab raw
-- @return our config, or nil and what is wrong: `arch`, `d`, `layers`, `heads`, `kv_heads`,
-- `head_dim`, `ffn`, `vocab`, `eps`, `theta`, `scaling`, `tied`, `context`, `qkv_bias`, `init`, `window` (the
-- longest sequence that may be computed; nil: any), and `raw`, from which what we write is made
function M.read(raw)
  local json = require "cft.base.json"
  if type(raw) ~= "table" or json.is_array(raw) then return nil, "it is no object of names and values" end
  local c = without_nulls(raw, json.null)
  local arch = c.model_type
  local row = archs.rows[arch]
  if not row then
    return nil, ("model_type '%s' is not implemented; %s are"):format(tostring(arch), archs.listed(archs.names))
  end
  for _, u in ipairs(unused) do
    if not u[2](c, c[u[1]], row.window) then
      return nil, ("%s = %s: %s"):format(u[1], tostring(c[u[1]]), u[3])
    end
  end
  if c.layer_types and type(c.layer_types) ~= "table" then return nil, "layer_types is no list" end
  for _, kind in ipairs(c.layer_types or {}) do
    if kind ~= "full_attention" and not (kind == "sliding_attention" and row.window == "limit") then
      return nil, ("layer_types has '%s'; only full_attention is implemented"):format(tostring(kind))
    end
  end
  if not ACTIVATIONS[c.hidden_act or "silu"] then
    return nil, ("hidden_act '%s' is not implemented; silu is"):format(tostring(c.hidden_act))
  end

  local m, why = { arch = arch, raw = raw, qkv_bias = row.qkv_bias or false, tied = c.tie_word_embeddings or false }
  for ours, theirs in pairs { d = "hidden_size", layers = "num_hidden_layers", vocab = "vocab_size",
                              heads = "num_attention_heads", ffn = "intermediate_size" } do
    m[ours], why = size(c, theirs)
    if why then return nil, why end
  end
  m.kv_heads, why = size(c, "num_key_value_heads", m.heads)
  if why then return nil, why end
  m.context, why = size(c, "max_position_embeddings", 2048)
  if why then return nil, why end
  m.head_dim, why = size(c, "head_dim", m.d / m.heads)
  if why then return nil, why end
  if row.window == "limit" and c.sliding_window ~= nil and c.use_sliding_window ~= false then
    m.window, why = size(c, "sliding_window")
    if why then return nil, why end
  end
  if m.heads % m.kv_heads ~= 0 then
    return nil, ("num_attention_heads %d is no multiple of num_key_value_heads %d"):format(m.heads, m.kv_heads)
  end
  if m.head_dim % 2 ~= 0 then return nil, ("head_dim is %d; it must be even"):format(m.head_dim) end

  -- transformers 5 writes rope_parameters, with theta inside; 4 writes rope_theta and rope_scaling.
  local rope = c.rope_parameters or c.rope_scaling
  if rope and type(rope) ~= "table" then return nil, "rope_scaling is no object" end
  m.theta = (c.rope_parameters and c.rope_parameters.rope_theta) or c.rope_theta or 10000
  if not above_zero(m.theta) then return nil, "rope_theta is no number above 0" end
  if rope and rope.partial_rotary_factor and rope.partial_rotary_factor ~= 1 then
    return nil, "partial_rotary_factor: partial rotary embedding is not implemented"
  end
  m.scaling, why = scaling_of(rope)
  if why then return nil, why end
  m.eps, m.init = c.rms_norm_eps or 1e-6, c.initializer_range or 0.02
  if not above_zero(m.eps) then return nil, "rms_norm_eps is no number above 0" end
  if type(m.init) ~= "number" then return nil, "initializer_range is no number" end
  if type(m.tied) ~= "boolean" then return nil, "tie_word_embeddings is neither true nor false" end
  return m
end

--- A config.json as transformers 4 and 5 both read it, from ours.
-- @tab m as `read` or `cft.models.new` gives it @string dtype of the weights that are written
function M.write(m, dtype)
  local out = {}
  for k, v in pairs(m.raw or {}) do out[k] = v end
  local names = { f32 = "float32", bf16 = "bfloat16", f64 = "float64" }
  out.architectures = { archs.rows[m.arch].class }
  out.model_type = m.arch
  out.hidden_size, out.num_hidden_layers, out.vocab_size = m.d, m.layers, m.vocab
  out.num_attention_heads, out.num_key_value_heads = m.heads, m.kv_heads
  out.intermediate_size, out.head_dim = m.ffn, m.head_dim
  out.max_position_embeddings, out.rms_norm_eps = m.context, m.eps
  out.tie_word_embeddings, out.hidden_act = m.tied, "silu"
  out.initializer_range = m.init
  out.torch_dtype, out.dtype = names[dtype], nil
  -- Both spellings: version 4 looks at the first two, version 5 at the third.
  out.rope_theta = m.theta
  local rope = { rope_type = "default", rope_theta = m.theta }
  out.rope_scaling = nil
  if m.scaling then
    out.rope_scaling = {}
    for k, v in pairs(m.scaling) do
      local key = k == "type" and "rope_type" or k
      rope[key], out.rope_scaling[key] = v, v
    end
  end
  out.rope_parameters = rope
  return out
end

return M
