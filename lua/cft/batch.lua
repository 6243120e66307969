--- Batches: samples in the order of a run, cut into updates and micro-batches.
--
-- An update takes the next `batch` samples of an epoch's order; its micro-batches are packs of at most
-- `tokens` tokens, or rows as they come. How an update is cut changes the loss by rounding alone. What an
-- update holds is a function of (seed, epoch, index), so the position of a run is two integers.
-- @module cft.batch
-- @usage local batches = batch.new(samples, { batch = 512, tokens = 8192, seed = 42 })
-- for index = 0, batches:updates() - 1 do
--   local micros, weight = batches:update(0, index)
--   for _, micro in ipairs(micros) do print(micro.batch.n, micro.batch.m, micro.names[1]) end
-- end

local door = require "cft.ffi"
local blame = require "cft.blame"
local check = require "cft.check"
local mask = require "cft.mask"
local ffi, C = door.ffi, door.C

local M = {}
local Batches = {}
Batches.__index = Batches

-- ---- order -----------------------------------------------------------------------------------

-- The number of the sample at a place of an epoch.
local function sample_at(self, epoch, place)
  if self.samples.parts then return self.samples:at(self.seed, epoch, place) end
  if not self.shuffle then return place end
  return tonumber(C.cft_order_at(self.seed, epoch, place, self.n))
end

-- Samples, or those of a mixture: what holds sample k, and its number there.
local function holder(self, k)
  if self.samples.parts then return self.samples:locate(k) end
  return self.samples, k
end

local function length_of(self, k)
  local samples, i = holder(self, k)
  return tonumber(samples.lengths[i])
end

-- ---- which together --------------------------------------------------------------------------

local function pack(self, numbers)
  local n = #numbers
  local lengths, packs = ffi.new("int64_t[?]", n), ffi.new("int64_t[?]", n)
  local count = ffi.new "int64_t[1]"
  for i, k in ipairs(numbers) do lengths[i - 1] = length_of(self, k) end
  door.check(C.cft_pack_plan(packs, count, lengths, n, self.tokens))
  local plan = {}
  for p = 1, tonumber(count[0]) do plan[p] = {} end
  for i = 1, n do table.insert(plan[tonumber(packs[i - 1]) + 1], i) end
  return plan
end

local function rows_as_they_come(self, n)
  local plan = {}
  for i = 1, n do
    local m = math.floor((i - 1) / self.rows) + 1
    plan[m] = plan[m] or {}
    table.insert(plan[m], i)
  end
  return plan
end

--- Which samples an update has, and how they are put together.
-- @int epoch from 0
-- @int index 0 to updates() - 1
-- @treturn table numbers of samples in the order of the run
-- @treturn table a list of micro-batches, each a list of positions (from 1) in the first
function Batches:plan(epoch, index)
  if type(index) ~= "number" or index < 0 or index >= self.count or index % 1 ~= 0 then
    blame("batches: update %s of %d", tostring(index), self.count)
  end
  local numbers = {}
  for place = index * self.batch, math.min((index + 1) * self.batch, self.n) - 1 do
    numbers[#numbers + 1] = sample_at(self, epoch, place)
  end
  return numbers, self.packing and pack(self, numbers) or rows_as_they_come(self, #numbers)
end

-- ---- what the loss is divided by -------------------------------------------------------------

-- Each normalisation is a mean over groups of samples; a group's samples are scaled so that the sum
-- of all weights stays what it is, and `sum(w * nll) / sum(w)` is the wanted mean for any packing.
--   rank_mean   a group is what one rank sees in an update: micro-batches in turn, `rows` samples each
--   micro_mean  a group is one micro-batch of `rows` samples
local function group_of(self, position)
  local micro = math.floor((position - 1) / self.rows)
  return self.norm == "rank_mean" and micro % self.ranks or micro
end

local function scales_of(self, weights)
  local scales, sums, total, groups = {}, {}, 0, 0
  if self.norm == "tokens" then
    for i = 1, #weights do scales[i] = 1 end
    return scales
  end
  for i, w in ipairs(weights) do
    local g = group_of(self, i)
    sums[g] = (sums[g] or 0) + w
    total = total + w
  end
  for _, sum in pairs(sums) do
    if sum > 0 then groups = groups + 1 end  -- a group without learned tokens has no mean
  end
  for i = 1, #weights do
    local sum = sums[group_of(self, i)]
    scales[i] = sum > 0 and total / (groups * sum) or 0
  end
  return scales
end

-- ---- arrays ----------------------------------------------------------------------------------

local function lay(items)
  local n = #items
  local samples = ffi.new("cft_batch_sample[?]", n)
  local numbers, verdicts = {}, {}
  for i, item in ipairs(items) do
    local s = samples[i - 1]
    s.ids, s.n, s.spans, s.span_count = item.sample.ids, item.sample.n, item.spans, item.sample.span_count
    s.scale = item.scale
    numbers[i], verdicts[i] = item.number, item.sample.verdict
  end
  local bytes = ffi.new "size_t[1]"
  door.check(C.cft_batch_bytes(bytes, samples, n))
  local made = ffi.new("cft_batch", bytes[0])
  C.cft_batch_lay(made, samples, n)
  -- Names are for messages, and finding a line number reads the file: only when asked for.
  local names = setmetatable({}, { __index = function(_, i)
    local item = items[i]
    return item and item.samples.source:where(item.sample.record)
  end })
  return { batch = made, samples = numbers, names = names, verdicts = verdicts }
end

local function make(self, epoch, index)
  local numbers, plan = self:plan(epoch, index)
  local step = epoch * self.count + index
  local items, weights = {}, {}
  for i, k in ipairs(numbers) do
    local samples, at = holder(self, k)
    local sample = samples:get(at)
    local spans = mask.spans_at(sample, function() return samples:record(at) end, step)
    weights[i] = samples.dynamic and mask.weight_of(spans, sample.span_count) or samples.weights[at]
    items[i] = { sample = sample, samples = samples, spans = spans, number = k }
  end
  for i, scale in ipairs(scales_of(self, weights)) do items[i].scale = scale end
  local micros, weight = {}, 0
  for m, positions in ipairs(plan) do
    local chosen = {}
    for j, i in ipairs(positions) do chosen[j] = items[i] end
    micros[m] = lay(chosen)
    weight = weight + micros[m].batch.weight
  end
  return micros, weight
end

--- The micro-batches of an update.
-- @int epoch from 0
-- @int index 0 to updates() - 1
-- @treturn table a list of `{ batch =, samples =, names =, verdicts = }`: `batch` is the cft_batch
-- (runtime/cft_batch.h), the others have an entry for each of its sequences: the number for
-- `samples:get`, where the record came from, and its verdict (true, false or nil)
-- @treturn number the sum of all weights: what the update's summed loss is to be divided by
function Batches:update(epoch, index)
  local ahead = self.ahead
  self.ahead = nil
  if ahead and ahead.epoch == epoch and ahead.index == index then return ahead.micros, ahead.weight end
  return make(self, epoch, index)
end

--- Make an update now that will be asked for next, while a device is busy with another.
-- @int epoch
-- @int index
function Batches:prefetch(epoch, index)
  local micros, weight = make(self, epoch, index)
  self.ahead = { epoch = epoch, index = index, micros = micros, weight = weight }
end

--- How many updates an epoch has.
-- @treturn int
function Batches:updates() return self.count end

--- How many samples an epoch has; with `drop_last` those of whole updates.
-- @treturn int
function Batches:size() return self.drop_last and self.count * self.batch or self.n end

--- How full the packs of an update are: tokens over `tokens` times packs.
-- @int epoch
-- @int index
-- @treturn number 0 to 1
function Batches:fill(epoch, index)
  local numbers, plan = self:plan(epoch, index)
  local tokens = 0
  for _, k in ipairs(numbers) do tokens = tokens + length_of(self, k) end
  return tokens / (self.tokens * #plan)
end

local function check_samples(samples)
  for _, part in ipairs(samples.parts or { { source = samples } }) do
    if not mask.is(part.source) then blame "batch.new: samples of cft.mask are wanted, or a mixture of them" end
  end
end

local function check_lengths(self)
  local parts = self.samples.parts or { { source = self.samples } }
  for _, part in ipairs(parts) do
    local samples = part.source
    for k = 0, samples:size() - 1 do
      if samples.lengths[k] > self.tokens then
        blame("batch.new: %s has %d tokens, but a pack holds tokens = %d; give mask.samples max_tokens = %d",
          samples:where(k), tonumber(samples.lengths[k]), self.tokens, self.tokens)
      end
    end
  end
end

--- Batches of samples.
-- @param samples of `cft.mask`, or a mixture of them
-- @tab opts
-- @int opts.batch samples in an update
-- @int opts.tokens the most tokens of a micro-batch
-- @int[opt=0] opts.seed of the order
-- @bool[opt=true] opts.shuffle false takes samples as they come; a mixture is always shuffled
-- @bool[opt=false] opts.drop_last leave out an epoch's last samples where they fill no update
-- @bool[opt=true] opts.packing false makes micro-batches of `rows` samples, as the paper's trainer did
-- @int[opt=8] opts.rows samples of a micro-batch without packing; and of a group of `norm`
-- @string[opt="tokens"] opts.norm what the loss is a mean of: `tokens`, all learned tokens of the
-- update; `rank_mean`, means over the tokens of each rank (transformers 4.46); `micro_mean`, means
-- over the tokens of each micro-batch (before 4.46). `rows` and `ranks` say whose run is meant, not how
-- this one is cut.
-- @int[opt=8] opts.ranks of `rank_mean`
-- @treturn Batches
function M.new(samples, opts)
  check.value("batch.new", "samples", samples, { "table" })
  check_samples(samples)
  local o = check.options("batch.new", opts, {
    batch = { "integer", min = 1 }, tokens = { "integer", min = 1 }, seed = { "integer", 0, min = 0 },
    shuffle = { "boolean", true }, drop_last = { "boolean", false }, packing = { "boolean", true },
    rows = { "integer", 8, min = 1 }, ranks = { "integer", 8, min = 1 },
    norm = { "string", "tokens", one_of = { "tokens", "rank_mean", "micro_mean" } },
  })
  local self = setmetatable(o, Batches)
  self.samples = samples
  self.n = samples.parts and samples:places() or samples:size()
  self.count = o.drop_last and math.floor(self.n / o.batch) or math.ceil(self.n / o.batch)
  if self.count == 0 then
    blame("batch.new: %d samples fill no update of batch = %d", self.n, o.batch)
  end
  if o.packing then check_lengths(self) end
  return self
end

return M
