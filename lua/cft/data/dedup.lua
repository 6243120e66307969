--- Duplicates: records that say what another one says, word for word or nearly.
--
-- Nearly means that of all runs of five words in either text, a share (`near`) is in both: Jaccard's measure. Which
-- records may be that near is found by MinHash (Broder 1997) with one permutation and locality-sensitive bands;
-- whether they are is then counted, so a record is never taken for a duplicate by chance. One that is may be missed:
-- one pair in 4,600 at 0.8, in 160 at 0.6, in 16 at 0.5. Of a set whose records are all alike more may be, since then
-- a record is compared with the likeliest few; the report says how many records that concerns.
--
-- A kept record takes 25 to 35 bytes; where near ones are looked for 64 more, and each record of the source, kept or
-- not, 80 for its buckets, below 0.75 105.
-- @module cft.data.dedup
-- @usage local seen = cft.dedup.new { near = 0.8 }
-- local clean = seen:keep(source)   -- the first of each stays
-- clean:size(), seen.records, seen.count   --> 3 3 0

local bit = require "bit"
local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local conversation = require "cft.data.conversation"
local digests = require "cft.data.util.digest_table"
local hash = require "cft.io.hash"
local json = require "cft.base.json"
local numbers = require "cft.data.util.int_array"
local parallel = require "cft.data.parallel"
local words = require "cft.data.util.word_hash"
local ffi = door.ffi
local band, bor, bxor, tobit = bit.band, bit.bor, bit.bxor, bit.tobit
local lshift, rol, rshift = bit.lshift, bit.rol, bit.rshift

local M = {}
local Seen = {}
Seen.__index = Seen

--- Words of a shingle.
M.words = 5

--- Duplicates that are kept to be listed; the others are only counted.
M.KEPT = 10000

local VALUES = 64     -- of a signature: a byte each, a line of the processor's cache in all
local DIGEST = 16     -- bytes
local FULL = 64       -- records of a bucket: what more of them have in common, such as a template, tells nobody apart
local COUNTS = 5      -- texts that are counted for one record
local SLACK = 0.2     -- of what a signature says of a pair: four standard deviations at 0.8, three at 0.5
local LOAD = 0.8      -- of the table of buckets

-- ---- shingles ----------------------------------------------------------------------------------

-- Every bit of a hash depends on every other one.
local function mixed(h)
  h = tobit(h + lshift(h, 10))
  h = bxor(h, rshift(h, 6))
  h = tobit(h + lshift(h, 3))
  h = bxor(h, rshift(h, 11))
  return tobit(h + lshift(h, 15))
end

-- The hashes of a text's runs of five words; of all its words where these are fewer. Until the next call.
local room, shingles = 0, nil
local function find_shingles(text)
  local n = words.find(text)
  local hashes, count = words.hashes, math.max(n - M.words + 1, 1)
  if count > room then
    room = 2 * count
    shingles = ffi.new("int32_t[?]", room)
  end
  for k = 0, count - 1 do
    local h = 0
    for j = k, math.min(k + M.words, n) - 1 do h = mixed(bxor(rol(h, 7), hashes[j])) end
    shingles[k] = h
  end
  return count
end

-- The low byte of the least hash in each of 64 classes; an empty class takes its value from the next that is not.
-- One permutation: Li, Owen & Zhang 2012 (arXiv 1208.1259); empty classes: rotation, Shrivastava & Li 2014 (ICML);
-- some bits of each value: Li & Koenig 2010 (arXiv 0910.3349).
local least, signature = ffi.new("int32_t[?]", VALUES), ffi.new("uint8_t[?]", VALUES)
local function signature_of(text)
  local count = find_shingles(text)
  for v = 0, VALUES - 1 do least[v] = -1 end
  for k = 0, count - 1 do
    local h = shingles[k]
    local class, value = band(h, VALUES - 1), rshift(h, 6)
    if least[class] < 0 or value < least[class] then least[class] = value end
  end
  local first = 0
  while least[first] < 0 do first = first + 1 end
  local from, distance = least[first], 0
  for step = VALUES, 1, -1 do  -- backwards around, so that what comes next is known
    local v = (first + step) % VALUES
    if least[v] < 0 then
      distance = distance + 1
      least[v] = band(mixed(tobit(from + distance)), 0x3ffffff)
    else
      from, distance = least[v], 0
    end
  end
  for v = 0, VALUES - 1 do signature[v] = band(least[v], 0xff) end
  return ffi.string(signature, VALUES)
end

-- The set of a text's shingles, and how many these are.
local function set_of(text)
  local set, n = {}, 0
  for k = 0, find_shingles(text) - 1 do
    if not set[shingles[k]] then set[shingles[k]], n = 0, n + 1 end
  end
  return set, n
end

-- The share of shingles that a set of n and a text have in common; `mark`, from 1, is another one for each text.
local function jaccard(set, n, text, mark)
  local own, both, all = {}, 0, n
  for k = 0, find_shingles(text) - 1 do
    local h = shingles[k]
    local has = set[h]
    if has and has ~= mark then
      set[h], both = mark, both + 1
    elseif not has and not own[h] then
      own[h], all = true, all + 1
    end
  end
  return both / all
end

-- ---- signatures that are alike -------------------------------------------------------------------
-- A band is three or four values of a signature; records that have one in common are in one bucket. Buckets are runs
-- in one open-addressing table, of numbers of records: whose band it is their signatures say.

local Alike = {}
Alike.__index = Alike

-- Three values find more pairs, four take less time and memory and are enough for those that are very near.
local function new_alike(near)
  local rows = near < 0.75 and 3 or 4
  return setmetatable({ near = near, rows = rows, bands = math.floor(VALUES / rows), n = 0, room = 0, size = 0 }, Alike)
end

local function band_key(values, at, rows)
  local key = bor(values[at], lshift(values[at + 1], 8), lshift(values[at + 2], 16))
  return rows == 4 and bor(key, lshift(values[at + 3], 24)) or key
end

local function slot_of(key, b, size)
  local h = mixed(bxor(key, mixed(b + 1)))
  return math.floor((h < 0 and h + 2 ^ 32 or h) / 2 ^ 32 * size)
end

-- Put record `id` into its buckets, where these are not full.
local function enter(self, id)
  local slots, values, size, rows = self.slots, self.values, self.size, self.rows
  for b = 0, self.bands - 1 do
    local key = band_key(values, VALUES * id + rows * b, rows)
    local at, same = slot_of(key, b, size), 0
    while slots[at] ~= 0 and same < FULL do
      if band_key(values, VALUES * (slots[at] - 1) + rows * b, rows) == key then same = same + 1 end
      at = at + 1
      if at == size then at = 0 end
    end
    if slots[at] == 0 then slots[at] = id + 1 end
  end
end

-- Room for so many records more.
function Alike:grow(more)
  local wanted = self.n + more
  if wanted <= self.room then return end
  self.room = math.max(wanted, math.ceil(1.5 * self.room))
  self.values = door.resized(self.values, "uint8_t", VALUES * self.room)
  door.free(self.slots)
  self.size = math.ceil(self.bands * self.room / LOAD)
  self.slots = door.zeros("int32_t", self.size)
  for id = 0, self.n - 1 do enter(self, id) end
end

function Alike:add(values)
  ffi.copy(self.values + VALUES * self.n, values, VALUES)
  self.n = self.n + 1
  enter(self, self.n - 1)
end

-- Values that two signatures share.
local function shared(values, a, other)
  local same = 0
  for v = 0, VALUES - 1 do
    if values[a + v] == other[v] then same = same + 1 end
  end
  return same
end

-- Those most alike, the likeliest first and of equals the first. @treturn table a list of numbers
-- @treturn bool whether some were not looked at
function Alike:find(values)
  local slots, mine, size, rows = self.slots, self.values, self.size, self.rows
  local wanted = VALUES * (self.near - SLACK)
  local best, how, more = {}, {}, false
  for b = 0, self.bands - 1 do
    local key = band_key(values, rows * b, rows)
    local at, same = slot_of(key, b, size), 0
    while slots[at] ~= 0 do
      local id = slots[at] - 1
      if band_key(mine, VALUES * id + rows * b, rows) == key then
        same = same + 1
        local alike = how[id] == nil and shared(mine, VALUES * id, values) or -1
        if alike >= wanted then
          how[id], best[#best + 1] = alike, id
        end
        if same == FULL then
          more = true
          break
        end
      end
      at = at + 1
      if at == size then at = 0 end
    end
  end
  table.sort(best, function(a, c)
    if how[a] ~= how[c] then return how[a] > how[c] end
    return a < c
  end)
  return best, more
end

-- ---- what was seen -----------------------------------------------------------------------------

local function text_of(record) return record.messages and conversation.whole(record) or json.encode(record) end

--- Something that remembers what it saw.
-- @tab[opt] opts
-- @number[opt] opts.near 0.5 to 1: records that share so much are duplicates; absent: only equal ones
-- @func[opt] opts.by record → the text that is compared; all of its messages if absent. It runs in other processes
-- where there are many records
-- @int[opt] opts.processes as `cft.data.parallel` chooses if absent; the result is the same for any number
-- @treturn Seen `records` and `count`: how many were seen, and were duplicates; `duplicates`: the first of these, at
-- most `KEPT`, each `{ record, where, of, similarity, equal }`; `equal`: word for word; `bounded`: records that were
-- kept after they had been compared with some only of those that may be near
function M.new(opts)
  local o = check.options("dedup.new", opts, {
    near = { "number", optional = true, min = 0.5, max = 1 }, by = { "function", text_of }, processes = parallel.option,
  })
  return setmetatable({
    near = o.near, by = o.by, processes = o.processes, records = 0, count = 0, bounded = 0, duplicates = {},
    parts = {},               -- sources that were seen: { source, first, kept }
    digests = digests.new(),  -- of the records that were kept; their numbers go on from source to source
    alike = o.near and new_alike(o.near),
  }, Seen)
end

-- The source of a kept record, and its number there.
local function place_of(self, id)
  local k = #self.parts
  while self.parts[k].first > id do k = k - 1 end
  local part = self.parts[k]
  return part.source, part.kept:at(id - part.first)
end

-- What is compared of record i of a source.
local function compared(self, source, i, record)
  local text = self.by(record, i)
  if type(text) ~= "string" then
    blame("dedup: by gave a %s for %s; a text is wanted", type(text), source:where(i))
  end
  return text
end

-- The kept record that record i is near to, and how near.
local function nearest(self, source, i, values)
  local likely, more = self.alike:find(values)
  if #likely > 0 then
    local set, n = set_of(compared(self, source, i, source:get(i)))
    for k = 1, math.min(#likely, COUNTS) do
      local other, number = place_of(self, likely[k])
      local similarity = jaccard(set, n, compared(self, other, number, other:get(number)), k)
      if similarity >= self.near then return likely[k], similarity end
    end
  end
  if more or #likely > COUNTS then self.bounded = self.bounded + 1 end
end

local function note(self, source, i, of, similarity, equal)
  self.count = self.count + 1
  if #self.duplicates >= M.KEPT then return end
  local other, number = place_of(self, of)
  self.duplicates[#self.duplicates + 1] = { record = i, where = source:where(i), of = other:where(number),
    similarity = similarity, equal = equal }
end

--- The records of a source that are no duplicates of one before, in this source or in those that were seen.
-- @param source of `cft.data`
-- @treturn Source
function Seen:keep(source)
  local kept = numbers.new(source:size())
  self.parts[#self.parts + 1] = { source = source, first = self.digests.n, kept = kept }
  if self.alike then self.alike:grow(source:size()) end
  parallel.each(source, {
    processes = self.processes,
    of = function(record, i)
      local text = compared(self, source, i, record)
      return self.alike and hash.digest(text) .. signature_of(text) or hash.digest(text)
    end,
    take = function(i, at)
      self.records = self.records + 1
      local of, similarity = self.digests:find(at), 1
      local equal = of ~= nil
      if not of and self.alike then of, similarity = nearest(self, source, i, at + DIGEST) end
      if of then return note(self, source, i, of, similarity, equal) end
      self.digests:add(at)
      kept:add(i)
      if self.alike then self.alike:add(at + DIGEST) end
    end,
  })
  return kept.n == source:size() and source or source:select(kept)
end

local LISTED = 5

--- What was found, the first few by their places.
-- @treturn string
-- @usage local seen = cft.dedup.new()
-- seen:keep(source)
-- seen:keep(source)
-- print(seen:describe())   --> 3 of 6 records are duplicates, word for word   generated: record 0 = generated: record 0   generated: record 1 = generated: record 1   generated: record 2 = generated: record 2
function Seen:describe()
  local lines = { ("%d of %d records are duplicates%s"):format(self.count, self.records,
    self.near and (": %d words in a row, %g%% of them shared"):format(M.words, 100 * self.near) or ", word for word") }
  local listed = math.min(#self.duplicates, LISTED)
  for k = 1, listed do
    local d = self.duplicates[k]
    lines[#lines + 1] = ("  %s = %s%s"):format(d.where, d.of,
      d.similarity < 1 and (" (%.0f%%)"):format(100 * d.similarity) or "")
  end
  if self.count > listed then lines[#lines + 1] = ("  and %d more"):format(self.count - listed) end
  if self.bounded > 0 then
    lines[#lines + 1] = ("  %d records were compared with the likeliest of those like them only, "
      .. "since these are many"):format(self.bounded)
  end
  return table.concat(lines, "\n")
end

return M
