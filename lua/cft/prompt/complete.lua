--- Tab at the prompt: names, fields, methods, settings, dtypes and files.
-- @module cft.prompt.complete

local host = require "cft.host"
local term = require "cft.base.term"

local M = {}

local keywords = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
                   "not", "or", "repeat", "return", "then", "true", "until", "while" }
local dtypes = { "f32", "bf16", "f16", "f64" }

-- ---- where the cursor is -----------------------------------------------------------------------

-- Walk over a line: the quote that is open at its end and where, and the open brackets' places.
local function state_of(text)
  local quote, from, open, i = nil, nil, {}, 1
  while i <= #text do
    local c = text:sub(i, i)
    if quote then
      if c == "\\" then i = i + 1
      elseif c == quote then quote = nil end
    elseif c == '"' or c == "'" then
      quote, from = c, i + 1
    elseif c == "-" and text:sub(i, i + 1) == "--" then
      return { comment = true }
    elseif c:find "[%(%[{]" then
      open[#open + 1] = i
    elseif c:find "[%)%]}]" then
      open[#open] = nil
    end
    i = i + 1
  end
  return { quote = quote, from = from, open = open }
end

-- ---- what may stand there ----------------------------------------------------------------------

-- A field without running code of the user's: the tables that `__index` names are followed, functions
-- are called for `cft` alone, whose modules are loaded when they are named.
local function field(value, name)
  if type(value) == "string" then return string[name] end
  local depth = 0
  while type(value) == "table" and depth < 10 do
    local found = rawget(value, name)
    if found ~= nil then return found end
    local meta = getmetatable(value)
    if meta and meta.modules then return value[name] end
    value = meta and (meta.__methods or meta.__index)
    depth = depth + 1
  end
end

-- Every name that `field` finds in a value.
local function names_of(value)
  local names, depth = {}, 0
  if type(value) == "string" then value = string end
  while type(value) == "table" and depth < 10 do
    local meta = getmetatable(value)
    for name in pairs(meta and meta.modules or {}) do names[name] = true end
    for name in pairs(value) do
      if type(name) == "string" and name:find "^[%a_][%w_]*$" and not name:find "^__" then names[name] = true end
    end
    value = meta and (meta.__methods or meta.__index)
    depth = depth + 1
  end
  return names
end

local at_hand  -- names beside the globals, or nil

local function global(name)
  local value = at_hand and rawget(at_hand, name)
  if value == nil then value = rawget(_G, name) end
  if value == nil and name == "cft" then value = require "cft" end
  return value
end

-- What `a.b:c` before the last dot or colon stands for.
local function value_of(chain)
  local first, rest = chain:match "^([%a_][%w_]*)(.*)$"
  local value = first and global(first)
  for name in (rest or ""):gmatch "[.:]([%a_][%w_]*)" do value = field(value, name) end
  return value
end

-- Settings, where a table is being written for something that takes them.
local takes_settings = { ["cft.config"] = true, ["cft.recipe.run"] = true, ["cft.recipe.prepare"] = true }
local function settings(text, open)
  local at = open[#open]
  if not at or text:sub(at, at) ~= "{" then return {} end
  local chain = text:sub(1, at - 1):match "([%a_][%w_.:]*)%s*%(?%s*$"
  if not takes_settings[chain] then return {} end
  local names = {}
  for name in pairs(require "cft.config.keys".by_name) do names[name] = true end
  return names
end

-- Files that begin so; folders end in a slash.
local function files(prefix)
  local folder, list = prefix:match "^(.*/)" or "", {}
  for _, name in ipairs(host.list(folder == "" and "." or folder) or {}) do
    local hidden = name:sub(1, 1) == "." and prefix:sub(#folder + 1, #folder + 1) ~= "."
    if not hidden then
      local path = folder .. name
      list[#list + 1] = host.kind(path) == "folder" and path .. "/" or path
    end
  end
  return list
end

-- The word before the cursor, and what it may become.
local function candidates(text)
  local state = state_of(text)
  if state.comment then return "", {} end
  if state.quote then
    local word = text:sub(state.from)
    local list = files(word)
    for _, name in ipairs(dtypes) do list[#list + 1] = name end
    return word, list
  end
  local chain, mark, word = text:match "([%a_][%w_.:]*)([.:])([%w_]*)$"
  local list = {}
  if chain then
    local value = value_of(chain)
    for name in pairs(names_of(value)) do
      if mark == "." or type(field(value, name)) == "function" then list[#list + 1] = name end
    end
    return word, list
  end
  word = text:match "[%a_][%w_]*$" or ""
  for name in pairs(settings(text, state.open)) do list[#list + 1] = name .. " = " end
  for _, name in ipairs(keywords) do list[#list + 1] = name end
  for name in pairs(_G) do
    if type(name) == "string" then list[#list + 1] = name end
  end
  for name in pairs(at_hand or {}) do list[#list + 1] = name end
  list[#list + 1] = "cft"
  return word, list
end

-- ---- what Tab does -----------------------------------------------------------------------------

local function common_prefix(list)
  local prefix = list[1] or ""
  for _, name in ipairs(list) do
    while name:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return prefix
end

-- Names in columns, as wide as the terminal.
local function columns(list, prefix)
  local shown, widest = {}, 1
  for i, name in ipairs(list) do
    shown[i] = name:sub(#(prefix:match "^.*/" or "") + 1)
    widest = math.max(widest, #shown[i])
  end
  local across = math.max(1, math.floor(term.width() / (widest + 2)))
  local down, lines = math.ceil(#shown / across), {}
  for row = 1, down do
    local parts = {}
    for i = row, #shown, down do parts[#parts + 1] = shown[i] .. (" "):rep(widest - #shown[i] + 2) end
    lines[row] = (table.concat(parts):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

local MOST = 300

--- What Tab makes of a line.
-- @string text of the line, up to the cursor
-- @tab[opt] names value by name, in front of the globals
-- @treturn string what to put in at the cursor; may be empty
-- @treturn ?string what to show below: the choices, where there are several
function M.complete(text, names)
  at_hand = names
  local word, all = candidates(text)
  local list, seen = {}, {}
  for _, name in ipairs(all) do
    if name:sub(1, #word) == word and not seen[name] then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  table.sort(list)
  if #list == 0 then return "" end
  local more = common_prefix(list):sub(#word + 1)
  if #list == 1 or more ~= "" then return more end
  if #list > MOST then return "", ("%d names; type more of it"):format(#list) end
  return "", (columns(list, word))
end

return M
