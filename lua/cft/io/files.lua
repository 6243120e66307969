--- Files of weights and of a run's state. What is written appears whole or not at all.
-- @module cft.io.files
-- @usage local w = cft.files.folder(folder)  -- as Hugging Face has it
-- print(w.config.model_type, #w:names(), w:tensor(w:names()[1]))
-- w:release()

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local json = require "cft.base.json"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi

local M = {}

-- A status as `nil, message`, for what a correct program may meet.
local function failed(status)
  if status ~= C.CFT_OK then return ffi.string(C.cft_last_error()) end
end

-- ---- safetensors -------------------------------------------------------------------------------

--- Open weights. `config` is what config.json says (of a folder), `path` its path.
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
    local dims = {}
    for d = 1, a.ndim do dims[d] = tonumber(a.dims[d - 1]) end
    local t = tensor.empty(dims, { dtype = door.dtype_names[tonumber(a.dtype)], device = "cpu" })
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
function M.safetensors(path)
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
function M.folder(path)
  local config, why = json.read(path .. "/config.json")
  if config == nil then blame(why) end
  if type(config) ~= "table" then blame("%s/config.json: is no object", path) end
  local self = M.safetensors(path)
  self.config = config
  return self
end

-- ---- writing tensors -----------------------------------------------------------------------------

-- The entry's tensor, contiguous and on the host, and what to release when it is written.
local function host_tensor(entry)
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

local function fill_array(a, where, entry)
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

-- The entries' tensors one by one, in the order that the file has them.
local function write_entries(writer, path, entries)
  for i = 1, #entries do
    local index = tonumber(C.cft_safetensors_writer_next(writer)) + 1
    if index == 0 then break end  -- what is left has no bytes
    local entry = entries[index]
    local t, temporary = host_tensor(entry)
    local want = entry.dtype and not entry.tensor and entry.dtype or t:dtype()
    local status, problem = C.CFT_OK, nil
    if t:dtype() ~= want then
      problem = ("%s: '%s' came as %s, announced as %s"):format(path, entry.name, t:dtype(), want)
    else
      status = C.cft_safetensors_writer_put(writer, t.c.data, C.cft_tensor_bytes(t.c))
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

local function write_tensors(save, path, entries, opts)
  local where = "files.write_tensors"
  local o = check.options(where, opts, tensor_spec)
  local n = #entries
  local arrays = ffi.new("cft_array[?]", math.max(n, 1))
  for i = 1, n do fill_array(arrays[i - 1], where, entries[i]) end
  local out = ffi.new "cft_safetensors_writer *[1]"
  door.check(C.cft_safetensors_writer_new(out, save, path, arrays, n, o.max_shard_bytes))
  local writer = out[0]
  local ok, err = pcall(write_entries, writer, path, entries)
  C.cft_safetensors_writer_release(writer)
  if not ok then error(err, 0) end
end

--- Write a .safetensors file as Hugging Face does; above `max_shard_bytes` shards and their index.
-- @string path "model.safetensors", for shards too
-- @tab entries a list of `{ name = , tensor = }`, or of `{ name = , dtype = , dims = , make = }`,
-- where `make()` gives the tensor when it is its turn; it is released once it is written
-- @tab[opt] opts
-- @int[opt=5e9] opts.max_shard_bytes
function M.write_tensors(path, entries, opts) write_tensors(nil, path, entries, opts) end

-- ---- state -------------------------------------------------------------------------------------

--- An array in a state file.
-- @type Array
local Array = {}
Array.__index = Array

--- Copy it into a tensor of its shape and dtype, on any device.
-- @tparam Tensor t
-- @treturn Tensor t
function Array:copy_to(t)
  if t:dtype() ~= self.dtype or table.concat(t:shape(), ",") ~= table.concat(self.dims, ",") then
    blame("%s: an array (%s) %s does not fit a tensor (%s) %s", self.path, table.concat(self.dims, ", "),
          self.dtype, table.concat(t:shape(), ", "), t:dtype())
  end
  local direct = tensor.device_name(t:device()) == "cpu" and t:is_contiguous()
  local host = direct and t or tensor.empty(self.dims, { dtype = self.dtype, device = "cpu" })
  local status = C.cft_state_data(self.reader, self.item, 0, host.c.data, self.bytes)
  if not direct then
    if status == C.CFT_OK then t:copy_(host) end
    host:release()
  end
  door.check(status)
  return t
end

--- A tensor of its contents.
-- @param[opt] device the CPU where absent
-- @treturn Tensor
function Array:tensor(device)
  return self:copy_to(tensor.empty(self.dims, { dtype = self.dtype, device = device or "cpu" }))
end

local is_int64, is_uint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"

-- The keys of a map, sorted; nil for a list.
local function keys_of(t, where)
  local n, keys = #t, {}
  for key in pairs(t) do
    local listed = type(key) == "number" and key >= 1 and key <= n and key % 1 == 0
    if not listed then
      if type(key) ~= "string" then
        blame("%s: a key is a %s; strings, or 1 to n, can be saved", where, type(key))
      elseif n > 0 then
        blame("%s: is a list that has a field '%s' too", where, key)
      end
      keys[#keys + 1] = key
    end
  end
  if n > 0 or json.is_array(t) then return nil end
  table.sort(keys)
  return keys
end

local function put_tensor(writer, t)
  local a = ffi.new "cft_array"
  fill_array(a, "files.write_state", { name = "", tensor = t })
  door.check(C.cft_state_put_array(writer, a))
  local host, temporary = host_tensor { tensor = t }
  local status = C.cft_state_put_data(writer, host.c.data, a.bytes)
  for _, one in ipairs(temporary) do one:release() end
  door.check(status)
end

local function put(writer, value, where, depth)
  local kind = type(value)
  if kind == "number" then
    door.check(C.cft_state_put_double(writer, value))
  elseif kind == "string" then
    door.check(C.cft_state_put_string(writer, value, #value))
  elseif kind == "boolean" then
    door.check(C.cft_state_put_bool(writer, value))
  elseif tensor.is(value) then
    put_tensor(writer, value)
  elseif kind == "table" then
    if depth == 64 then blame("%s: tables too deep in each other, or in themselves", where) end
    local keys = keys_of(value, where)
    if keys then
      door.check(C.cft_state_put_map(writer, #keys))
      for _, key in ipairs(keys) do
        door.check(C.cft_state_put_string(writer, key, #key))
        put(writer, value[key], where .. "." .. key, depth + 1)
      end
    else
      door.check(C.cft_state_put_list(writer, #value))
      for i, item in ipairs(value) do put(writer, item, ("%s[%d]"):format(where, i), depth + 1) end
    end
  elseif ffi.istype(is_int64, value) then
    door.check(C.cft_state_put_int(writer, value))
  elseif ffi.istype(is_uint64, value) then
    door.check(C.cft_state_put_uint(writer, value))
  else
    blame("%s: a %s cannot be saved", where, kind)
  end
end

local function write_state(save, path, value)
  local out = ffi.new "cft_state_writer *[1]"
  door.check(C.cft_state_writer_new(out, save, path))
  local writer = out[0]
  local ok, err = pcall(function()
    put(writer, value, "state", 0)
    door.check(C.cft_state_writer_commit(writer))
  end)
  C.cft_state_writer_release(writer)
  if not ok then error(err, 0) end
end

--- Write a value: numbers (exact doubles), `int64_t` and `uint64_t`, strings, booleans, tensors (a
-- copy of their contents), and tables of them: lists, or maps with string keys.
-- @string path
-- @param value
function M.write_state(path, value) write_state(nil, path, value) end

local function get(reader, item, path)
  C.cft_state_next(reader, item)
  local kind = item.kind
  if kind == C.CFT_STATE_DOUBLE then return item.number end
  if kind == C.CFT_STATE_STRING then return ffi.string(item.string, item.bytes) end
  if kind == C.CFT_STATE_BOOL then return item.boolean end
  if kind == C.CFT_STATE_INT then return item.integer end
  if kind == C.CFT_STATE_UINT then return item.natural end
  if kind == C.CFT_STATE_LIST then
    local list = json.array()
    for i = 1, tonumber(item.count) do list[i] = get(reader, item, path) end
    return list
  end
  if kind == C.CFT_STATE_MAP then
    local map = {}
    for _ = 1, tonumber(item.count) do
      local key = get(reader, item, path)
      if map[key] ~= nil then blame("%s, byte %d: the key '%s' comes twice", path, tonumber(item.at), key) end
      map[key] = get(reader, item, path)
    end
    return map
  end
  if kind == C.CFT_STATE_ARRAY then
    local a = setmetatable({ reader = reader, item = ffi.new("cft_state_item", item), path = path,
                             dtype = door.dtype_names[tonumber(item.array.dtype)], dims = {},
                             bytes = tonumber(item.array.bytes) }, Array)
    for d = 1, item.array.ndim do a.dims[d] = tonumber(item.array.dims[d - 1]) end
    return a
  end
  return nil  -- NIL
end

--- Read what `write_state` wrote. Tensors come as `Array`s: nothing of them is read before it is
-- asked for.
-- @string path
-- @return the value; nil and a message where the file is missing or damaged
function M.read_state(path)
  local out = ffi.new "cft_state_reader *[1]"
  local problem = failed(C.cft_state_open(out, path))
  if problem then return nil, problem end
  return get(ffi.gc(out[0], C.cft_state_release), ffi.new "cft_state_item", path)
end

-- ---- a folder that appears whole -----------------------------------------------------------------

--- A checkpoint folder on its way. Paths are relative to it.
-- @type Save
local Save = {}
Save.__index = Save

local function handle(self) return self.c or blame("%s: the save is done", self.path) end

--- Write a text.
-- @string path
-- @string text
function Save:write(path, text) door.check(C.cft_file_write(handle(self), path, text, #text)) end

--- As `files.write_tensors`.
-- @string path
-- @tab entries
-- @tab[opt] opts
function Save:write_tensors(path, entries, opts) write_tensors(handle(self), path, entries, opts) end

--- As `files.write_state`.
-- @string path
-- @param value
function Save:write_state(path, value) write_state(handle(self), path, value) end

--- The temporary folder, where other processes may put files until `commit`.
-- @treturn string
function Save:folder() return ffi.string(C.cft_save_folder(handle(self))) end

--- Write the checksums, sync, and put the folder in its place.
function Save:commit()
  local status = C.cft_save_commit(handle(self))
  local message = failed(status)
  self:discard()
  if message then blame(message) end
end

--- Remove what was written so far. The collector does the same for a save that is forgotten.
function Save:discard()
  if self.c then C.cft_save_release(ffi.gc(self.c, nil)) end
  self.c = nil
end

--- Begin a folder that is to appear at `path`, or to replace what is there, when it is complete.
-- @string path
-- @treturn Save
-- @usage local save = cft.files.save(folder .. "/step-10")
-- save:write("note.txt", "ten steps")
-- save:commit()
-- print(cft.files.verify(folder .. "/step-10"))  --> true
function M.save(path)
  local out = ffi.new "cft_save *[1]"
  door.check(C.cft_save_new(out, path))
  return setmetatable({ c = ffi.gc(out[0], C.cft_save_release), path = path }, Save)
end

--- Read a folder that `save` made against its checksums.
-- @string folder
-- @treturn ?boolean true; or nil and what is wrong: never finished, a file gone, a file changed
function M.verify(folder)
  local problem = failed(C.cft_save_verify(folder))
  if problem then return nil, problem end
  return true
end

-- ---- plain files -------------------------------------------------------------------------------

--- Write a text file, whole or not at all; folders above it are made.
-- @string path
-- @string text
function M.write(path, text) door.check(C.cft_file_write(nil, path, text, #text)) end

--- Remove a file, or a folder with all that is in it. Nothing there is fine.
-- @string path
function M.remove(path) door.check(C.cft_path_remove(path)) end

local hex = ffi.new "char[33]"

--- The XXH3-128 of a text, in hex: a name for data and code, not a secret's keeper.
-- @string text
-- @treturn string 32 digits
function M.hash(text)
  C.cft_hash(hex, text, #text)
  return ffi.string(hex)
end

local sixteen = ffi.new "uint8_t[16]"

--- The same in 16 bytes, which are half as many to keep: of a text, or of bytes in memory.
-- @param bytes a string or a pointer
-- @int[opt] n how many; all of a string if absent
-- @treturn string
function M.digest(bytes, n)
  C.cft_bytes_hash(sixteen, bytes, n or #bytes)
  return ffi.string(sixteen, 16)
end

--- Bytes as text, two hexadecimal digits each.
-- @string bytes
-- @treturn string
function M.hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- The XXH3-128 of a file.
-- @string path
-- @treturn ?string 32 digits; nil and a message where it cannot be read
function M.hash_file(path)
  local problem = failed(C.cft_hash_file(hex, path))
  if problem then return nil, problem end
  return ffi.string(hex)
end

return M
