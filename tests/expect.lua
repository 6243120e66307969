--- What a test says. A failed expectation shows both values.
-- @module tests.expect
-- @usage local expect = require "tests.expect"
-- expect.same({ 1, { a = 2 } }, { 1, { a = 2 } })
-- expect.close(0.1 + 0.2, 0.3, 1e-12)
-- expect.raises("unknown option 'step'", cosine, { step = 10 })

local M = {}

local here = debug.getinfo(1, "S").source

-- Raise at the line of the test, which is the first one outside of this file.
local function fail(message, ...)
  local level = 2
  while debug.getinfo(level, "S").source == here do level = level + 1 end
  error(message:format(...), level)
end

-- A value in full, in one line, with sorted keys: equal values give equal texts.
local function text_of(value, seen)
  if type(value) == "string" then return ("%q"):format(value):gsub("\\\n", "\\n") .. "" end
  if type(value) == "number" then return ("%.17g"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  seen = seen or {}
  if seen[value] then return "{cycle}" end
  seen[value] = true
  local parts, keys, n = {}, {}, #value
  for i = 1, n do parts[i] = text_of(value[i], seen) end
  for key in pairs(value) do
    local listed = type(key) == "number" and key >= 1 and key <= n and key % 1 == 0
    if not listed then keys[#keys + 1] = { text_of(key, seen), value[key] } end
  end
  table.sort(keys, function(a, b) return a[1] < b[1] end)
  for _, pair in ipairs(keys) do
    parts[#parts + 1] = ("[%s] = %s"):format(pair[1], text_of(pair[2], seen))
  end
  seen[value] = nil
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function shown(value)
  local text = text_of(value)
  return #text > 2000 and text:sub(1, 2000) .. "..." or text
end

local function prefix(what) return what and what .. ": " or "" end

-- Does `got` equal `want`? If not: where they part, and the two values there.
local function difference(got, want, path)
  if type(got) ~= type(want) then return path, got, want end
  if type(want) ~= "table" then
    if got == want or (got ~= got and want ~= want) then return nil end
    return path, got, want
  end
  for key, value in pairs(want) do
    local where, a, b = difference(rawget(got, key), value, path .. "[" .. text_of(key) .. "]")
    if where then return where, a, b end
  end
  for key, value in pairs(got) do
    if rawget(want, key) == nil then return path .. "[" .. text_of(key) .. "]", value, nil end
  end
end

--- Equal, tables entry by entry; nan equals nan.
-- @param got
-- @param want
-- @string[opt] what is compared, for the message
function M.same(got, want, what)
  local where, a, b = difference(got, want, "")
  if not where then return end
  local at = where ~= "" and ("\n  first differ at %s: %s, expected %s"):format(where, shown(a), shown(b)) or ""
  fail("%sgot      %s\n  expected %s%s", prefix(what), shown(got), shown(want), at)
end

--- Numbers, or lists of numbers, that agree to `tolerance` of the larger of `scale` and the
-- expected absolute value. NaN is close to nothing.
-- @param got
-- @param want
-- @number tolerance
-- @string[opt] what is compared
-- @number[opt=1] scale below it the tolerance is absolute
function M.close(got, want, tolerance, what, scale)
  scale = scale or 1
  local function far(a, b)
    return not (a == b or math.abs(a - b) <= tolerance * math.max(scale, math.abs(b)))
  end
  if type(want) == "number" then
    if type(got) ~= "number" or far(got, want) then
      fail("%sgot %s, expected %s to %g", prefix(what), shown(got), shown(want), tolerance)
    end
    return
  end
  if #got ~= #want then fail("%sgot %d numbers, expected %d", prefix(what), #got, #want) end
  local worst, least = nil, 0
  for i = 1, #want do
    if far(got[i], want[i]) then
      local error_here = math.abs(got[i] - want[i]) / math.max(scale, math.abs(want[i]))
      if not worst or error_here > least then worst, least = i, error_here end
    end
  end
  if worst then
    fail("%sat %d of %d got %.9g, expected %.9g to %g (off by %.3g)", prefix(what), worst, #want,
          got[worst], want[worst], tolerance, least)
  end
end

--- `f(...)` raises, and its message matches a pattern.
-- @string pattern a Lua pattern
-- @func f
-- @param ... arguments
-- @return the error, for a closer look
function M.raises(pattern, f, ...)
  local ok, err = pcall(f, ...)
  if ok then fail("nothing was raised, expected an error like %s", shown(pattern)) end
  if not tostring(err):find(pattern) then
    fail("raised   %s\n  expected %s", shown(tostring(err)), shown(pattern))
  end
  return err
end

--- `nil, message` came, and the message matches a pattern: how expected failures are returned.
-- @string pattern
-- @param value the first result
-- @param message the second
function M.fails(pattern, value, message)
  if value ~= nil then fail("got %s, expected nil and a message", shown(value)) end
  if type(message) ~= "string" or not message:find(pattern) then
    fail("the message is %s, expected %s", shown(message), shown(pattern))
  end
end

--- A text matches a pattern.
-- @string text
-- @string pattern
function M.match(text, pattern)
  if type(text) ~= "string" or not text:find(pattern) then
    fail("got      %s\n  expected %s", shown(text), shown(pattern))
  end
end

--- It is true, or anything but nil and false.
-- @param value
-- @string[opt] what it means
function M.truthy(value, what)
  if not value then fail("%sgot %s", prefix(what), tostring(value)) end
end

return M
