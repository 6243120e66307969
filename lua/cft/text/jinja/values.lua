--- The values that Jinja templates work with, as Python has them, and how they are written.
--
-- Texts, numbers and booleans are Lua's; `none`, undefined, lists and dicts are tables of a kind. A number
-- that is whole is written as an integer. Texts are UTF-8. Values that came from a record know where from: see
-- `cft.text.jinja.traced`. A list or a dict that did so has it as `from`; what it is written as comes from there, but for
-- the values in it, which have an origin of their own.
-- @module cft.text.jinja.values

local json = require "cft.base.json"
local traced = require "cft.text.jinja.traced"

local bare, concat = traced.bare, traced.concat

local M = {}

-- ---- values ------------------------------------------------------------------------------------

local List, Dict, Undefined, Function = {}, {}, {}, {}

--- Python's None.
M.none = setmetatable({}, { __tostring = function() return "None" end })

--- What a name stands for that nobody set: empty where it is printed, an error where it is used.
function M.undefined(name) return setmetatable({ name = name }, Undefined) end

function M.list(items, tuple)
  items.tuple = tuple
  return setmetatable(items, List)
end

--- A dict keeps the order in which its keys came.
function M.dict() return setmetatable({ keys = {}, map = {} }, Dict) end

function M.put(dict, key, value)
  if type(key) == "table" then
    dict.shown = dict.shown or {}
    dict.shown[bare(key)] = key
    key = bare(key)
  end
  if dict.map[key] == nil then dict.keys[#dict.keys + 1] = key end
  dict.map[key] = value
end

--- What stands under a key.
function M.get(dict, key) return dict.map[bare(key)] end

--- The keys of a dict with where they come from.
function M.keys(dict)
  local keys, shown = {}, dict.shown
  for i, key in ipairs(dict.keys) do keys[i] = shown and shown[key] or key end
  return keys
end

function M.callable(call) return setmetatable({ call = call }, Function) end

local PLAIN = { string = "text", number = "number", boolean = "bool" }

--- "text", "number", "bool", "none", "undefined", "list", "dict", "function".
function M.kind(value)
  local plain = PLAIN[type(value)]
  if plain then return plain end
  if value == M.none then return "none" end
  if traced.is_traced(value) then return "text" end
  if traced.is_scalar(value) then return M.kind(value.value) end
  local meta = getmetatable(value)
  return meta == List and "list" or meta == Dict and "dict" or meta == Function and "function" or "undefined"
end
local kind = M.kind

--- A mistake of the template that runs: its line is added where it is known.
function M.fail(message, ...)
  error({ message = select("#", ...) > 0 and message:format(...) or message }, 0)
end
local fail = M.fail

--- Called with the bytes that are looked at or made before it is done, so that who renders can put an end to it.
function M.spend() end
local function spend(bytes) return M.spend(bytes) end

local known = { [List] = true, [Dict] = true, [Undefined] = true, [Function] = true }

-- The keys of an object: as its text had them where that is known, else in the order of `order`, then of their names.
local order = { role = 1, content = 2 }
local function keys_of(value)
  local keys, known_order = {}, json.keys(value)
  if known_order then
    for _, key in ipairs(known_order) do
      if value[key] ~= nil then keys[#keys + 1] = key end
    end
    return keys
  end
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local x, y = order[a] or 3, order[b] or 3
    if x ~= y then return x < y end
    return tostring(a) < tostring(b)
  end)
  return keys
end

-- What an object or an array holds. A number that was written as a float is one: `8.0`.
local function member(value, key, item, origin)
  if type(item) == "number" and json.is_float(value, key) then return traced.scalar(item, origin or false, true) end
  return M.of(item, origin)
end

local EXACT = 2 ^ 53 - 1  -- above it, a double stands for several integers

--- A Lua value: lists and json.array are lists, other tables dicts.
-- @param value a value of a template's stays as it is
-- @param[opt] origin where it comes from: `origin:at(name)` gives that of what it holds under a name or number. An
-- integer beyond 2^53, which was rounded, is an error then
function M.of(value, origin)
  if value == nil or value == json.null then return traced.scalar(M.none, origin) end
  if type(value) == "string" then return traced.new(value, origin) end
  if type(value) == "number" and origin and value == math.floor(value) and math.abs(value) > EXACT then
    fail("the integer %.0f is beyond 2^53, and was rounded when it was read", value)
  end
  if type(value) ~= "table" then return traced.scalar(value, origin) end
  if known[getmetatable(value)] or value == M.none or traced.is_traced(value) or traced.is_scalar(value) then return value end
  if #value > 0 or json.is_array(value) then
    local items = {}
    for i, item in ipairs(value) do items[i] = member(value, i, item, origin and origin:at(i - 1)) end
    items.from = origin
    return M.list(items)
  end
  local dict = M.dict()
  dict.from = origin
  for _, key in ipairs(keys_of(value)) do
    local shown = type(key) == "string" and traced.new(key, origin) or key
    M.put(dict, shown, member(value, key, value[key], origin and origin:at(key)))
  end
  return dict
end

function M.truth(value)
  value = bare(value)
  local k = kind(value)
  if k == "list" then return #value > 0 elseif k == "dict" then return #value.keys > 0 end
  return k == "function" or value == true or k == "text" and value ~= "" or k == "number" and value ~= 0
end
local truth = M.truth

-- A value to compare; a boolean is the number that Python takes it for.
local function counted(value)
  value = bare(value)
  if type(value) == "boolean" then return value and 1 or 0 end
  return value
end

function M.equal(a, b, depth)
  a, b, depth = counted(a), counted(b), (depth or 0) + 1
  if depth > 100 then fail "values that are compared are nested deeper than 100" end
  local k = kind(a)
  if k ~= kind(b) then return false end
  if k == "undefined" then return true end
  if k == "list" then
    if #a ~= #b then return false end
    for i = 1, #a do
      if not M.equal(a[i], b[i], depth) then return false end
    end
    return true
  elseif k == "dict" then
    if #a.keys ~= #b.keys then return false end
    for key, value in pairs(a.map) do
      if b.map[key] == nil or not M.equal(value, b.map[key], depth) then return false end
    end
    return true
  end
  return a == b
end

M.counted = counted

--- A number as it is printed.
function M.number_text(x)
  if x == math.floor(x) and math.abs(x) < 1e16 then return ("%d"):format(x) end
  for digits = 15, 17 do
    local text = ("%%.%dg"):format(digits):format(x)
    if tonumber(text) == x then return text end
  end
  return tostring(x)
end

local number_text = M.number_text

-- The quotes of a text that comes from one place come from there.
local function in_quotes(value, quote, inside)
  local from = type(value) == "table" and #value.froms == 1 and value.froms[1] or nil
  return traced.owned(concat { quote, inside, quote }, from)
end

local function repr_text(value)
  local text = bare(value)
  local quote = text:find("'", 1, true) and not text:find('"', 1, true) and '"' or "'"
  local inside = traced.each(value, function(part)
    return (part:gsub("[%c\\]", function(c)
      return ({ ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\" })[c] or ("\\x%02x"):format(c:byte())
    end):gsub(quote, "\\" .. quote))
  end)
  return in_quotes(value, quote, inside)
end

-- How Python writes a value inside of a list.
local function repr(value, depth)
  local k, text = kind(value), nil
  if depth > 100 then fail "a value is nested deeper than 100" end
  if k == "text" then return repr_text(value) end
  if k == "list" then
    local parts = {}
    for i, item in ipairs(value) do parts[i] = repr(item, depth + 1) end
    local open, close = value.tuple and "(" or "[", value.tuple and (#parts == 1 and ",)" or ")") or "]"
    text = concat { open, concat(parts, ", "), close }
  elseif k == "dict" then
    local parts = {}
    for i, key in ipairs(M.keys(value)) do
      parts[i] = concat { repr(key, depth + 1), ": ", repr(M.get(value, key), depth + 1) }
    end
    text = concat { "{", concat(parts, ", "), "}" }
  else
    return M.text(value)
  end
  return traced.owned(text, value.from)
end

--- A value as it is printed.
function M.text(value)
  local k = kind(value)
  if k == "text" then return value end
  if traced.is_scalar(value) then
    local text = M.text(value.value)
    return traced.new(value.float and text:find "^-?%d+$" and text .. ".0" or text, value.from)
  end
  if k == "number" then return number_text(value) end
  if k == "bool" then return value and "True" or "False" end
  if k == "undefined" then return "" end
  if k == "none" then return "None" end
  if k == "function" then fail "a function cannot be printed" end
  return repr(value, 0)
end
local text_of = M.text

local function called(value)
  local k = kind(value)
  if k == "undefined" then fail("%s is undefined", value.name) end
  return ({ text = "a text", number = "a number", bool = "a boolean", none = "none", list = "a list", dict = "a dict",
            ["function"] = "a function" })[k]
end
M.called = called

--- A text, or an error that says who wanted it.
function M.want_text(value, who)
  if not traced.is_text(value) then fail("%s wants a text, got %s", who, called(value)) end
  return value
end

local function want_number(value, who)
  value = bare(value)
  if type(value) ~= "number" then fail("%s wants a number, got %s", who, called(value)) end
  return value
end
M.want_number = want_number

local CHARACTER = "()[%z\1-\127\192-\255][\128-\191]*()"

--- The characters of a text as a list.
function M.characters(text)
  local list, whole = {}, bare(text)
  spend(16 * #whole)
  for first, behind in whole:gmatch(CHARACTER) do list[#list + 1] = traced.sub(text, first, behind - 1) end
  return M.list(list)
end
local characters = M.characters

--- What a loop goes through, as a list.
function M.items(value)
  local k = kind(value)
  if k == "list" then return value end
  if k == "dict" then
    return M.list(M.keys(value))
  end
  if k == "text" then return characters(value) end
  if k == "undefined" then return M.list {} end
  fail("%s is nothing that a loop goes through", called(value))
end
local items_of = M.items

function M.length(value)
  local k = kind(value)
  if k == "list" then return #value elseif k == "dict" then return #value.keys elseif k == "undefined" then return 0 end
  if k ~= "text" then fail("%s has no length", called(value)) end
  value = bare(value)
  spend(#value)
  return #value - select(2, value:gsub("[\128-\191]", ""))
end

--- Does `whole` hold `part`?
function M.contains(whole, part)
  local k = kind(whole)
  if k == "text" then
    whole = bare(whole)
    spend(#whole)
    return whole:find(bare(M.want_text(part, "'in' a text")), 1, true) ~= nil
  end
  if k == "dict" then return M.get(whole, part) ~= nil end
  if k == "undefined" then return false end
  for _, item in ipairs(items_of(whole)) do
    if M.equal(item, part) then return true end
  end
  return false
end

-- ---- JSON --------------------------------------------------------------------------------------

local function json_part(text)
  return (text:gsub('[%c"\\]', function(c)
    if c == "\127" then return c end
    return ({ ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\b"] = "\\b",
              ["\f"] = "\\f" })[c] or ("\\u%04x"):format(c:byte())
  end))
end

local function json_text(text) return in_quotes(text, '"', traced.each(text, json_part)) end

local to_json

-- The members of a list or a dict, each as JSON.
local function json_members(value, o, depth)
  local parts = {}
  if kind(value) == "list" then
    for i, item in ipairs(value) do parts[i] = to_json(item, o, depth) end
    return parts, "[", "]"
  end
  local keys = M.keys(value)
  if o.sort_keys then table.sort(keys, function(a, b) return bare(text_of(a)) < bare(text_of(b)) end) end
  for i, key in ipairs(keys) do
    parts[i] = concat { json_text(text_of(key)), o.colon, to_json(M.get(value, key), o, depth) }
  end
  return parts, "{", "}"
end

--- JSON as Python's json.dumps writes it with ensure_ascii = False.
-- @param value
-- @tab o `indent` counts spaces, nil: one line; `comma`, `colon`, `sort_keys`
-- @int depth 0
function M.json(value, o, depth)
  local k = kind(value)
  if traced.is_scalar(value) then
    return kind(value) == "number" and text_of(value) or traced.new(M.json(value.value, o, depth), value.from)
  end
  if depth > 100 then fail "tojson: a value is nested deeper than 100" end
  if k == "text" then return json_text(value) end
  if k == "number" then return number_text(value) end
  if k == "bool" then return value and "true" or "false" end
  if k == "none" then return "null" end
  if k ~= "list" and k ~= "dict" then fail("tojson: %s is no JSON", called(value)) end
  local parts, open, close = json_members(value, o, depth + 1)
  local text
  if #parts == 0 then
    text = open .. close
  elseif o.indent then
    local pad = "\n" .. (" "):rep(o.indent * (depth + 1))
    text = concat { open, pad, concat(parts, concat { o.comma, pad }), "\n", (" "):rep(o.indent * depth), close }
  else
    text = concat { open, concat(parts, o.comma), close }
  end
  return traced.owned(text, value.from)
end
to_json = M.json

return M
