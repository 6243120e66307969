--- Mixtures: several sources as one, each as often as it should be.
--
-- An epoch of a mixture has a fixed number of places, so many of them for each source, and a shuffle
-- deals them out. What stands at a place is a function of (seed, epoch, place) alone. A source that
-- gets more places than it has records begins again; one that gets fewer goes on in the next epoch
-- where it stopped, so that its records are all seen before any is seen again.
--
-- Weights that are functions of progress make a curriculum: an epoch is then dealt out in blocks, a hundred if it
-- has as many places, each with the weights of its middle. docs/mixtures.md has examples.
-- @module cft.data.mix
-- @usage local mixed = cft.mix.new { { source, weight = 3 }, { source:range(0, 1), weight = 1, cap = 5 }, size = 8 }
-- print(mixed:describe())

local blame = require "cft.base.blame"
local canonical = require "cft.base.canonical"
local check = require "cft.base.check"
local data = require "cft.data.open"
local hash = require "cft.io.hash"
local order = require "cft.data.util.order"
local parallel = require "cft.data.parallel"

local M = {}
local Mix = {}
Mix.__index = Mix

local BLOCKS = 100  -- of an epoch with a curriculum

-- ---- how many places for whom ------------------------------------------------------------------

-- Whole numbers from 0, as close to `wanted` as can be, that add up to `total`: largest remainders get what is left.
local function apportion(total, wanted)
  local counts, given, rest = {}, 0, {}
  for k, exact in ipairs(wanted) do
    counts[k] = math.max(0, math.floor(exact + 1e-9))
    given = given + counts[k]
    rest[k] = { k = k, fraction = exact - counts[k] }
  end
  table.sort(rest, function(a, b)
    if a.fraction ~= b.fraction then return a.fraction > b.fraction end
    return a.k < b.k
  end)
  for i = 1, total - given do
    local k = rest[(i - 1) % #rest + 1].k
    counts[k] = counts[k] + 1
  end
  for i = #rest, 1, -1 do  -- one who had too much before may leave too little now
    local k = rest[i].k
    local take = math.min(counts[k], math.max(0, given - total))
    counts[k], given = counts[k] - take, given - take
  end
  return counts
end

local function shares_of(total, weights)
  local sum, wanted = 0, {}
  for _, w in ipairs(weights) do sum = sum + w end
  for k, w in ipairs(weights) do wanted[k] = total * w / sum end
  return wanted
end

-- The places of an epoch by weight, no part above its cap: what a capped one leaves goes to the others.
local function under_caps(parts, total, weights)
  local counts, capped, left = {}, {}, total
  while true do
    local open, numbers = {}, {}
    for k in ipairs(parts) do
      if not capped[k] then open[#open + 1], numbers[#numbers + 1] = weights[k], k end
    end
    local sum = 0
    for _, w in ipairs(open) do sum = sum + w end
    if sum == 0 then  -- every part with a weight is full
      for k in ipairs(parts) do counts[k] = capped[k] or 0 end
      return counts
    end
    local given, again = apportion(left, shares_of(left, open)), false
    for i, k in ipairs(numbers) do
      local cap = parts[k].cap
      if cap and given[i] > cap then
        capped[k], left, again = cap, left - cap, true
      end
    end
    if not again then
      for i, k in ipairs(numbers) do counts[k] = given[i] end
      for k, cap in pairs(capped) do counts[k] = cap end
      return counts
    end
  end
end

-- ---- parts -------------------------------------------------------------------------------------

local part_options = {
  weight = { "number|function", optional = true, min = 0 }, epochs = { "number", optional = true, min = 0 },
  cap = { "integer", optional = true, min = 1 },
  filter = { "function", optional = true }, map = { "function", optional = true },
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
  if (o.filter or o.map) and not data.is(part[1]) then
    blame("mix.new, part %d: filter and map are for sources of records", k)
  end
  o.source = part[1]
  if o.filter then o.source = o.source:filter(o.filter) end
  if o.map then o.source = o.source:map(o.map) end
  return o
end

local options = {
  size = { "integer", optional = true, min = 1 },
  temperature = { "number", optional = true, min = 1e-3 },
  dedup = { "string", "no", one_of = { "no", "exact", "near" } },
  near = { "number", 0.8, min = 0.5, max = 1 },
  over = { "integer", optional = true, min = 1 },
  processes = parallel.option,
}

-- Weights at a moment of the run, by temperature: its 1/T-th powers, so that 1 changes nothing and large ones level.
local function weights_at(self, progress)
  local weights, sum = {}, 0
  for k, part in ipairs(self.parts) do
    local w = part.weight
    if type(w) == "function" then
      w = w(progress)
      if type(w) ~= "number" or not (w >= 0 and w < math.huge) then
        blame("mix: the weight of %s at progress %g is %s; a number from 0 is wanted", part.source.name, progress,
          tostring(w))
      end
    end
    w = w or part.source:size()  -- a temperature alone: by size
    weights[k] = self.temperature and w > 0 and w ^ (1 / self.temperature) or w
    sum = sum + weights[k]
  end
  if sum == 0 then
    blame("mix: all weights are 0%s", self.curriculum and (" at progress %g"):format(progress) or "")
  end
  return weights
end

-- How a mixture is told what it wants: by weights, or by epochs of its parts.
local function look_at(self)
  local weighted = self.parts[1].weight ~= nil or self.temperature ~= nil
  for k, part in ipairs(self.parts) do
    local has = part.weight ~= nil or self.temperature ~= nil
    if has ~= weighted or (weighted and part.epochs) then
      blame("mix.new: part %d: give a weight to every part, or epochs to any", k)
    end
    if self.temperature and self.parts[1].weight == nil and part.weight ~= nil then
      blame("mix.new: part %d: give a weight to every part, or to none", k)
    end
    if type(part.weight) == "function" then self.curriculum = true end
  end
  for k, part in ipairs(self.parts) do
    if self.curriculum and part.cap then blame("mix.new: part %d: a cap wants weights that are numbers", k) end
  end
  if self.asked_size and not weighted then blame "mix.new: size wants weights" end
  if self.over and not self.curriculum then blame "mix.new: 'over' wants a weight that is a function" end
  return weighted
end

-- The places of an epoch, and without a curriculum those of each part.
local function count_places(self, weighted)
  local counts = {}
  if self.curriculum then
    self.n = self.asked_size or self.total
    return
  elseif weighted then
    counts = under_caps(self.parts, self.asked_size or self.total, weights_at(self, 0))
  else
    for k, part in ipairs(self.parts) do
      counts[k] = math.floor((part.epochs or 1) * part.source:size() + 0.5)
      if part.cap then counts[k] = math.min(counts[k], part.cap) end
    end
  end
  self.n = 0
  for k, part in ipairs(self.parts) do part.places, self.n = counts[k], self.n + counts[k] end
  if self.asked_size and self.n < self.asked_size then
    blame("mix.new: size = %d, but caps leave %d places", self.asked_size, self.n)
  end
end

local function build(parts, o)
  local self = setmetatable({ parts = parts, options = o, asked_size = o.size, temperature = o.temperature,
    over = o.over, found = o.found, plans = {} }, Mix)
  local names, base = {}, 0
  for k, part in ipairs(parts) do
    part.base, base, names[k] = base, base + part.source:size(), part.source.name
  end
  self.total, self.name = base, table.concat(names, " + ")
  count_places(self, look_at(self))
  if self.n == 0 then blame("mix.new: no record of %s is wanted", self.name) end
  return self
end

--- A mixture.
-- @tab parts a list of `{ source, weight = }` or `{ source, epochs = }`, and options of the mixture by name.
--
-- Of a part: `weight`, a share of the places: a number, or a function of progress, 0 at the beginning of the run and 1
-- at its end; or `epochs` (1 if absent), how often it is gone through in an epoch of the mixture; `cap`, the most
-- places it gets in an epoch; `filter` and `map`, functions of record and number as `source:filter` and `source:map`
-- take them.
--
-- Of the mixture: `size`, how many places there are, with weights (all records if absent); `temperature` T: weights
-- become their 1/T-th powers, and are the sizes of the sources where there are none; `dedup`, `"exact"` or `"near"`:
-- of records that say the same the first stays (`cft.dedup`; `near` is the share of words, 0.8); `over`: places that
-- a curriculum takes, those of the run if absent; `processes`: how many look for duplicates, one a processor if absent.
-- @treturn Mix
-- @usage local function falling(progress) return 1 - progress end
-- local mixed = cft.mix.new { { source, weight = falling }, { source:range(1), weight = 1 }, size = 20 }
-- mixed:fit(40)  -- of a run of two epochs
-- mixed:places()   --> 20
function M.new(parts)
  check.value("mix.new", "parts", parts, { "table" })
  local list, named = {}, {}
  for k, part in ipairs(parts) do list[k] = read_part(k, part) end
  for name, value in pairs(parts) do
    if type(name) ~= "number" then named[name] = value end
  end
  local o = check.options("mix.new", named, options)
  if #list == 0 then blame "mix.new: no parts" end
  if o.dedup ~= "no" then
    o.found = require("cft.data.dedup").new { near = o.dedup == "near" and o.near or nil, processes = o.processes }
    for k, part in ipairs(list) do
      if not data.is(part.source) then blame("mix.new, part %d: dedup is for sources of records", k) end
      part.source = o.found:keep(part.source)
      if part.source:size() == 0 then
        blame("mix.new, part %d: every record of %s is a duplicate", k, part.source.name)
      end
    end
  end
  return build(list, o)
end

-- ---- places ------------------------------------------------------------------------------------

--- How many records its sources have together: `get` takes numbers below it.
-- @usage mixed:size(), mixed:places(), mixed:at(1, 0, 3), mixed:where(3)   --> 4 7 2 "generated: record 0"
function Mix:size() return self.total end

--- How many places an epoch has.
function Mix:places() return self.n end

--- Let a curriculum take a run of so many places, unless the mixture was made with `over`.
-- @int places
function Mix:fit(places)
  if not self.curriculum or self.over then return end
  self.fitted, self.plans = math.max(1, places), {}
end

-- The plan of an epoch: blocks `{ first, n, counts, before }`; `before` are a part's places in all earlier blocks.
local function plan_of(self, epoch)
  if self.plans[epoch] then return self.plans[epoch] end
  local blocks, before = {}, {}
  if not self.curriculum then
    local counts = {}
    for k, part in ipairs(self.parts) do before[k], counts[k] = epoch * part.places, part.places end
    blocks[1] = { first = 0, n = self.n, counts = counts, before = before }
    self.plans[epoch] = blocks
    return blocks
  end
  local last = epoch > 0 and plan_of(self, epoch - 1)
  for k in ipairs(self.parts) do before[k] = last and last.after[k] or 0 end
  local over, number = self.over or self.fitted or self.n, math.min(BLOCKS, self.n)
  local due = last and last.due or {}  -- what each was to have until now, less what it got
  due = { unpack(due) }
  for b = 1, number do
    local first = math.floor((b - 1) * self.n / number)
    local n = math.floor(b * self.n / number) - first
    local wanted = shares_of(n, weights_at(self, math.min(1, (epoch * self.n + first + n / 2) / over)))
    for k in ipairs(self.parts) do wanted[k] = wanted[k] + (due[k] or 0) end
    local counts = apportion(n, wanted)
    blocks[b] = { first = first, n = n, counts = counts, before = { unpack(before) } }
    for k in ipairs(self.parts) do
      due[k], before[k] = wanted[k] - counts[k], before[k] + counts[k]
    end
  end
  blocks.after, blocks.due = before, due
  self.plans[epoch] = blocks
  return blocks
end

--- The number of the record at a place.
-- @int seed
-- @int epoch from 0
-- @int place 0 to places() - 1
-- @treturn int for `get`
function Mix:at(seed, epoch, place)
  local blocks = plan_of(self, epoch)
  local b = math.min(#blocks, math.floor(place * #blocks / self.n) + 1)
  while blocks[b].first > place do b = b - 1 end
  while b < #blocks and blocks[b + 1].first <= place do b = b + 1 end
  local block = blocks[b]
  local dealt = order.at(seed, epoch * #blocks + b - 1, place - block.first, block.n)
  for k, count in ipairs(block.counts) do
    if dealt < count then
      local part = self.parts[k]
      local n = part.source:size()
      -- The part's own count over all epochs says where in its own shuffles it is.
      local seen = block.before[k] + dealt
      local round, i = math.floor(seen / n), seen % n
      return part.base + order.at(seed + part.base + 1, round, i, n)
    end
    dealt = dealt - count
  end
end

--- The part of a number: its source or samples, and the number there.
-- @int i below `size()`
-- @usage select(2, mixed:locate(3))   --> 0
function Mix:locate(i)
  if type(i) ~= "number" or i < 0 or i >= self.total or i % 1 ~= 0 then
    blame("mix: record %s of %d in %s", tostring(i), self.total, self.name)
  end
  local k = #self.parts
  while self.parts[k].base > i do k = k - 1 end
  return self.parts[k].source, i - self.parts[k].base
end

--- A record by its number in the mixture. @int i from 0
-- @usage mixed:get(3).messages[1].role   --> "user"
function Mix:get(i)
  local source, k = self:locate(i)
  return source:get(k)
end

--- Where a record comes from, for messages. @int i from 0
function Mix:where(i)
  local source, k = self:locate(i)
  return source:where(k)
end

--- Go through the good records of all sources, one source behind the other.
-- @return an iterator of number and record
-- @usage for i, record in mixed:records() do print(i, #record.messages) end   --> 0   2 1   2 2   2 3   2
function Mix:records()
  local k, base, iterate, state, at = 0, 0, nil, nil, nil
  return function()
    while true do
      if iterate then
        local record
        at, record = iterate(state, at)
        if at ~= nil then return base + at, record end
      end
      k = k + 1
      if not self.parts[k] then return nil end
      base = self.parts[k].base
      iterate, state, at = self.parts[k].source:records()
    end
  end
end

--- A hash of what the sources hold; nil where one has none.
-- @treturn ?string
-- @usage mixed:hash(), #mixed:identity()   --> nil 32
function Mix:hash()
  local hashes = {}
  for k, part in ipairs(self.parts) do
    hashes[k] = part.source.hash and part.source:hash()
    if not hashes[k] then return nil end
  end
  return hash.text(table.concat(hashes, "\n"))
end

--- A name for the mixture: its sources, and how often each is taken.
-- @bool[opt=false] exact no name where a function is in the way
-- @treturn ?string 32 hexadecimal digits; nil where a part has no name; then
-- @treturn ?string which part, and why
function Mix:identity(exact)
  local list = {}
  for k, part in ipairs(self.parts) do
    local taken = { weight = part.weight, epochs = part.epochs, cap = part.cap }
    local name, why = canonical.join("%s %s", { part.source:identity(exact) },
      { canonical.text(taken, { exact = exact }) })
    if not name then return nil, ("part %d: %s"):format(k, why) end
    list[k] = name
  end
  list[#list + 1] = canonical.text { size = self.asked_size, temperature = self.temperature, over = self.over }
  return hash.text(table.concat(list, "\n"))
end

--- The same mixture of something made of each source.
-- @func make gets a source
-- @treturn Mix
-- @usage mixed:map(function(part) return part:range(0, 1) end):size()   --> 2
function Mix:map(make)
  local parts = {}
  for k, part in ipairs(self.parts) do
    parts[k] = { source = make(part.source), weight = part.weight, epochs = part.epochs, cap = part.cap }
  end
  return build(parts, self.options)
end

-- ---- its table ---------------------------------------------------------------------------------

-- Places of an epoch by part.
local function places_in(self, epoch)
  local places = {}
  for _, block in ipairs(plan_of(self, epoch)) do
    for k, count in ipairs(block.counts) do places[k] = (places[k] or 0) + count end
  end
  return places
end

-- With a curriculum: a part's share in the first and in the last hundredth of the run.
local function course(self, k)
  local function share(progress) return 100 * shares_of(1, weights_at(self, progress))[k] end
  return ("  %.0f%% -> %.0f%%"):format(share(0.5 / BLOCKS), share(1 - 0.5 / BLOCKS))
end

--- How often a run goes through each source.
-- @int places that the run takes in all
-- @treturn table a list of numbers
-- @usage mixed:passes(14)   --> { 4, 2 }
function Mix:passes(places)
  local taken, epoch = {}, 0
  while places > 0 do
    for _, block in ipairs(plan_of(self, epoch)) do
      local share = math.max(0, math.min(1, places / block.n))  -- of the block that the run ends in
      for k, count in ipairs(block.counts) do taken[k] = (taken[k] or 0) + share * count end
      places = places - block.n
    end
    epoch = epoch + 1
  end
  for k, part in ipairs(self.parts) do taken[k] = (taken[k] or 0) / part.source:size() end
  return taken
end

--- A table of the mixture: what each source has, and what it gives to an epoch (to the first one of a curriculum):
-- records, places, their share, how often the source is gone through, and of samples the tokens and loss tokens.
-- @usage print(mixed:table())
function Mix:table()
  local places, measured = places_in(self, 0), true
  local tokens, learned, all = {}, {}, 0
  for k, part in ipairs(self.parts) do
    local report, n = part.source.report, part.source:size()
    measured = measured and report ~= nil
    if report then
      tokens[k], learned[k] = report.tokens * places[k] / n, report.learned * places[k] / n
      all = all + learned[k]
    end
  end
  local head = measured and ("%12s %12s %7s"):format("tokens", "loss tokens", "share") or ""
  local lines = { ("%10s %10s %7s %7s%s  %s"):format("records", "places", "share", "epochs", head, "source") }
  for k, part in ipairs(self.parts) do
    local n = part.source:size()
    local share = measured and all > 0 and 100 * learned[k] / all or 0
    local more = measured and ("%12.0f %12.0f %6.1f%%"):format(tokens[k], learned[k], share) or ""
    lines[#lines + 1] = ("%10d %10d %6.1f%% %7.2f%s  %s%s"):format(n, places[k], 100 * places[k] / self.n,
      places[k] / n, more, part.source.name, self.curriculum and course(self, k) or "")
  end
  if self.found then lines[#lines + 1] = self.found:describe() end
  return table.concat(lines, "\n")
end

--- Its table, and what its parts say of themselves.
function Mix:describe()
  local lines = { self:table() }
  for _, part in ipairs(self.parts) do
    if part.source.describe then lines[#lines + 1] = part.source:describe() end
  end
  return table.concat(lines, "\n")
end

return M
