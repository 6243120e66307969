--- Samples: what the records of a source become, once each, before anything is trained.
--
-- A sample is a record's ids with their weights (`cft.samples.mask`, `cft.samples.build`). Whoever trains asks for a
-- few things only, of these samples, of a stream (`cft.samples.lazy`) or of a mixture of samples (`cft.data.mix`):
-- `places` of an epoch and which number stands `at` one; `locate`, whose that number is; `length`, `get`, `record` and
-- `where`.
-- @module cft.samples
-- @usage local all = cft.samples.new(source, chat, tok, { max_tokens = 2048 })
-- print(all:describe())
-- local s = all:get(0)
-- s.n, s.ids[0], s.spans[0].weight   --> 134 312 0

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local builder = require "cft.samples.build"
local check = require "cft.base.check"
local data = require "cft.data.open"
local index = require "cft.samples.index"
local lazy = require "cft.samples.lazy"
local listed = require "cft.data.util.sampled_list"
local mask = require "cft.samples.mask"
local order = require "cft.data.util.order"
local reports = require "cft.samples.report"

local M = {}

local Samples = {}
Samples.__index = Samples

-- ---- going through a source ------------------------------------------------------------------

-- In this process, nothing kept: the same as `index.scan` gives, and some of the samples themselves.
local function go_through(source, build, o)
  local found, room, n, bytes = { report = reports.new(), notes = {}, samples = {} }, 0, 0, 0
  local function make_room(rows)
    room = rows
    found.numbers = door.resized(found.numbers, "int64_t", rows)
    found.lengths = door.resized(found.lengths, "int64_t", rows)
    found.weights = door.resized(found.weights, "double", rows)
  end
  make_room(1024)
  for i, record in source:records() do
    local sample, why, class, unwanted = build:sample(record)
    reports.enter(found.report, i, sample, why, class, unwanted)
    if sample then
      if n == room then make_room(2 * room) end
      found.numbers[n], found.lengths[n] = i, sample.n
      found.weights[n] = mask.weight_of(sample.spans, sample.span_count)
      local more = 4 * sample.n + 16 * sample.span_count + 300
      if bytes + more <= o.cache_bytes then
        found.samples[n], bytes = sample, bytes + more
      end
      n = n + 1
    end
    if o.progress then o.progress(i + 1, source:size()) end
  end
  found.n = n
  return found
end

-- What the recipe did not allow is an error that names the records.
local function refuse(self)
  local report = self.report
  for _, refusal in ipairs(builder.refusals) do
    local name, _, says = unpack(refusal)
    local found = report[name]
    if found.n > 0 and self.build.o[name] == "error" then
      blame("%s: %d of %d samples %s (template %s): records %s; %s = \"drop\" leaves them out, \"keep\" takes them",
        self.name, found.n, report.records, says, self.chat.name, listed.names(found), name)
    end
  end
  if report.unsayable.n > 0 then
    local first = report.unsayable[1]
    blame("%s: %d records cannot become samples: record %d: %s", self.name,
      report.unsayable.n, first.record, first.reason)
  end
  if self.n == 0 then
    local why, bad = report.dropped[1], report.bad
    blame("%s: none of %d records is left%s%s", self.name, report.records + #bad,
      why and (": record %d has %s"):format(why.record, why.reason) or "",
      bad[1] and ("%s %d are bad; the first is %s"):format(why and ";" or ":", #bad, data.describe(bad[1])) or "")
  end
end

local samples_options = {
  add_tokens = { "boolean", false },
  cache = { "string", optional = true },
  cache_bytes = { "integer", 64 * 1024 * 1024, min = 0 },
  progress = { "function", optional = true },
  large = { "integer", data.LARGE, min = 0 },
  stream = { "boolean", false },
  say = { "function", optional = true },
  also = { "function", optional = true },
}
for name, spec in pairs(builder.options) do samples_options[name] = spec end

--- The samples of a source: all of its records are encoded once, and what is odd is reported before
-- anything is trained. Record numbers, lengths and weights stay in memory, and ids up to
-- `cache_bytes`; others are made again when they are asked for.
-- @param source of `cft.data`, or a mixture of `cft.mix`: then the mixture of their samples
-- @tparam Template chat
-- @param tok
-- @tab[opt] opts
-- @int[opt] opts.max_tokens longer samples are dropped or cut; without it there is no limit
-- @string[opt] opts.limit what `max_tokens` is, for messages, where it is not the recipe's own
-- @string[opt="drop"] opts.length `drop`; `cut_context`, which cuts text of the record that is not
-- loss weight; `llamafactory`, which cuts as the paper's trainer did, ends of answers included
-- @string[opt="right"] opts.cut_side with `cut_context`: from the left, or from the right
-- @tab[opt] opts.cut_kinds with `cut_context`: which kinds, such as `{ "response" }`; all but the system
-- text if absent
-- @string[opt="error"] opts.no_learned samples without a loss token: `error`, `drop` or `keep`
-- @string[opt="error"] opts.all_learned samples with nothing but loss tokens
-- @string[opt="error"] opts.double_bos samples that begin with two begin-of-text tokens
-- @bool[opt=false] opts.add_tokens add the template's tokens that the tokenizer lacks
-- @string[opt] opts.cache the folder for what is kept of scans; that of `cft.data.cache_folder` if absent
-- @int[opt=64 MiB] opts.cache_bytes of ids that are kept in memory
-- @func[opt] opts.progress called with records done and all, once a record or more
-- @int[opt=64 MiB] opts.large sources of files from so many bytes on are scanned in all processors, and
-- what is found is kept: see `cft.samples.index`
-- @bool[opt=false] opts.stream do not scan: each record is checked before it is trained on, see `cft.samples.lazy`
-- @func[opt] opts.say gets what is to be said meanwhile, a line each
-- @func[opt] opts.also with `stream`: gets a record and where it is from; a text from it is why it is left out
-- @treturn Samples
function M.new(source, chat, tok, opts)
  if source.parts then  -- a mixture
    return source:map(function(part) return M.new(part, chat, tok, opts) end)
  end
  local o = check.options("samples.new", opts, samples_options)
  local added = chat:prepare(tok, { add_tokens = o.add_tokens })
  local build = builder.new(chat, tok, o)
  if o.stream then return lazy.new(source, build, o, added) end
  local found = (source:bytes() >= o.large and index.scan or go_through)(source, build, o)
  found.report.added, found.report.bad = added, source:bad()
  local self = setmetatable({ source = source, name = source.name, chat = chat, tok = tok, build = build, n = found.n,
    found = found, report = found.report }, Samples)
  refuse(self)
  return self
end

-- ---- samples ---------------------------------------------------------------------------------

--- How many samples there are.
-- @usage samples:size(), samples:length(0), samples:weight(0), samples:number(0), samples:where(0)   --> 3 134 35 0 "generated: record 0"
function Samples:size() return self.n end

--- How many tokens one has.
-- @int k from 0
function Samples:length(k) return tonumber(self.found.lengths[k]) end

--- The sum of its weights, 0 in place of those that are functions.
-- @int k from 0
-- @treturn number
function Samples:weight(k) return self.found.weights[k] end

--- The number of its record in the source.
-- @int k from 0
function Samples:number(k) return tonumber(self.found.numbers[k]) end

--- One sample.
-- @int k from 0
-- @treturn table as `mask.encode` gives it, with `record`, its number in the source
function Samples:get(k)
  if type(k) ~= "number" or k < 0 or k >= self.n or k % 1 ~= 0 then
    blame("samples: %s of %d in %s", tostring(k), self.n, self.name)
  end
  local i, sample = self:number(k), self.found.samples and self.found.samples[k]
  if not sample then
    local record, why = self.source:get(i)
    if record ~= nil then sample, why = self.build:again(record) end
    if not sample or sample.n ~= self:length(k) then
      blame("%s is not what it was when it was scanned%s", self.source:where(i), why and ": " .. why or "")
    end
  end
  sample.record = i
  return sample
end

--- The record that a sample was made of.
-- @int k from 0
-- @treturn table
-- @usage samples:record(1).messages[1].role   --> "user"
function Samples:record(k) return self.source:get(self:number(k)) end

--- Where it comes from, for messages.
-- @int k from 0
function Samples:where(k) return self.source:where(self:number(k)) end

--- A sample as the model sees it, for looking at: its spans with their text.
-- @function Samples:show
-- @int k from 0
-- @int[opt=0] step for weights that are functions
-- @treturn table a list of `{ text =, weight =, kind =, ids = }`; texts are decoded ids, and a character
-- that lies on the edge of two spans is cut
Samples.show = builder.show

--- How many places an epoch has.
-- @usage samples:places(), samples:at(1, 0, 0, true), samples:at(1, 0, 0, false)   --> 3 2 0
function Samples:places() return self.n end

--- The number of the sample at a place.
-- @int seed @int epoch @int place @bool shuffle
function Samples:at(seed, epoch, place, shuffle)
  return shuffle and order.at(seed, epoch, place, self.n) or place
end

--- Whose a number is, and which it is there: these samples', unlike a mixture's.
-- @int k
-- @treturn Samples
-- @treturn int
-- @usage select(2, samples:locate(2)), samples:misfit(100)   --> 2 "generated: record 0 has 134 tokens, but a pack holds tokens = 100; give samples.new max_tokens = 100"
function Samples:locate(k) return self, k end

--- Why packs of so many tokens cannot hold every sample; nil where they can.
-- @int tokens
-- @treturn ?string
function Samples:misfit(tokens)
  if self.report.longest <= tokens then return nil end
  for k = 0, self.n - 1 do
    if self:length(k) > tokens then
      return ("%s has %d tokens, but a pack holds tokens = %d; give samples.new max_tokens = %d"):format(self:where(k),
        self:length(k), tokens, tokens)
    end
  end
end

--- What the scan found, a line each: counts first, then all that was left out, cut or found odd.
function Samples:describe()
  return reports.describe(self.report, { name = self.name, build = self.build, notes = self.found.notes })
end

--- What `describe` says.
function Samples:__tostring() return self:describe() end

function Samples:__len() return self.n end

return M
