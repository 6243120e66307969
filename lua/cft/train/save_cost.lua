--- What saves cost a run, as the run itself can tell: how long it stood still for them, and how much longer the steps beside
-- them took than others, by the tokens that they had.

local M = {}

local Cost = {}
Cost.__index = Cost

local RECENT = 64  -- steps without a save that others are compared with

--- @treturn Cost with `waited`, `longest` and `awaited`, seconds; see `summary`
function M.new()
  return setmetatable({ waited = 0, longest = 0, awaited = 0, slower = 0, inside = 0, recent = {}, steps = 0, count = 0 }, Cost)
end

local function median(list, field)
  local sorted = {}
  for i, e in ipairs(list) do sorted[i] = e[field] end
  table.sort(sorted)
  local n = #sorted
  return n % 2 == 1 and sorted[(n + 1) / 2] or (sorted[n / 2] + sorted[n / 2 + 1]) / 2
end

--- A save has begun.
function Cost:begun() self.count, self.one = self.count + 1, 0 end

--- The run stood still. @number seconds
-- @tab[opt] o `inside`: of a step, whose seconds have them too; `asked`: somebody wanted to wait until all is saved
function Cost:wait(seconds, o)
  o = o or {}
  if o.asked then
    self.awaited = self.awaited + seconds
    return
  end
  self.waited = self.waited + seconds
  self.one = (self.one or 0) + seconds
  self.longest = math.max(self.longest, self.one)
  if o.inside then self.inside = self.inside + seconds end
end

--- A step was made. The first one is no measure: it takes memory and times kernels.
-- @number seconds @int tokens of its samples @bool beside a save that was under way
function Cost:step(seconds, tokens, beside)
  if not self.warm or tokens <= 0 then
    self.warm = true
  elseif not beside then
    table.insert(self.recent, { seconds = seconds, rate = seconds / tokens })
    if #self.recent > RECENT then table.remove(self.recent, 1) end
  elseif self.recent[1] then
    self.slower, self.steps = self.slower + seconds - tokens * median(self.recent, "rate"), self.steps + 1
  end
end

--- All of it, for who writes it down.
-- @number seconds of the run
-- @treturn ?table nil where nothing was saved; `count` of saves; `waited`, seconds that training stood still for them, and
-- `longest`, for one;
-- `awaited`, seconds in which nothing but a save was to be done, as at the end; and where there are steps to compare: `step`,
-- the seconds of one without a save, `slower`, seconds by which the steps beside saves were longer, waits in them
-- included, and `share`, the part of the run that waits and slower steps took
function Cost:summary(seconds)
  if self.count == 0 then return nil end
  local s = { count = self.count, waited = self.waited, longest = self.longest, awaited = self.awaited }
  if self.steps > 0 then
    s.step, s.slower = median(self.recent, "seconds"), self.slower
    s.share = (self.slower + self.waited - self.inside) / math.max(seconds, 1e-9)
  end
  return s
end

return M
