--- The order of samples in an epoch, where that is more than a shuffle: in groups, or by a key.
--
-- Both are functions of (seed, epoch, place), like the shuffle: what is kept of an epoch can be made again.
-- @module cft.samples.order

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local order = require "cft.data.util.order"

local M = {}

-- Runs of samples, each shuffled for itself: `members` by run, run r from first[r] to first[r + 1] - 1.
local function runs_of(n, count, run_of)
  local sizes, filled = {}, {}
  for r = 0, count - 1 do sizes[r] = 0 end
  for k = 0, n - 1 do sizes[run_of[k]] = sizes[run_of[k]] + 1 end
  local first, members = door.zeros("int32_t", count + 1), door.zeros("int32_t", math.max(n, 1))
  for r = 0, count - 1 do first[r + 1], filled[r] = first[r] + sizes[r], first[r] end
  for k = 0, n - 1 do
    local r = run_of[k]
    members[filled[r]], filled[r] = k, filled[r] + 1
  end
  return { count = count, first = first, members = members }
end

-- ---- groups --------------------------------------------------------------------------------------

local Groups = {}
Groups.__index = Groups

--- Samples that stand together: groups are shuffled, and the samples inside of each.
-- @int n samples
-- @func key number of a sample → its group's key; nil: it stands alone
-- @treturn table with `at(seed, epoch, place, shuffle)`
function M.groups(n, key)
  local count, numbers, group_of = 0, {}, door.zeros("int32_t", math.max(n, 1))
  for k = 0, n - 1 do
    local own = key(k)
    local g = own ~= nil and numbers[own] or nil
    if not g then
      g, count = count, count + 1
      if own ~= nil then numbers[own] = g end
    end
    group_of[k] = g
  end
  local self = setmetatable(runs_of(n, count, group_of), Groups)
  self.order, self.starts = door.zeros("int32_t", math.max(count, 1)), door.zeros("int32_t", count + 1)
  return self
end

-- Where an epoch's groups begin, in the order of their shuffle. Kept for the epoch that was asked for
-- last: a function of (seed, epoch) all the same.
local function lay(self, seed, epoch, shuffle)
  self.epoch = epoch
  for r = 0, self.count - 1 do
    local g = shuffle and order.at(seed, epoch, r, self.count) or r
    self.order[r] = g
    self.starts[r + 1] = self.starts[r] + self.first[g + 1] - self.first[g]
  end
end

-- The run that a place is in: starts[low] <= place < starts[low + 1].
local function run_at(starts, count, place)
  local low, high = 0, count
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if starts[middle] <= place then low = middle else high = middle end
  end
  return low
end

-- The member at a place of a run, shuffled under a seed of its own.
local function member(self, r, i, seed, epoch, shuffle)
  if shuffle then i = order.at(seed + r + 1, epoch, i, self.first[r + 1] - self.first[r]) end
  return self.members[self.first[r] + i]
end

function Groups:at(seed, epoch, place, shuffle)
  if self.epoch ~= epoch then lay(self, seed, epoch, shuffle) end
  local low = run_at(self.starts, self.count, place)
  return member(self, self.order[low], place - self.starts[low], seed, epoch, shuffle)
end

-- ---- a key ---------------------------------------------------------------------------------------

local Sorted = {}
Sorted.__index = Sorted

--- Samples by a key, least first; equal ones are shuffled among themselves, or stay as they come.
-- @int n samples
-- @func key number of a sample → a number or a text
-- @bool[opt=false] falling largest first
-- @treturn table with `at(seed, epoch, place, shuffle)`
function M.sorted(n, key, falling)
  local values, list, run_of, count = {}, {}, door.zeros("int32_t", math.max(n, 1)), 0
  for k = 0, n - 1 do values[k], list[k + 1] = key(k), k end
  table.sort(list, function(a, b)
    local x, y = values[a], values[b]
    if x == y then return a < b end
    if falling then return y < x end
    return x < y
  end)
  for i, k in ipairs(list) do
    if i > 1 and values[list[i - 1]] ~= values[k] then count = count + 1 end
    run_of[k] = count
  end
  return setmetatable(runs_of(n, n > 0 and count + 1 or 0, run_of), Sorted)
end

function Sorted:at(seed, epoch, place, shuffle)
  local r = run_at(self.first, self.count, place)
  return member(self, r, place - self.first[r], seed, epoch, shuffle)
end

-- ---- from what a recipe says ---------------------------------------------------------------------

local function names_of(record)
  local names = {}
  for name in pairs(record.raw or record) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return table.concat(names, ", ")
end

--- The key of `order_by`.
-- @param samples of `cft.samples`
-- @param by "length", the name of a field of the records, either with "-" in front; or a function of the record
-- @treturn func number of a sample → its key
-- @treturn bool largest first
function M.key_of(samples, by)
  local name, falling = by, false
  if type(by) == "string" then
    falling = by:sub(1, 1) == "-"
    name = falling and by:sub(2) or by
    if name == "length" then return function(k) return samples:length(k) end, falling end
  end
  local kind
  return function(k)
    local record = samples:record(k)
    local value
    if type(name) == "function" then value = name(record) else value = (record.raw or record)[name] end
    local is = type(value)
    if is ~= "number" and is ~= "string" or value ~= value then
      blame("order_by: %s has %s%s; a number or a text is wanted", samples:where(k), type(value) == "table" and "a table"
        or tostring(value), type(name) == "string" and (" as '%s'; its fields are %s"):format(name, names_of(record)) or "")
    end
    kind = kind or is
    if is ~= kind then blame("order_by: %s has a %s where others have a %s", samples:where(k), is, kind) end
    return value
  end, falling
end

return M
