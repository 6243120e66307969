--- Samples of a source that nobody has gone through: training starts at once, each record is looked at
-- before it is trained on, and the counts come when a scan beside the training is done.
--
-- The order is over all records, since where each begins is known when the source is open: the record at
-- a place is a function of (seed, epoch, place). A record that cannot be trained on (bad, too long, with
-- a mask of zeros or ones, ...) is said by name, and what takes its place is drawn by the same function
-- under a seed of its own; so a place stays a function of these three, and an update keeps its size. The
-- substitute has a place of its own besides: for each record that is left out, another one comes twice in
-- the epoch. To leave none out and take none twice needs the scan. What a recipe calls an error is one:
-- nothing of the update was trained on.
-- @module cft.samples.lazy

local blame = require "cft.base.blame"
local data = require "cft.data.open"
local door = require "cft.engine.ffi"
local host = require "cft.host"
local json = require "cft.base.json"
local scan = require "cft.samples.index"
local parallel = require "cft.data.parallel"
local C = door.C

local M = {}

local DRAWS = 100            -- records that are tried for a place
local STRIDE = 1000003       -- between the seeds of these draws
local KEPT_BYTES = 16 * 1024 * 1024  -- of samples looked at and not yet trained on
local LOOK_EVERY = 0.5       -- seconds between looks at the scan

-- ---- one record ------------------------------------------------------------------------------

-- What to do about it is in a recipe: an error, or leaving it out.
local says = {
  no_learned = "has no learned token", all_learned = "has nothing but learned tokens",
  double_bos = "begins with two begin-of-text tokens",
}

-- Odd, and trained on all the same: the first is said.
local odd = {
  cut = "was cut", no_end = "does not end in a learned end token",
  no_prefix = "does not begin with what its prompt alone is encoded as, which is what a server sends",
  with_specials = "holds strings of special tokens",
}

-- The sample of record k; nil and why it is left out.
local function look(self, k)
  local source = self.source
  local record, reason = source:get(k)
  if record == nil then
    source:enforce()
    return nil, "is a bad one: " .. reason
  end
  local report = self.hooks.new_report()
  local sample = self.hooks.book(self, report, k, record)
  for name, says_so in pairs(odd) do
    if report[name].n > 0 and not self.told[name] then
      self.told[name] = true
      self.say(("  %s %s%s; others like it are counted by the scan"):format(source:where(k), says_so,
        sample and "" or ", and is left out"))
    end
  end
  if not sample then
    for name, what in pairs(says) do
      if report[name].n > 0 then
        if self.o[name] == "error" then
          blame("%s %s (template %s); %s = \"drop\" leaves it out, \"keep\" takes it", source:where(k), what,
            self.chat.name, name)
        end
        return nil, what
      end
    end
    if report.unsayable.n > 0 then
      blame("%s cannot become a sample: %s", source:where(k), report.unsayable[1].reason)
    end
    return nil, "has " .. report.dropped[1].reason
  end
  local why = self.o.also and self.o.also(record, source:where(k))
  if why then return nil, why end
  sample.record, sample.segments = k, nil
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
    local counted = self.hooks.afresh(self)
    counted.o.say = function() end
    local at = 0
    scan.samples(counted, self.hooks, {
      processes = math.max(1, parallel.cores() - 1),
      progress = function(done)
        if host.now() - at > 1 then
          send(json.encode { done = done })
          at = host.now()
        end
      end,
    })
    send(json.encode { text = counted:describe() })
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
      if message then
        self.say("the scan is done:\n" .. message.text)
      elseif why then
        self.say("the scan stopped: " .. why)
      end
      self.scanner:stop()
      self.scanner = nil
      return true
    end
  end
  return false
end

-- ---- samples -----------------------------------------------------------------------------------

--- Make a stream of samples that are being made. Called by `cft.samples.new` with `stream`.
-- @tparam Samples self @tab hooks @tab Samples the class
function M.new(self, hooks, Samples)
  local Stream = setmetatable({ are_samples = true, stream = true }, { __index = Samples })
  Stream.__index = Stream

  --- Is record k one to train on? Looks at it.
  function Stream:good(k) return entry_of(self, k).sample ~= nil end

  --- The record at a place of an epoch: a function of these, and of what is left out.
  -- @int seed @int epoch @int place @bool shuffle
  function Stream:draw(seed, epoch, place, shuffle)
    self:poll()
    local first
    for draw = 0, DRAWS - 1 do
      local k = place
      if shuffle or draw > 0 then k = tonumber(C.cft_order_at(seed + draw * STRIDE, epoch, place, self.n)) end
      if self:good(k) then return k end
      first = first or k
    end
    blame("%s: %d records were drawn for place %d of epoch %d, and none can be trained on; the first, %s, %s",
      self.name, DRAWS, place, epoch, self.source:where(first), entry_of(self, first).why)
  end

  function Stream:get(k)
    if type(k) ~= "number" or k < 0 or k >= self.n or k % 1 ~= 0 then
      blame("samples: %s of %d in %s", tostring(k), self.n, self.name)
    end
    local entry = entry_of(self, k)
    return entry.sample or blame("%s %s", self.source:where(k), entry.why)
  end

  --- Hear what the scan beside the training has found; said when it is over.
  function Stream:poll()
    local now = host.now()
    if self.scanner and now - self.listened > LOOK_EVERY then
      self.listened = now
      listen(self)
    end
  end

  --- Wait for the scan to end, or end it.
  -- @bool[opt=false] wait
  function Stream:close(wait)
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

  function Stream:describe()
    return ("%s: a stream of %d records, %.2f GB; each is checked before it is trained on\n  %s\n  %s"):format(
      self.name, self.n, self.source:bytes() / 1e9, self.chat:describe(self.tok),
      self.scanner and "a scan in another process counts them meanwhile" or "no scan is needed for the counts")
  end

  setmetatable(self, Stream)
  self.hooks, self.n, self.say = hooks, self.source:size(), self.o.say or print
  self.young, self.old, self.young_bytes, self.told, self.left_out = {}, {}, 0, {}, {}
  self.numbers = setmetatable({}, { __index = function(_, k) return k end })
  self.lengths = setmetatable({}, { __index = function(_, k) return self:get(k).n end })
  self.weights = setmetatable({}, { __index = function(_, k)
    local sample = self:get(k)
    return hooks.weight_of(sample.spans, sample.span_count)
  end })
  self.listened = host.now()
  scan_beside(self)
  return self
end

return M
