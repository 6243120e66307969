--- The words of a text, and their hashes: what is compared where texts are searched for each other.
--
-- A word is a run of ASCII letters and digits, and of anything beyond ASCII; case does not count. A byte costs a
-- few operations, since a training set has many.
-- @module cft.data.util.word_hash

local bit = require "bit"
local ffi = require "ffi"
local bxor, lshift, rshift, tobit = bit.bxor, bit.lshift, bit.rshift, bit.tobit

local M = {}

-- Byte → what it is in a word: letters in lower case, digits, all beyond ASCII; 0 between words.
local letter = ffi.new "uint8_t[256]"
for b = 0, 255 do
  local c = string.char(b)
  if b >= 128 or c:find "%w" then letter[b] = c:lower():byte() end
end

local room = 0

--- Find the words of a text. Until the next call word k, from 0, is the bytes from `starts[k]` up to `stops[k]`,
-- counted from 0, and has the hash `hashes[k]`.
-- @string text
-- @treturn int how many
function M.find(text)
  local bytes, at, n = #text, 0, 0
  if bytes / 2 + 1 > room then
    room = bytes + 64
    M.starts, M.stops = ffi.new("int32_t[?]", room), ffi.new("int32_t[?]", room)
    M.hashes = ffi.new("int32_t[?]", room)
  end
  local starts, stops, hashes = M.starts, M.stops, M.hashes
  local p = ffi.cast("const uint8_t *", text)  -- a 0 stands behind a Lua string, and is in no word
  while at < bytes do
    local c = letter[p[at]]
    if c == 0 then
      at = at + 1
    else
      local first, h = at, 0
      repeat  -- Jenkins's one-at-a-time hash
        h = tobit(h + c)
        h = tobit(h + lshift(h, 10))
        h = bxor(h, rshift(h, 6))
        at = at + 1
        c = letter[p[at]]
      until c == 0
      h = tobit(h + lshift(h, 3))
      h = bxor(h, rshift(h, 11))
      starts[n], stops[n], hashes[n] = first, at, tobit(h + lshift(h, 15))
      n = n + 1
    end
  end
  return n
end

return M
