--- Sources of records, whatever they come from: one record at a time, any of them at once; views of
-- them; and the bad records that are met. `cft.data` makes them.
-- @module cft.data.source

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local canonical = require "cft.base.canonical"
local check = require "cft.base.check"
local conversation = require "cft.data.conversation"
local format = require "cft.base.format"
local hash = require "cft.io.hash"
local digest, hex = hash.digest, hash.hex
local digests = require "cft.data.util.digest_table"
local json = require "cft.base.json"
local numbers = require "cft.data.util.int_array"
local order = require "cft.data.util.order"
local parallel = require "cft.data.parallel"

local M = {}
local Source = {}
Source.__index = Source

-- ---- bad records -----------------------------------------------------------------------------

local LISTED = 5            -- bad records that a message names
local PATIENCE = 100        -- bad ones beyond the limit
local RAW_BYTES = 1024 * 1024  -- of a bad record that are written to a quarantine file

local Bad = {}
Bad.__index = Bad

--- The bad records of a source, none so far.
-- @string name of the source
-- @int limit so many are no error
-- @string[opt] quarantine a file that receives them
function M.new_bad(name, limit, quarantine)
  return setmetatable({ name = name, limit = limit, quarantine = quarantine, seen = {} }, Bad)
end

local begun = {}  -- quarantine files of this process: the first record replaces what was there

-- One line of JSON; bytes that are not UTF-8 are written in hexadecimal.
local function quarantine(path, entry, raw)
  local line = { path = entry.path, record = entry.record, line = entry.line, byte = entry.byte,
    reason = entry.reason, bytes = #raw }
  raw = raw:sub(1, RAW_BYTES)
  if pcall(json.encode, raw) then line.raw = raw else line.raw_hex = hex(raw) end
  if not pcall(json.encode, line.reason) then line.reason = "see raw_hex" end
  local file, why = io.open(path, begun[path] and "ab" or "wb")
  if not file then blame("quarantine: %s", why) end
  begun[path] = true
  file:write(json.encode(line), "\n")
  local closed, problem = file:close()
  if not closed then blame("quarantine: %s: %s", path, problem) end
end

-- Count a bad record, once however often it is met, and write it to the quarantine file if there is one.
-- @tab entry `{ path, record, line, byte, reason }`
-- @string raw its bytes
function Bad:add(entry, raw)
  if self.seen[entry.record] then return end
  self.seen[entry.record] = true
  self[#self + 1] = entry
  if self.quarantine then quarantine(self.quarantine, entry, raw) end
end

-- Are there so many that nobody waits for the end?
function Bad:hopeless() return #self > self.limit + PATIENCE end

-- Raise if there are more than the limit, and name the first.
function Bad:enforce()
  if #self <= self.limit then return end
  local lines = { ("%s: %d bad record%s, limit_bad = %d allows %s:"):format(self.name, #self,
    #self == 1 and "" or "s", self.limit, self.limit == 0 and "none" or "no more") }
  for i = 1, math.min(#self, LISTED) do lines[#lines + 1] = "  " .. M.describe(self[i]) end
  if #self > LISTED then lines[#lines + 1] = ("  and %d more"):format(#self - LISTED) end
  if self.quarantine then lines[#lines + 1] = "  they are kept in " .. self.quarantine end
  blame("%s", table.concat(lines, "\n"))
end

--- A bad record in one line.
-- @tab entry of `source:bad()`
-- @usage local some = cft.data.list({ {}, { instruction = "2 + 3?", output = "5" } }, { limit_bad = 1 }):check()
-- cft.data.describe(some:bad()[1])   --> "list: record 0: neither 'messages', 'conversations' nor 'instruction' and 'output', 'prompt' and 'completion'; its fields are: none"
function M.describe(entry)
  local place = entry.line and (", line %d, byte %d"):format(entry.line, entry.byte) or ""
  return ("%s: record %d%s: %s"):format(entry.path, entry.record, place, entry.reason)
end

-- ---- sources ---------------------------------------------------------------------------------

--- A source.
-- @tab fields `name`; `n`; `read(i)` → record or nil; `place(i)` → text; `bad_ones` of `new_bad`;
-- `identify(exact)` → a text that names its records, or nil and why they have none; `accept(made)` → what `map` made
-- as a record, or nil and a reason; if there is any, `size_in_bytes`, `notes`, `hash_files()`, `list_files()`
-- @treturn Source
function M.new(fields) return setmetatable(fields, Source) end

--- Is this a source? @param value anything
-- @usage cft.data.is(source), cft.data.is {}   --> true false
function M.is(value) return getmetatable(value) == Source end

--- How many records there are, bad ones included.
-- @usage source:size(), source:bytes(), source:hash(), source:files()   --> 3 0 nil nil
function Source:size() return self.n end

--- How many bytes its records have in their files, about; 0 for records that are no files'.
function Source:bytes() return self.size_in_bytes or 0 end

--- A name for its records, equal for equal ones: of files by their contents, of lists by their records, of views by
-- what they show, of functions (`map`, `fields`) by their text and upvalues, see `cft.base.canonical`.
-- @bool[opt=false] exact no name where a function is in the way: its text does not say what it reads
-- @treturn ?string 32 hexadecimal digits; nil where there is no name; then
-- @treturn ?string why, such as "map is a function that has no name: its upvalue 'cfg' is an object"
-- @usage cft.data.list({ { instruction = "2 + 3?", output = "5" } }):identity()   --> "2e8778c4da3fb035f545f65704473535"
function Source:identity(exact)
  local text, why = self.identify(exact)
  if not text then return nil, why end
  return hash.text(text)
end

--- What its files hold, as 32 hexadecimal digits: equal contents, equal digits. nil for what is no files',
-- and for views.
-- @treturn ?string
function Source:hash() return self.hash_files and self.hash_files() or nil end

--- The files that its records are from, those of a view's parent among them.
-- @treturn ?table a list of `{ path, bytes, hash, records }`; nil for what is no files'
function Source:files() return self.list_files and self.list_files() or nil end

--- One record.
-- @int i from 0
-- @treturn ?table nil and the reason if it is a bad one
-- @usage source:get(0).messages[1].role, source:where(0)   --> "user" "generated: record 0"
function Source:get(i)
  if type(i) ~= "number" or i < 0 or i >= self.n or i % 1 ~= 0 then
    blame("data: record %s of %d in %s", tostring(i), self.n, self.name)
  end
  return self.read(i)
end

--- Where a record comes from, for messages.
-- @int i
-- @treturn string such as `train.jsonl: record 12, line 13`
function Source:where(i) return self.place(i) end

--- The bad records that were met so far: `{ path, record, line, byte, reason }` each.
-- @treturn table a list
function Source:bad() return self.bad_ones end

--- Raise if more bad records were met than `limit_bad` allows.
-- @usage local some = cft.data.list({ {} }, { limit_bad = 1 }):check()
-- some:enforce()  -- no error: one may be bad
-- #some:bad()   --> 1
function Source:enforce() self.bad_ones:enforce() end

--- Go through the good records in order; at the end, or when too many are bad, `enforce`.
-- @return an iterator of i and record
-- @usage for i, record in source:records() do print(i, record.messages[2].content:match "%w+") end   --> 0   Critique 1   Critique 2   Critique
function Source:records()
  local i, bad = -1, self.bad_ones
  return function()
    while true do
      i = i + 1
      if i >= self.n or bad:hopeless() then
        bad:enforce()
        return nil
      end
      local record = self.read(i)
      if record ~= nil then return i, record end
    end
  end
end

--- Read everything once, so that nothing bad is left to find.
-- @treturn Source itself
function Source:check()
  for _ in self:records() do end
  return self
end

-- ---- views -----------------------------------------------------------------------------------

-- A view of another source: its record i is record index(i) there. `shows` says which, as a text.
local function view(parent, n, index, name, shows)
  return M.new {
    name = name or parent.name, n = n, bad_ones = parent.bad_ones, accept = parent.accept,
    size_in_bytes = parent:bytes() * n / math.max(parent.n, 1), notes = parent.notes, list_files = parent.list_files,
    identify = function(exact)
      return canonical.join("%s\n%s", { parent:identity(exact) }, { shows(exact) })
    end,
    read = function(i) return parent.read(index(i)) end,
    place = function(i) return parent.place(index(i)) end,
  }
end

--- The records of these numbers, in this order.
-- @param list integers from 0: a table, or a `cft.data.util.int_array` list, which is kept, not copied
-- @string[opt] name
-- @treturn Source
-- @usage source:select({ 2, 0 }):size(), source:without({ 1 }):size(), source:range(1):size()   --> 2 2 2
function Source:select(list, name)
  if not numbers.is(list) then
    local kept = numbers.new(self.n)
    for k = 1, #list do
      local i = list[k]
      if type(i) ~= "number" or i < 0 or i >= self.n or i % 1 ~= 0 then
        blame("select: record %s of %d in %s", tostring(i), self.n, self.name)
      end
      kept:add(i)
    end
    list = kept
  end
  return view(self, list.n, function(k) return list:at(k) end, name, function()
    return ("select %d %s"):format(list.n, hex(digest(list.data, list.bytes * list.n)))
  end)
end

--- All records but these.
-- @param gone their numbers, in order and each once: a table or a `cft.data.util.int_array` list
-- @treturn Source
function Source:without(gone)
  local kept, k, n = numbers.new(self.n), 0, numbers.is(gone) and gone.n or #gone
  for i = 0, self.n - 1 do
    if k < n and (numbers.is(gone) and gone:at(k) or gone[k + 1]) == i then k = k + 1 else kept:add(i) end
  end
  return self:select(kept)
end

--- `count` records from `first` on.
-- @int first from 0
-- @int[opt] count all that follow if absent
-- @treturn Source
function Source:range(first, count)
  count = count or self.n - first
  if first < 0 or count < 0 or first + count > self.n then
    blame("range: %d records from %d, of %d in %s", count, first, self.n, self.name)
  end
  return view(self, count, function(i) return first + i end, nil,
    function() return ("range %d %d"):format(first, count) end)
end

--- The records for which `keep(record, i)` is true. Reads all of them once.
--
-- One process does it, since `keep` may remember what it saw; with `processes = N` several do, in which it sees but
-- some of the records, and what it changes is lost.
-- @func keep
-- @tab[opt] opts `processes`
-- @treturn Source
-- @usage source:filter(function(record) return record.messages[2].content:find "right" end):size()   --> 2
function Source:filter(keep, opts)
  local o = check.options("filter", opts, { processes = { "integer", 1, min = 1 } })
  local kept = numbers.new(self.n)
  parallel.each(self, {
    processes = o.processes,
    of = function(record, i) return keep(record, i) and "" or nil end,
    take = function(i) kept:add(i) end,
  })
  return self:select(kept)
end

--- Another record for each one, made when it is asked for.
-- @func make gets record and number, returns a record of the same schema
-- @treturn Source
-- @usage local other = source:map(function(record, i) return { instruction = "Problem " .. i, output = "5" } end)
-- other:get(1).messages[1].content   --> "Problem 1"
function Source:map(make)
  local parent = self
  local mapped = view(self, self.n, function(i) return i end, nil,
    function(exact) return canonical.text(make, { what = "map", exact = exact }) end)
  mapped.read = function(i)
    local record, reason = parent.read(i)
    if record == nil then return nil, reason end
    local made, why = make(record, i)
    if made ~= nil then made, why = self.accept(made) end
    if made == nil then blame("map: %s: %s", parent.place(i), why or "nothing came for it") end
    return made
  end
  return mapped
end

-- Groups by the digests of keys: how many there are, and of each record that of its group plus 1, 0 for bad ones.
local function group(self, o)
  local groups, group_of, good = digests.new(), door.zeros("int32_t", self.n), 0
  parallel.each(self, {
    processes = o.processes,
    of = function(record, i)
      local key = o.by(record, i)
      if type(key) ~= "string" and type(key) ~= "number" or key ~= key then
        blame("split: by gave %s for %s; a string or number is wanted", type(key) == "number" and "nan" or "a " .. type(key),
          self.place(i))
      end
      return digest(type(key) == "number" and ("%.17g"):format(key) or key)
    end,
    take = function(i, key) group_of[i], good = groups:add(key) + 1, good + 1 end,
  })
  groups:release()
  return groups.n, group_of, good
end

-- Which groups are held out, as bytes, and how many records these are.
local function draw(self, seed, wanted, groups, group_of)
  local sizes, held, count = door.zeros("int32_t", groups), door.zeros("uint8_t", groups), 0
  for i = 0, self.n - 1 do
    local g = group_of[i] - 1
    if g >= 0 then sizes[g] = sizes[g] + 1 end
  end
  for k = 0, groups - 1 do
    if count == wanted then break end
    local g = order.at(seed, 0, k, groups)
    if count + sizes[g] <= wanted then held[g], count = 1, count + sizes[g] end
  end
  return held, count
end

--- Two sources of one: some records are held out, and nothing of them is left in the other.
-- Records are grouped by a key, by default their prompt, and a group goes to one side whole. Groups
-- are taken in an order drawn by `seed` as long as they fit.
-- @tab opts
-- @number opts.heldout how many records to hold out; below 1 a share of all
-- @func[opt] opts.by record → key (a string or number); runs in other processes where there are many records
-- @int[opt=0] opts.seed
-- @int[opt] opts.processes as `cft.data.parallel` chooses if absent; the result is the same for any number
-- @treturn Source the rest
-- @treturn Source what is held out: at most `heldout` records
-- @usage local train, heldout = source:split { heldout = 1 }
-- train:size(), heldout:size()   --> 2 1
function Source:split(opts)
  local o = check.options("split", opts, {
    heldout = { "number", min = 0 }, by = { "function", conversation.prompt }, seed = { "integer", 0, min = 0 },
    processes = parallel.option,
  })
  local groups, group_of, good = group(self, o)
  local wanted = o.heldout < 1 and math.floor(o.heldout * good + 0.5) or math.floor(o.heldout)
  local held, count = draw(self, o.seed, wanted, groups, group_of)
  if count == good or (wanted > 0 and count == 0) then
    blame("split: %d of %d records in %d groups cannot be held out of %s", wanted, good, groups, self.name)
  end
  local train, heldout = numbers.new(self.n), numbers.new(self.n)
  for i = 0, self.n - 1 do
    local g = group_of[i] - 1
    if g >= 0 then (held[g] == 1 and heldout or train):add(i) end
  end
  return self:select(train), self:select(heldout, self.name .. " (held out)")
end

--- What it is called, and how many records it has.
function Source:__tostring() return ("source %s, %s records"):format(self.name or "without a name", format.count(self.n)) end

function Source:__len() return self.n end

return M
