--- Numbers as people read them: durations, sizes, counts.
-- @module cft.base.format
-- @usage local format = require "cft.base.format"
-- print(format.duration(93), format.bytes(1234567), format.count(12345), format.size "8GiB")
-- --> 1m33s   1.18 MiB   12.3k   8589934592

local M = {}

--- 93 → "1m33s".
function M.duration(seconds)
  seconds = math.floor(seconds + 0.5)
  if seconds < 60 then return ("%ds"):format(seconds) end
  if seconds < 3600 then return ("%dm%02ds"):format(math.floor(seconds / 60), seconds % 60) end
  return ("%dh%02dm"):format(math.floor(seconds / 3600), math.floor(seconds % 3600 / 60))
end

local seconds_of = { s = 1, m = 60, h = 3600, d = 86400 }

--- "2h30m" → 9000.
-- @string text numbers with d, h, m or s; one without is in seconds
-- @treturn ?number nil if it is no time
function M.seconds(text)
  local total, rest = 0, text:gsub("%s", "")
  if tonumber(rest) then return tonumber(rest) > 0 and tonumber(rest) < math.huge and tonumber(rest) or nil end
  repeat
    local number, unit, after = rest:match "^(%d+%.?%d*)([smhd])(.*)$"
    if not number then return nil end
    total, rest = total + tonumber(number) * seconds_of[unit], after
  until rest == ""
  return total > 0 and total or nil
end

--- 1234567 → "1.18 MiB".
function M.bytes(n)
  local units, i = { "B", "KiB", "MiB", "GiB", "TiB" }, 1
  while n >= 1024 and i < #units do n, i = n / 1024, i + 1 end
  return (i == 1 and "%d %s" or "%.2f %s"):format(n, units[i])
end

--- 12345 → "12.3k".
function M.count(n)
  if n < 10000 then return ("%d"):format(n) end
  if n < 1e6 then return ("%.1fk"):format(n / 1e3) end
  if n < 1e9 then return ("%.1fM"):format(n / 1e6) end
  return ("%.2fB"):format(n / 1e9)
end

-- Of sizes, as people write them: binary ones, and those of a thousand.
local units = { b = 1, kib = 2 ^ 10, mib = 2 ^ 20, gib = 2 ^ 30, tib = 2 ^ 40, kb = 1e3, mb = 1e6, gb = 1e9, tb = 1e12 }

--- "8GiB" → bytes.
-- @string text a number with B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB; spaces may stand around both
-- @treturn ?number nil if it is no size
function M.size(text)
  local number, unit = text:match "^%s*([%d%.]+)%s*(%a+)%s*$"
  local n, u = tonumber(number), unit and units[unit:lower()]
  return n and u and n * u
end

return M
