--- Lists of record numbers, four bytes each where that is enough: a Lua table takes up to four times as much,
-- of memory that the collector lets double.
-- @module cft.data.util.int_array
-- @usage local int_array = require "cft.data.util.int_array"
-- local list = int_array.new(source:size())
-- list:add(7)
-- print(list.n, list:at(0))   --> 1   7

local door = require "cft.engine.ffi"

local M = {}
local Numbers = {}
Numbers.__index = Numbers

--- An empty list.
-- @int limit its numbers are whole, from 0, and below this
-- @treturn Numbers `n` numbers, in `data[0]` to `data[n - 1]`, of `bytes` bytes each
function M.new(limit)
  local wide = limit > 2 ^ 31
  return setmetatable({ n = 0, room = 0, ctype = wide and "int64_t" or "int32_t", bytes = wide and 8 or 4 }, Numbers)
end

--- Is this such a list?
function M.is(value) return getmetatable(value) == Numbers end

--- Put a number at the end.
function Numbers:add(i)
  if self.n == self.room then
    self.room = math.max(1024, 2 * self.n)  -- what is not yet written is no memory
    self.data = door.resized(self.data, self.ctype, self.room)
  end
  self.data[self.n] = i
  self.n = self.n + 1
end

--- One of them.
-- @int k from 0
function Numbers:at(k) return tonumber(self.data[k]) end

return M
