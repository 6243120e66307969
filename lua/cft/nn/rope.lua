--- Tables of cos and sin for rotary positions, with the scalings of config.json.

local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"

local M = {}

-- Frequencies are stretched where their wavelength is long against the context the model was made
-- for, left where it is short, and blended between. Source: transformers' rope type "llama3".
local function llama3(f, o)
  local wavelength = 2 * math.pi / f
  local low, high = o.low_freq_factor, o.high_freq_factor
  local context = o.original_max_position_embeddings
  if wavelength < context / high then return f end
  if wavelength > context / low then return f / o.factor end
  local smooth = (context / wavelength - low) / (high - low)
  return (1 - smooth) * f / o.factor + smooth * f
end

--- Inverse frequencies, D/2 of them, each step rounded to f32 as in transformers: far from the start of
-- a text a last bit of a frequency is a visible angle.
-- @int d head width @number theta base @tab[opt] scaling `type` "linear" or "llama3" and its numbers
-- @treturn table from 0
-- @usage local f = cft.nn.rope.frequencies(4, 10000)
-- f[0], f[1]   --> 1 0.0099999997764826
-- local cos, sin = cft.nn.rope.tables(8, f, 4)
-- cos:shape()   --> { 8, 2 }
function M.frequencies(d, theta, scaling)
  local f = {}
  for j = 0, d / 2 - 1 do
    local v = door.f32(1 / door.f32(theta ^ door.f32(2 * j / d)))
    if scaling and scaling.type == "linear" then v = v / scaling.factor end
    if scaling and scaling.type == "llama3" then v = llama3(v, scaling) end
    f[j] = door.f32(v)
  end
  return f
end

--- cos and sin of position times frequency, both (positions, D/2).
-- The product is rounded to f32 first, as PyTorch does it, unless the tables are f64.
-- @int positions how many, from 0
-- @tab frequencies of `frequencies`
-- @int d head width
-- @string[opt="f32"] dtype "f64" for tables of doubles
-- @param[opt] device
-- @treturn Tensor cos @treturn Tensor sin
function M.tables(positions, frequencies, d, dtype, device)
  local wide = dtype == "f64"
  local half, kind = d / 2, wide and "double" or "float"
  local cos, sin = door.zeros(kind, positions * half), door.zeros(kind, positions * half)
  for p = 0, positions - 1 do
    for j = 0, half - 1 do
      local product = p * frequencies[j]
      local angle = wide and product or door.f32(product)
      cos[p * half + j], sin[p * half + j] = math.cos(angle), math.sin(angle)
    end
  end
  local dims, name, o = { positions, half }, wide and "f64" or "f32", { device = device }
  return tensor.from_host(cos, dims, name, o):keep(), tensor.from_host(sin, dims, name, o):keep()
end

return M
