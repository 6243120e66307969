--- Histograms: counted in round bins, in words, and drawn in a terminal.
-- @module cft.report.histogram
-- @usage local histogram = require "cft.report.histogram"
-- local h = histogram.count { 0, 3, 15 }
-- print(histogram.draw(h, 40))

local M = {}

-- The smallest of 1, 2, 5, 10, 20, ... that cuts 0 to `most` into at most `bins`.
local function width_of(most, bins)
  local width = 1
  while true do
    for _, step in ipairs { 1, 2, 5 } do
      if most / (step * width) < bins then return step * width end
    end
    width = 10 * width
  end
end

--- Count numbers in bins of equal width from 0 on.
-- @tab values from 0
-- @number[opt] width by default a round one that gives at most 16
-- @int[opt] bins how many, at least: empty ones at the end are kept
-- @treturn table `width`, and a list of counts; bin i has values from (i - 1) width on
function M.count(values, width, bins)
  local most = 0
  for _, v in ipairs(values) do most = math.max(most, v) end
  local h = { width = width or width_of(most, 16) }
  for i = 1, math.max(bins or 1, math.floor(most / h.width) + 1) do h[i] = 0 end
  for _, v in ipairs(values) do
    local i = math.floor(v / h.width) + 1
    h[i] = h[i] + 1
  end
  return h
end

-- What the bins from `first` to `last` hold, in words.
local function label(h, first, last)
  local from, to = (first - 1) * h.width, last * h.width
  if h.width < 1 then
    return first == 11 and "100%" or ("%d-%d%%"):format(100 * from + 0.5, math.min(100, 100 * to + 0.5))
  end
  return to - from == 1 and ("%d"):format(from) or ("%d-%d"):format(from, to - 1)
end

--- Rows of a histogram. Neighbours that are all empty are one row.
-- @tab h
-- @treturn table a list of `{ label, count }`
function M.rows(h)
  local rows, i = {}, 1
  while i <= #h do
    local last = i
    while h[i] == 0 and h[last + 1] == 0 do last = last + 1 end
    rows[#rows + 1] = { label(h, i, last), h[i] }
    i = last + 1
  end
  return rows
end

local EIGHTHS = { "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

-- A bar of `length` columns, to an eighth of one.
local function bar(length)
  local eighths = math.floor(8 * length + 0.5)
  return ("█"):rep(math.floor(eighths / 8)) .. (EIGHTHS[eighths % 8] or "")
end

--- Rows as lines of text.
-- @tab rows a list of `{ label, count }`
-- @int columns of the longest line
function M.draw_rows(rows, columns)
  local wide, most, lines = 0, 1, {}
  for _, row in ipairs(rows) do wide, most = math.max(wide, #row[1]), math.max(most, row[2]) end
  local digits = #tostring(most)
  for i, row in ipairs(rows) do
    local length = row[2] / most * math.max(10, columns - wide - digits - 6)
    lines[i] = ("  %s  %s  %s"):format((" "):rep(wide - #row[1]) .. row[1],
      (" "):rep(digits - #tostring(row[2])) .. row[2], bar(length))
    -- A bin with one sample among a million shows.
    if row[2] > 0 and length < 1 / 16 then lines[i] = lines[i] .. EIGHTHS[1] end
    lines[i] = lines[i]:match "^.*%S" or ""
  end
  return table.concat(lines, "\n")
end

--- A histogram as lines of text.
-- @tab h
-- @int columns of the longest line
function M.draw(h, columns) return M.draw_rows(M.rows(h), columns) end

return M
