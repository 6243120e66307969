--- Two models on the same problems: is the difference more than chance?
--
-- Differences are taken problem by problem, and problems are drawn again, with putting back (a paired
-- bootstrap).
-- @module cft.eval.compare

local blame = require "cft.base.blame"
local score = require "cft.eval.score"

local M = {}

--- How often problems are drawn again, and from where the draws begin.
M.DRAWS, M.SEED = 10000, 1
--- The same of a number that has to be made again of each draw.
M.DRAWS_OF_ALL = 1000

-- Park and Miller's generator: numbers from 1 to 2^31 - 2, the same on every machine.
local function generator(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

-- The numbers between which 95 of 100 of a list lie. The list is sorted.
local function middle(list)
  table.sort(list)
  local function at(share) return list[math.max(1, math.min(#list, math.ceil(share * #list)))] end
  return at(0.025), at(0.975)
end

--- The interval that holds 95 of 100 means of the differences, where problems are drawn again.
-- @tab differences @int[opt] draws @int[opt] seed
-- @treturn number low @treturn number high
function M.interval(differences, draws, seed)
  local n, draw, means = #differences, generator(seed or M.SEED), {}
  for d = 1, draws or M.DRAWS do
    local sum = 0
    for _ = 1, n do sum = sum + differences[draw(n)] end
    means[d] = sum / n
  end
  return middle(means)
end

-- The same of a number that is no mean over problems, with its standard error: it is made again of each draw.
local function interval_of(list, total, draws, seed)
  local n, draw, found = #list, generator(seed or M.SEED), {}
  for d = 1, draws or M.DRAWS_OF_ALL do
    local a, b = {}, {}
    for i = 1, n do
      local pair = list[draw(n)]
      a[i], b[i] = pair.a, pair.b
    end
    found[d] = total(b) - total(a)
  end
  local _, error_of_mean = score.mean(found)
  local low, high = middle(found)
  return low, high, error_of_mean and error_of_mean * math.sqrt(#found)
end

local function by_number(entries)
  local map = {}
  for _, entry in ipairs(entries) do map[entry.problem.number] = entry end
  return map
end

--- Pairs of entries of the same problem.
-- @tab a @tab b entries of one benchmark
-- @treturn table a list of { a =, b = } @treturn int how many entries have no partner
function M.pairs(a, b)
  local theirs, list, alone = by_number(b), {}, #b
  for _, entry in ipairs(a) do
    local other = theirs[entry.problem.number]
    if other then
      if other.problem.question ~= entry.problem.question then
        blame("eval: problem %d of %s is another one in the second file; both must come from the same data", entry.problem.number,
              entry.bench)
      end
      list[#list + 1], alone = { a = entry, b = other }, alone - 1
    else
      alone = alone + 1
    end
  end
  return list, alone
end

local function sentence(r)
  if r.wins + r.losses == 0 then return "Both answer every problem alike: there is no difference to speak of." end
  local who = r.difference > 0 and "The second is better" or r.difference < 0 and "The first is better" or "Both score the same"
  local by = r.difference ~= 0 and (" by %.1f points"):format(100 * math.abs(r.difference)) or ""
  local range = ("95%% interval of the difference %+.1f to %+.1f, %d problems"):format(100 * r.low, 100 * r.high, r.problems)
  if r.low > 0 or r.high < 0 then return ("%s%s (%s): more than chance explains."):format(who, by, range) end
  local wanted = r.difference ~= 0 and math.ceil(r.problems * (1.96 * r.error / math.abs(r.difference)) ^ 2)
  return ("%s%s (%s): chance alone does as much.%s"):format(who, by, range,
    wanted and wanted > r.problems and (" To tell a difference of this size apart would take about %d problems."):format(wanted) or "")
end

--- Compare two lists of entries of one benchmark, the second with the first.
-- @tab a @tab b @tab[opt] o `draws`, `seed`; `of`, entry → number, in place of the share of right samples; or
-- `total`, entries → number, of all of them
-- @treturn ?table `problems`, `alone`, `first` and `second` (means), `difference`, `error` (its standard
-- error), `low` and
-- `high` (its 95% interval), `wins` and `losses` (problems on which the second is better, or worse), and
-- `says`, a sentence; nil where no problem is in both
-- @usage local function answered(n, verdict)
--   return { problem = { number = n }, samples = { { verdict = verdict } } }
-- end
-- local a = { answered(0, "wrong"), answered(1, "right") }
-- local b = { answered(0, "right"), answered(1, "right") }
-- cft.eval.compare(a, b).wins   --> 1
function M.of(a, b, o)
  o = o or {}
  local list, alone = M.pairs(a, b)
  if #list == 0 then return nil end
  local differences, r = {}, { problems = #list, alone = alone, wins = 0, losses = 0 }
  local first, second, of = {}, {}, o.of or function(entry) return score.right(entry) / #entry.samples end
  for i, pair in ipairs(list) do
    first[i], second[i] = of(pair.a), of(pair.b)
    differences[i] = second[i] - first[i]
    r.wins, r.losses = r.wins + (differences[i] > 0 and 1 or 0), r.losses + (differences[i] < 0 and 1 or 0)
  end
  r.first, r.second = score.mean(first), score.mean(second)
  r.difference, r.error = score.mean(differences)
  r.error = r.error or 0
  if o.total then
    local a, b = {}, {}
    for i, pair in ipairs(list) do a[i], b[i] = pair.a, pair.b end
    r.first, r.second = o.total(a), o.total(b)
    r.difference = r.second - r.first
    r.low, r.high, r.error = interval_of(list, o.total, o.draws, o.seed)
    r.error = r.error or 0
  else
    r.low, r.high = M.interval(differences, o.draws, o.seed)
  end
  r.says = sentence(r)
  return r
end

return M
