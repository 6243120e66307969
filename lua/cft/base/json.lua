--- JSON: texts to Lua values and back.
--
-- Arrays are tables with a mark (their metatable), so that an empty one is written as `[]` again;
-- objects are plain tables. Numbers are doubles: integers are exact up to 2^53.
-- @module cft.base.json
-- @usage local json = require "cft.base.json"
-- local v = json.decode '{"steps": [1, 2], "note": null}'
-- print(#v.steps, v.note == json.null)            --> 2   true
-- print(json.encode { loss = 0.5, step = 1 })     --> {"loss":0.5,"step":1}

local ffi = require "ffi"
local core = require "cft.json.core"
local check = require "cft.base.check"
local host = require "cft.host"
local texts = require "cft.base.text"

local M = {}

--- What JSON's null is in a Lua table, where nil would be no entry. It is true in conditions.
M.null = core.null

--- Read one JSON value.
-- @param text a string, or a pointer to bytes with their number as second argument
-- @int[opt] bytes only with a pointer
-- @string[opt] keeps where the text holds this, objects know the order of their keys (`json.keys`), and which numbers
-- are floats (`json.is_float`); a few tables more for each
-- @return the value; or nil and a message with the byte where it is not JSON. Invalid UTF-8 is
-- such a place, and nesting deeper than 2048.
-- @usage cft.json.decode '{"a": [1, null]}'.a[1]   --> 1
-- cft.json.decode '{"a" 1}'   --> nil "not JSON at byte 6 (line 1): ':' expected near '1'"
function M.decode(text, bytes, keeps)
  if type(text) == "string" then return core.decode(text, keeps) end
  return core.decode_at(ffi.cast("const char *", text), tonumber(bytes), keeps)
end

--- Read one JSON value of somebody who may mean harm: as `decode`, but an object that has a key twice, of which readers
-- take the first or the last, is none.
-- @string text
-- @return the value; or nil and a message
-- @usage cft.json.decode_once '{"a": 1, "a": 2}'   --> nil "not JSON at byte 12 (line 1): duplicate object key near '\"a\"'"
function M.decode_once(text) return core.decode(text, nil, true) end

--- The keys of an object in the order of its text; nil where nobody asked for it when it was read.
-- @tab t
-- @treturn ?table a list; keys that were put in or taken out since are as they were
-- @usage cft.json.keys(cft.json.decode('{"b": 1, "a": 2}', nil, '"b"'))   --> { "b", "a" }
function M.keys(t)
  local meta = getmetatable(t)
  return meta and meta.keys
end

--- Was this whole number written with a point or an exponent, `8.0`? Only where `json.keys` is known.
-- @tab t the object or array that holds it
-- @param key a name, or a position from 1
-- @usage local t = cft.json.decode('{"b": 1.0, "a": 2}', nil, '"b"')
-- cft.json.is_float(t, "b"), cft.json.is_float(t, "a")   --> true false
function M.is_float(t, key)
  local meta = getmetatable(t)
  return meta ~= nil and meta.floats ~= nil and meta.floats[key] == true
end

--- What JSON can hold of a value: NaN and infinities become texts, and of texts that are no UTF-8 what a terminal would show.
-- @param value a plain one, or a table of such; keys are names
-- @return the same, or a copy of the table
-- @usage cft.json.sayable { loss = 0 / 0, step = 3 }   --> { loss = "nan", step = 3 }
function M.sayable(value)
  if type(value) == "string" then return pcall(M.encode, value) and value or texts.printable(value) end
  if type(value) == "number" then
    return (value ~= value or math.abs(value) == math.huge) and tostring(value) or value
  end
  if type(value) ~= "table" then return value end
  local copy = M.is_array(value) and M.array() or {}
  for k, v in pairs(value) do copy[M.sayable(k)] = M.sayable(v) end
  return copy
end

--- Read a file of one JSON value.
-- @string path
-- @return the value and the text; or nil and a message with the path
-- @usage cft.json.read "nowhere.json"   --> nil "nowhere.json: No such file or directory"
function M.read(path)
  if host.kind(path) == "other" then return nil, path .. ": is no regular file" end  -- a pipe waits, /dev/zero never ends
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text, broken = file:read "*a"  -- a folder opens, and fails here
  file:close()
  if not text then return nil, path .. ": " .. tostring(broken) end
  local value, message = M.decode(text)
  if value == nil then return nil, path .. ": " .. message end
  return value, text
end

--- Mark a table as an array, which matters only for an empty one.
-- @tab[opt] t a new one if absent
-- @treturn table t
-- @usage cft.json.encode { {}, cft.json.array() }   --> "[{},[]]"
function M.array(t) return setmetatable(t or {}, core.array_mark) end

--- Was this table an array in JSON?
-- @param t anything
-- @usage cft.json.is_array(cft.json.decode "[]"), cft.json.is_array {}   --> true false
function M.is_array(t)
  local meta = getmetatable(t)
  return meta == core.array_mark or type(meta) == "table" and meta.array == true
end

-- ---- spellings ---------------------------------------------------------------------------------

-- Numbers that are to be written as they were spelled travel as texts with this byte in front; a text of the value
-- that begins with it gets one more.
local MARK, MARK_WRITTEN = "\1", "\\u0001"

local function mark_numbers(text)
  return (text:gsub("-?%d[%d.eE+-]*", function(number) return '"' .. MARK_WRITTEN .. number .. '"' end))
end

--- How the numbers of a JSON text are spelled: a `8.0` is no `8` to readers with integers.
-- @string text of JSON
-- @return for `encode`'s `spellings`; nil where the text is no JSON
-- @usage local text = '{"eps":1e-6,"rate":8.0}'
-- cft.json.encode(cft.json.decode(text), { spellings = cft.json.spellings(text) })   --> "{\"eps\":1e-6,\"rate\":8.0}"
function M.spellings(text)
  local parts, at = {}, 1
  while true do
    local first = text:find('"', at, true)
    parts[#parts + 1] = mark_numbers(text:sub(at, (first or 0) - 1))
    if not first then break end
    local last = first
    repeat
      last = text:find('["\\]', last + 1)
      local escaped = last and text:byte(last) == 92
      if escaped then last = last + 1 end
    until not escaped
    if not last then return nil end
    parts[#parts + 1], at = text:sub(first, last), last + 1
  end
  return (M.decode(table.concat(parts)))
end

local function guarded(text)
  return type(text) == "string" and text:sub(1, 1) == MARK and MARK .. text or text
end

-- A copy in which numbers that have a spelling are marked texts: that of `spelled`, a value of the same shape, where
-- it still is the number's; else one of a float, where the key is in `floats`.
local function marked(value, spelled, floats, key)
  if type(value) == "number" then
    local text = type(spelled) == "string" and spelled:sub(1, 1) == MARK and spelled:sub(2)
    if text and tonumber(text) == value then return spelled end
    local whole = floats and floats[key] and value % 1 == 0 and math.abs(value) < 2 ^ 53
    return whole and MARK .. ("%.1f"):format(value) or value
  end
  if type(value) ~= "table" then return guarded(value) end
  local copy = setmetatable({}, getmetatable(value))
  for k, v in pairs(value) do
    copy[guarded(k)] = marked(v, type(spelled) == "table" and spelled[k] or nil, floats, k)
  end
  return copy
end

local function unmarked(text)
  text = text:gsub('([^\\])"\\u0001(-?%d[%d.eE+-]*)"', "%1%2")
  return (text:gsub('([^\\])"\\u0001\\u0001', '%1"\\u0001'))
end

--- Write one value.
-- The same value always gives the same bytes: keys are sorted. Infinite numbers and nan, cycles,
-- texts that are not UTF-8, arrays with holes: an error that says where in the value.
-- @param value tables, strings, numbers, booleans, `json.null`
-- @tab[opt] opts
-- @int[opt=0] opts.indent spaces a level; 0 writes one line
-- @tab[opt] opts.order keys that come first, in this order
-- @param[opt] opts.spellings of the text that an object came from: its numbers are written as they were, where they
-- are the same
-- @tab[opt] opts.floats a set of names: a whole number of one is written `8.0`, where it has no spelling
-- @treturn string without a newline at its end
-- @usage cft.json.encode({ lr = 1, step = 2 }, { order = { "step" }, floats = { lr = true } })   --> "{\"step\":2,\"lr\":1.0}"
function M.encode(value, opts)
  if not opts then return core.encode(value, 0) end
  local o = check.options("json.encode", opts, {
    indent = { "integer", 0, min = 0, max = 16 }, order = { "table", optional = true },
    spellings = { "any", optional = true }, floats = { "table", optional = true },
  })
  local rank = o.order and {}
  for i, key in ipairs(o.order or {}) do rank[key] = i end
  if type(value) ~= "table" or not (o.spellings or o.floats) then return core.encode(value, o.indent, rank) end
  return unmarked(core.encode(marked(value, o.spellings, o.floats), o.indent, rank))
end

return M
