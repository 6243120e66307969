--- A run's data to look at: counts, histograms, what is odd, duplicates, samples with their masks.
--
-- `gather` measures, `plain` is the same as texts and numbers alone, which `cft.report.data_text` prints and
-- `cft.report.html` makes a page of.
-- @module cft.report.data

local batch = require "cft.samples.batch"
local conversation = require "cft.data.conversation"
local data = require "cft.data.open"
local digests = require "cft.data.util.digest_table"
local hash = require "cft.io.hash"
local histogram = require "cft.report.histogram"
local listed = require "cft.data.util.sampled_list"
local mask = require "cft.samples.mask"
local parallel = require "cft.data.parallel"
local preview = require "cft.report.samples"
local reports = require "cft.samples.report"

local M = {}

-- The value that a share of the sorted values does not exceed.
local function quantile(sorted, share) return sorted[math.max(1, math.ceil(share * #sorted))] end

-- ---- duplicates ------------------------------------------------------------------------------

-- Records that are there before: whole, or their prompt. `elsewhere`: a list of the prompts of training sets.
local function look_for_duplicates(source, elsewhere)
  local found = { whole = listed.new(), prompt = 0, leaked = listed.new(), prompts = digests.new() }
  local wholes = digests.new()
  local function take(i, asked)
    local _, new = wholes:add(asked + 16)
    local _, new_prompt = found.prompts:add(asked)
    if not new then
      listed.add(found.whole, i)
    elseif not new_prompt then
      found.prompt = found.prompt + 1
    end
    for _, prompts in ipairs(elsewhere) do
      if prompts:find(asked) then
        listed.add(found.leaked, i)
        break
      end
    end
  end
  parallel.each(source, {
    of = function(record)
      local prompt = conversation.prompt(record)
      return hash.digest(prompt) .. hash.digest(prompt .. "\0" .. conversation.answer(record))
    end,
    take = take,
  })
  return found
end

-- ---- one set of samples ----------------------------------------------------------------------

local LONGEST = 5

local function verdict_of(sample)
  return sample.verdict == true and "right" or sample.verdict == false and "wrong" or "none"
end

-- What is counted of a sample's spans: tokens by their weight. Weights that are functions have no number yet.
local function weigh(weights, sample)
  for i = 0, sample.span_count - 1 do
    local weight = sample.learn and sample.learn[i] and "function" or sample.spans[i].weight
    weights[weight] = (weights[weight] or 0) + tonumber(sample.spans[i].count)
  end
end

-- @tab chosen numbers of the samples that are looked at
local function measure(samples, chosen)
  local m = { tokens = {}, learned = {}, shares = {}, kinds = {}, verdicts = { right = 0, wrong = 0, none = 0 },
              weights = {} }
  local kinds = {}
  for i, k in ipairs(chosen) do
    local s, count = samples:get(k), 0
    for _, own in ipairs(mask.kinds_of(s)) do
      local kind = kinds[own.name]
      if not kind then
        kind = { name = own.name, tokens = 0, learned = 0 }
        kinds[own.name], m.kinds[#m.kinds + 1] = kind, kind
      end
      kind.tokens, kind.learned, count = kind.tokens + own.tokens, kind.learned + own.learned, count + own.learned
    end
    m.tokens[i], m.learned[i], m.shares[i] = s.n, count, count / s.n
    weigh(m.weights, s)
    local verdict = verdict_of(s)
    m.verdicts[verdict] = m.verdicts[verdict] + 1
  end
  return m
end

-- Numbers of `count` samples of n, evenly spread.
local function spread(n, count)
  local list = {}
  for i = 0, math.min(count, n) - 1 do list[i + 1] = math.floor(i * n / math.min(count, n)) end
  return list
end

local function longest_of(samples, chosen)
  local order, n = {}, {}
  for i, k in ipairs(chosen) do order[i], n[k] = k, samples:length(k) end
  table.sort(order, function(a, b)
    if n[a] ~= n[b] then return n[a] > n[b] end
    return a < b
  end)
  return { unpack(order, 1, LONGEST) }
end

local function has_kind(sample, name)
  for _, kind in ipairs(mask.kinds_of(sample)) do
    if kind.name == name then return true end
  end
  return false
end

-- Is this sample one of those that are wanted? `where`: `verdict`, `kind`, `from` and `to` tokens, as they are given.
local function wanted(samples, k, where)
  local n = samples:length(k)
  if where.from and n < where.from or where.to and n > where.to then return false end
  if not (where.verdict or where.kind) then return true end
  local s = samples:get(k)
  return (not where.verdict or verdict_of(s) == where.verdict) and (not where.kind or has_kind(s, where.kind))
end

-- Numbers of the samples that are shown: `count` of those that are wanted, evenly spread.
local function choose(samples, count, where)
  local fits, chosen = {}, {}
  if not next(where) then return spread(samples:size(), count) end
  for k = 0, samples:size() - 1 do
    if wanted(samples, k, where) then fits[#fits + 1] = k end
  end
  for i, at in ipairs(spread(#fits, count)) do chosen[i] = fits[at + 1] end
  return chosen
end

-- @tab o `samples` that are shown, `where`: which, `most` that are measured
local function gather_set(samples, o, elsewhere)
  local n = samples:size()
  local chosen = spread(n, o.most or n)
  local m, sorted = measure(samples, chosen), {}
  for i, tokens in ipairs(m.tokens) do sorted[i] = tokens end
  table.sort(sorted)
  return {
    samples = samples, name = samples.name, report = samples.report, kinds = m.kinds, verdicts = m.verdicts,
    tokens = histogram.count(m.tokens), learned = histogram.count(m.learned), weights = m.weights,
    shares = histogram.count(m.shares, 0.1, 10), half = quantile(sorted, 0.5), most = quantile(sorted, 0.95),
    longest = longest_of(samples, chosen), measured = #chosen < n and #chosen or nil,
    duplicates = not o.most and look_for_duplicates(samples.source, elsewhere) or nil,
    shown = choose(samples, o.samples, o.where or {}),
  }
end

-- ---- the whole run ---------------------------------------------------------------------------

-- How often the run goes through each of its sources.
local function passes_of(run)
  local places = run.last_step * run.cfg.batch
  if run.samples.passes then return run.samples:passes(places) end
  return { places / run.samples:size() }
end

--- Measure the data of a run.
-- @tab run of `cft.recipe.stages`
-- @tab opts `samples`: how many are shown of each source; `where`: which, by `verdict` (`right`, `wrong`, `none`), `kind`,
-- `from` and `to` tokens, `source` (its name); `most`: how many samples of a source are measured, all if absent, and with
-- it duplicates are not looked for
-- @treturn table `sets` (training sources, then the held-out one), `packs`, `contaminated`, and an empty
-- list of `refusals` for who knows why training would not begin
function M.gather(run, opts)
  local view = { name = run.name, run = run, sets = {}, contaminated = run.contaminated or {}, refusals = {} }
  local prompts, passes, where = {}, passes_of(run), opts.where or {}
  local function add(samples, count, elsewhere)
    local shown = (not where.source or samples.name == where.source) and count or 0
    local set = gather_set(samples, { samples = shown, most = opts.most, where = {
      verdict = where.verdict, kind = where.kind, from = where.from, to = where.to } }, elsewhere)
    view.sets[#view.sets + 1] = set
    return set
  end
  for k, samples in ipairs(run.samples.parts or { { source = run.samples } }) do
    local set = add(samples.source, opts.samples, {})
    set.passes = passes[k]
    prompts[k] = set.duplicates and set.duplicates.prompts
  end
  if run.heldout_samples then add(run.heldout_samples, where.source and opts.samples or 0, prompts).held_out = true end
  view.packs = run.cfg.packing ~= false and run.batches:survey() or nil
  return view
end

--- Show fewer samples of what was gathered.
-- @tab view @int count of each source
function M.show(view, count)
  for _, set in ipairs(view.sets) do
    local fewer = {}
    for i, at in ipairs(spread(#set.shown, count)) do fewer[i] = set.shown[at + 1] end
    set.shown = fewer
  end
end

-- ---- in words --------------------------------------------------------------------------------

local BAD = 10   -- bad records that are described
local MANY = 4   -- passes: until then repeated data are nearly worth new ones (Muennighoff et al. 2023, arXiv 2305.16264)

local function percent(part, whole) return whole > 0 and 100 * part / whole or 0 end

--- What is odd about a set, a line each.
-- @treturn table a list of texts
function M.findings(set)
  local r, d, lines = set.report, set.duplicates, {}
  local function add(count, says)
    if count > 0 then lines[#lines + 1] = ("%d %s"):format(count, says) end
  end
  local function add_list(list, says) add(list.n, ("%s: records %s"):format(says, listed.names(list))) end
  for _, bad in ipairs(r.bad) do
    if #lines < BAD then lines[#lines + 1] = "bad record: " .. data.describe(bad) end
  end
  add(#r.bad > BAD and #r.bad - BAD or 0, "more bad records")
  add_list(r.left_to_function, reports.LEFT_TO_FUNCTION)
  lines[#lines + 1] = reports.own(r, set.samples.chat)
  lines[#lines + 1] = reports.unused(r)
  lines[#lines + 1] = reports.unmet(r, set.samples.chat)
  add_list(r.dropped, ("dropped, the first with %s"):format(r.dropped[1] and r.dropped[1].reason or ""))
  add_list(r.cut, ("cut (%d tokens in all)"):format(r.tokens_cut))
  add_list(r.no_learned, "have no loss token")
  add_list(r.all_learned, "have nothing but loss tokens")
  add_list(r.double_bos, "begin with two begin-of-text tokens")
  add_list(r.no_end, "do not end in an end token with loss weight")
  add_list(r.no_prefix, "do not begin with what their prompt alone is encoded as")
  add_list(r.with_specials, "hold strings of special tokens")
  if d then
    add_list(d.whole, "are there before, word for word")
    add(d.prompt, "ask what another one asks, with another answer")
    add_list(d.leaked, "ask what a training record asks")
  end
  if set.passes and set.passes > MANY then
    lines[#lines + 1] = ("gone through %.1f times in this run"):format(set.passes)
  end
  return lines
end

--- A set in one line.
function M.counts(set)
  local r = set.report
  return ("%d samples of %d records; %d tokens, %d loss tokens (%.1f%%)"):format(r.samples, r.records, r.tokens,
    r.learned, percent(r.learned, r.tokens))
end

--- The optimizer steps of a run in one line, how full its packs are, and what samples share.
function M.plan(view)
  local run = view.run
  return ("%d steps of %d samples, %d an epoch%s"):format(run.last_step, run.cfg.batch, run.batches:updates(),
    view.packs and "; " .. batch.describe(view.packs) or "")
end

--- What is said where near duplicates were not looked for; nil where a mixture did, and its table says what it found.
function M.unlooked(view)
  local found = view.run.samples.found
  if found and found.near then return nil end
  return 'near duplicates were not looked for here; a mixture with dedup = "near" leaves them out and counts them'
end

--- The histograms of a set: `{ title, histogram }` each.
function M.histograms(set)
  return { { "tokens a sample", set.tokens }, { "loss tokens a sample", set.learned },
           { "share of loss tokens in a sample", set.shares } }
end

--- Weights and how many tokens have each, in order; functions come last.
-- @tab weights by weight
-- @treturn table a list of `{ label, count }`
function M.weight_rows(weights)
  local order, rows = {}, {}
  for weight in pairs(weights) do order[#order + 1] = weight end
  table.sort(order, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  for i, weight in ipairs(order) do
    rows[i] = { type(weight) == "number" and ("%g"):format(weight) or "a function", weights[weight] }
  end
  return rows
end

-- ---- texts and numbers alone -------------------------------------------------------------------

local EDGES = 1500  -- tokens of a sample that are shown one by one

local function plain_sample(set, k)
  local s, kinds = set.samples:get(k), {}
  for i, kind in ipairs(mask.kinds_of(s)) do kinds[i] = kind.name end
  return { about = preview.describe(set.samples, k), verdict = verdict_of(s), length = s.n, kinds = kinds,
           tokens = preview.tokens(set.samples, k, EDGES) }
end

local function plain_set(set)
  local r, samples = set.report, set.samples
  local p = {
    name = set.name, counts = M.counts(set), template = samples.chat:describe(samples.tok), half = set.half,
    most = set.most, longest = r.longest, verdicts = set.verdicts, findings = M.findings(set), kinds = set.kinds,
    weights = M.weight_rows(set.weights), records = r.records, samples = r.samples, tokens = r.tokens,
    learned = r.learned, bad = #r.bad, passes = set.passes, measured = set.measured, held_out = set.held_out,
    histograms = {}, longest_samples = {}, shown = {},
  }
  for i, h in ipairs(M.histograms(set)) do p.histograms[i] = { title = h[1], rows = histogram.rows(h[2]) } end
  for i, k in ipairs(set.longest) do
    p.longest_samples[i] = { tokens = samples:length(k), where = samples:where(k) }
  end
  for i, k in ipairs(set.shown) do p.shown[i] = plain_sample(set, k) end
  return p
end

local function plain_found(found)
  local p = { says = found:describe(0):match "^[^\n]*", pairs = {} }
  for i, pair in ipairs(found.pairs) do
    p.pairs[i] = { rank = pair.rank, where = pair.where, benchmark = pair.benchmark, shared = pair.shared,
                   equal = pair.equal and true or false, answer = pair.answer and true or false, passage = pair.passage }
  end
  return p
end

--- What was gathered, as texts, numbers and lists of them, which JSON can hold.
-- @tab view of `gather`
-- @treturn table
function M.plain(view)
  local run = view.run
  local p = { name = view.name, plan = M.plan(view), mixture = run.samples.parts and run.samples:table() or nil,
              unlooked = M.unlooked(view), template_report = run.template_report, refusals = view.refusals,
              notes = run.chat:notes(run.tokenizer), sets = {}, contaminated = {} }
  for i, set in ipairs(view.sets) do p.sets[i] = plain_set(set) end
  for i, found in ipairs(view.contaminated) do p.contaminated[i] = plain_found(found) end
  return p
end

return M
