--- A value as a text, equal for equal values: what names of settings, templates and data are made of.
--
-- Numbers, texts, booleans and tables of these are spelled out, keys in order. A function is told by the text of its
-- lines and by its upvalues, which must be plain too. That says which function it is, not what it reads: globals and
-- files are not looked at, so that whoever needs certainty asks for `exact` names, which functions do not have.
-- Modules of cft and of Lua, and what is in them, go by their names; an object by the text `__canonical` of its
-- metatable.
-- @module cft.base.canonical
-- @usage local canonical = require "cft.base.canonical"
-- print((canonical.text { 1, lr = 0.5 }))  --> {["lr"]=0.5,[1]=1}

local ffi = require "ffi"
local host = require "cft.host"
local json = require "cft.base.json"

local M = {}

local DEEPEST = 100  -- tables and functions in each other

local STANDARD = { "string", "table", "math", "io", "os", "bit", "ffi", "jit", "coroutine", "debug", "package", "_G" }

-- Is this the module that a function was written in? Others may hand it on, and which are loaded differs.
local function is_home(name, value)
  local source = type(value) == "function" and debug.getinfo(value, "S").source
  return source and source:gsub("/init%.lua$", ".lua"):sub(-#name - 5) == "/" .. name:gsub("%.", "/") .. ".lua"
end

-- Functions, tables and cdata that are a module of cft or of Lua, or a field of one → their names.
local function known_values()
  local known, names = {}, {}
  for _, name in ipairs(STANDARD) do names[#names + 1] = name end
  for name in pairs(package.loaded) do
    if (name .. "."):match "^cft%." then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local module = package.loaded[name]
    if type(module) == "table" then
      for field, value in pairs(module) do
        local kind = type(value)
        if kind == "function" or kind == "table" or kind == "cdata" or kind == "userdata" then
          if not known[value] or is_home(name, value) then known[value] = ("%s.%s"):format(name, tostring(field)) end
        end
      end
    end
  end
  for _, name in ipairs(names) do
    if package.loaded[name] ~= nil then known[package.loaded[name]] = name end
  end
  return known
end

-- The text of a chunk: of a module inside the program, of a file, or of a string that was loaded.
local function chunk_text(source)
  local first = source:sub(1, 1)
  if first == "=" then return nil end
  if first ~= "@" then return source end
  for _, module in ipairs(host.modules()) do
    local text, chunk = host.source(module)
    if chunk == source then return text end
  end
  local file = io.open(source:sub(2), "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function lines_of(source, first, last)
  local text, k, lines = chunk_text(source), 0, {}
  if not text then return nil end
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    k = k + 1
    if k >= first and k <= last then lines[#lines + 1] = line end
  end
  return lines
end

local function count_functions(line)
  local _, count = line:gsub("%f[%w_]function%f[^%w_]", "")
  return count
end

local spell

local function spell_function(f, where, o)
  if o.exact then return nil, where .. " is a function, and a function has no name" end
  local function none(why) return nil, ("%s is a function that has no name: %s"):format(where, why) end
  local info = debug.getinfo(f, "S")
  if info.what ~= "Lua" then return none "it is no Lua function with lines of its own" end
  local lines = lines_of(info.source, info.linedefined, info.lastlinedefined)
  if not lines or #lines == 0 then return none("the text of " .. info.short_src .. " is not there") end
  if count_functions(lines[1]) > 1 then
    return none(("more than one function begins in line %d of %s"):format(info.linedefined, info.short_src))
  end
  local parts = { ("%q"):format(table.concat(lines, "\n")) }
  for k = 1, math.huge do
    local name, value = debug.getupvalue(f, k)
    if not name then break end
    local text, why = spell(value, ("its upvalue '%s'"):format(name), o)
    if not text then return none(why) end
    parts[#parts + 1] = ("%s=%s"):format(name, text)
  end
  return "function(" .. table.concat(parts, ",") .. ")"
end

local function spell_table(t, where, o)
  local meta = getmetatable(t)
  if meta and meta.__canonical then return meta.__canonical end
  if meta and not json.is_array(t) and not (o.object and o.depth == 1) then
    return nil, where .. " is an object"
  end
  local keys = {}
  for key, value in pairs(t) do
    if type(key) ~= "string" and type(key) ~= "number" and type(key) ~= "boolean" then
      return nil, ("%s has a key that is a %s"):format(where, type(key))
    end
    keys[#keys + 1] = { text = (spell(key, where, o)), key = key, value = value }
  end
  table.sort(keys, function(a, b) return a.text < b.text end)
  local parts = {}
  for i, entry in ipairs(keys) do
    local at = type(entry.key) == "string" and entry.key or ("[%s]"):format(tostring(entry.key))
    local text, why = spell(entry.value, o.depth == 1 and at or ("%s of %s"):format(at, where), o)
    if not text then return nil, why end
    parts[i] = ("[%s]=%s"):format(entry.text, text)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

spell = function(value, where, o)
  local kind = type(value)
  if kind == "string" then return ("%q"):format(value) end
  if kind == "number" then return ("%.17g"):format(value) end
  if kind == "boolean" or kind == "nil" then return tostring(value) end
  if o.known[value] then return o.known[value] end
  if ffi.istype("int64_t", value) or ffi.istype("uint64_t", value) then return tostring(value) end
  if kind ~= "function" and kind ~= "table" then return nil, ("%s is a %s"):format(where, kind) end
  if o.seen[value] then return ("<%d>"):format(o.seen[value]) end
  if o.depth == DEEPEST then return nil, ("there are more than %d tables in each other"):format(DEEPEST) end
  o.depth, o.count = o.depth + 1, o.count + 1
  o.seen[value] = o.count
  local text, why = (kind == "function" and spell_function or spell_table)(value, where, o)
  if kind == "table" then o.seen[value] = nil end  -- a table met twice is as good as two equal ones
  o.depth = o.depth - 1
  return text, why
end

--- The text of a value.
-- @param value
-- @tab[opt] o `what`: how messages call it; `exact`: nothing that holds a function has a text; `object`: the value
-- itself may have a metatable, of which nothing is told
-- @treturn ?string nil where it has none; then
-- @treturn ?string why, such as "map is a function that has no name: its upvalue 'tok' is an object"
function M.text(value, o)
  o = o or {}
  local state = { exact = o.exact, object = o.object, known = known_values(), seen = {}, count = 0, depth = 0 }
  return spell(value, o.what or "value", state)
end

--- Names put together; nil and why where one of them has none.
-- @string how a format
-- @param ... for each of its places what gave the name: `{ name, why }`
-- @treturn ?string
-- @treturn ?string why
function M.join(how, ...)
  local names = {}
  for k, name in ipairs { ... } do
    if not name[1] then return nil, name[2] end
    names[k] = name[1]
  end
  return how:format(unpack(names))
end

return M
