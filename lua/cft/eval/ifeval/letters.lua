--- Characters and words as Python sees them, which IFEval's checks are written in.
-- @module cft.eval.ifeval.letters

local bit = require "bit"
local unicode = require "cft.eval.ifeval.unicode"

local M = {}

-- One character of UTF-8 and what is no such thing, a byte.
local CHARACTER = "[%z\1-\127\194-\244][\128-\191]*"

--- The code point of a character. @string c
function M.code(c)
  local a, b, d, e = c:byte(1, 4)
  if a < 0xe0 then return b and bit.band(a, 0x1f) * 64 + bit.band(b, 0x3f) or a end
  if a < 0xf0 then return bit.band(a, 0x0f) * 4096 + bit.band(b or 0, 0x3f) * 64 + bit.band(d or 0, 0x3f) end
  return bit.band(a, 0x07) * 262144 + bit.band(b or 0, 0x3f) * 4096 + bit.band(d or 0, 0x3f) * 64 + bit.band(e or 0, 0x3f)
end

local code = M.code

--- A code point as UTF-8.
function M.char(cp)
  local function tail(shift) return 0x80 + math.floor(cp / shift) % 64 end
  if cp < 0x80 then return string.char(cp) end
  if cp < 0x800 then return string.char(0xc0 + math.floor(cp / 64), tail(1)) end
  if cp < 0x10000 then return string.char(0xe0 + math.floor(cp / 4096), tail(64), tail(1)) end
  return string.char(0xf0 + math.floor(cp / 262144), tail(4096), tail(64), tail(1))
end

-- The range of a list that holds a code point.
local function range_of(list, cp)
  local low, high = 1, #list
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local r = list[middle]
    if cp < r[1] then high = middle - 1
    elseif cp > r[2] then low = middle + 1
    else return (cp - r[1]) % r[3] == 0 and r or nil end
  end
end

local function classifier(list, ascii)
  local known = {}
  return function(c)
    if #c <= 1 then return c:find(ascii) ~= nil end
    if known[c] == nil then known[c] = range_of(list, code(c)) ~= nil end
    return known[c]
  end
end

--- What `\w` matches; capitals; small letters: of one character.
M.is_word = classifier(unicode.word, "[%w_]")
M.is_upper = classifier(unicode.upper, "%u")
M.is_lower = classifier(unicode.lower, "%l")

--- The characters of a text, one after the other.
function M.each(text) return text:gmatch(CHARACTER) end

local small = {}

local function small_of(c)
  if small[c] == nil then
    local cp = code(c)
    local r = range_of(unicode.small, cp)
    small[c] = c == "\196\176" and "i\204\135" or r and M.char(cp + r[4]) or c  -- a capital I with a dot becomes two characters
  end
  return small[c]
end

--- `str.lower`. @string text
function M.lower(text)
  text = text:lower()
  if not text:find "[\128-\255]" then return text end
  return (text:gsub("[\194-\244][\128-\191]+", small_of))
end

--- A text as it is compared where case does not matter (`re.IGNORECASE`): two more letters are an i, one a k, one an s.
function M.folded(text)
  text = text:gsub("\196[\176\177]", "i"):gsub("\226\132\170", "k"):gsub("\197\191", "s")
  return M.lower(text)
end

-- str.isupper and str.islower: there is such a letter, and none of the other kind.
local function all(text, is, other)
  local found = false
  for c in M.each(text) do
    if other(c) then return false end
    found = found or is(c)
  end
  return found
end

function M.all_upper(text) return all(text, M.is_upper, M.is_lower) end
function M.all_lower(text) return all(text, M.is_lower, M.is_upper) end

local SPACES = { "\194\133", "\194\160", "\225\154\128", "\226\128[\128-\138]", "\226\128[\168\169\175]", "\226\129\159", "\227\128\128" }

--- Every white space but a line feed as a blank.
function M.plain_spaces(text)
  text = text:gsub("[\t\11\12\r\28-\31]", " ")
  if not text:find "[\194\225\226\227]" then return text end
  for _, space in ipairs(SPACES) do text = text:gsub(space, " ") end
  return text
end

--- `str.strip`. @string text
function M.strip(text)
  local first = text:gsub("^%s+", ""):gsub("%s+$", "")
  repeat
    text = first
    for _, space in ipairs(SPACES) do first = first:gsub("^" .. space, ""):gsub(space .. "$", "") end
    first = first:gsub("^[%s\28-\31]+", ""):gsub("[%s\28-\31]+$", "")
  until first == text
  return text
end

--- Words: runs of what `\w` matches.
-- @string text @treturn int
function M.words(text)
  local count, inside = 0, false
  for c in M.each(text) do
    local word = M.is_word(c)
    if word and not inside then count = count + 1 end
    inside = word
  end
  return count
end

--- The character in front of a byte, and the one that begins at a byte; "" at the edges.
function M.before(text, at) return at > 1 and text:sub(1, at - 1):match "[%z\1-\127\194-\244][\128-\191]*$" or "" end
function M.at(text, at) return text:match("^" .. CHARACTER, at) or "" end

return M
