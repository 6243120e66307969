--- Curves: many points made few, round numbers for an axis, and three lines of plain characters.
-- @module cft.report.curve
-- @usage local curve = require "cft.report.curve"
-- for _, line in ipairs(curve.draw({ 5, 3, 2, 1.5, 1.2, 1.1, 1 }, 30)) do print(line) end

local M = {}

--- Points gathered in at most `count` buckets of x, each with the mean, least and greatest of its y.
-- @tab points a list of `{ x =, y = }` in order of x
-- @int count
-- @treturn table a list of `{ x =, y =, low =, high =, last = }`; `last` is the bucket's last point
function M.thin(points, count)
  local n, list = #points, {}
  if n == 0 then return list end
  local first, span = points[1].x, points[n].x - points[1].x
  local bucket, at
  for _, p in ipairs(points) do
    local b = n <= count and #list or span <= 0 and 0 or math.min(count - 1, math.floor((p.x - first) / span * count))
    if n <= count or b ~= at then
      bucket = { sum = 0, n = 0, x_sum = 0, low = math.huge, high = -math.huge }
      list[#list + 1], at = bucket, b
    end
    bucket.sum, bucket.n, bucket.x_sum = bucket.sum + p.y, bucket.n + 1, bucket.x_sum + p.x
    bucket.low, bucket.high, bucket.last = math.min(bucket.low, p.y), math.max(bucket.high, p.y), p
  end
  for _, b in ipairs(list) do b.x, b.y = b.x_sum / b.n, b.sum / b.n end
  return list
end

--- Round numbers that cover a range.
-- @number low @number high @int[opt=4] count about how many steps
-- @treturn table a list, from one at or below `low` to one at or above `high`
function M.ticks(low, high, count)
  if high - low <= 1e-9 * math.max(math.abs(low), math.abs(high)) then
    local pad = math.abs(low) > 0 and math.abs(low) / 2 or 1
    low, high = low - pad, high + pad
  end
  local rough = (high - low) / (count or 4)
  local power = 10 ^ math.floor(math.log10(rough))
  local step = power * 10
  for _, m in ipairs { 1, 2, 5 } do
    if m * power >= rough then
      step = m * power
      break
    end
  end
  local list = {}
  for i = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) do list[#list + 1] = i * step end
  return list
end

--- A number as an axis has it.
function M.label(v)
  local size = math.abs(v)
  if v ~= 0 and (size < 1e-3 or size >= 1e6) then return (("%.3g"):format(v):gsub("e%+?(-?)0*", "e%1")) end
  return (size >= 1000 and "%.0f" or "%.4g"):format(v)
end

-- From the lowest third of a line of text to its highest.
local MARKS = { "_", "-", "'" }
local LINES = 3

-- The height of a point, in marks from 0 on.
local function heights_of(points)
  local low, high, heights = math.huge, -math.huge, {}
  for _, p in ipairs(points) do low, high = math.min(low, p.y), math.max(high, p.y) end
  for i, p in ipairs(points) do
    heights[i] = high > low and math.floor((p.y - low) / (high - low) * (LINES * #MARKS - 1) + 0.5) or 0
  end
  return heights
end

--- A curve in three lines of plain characters, with its first and last value beside it.
-- @tab values numbers in order
-- @int columns of the lines
-- @treturn table a list of three texts; empty where there are fewer than two values
function M.draw(values, columns)
  local points, rows = {}, {}
  for i, v in ipairs(values) do points[i] = { x = i, y = v } end
  if #points < 2 then return rows end
  local left, right = M.label(values[1]) .. " ", " " .. M.label(values[#values])
  local heights = heights_of(M.thin(points, math.max(8, columns - #left - #right)))
  local function row_of(height) return LINES - math.floor(height / #MARKS) end
  for row = 1, LINES do
    local marks = {}
    for i, height in ipairs(heights) do marks[i] = row_of(height) == row and MARKS[height % #MARKS + 1] or " " end
    local line = (row_of(heights[1]) == row and left or (" "):rep(#left)) .. table.concat(marks)
      .. (row_of(heights[#heights]) == row and right or "")
    rows[row] = line:match "^(.-)%s*$"
  end
  return rows
end

return M
