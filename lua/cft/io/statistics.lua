--- The tensors of any file that has some, each with its shape, dtype and what its numbers are like.
-- @module cft.io.statistics

local door = require "cft.engine.ffi"
local gguf = require "cft.io.gguf"
local safetensors = require "cft.io.safetensors"
local states = require "cft.io.state"

local C, ffi = door.C, door.ffi

local M = {}

local PIECE = 2 ^ 22  -- numbers that are looked at in one go, where they are copied out

local function described(name, dtype, dims, s)
  return { name = name, dtype = dtype, dims = dims, finite = tonumber(s.finite), nans = tonumber(s.nans),
           infinities = tonumber(s.infinities), least = s.least, most = s.most,
           mean = s.sum / math.max(tonumber(s.finite), 1) }
end

-- Each tensor of a file of Hugging Face's, or of its folder. A dtype that cft does not read has no numbers.
local function of_safetensors(path, visit)
  local file, a = safetensors.open(path), ffi.new "cft_array"
  for i, name in ipairs(file.order) do
    if C.cft_safetensors_at(file.file, i - 1, a) == C.CFT_OK then
      local s = ffi.new "cft_statistics"
      C.cft_statistics_add(s, a.data, a.bytes, a.dtype)
      visit(described(name, door.dtype_names[tonumber(a.dtype)], door.dims(a), s))
    else
      visit { name = name, problem = ffi.string(C.cft_last_error()) }
    end
  end
  file:release()
end

-- Dequantised to f32, some rows at a time.
local function of_gguf(path, visit)
  local file, info = gguf.open(path), ffi.new "cft_gguf_tensor"
  for i = 0, tonumber(C.cft_gguf_count(file.file)) - 1 do
    door.check(C.cft_gguf_at(file.file, i, info))
    local name, kind, dims = ffi.string(info.name), ffi.string(info.type), door.dims(info)
    if info.readable then
      local columns, rows, s = dims[#dims], 1, ffi.new "cft_statistics"
      for d = 1, #dims - 1 do rows = rows * dims[d] end
      local most = math.max(1, math.floor(PIECE / columns))
      local numbers = ffi.new("float[?]", math.min(most, rows) * columns)
      for row = 0, rows - 1, most do
        local n = math.min(most, rows - row)
        door.check(C.cft_gguf_read(file.file, i, row, n, 0, numbers))
        C.cft_statistics_add(s, numbers, n * columns * 4, C.CFT_F32)
      end
      visit(described(name, kind, dims, s))
    else
      visit { name = name, dtype = kind, dims = dims, problem = "cft does not read " .. kind }
    end
  end
  file:release()
end

local function of_array(array, name, visit)
  local s, size = ffi.new "cft_statistics", tonumber(C.cft_dtype_bytes(door.dtypes[array.dtype]))
  local buffer = ffi.new("char[?]", math.min(PIECE * size, math.max(array.bytes, 1)))
  for from = 0, array.bytes - 1, PIECE * size do
    local n = math.min(PIECE * size, array.bytes - from)
    door.check(C.cft_state_data(array.reader, array.item, from, buffer, n))
    C.cft_statistics_add(s, buffer, n, door.dtypes[array.dtype])
  end
  visit(described(name, array.dtype, array.dims, s))
end

-- The arrays of a state, by the keys that lead to them.
local function of_state(path, visit)
  local state, why = states.read(path)
  if state == nil then error(why, 0) end
  local function walk(value, name)
    if type(value) ~= "table" then return end
    if value.copy_to then return of_array(value, name, visit) end
    local keys = {}
    for key in pairs(value) do keys[#keys + 1] = key end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for _, key in ipairs(keys) do walk(value[key], name == "" and tostring(key) or name .. "." .. tostring(key)) end
  end
  walk(state, "")
end

--- Look at each tensor of a file.
-- @string path of safetensors, GGUF or a state of ours; or a folder with weights of Hugging Face's
-- @func visit gets `name`, `dtype`, `dims`, `least`, `most`, `mean` of the `finite` numbers, `nans`, `infinities`; or
-- `name` and `problem`
-- Another file, or a damaged one, is an error.
function M.each(path, visit)
  local way = path:find "%.gguf$" and of_gguf or path:find "%.msgpack$" and of_state or of_safetensors
  way(path, visit)
  door.check(C.cft_mapping_check())
end

return M
