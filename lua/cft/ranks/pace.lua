--- Which rank the others wait for, step after step: the seconds of each that it did not spend in collectives.
--
-- A step is as long as its slowest rank takes. That one rank is slowest in one step says nothing, since samples differ and
-- the first one saves; a rank that is so in most steps, by more than a little, is on a slow host, or shares its processors.
-- @module cft.ranks.pace
-- @usage local pace = require "cft.ranks.pace".new()
-- for _ = 1, 9 do pace:add { 1, 1.5, 1.1 } end
-- local slow = pace:straggler()
-- print(slow.rank, slow.seconds, slow.others)   --> 1   1.5   1.05

local M = {}

local Pace = {}
Pace.__index = Pace

-- What makes a rank a slow one: in so many steps at least, slowest in so much of them, by so much.
local STEPS, MOST_OF, FACTOR = 8, 2 / 3, 1.1

--- @treturn Pace
function M.new() return setmetatable({ steps = -1, sums = {}, slowest = {} }, Pace) end

local function median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
end

-- The largest of a list, and the median of the others: the rank, from 0, and both.
local function apart(seconds)
  local most, others = 1, {}
  for r, s in ipairs(seconds) do
    if s > seconds[most] then most = r end
  end
  for r, s in ipairs(seconds) do
    if r ~= most then others[#others + 1] = s end
  end
  return { rank = most - 1, seconds = seconds[most], others = median(others) }
end

--- An optimizer step was made; the first is no measure.
-- @tab seconds of each rank, that of rank 0 first; two ranks at least
-- @treturn table of this step `rank`, the slowest; `seconds`, its; `others`, their median
function Pace:add(seconds)
  local step = apart(seconds)
  self.steps = self.steps + 1
  if self.steps > 0 then
    for r, s in ipairs(seconds) do self.sums[r] = (self.sums[r] or 0) + s end
    self.slowest[step.rank] = (self.slowest[step.rank] or 0) + 1
  end
  return step
end

--- The rank that was the slowest one again and again.
-- @treturn ?table its `rank`, from 0; `seconds` that it took a step, and the `others` at their median; `steps`, how many were
-- looked at, and `slowest`, in how many it was. nil where there is none
function Pace:straggler()
  if self.steps < STEPS then return nil end
  local means = {}
  for r, sum in ipairs(self.sums) do means[r] = sum / self.steps end
  local found = apart(means)
  found.steps, found.slowest = self.steps, self.slowest[found.rank] or 0
  return found.slowest >= MOST_OF * self.steps and found.seconds >= FACTOR * found.others and found or nil
end

--- The same, in words.
-- @tab slow of `straggler` @string host its
-- @treturn string
function M.describe(slow, host)
  return ("rank %d on %s was slower than the others in %d of %d steps: %.3g s a step, they %.3g s"):format(slow.rank, host,
    slow.slowest, slow.steps, slow.seconds, slow.others)
end

--- A straggler that nobody has heard of yet.
-- @treturn ?table as `straggler`, once
function Pace:news()
  local slow = not self.told and self:straggler() or nil
  self.told = self.told or slow ~= nil
  return slow
end

return M
