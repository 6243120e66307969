--- Texts that know, stretch by stretch, where their characters come from.
--
-- A plain Lua string is the template's own. A traced text is `{ text =, stops =, froms = }`: stretch k ends at byte
-- `stops[k]` and comes from `froms[k]`, an origin of the caller's, or false for the template. Origins are only carried
-- along, never looked into. What comes from the template alone is always a plain string again, so that who traces
-- nothing pays nothing.
-- @module cft.text.jinja.traced
-- @usage local traced = require "cft.text.jinja.traced"
-- local said = traced.concat { "<", traced.new("hello", "content"), ">" }
-- for text, from in traced.stretches(traced.sub(said, 1, 3)) do print(text, from) end   --> <   false   he   content

local M = {}

local Traced = {}

-- A number, a boolean or none that came from somewhere: `{ value =, from = }`.
local Scalar = {}

--- A text that comes from one place.
-- @string text
-- @param from an origin; false for the template
function M.new(text, from)
  if not from or text == "" then return text end
  return setmetatable({ text = text, stops = { #text }, froms = { from } }, Traced)
end

--- A value that is no text and comes from somewhere.
-- @param value a number, a boolean, none
-- @param from an origin; false for the template
-- @bool[opt=false] float a whole number that is written `8.0`
function M.scalar(value, from, float)
  if not from and not float then return value end
  return setmetatable({ value = value, from = from, float = float }, Scalar)
end

--- Is it a text, plain or traced?
function M.is_text(value) return type(value) == "string" or getmetatable(value) == Traced end

--- Is it a traced text, a value that came from somewhere?
function M.is_traced(value) return getmetatable(value) == Traced end
function M.is_scalar(value) return getmetatable(value) == Scalar end

--- The value without where it comes from: texts as strings, other values as they are.
function M.bare(value)
  if type(value) ~= "table" then return value end
  local meta = getmetatable(value)
  if meta == Traced then return value.text end
  if meta == Scalar then return value.value end
  return value
end

--- How many bytes a text holds, and a measure of what its stretches take.
function M.size(value)
  if type(value) == "string" then return #value end
  return #value.text + 16 * #value.stops
end

-- A text of these stretches; a plain one where all is the template's.
local function made(text, stops, froms)
  if #stops == 0 or #stops == 1 and not froms[1] then return text end
  return setmetatable({ text = text, stops = stops, froms = froms }, Traced)
end

--- Texts behind each other.
-- @tab parts plain or traced
-- @param[opt] separator what stands between two of them
-- @int[opt] first @int[opt] last which parts
function M.concat(parts, separator, first, last)
  first, last = first or 1, last or #parts
  local any = type(separator) == "table"
  for i = first, any and 0 or last do
    if type(parts[i]) == "table" then any = true break end
  end
  if not any then return table.concat(parts, separator, first, last) end
  local texts, stops, froms, n, at = {}, {}, {}, 0, 0
  local function add(text, from)
    if n == 0 or froms[n] ~= from then
      n = n + 1
      froms[n] = from
    end
    stops[n] = at + text
  end
  local function put(part)
    if type(part) == "string" then
      if part ~= "" then
        add(#part, false)
        texts[#texts + 1] = part
        at = at + #part
      end
      return
    end
    for k, stop in ipairs(part.stops) do add(stop, part.froms[k]) end
    texts[#texts + 1] = part.text
    at = at + #part.text
  end
  for i = first, last do
    if separator and i > first then put(separator) end
    put(parts[i])
  end
  return made(table.concat(texts), stops, froms)
end

--- The bytes from i to j, as `string.sub` counts them, both from the beginning.
function M.sub(value, i, j)
  if type(value) == "string" then return value:sub(i, j) end
  local text, stops = value.text, value.stops
  i, j = math.max(i, 1), math.min(j or #text, #text)
  if i > j then return "" end
  local low, high = 1, #stops  -- the stretch that byte i is in
  while low < high do
    local middle = math.floor((low + high) / 2)
    if stops[middle] >= i then high = middle else low = middle + 1 end
  end
  local new_stops, froms, n = {}, {}, 0
  for k = low, #stops do
    n = n + 1
    new_stops[n], froms[n] = math.min(stops[k], j) - i + 1, value.froms[k]
    if stops[k] >= j then break end
  end
  return made(text:sub(i, j), new_stops, froms)
end

--- What a function makes of a text whose bytes stay where they are, such as `string.upper`.
function M.in_place(value, f)
  if type(value) == "string" then return f(value) end
  return made(f(value.text), value.stops, value.froms)
end

--- What a function makes of each stretch: one that turns `ab` into what it makes of `a`, then of `b`.
function M.each(value, f)
  if type(value) == "string" then return f(value) end
  local parts, at = {}, 0
  for k, stop in ipairs(value.stops) do
    parts[k] = M.new(f(value.text:sub(at + 1, stop)), value.froms[k])
    at = stop
  end
  return M.concat(parts)
end

--- The same text with other origins.
-- @param value
-- @func f an origin, false for the template → the new one
function M.moved(value, f)
  if type(value) == "string" then return M.new(value, f(false)) end
  local parts, at = {}, 0
  for k, stop in ipairs(value.stops) do
    parts[k] = M.new(value.text:sub(at + 1, stop), f(value.froms[k]))
    at = stop
  end
  return M.concat(parts)
end

--- A text of which all that is the template's comes from elsewhere: the signs of a JSON text around its values.
function M.owned(value, from)
  if not from then return value end
  return M.moved(value, function(own) return own or from end)
end

--- For each stretch its text and where it comes from.
function M.stretches(value)
  if type(value) == "string" then value = { text = value, stops = { value ~= "" and #value or nil }, froms = { false } } end
  local k, at = 0, 0
  return function()
    k = k + 1
    local stop = value.stops[k]
    if not stop then return nil end
    local first = at + 1
    at = stop
    return value.text:sub(first, stop), value.froms[k]
  end
end

return M
