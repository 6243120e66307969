--- Weights in safetensors files, one or in shards, as Hugging Face writes them.
-- @module cft.io.safetensors

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local finally = require "cft.base.finally"
local json = require "cft.base.json"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi

local M = {}

--- Open weights. `config` is what config.json says (of a folder), `text` that file, `path` its path.
-- @type Weights
local Weights = {}
Weights.__index = Weights

-- C's release as a callback of C's: no Lua runs when a tensor's memory goes.
local release_file = ffi.cast("void (*)(void *)", C.cft_safetensors_release)
local tensor_out = ffi.new "cft_tensor *[1]"

--- The names of the tensors, in the files' order.
-- @treturn table
function Weights:names()
  local list = {}
  for i, name in ipairs(self.order) do list[i] = name end
  return list
end

--- A tensor, on the CPU, in the file's dtype. Its memory is the mapped file: nothing is read before
-- it is used, and what is written to it stays in this process. It may outlive the `Weights`.
-- @string name
-- @treturn ?Tensor nil where there is none of that name
function Weights:tensor(name)
  if not self.file then blame("%s: is closed", self.path) end
  if not self.index[name] then return nil end
  local a = ffi.new "cft_array"
  door.check(C.cft_safetensors_find(self.file, name, a))
  if not a.aligned then  -- old writers did not align; a copy is
    local t = tensor.empty(door.dims(a), { dtype = door.dtype_names[tonumber(a.dtype)], device = "cpu" })
    door.check(C.cft_tensor_write(t.c, a.data, a.bytes))
    return t
  end
  C.cft_safetensors_retain(self.file)
  local status = C.cft_tensor_wrap(tensor_out, a.dtype, a.ndim, a.dims,
                                   ffi.cast("void *", a.data), release_file, self.file)
  if status ~= C.CFT_OK then C.cft_safetensors_release(self.file) end
  door.check(status)
  return tensor.wrap(tensor_out[0])
end

--- An entry of the file's `__metadata__`.
-- @string key
-- @treturn ?string
function Weights:metadata(key)
  local value = C.cft_safetensors_metadata(self.file, key)
  return value ~= nil and ffi.string(value) or nil
end

--- Let go of the files now; else the collector does. Tensors of them stay valid.
function Weights:release()
  if self.file then C.cft_safetensors_release(ffi.gc(self.file, nil)) end
  self.file, self.order, self.index = nil, {}, {}
end

--- Open a .safetensors file, or the weights of a Hugging Face folder: one file or all shards.
-- @string path
-- @treturn Weights
-- @usage cft.files.write_tensors(folder .. "/a.safetensors", { { name = "x", tensor = cft.tensor { 1, 2 } } })
-- local w = cft.files.safetensors(folder .. "/a.safetensors")
-- w:names(), w:tensor "x", w:metadata "format"   --> { "x" } (2) f32 on cpu {1, 2} "pt"
-- w:release()
function M.open(path)
  local out = ffi.new "cft_safetensors *[1]"
  door.check(C.cft_safetensors_open(out, path))
  local self = setmetatable({ file = ffi.gc(out[0], C.cft_safetensors_release), path = path,
                              order = {}, index = {} }, Weights)
  local a = ffi.new "cft_array"
  for i = 0, tonumber(C.cft_safetensors_count(self.file)) - 1 do
    C.cft_safetensors_at(self.file, i, a)  -- a type that cft has not is an error for whoever asks
    local name = ffi.string(a.name)
    self.order[i + 1], self.index[name] = name, i
  end
  return self
end

--- Open a Hugging Face folder: config.json and weights.
-- @string path
-- @treturn Weights
-- @usage model:save(folder)
-- local w = cft.files.folder(folder)
-- w.config.model_type, #w:names()   --> "llama" 12
function M.folder(path)
  local config, text = json.read(path .. "/config.json")
  if config == nil then blame(text) end
  if type(config) ~= "table" then blame("%s/config.json: is no object", path) end
  local self = M.open(path)
  self.config, self.text = config, text
  return self
end

-- ---- writing tensors -----------------------------------------------------------------------------

--- The entry's tensor, contiguous and on the host, and a list of what to release when it is written.
function M.host_tensor(entry)
  local t, temporary = entry.tensor, {}
  if not t then
    t = entry.make()
    temporary[1] = t
  end
  if tensor.device_name(t:device()) ~= "cpu" then
    t = t:to "cpu"
    temporary[#temporary + 1] = t
  end
  if not t:is_contiguous() then
    t = tensor.contiguous(t)
    temporary[#temporary + 1] = t
  end
  return t, temporary
end

--- Describe an entry for C.
-- @tparam cdata a a `cft_array`
-- @string where the beginning of a message
-- @tab entry as `write` takes them
function M.fill_array(a, where, entry)
  if type(entry) ~= "table" or type(entry.name) ~= "string"
    or not (tensor.is(entry.tensor) or type(entry.make) == "function") then
    blame("%s: an entry is { name = , tensor = } or { name = , dtype = , dims = , make = }", where)
  end
  local dims = entry.tensor and entry.tensor:shape() or entry.dims or {}
  local dtype = entry.tensor and entry.tensor:dtype() or entry.dtype
  if not door.dtypes[dtype] then blame("%s: '%s' has no dtype '%s'", where, entry.name, tostring(dtype)) end
  if #dims > 6 then blame("%s: '%s' has %d dimensions; at most 6 are possible", where, entry.name, #dims) end
  a.name, a.dtype, a.ndim = entry.name, door.dtypes[dtype], #dims
  a.bytes = C.cft_dtype_bytes(a.dtype)
  for d, n in ipairs(dims) do
    a.dims[d - 1] = n
    a.bytes = a.bytes * n
  end
end

local tensor_spec = { max_shard_bytes = { "integer", 5e9, min = 1 } }

-- The entries' tensors one by one, in the order that the file has them. `held`: they stay as they are while a saver
-- copies them.
local function write_entries(writer, path, entries, held)
  for i = 1, #entries do
    local index = tonumber(C.cft_safetensors_writer_next(writer)) + 1
    if index == 0 then break end  -- what is left has no bytes
    local entry = entries[index]
    local stays = held and entry.tensor and entry.tensor:is_contiguous() and entry.tensor
    local t, temporary
    if stays then t, temporary = stays, {} else t, temporary = M.host_tensor(entry) end
    local want = entry.dtype and not entry.tensor and entry.dtype or t:dtype()
    local status, problem = C.CFT_OK, nil
    if t:dtype() ~= want then
      problem = ("%s: '%s' came as %s, announced as %s"):format(path, entry.name, t:dtype(), want)
    else
      local put = stays and C.cft_safetensors_writer_put_held or C.cft_safetensors_writer_put
      status = put(writer, t.c.data, C.cft_tensor_bytes(t.c))
    end
    for _, one in ipairs(temporary) do one:release() end
    if problem then blame(problem) end
    door.check(status)
    if tonumber(C.cft_safetensors_writer_next(writer)) + 1 == index then
      blame("%s: '%s' is smaller than announced", path, entry.name)
    end
  end
  door.check(C.cft_safetensors_writer_commit(writer))
end

--- Write a .safetensors file as Hugging Face does; above `max_shard_bytes` shards and their index.
-- @string path "model.safetensors", for shards too
-- @tab entries a list of `{ name = , tensor = }`, or of `{ name = , dtype = , dims = , make = }`,
-- where `make()` gives the tensor when it is its turn; it is released once it is written
-- @tab[opt] opts
-- @int[opt=5e9] opts.max_shard_bytes
-- @tparam[opt] cdata save the `cft_save` whose folder `path` lies in
function M.write(path, entries, opts, save)
  local where = "files.write_tensors"
  local o = check.options(where, opts, tensor_spec)
  local n = #entries
  local arrays = ffi.new("cft_array[?]", math.max(n, 1))
  for i = 1, n do M.fill_array(arrays[i - 1], where, entries[i]) end
  local out = ffi.new "cft_safetensors_writer *[1]"
  door.check(C.cft_safetensors_writer_new(out, save, path, arrays, n, o.max_shard_bytes))
  local writer = out[0]
  finally(function() C.cft_safetensors_writer_release(writer) end, write_entries, writer, path, entries,
          save and C.cft_save_is_deferred(save))
end

return M
