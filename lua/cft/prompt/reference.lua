--- Docstrings, read from the sources when asked. Which of them are public says lua/cft/prompt/public.lua.
-- A docstring is the comment above a function, with the tags of LDoc.
-- @module cft.prompt.reference

local host = require "cft.host"

local M = {}

-- ---- sources ---------------------------------------------------------------------------------

local kept = {}  -- module -> lines of its source, or false

-- A module's source as it runs: from the folder of CFT_LUA_PATH while editing, else as built in.
local function read(module)
  local folder = os.getenv "CFT_LUA_PATH"
  local path = module:gsub("%.", "/")
  for _, shape in ipairs(folder and folder ~= "" and { "%s/%s.lua", "%s/%s/init.lua" } or {}) do
    local file = io.open(shape:format(folder, path))
    if file then
      local text, name = file:read "*a", shape:format("lua", path)
      file:close()
      return text, name
    end
  end
  local text, chunk = host.source(module)
  return text, chunk and chunk:gsub("^@", "")
end

--- A module's source.
-- @string module such as "cft.data.open"
-- @treturn table its lines, and `path`; false where there is none
function M.source(module)
  if kept[module] == nil then
    local text, path = read(module)
    local lines = text and { path = path } or false
    for line in (text or ""):gmatch "([^\n]*)\n?" do lines[#lines + 1] = line end
    kept[module] = lines
  end
  return kept[module]
end

local source = M.source

-- The comment that ends above a line: its lines without dashes, and whether it is a docstring; nil where there is none.
local function comment_above(lines, at)
  local first = at
  while first > 1 and lines[first - 1]:find "^%s*%-%-" and not (lines[first] or ""):find "^%s*%-%-%-" do first = first - 1 end
  if first == at then return nil end
  local text = {}
  for i = first, at - 1 do text[#text + 1] = lines[i]:match "^%s*%-%-+%s?(.*)$" end
  return text, lines[first]:find "^%s*%-%-%-" ~= nil
end

-- ---- docstrings ------------------------------------------------------------------------------

-- Tags of LDoc that say a type; the others that sources have.
local types = { string = "string", int = "int", number = "number", bool = "boolean", tab = "table", func = "function" }
local tags = { param = true, tparam = true, ["return"] = true, treturn = true, raise = true, usage = true, module = true }
for tag in pairs(types) do tags[tag] = true end

-- Cut a line where its tags begin: each piece is a tag and its text; the first may have none.
local function pieces(line)
  local list, from, tag = {}, 1, nil
  for at, name, after in line:gmatch "()@(%l+)()" do
    if tags[name] and (at == 1 or line:sub(at - 1, at - 1):find "%s") then
      if at > 1 then list[#list + 1] = { tag = tag, text = line:sub(from, at - 1):match "^(.-)%s*$" } end
      tag, from = name, after
    end
  end
  list[#list + 1] = { tag = tag, text = line:sub(from) }
  return list
end

-- What a tag begins: a list of lines, in the docstring.
local function begin(doc, tag, text)
  if tag == "usage" then
    if text:find "%S" then table.insert(doc.usage, text:match "^%s*(.*)$") end
    return doc.usage
  end
  local default, rest = text:match "^%[opt=?([^%]]*)%]%s*(.*)$"
  local entry = { type = types[tag], default = default, text = {} }
  rest = rest or text:match "^%s*(.*)$"
  if tag == "tparam" or tag == "treturn" then entry.type, rest = rest:match "^(%S+)%s*(.*)$" end
  if tag == "return" or tag == "treturn" then
    table.insert(doc.returns, entry)
  elseif tag == "raise" then
    table.insert(doc.raises, entry)
  elseif tag ~= "module" then
    entry.name, rest = (rest or ""):match "^(%S*)%s*(.*)$"
    table.insert(doc.params, entry)
  end
  if rest and rest ~= "" then table.insert(entry.text, rest) end
  return entry.text
end

--- A comment's parts.
-- @tab lines the comment, without dashes
-- @treturn table `text` and `usage` (lists of lines); `params`, `returns` and `raises` (lists of `name`, `type`,
-- `default`, `text`)
function M.parse(lines)
  local doc = { text = {}, params = {}, returns = {}, raises = {}, usage = {} }
  local into = doc.text
  for _, line in ipairs(lines) do
    local whole = into == doc.usage and not line:find "^@"
    for _, piece in ipairs(whole and { { text = line } } or pieces(line)) do
      if piece.tag then into = begin(doc, piece.tag, piece.text) else table.insert(into, piece.text) end
    end
  end
  return doc
end

-- ---- functions -------------------------------------------------------------------------------

local function escaped(text) return (text:gsub("%p", "%%%0")) end

-- Where a source defines `holder.name` or `holder:name`: the line, the arguments as written, the class of a method.
-- `of`: the holder that is meant, "local" for none; nil for any.
local function defined(lines, name, of)
  local word = escaped(name)
  for i, line in ipairs(lines) do
    local holder, mark, arguments = line:match("^function [%w_.]-([%w_]+)([.:])" .. word .. "(%b())")
    if holder and (not of or holder == of) then return i, arguments, mark == ":" and holder or nil end
    if (not of or of == "M") and
       (line:find("^M%." .. word .. "%s*=[^=]") or line:find("^M%.[%w_, .]*M%." .. word .. "%s*[=,]")) then return i end
    arguments = of == "local" and line:match("^local function " .. word .. "(%b())")
    if arguments then return i, arguments end
  end
end

--- What stands of a function in a module's source.
-- @string module such as "cft.data.open"
-- @string name as it is called there
-- @string[opt] holder the table or class that it is in, by its name in the source; "local" for a local function
-- @treturn ?table the parts of its docstring, and `arguments` ("(data, opts)"), `path`, `line`, `class`; `said`:
-- whether there is one; `for_others`: it is a comment
function M.of(module, name, holder)
  local lines = source(module)
  local at, arguments, class
  if lines then at, arguments, class = defined(lines, name, holder) end
  if not at then return nil end
  local comment, said = comment_above(lines, at)
  local doc = M.parse(comment or {})
  doc.said, doc.for_others = said or false, comment ~= nil and not said
  doc.arguments, doc.path, doc.line, doc.class, doc.name = arguments or "(...)", lines.path, at, class, name
  return doc
end

--- The name that a source gives the function that begins at a line.
-- @string module
-- @int line
-- @treturn ?string its name
-- @treturn ?string what it is in, as `of` takes it
function M.name_at(module, line)
  local text = source(module) and source(module)[line] or ""
  local holder, name = text:match "^function [%w_.]-([%w_]+)[.:]([%w_]+)%("
  if holder then return name, holder end
  name = text:match "^local function ([%w_]+)"
  if name then return name, "local" end
  return text:match "^M%.([%w_]+)%s*=", "M"
end

--- Where a function of Lua was made.
-- @func f
-- @treturn ?string module such as "cft.data.open"; nil for one that is not of cft
-- @treturn ?int line
function M.origin(f)
  local info = debug.getinfo(f, "S")
  local path = info.source:match "^@(.*)$"
  for _, module in ipairs(path and host.modules() or {}) do
    local plain = module:gsub("%.", "/")
    if path:find(plain .. ".lua", 1, true) or path:find(plain .. "/init.lua", 1, true) then
      return module, info.linedefined
    end
  end
end

--- What stands of a function that has no name where it is made: the docstring above that line, or above the loop that
-- makes it and others alike.
-- @string module
-- @int line
-- @string name to call it by
-- @treturn ?table as `of` gives it
function M.made_at(module, line, name)
  local lines = source(module)
  local at = line
  while at > 1 and lines[at]:find "^%s" and not comment_above(lines, at) do at = at - 1 end
  local comment, said = comment_above(lines, at)
  local doc = M.parse(comment or {})
  doc.said = said or false
  doc.made = line
  doc.arguments, doc.path, doc.line, doc.name = lines[line]:match "function%s*(%b())" or "(...)", lines.path, at, name
  return doc
end

--- The first comment of a module.
-- @string module such as "cft.data.open"
-- @treturn ?table as `of` gives it, without arguments
function M.of_module(module)
  local lines = source(module)
  if not lines then return nil end
  local first = 1
  while lines[first] and not lines[first]:find "^%-%-" do first = first + 1 end
  local last = first
  while lines[last] and lines[last]:find "^%-%-" do last = last + 1 end
  local doc = M.parse(comment_above(lines, last) or {})
  doc.path, doc.line = lines.path, first
  return doc
end

--- The sentence a docstring begins with.
-- @tab doc as `of` and `of_module` give it
-- @treturn string
function M.summary(doc)
  local text = table.concat(doc.text, " ")
  return (text:match "^(.-[.?!])%s" or text:match "^(.-[.?!])$" or text)
end

return M
