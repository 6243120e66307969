--- Texts: white space at their ends, and what of them a terminal may see.
-- @module cft.base.text

local host = require "cft.host"

local M = {}

-- ---- white space, as Python's str.strip has it, and so Jinja's `trim`: Unicode's, in UTF-8 ----------

local spaces = { ["\194\133"] = true, ["\194\160"] = true, ["\225\154\128"] = true,
  ["\226\128\168"] = true, ["\226\128\169"] = true, ["\226\128\175"] = true,
  ["\226\129\159"] = true, ["\227\128\128"] = true }
for last = 0x80, 0x8a do spaces["\226\128" .. string.char(last)] = true end
for c in ("\t\n\v\f\r \28\29\30\31"):gmatch "." do spaces[c] = true end

-- Bytes of the space that begins, or ends, text:sub(first, last); nil where none does.
local function space_at(text, first, last, at_end)
  for bytes = 1, math.min(3, last - first + 1) do
    local from = at_end and last - bytes + 1 or first
    if spaces[text:sub(from, from + bytes - 1)] then return bytes end
  end
end

-- Long runs are of ASCII's white space: `find` is quick with those.
local ascii = "[\t-\r \28-\31]*"

--- A text without white space on its left.
function M.trim_left(text)
  local first = 1
  while true do
    first = text:match("^" .. ascii .. "()", first)
    local bytes = space_at(text, first, #text, false)
    if not bytes then return text:sub(first) end
    first = first + bytes
  end
end

--- A text without white space on its right.
function M.trim_right(text)
  local last = #text
  while true do
    while last > 0 and spaces[text:sub(last, last)] do last = last - 1 end
    local bytes = space_at(text, 1, last, true)
    if not bytes then return text:sub(1, last) end
    last = last - bytes
  end
end

--- A text without white space on either side.
function M.trim(text) return M.trim_left(M.trim_right(text)) end

-- ---- printable -----------------------------------------------------------------------------------

--- A text that cannot steer a terminal: line breaks and tabs stay; other controls (C0, DEL, C1), those of
-- bidirectional text and bytes that are no UTF-8 are written out.
-- @string text
-- @usage local text = require "cft.base.text"
-- print(text.printable "a\27[2Jb")   --> a\x1b[2Jb
function M.printable(text) return host.printable(text, "\n\t") end

local escapes = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }

--- A text in one line and in quotes, as Lua would read it.
-- @string text
-- @usage local text = require "cft.base.text"
-- print(text.quoted 'say "a\n"')   --> "say \"a\n\""
function M.quoted(text) return '"' .. host.printable((text:gsub('[\n\t\r"\\]', escapes)), "") .. '"' end

--- A foreign text in one line, for a message.
-- @string text
-- @int[opt] most bytes of it that are shown
function M.one_line(text, most) return host.printable(text:sub(1, most), "") end

--- How often a text has a part, without overlaps; 0 for an empty part.
-- @string text
-- @string part
-- @treturn int
function M.count(text, part)
  if part == "" then return 0 end
  local n, at = 0, 1
  while true do
    local first, last = text:find(part, at, true)
    if not first then return n end
    n, at = n + 1, last + 1
  end
end

return M
