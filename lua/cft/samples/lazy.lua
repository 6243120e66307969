--- Samples of a source that nobody has gone through: training starts at once, each record is looked at
-- before it is trained on, and the counts come when a scan beside the training is done.
--
-- The order is over all records, since where each begins is known when the source is open: the record at
-- a place is a function of (seed, epoch, place). A record that cannot be trained on (bad, too long, with
-- a mask of zeros or ones, ...) is said by name, and what takes its place is drawn by the same function
-- under a seed of its own; so a place stays a function of these three, and an optimizer step keeps its size. The
-- substitute has a place of its own besides: for each record that is left out, another one comes twice in
-- the epoch. To leave none out and take none twice needs the scan. What a recipe calls an error is one:
-- nothing of the step was trained on.
-- @module cft.samples.lazy

local blame = require "cft.base.blame"
local builder = require "cft.samples.build"
local host = require "cft.host"
local index = require "cft.samples.index"
local json = require "cft.base.json"
local mask = require "cft.samples.mask"
local order = require "cft.data.util.order"
local parallel = require "cft.data.parallel"
local reports = require "cft.samples.report"

local M = {}
local Lazy = { stream = true }
Lazy.__index = Lazy

local DRAWS = 100            -- records that are tried for a place
local STRIDE = 1000003       -- between the seeds of these draws
local KEPT_BYTES = 16 * 1024 * 1024  -- of samples looked at and not yet trained on
local LOOK_EVERY = 0.5       -- seconds between looks at the scan

-- ---- one record ------------------------------------------------------------------------------

-- Odd, and trained on all the same: the first is said.
local odd = {
  { "was cut", function(s) return s.cut > 0 end },
  { "does not end in an end token with loss weight", function(s) return not s.ends end },
  { "does not begin with what its prompt alone is encoded as, which is what a server sends",
    function(s) return not s.prefix end },
  { "is written with the model's own chat template, for what the run's has no words for", function(s) return s.own ~= nil end },
  { "holds strings of special tokens", function(s) return s.specials ~= nil end },
}

-- Fields that nothing reads: each is said once.
local function tell_unused(self, k, unused)
  local names = {}
  for name in pairs(unused or {}) do
    if not self.told[name] then names[#names + 1] = name end
    self.told[name] = true
  end
  table.sort(names)
  if #names == 0 then return end
  self.say(("  %s has fields that are not used: %s; the scan counts them"):format(self.source:where(k),
    table.concat(names, ", ")))
end

-- The sample of record k; nil and why it is left out.
local function look(self, k)
  local source = self.source
  local record, reason = source:get(k)
  if record == nil then
    source:enforce()
    return nil, "is a bad one: " .. reason
  end
  local sample, why, class, unwanted = self.build:sample(record)
  if sample or unwanted then
    tell_unused(self, k, (sample or unwanted).unused)
    for n, row in ipairs(odd) do
      if not self.told[n] and row[2](sample or unwanted) then
        self.told[n] = true
        self.say(("  %s %s%s; others like it are counted by the scan"):format(source:where(k), row[1],
          sample and "" or ", and is left out"))
      end
    end
  end
  if unwanted then
    if self.build.o[class] == "error" then
      blame("%s %s (template %s); %s = \"drop\" leaves it out, \"keep\" takes it", source:where(k), why,
        self.chat.name, class)
    end
    return nil, why
  elseif class == "unsayable" then
    blame("%s cannot become a sample: %s", source:where(k), why)
  elseif not sample then
    return nil, "has " .. why
  end
  local refused = self.also and self.also(record, source:where(k))
  if refused then return nil, refused end
  sample.record = k
  return sample
end

-- Samples that were looked at are asked for again, by their length, their weight and at last by
-- themselves: the newest stay, in two generations.
local function keep(self, k, entry)
  local bytes = entry.sample and 4 * entry.sample.n + 500 or 100
  if self.young_bytes + bytes > KEPT_BYTES / 2 then
    self.old, self.young, self.young_bytes = self.young, {}, 0
  end
  self.young[k], self.young_bytes = entry, self.young_bytes + bytes
  return entry
end

local function entry_of(self, k)
  local entry = self.young[k] or self.old[k]
  if entry then return entry end
  local sample, why = look(self, k)
  if not sample and not self.left_out[k] then
    self.left_out[k] = true
    self.say(("  left out: %s %s"):format(self.source:where(k), why))
  end
  return keep(self, k, { sample = sample, why = why })
end

-- ---- the scan beside it ------------------------------------------------------------------------

-- In another process, behind whatever else runs here; its result is kept as any scan's is.
local function scan_beside(self)
  self.scanner = parallel.start(function(send)
    local at = 0
    local found = index.scan(self.source, self.build, {
      cache = self.cache, processes = math.max(1, parallel.cores() - 1),
      progress = function(done)
        if host.now() - at > 1 then
          send(json.encode { done = done })
          at = host.now()
        end
      end,
    })
    found.report.added, found.report.bad = self.report.added, self.source:bad()
    local text = reports.describe(found.report, { name = self.name, build = self.build, notes = found.notes })
    send(json.encode { text = text })
  end, true)
end

-- What the scan has to say. @treturn bool is it over?
local function listen(self, wait)
  while self.scanner:ready(wait or 0) do
    local text, why = self.scanner:read()
    local message = text and json.decode(text)
    if message and message.done then
      self.scan_done = message.done
    else
      local says = message and "the scan is done:\n" .. message.text or why and "the scan stopped: " .. why
      if says then self.say(says) end
      self.scanner:stop()
      self.scanner = nil
      return true
    end
  end
  return false
end

-- ---- samples -----------------------------------------------------------------------------------

--- Is record k one to train on? Looks at it.
function Lazy:good(k) return entry_of(self, k).sample ~= nil end

--- The record at a place of an epoch: a function of these, and of what is left out.
-- @int seed @int epoch @int place @bool shuffle
function Lazy:at(seed, epoch, place, shuffle)
  self:poll()
  local first
  for draw = 0, DRAWS - 1 do
    local k = place
    if shuffle or draw > 0 then k = order.at(seed + draw * STRIDE, epoch, place, self.n) end
    if self:good(k) then return k end
    first = first or k
  end
  blame("%s: %d records were drawn for place %d of epoch %d, and none can be trained on; the first, %s, %s",
    self.name, DRAWS, place, epoch, self.source:where(first), entry_of(self, first).why)
end

function Lazy:size() return self.n end
function Lazy:places() return self.n end
function Lazy:locate(k) return self, k end
function Lazy:record(k) return self.source:get(k) end
function Lazy:where(k) return self.source:where(k) end
function Lazy:length(k) return self:get(k).n end
Lazy.show = builder.show

function Lazy:weight(k)
  local sample = self:get(k)
  return mask.weight_of(sample.spans, sample.span_count)
end

function Lazy:get(k)
  if type(k) ~= "number" or k < 0 or k >= self.n or k % 1 ~= 0 then
    blame("samples: %s of %d in %s", tostring(k), self.n, self.name)
  end
  local entry = entry_of(self, k)
  return entry.sample or blame("%s %s", self.source:where(k), entry.why)
end

--- Each is looked at when its turn comes, and longer ones are left out, if there is a limit.
function Lazy:misfit(tokens)
  local most = self.build.o.max_tokens
  if most and most <= tokens then return nil end
  return ("a pack holds tokens = %d; a stream wants max_tokens of as many or fewer, got %s"):format(tokens,
    tostring(most))
end

--- Hear what the scan beside the training has found; said when it is over.
function Lazy:poll()
  local now = host.now()
  if self.scanner and now - self.listened > LOOK_EVERY then
    self.listened = now
    listen(self)
  end
end

--- Wait for the scan to end, or end it.
-- @bool[opt=false] wait
function Lazy:close(wait)
  while self.scanner do
    if listen(self, wait and 1000 or 0) then return end
    if not wait then
      self.say(("the scan had %d of %d records when training ended; the next one goes on there"):format(
        self.scan_done or 0, self.n))
      self.scanner:stop()
      self.scanner = nil
    end
  end
end

function Lazy:describe()
  return ("%s: a stream of %d records, %.2f GB; each is checked before it is trained on\n  %s\n  %s"):format(
    self.name, self.n, self.source:bytes() / 1e9, self.chat:describe(self.tok),
    self.scanner and "a scan in another process counts them meanwhile" or "no scan is needed for the counts")
end

--- A stream of samples. `cft.samples.new` makes one with `stream`.
-- @param source of `cft.data`
-- @param build of `cft.samples.build`
-- @tab o `say`, `also` and `cache` of `cft.samples.new`
-- @tab added tokens that the template added
-- @treturn Lazy
function M.new(source, build, o, added)
  local report = reports.new()
  report.added, report.bad = added, source:bad()
  local self = setmetatable({ source = source, name = source.name, chat = build.chat, tok = build.tok, build = build,
    report = report, cache = o.cache, also = o.also, say = o.say or print, n = source:size(), young = {}, old = {},
    young_bytes = 0, told = {}, left_out = {}, listened = host.now() }, Lazy)
  scan_beside(self)
  return self
end

return M
