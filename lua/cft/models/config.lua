--- config.json → what our models compute, in the spellings of transformers 4 and 5.
--
-- A key that changes the arithmetic and is not implemented is an error that names it: a model that
-- is nearly right trains, and nobody notices.

local archs = require "cft.models.archs"
local check = require "cft.base.check"
local json = require "cft.base.json"
local keys = require "cft.models.keys"
local rope = require "cft.models.rope"

local M = {}

--- Keys of config.json that Python has as floats; transformers warns of integers, or refuses them.
M.floats = {
  rms_norm_eps = true, initializer_range = true, rope_theta = true, factor = true, low_freq_factor = true,
  high_freq_factor = true,
}

local ACTIVATIONS = { silu = true, swish = true }

-- Sizes: our name, config.json's, and what it is where the file does not say. In this order.
local sizes = {
  { "d", "hidden_size" }, { "layers", "num_hidden_layers" }, { "vocab", "vocab_size" },
  { "heads", "num_attention_heads" }, { "ffn", "intermediate_size" },
  { "kv_heads", "num_key_value_heads", function(m)
    return m.raw.num_key_value_heads == nil and archs.rows[m.arch].kv_heads or m.heads
  end },
  { "context", "max_position_embeddings", function(m) return archs.rows[m.arch].context or 2048 end },
  { "head_dim", "head_dim", function(m) return m.d / m.heads end },
}

local function above_zero(v) return type(v) == "number" and v > 0 and v < math.huge end

-- JSON's null is a value of its own; here it means "absent".
local function without_nulls(c, null)
  local t = {}
  for k, v in pairs(c) do
    if v ~= null then t[k] = type(v) == "table" and without_nulls(v, null) or v end
  end
  return t
end

local size = { "integer", min = 1, max = 2 ^ 31 - 1 }

local function shown(value)
  if type(value) == "table" then return json.encode(value) end
  return type(value) == "string" and ("'%s'"):format(value) or tostring(value)
end

-- What of the keys is not implemented; nil if all is. `window` is the architecture's rule.
local function refused(c, window)
  local told = {}
  local used = c.sliding_window ~= nil and c.use_sliding_window ~= false
  if used and window ~= "limit" and not (window == "if_used" and c.use_sliding_window == nil) then
    return ("sliding_window = %s: a sliding window is not implemented"):format(tostring(c.sliding_window))
  end
  for _, row in ipairs(keys.unused) do
    local key, neutral, what = unpack(row, 1, 3)
    local value = c[key]
    local empty = type(neutral) == "table" and type(value) == "table" and next(value) == nil
    if value ~= nil and value ~= neutral and not empty then
      return ("%s = %s: %s not implemented"):format(key, shown(value), what)
    end
    told[key] = true
  end
  local names = {}
  for key in pairs(c) do
    if not (told[key] or keys.read[key] or keys.harmless[key]) then names[#names + 1] = key end
  end
  table.sort(names)
  local key = names[1]
  if key then
    return ("%s = %s: a key that is not known, and may change what the model computes; if it does not, take it out "
            .. "of config.json"):format(key, shown(c[key]))
  end
end

--- Read a decoded config.json.
-- @tab raw
-- @return our config, or nil and what is wrong: `arch`, `d`, `layers`, `heads`, `kv_heads`,
-- `head_dim`, `ffn`, `vocab`, `eps`, `theta`, `scaling`, `tied`, `context`, `qkv_bias`, `init`, `window` (the
-- longest sequence that may be computed; nil: any), and `raw`, from which what we write is made
-- @return with a config: `notes`, a list of lines, one for each fact on which two keys disagree
function M.read(raw)
  if type(raw) ~= "table" or json.is_array(raw) then return nil, "it is no object of names and values" end
  local c = without_nulls(raw, json.null)
  local arch = c.model_type
  local row = archs.rows[arch]
  if not row then
    return nil, ("model_type '%s' is not implemented; %s are"):format(tostring(arch), archs.listed(archs.names))
  end
  local why = refused(c, row.window)
  if why then return nil, why end
  for _, key in ipairs(keys.never_null) do
    if raw[key] == json.null then return nil, key .. " is null" end
  end
  if c.layer_types and type(c.layer_types) ~= "table" then return nil, "layer_types is no list" end
  for _, key in ipairs(row.never_null or {}) do
    if raw[key] == json.null then
      return nil, ("%s is null, which transformers refuses for %s; leave it out"):format(key, arch)
    end
  end
  if row.layers_need_head_dim and c.layer_types and not c.head_dim then
    return nil, ("layer_types without head_dim, which transformers refuses for %s; leave layer_types out"):format(arch)
  end
  for _, kind in ipairs(c.layer_types or {}) do
    if kind ~= "full_attention" and not (kind == "sliding_attention" and row.window == "limit") then
      return nil, ("layer_types has '%s'; only full_attention is implemented"):format(tostring(kind))
    end
  end
  if not ACTIVATIONS[c.hidden_act or "silu"] then
    return nil, ("hidden_act '%s' is not implemented; silu is"):format(tostring(c.hidden_act))
  end

  local m = { arch = arch, raw = raw, qkv_bias = row.qkv_bias or false, tied = c.tie_word_embeddings or false }
  for _, names in ipairs(sizes) do
    local ours, theirs, default = unpack(names)
    local value = c[theirs]
    if value == nil and default then value = default(m) end
    why = check.problem(value, size)
    if why then return nil, theirs .. " " .. why end
    m[ours] = value
  end
  if row.window == "limit" then
    m.window = c.sliding_window or raw.sliding_window == nil and row.sliding_window or nil
    why = m.window ~= nil and check.problem(m.window, size)
    if why then return nil, "sliding_window " .. why end
  end
  if m.heads % m.kv_heads ~= 0 then
    return nil, ("num_attention_heads %d is no multiple of num_key_value_heads %d"):format(m.heads, m.kv_heads)
  end
  if m.head_dim % 2 ~= 0 then return nil, ("head_dim is %d; it must be even"):format(m.head_dim) end

  local is
  is, why = rope.read(c, m.context)
  if not is then return nil, why end
  m.theta, m.scaling = is.theta, is.scaling
  m.eps, m.init = c.rms_norm_eps or 1e-6, c.initializer_range or 0.02
  if not above_zero(m.eps) then return nil, "rms_norm_eps is no number above 0" end
  if type(m.init) ~= "number" then return nil, "initializer_range is no number" end
  if type(m.tied) ~= "boolean" then return nil, "tie_word_embeddings is neither true nor false" end
  return m, is.notes
end

--- The longest sequence that a model is made for, and which of its settings says so. `max_position_embeddings` is
-- the context before linear scaling of RoPE, and the whole one with llama3's, as in transformers and vLLM.
-- @tab m as `read` or `cft.models.new` gives it
-- @treturn int tokens
-- @treturn string such as "max_position_embeddings = 4096"
function M.limit(m)
  local json = require "cft.base.json"
  local tokens, said = m.context, m.raw and m.raw.max_position_embeddings
  local says = "max_position_embeddings = " .. tokens
  if m.raw and (said == nil or said == json.null) then says = says .. ", the default" end
  if m.scaling and m.scaling.type == "linear" and m.scaling.factor > 1 then
    tokens = math.floor(tokens * m.scaling.factor)
    says = ("%s, RoPE scaled by %g"):format(says, m.scaling.factor)
  end
  if m.window and m.window < tokens then return m.window, "sliding_window = " .. m.window end
  return tokens, says
end

--- A config.json as transformers 4 and 5 both read it, from ours.
-- @tab m as `read` or `cft.models.new` gives it @string dtype of the weights that are written
function M.write(m, dtype)
  local out = {}
  for k, v in pairs(m.raw or {}) do out[k] = v end
  out.architectures = { archs.rows[m.arch].class }
  out.model_type = m.arch
  for _, names in ipairs(sizes) do out[names[2]] = m[names[1]] end
  out.rms_norm_eps, out.initializer_range, out.tie_word_embeddings, out.hidden_act = m.eps, m.init, m.tied, "silu"
  if archs.rows[m.arch].sliding_window then out.sliding_window = m.window or json.null end
  out.torch_dtype, out.dtype = (dtype:gsub("f", "float")), nil
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
