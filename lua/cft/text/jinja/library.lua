--- Filters, tests, methods of texts, dicts and lists: what Jinja templates do with values (`cft.text.jinja.values`, which
-- this table holds as well).
--
-- Texts may be traced (`cft.text.jinja.traced`): what they become comes from where they came from. Numbers and answers to
-- questions (`length`, `find`, a sum, a test) come from the template. Upper and lower case are ASCII's.
-- @module cft.text.jinja.library

local texts = require "cft.base.text"
local traced = require "cft.text.jinja.traced"
local values = require "cft.text.jinja.values"

local M = {}
for name, value in pairs(values) do M[name] = value end

local bare, concat, sub, in_place = traced.bare, traced.concat, traced.sub, traced.in_place
local kind, truth, counted, called, fail, text_of = M.kind, M.truth, M.counted, M.called, M.fail, M.text
local items_of, characters, want_number = M.items, M.characters, M.want_number
local function spend(bytes) return values.spend(bytes) end
-- What is looked for, or a set of characters: where it comes from does not matter.
local function want_text(value, who) return bare(values.want_text(value, who)) end

-- ---- methods -----------------------------------------------------------------------------------

-- A text without any of `set` at its ends; white space without a set.
local function stripped(text, set, left, right)
  if set == nil or bare(set) == M.none then
    local whole = bare(text)
    local first = left and #whole - #texts.trim_left(whole) + 1 or 1
    return sub(text, first, right and #texts.trim_right(whole) or #whole)
  end
  local first, chars, inside = 1, characters(text), {}
  local last = #chars
  for _, c in ipairs(characters(want_text(set, "strip"))) do inside[c] = true end
  while left and first <= last and inside[bare(chars[first])] do first = first + 1 end
  while right and last >= first and inside[bare(chars[last])] do last = last - 1 end
  return concat(chars, "", first, last)
end

local function split(text, separator, most)
  local parts, at, whole = {}, 1, bare(text)
  most = bare(most)
  most = most and most >= 0 and most or math.huge
  if separator == nil or bare(separator) == M.none then
    text = stripped(text, nil, true, true)
    whole = bare(text)
    while at <= #whole and #parts < most do
      local stop, after = whole:match("^%S+()%s*()", at)
      parts[#parts + 1], at = sub(text, at, stop - 1), after
    end
    if at <= #whole then parts[#parts + 1] = sub(text, at) end
    return M.list(parts)
  end
  separator = want_text(separator, "split")
  if separator == "" then fail "split: the separator is empty" end
  while #parts < most do
    local first, last = whole:find(separator, at, true)
    if not first then break end
    parts[#parts + 1], at = sub(text, at, first - 1), last + 1
  end
  parts[#parts + 1] = sub(text, at)
  return M.list(parts)
end

-- All but the last `most` parts stay one text, with the separators that stand between them.
local function split_from_right(text, separator, most)
  most = bare(most)
  if not most or most < 0 then return split(text, separator) end
  local all, parts = split(text, want_text(separator, "rsplit")), {}
  local kept, bytes = math.max(#all - most, 1), 0
  for i = 1, kept do bytes = bytes + #bare(all[i]) + (i > 1 and #bare(separator) or 0) end
  parts[1] = sub(text, 1, bytes)
  for i = kept + 1, #all do parts[#parts + 1] = all[i] end
  return M.list(parts)
end

local function capital(text) return text:sub(1, 1):upper() .. text:sub(2):lower() end
local function upper(text) return in_place(text, string.upper) end
local function lower(text) return in_place(text, string.lower) end
local function capitalized(text) return in_place(text, capital) end
local function titled(text) return in_place(text, function(whole) return (whole:gsub("%a+", capital)) end) end

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
  old, new, count = want_text(old, "replace"), text_of(new), bare(count)
  if old == "" then fail "replace: what is replaced is empty" end
  count = count ~= nil and count ~= M.none and want_number(count, "replace") or -1
  local parts, at, places = {}, 1, places_of(bare(text), old, count < 0 and math.huge or count)
  spend(#places * traced.size(new))
  for _, place in ipairs(places) do
    parts[#parts + 1] = sub(text, at, place - 1)
    parts[#parts + 1], at = new, place + #old
  end
  parts[#parts + 1] = sub(text, at)
  return concat(parts)
end

local function lines_of(text)
  local parts, at, whole = {}, 1, bare(text)
  while at <= #whole do
    local first, behind = whole:match("()\r?\n?()", (whole:find("[\r\n]", at)) or #whole + 1)
    parts[#parts + 1], at = sub(text, at, first - 1), behind
    if first > #whole then break end
  end
  return M.list(parts)
end

-- Is one of these at the place where `find` looks?
local function any_of(text, wanted, at)
  text = bare(text)
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
  splitlines = lines_of,
  upper = upper, lower = lower, title = titled, capitalize = capitalized,
  replace = replaced,
  join = function(s, list)
    local parts = {}
    for i, item in ipairs(items_of(list)) do parts[i] = values.want_text(item, "join") end
    spend(#parts * traced.size(s))
    return concat(parts, s)
  end,
  find = function(s, p)
    s = bare(s)
    local at = s:find(want_text(p, "find"), 1, true)
    return at and M.length(s:sub(1, at - 1)) or -1
  end,
  count = function(s, p)
    p = want_text(p, "count")
    if p == "" then return M.length(s) + 1 end
    return #places_of(bare(s), p, math.huge)
  end,
  isdigit = function(s) return bare(s):find "^%d+$" ~= nil end,
  isalpha = function(s) return bare(s):find "^%a+$" ~= nil end,
  isspace = function(s) return bare(s):find "^%s+$" ~= nil end,
  removeprefix = function(s, p)
    p = want_text(p, "removeprefix")
    return bare(s):sub(1, #p) == p and sub(s, #p + 1) or s
  end,
  removesuffix = function(s, p)
    p = want_text(p, "removesuffix")
    return p ~= "" and bare(s):sub(-#p) == p and sub(s, 1, #bare(s) - #p) or s
  end,
}

local function pairs_of(dict)
  local list = {}
  for i, key in ipairs(M.keys(dict)) do list[i] = M.list({ key, M.get(dict, key) }, true) end
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
    local value = M.get(d, key)
    if value == nil then value = default end
    if value == nil then value = M.none end
    return value
  end,
  copy = function(d)
    local new = M.dict()
    for _, key in ipairs(M.keys(d)) do M.put(new, key, M.get(d, key)) end
    new.from = d.from
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
  key = bare(key)
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
    or ("element %s of %s"):format(kind(key) == "number" and M.number_text(key) or "?", called(object)))
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
    value = bare(value)
    if value == nil or value == M.none then return default end
    value = want_number(value, "a slice")
    if value < 0 then value = value + n end
    return step > 0 and math.min(math.max(value, 0), n) or math.min(math.max(value, -1), n - 1)
  end
  local from, to = bound(first, step > 0 and 0 or n - 1), bound(last, step > 0 and n or -1)
  for i = from, to + (step > 0 and -1 or 1), step do out[#out + 1] = list[i + 1] end
  if k == "text" then return concat(out) end
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
  string = function(v) return kind(v) == "text" end,
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
  lower = function(v) return v == bare(text_of(v)):lower() end,
  upper = function(v) return v == bare(text_of(v)):upper() end,
}

-- A test answers true or false: where its values come from does not matter.
for name, test in pairs(M.tests) do
  M.tests[name] = function(value, ...) return test(bare(value), bare((...)), select(2, ...)) end
end

-- ---- filters -----------------------------------------------------------------------------------

-- `attribute` of a value, where it may be a path: "function.name".
local function path_of(value, path)
  for part in bare(text_of(path)):gmatch "[^.]+" do value = M.item(value, tonumber(part) or part) end
  return value
end

-- select, reject, selectattr, rejectattr.
local function choose(wanted, by_attribute)
  return function(list, named, ...)
    local out, args = {}, { ... }
    local attribute
    if by_attribute then attribute = table.remove(args, 1) end
    local name = table.remove(args, 1)
    local test = name == nil and truth or M.tests[bare(name)] or fail("no test '%s'", bare(text_of(name)))
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
  local function folded(v)
    v = bare(v)
    return type(v) == "string" and not exact and v:lower() or v
  end
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
local function of_values(f) return function(value, named, ...) return f(bare(value), named, ...) end end

local function default_of(value, named, instead, for_false)
  if instead == nil then instead = named.default_value end
  if for_false == nil then for_false = named.boolean end
  if instead == nil then instead = "" end
  if kind(value) == "undefined" or for_false ~= nil and truth(for_false) and not truth(value) then return instead end
  return value
end

local function rounded(value, named, digits)
  local scale = 10 ^ (bare(digits or named.precision or 0))
  local scaled = want_number(value, "round") * scale
  local floor = math.floor(scaled)
  local rest = scaled - floor
  local up = rest > 0.5 or rest == 0.5 and floor % 2 == 1  -- as Python: halves go to the even one
  return (up and floor + 1 or floor) / scale
end

local function read_number(value)
  value = bare(value)
  return tonumber(type(value) == "string" and texts.trim(value) or value)
end

local function integer_of(value, _, instead)
  local x = read_number(counted(value))
  if not x then return instead or 0 end
  return x < 0 and math.ceil(x) or math.floor(x)
end

local function indented(text, named, width, first)
  width = bare(width or named.width or 4)
  text = text_of(text)
  local whole, out, n, at = bare(text), {}, 0, 1
  local pad = type(width) == "number" and (" "):rep(math.min(width, 1000)) or text_of(width)
  spend(#pad * select(2, whole:gsub("\n", "")))
  while at do  -- a line with its break
    local stop = whole:find("\n", at, true)
    n = n + 1
    if n == 1 and truth(first or named.first or false) or n > 1 and (stop or #whole + 1) > at then out[#out + 1] = pad end
    out[#out + 1] = sub(text, at, stop)
    at = stop and stop + 1
  end
  return concat(out)
end

local function copied(value)
  local list = {}
  for i, item in ipairs(items_of(value)) do list[i] = item end
  return M.list(list)
end

local function reversed(value)
  return M.slice(kind(value) == "text" and value or copied(value), nil, nil, -1)
end

local function mapped(list, named, name, ...)
  local out = {}
  for i, item in ipairs(items_of(list)) do
    if named.attribute then
      local value = path_of(item, named.attribute)
      if kind(value) == "undefined" and named.default ~= nil then value = named.default end
      out[i] = value
    else
      local filter = M.filters[bare(name)] or fail("no filter '%s'", name and bare(text_of(name)) or "")
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
  spend(#parts * traced.size(separator))
  return concat(parts, separator)
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
    x, y = bare(x), bare(y)
    if type(x) == "string" and type(y) == "string" then x, y = x:lower(), y:lower() end
    return order_of(x, y)
  end)
  return list
end

local function json_of(value, named, indent)
  indent = bare(indent or named.indent)
  local separators = named.separators
  local wide = type(indent) == "number"
  return M.json(value, { indent = wide and math.min(indent, 16) or nil, sort_keys = truth(named.sort_keys or false),
    comma = separators and separators[1] or wide and "," or ", ", colon = separators and separators[2] or ": " }, 0)
end

--- Filters: `value | name(...)`.
M.filters = {
  trim = of_text(M.text_methods.strip), strip = of_text(M.text_methods.strip),
  upper = of_text(upper), lower = of_text(lower),
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
    return traced.each(text, function(part) return (part:gsub("[&<>\"']", entities)) end)
  end),
}
M.filters.e = M.filters.escape

return M
