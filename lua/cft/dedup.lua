--- Duplicates: records that say what another one says, word for word or nearly.
--
-- Nearly means that of all runs of five words in either text, a share (`near`) is in both: Jaccard's measure. Which
-- records may be that near is found by MinHash (Broder 1997) with one permutation and locality-sensitive bands; whether
-- they are is then counted, so a record is never taken for a duplicate by chance. One that is may be missed: in bands of
-- four of 128 values, one pair in 10^7 at 0.8, one in eight at 0.5; and more of a set whose records are all alike, since
-- a record is compared with a hundred others at most.
-- @module cft.dedup
-- @usage local seen = dedup.new { near = 0.8 }
-- local clean = seen:keep(source)   -- the first of each stays
-- print(seen:describe())

local bit = require "bit"
local door = require "cft.ffi"
local check = require "cft.check"
local files = require "cft.files"
local json = require "cft.json"
local words = require "cft.words"
local ffi = door.ffi
local band, bxor, lshift, rol, rshift, tobit = bit.band, bit.bxor, bit.lshift, bit.rol, bit.rshift, bit.tobit

local M = {}
local Seen = {}
Seen.__index = Seen

--- Words of a shingle.
M.words = 5

local VALUES, BANDS = 128, 32  -- of a signature; values in a band: 4
local ROWS = VALUES / BANDS
local LOOKS, COUNTS = 100, 5   -- at most, of signatures and of texts for one record: some sets are all alike
local SLACK = 0.15             -- of what a signature says of a pair: three standard deviations at 0.5

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

-- The least hash in each of 128 classes; an empty class takes its value from the next that is not.
local function signature_of(text, into)
  local count = find_shingles(text)
  for v = 0, VALUES - 1 do into[v] = -1 end
  for k = 0, count - 1 do
    local h = shingles[k]
    local class, value = band(h, VALUES - 1), rshift(h, 7)
    if into[class] < 0 or value < into[class] then into[class] = value end
  end
  local first = 0
  while into[first] < 0 do first = first + 1 end
  local from, distance = into[first], 0
  for step = VALUES, 1, -1 do  -- backwards around, so that what comes next is known
    local v = (first + step) % VALUES
    if into[v] < 0 then
      distance = distance + 1
      into[v] = band(mixed(tobit(from + distance)), 0x7fffffff)
    else
      from, distance = into[v], 0
    end
  end
end

-- The share of shingles that two texts have in common.
local function jaccard(a, b)
  local set, both, all = {}, 0, 0
  for k = 0, find_shingles(a) - 1 do
    if not set[shingles[k]] then set[shingles[k]], all = 1, all + 1 end
  end
  for k = 0, find_shingles(b) - 1 do
    local has = set[shingles[k]]
    if has == 1 then both = both + 1 elseif not has then all = all + 1 end
    set[shingles[k]] = 2
  end
  return both / all
end

-- ---- what was seen -----------------------------------------------------------------------------

local function text_of(record)
  if not record.messages then return json.encode(record) end
  local texts = {}
  for _, message in ipairs(record.messages) do
    if type(message.content) == "string" then texts[#texts + 1] = message.content end
    for _, part in ipairs(type(message.content) == "table" and message.content or {}) do texts[#texts + 1] = part.text end
  end
  return table.concat(texts, "\n")
end

--- Something that remembers what it saw.
-- @tab[opt] opts
-- @number[opt] opts.near 0.5 to 1: records that share so much are duplicates; absent: only equal ones
-- @func[opt] opts.by record → the text that is compared; all of its messages if absent
-- @treturn Seen `duplicates`: a list of `{ record, where, of, similarity, equal }`; `equal`: word for word
function M.new(opts)
  local o = check.options("dedup.new", opts, {
    near = { "number", optional = true, min = 0.5, max = 1 }, by = { "function", text_of },
  })
  return setmetatable({ near = o.near, by = o.by, duplicates = {}, records = 0, first = {}, kept = {}, chains = {} }, Seen)
end

local function band_key(signature, b)
  local h = b
  for v = b * ROWS, b * ROWS + ROWS - 1 do h = mixed(bxor(rol(h, 5), signature[v])) end
  return h
end

local function alike(a, b)
  local same = 0
  for v = 0, VALUES - 1 do same = same + (a[v] == b[v] and 1 or 0) end
  return same / VALUES
end

-- The kept record that a text is near to, and how near; else it is kept itself.
local function nearest(self, text, entry)
  local signature, looked, looks, counts = ffi.new("int32_t[?]", VALUES), {}, 0, 0
  signature_of(text, signature)
  for b = 0, BANDS - 1 do
    for _, other in ipairs(self.chains[b * 2 ^ 32 + band_key(signature, b)] or {}) do
      if looks == LOOKS or counts == COUNTS then break end
      if not looked[other] then
        looked[other], looks = true, looks + 1
        if alike(signature, other.signature) >= self.near - SLACK then
          counts = counts + 1
          local similarity = jaccard(text, self.by(other.source:get(other.record), other.record))
          if similarity >= self.near then return other, similarity end
        end
      end
    end
  end
  entry.signature = signature
  for b = 0, BANDS - 1 do
    local key = b * 2 ^ 32 + band_key(signature, b)
    local chain = self.chains[key]
    if chain then chain[#chain + 1] = entry else self.chains[key] = { entry } end
  end
end

--- The records of a source that are no duplicates of one before, in this source or in those that were seen.
-- @param source of `cft.data`
-- @treturn Source
function Seen:keep(source)
  local numbers = {}
  for i, record in source:records() do
    local text = self.by(record, i)
    local key, entry = files.digest(text), { source = source, record = i }
    local of, similarity = self.first[key], 1
    local equal = of ~= nil
    if not of and self.near then of, similarity = nearest(self, text, entry) end
    self.records = self.records + 1
    if of then
      self.duplicates[#self.duplicates + 1] = { where = source:where(i), of = of.source:where(of.record),
        record = i, similarity = similarity, equal = equal }
    else
      self.first[key], numbers[#numbers + 1] = entry, i
    end
  end
  return #numbers == source:size() and source or source:select(numbers)
end

local LISTED = 5

--- What was found, the first few by their places.
-- @treturn string
function Seen:describe()
  local lines = { ("%d of %d records are duplicates%s"):format(#self.duplicates, self.records,
    self.near and (": %d words in a row, %g%% of them shared"):format(M.words, 100 * self.near) or ", word for word") }
  for k = 1, math.min(#self.duplicates, LISTED) do
    local d = self.duplicates[k]
    lines[#lines + 1] = ("  %s = %s%s"):format(d.where, d.of, d.similarity < 1 and (" (%.0f%%)"):format(100 * d.similarity) or "")
  end
  if #self.duplicates > LISTED then lines[#lines + 1] = ("  and %d more"):format(#self.duplicates - LISTED) end
  return table.concat(lines, "\n")
end

return M
