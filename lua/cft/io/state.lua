--- A run's state in a file: nested values and arrays, in msgpack.
-- @module cft.io.state

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local finally = require "cft.base.finally"
local json = require "cft.base.json"
local safetensors = require "cft.io.safetensors"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi

local M = {}

--- An array in a state file.
-- @type Array
local Array = {}
Array.__index = Array

--- Copy it into a tensor of its shape and dtype, on any device.
-- @tparam Tensor t
-- @treturn Tensor t
-- @usage cft.files.write_state(path, { step = 3, m = cft.tensor { 1, 2 } })
-- local state = cft.files.read_state(path)
-- state.m:tensor(), state.m:copy_to(cft.zeros { 2 }), state.step   --> (2) f32 on cpu {1, 2} (2) f32 on cpu {1, 2} 3
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

local Later = {}

--- A tensor that is made when it is its turn to be written, and released then.
-- @tab entry `name`, `dtype`, `dims`, `make`, as `files.write_tensors` has it
-- @return the same table, which a state may hold
-- @usage local state = require "cft.io.state"
-- state.write(path, { x = state.later { name = "x", dtype = "f32", dims = { 2 }, make = function() return cft.ones { 2 } end } })
-- state.read(path).x:tensor()   --> (2) f32 on cpu {1, 1}
function M.later(entry) return setmetatable(entry, Later) end

local function put_tensor(writer, entry, held)
  local a, t = ffi.new "cft_array", entry.tensor
  safetensors.fill_array(a, "files.write_state", entry)
  door.check(C.cft_state_put_array(writer, a))
  if held and t and t:is_contiguous() then return door.check(C.cft_state_put_held(writer, t.c.data, a.bytes)) end
  local host, temporary = safetensors.host_tensor(entry)
  local status = C.cft_state_put_data(writer, host.c.data, a.bytes)
  for _, one in ipairs(temporary) do one:release() end
  door.check(status)
end

local function put(writer, value, where, depth, held)
  local kind = type(value)
  if kind == "number" then
    door.check(C.cft_state_put_double(writer, value))
  elseif kind == "string" then
    door.check(C.cft_state_put_string(writer, value, #value))
  elseif kind == "boolean" then
    door.check(C.cft_state_put_bool(writer, value))
  elseif tensor.is(value) then
    put_tensor(writer, { name = "", tensor = value }, held)
  elseif getmetatable(value) == Later then
    put_tensor(writer, value, held)
  elseif kind == "table" then
    if depth == 64 then blame("%s: tables too deep in each other, or in themselves", where) end
    local keys = keys_of(value, where)
    if keys then
      door.check(C.cft_state_put_map(writer, #keys))
      for _, key in ipairs(keys) do
        door.check(C.cft_state_put_string(writer, key, #key))
        put(writer, value[key], where .. "." .. key, depth + 1, held)
      end
    else
      door.check(C.cft_state_put_list(writer, #value))
      for i, item in ipairs(value) do put(writer, item, ("%s[%d]"):format(where, i), depth + 1, held) end
    end
  elseif ffi.istype(is_int64, value) then
    door.check(C.cft_state_put_int(writer, value))
  elseif ffi.istype(is_uint64, value) then
    door.check(C.cft_state_put_uint(writer, value))
  else
    blame("%s: a %s cannot be saved", where, kind)
  end
end

--- Write a value: numbers (exact doubles), `int64_t` and `uint64_t`, strings, booleans, tensors (a
-- copy of their contents), and tables of them: lists, or maps with string keys.
-- @string path
-- @param value
-- @tparam[opt] cdata save the `cft_save` whose folder `path` lies in; one that is deferred holds the tensors
function M.write(path, value, save)
  local out = ffi.new "cft_state_writer *[1]"
  door.check(C.cft_state_writer_new(out, save, path))
  local writer = out[0]
  finally(function() C.cft_state_writer_release(writer) end, function()
    put(writer, value, "state", 0, save and C.cft_save_is_deferred(save))
    door.check(C.cft_state_writer_commit(writer))
  end)
end

local writer_out, data_out, bytes_out = ffi.new "cft_state_writer *[1]", ffi.new "const void *[1]", ffi.new "size_t[1]"

--- The same as text, which `parse` reads.
-- @param value @string label stands for a path in messages
-- @treturn string
function M.text(value, label)
  door.check(C.cft_state_writer_memory(writer_out, label))
  local writer = writer_out[0]
  return finally(function() C.cft_state_writer_release(writer) end, function()
    put(writer, value, label, 0)
    door.check(C.cft_state_writer_commit(writer))
    C.cft_state_writer_bytes(writer, data_out, bytes_out)
    return ffi.string(data_out[0], bytes_out[0])
  end)
end

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
    return setmetatable({ reader = reader, item = ffi.new("cft_state_item", item), path = path,
                          dtype = door.dtype_names[tonumber(item.array.dtype)], dims = door.dims(item.array),
                          bytes = tonumber(item.array.bytes) }, Array)
  end
  return nil  -- NIL
end

--- Read what `write` wrote. Tensors come as `Array`s: nothing of them is read before it is
-- asked for.
-- @string path
-- @return the value; nil and a message where the file is missing or damaged
function M.read(path)
  local out = ffi.new "cft_state_reader *[1]"
  if C.cft_state_open(out, path) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  return get(ffi.gc(out[0], C.cft_state_release), ffi.new "cft_state_item", path)
end

--- Read what `text` made.
-- @string text is kept alive by what is read of it
-- @string label stands for a path in messages
-- @return the value; nil and a message where it is damaged
function M.parse(text, label)
  local out = ffi.new "cft_state_reader *[1]"
  if C.cft_state_parse(out, text, #text, label) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  local reader = ffi.gc(out[0], C.cft_state_release)
  local value = get(reader, ffi.new "cft_state_item", label)
  return value, text
end

return M
