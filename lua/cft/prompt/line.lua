--- Lines that are not Lua, made Lua: `? name`, `!command`, `%time ...`, and `#x` of what has a length; and a `local`
-- that would be gone with its line.
-- @module cft.prompt.line

local M = {}

-- ---- words of Lua ------------------------------------------------------------------------------

-- Where the word that begins at `at` ends: a name, a number, a string, a comment, or one character.
local function word_end(text, at)
  local level = text:match("^%-%-%[(=*)%[", at) or text:match("^%[(=*)%[", at)
  if level then
    local _, last = text:find("]" .. level .. "]", at, true)
    return last or #text
  end
  local _, last = text:find("^%-%-[^\n]*", at)
  if last then return last end
  local quote = text:match("^[\"']", at)
  if quote then
    local i = at + 1
    while i <= #text and text:sub(i, i) ~= quote do i = i + (text:sub(i, i) == "\\" and 2 or 1) end
    return math.min(i, #text)
  end
  _, last = text:find("^[%a_][%w_]*", at)
  if not last then _, last = text:find("^%s+", at) end
  return last or at
end

-- Where a bracket that opens at `at` closes; nil where it does not.
local closing = { ["("] = ")", ["["] = "]", ["{"] = "}" }
local function bracket_end(text, at)
  local stack, i = {}, at
  while i <= #text do
    local c, last = text:sub(i, i), word_end(text, i)
    if last == i and closing[c] then
      stack[#stack + 1] = closing[c]
    elseif last == i and c == stack[#stack] then
      stack[#stack] = nil
      if #stack == 0 then return i end
    end
    i = last + 1
  end
end

local function skip_space(text, at) return (select(2, text:find("^%s*", at))) + 1 end

-- Where the operand of a `#` ends: a name, a string or a bracket, and all that is called or indexed behind it.
local function operand_end(text, at)
  local c = text:sub(at, at)
  local last = c:find "[%(%{]" and bracket_end(text, at) or c:find "[%a_\"']" and word_end(text, at)
  while last do
    local next_ = skip_space(text, last + 1)
    local mark = text:sub(next_, next_)
    local more
    if mark == "." and text:sub(next_ + 1, next_ + 1) ~= "." or mark == ":" then
      local name = skip_space(text, next_ + 1)
      more = text:find("^[%a_]", name) and word_end(text, name)
    elseif mark:find "[%(%[{]" and not text:find("^%[=*%[", next_) then
      more = bracket_end(text, next_)
    elseif mark:find "[\"']" then
      more = word_end(text, next_)
    end
    if not more then return last end
    last = more
  end
end

-- `#x` asks `__len` of tables, too, which LuaJIT does not: it becomes a call.
local function lengths(text)
  local parts, i = {}, 1
  while i <= #text do
    local last = word_end(text, i)
    local finish = text:sub(i, i) == "#" and operand_end(text, skip_space(text, i + 1))
    if finish then
      parts[#parts + 1] = "__length(" .. lengths(text:sub(skip_space(text, i + 1), finish)) .. ")"
      last = finish
    else
      parts[#parts + 1] = text:sub(i, last)
    end
    i = last + 1
  end
  return table.concat(parts)
end

-- ---- what is typed -----------------------------------------------------------------------------

--- The length of a value: `__len` where it has one, else what `#` says.
function M.length(value)
  local meta = type(value) == "table" and getmetatable(value)
  if meta and meta.__len then return meta.__len(value) end
  return #value
end

--- What is run for what was typed.
-- @string text one line, or several that belong together
-- @treturn string Lua
function M.rewrite(text)
  local name = text:match "^%s*%?%s*(.-)%s*$"
  if name then return name == "" and "help()" or ("help(%q)"):format(name) end
  local command = text:match "^%s*!%s*(.*)$"
  if command then return ("__shell(%q)"):format(command) end
  local timed = text:match "^%s*%%time%s+(.*)$"
  if timed then
    local inside = lengths(timed)
    local body = loadstring("return " .. inside) and "return " .. inside or inside
    return "return __timed(function() " .. body .. "\nend)"
  end
  local magic = text:match "^%s*(%%%w+)"
  if magic then return ("error(%q, 0)"):format(magic .. " is no command of the prompt; there are %time, ? and !") end
  -- What a line from a recipe or an example makes is wanted by the next one.
  text = text:gsub("^%s*local%s+(function%f[%W])", "%1"):gsub("^%s*local%s+([%a_][%w_]*[%w_%s,]*=%f[^=])", "%1")
  if not text:find("#", 1, true) then return text end
  return lengths(text)
end

return M
