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

local M = {}

--- What JSON's null is in a Lua table, where nil would be no entry. It is true in conditions.
M.null = core.null

--- Read one JSON value.
-- @param text a string, or a pointer to bytes with their number as second argument
-- @int[opt] bytes only with a pointer
-- @return the value; or nil and a message with the byte where it is not JSON. Invalid UTF-8 is
-- such a place, and nesting deeper than 2048.
function M.decode(text, bytes)
  if type(text) == "string" then return core.decode(text) end
  return core.decode_at(ffi.cast("const char *", text), tonumber(bytes))
end

--- Read a file of one JSON value.
-- @string path
-- @return the value; or nil and a message with the path
function M.read(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text, broken = file:read "*a"  -- a folder opens, and fails here
  file:close()
  if not text then return nil, path .. ": " .. tostring(broken) end
  local value, message = M.decode(text)
  if value == nil then return nil, path .. ": " .. message end
  return value
end

--- Mark a table as an array, which matters only for an empty one.
-- @tab[opt] t a new one if absent
-- @treturn table t
function M.array(t) return setmetatable(t or {}, core.array_mark) end

--- Was this table an array in JSON?
-- @param t anything
function M.is_array(t) return getmetatable(t) == core.array_mark end

--- Write one value.
-- The same value always gives the same bytes: keys are sorted. Infinite numbers and nan, cycles,
-- texts that are not UTF-8, arrays with holes: an error that says where in the value.
-- @param value tables, strings, numbers, booleans, `json.null`
-- @tab[opt] opts
-- @int[opt=0] opts.indent spaces a level; 0 writes one line
-- @tab[opt] opts.order keys that come first, in this order
-- @treturn string without a newline at its end
function M.encode(value, opts)
  if not opts then return core.encode(value, 0) end
  local o = check.options("json.encode", opts, {
    indent = { "integer", 0, min = 0, max = 16 }, order = { "table", optional = true },
  })
  local rank = o.order and {}
  for i, key in ipairs(o.order or {}) do rank[key] = i end
  return core.encode(value, o.indent, rank)
end

return M
