--- A run's data to look at: counts, histograms, what is odd, duplicates, samples with their masks.
--
-- `gather` measures, `print` shows it in a terminal; `cft.report.html` makes a page of the same.
-- @module cft.report.data

local batch = require "cft.samples.batch"
local conversation = require "cft.data.conversation"
local data = require "cft.data.open"
local digests = require "cft.data.util.digest_table"
local hash = require "cft.io.hash"
local listed = require "cft.data.util.sampled_list"
local mask = require "cft.samples.mask"
local parallel = require "cft.data.parallel"
local preview = require "cft.report.samples"
local reports = require "cft.samples.report"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

-- ---- histograms ------------------------------------------------------------------------------

-- The smallest of 1, 2, 5, 10, 20, ... that cuts 0 to `most` into at most `bins`.
local function width_of(most, bins)
  local width = 1
  while true do
    for _, step in ipairs { 1, 2, 5 } do
      if most / (step * width) < bins then return step * width end
    end
    width = 10 * width
  end
end

--- Count numbers in bins of equal width from 0 on.
-- @tab values from 0
-- @number[opt] width by default a round one that gives at most 16
-- @int[opt] bins how many, at least: empty ones at the end are kept
-- @treturn table `width`, and a list of counts; bin i has values from (i - 1) width on
function M.histogram(values, width, bins)
  local most = 0
  for _, v in ipairs(values) do most = math.max(most, v) end
  local h = { width = width or width_of(most, 16) }
  for i = 1, math.max(bins or 1, math.floor(most / h.width) + 1) do h[i] = 0 end
  for _, v in ipairs(values) do
    local i = math.floor(v / h.width) + 1
    h[i] = h[i] + 1
  end
  return h
end

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

local function measure(samples)
  local tokens, learned, shares, kinds, order = {}, {}, {}, {}, {}
  local verdicts = { right = 0, wrong = 0, none = 0 }
  for k = 0, samples:size() - 1 do
    local s, count = samples:get(k), 0
    for _, own in ipairs(mask.kinds_of(s)) do
      local kind = kinds[own.name]
      if not kind then
        kind = { name = own.name, tokens = 0, learned = 0 }
        kinds[own.name], order[#order + 1] = kind, kind
      end
      kind.tokens, kind.learned, count = kind.tokens + own.tokens, kind.learned + own.learned, count + own.learned
    end
    tokens[k + 1], learned[k + 1], shares[k + 1] = s.n, count, count / s.n
    local verdict = s.verdict == true and "right" or s.verdict == false and "wrong" or "none"
    verdicts[verdict] = verdicts[verdict] + 1
  end
  return { tokens = tokens, learned = learned, shares = shares, kinds = order, verdicts = verdicts }
end

local function longest_of(tokens)
  local order = {}
  for k = 1, #tokens do order[k] = k - 1 end
  table.sort(order, function(a, b)
    if tokens[a + 1] ~= tokens[b + 1] then return tokens[a + 1] > tokens[b + 1] end
    return a < b
  end)
  return { unpack(order, 1, LONGEST) }
end

-- Numbers of `count` samples, evenly spread.
local function spread(n, count)
  local list = {}
  for i = 0, math.min(count, n) - 1 do list[i + 1] = math.floor(i * n / math.min(count, n)) end
  return list
end

local function gather_set(samples, count, elsewhere)
  local m, sorted = measure(samples), {}
  for i, n in ipairs(m.tokens) do sorted[i] = n end
  table.sort(sorted)
  return {
    samples = samples, name = samples.name, report = samples.report, kinds = m.kinds, verdicts = m.verdicts,
    tokens = M.histogram(m.tokens), learned = M.histogram(m.learned), shares = M.histogram(m.shares, 0.1, 10),
    half = quantile(sorted, 0.5), most = quantile(sorted, 0.95), longest = longest_of(m.tokens),
    lengths = m.tokens, duplicates = look_for_duplicates(samples.source, elsewhere),
    shown = spread(samples:size(), count),
  }
end

-- ---- the whole run ---------------------------------------------------------------------------

--- Measure the data of a run.
-- @tab run of `cft.recipe.prepare`
-- @tab opts `samples`: how many are shown of each source
-- @treturn table `sets` (training sources, then the held-out one), `packs`, `contaminated`, and an empty
-- list of `refusals` for who knows why training would not begin
function M.gather(run, opts)
  local view = { name = run.name, run = run, sets = {}, contaminated = run.contaminated or {}, refusals = {} }
  local prompts = {}
  for _, samples in ipairs(run.samples.parts or { { source = run.samples } }) do
    local set = gather_set(samples.source, opts.samples, {})
    prompts[#prompts + 1] = set.duplicates.prompts
    view.sets[#view.sets + 1] = set
  end
  if run.heldout_samples then
    view.sets[#view.sets + 1] = gather_set(run.heldout_samples, 0, prompts)
  end
  view.packs = run.cfg.packing ~= false and run.batches:survey() or nil
  return view
end

-- ---- in words --------------------------------------------------------------------------------

local BAD = 10  -- bad records that are described

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
  add_list(d.whole, "are there before, word for word")
  add(d.prompt, "ask what another one asks, with another answer")
  add_list(d.leaked, "ask what a training record asks")
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
  return ("%d steps of %d samples, %d an epoch%s"):format(run.steps, run.cfg.batch, run.batches:updates(),
    view.packs and "; " .. batch.describe(view.packs) or "")
end

--- What is said where near duplicates were not looked for; nil where a mixture did, and its table says what it found.
function M.unlooked(view)
  local found = view.run.samples.found
  if found and found.near then return nil end
  return 'near duplicates were not looked for here; a mixture with dedup = "near" leaves them out and counts them'
end

--- Rows of a histogram.
-- @tab h
-- @treturn table a list of `{ label, count }`
function M.rows(h)
  local rows = {}
  for i, count in ipairs(h) do
    local from, to = (i - 1) * h.width, i * h.width
    rows[i] = { h.width < 1 and ("%d-%d%%"):format(100 * from + 0.5, 100 * to + 0.5) or
      h.width == 1 and ("%d"):format(from) or ("%d-%d"):format(from, to - 1), count }
  end
  if h.width < 1 and rows[11] then rows[11][1] = "100%" end
  return rows
end

--- The histograms of a set: `{ title, histogram }` each.
function M.histograms(set)
  return { { "tokens a sample", set.tokens }, { "loss tokens a sample", set.learned },
           { "share of loss tokens in a sample", set.shares } }
end

-- ---- in a terminal ---------------------------------------------------------------------------

local EIGHTHS = { "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

-- A bar of `length` columns, to an eighth of one.
local function bar(length)
  local eighths = math.floor(8 * length + 0.5)
  return ("█"):rep(math.floor(eighths / 8)) .. (EIGHTHS[eighths % 8] or "")
end

--- A histogram as lines of text.
-- @tab h
-- @int columns of the longest line
function M.draw(h, columns)
  local rows, wide, most, lines = M.rows(h), 0, 1, {}
  for _, row in ipairs(rows) do wide, most = math.max(wide, #row[1]), math.max(most, row[2]) end
  local digits = #tostring(most)
  for i, row in ipairs(rows) do
    local length = row[2] / most * math.max(10, columns - wide - digits - 6)
    lines[i] = ("  %s  %s  %s"):format((" "):rep(wide - #row[1]) .. row[1],
      (" "):rep(digits - #tostring(row[2])) .. row[2], bar(length))
    -- A bin with one sample among a million shows.
    if row[2] > 0 and length < 1 / 16 then lines[i] = lines[i] .. EIGHTHS[1] end
    lines[i] = lines[i]:match "^.*%S" or ""
  end
  return table.concat(lines, "\n")
end

local function print_set(set)
  print(term.paint("bold", set.name) .. ": " .. M.counts(set))
  print(("  %s"):format(set.samples.chat:describe(set.samples.tok)))
  print(("  half have at most %d tokens, 95%% at most %d; longest %d"):format(set.half, set.most,
    set.report.longest))
  local v = set.verdicts
  print(("  verdicts: %d right, %d wrong, %d without"):format(v.right, v.wrong, v.none))
  local findings = M.findings(set)
  for _, line in ipairs(findings) do print("  " .. term.paint("yellow", texts.printable(line))) end
  if #findings == 0 then print("  nothing odd: no duplicates, nothing dropped, cut or refused") end
  print "\n  kind              tokens   share  loss tokens"
  for _, kind in ipairs(set.kinds) do
    print(("  %-12s %11d  %5.1f%%  %11d"):format(kind.name, kind.tokens, percent(kind.tokens, set.report.tokens),
      kind.learned))
  end
  for _, h in ipairs(M.histograms(set)) do
    print("\n  " .. term.paint("bold", h[1]))
    print(M.draw(h[2], term.width()))
  end
  print("\n  " .. term.paint("bold", "longest"))
  for _, k in ipairs(set.longest) do
    print(("  %8d tokens  %s"):format(set.lengths[k + 1], texts.printable(set.samples:where(k))))
  end
  for _, k in ipairs(set.shown) do
    print ""
    preview.one(set.samples, set.samples.tok, k)
  end
  print ""
end

--- Print it all.
-- @tab view of `gather`
function M.print(view)
  print(M.plan(view) .. "\n")
  if view.run.samples.parts then print(texts.printable(view.run.samples:table()) .. "\n") end
  if M.unlooked(view) then print(M.unlooked(view) .. "\n") end
  if view.run.template_report then print(term.paint("yellow", texts.printable(view.run.template_report)) .. "\n") end
  for _, note in ipairs(view.run.chat:notes(view.run.tokenizer)) do
    print(term.paint("yellow", texts.printable(note)) .. "\n")
  end
  for _, set in ipairs(view.sets) do print_set(set) end
  for _, found in ipairs(view.contaminated) do print(texts.printable(found:describe())) end
  for _, line in ipairs(view.refusals) do
    print(term.paint("bold red", "training would refuse: ") .. texts.printable(line))
  end
end

return M
