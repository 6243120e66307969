--- Mixtures: several sources as one, each as often as it should be.
--
-- An epoch of a mixture has a fixed number of places, so many of them for each source, and a shuffle
-- deals them out. What stands at a place is a function of (seed, epoch, place) alone. A source that
-- gets more places than it has records begins again; one that gets fewer goes on in the next epoch
-- where it stopped, so that its records are all seen before any is seen again.
-- @module cft.mix
-- @usage local mixed = mix.new {
--   { data.open "webinstruct.jsonl", weight = 3 },
--   { data.open "gsm8k.jsonl", weight = 1 },
--   size = 50000,
-- }
-- print(mixed:describe())

local door = require "cft.ffi"
local blame = require "cft.blame"
local check = require "cft.check"
local C = door.C

local M = {}
local Mix = {}
Mix.__index = Mix

-- Whole numbers in these proportions that add up to `total`: largest remainders get what is left.
local function apportion(total, weights)
  local sum, counts, given, rest = 0, {}, 0, {}
  for _, w in ipairs(weights) do sum = sum + w end
  for k, w in ipairs(weights) do
    local exact = total * w / sum
    counts[k] = math.floor(exact)
    given = given + counts[k]
    rest[k] = { k = k, fraction = exact - counts[k] }
  end
  table.sort(rest, function(a, b)
    if a.fraction ~= b.fraction then return a.fraction > b.fraction end
    return a.k < b.k
  end)
  for i = 1, total - given do
    local k = rest[i].k
    counts[k] = counts[k] + 1
  end
  return counts
end

local part_options = {
  weight = { "number", optional = true, min = 0 }, epochs = { "number", optional = true, min = 0 },
}

local function read_part(k, part)
  if type(part) ~= "table" or type(part[1]) ~= "table" or not part[1].size then
    blame("mix.new: part %d is no { source, weight = ... }", k)
  end
  local named = {}
  for name, value in pairs(part) do
    if name ~= 1 then named[name] = value end
  end
  local o = check.options(("mix.new, part %d"):format(k), named, part_options)
  return { source = part[1], weight = o.weight, epochs = o.epochs }
end

-- How many places of an epoch each part gets.
local function places_of(parts, size)
  local weighted, total = parts[1].weight ~= nil, 0
  for k, part in ipairs(parts) do
    if (part.weight ~= nil) ~= weighted or (weighted and part.epochs) then
      blame("mix.new: part %d: give a weight to every part, or epochs to any", k)
    end
    total = total + part.source:size()
  end
  local counts = {}
  if weighted then
    local weights, sum = {}, 0
    for k, part in ipairs(parts) do
      weights[k] = part.weight
      sum = sum + part.weight
    end
    if sum == 0 then blame "mix.new: all weights are 0" end
    return apportion(size or total, weights)
  end
  if size then blame "mix.new: size wants weights" end
  for k, part in ipairs(parts) do
    counts[k] = math.floor((part.epochs or 1) * part.source:size() + 0.5)
  end
  return counts
end

local function build(parts, size)
  local self = setmetatable({ parts = parts, asked_size = size }, Mix)
  local counts, names, base, first = places_of(parts, size), {}, 0, 0
  for k, part in ipairs(parts) do
    part.base, part.first, part.places = base, first, counts[k]
    base, first = base + part.source:size(), first + counts[k]
    names[k] = part.source.name
  end
  self.total, self.n, self.name = base, first, table.concat(names, " + ")
  if first == 0 then blame("mix.new: no record of %s is wanted", self.name) end
  return self
end

--- A mixture.
-- @tab parts a list of `{ source, weight = }` or `{ source, epochs = }`, and as wanted `size`.
-- A weight is a share of the places; `epochs` (1 if absent) how often a source is gone through in an
-- epoch of the mixture. `size` is how many places there are, with weights: all records if absent.
-- @treturn Mix
function M.new(parts)
  check.value("mix.new", "parts", parts, { "table" })
  local list, named = {}, {}
  for k, part in ipairs(parts) do list[k] = read_part(k, part) end
  for name, value in pairs(parts) do
    if type(name) ~= "number" then named[name] = value end
  end
  local o = check.options("mix.new", named, { size = { "integer", optional = true, min = 1 } })
  if #list == 0 then blame "mix.new: no parts" end
  return build(list, o.size)
end

--- How many records its sources have together: `get` takes numbers below it.
-- @treturn int
function Mix:size() return self.total end

--- How many places an epoch has.
-- @treturn int
function Mix:places() return self.n end

-- The last of the parts whose `field` is at most i, and that has some.
local function part_of(parts, field, i)
  local found
  for _, part in ipairs(parts) do
    if part[field] > i then break end
    found = part
  end
  return found
end

--- The number of the record at a place.
-- @int seed
-- @int epoch from 0
-- @int place 0 to places() - 1
-- @treturn int for `get`
function Mix:at(seed, epoch, place)
  local dealt = tonumber(C.cft_order_at(seed, epoch, place, self.n))
  local part = part_of(self.parts, "first", dealt)
  local n = part.source:size()
  -- The part's own count over all epochs says where in its own shuffles it is.
  local seen = epoch * part.places + dealt - part.first
  local round, i = math.floor(seen / n), seen % n
  return part.base + tonumber(C.cft_order_at(seed + part.base + 1, round, i, n))
end

local function local_number(self, i)
  if type(i) ~= "number" or i < 0 or i >= self.total or i % 1 ~= 0 then
    blame("mix: record %s of %d in %s", tostring(i), self.total, self.name)
  end
  local part = part_of(self.parts, "base", i)
  return part.source, i - part.base
end

--- A record by its number in the mixture.
function Mix:get(i)
  local source, k = local_number(self, i)
  return source:get(k)
end

--- Where it comes from, for messages.
function Mix:where(i)
  local source, k = local_number(self, i)
  return source:where(k)
end

--- The part of a number: source or samples, and the number there.
function Mix:locate(i) return local_number(self, i) end

--- The same mixture of something made of each source.
-- @func make gets a source
-- @treturn Mix
function Mix:map(make)
  local parts = {}
  for k, part in ipairs(self.parts) do
    parts[k] = { source = make(part.source), weight = part.weight, epochs = part.epochs }
  end
  return build(parts, self.asked_size)
end

--- A table of the mixture: what each source has and gives to an epoch.
-- @treturn string
function Mix:describe()
  local lines = { ("%10s %10s %7s %7s  %s"):format("records", "places", "share", "epochs", "source") }
  for _, part in ipairs(self.parts) do
    local n = part.source:size()
    lines[#lines + 1] = ("%10d %10d %6.1f%% %7.2f  %s"):format(n, part.places, 100 * part.places / self.n,
      part.places / n, part.source.name)
  end
  for _, part in ipairs(self.parts) do
    if part.source.describe then lines[#lines + 1] = part.source:describe() end
  end
  return table.concat(lines, "\n")
end

return M
