--- What is seen of a fetch: a bar on a terminal, lines elsewhere. All of it goes to stderr.
-- @module cft.io.fetch.progress

local host = require "cft.host"
local format = require "cft.base.format"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local Progress = {}
Progress.__index = Progress

--- Take the bar away, where there is one.
function Progress:wipe()
  if self.open then io.stderr:write "\r\27[K" end
  self.open = false
end

--- A line.
-- @string text or a format, with what it wants
function Progress:say(text, ...)
  self:wipe()
  io.stderr:write(texts.printable(select("#", ...) > 0 and text:format(...) or text), "\n")
end

-- Bytes a second, over the last seconds.
function Progress:rate(received)
  local now, w = host.now(), self.window
  w[#w + 1] = { now, received }
  while #w > 2 and now - w[1][1] > 5 do table.remove(w, 1) end
  local seconds = now - w[1][1]
  return seconds > 0 and (received - w[1][2]) / seconds or 0
end

local function left(bytes, rate) return rate > 0 and "  " .. format.duration(bytes / rate) .. " left" or "" end

--- How far it is: five times a second on a terminal, elsewhere twice a minute.
-- @tab s `done`, `total`, `received` (bytes), `files`, `of` (files), `note` (a text)
function Progress:draw(s)
  local now = host.now()
  if now - self.drawn < (self.terminal and 0.2 or 30) then return end
  local first = self.drawn == 0
  self.drawn = now
  local rate = self:rate(s.received)
  local text = ("%3d%%  %s of %s  %s/s%s  %d/%d files%s"):format(
    math.floor(100 * s.done / math.max(s.total, 1)), format.bytes(s.done), format.bytes(s.total),
    format.bytes(math.floor(rate)), left(s.total - s.done, rate), s.files, s.of, s.note)
  if not self.terminal then
    if not first then self:say(text) end
    return
  end
  local width = math.min(term.width(io.stderr) - #text - 4, 28)
  if width >= 8 then
    local n = math.floor(width * s.done / math.max(s.total, 1))
    text = ("[%s%s] %s"):format(("="):rep(n), (" "):rep(width - n), text)
  end
  io.stderr:write("\r\27[K", text:sub(1, term.width(io.stderr) - 1))
  self.open = true
end

--- @treturn Progress `start` is when, `terminal` whether a person watches
return function()
  return setmetatable({ drawn = 0, start = host.now(), window = {}, terminal = term.is_terminal(io.stderr) },
                      Progress)
end
