--- XXH3-128, a name for data: fast, and no defence against somebody who wants to deceive.
-- @module cft.io.hash

local door = require "cft.engine.ffi"

local C, ffi = door.C, door.ffi

local M = {}

local hex = ffi.new "char[33]"

--- The XXH3-128 of a text, in hex: a name for data and code, not a secret's keeper.
-- @string text
-- @treturn string 32 digits
-- @usage cft.files.hash "a text"   --> "6e1f86fc2834ab30c9b08818c2eefaf6"
function M.text(text)
  C.cft_hash(hex, text, #text)
  return ffi.string(hex)
end

local sixteen = ffi.new "uint8_t[16]"

--- The same in 16 bytes, which are half as many to keep: of a text, or of bytes in memory.
-- @param bytes a string or a pointer
-- @int[opt] n how many; all of a string if absent
-- @treturn string
-- @usage cft.files.hex(cft.files.digest "a text"), #cft.files.digest("a text", 1)   --> "6e1f86fc2834ab30c9b08818c2eefaf6" 16
function M.digest(bytes, n)
  C.cft_bytes_hash(sixteen, bytes, n or #bytes)
  return ffi.string(sixteen, 16)
end

--- 48 bits of it, as a number: enough to tell whether what was the same still is.
-- @param bytes a pointer @int n how many
-- @treturn number
function M.number(bytes, n)
  C.cft_bytes_hash(sixteen, bytes, n)
  local x = 0
  for i = 0, 5 do x = 256 * x + sixteen[i] end
  return x
end

--- Bytes as text, two hexadecimal digits each.
-- @string bytes
-- @treturn string
function M.hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- The XXH3-128 of a file.
-- @string path
-- @treturn ?string 32 digits; nil and a message where it cannot be read
-- @usage cft.files.write(path, "a text")
-- cft.files.hash_file(path) == cft.files.hash "a text"   --> true
-- cft.files.hash_file "nowhere"   --> nil "open nowhere: No such file or directory"
function M.file(path)
  if C.cft_hash_file(hex, path) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  return ffi.string(hex)
end

return M
