--- GGUF files (llama.cpp's): their values and tensors, by the names that the file has. As a model
-- `cft.models.gguf` sees them.
-- @module cft.io.gguf

local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi

local M = {}

--- An open file; `path` is its path.
-- @type Gguf
local Gguf = {}
Gguf.__index = Gguf

-- ---- values ------------------------------------------------------------------------------------

--- The shortest decimal that is this f32: 1e-05, where the double beside it is 9.99999974737875e-06.
function M.shortest(number)
  for digits = 1, 9 do
    local short = tonumber(("%%.%dg"):format(digits):format(number))
    if door.f32(short) == number then return short end
  end
  return number
end

local function lua_value(v)
  if v.kind == C.CFT_GGUF_STRING then return ffi.string(v.string, v.bytes) end
  if v.kind == C.CFT_GGUF_INT then return tonumber(v.integer) end
  if v.kind == C.CFT_GGUF_BOOL then return v.integer ~= 0 end
  return v.single and M.shortest(v.number) or v.number
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

-- ---- tensors -----------------------------------------------------------------------------------

--- The names of its tensors, in the file's order.
-- @treturn table
function Gguf:names()
  local list, info = {}, ffi.new "cft_gguf_tensor"
  for i = 0, tonumber(C.cft_gguf_count(self.file)) - 1 do
    door.check(C.cft_gguf_at(self.file, i, info))
    list[i + 1] = ffi.string(info.name)
  end
  return list
end

--- A tensor's dimensions, outermost first.
-- @string name
-- @treturn ?table nil where the file has none of that name
function Gguf:shape(name)
  local i = C.cft_gguf_index(self.file, name)
  if i < 0 then return nil end
  local info = ffi.new "cft_gguf_tensor"
  door.check(C.cft_gguf_at(self.file, i, info))
  return door.dims(info)
end

--- A tensor, dequantised to f32 in memory of its own on the CPU.
-- @string name
-- @int[opt=0] heads above 0: rows are those of so many heads, each ordered for a rotary embedding of
-- neighbours; the result has them ordered for one of halves
-- @treturn ?Tensor nil where the file has none of that name
function Gguf:tensor(name, heads)
  local dims = self:shape(name)
  if not dims then return nil end
  heads = heads or 0
  local rows = 1
  for d = 1, (#dims == 1 and heads > 0) and 1 or #dims - 1 do rows = rows * dims[d] end
  local t = tensor.empty(dims, { dtype = "f32", device = "cpu" })
  local status = C.cft_gguf_read(self.file, C.cft_gguf_index(self.file, name), 0, rows, heads,
                                 ffi.cast("float *", t.c.data))
  if status ~= C.CFT_OK then t:release() end
  door.check(status)
  return t
end

--- Close the file now; else the collector does.
function Gguf:release()
  if self.file then C.cft_gguf_release(ffi.gc(self.file, nil)) end
  self.file = nil
end

--- Open a file.
-- @string path
-- @treturn Gguf
-- @usage local g = require("cft.io.gguf").open "SmolLM2-135M-Instruct.Q4_1.gguf"
-- print(g:value "general.architecture", g:tensor "output_norm.weight")
function M.open(path)
  local out = ffi.new "cft_gguf *[1]"
  door.check(C.cft_gguf_open(out, path))
  return setmetatable({ file = ffi.gc(out[0], C.cft_gguf_release), path = path }, Gguf)
end

return M
