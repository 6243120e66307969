--- Rotary embedding as config.json says it: `rope_scaling`, `rope_parameters` and `rope_theta` are three
-- sources of one fact. docs/models.md has who wins.

local M = {}

-- What stands in rope_scaling or rope_parameters and is read, or told apart below.
local known = {
  rope_type = true, type = true, rope_theta = true, factor = true, low_freq_factor = true, high_freq_factor = true,
  original_max_position_embeddings = true, partial_rotary_factor = true,
}

local needs = {
  default = {},
  linear = { "factor" },
  llama3 = { "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings" },
}

local function above_zero(v) return type(v) == "number" and v > 0 and v < math.huge end

-- What one source, and what stands beside it, make of theta and scaling.
local function meaning(r, name, c, context)
  local theta = r.rope_theta or c.rope_theta or 10000
  if not above_zero(theta) then return nil, "rope_theta is no number above 0" end
  local kind = r.rope_type or r.type or "default"
  for key, value in pairs(r) do
    if type(value) == "table" then
      return nil, ("%s has an object '%s': RoPE by type of layer is not implemented"):format(name, key)
    end
  end
  if not needs[kind] then
    return nil, ("rope type '%s' is not implemented; default, linear and llama3 are"):format(tostring(kind))
  end
  for key, value in pairs(r) do
    if not known[key] then
      return nil, ("%s has '%s' = %s, which is not implemented"):format(name, tostring(key), tostring(value))
    end
  end
  if (r.partial_rotary_factor or 1) ~= 1 then
    return nil, "partial_rotary_factor: partial rotary embedding is not implemented"
  end
  local scaling = { type = kind }
  for _, key in ipairs(needs[kind]) do
    local value = r[key]
    if value == nil and key == "original_max_position_embeddings" then value = context end
    if not above_zero(value) then return nil, ("rope type '%s' without a '%s' above 0"):format(kind, key) end
    scaling[key] = value
  end
  return { theta = theta, scaling = kind ~= "default" and scaling or nil }
end

local function shown(is)
  local s = is.scaling
  return ("%s, theta %g"):format(s and ("%s by %g"):format(s.type, s.factor) or "no scaling", is.theta)
end

local function same(a, b)
  if a.theta ~= b.theta or (a.scaling == nil) ~= (b.scaling == nil) then return false end
  for key, value in pairs(a.scaling or {}) do
    if b.scaling[key] ~= value then return false end
  end
  return not a.scaling or a.scaling.type == b.scaling.type
end

local function object(c, name)
  local r = c[name]
  if r ~= nil and type(r) ~= "table" then return nil, name .. " is no object" end
  return r and next(r) ~= nil and r or nil
end

--- What config.json's three keys mean, as transformers 5 decides: a `rope_scaling` that is not empty replaces
-- `rope_parameters` whole; `rope_theta` inside of what was taken goes before the one outside.
-- @tab c config.json without nulls @int context of the model, which llama3's scaling takes where it is told none
-- @treturn ?table `theta`; `scaling` nil, or `type` and its numbers; `notes`, a line for each place where the sources
-- disagree
-- @treturn string what is wrong or not implemented
function M.read(c, context)
  local old, bad = object(c, "rope_scaling")
  if bad then return nil, bad end
  local new
  new, bad = object(c, "rope_parameters")
  if bad then return nil, bad end
  local name = old and "rope_scaling" or "rope_parameters"
  local taken = old or new or {}
  local is, why = meaning(taken, name, c, context)
  if not is then return nil, why end
  is.notes = {}
  if old and new then
    local other = meaning(new, "rope_parameters", c, context)
    if not other or not same(is, other) then
      is.notes[1] = ("config.json: rope_scaling (%s) and rope_parameters (%s) disagree; rope_scaling is taken, as in "
                     .. "transformers 5"):format(shown(is), other and shown(other) or "not implemented")
    end
  end
  if taken.rope_theta and c.rope_theta and taken.rope_theta ~= c.rope_theta then
    is.notes[#is.notes + 1] = ("config.json: rope_theta is %g, and %g in %s; the latter is taken, as in transformers 5")
      :format(c.rope_theta, taken.rope_theta, name)
  end
  if taken.rope_type and taken.type and taken.rope_type ~= taken.type then
    is.notes[#is.notes + 1] = ("config.json: %s has rope_type '%s' and type '%s'; rope_type is taken, as in "
                               .. "transformers"):format(name, tostring(taken.rope_type), tostring(taken.type))
  end
  return is
end

return M
