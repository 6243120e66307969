--- Digests of 16 bytes (`cft.files.digest`), each with a number: which texts are equal where there are millions.
--
-- The first digest has the number 0, the next new one 1, and so on, so what else there is to keep of each goes into an
-- array. A digest takes its 16 bytes and 5 to 11 of an open-addressing table.
-- @module cft.data.util.digest_table
-- @usage local digest_table = require "cft.data.util.digest_table"
-- local seen = digest_table.new()
-- print(seen:add(cft.files.digest "a text"))   --> 0   true

local bit = require "bit"
local door = require "cft.engine.ffi"
local ffi = door.ffi

local M = {}
local Digests = {}
Digests.__index = Digests

--- None yet.
-- @treturn Digests `n`: how many there are
function M.new()
  return setmetatable({ n = 0, room = 0, slots = door.zeros("int32_t", 1024), mask = 1023 }, Digests)
end

-- The slot where a digest is, or where it would be; the digest's words are as good as hashes.
local function slot_of(self, d)
  local slots, keys, mask = self.slots, self.keys, self.mask
  local at = bit.band(d[0], mask)
  while true do
    local id = slots[at] - 1
    if id < 0 then return at, nil end
    local k = 4 * id
    if keys[k] == d[0] and keys[k + 1] == d[1] and keys[k + 2] == d[2] and keys[k + 3] == d[3] then return at, id end
    at = bit.band(at + 1, mask)
  end
end

-- Twice as many slots, before there are more than three digests in four.
local function widen(self)
  local size = 2 * (self.mask + 1)
  door.free(self.slots)
  self.slots, self.mask = door.zeros("int32_t", size), size - 1
  for id = 0, self.n - 1 do
    local at = bit.band(self.keys[4 * id], self.mask)
    while self.slots[at] ~= 0 do at = bit.band(at + 1, self.mask) end
    self.slots[at] = id + 1
  end
end

local function words(digest) return ffi.cast("const int32_t *", digest) end

--- The number of a digest.
-- @param digest a string, or a pointer to 16 bytes
-- @treturn ?int nil where there is none
function Digests:find(digest)
  local _, id = slot_of(self, words(digest))
  return id
end

--- The number of a digest, which gets one if it has none.
-- @param digest a string, or a pointer to 16 bytes
-- @treturn bool whether it is new
function Digests:add(digest)
  local d = words(digest)
  local at, id = slot_of(self, d)
  if id then return id, false end
  id = self.n
  if id == self.room then
    self.room = math.max(1024, 2 * self.room)
    self.keys = door.resized(self.keys, "int32_t", 4 * self.room)
  end
  for k = 0, 3 do self.keys[4 * id + k] = d[k] end
  self.slots[at], self.n = id + 1, id + 1
  if 4 * self.n > 3 * self.mask then widen(self) end
  return id, true
end

--- Give their memory back now: the collector does not know how much it is.
function Digests:release()
  door.free(self.slots)
  door.free(self.keys)
  self.slots, self.keys = nil, nil
end

return M
