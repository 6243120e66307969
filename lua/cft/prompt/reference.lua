--- The reference: every public function with its docstring, read from the sources when asked.
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

local function source(module)
  if kept[module] == nil then
    local text, path = read(module)
    local lines = text and { path = path } or false
    for line in (text or ""):gmatch "([^\n]*)\n?" do lines[#lines + 1] = line end
    kept[module] = lines
  end
  return kept[module]
end

-- The comment that ends above a line: its lines without dashes; nil where there is none.
local function comment_above(lines, at)
  local first = at
  while first > 1 and lines[first - 1]:find "^%s*%-%-" do first = first - 1 end
  if first == at then return nil end
  local text = {}
  for i = first, at - 1 do text[#text + 1] = lines[i]:match "^%s*%-%-+%s?(.*)$" end
  return text
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
    local holder, mark, arguments = line:match("^function ([%w_]+)([.:])" .. word .. "(%b())")
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
-- whether there is one
function M.of(module, name, holder)
  local lines = source(module)
  local at, arguments, class
  if lines then at, arguments, class = defined(lines, name, holder) end
  if not at then return nil end
  local comment = comment_above(lines, at)
  local doc = M.parse(comment or {})
  doc.said = comment ~= nil
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
  local holder, name = text:match "^function ([%w_]+)[.:]([%w_]+)"
  if holder then return name, holder end
  name = text:match "^local function ([%w_]+)"
  if name then return name, "local" end
  return text:match "^M%.([%w_]+)%s*=", "M"
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

-- ---- all of it -------------------------------------------------------------------------------

-- "---" above a docstring, "--" above a comment, nil where there is neither.
local function dashes_above(lines, at)
  while at > 1 and lines[at - 1]:find "^%-%-" do at = at - 1 end
  return lines[at]:match "^%-%-%-?"
end

-- Classes that are for others: those of which a method has a docstring. The others are a module's own.
local function public_classes(lines)
  local set = { M = true }
  for i, line in ipairs(lines) do
    local class = line:match "^function (%u[%w_]*)[.:]"
    if class and dashes_above(lines, i) == "---" then set[class] = true end
  end
  return set
end

-- Names of a module's functions and of its classes' methods, in the order of the source; not of methods that have a
-- comment in place of a docstring, which are for the module itself.
local function named(lines)
  local list, seen, public = {}, {}, public_classes(lines)
  for i, line in ipairs(lines) do
    local holder, mark, name = line:match "^function ([%w_]+)([.:])([%w_]+)%("
    if not holder then holder, name = line:match "^(M)%.(%l[%w_]*)%s*=[^=]" end
    local own = mark == ":" and dashes_above(lines, i) == "--"
    if public[holder] and not own and not name:find "^_" and not seen[holder .. name] then
      seen[holder .. name] = true
      list[#list + 1] = { name = name, method = mark == ":", holder = holder }
    end
  end
  return list
end

--- Public functions of a module: those of its table, and the methods of what it makes.
-- @string module such as "cft.data.open"
-- @treturn {table,...} docstrings as `of` gives them, in the order of the source
function M.functions(module)
  local lines, list = source(module), {}
  local is = package.loaded[module] or require(module)
  for _, n in ipairs(lines and named(lines) or {}) do
    local public = n.method or n.holder ~= "M" or type(is) == "table" and rawget(is, n.name) ~= nil
    local value = n.holder == "M" and type(is) == "table" and rawget(is, n.name)
    if public and (n.method or n.holder ~= "M" or type(value) == "function") then
      list[#list + 1] = M.of(module, n.name, n.holder)
    end
  end
  return list
end

return M
