--- Batches: samples in the order of a run, cut into optimizer steps and micro-batches.
--
-- An optimizer step takes the next `batch` samples of an epoch's order; its micro-batches are packs of at most
-- `tokens` tokens, or rows as they come. Samples of a pack that begin with the same context (several
-- critiques of one response) have it computed once. How a step is cut and what is shared change the
-- loss by rounding alone. What a step holds is a function of (seed, epoch, index), so the position
-- of a run is two integers.
-- @module cft.samples.batch
-- @usage local batches = cft.batch.new(samples, { batch = 2, tokens = 512, seed = 42 })
-- for index = 0, batches:updates() - 1 do
--   local micros, weight = batches:update(0, index)
--   print(#micros, weight, micros[1].batch.n, micros[1].names[1])
-- end
-- --> 1   58   256LL   generated: record 2 1   35   134LL   generated: record 1

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local format = require "cft.base.format"
local hash = require "cft.io.hash"
local mask = require "cft.samples.mask"
local orders = require "cft.samples.order"
local ffi, C = door.ffi, door.C

local M = {}
local Batches = {}
Batches.__index = Batches

-- ---- contexts --------------------------------------------------------------------------------

-- How many of a sample's first tokens can be computed once for all that begin with them: those before
-- the one that predicts its first loss token. A weight that is a function counts as weight where
-- `learn` is given, else the spans have what it gave.
local function context_of(sample, spans, learn)
  local tokens = 0
  for i = 0, sample.span_count - 1 do
    if spans[i].weight ~= 0 or learn and learn[i] then break end
    tokens = tokens + tonumber(spans[i].count)
  end
  return math.max(tokens - 1, 0)
end

-- Equal for samples with equal contexts. Two others have the same by a chance of 2^-64: then C, which
-- compares the ids, shares nothing between them.
local function key_of(sample, tokens)
  return ("%d %s"):format(tokens, tostring(C.cft_batch_hash(sample.ids, tokens)))
end

-- ---- order -----------------------------------------------------------------------------------

-- What a sample is grouped by; nil: it stands alone.
local function group_key(self, k)
  local by = self.group_by
  if by == "prefix" then
    local sample = self.samples:get(k)
    local tokens = context_of(sample, sample.spans, sample.learn)
    return tokens > 0 and key_of(sample, tokens) or nil
  end
  local key = by(self.samples:record(k))
  local kind = type(key)
  if kind ~= "string" and kind ~= "number" and kind ~= "nil" or key ~= key then
    blame("group_by: gave %s for %s; a string, a number or nil is wanted", tostring(key), self.samples:where(k))
  end
  return key
end

-- The number of the sample at a place of an epoch.
local function sample_at(self, epoch, place)
  if self.order then return self.order:at(self.seed, epoch, place, self.shuffle) end
  return self.samples:at(self.seed, epoch, place, self.shuffle)
end

-- What an optimizer step has, in the order of the run: a list of `{ number =, samples =, n = }`, and where
-- `loaded` is set with `sample`, `spans` and the sum of their weights.
local function items_of(self, epoch, index, loaded)
  if type(index) ~= "number" or index < 0 or index >= self.count or index % 1 ~= 0 then
    blame("batches: step %s of %d", tostring(index), self.count)
  end
  local items, step = {}, epoch * self.count + index
  for place = index * self.batch, math.min((index + 1) * self.batch, self.n) - 1 do
    local k = sample_at(self, epoch, place)
    local samples, at = self.samples:locate(k)
    local item = { number = k, samples = samples, n = samples:length(at), shared = 0 }
    if loaded then
      item.sample = samples:get(at)
      item.spans = mask.spans_at(item.sample, function() return samples:record(at) end, step)
      item.weight = item.sample.learn and mask.weight_of(item.spans, item.sample.span_count) or samples:weight(at)
    end
    items[#items + 1] = item
  end
  return items
end

-- ---- which together --------------------------------------------------------------------------

-- Best fit decreasing: `lengths` into bins of at most `room`. A list of lists of indices.
local function fit(lengths, room)
  local n = #lengths
  local given, bins, count = ffi.new("int64_t[?]", n), ffi.new("int64_t[?]", n), ffi.new "int64_t[1]"
  for i = 1, n do given[i - 1] = lengths[i] end
  door.check(C.cft_pack_plan(bins, count, given, n, room))
  local plan = {}
  for p = 1, tonumber(count[0]) do plan[p] = {} end
  for i = 1, n do table.insert(plan[tonumber(bins[i - 1]) + 1], i) end
  return plan
end

-- A context that is shorter is not worth a second pass of attention: of pairs with 128 tokens of their own
-- 38 shared tokens saved 11% of the tokens and 1% of the time (SmolLM2-135M, bf16, a CPU), 46 13% and 7%.
local LEAST = 32

-- What goes into packs whole: a sample, or several with the context that they share. One context's
-- samples are more than one unit where they do not fit a pack.
-- @return a list of `{ rows =, of positions }`, in the order of their first samples
local function units_of(self, items)
  local alike, units = {}, {}
  for i, item in ipairs(items) do
    local context = self.share_prefix and context_of(item.sample, item.spans) or 0
    local key = context >= LEAST and key_of(item.sample, context)
    local unit = key and alike[key]
    if not unit then
      unit = { rows = 0, context = context }
      units[#units + 1] = unit
      if key then alike[key] = unit end
    end
    unit[#unit + 1] = i
  end
  local pieces = {}
  for _, unit in ipairs(units) do
    local own, rows = {}, 0
    for j, i in ipairs(unit) do
      own[j] = items[i].n - (#unit > 1 and unit.context or 0)
      rows = rows + own[j]
    end
    if #unit == 1 then
      pieces[#pieces + 1] = { rows = rows, unit[1] }
    else
      for _, part in ipairs(fit(own, self.tokens - unit.context)) do
        local piece = { rows = unit.context }
        for j, at in ipairs(part) do
          piece[j], piece.rows = unit[at], piece.rows + own[at]
          items[unit[at]].shared = #part > 1 and unit.context or 0
        end
        pieces[#pieces + 1] = piece
      end
    end
  end
  table.sort(pieces, function(a, b) return a[1] < b[1] end)
  return pieces
end

-- Packs of units: in each, first what is shared, as C wants it.
local function pack(self, items)
  local units, lengths, plan, rows = units_of(self, items), {}, {}, 0
  for u, unit in ipairs(units) do lengths[u] = unit.rows end
  for p, chosen in ipairs(fit(lengths, self.tokens)) do
    local positions = {}
    for _, shared in ipairs { true, false } do
      for _, u in ipairs(chosen) do
        if (#units[u] > 1) == shared then
          for _, i in ipairs(units[u]) do positions[#positions + 1] = i end
          rows = rows + units[u].rows
        end
      end
    end
    plan[p] = positions
  end
  return plan, rows
end

local function rows_as_they_come(self, items)
  local plan, rows = {}, 0
  for i, item in ipairs(items) do
    local m = math.floor((i - 1) / self.rows) + 1
    plan[m] = plan[m] or {}
    table.insert(plan[m], i)
    rows = rows + item.n
  end
  return plan, rows
end

local function cut(self, items)
  if self.packing then return pack(self, items) end
  return rows_as_they_come(self, items)
end

-- ---- which on which rank ----------------------------------------------------------------------

-- Those of an optimizer step's samples that are this rank's: the costliest first, each to the rank that has the least so
-- far, in tokens that attend to nothing (attention grows with the square of a length). Samples that share a context
-- stay together.
local function own_of(self, items)
  local p = self.parallel
  if not p then return items end
  local units, load, own = units_of(self, items), {}, {}
  for u, unit in ipairs(units) do
    unit.place, unit.cost = u, 0
    for _, i in ipairs(unit) do unit.cost = unit.cost + items[i].n + items[i].n ^ 2 / p.square end
  end
  table.sort(units, function(a, b)
    if a.cost ~= b.cost then return a.cost > b.cost end
    return a.place < b.place
  end)
  for r = 0, p.size - 1 do load[r] = 0 end
  for _, unit in ipairs(units) do
    local least = 0
    for r = 1, p.size - 1 do
      if load[r] < load[least] then least = r end
    end
    load[least] = load[least] + unit.cost
    for _, i in ipairs(least == p.rank and unit or {}) do own[#own + 1] = i end
  end
  table.sort(own)
  for k, i in ipairs(own) do own[k] = items[i] end
  for _, item in ipairs(own) do item.shared = 0 end  -- which of them share is found once more among these
  return own
end

--- Which samples an optimizer step has, those of this rank, and how they are put together.
-- @int epoch from 0
-- @int index 0 to updates() - 1
-- @treturn table numbers of samples in the order of the run
-- @treturn table a list of micro-batches, each a list of positions (from 1) in the first
-- @treturn int rows of all micro-batches: the samples' tokens, those that are shared counted once
-- @usage local numbers, micros, rows = batches:plan(0, 0)
-- #numbers, #micros, rows   --> 2 1 256
function Batches:plan(epoch, index)
  local items, numbers = own_of(self, items_of(self, epoch, index, self.share_prefix)), {}
  for i, item in ipairs(items) do numbers[i] = item.number end
  return numbers, cut(self, items)
end

-- ---- what the loss is divided by -------------------------------------------------------------

-- Each normalisation is a mean over groups of samples; a group's samples are scaled so that the sum
-- of all weights stays what it is, and `sum(w * nll) / sum(w)` is the wanted mean for any packing.
--   rank_mean   a group is what one rank sees in an optimizer step: micro-batches in turn, `rows` samples each
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
    if sum > 0 then groups = groups + 1 end  -- a group without loss tokens has no mean
  end
  for i = 1, #weights do
    local sum = sums[group_of(self, i)]
    scales[i] = sum > 0 and total / (groups * sum) or 0
  end
  return scales
end

-- ---- arrays ----------------------------------------------------------------------------------

-- A micro-batch, and what it was made of for whoever wants to see it.
local Micro = {}
Micro.__index = Micro
Micro.is_micro_batch = true

--- The sample that a sequence of it is, and the tokenizer that made it. @int i from 1
-- @treturn table of `cft.samples` @treturn Tokenizer
-- @usage local micro = batches:update(0, 0)[1]
-- micro:sample(1).n   --> 122
function Micro:sample(i) return self.items[i].sample, self.items[i].samples.tok end

function Micro:__tostring()
  local b = self.batch
  return ("micro-batch of %d samples: %d rows, %d with loss, of weight %g"):format(tonumber(b.sequences), tonumber(b.n),
    tonumber(b.m), b.weight)
end

local function lay(items)
  local n = #items
  local samples = ffi.new("cft_batch_sample[?]", n)
  local numbers, verdicts = {}, {}
  for i, item in ipairs(items) do
    local s = samples[i - 1]
    s.ids, s.n, s.spans, s.span_count = item.sample.ids, item.sample.n, item.spans, item.sample.span_count
    s.scale, s.shared = item.scale, item.shared
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
  local contents = setmetatable({}, { __index = function(_, i)
    local item = items[i]
    return item and hash.number(item.sample.ids, 4 * item.n)
  end })
  return setmetatable({ batch = made, samples = numbers, names = names, verdicts = verdicts, contents = contents,
                        items = items }, Micro)
end

--- The micro-batches of an optimizer step.
-- @int epoch from 0
-- @int index 0 to updates() - 1
-- @treturn table a list of `{ batch =, samples =, names =, verdicts =, contents = }`: `batch` is the cft_batch
-- (runtime/cft_batch.h), the others have an entry for each of its sequences: the number for
-- `samples:get`, where the record came from, its verdict (true, false or nil), and 48 bits of the hash of its ids
-- @treturn number the sum of all weights: what the step's summed loss is to be divided by. Of several ranks each has
-- micro-batches of its own, perhaps none, and the sum of their weights
function Batches:update(epoch, index)
  local before = self.before_first
  if before then  -- it may set another one, and stays where it raises
    before()
    if self.before_first == before then self.before_first = nil end
  end
  local items, weights = items_of(self, epoch, index, true), {}
  for i, item in ipairs(items) do weights[i] = item.weight end
  for i, scale in ipairs(scales_of(self, weights)) do items[i].scale = scale end
  items = own_of(self, items)
  local micros, weight = {}, 0
  for m, positions in ipairs((cut(self, items))) do
    local chosen = {}
    for j, i in ipairs(positions) do chosen[j] = items[i] end
    micros[m] = lay(chosen)
    weight = weight + micros[m].batch.weight
  end
  return micros, weight
end

--- The tokens of each sample of an optimizer step.
-- @int epoch from 0
-- @int index 0 to updates() - 1
-- @treturn table a list of numbers
function Batches:lengths(epoch, index)
  local list = {}
  for i, item in ipairs(items_of(self, epoch, index)) do list[i] = item.n end
  return list
end

--- How many optimizer steps an epoch has.
function Batches:updates() return self.count end

--- How many samples an epoch has; with `drop_last` those of whole optimizer steps.
-- @usage batches:size(), batches:updates(), #batches:lengths(0, 1)   --> 3 2 1
function Batches:size() return self.drop_last and self.count * self.batch or self.n end

--- How the first optimizer steps are cut.
-- @int[opt=8] most optimizer steps that are looked at
-- @treturn table `updates`, and of these `samples`, `micros`, `tokens` of the samples, `rows` that are
-- computed (fewer where contexts are shared); `room`, tokens of a pack; `fill`, rows over room
function Batches:survey(most)
  local s = { updates = math.min(self.count, most or 8), samples = 0, micros = 0, tokens = 0, rows = 0,
              room = self.tokens }
  for index = 0, s.updates - 1 do
    local numbers, plan, rows = self:plan(0, index)
    s.samples, s.micros, s.rows = s.samples + #numbers, s.micros + #plan, s.rows + rows
    for _, k in ipairs(numbers) do
      local samples, i = self.samples:locate(k)
      s.tokens = s.tokens + samples:length(i)
    end
  end
  s.fill = s.rows / (s.micros * self.tokens)
  return s
end

--- A survey in words.
-- @tab s of `survey`
-- @usage cft.batch.describe(batches:survey())   --> "packs of 512 tokens are filled to 38.1% (2 packs of the first 2 steps)"
function M.describe(s)
  local text = ("packs of %d tokens are filled to %.1f%% (%s of the first %s)"):format(s.room, 100 * s.fill,
    s.micros == 1 and "1 pack" or s.micros .. " packs", s.updates == 1 and "step" or s.updates .. " steps")
  if s.rows == s.tokens then return text end
  return ("%s; samples that begin alike share it: %d of %d tokens (%.1f%%) are not recomputed"):format(text,
    s.tokens - s.rows, s.tokens, 100 * (s.tokens - s.rows) / s.tokens)
end

-- Samples by themselves, or those of each part of a mixture.
local function parts_of(samples)
  local list = {}
  for k, part in ipairs(samples.parts or { { source = samples } }) do list[k] = part.source end
  return list
end

--- Batches of samples.
-- @param samples of `cft.samples`, or a mixture of them
-- @tab opts
-- @int opts.batch samples in an optimizer step
-- @int opts.tokens the most tokens of a micro-batch
-- @int[opt=0] opts.seed of the order
-- @bool[opt=true] opts.shuffle false takes samples as they come, or those that `order_by` has equal; a mixture is always
-- shuffled
-- @param[opt] opts.order_by what samples stand in the order of, least first: "length", a field of the record, "-" in front
-- of either for the largest first; or a function of the record that gives a number or a text
-- @bool[opt=false] opts.drop_last leave out an epoch's last samples where they fill no optimizer step
-- @bool[opt=true] opts.packing false makes micro-batches of `rows` samples, as the paper's trainer did
-- @int[opt=8] opts.rows samples of a micro-batch without packing; and of a group of `norm`
-- @string[opt="tokens"] opts.norm what the loss is a mean of: `tokens`, all loss tokens of the
-- step; `rank_mean`, means over the tokens of each rank (transformers 4.46); `micro_mean`, means
-- over the tokens of each micro-batch (before 4.46). `rows` and `ranks` say whose run is meant, not how
-- this one is cut.
-- @int[opt=8] opts.ranks of `rank_mean`
-- @tab[opt] opts.parallel `rank` of `size`: each of so many ranks lays samples of its own of every optimizer step, which cost about
-- the same; `square`, the tokens of a sample whose attention costs as much as all else
-- @bool[opt=true] opts.share_prefix compute once what samples of a pack begin with, without loss weight
-- @param[opt] opts.group_by samples that stand together in the order, so that they can share: `"prefix"`,
-- those with the same context; or a function of the record that gives a string or a number. Groups are
-- shuffled, and samples inside of each. Without it few critiques of one response would meet.
-- @treturn Batches
function M.new(samples, opts)
  check.value("batch.new", "samples", samples, { "table" })
  for _, part in ipairs(parts_of(samples)) do
    if not part.length then blame "batch.new: samples of cft.samples are wanted, or a mixture of them" end
  end
  local o = check.options("batch.new", opts, {
    batch = { "integer", min = 1 }, tokens = { "integer", min = 1 }, seed = { "integer", 0, min = 0 },
    shuffle = { "boolean", true }, drop_last = { "boolean", false }, packing = { "boolean", true },
    rows = { "integer", 8, min = 1 }, ranks = { "integer", 8, min = 1 },
    norm = { "string", "tokens", one_of = { "tokens", "rank_mean", "micro_mean" } },
    share_prefix = { "boolean", true }, group_by = { "string|function", optional = true },
    order_by = { "string|function", optional = true }, parallel = { "table", optional = true },
  })
  if type(o.group_by) == "string" and o.group_by ~= "prefix" then
    blame("batch.new: group_by is '%s'; \"prefix\" or a function of the record is wanted", o.group_by)
  end
  for _, name in ipairs { "group_by", "order_by" } do
    if o[name] and samples.parts then
      blame("batch.new: %s wants one source: a mixture deals its places out by their shares", name)
    elseif o[name] and samples.stream then
      blame("batch.new: %s goes through all samples first, which a stream does not", name)
    end
  end
  if o.group_by and o.order_by then blame "batch.new: group_by and order_by are two orders; give one of them" end
  local self = setmetatable(o, Batches)
  self.samples = samples
  self.n = samples:places()
  self.count = o.drop_last and math.floor(self.n / o.batch) or math.ceil(self.n / o.batch)
  if self.count == 0 then
    blame("batch.new: %d samples fill no step of batch = %d", self.n, o.batch)
  end
  for _, part in ipairs(o.packing and parts_of(samples) or {}) do
    local why = part:misfit(o.tokens)
    if why then blame("batch.new: %s", why) end
  end
  o.share_prefix = o.share_prefix and o.packing
  if o.group_by then self.order = orders.groups(self.n, function(k) return group_key(self, k) end) end
  if o.order_by then self.order = orders.sorted(self.n, orders.key_of(samples, o.order_by)) end
  return self
end

--- How an epoch is cut.
function Batches:__tostring()
  return ("%s optimizer steps an epoch, of %d samples each, in packs of %s tokens"):format(format.count(self.count),
    self.batch, format.count(self.tokens))
end

function Batches:__len() return self.count end

return M
