--- A journal: a file that only grows, of entries that are whole or are none.
--
-- An entry is any value that `cft.io.state` writes. What a crash has torn is not read, and cut off by the next writer.
-- @module cft.io.journal

local door = require "cft.engine.ffi"
local states = require "cft.io.state"

local C, ffi = door.C, door.ffi

local M = {}

local Journal = {}
Journal.__index = Journal

local out, data, bytes, at = ffi.new "cft_journal *[1]", ffi.new "const void *[1]", ffi.new "size_t[1]",
                             ffi.new "int64_t[1]"

local function open(path, write)
  if C.cft_journal_open(out, path, write) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  return setmetatable({ c = ffi.gc(out[0], C.cft_journal_release), path = path }, Journal)
end

--- Open a journal to read it from its first entry on.
-- @string path
-- @treturn ?Journal nil and a message where it cannot be
function M.read(path) return open(path, false) end

--- The next entry. @return nil behind the last whole one @treturn int the byte where it begins, or where that one ends
function Journal:next()
  door.check(C.cft_journal_next(self.c, data, bytes, at))
  local from = tonumber(at[0])
  if data[0] == nil then return nil, from end
  local value, why = states.parse(ffi.string(data[0], bytes[0]), self.path)
  if value == nil then error(why, 0) end  -- its hash is right, so somebody wrote it like that
  return value, from
end

--- Open a journal to add to it, of what it has only the first entries up to one that is not wanted.
-- @string path made where there is none
-- @func keeps entry → whether it stays; the first that does not is cut off, with all behind it
-- @treturn Journal @treturn int how many entries stay
function M.append(path, keeps)
  local self, why = open(path, true)
  if not self then error(why, 0) end
  local kept, value, from = 0, nil, nil
  repeat
    value, from = self:next()
    local stays = value ~= nil and keeps(value)
    if stays then kept = kept + 1 end
  until not stays
  door.check(C.cft_journal_cut(self.c, from))
  return self, kept
end

--- Add an entry: in the file when this returns, on the disk after `sync`.
function Journal:add(value)
  local text = states.text(value, self.path)
  door.check(C.cft_journal_append(self.c, text, #text))
end

function Journal:sync() door.check(C.cft_journal_sync(self.c)) end

function Journal:close()
  if self.c then C.cft_journal_release(ffi.gc(self.c, nil)) end
  self.c = nil
end

return M
