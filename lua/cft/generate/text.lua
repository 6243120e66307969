--- The text of an answer while it is written: bytes of tokens, stop strings, what may be shown already.

local M = {}
local Text = {}
Text.__index = Text

--- @tparam Tokenizer tok @tab stops strings that end the text, which is cut in front of the first
function M.new(tok, stops)
  local longest = 0
  for _, stop in ipairs(stops) do longest = math.max(longest, #stop) end
  return setmetatable({ tok = tok, stops = stops, longest = longest, text = "", shown = 0, begun = false }, Text)
end

-- Where the first of the stop strings begins, at or behind byte `from`.
local function find_stop(self, from)
  local first
  for _, stop in ipairs(self.stops) do
    local at = self.text:find(stop, from, true)
    if at and (not first or at < first) then first = at end
  end
  return first
end

--- One token more. @int id
-- @treturn bool whether a stop string is complete: the text ends there
function Text:add(id)
  local before = #self.text
  self.text = self.text .. self.tok:decode({ id }, { skip_special = true, inside = self.begun })
  self.begun = true
  local stop = self.longest > 0 and find_stop(self, math.max(1, before - self.longest + 2))
  if stop then self.text, self.stopped = self.text:sub(1, stop - 1), true end
  return stop ~= nil and stop ~= false
end

-- Bytes at the end of a text that are a character's beginning.
local function cut_character(text)
  for back = 1, math.min(3, #text) do
    local byte = text:byte(-back)
    if byte >= 0xc0 then
      local bytes = byte >= 0xf0 and 4 or byte >= 0xe0 and 3 or 2
      return back < bytes and back or 0
    end
    if byte < 0x80 then return 0 end
  end
  return 0
end

-- Bytes at the end that a stop string may begin with.
local function may_stop(self)
  for length = math.min(self.longest - 1, #self.text), 1, -1 do
    local tail = self.text:sub(-length)
    for _, stop in ipairs(self.stops) do
      if stop:sub(1, length) == tail then return length end
    end
  end
  return 0
end

--- What can be shown since the last call. @bool ended nothing follows
-- @treturn string
function Text:news(ended)
  local hold = (ended or self.stopped) and 0 or math.max(cut_character(self.text), may_stop(self))
  local news = self.text:sub(self.shown + 1, #self.text - hold)
  self.shown = self.shown + #news
  return news
end

-- Bytes of the character that begins at `at`, or nil and how many bytes are the beginning of one.
local function character(text, at)
  local a, b = text:byte(at, at + 1)
  if a < 0x80 then return 1 end
  local bytes = a >= 0xc2 and a <= 0xdf and 2 or a >= 0xe0 and a <= 0xef and 3 or a >= 0xf0 and a <= 0xf4 and 4
  if not bytes then return nil, 1 end
  local low, high = a == 0xe0 and 0xa0 or a == 0xf0 and 0x90 or 0x80, a == 0xed and 0x9f or a == 0xf4 and 0x8f or 0xbf
  if not b or b < low or b > high then return nil, 1 end
  for k = 2, bytes - 1 do
    local c = text:byte(at + k)
    if not c or c < 0x80 or c > 0xbf then return nil, k end
  end
  return bytes
end

--- A text as UTF-8: what is none is U+FFFD, as other decoders write it.
-- @string text
function M.valid(text)
  if not text:find "[\128-\255]" then return text end
  local parts, at, from = {}, 1, 1
  while at <= #text do
    local bytes, bad = character(text, at)
    if not bytes then
      parts[#parts + 1] = text:sub(from, at - 1) .. "\239\191\189"
      from = at + bad
    end
    at = at + (bytes or bad)
  end
  return table.concat(parts) .. text:sub(from)
end

return M
