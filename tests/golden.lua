--- Golden files: tensors of a safetensors file by name, as Lua tensors.

local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"
local C, ffi = door.C, door.ffi

local M = {}

--- @string path of a file in tests/golden @treturn function name → Tensor (a copy), nil if it has none
function M.open(path)
  local out = ffi.new "cft_safetensors *[1]"
  door.check(C.cft_safetensors_open(out, path))
  local file = ffi.gc(out[0], C.cft_safetensors_release)
  return function(name)
    if C.cft_safetensors_index(file, name) < 0 then return nil end
    local a = ffi.new "cft_array"
    door.check(C.cft_safetensors_find(file, name, a))
    local dims = {}
    for i = 0, a.ndim - 1 do dims[i + 1] = tonumber(a.dims[i]) end
    return tensor.from_host(ffi.cast("void *", a.data), dims, door.dtype_names[tonumber(a.dtype)])
  end
end

return M
