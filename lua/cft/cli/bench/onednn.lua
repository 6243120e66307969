--- oneDNN's matmuls in the place of ours, for as long as a measurement lasts.
--
-- They are in a module beside cftrun that is built where libdnnl-dev is; nothing else opens it.

local door = require "cft.engine.ffi"
local finally = require "cft.base.finally"
local host = require "cft.host"
local ffi, C = door.ffi, door.C

local M = {}

local NAME = "libcft_bench_onednn.so"

ffi.cdef [[
cft_status cft_onednn_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a);
cft_status cft_onednn_matmul_packed(cft_device *d, cft_stream *s, const cft_matmul_args *a);
void cft_onednn_forget(cft_device *d);
long readlink(const char *path, char *to, size_t bytes);
]]

-- The folder this program lies in.
local function folder()
  local path = ffi.new "char[4096]"
  local n = tonumber(C.readlink("/proc/self/exe", path, 4096))
  return ffi.string(path, math.max(n, 0)):match "^(.*/)" or ""
end

--- Open the module.
-- @return the library; or nil, and what is missing and what to install
function M.open()
  local path = folder() .. NAME
  if host.kind(path) ~= "file" then
    return nil, ("%s is not there; install libdnnl-dev and build again"):format(path)
  end
  local ok, library = pcall(ffi.load, path)
  if not ok then
    return nil, ("%s cannot be opened; install libdnnl-dev and build again (%s)"):format(path, library)
  end
  return library
end

--- Run `fn(name)` once with each of its matmuls in the CPU's table, weights packed before or not. Ours are back at
-- the end, whatever `fn` does.
-- @param library of `open`
function M.instead(library, fn)
  local d = C.cft_cpu_device()
  local own, theirs = d.kernels, ffi.new "cft_kernels"
  ffi.copy(theirs, own, ffi.sizeof(theirs))
  d.kernels = theirs
  local function restore()
    library.cft_onednn_forget(d)
    d.kernels = own
  end
  finally(restore, function()
    for _, name in ipairs { "cft_onednn_matmul", "cft_onednn_matmul_packed" } do
      theirs.matmul = library[name]
      fn(name)
    end
  end)
end

return M
