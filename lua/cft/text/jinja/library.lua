--- What Jinja templates work with: values as Python has them, filters, tests, methods of texts and dicts.
--
-- Texts, numbers and booleans are Lua's; `none`, undefined, lists and dicts are tables of a kind. A number
-- that is whole is written as an integer. Texts are UTF-8; upper and lower case are ASCII's.
-- @module cft.text.jinja.library

local json = require "cft.base.json"
local texts = require "cft.base.text"

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
  if dict.map[key] == nil then dict.keys[#dict.keys + 1] = key end
  dict.map[key] = value
end

function M.callable(call) return setmetatable({ call = call }, Function) end

local PLAIN = { string = "text", number = "number", boolean = "bool" }

--- "text", "number", "bool", "none", "undefined", "list", "dict", "function".
function M.kind(value)
  local plain = PLAIN[type(value)]
  if plain then return plain end
  if value == M.none then return "none" end
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

--- A Lua value: lists and json.array are lists, other tables dicts, in the order of `order`, then of their names.
local order = { role = 1, content = 2 }
function M.of(value)
  if value == nil or value == json.null then return M.none end
  if type(value) ~= "table" then return value end
  if #value > 0 or json.is_array(value) then
    local items = {}
    for i, item in ipairs(value) do items[i] = M.of(item) end
    return M.list(items)
  end
  local keys, dict = {}, M.dict()
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local x, y = order[a] or 3, order[b] or 3
    if x ~= y then return x < y end
    return tostring(a) < tostring(b)
  end)
  for _, key in ipairs(keys) do M.put(dict, key, M.of(value[key])) end
  return dict
end

function M.truth(value)
  local k = kind(value)
  if k == "list" then return #value > 0 elseif k == "dict" then return #value.keys > 0 end
  return k == "function" or value == true or k == "text" and value ~= "" or k == "number" and value ~= 0
end
local truth = M.truth

-- A boolean as the number that Python takes it for.
local function counted(value)
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

local function number_text(x)
  if x == math.floor(x) and math.abs(x) < 1e16 then return ("%d"):format(x) end
  for digits = 15, 17 do
    local text = ("%%.%dg"):format(digits):format(x)
    if tonumber(text) == x then return text end
  end
  return tostring(x)
end

-- How Python writes a value inside of a list.
local function repr(value, depth)
  local k = kind(value)
  if depth > 100 then fail "a value is nested deeper than 100" end
  if k == "text" then
    local quote = value:find("'", 1, true) and not value:find('"', 1, true) and '"' or "'"
    return quote .. value:gsub("[%c\\]", function(c)
      return ({ ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\" })[c] or ("\\x%02x"):format(c:byte())
    end):gsub(quote, "\\" .. quote) .. quote
  elseif k == "list" then
    local parts = {}
    for i, item in ipairs(value) do parts[i] = repr(item, depth + 1) end
    if value.tuple then return "(" .. table.concat(parts, ", ") .. (#parts == 1 and ",)" or ")") end
    return "[" .. table.concat(parts, ", ") .. "]"
  elseif k == "dict" then
    local parts = {}
    for i, key in ipairs(value.keys) do
      parts[i] = repr(key, depth + 1) .. ": " .. repr(value.map[key], depth + 1)
    end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  return M.text(value)
end

--- A value as it is printed.
function M.text(value)
  local k = kind(value)
  if k == "text" then return value end
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
local function want_text(value, who)
  if type(value) ~= "string" then fail("%s wants a text, got %s", who, called(value)) end
  return value
end

local function want_number(value, who)
  if type(value) ~= "number" then fail("%s wants a number, got %s", who, called(value)) end
  return value
end
M.want_number = want_number

local function characters(text)
  spend(16 * #text)
  local list = {}
  for c in text:gmatch "[%z\1-\127\192-\255][\128-\191]*" do list[#list + 1] = c end
  return M.list(list)
end

--- What a loop goes through, as a list.
function M.items(value)
  local k = kind(value)
  if k == "list" then return value end
  if k == "dict" then
    local keys = {}
    for i, key in ipairs(value.keys) do keys[i] = key end
    return M.list(keys)
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
  spend(#value)
  return #value - select(2, value:gsub("[\128-\191]", ""))
end

--- Does `whole` hold `part`?
function M.contains(whole, part)
  local k = kind(whole)
  if k == "text" then
    spend(#whole)
    return whole:find(want_text(part, "'in' a text"), 1, true) ~= nil
  end
  if k == "dict" then return whole.map[part] ~= nil end
  if k == "undefined" then return false end
  for _, item in ipairs(items_of(whole)) do
    if M.equal(item, part) then return true end
  end
  return false
end

-- ---- JSON --------------------------------------------------------------------------------------

local function json_text(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    if c == "\127" then return c end
    return ({ ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\b"] = "\\b",
              ["\f"] = "\\f" })[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

-- As Python's json.dumps with ensure_ascii = False. `indent` counts spaces, nil: one line.
local function to_json(value, o, depth)
  local k = kind(value)
  if depth > 100 then fail "tojson: a value is nested deeper than 100" end
  if k == "text" then return json_text(value) end
  if k == "number" then return number_text(value) end
  if k == "bool" then return value and "true" or "false" end
  if k == "none" then return "null" end
  if k ~= "list" and k ~= "dict" then fail("tojson: %s is no JSON", called(value)) end
  local parts, open, close = {}, k == "list" and "[" or "{", k == "list" and "]" or "}"
  if k == "list" then
    for i, item in ipairs(value) do parts[i] = to_json(item, o, depth + 1) end
  else
    local keys = items_of(value)
    if o.sort_keys then table.sort(keys, function(a, b) return text_of(a) < text_of(b) end) end
    for i, key in ipairs(keys) do
      parts[i] = json_text(text_of(key)) .. o.colon .. to_json(value.map[key], o, depth + 1)
    end
  end
  if #parts == 0 then return open .. close end
  if not o.indent then return open .. table.concat(parts, o.comma) .. close end
  local pad = "\n" .. (" "):rep(o.indent * (depth + 1))
  return open .. pad .. table.concat(parts, o.comma .. pad) .. "\n" .. (" "):rep(o.indent * depth) .. close
end

-- ---- methods -----------------------------------------------------------------------------------

-- A text without any of `set` at its ends; white space without a set.
local function stripped(text, set, left, right)
  if set == nil or set == M.none then
    if left then text = texts.trim_left(text) end
    return right and texts.trim_right(text) or text
  end
  local first, chars, inside = 1, characters(text), {}
  local last = #chars
  for _, c in ipairs(characters(want_text(set, "strip"))) do inside[c] = true end
  while left and first <= last and inside[chars[first]] do first = first + 1 end
  while right and last >= first and inside[chars[last]] do last = last - 1 end
  return table.concat(chars, "", first, last)
end

local function split(text, separator, most)
  local parts, at = {}, 1
  most = most and most >= 0 and most or math.huge
  if separator == nil or separator == M.none then
    text = texts.trim(text)
    while at <= #text and #parts < most do
      local stop, after = text:match("^%S+()%s*()", at)
      parts[#parts + 1], at = text:sub(at, stop - 1), after
    end
    if at <= #text then parts[#parts + 1] = text:sub(at) end
    return M.list(parts)
  end
  if want_text(separator, "split") == "" then fail "split: the separator is empty" end
  while #parts < most do
    local first, last = text:find(separator, at, true)
    if not first then break end
    parts[#parts + 1], at = text:sub(at, first - 1), last + 1
  end
  parts[#parts + 1] = text:sub(at)
  return M.list(parts)
end

local function split_from_right(text, separator, most)
  if not most or most < 0 then return split(text, separator) end
  local all, parts = split(want_text(text, "rsplit"), want_text(separator, "rsplit")), {}
  local kept = math.max(#all - most, 1)
  parts[1] = table.concat(all, separator, 1, kept)
  for i = kept + 1, #all do parts[#parts + 1] = all[i] end
  return M.list(parts)
end

local function capitalized(text) return text:sub(1, 1):upper() .. text:sub(2):lower() end
local function titled(text) return (text:gsub("%a+", capitalized)) end

-- Where a text has another one, from left to right.
local function places_of(text, part, most)
  local places, at = {}, 1
  spend(#text)
  while #places < most do
    local first, last = text:find(part, at, true)
    if not first then return places end
    places[#places + 1], at = first, last + 1
  end
  return places
end

local function replaced(text, old, new, count)
  old, new = want_text(old, "replace"), text_of(new)
  if old == "" then fail "replace: what is replaced is empty" end
  count = count ~= nil and count ~= M.none and want_number(count, "replace") or -1
  local parts, at, places = {}, 1, places_of(text, old, count < 0 and math.huge or count)
  spend(#places * #new)
  for _, place in ipairs(places) do
    parts[#parts + 1] = text:sub(at, place - 1)
    parts[#parts + 1], at = new, place + #old
  end
  return table.concat(parts) .. text:sub(at)
end

-- Is one of these at the place where `find` looks?
local function any_of(text, wanted, at)
  for _, part in ipairs(kind(wanted) == "list" and wanted or { wanted }) do
    part = want_text(part, "startswith and endswith")
    if at(text, part) then return true end
  end
  return false
end

--- Methods of texts: `text.name(...)`.
M.text_methods = {
  strip = function(s, set) return stripped(s, set, true, true) end,
  lstrip = function(s, set) return stripped(s, set, true, false) end,
  rstrip = function(s, set) return stripped(s, set, false, true) end,
  startswith = function(s, p) return any_of(s, p, function(t, x) return t:sub(1, #x) == x end) end,
  endswith = function(s, p) return any_of(s, p, function(t, x) return x == "" or t:sub(-#x) == x end) end,
  split = split, rsplit = split_from_right,
  splitlines = function(s)
    local parts = split(s:gsub("\r\n?", "\n"), "\n")
    if parts[#parts] == "" then parts[#parts] = nil end
    return parts
  end,
  upper = string.upper, lower = string.lower, title = titled, capitalize = capitalized,
  replace = replaced,
  join = function(s, list)
    local parts = {}
    for i, item in ipairs(items_of(list)) do parts[i] = want_text(item, "join") end
    spend(#parts * #s)
    return table.concat(parts, s)
  end,
  find = function(s, p)
    local at = s:find(want_text(p, "find"), 1, true)
    return at and M.length(s:sub(1, at - 1)) or -1
  end,
  count = function(s, p)
    if want_text(p, "count") == "" then return M.length(s) + 1 end
    return #places_of(s, p, math.huge)
  end,
  isdigit = function(s) return s:find "^%d+$" ~= nil end,
  isalpha = function(s) return s:find "^%a+$" ~= nil end,
  isspace = function(s) return s:find "^%s+$" ~= nil end,
  removeprefix = function(s, p) return p ~= "" and s:sub(1, #p) == p and s:sub(#p + 1) or s end,
  removesuffix = function(s, p) return p ~= "" and s:sub(-#p) == p and s:sub(1, -#p - 1) or s end,
}

local function pairs_of(dict)
  local list = {}
  for i, key in ipairs(dict.keys) do list[i] = M.list({ key, dict.map[key] }, true) end
  return M.list(list)
end

--- Methods of dicts.
M.dict_methods = {
  items = pairs_of,
  keys = items_of,
  values = function(d)
    local list = {}
    for i, key in ipairs(d.keys) do list[i] = d.map[key] end
    return M.list(list)
  end,
  get = function(d, key, default)
    local value = d.map[key]
    if value == nil then value = default end
    if value == nil then value = M.none end
    return value
  end,
  copy = function(d)
    local new = M.dict()
    for _, key in ipairs(d.keys) do M.put(new, key, d.map[key]) end
    return new
  end,
}

--- Methods of lists. Those that change one are not for templates, as in transformers.
M.list_methods = {
  index = function(l, wanted)
    for i, item in ipairs(l) do
      if M.equal(item, wanted) then return i - 1 end
    end
    fail "index: it is not in the list"
  end,
  count = function(l, wanted)
    local n = 0
    for _, item in ipairs(l) do n = n + (M.equal(item, wanted) and 1 or 0) end
    return n
  end,
}

--- The value behind a name or a number: `object[key]`.
function M.item(object, key)
  local k = kind(object)
  if k == "undefined" then fail("%s is undefined", object.name) end
  if k == "dict" then
    local value = object.map[key]
    if value ~= nil then return value end
  elseif (k == "list" or k == "text") and type(key) == "number" then
    local list = k == "list" and object or characters(object)
    local value = list[key < 0 and #list + key + 1 or key + 1]
    if value ~= nil then return value end
  end
  return M.undefined(type(key) == "string" and ("'%s' of %s"):format(key, called(object))
    or ("element %s of %s"):format(kind(key) == "number" and number_text(key) or "?", called(object)))
end

--- `object.name`: a method, or what is stored under that name.
function M.attribute(object, name)
  local k = kind(object)
  local methods = ({ text = M.text_methods, dict = M.dict_methods, list = M.list_methods })[k]
  local method = methods and not (k == "dict" and object.namespace) and methods[name]
  if method then
    return M.callable(function(args) return method(object, unpack(args, 1, args.n)) end)
  end
  return M.item(object, name)
end

--- `list[first:last:step]`, of texts by characters.
function M.slice(object, first, last, step)
  local k = kind(object)
  if k ~= "list" and k ~= "text" then fail("%s cannot be cut by [:]", called(object)) end
  local list = k == "list" and object or characters(object)
  local n, out = #list, {}
  step = step == nil and 1 or want_number(step, "a slice")
  if step == 0 then fail "a slice's step is 0" end
  local function bound(value, default)
    if value == nil or value == M.none then return default end
    value = want_number(value, "a slice")
    if value < 0 then value = value + n end
    return step > 0 and math.min(math.max(value, 0), n) or math.min(math.max(value, -1), n - 1)
  end
  local from, to = bound(first, step > 0 and 0 or n - 1), bound(last, step > 0 and n or -1)
  for i = from, to + (step > 0 and -1 or 1), step do out[#out + 1] = list[i + 1] end
  if k == "text" then return table.concat(out) end
  return M.list(out, object.tuple)
end

-- ---- tests -------------------------------------------------------------------------------------

local function order_of(a, b)
  a, b = counted(a), counted(b)
  if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
  if kind(a) == "list" and kind(b) == "list" then
    for i = 1, math.min(#a, #b) do
      if not M.equal(a[i], b[i]) then return order_of(a[i], b[i]) end
    end
    return #a < #b
  end
  fail("%s and %s have no order", called(a), called(b))
end
M.less = order_of

local function whole(x) return type(x) == "number" and x == math.floor(x) end

--- Tests: `value is name`.
M.tests = {
  defined = function(v) return kind(v) ~= "undefined" end,
  undefined = function(v) return kind(v) == "undefined" end,
  none = function(v) return v == M.none end,
  boolean = function(v) return type(v) == "boolean" end,
  ["true"] = function(v) return v == true end,
  ["false"] = function(v) return v == false end,
  string = function(v) return type(v) == "string" end,
  number = function(v) return type(v) == "number" or type(v) == "boolean" end,
  integer = whole,
  float = function(v) return type(v) == "number" and not whole(v) end,
  mapping = function(v) return kind(v) == "dict" end,
  sequence = function(v) local k = kind(v) return k == "list" or k == "text" or k == "dict" end,
  iterable = function(v) local k = kind(v) return k == "list" or k == "text" or k == "dict" or k == "undefined" end,
  callable = function(v) return kind(v) == "function" end,
  odd = function(v) return want_number(v, "odd") % 2 == 1 end,
  even = function(v) return want_number(v, "even") % 2 == 0 end,
  divisibleby = function(v, n) return want_number(v, "divisibleby") % want_number(n, "divisibleby") == 0 end,
  equalto = M.equal, eq = M.equal, sameas = M.equal,
  ne = function(a, b) return not M.equal(a, b) end,
  lt = order_of, lessthan = order_of,
  gt = function(a, b) return order_of(b, a) end, greaterthan = function(a, b) return order_of(b, a) end,
  le = function(a, b) return not order_of(b, a) end,
  ge = function(a, b) return not order_of(a, b) end,
  ["in"] = function(v, list) return M.contains(list, v) end,
  lower = function(v) return v == text_of(v):lower() end,
  upper = function(v) return v == text_of(v):upper() end,
}

-- ---- filters -----------------------------------------------------------------------------------

-- `attribute` of a value, where it may be a path: "function.name".
local function path_of(value, path)
  for part in text_of(path):gmatch "[^.]+" do value = M.item(value, tonumber(part) or part) end
  return value
end

-- select, reject, selectattr, rejectattr.
local function choose(wanted, by_attribute)
  return function(list, named, ...)
    local out, args = {}, { ... }
    local attribute
    if by_attribute then attribute = table.remove(args, 1) end
    local name = table.remove(args, 1)
    local test = name == nil and truth or M.tests[name] or fail("no test '%s'", text_of(name))
    for _, item in ipairs(items_of(list)) do
      local value = item
      if attribute ~= nil then value = path_of(item, attribute) end
      if test(value, unpack(args)) == wanted then out[#out + 1] = item end
    end
    return M.list(out)
  end
end

local function sorted(list, named, reverse)
  local out, by = {}, named.attribute
  for i, item in ipairs(items_of(list)) do out[i] = { item, by and path_of(item, by) or item, i } end
  local down = truth(named.reverse or reverse or false)
  local exact = truth(named.case_sensitive or false)
  spend(1024 * #out * math.log(#out + 1))
  local function folded(v) return type(v) == "string" and not exact and v:lower() or v end
  table.sort(out, function(a, b)
    local x, y = folded(a[2]), folded(b[2])
    if M.equal(x, y) then return a[3] < b[3] end
    if down then return order_of(y, x) end
    return order_of(x, y)
  end)
  for i, entry in ipairs(out) do out[i] = entry[1] end
  return M.list(out)
end

local function at_end(name, place)
  return function(list)
    list = items_of(list)
    if #list == 0 then return M.undefined(("the %s of an empty list"):format(name)) end
    return list[place(#list)]
  end
end

local function extreme(name, better)
  return function(list)
    local best
    for _, item in ipairs(items_of(list)) do
      if best == nil or better(item, best) then best = item end
    end
    if best == nil then return M.undefined("the " .. name .. " of an empty list") end
    return best
  end
end

-- A filter gets the value, its named arguments, and the others.
local function simple(f) return function(value, _, ...) return f(value, ...) end end
local function of_text(f) return function(value, _, ...) return f(text_of(value), ...) end end

local function default_of(value, named, instead, for_false)
  if instead == nil then instead = named.default_value end
  if for_false == nil then for_false = named.boolean end
  if instead == nil then instead = "" end
  if kind(value) == "undefined" or for_false ~= nil and truth(for_false) and not truth(value) then return instead end
  return value
end

local function rounded(value, named, digits)
  local scale = 10 ^ (digits or named.precision or 0)
  local scaled = want_number(value, "round") * scale
  local floor = math.floor(scaled)
  local rest = scaled - floor
  local up = rest > 0.5 or rest == 0.5 and floor % 2 == 1  -- as Python: halves go to the even one
  return (up and floor + 1 or floor) / scale
end

local function read_number(value) return tonumber(type(value) == "string" and texts.trim(value) or value) end

local function integer_of(value, _, instead)
  local x = read_number(counted(value))
  if not x then return instead or 0 end
  return x < 0 and math.ceil(x) or math.floor(x)
end

local function indented(text, named, width, first)
  width = width or named.width or 4
  local pad = type(width) == "number" and (" "):rep(math.min(width, 1000)) or text_of(width)
  local out, n = {}, 0
  spend(#pad * select(2, text_of(text):gsub("\n", "")))
  for line in (text_of(text) .. "\n"):gmatch "([^\n]*)\n" do
    n = n + 1
    local wanted = n == 1 and truth(first or named.first or false) or n > 1 and line ~= ""
    out[n] = (wanted and pad or "") .. line
  end
  return table.concat(out, "\n")
end

local function copied(value)
  local list = {}
  for i, item in ipairs(items_of(value)) do list[i] = item end
  return M.list(list)
end

local function reversed(value)
  return M.slice(type(value) == "string" and value or copied(value), nil, nil, -1)
end

local function mapped(list, named, name, ...)
  local out = {}
  for i, item in ipairs(items_of(list)) do
    if named.attribute then
      local value = path_of(item, named.attribute)
      if kind(value) == "undefined" and named.default ~= nil then value = named.default end
      out[i] = value
    else
      local filter = M.filters[name] or fail("no filter '%s'", name and text_of(name) or "")
      out[i] = filter(item, {}, ...)
    end
  end
  return M.list(out)
end

local function joined(list, named, separator, attribute)
  local parts = {}
  attribute = attribute or named.attribute
  for i, item in ipairs(items_of(list)) do parts[i] = text_of(attribute and path_of(item, attribute) or item) end
  separator = text_of(separator or named.d or "")
  spend(#parts * #separator)
  return table.concat(parts, separator)
end

local function unique(list)
  local out = {}
  for _, item in ipairs(items_of(list)) do
    spend(64 * #out)
    if not M.contains(M.list(out), item) then out[#out + 1] = item end
  end
  return M.list(out)
end

local function dict_sorted(dict, named)
  if kind(dict) ~= "dict" then fail("dictsort wants a dict, got %s", called(dict)) end
  local list, by = pairs_of(dict), named.by == "value" and 2 or 1
  table.sort(list, function(a, b)
    local x, y = a[by], b[by]
    if type(x) == "string" and type(y) == "string" then x, y = x:lower(), y:lower() end
    return order_of(x, y)
  end)
  return list
end

local function json_of(value, named, indent)
  indent = indent or named.indent
  local separators = named.separators
  local wide = type(indent) == "number"
  return to_json(value, { indent = wide and math.min(indent, 16) or nil, sort_keys = truth(named.sort_keys or false),
    comma = separators and separators[1] or wide and "," or ", ", colon = separators and separators[2] or ": " }, 0)
end

--- Filters: `value | name(...)`.
M.filters = {
  trim = of_text(M.text_methods.strip), strip = of_text(M.text_methods.strip),
  upper = of_text(string.upper), lower = of_text(string.lower),
  capitalize = of_text(capitalized), title = of_text(titled),
  replace = of_text(replaced),
  length = simple(M.length), count = simple(M.length),
  tojson = json_of,
  join = joined,
  default = default_of, d = default_of,
  first = at_end("first", function() return 1 end),
  last = at_end("last", function(n) return n end),
  list = simple(copied),
  string = simple(text_of),
  safe = simple(text_of),
  int = integer_of,
  float = function(value, _, instead) return read_number(value) or instead or 0 end,
  abs = function(value) return math.abs(want_number(value, "abs")) end,
  round = rounded,
  items = function(value)
    if kind(value) == "undefined" then return M.list {} end
    if kind(value) ~= "dict" then fail("items wants a dict, got %s", called(value)) end
    return pairs_of(value)
  end,
  dictsort = dict_sorted,
  reverse = reversed,
  sort = sorted,
  unique = unique,
  min = extreme("min", order_of),
  max = extreme("max", function(a, b) return order_of(b, a) end),
  sum = function(list, named)
    local sum = 0
    for _, item in ipairs(items_of(list)) do
      sum = sum + want_number(named.attribute and path_of(item, named.attribute) or item, "sum")
    end
    return sum
  end,
  map = mapped,
  select = choose(true), reject = choose(false), selectattr = choose(true, true), rejectattr = choose(false, true),
  indent = indented,
  attr = function(value, _, name) return M.item(value, name) end,
  wordcount = of_text(function(text) return #split(text) end),
  escape = of_text(function(text)
    local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&#34;", ["'"] = "&#39;" }
    return (text:gsub("[&<>\"']", entities))
  end),
}
M.filters.e = M.filters.escape

return M
