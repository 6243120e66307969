--- What is to be said of samples: counts, which add up, and lists of the records that were left out, cut or found odd.
-- @module cft.samples.report

local builder = require "cft.samples.build"
local json = require "cft.base.json"
local listed = require "cft.data.util.sampled_list"
local mask = require "cft.samples.mask"
local sources = require "cft.data.source"

local M = {}

local COUNTS = { specials = true, unused = true, kinds = true, own = true }  -- texts and how many; other tables are lists of records

local function is_list(name, value) return type(value) == "table" and not COUNTS[name] and value.n ~= nil end

--- A report of nothing yet.
-- @treturn table `records`, `samples`, `tokens`, `learned`, `longest`, `tokens_cut`; `specials`, counts by text;
-- `unused`, how many records have each field that nothing reads; `own`, how many have each field for which the model's own
-- chat template wrote them, `by_own` in all; `kinds`, how many samples have each kind of text; and
-- lists of records, each with its length `n`
function M.new()
  return { records = 0, samples = 0, tokens = 0, learned = 0, longest = 0, tokens_cut = 0, specials = {}, unused = {}, kinds = {},
    own = {}, by_own = 0,
    with_specials = listed.new(), dropped = listed.new(), cut = listed.new(), no_end = listed.new(),
    no_prefix = listed.new(), no_learned = listed.new(), all_learned = listed.new(), double_bos = listed.new(),
    unsayable = listed.new(), left_to_function = listed.new() }
end

--- Enter what became of record i: what `Build:sample` gave.
function M.enter(report, i, sample, why, class, unwanted)
  report.records = report.records + 1
  local made = sample or unwanted
  if not made then
    listed.add(report[class], { record = i, reason = why })
    return
  end
  if made.specials then listed.add(report.with_specials, i) end
  for text, count in pairs(made.specials or {}) do
    report.specials[text] = (report.specials[text] or 0) + count
  end
  for name in pairs(made.unused or {}) do report.unused[name] = (report.unused[name] or 0) + 1 end
  for name in pairs(made.own or {}) do report.own[name] = (report.own[name] or 0) + 1 end
  if made.own then report.by_own = report.by_own + 1 end
  if made.left_to_function then listed.add(report.left_to_function, i) end
  if not made.prefix then listed.add(report.no_prefix, i) end
  if made.odd then listed.add(report[made.odd], i) end
  if made.cut > 0 then listed.add(report.cut, i) end
  if not made.ends then listed.add(report.no_end, i) end
  if not sample then return end
  report.samples, report.tokens = report.samples + 1, report.tokens + sample.n
  report.learned = report.learned + sample.learned
  report.longest = math.max(report.longest, sample.n)
  report.tokens_cut = report.tokens_cut + sample.cut
  for _, kind in ipairs(mask.kinds_of(sample)) do report.kinds[kind.name] = (report.kinds[kind.name] or 0) + 1 end
end

--- Add the report of later records to that of earlier ones.
function M.add(into, from)
  for name, value in pairs(from) do
    if name == "longest" then
      into.longest = math.max(into.longest, value)
    elseif type(value) == "number" then
      into[name] = into[name] + value
    elseif is_list(name, value) then
      listed.append(into[name], value)
    else
      for text, count in pairs(value) do into[name][text] = (into[name][text] or 0) + count end
    end
  end
end

--- A report for JSON. Lists are written with their counts in front, since JSON has no table that is both.
-- @treturn table
function M.encode(report)
  local out = {}
  for name, value in pairs(report) do
    if is_list(name, value) then
      local entries = {}
      for i, e in ipairs(value) do
        entries[i] = type(e) == "table" and json.array { e.record, e.reason or json.null } or e
      end
      out[name] = { n = value.n, entries = json.array(entries) }
    else
      out[name] = value
    end
  end
  return out
end

--- The report that `encode` was given.
-- @tab out what JSON gave back; it becomes the report
function M.decode(out)
  for name, value in pairs(out) do
    if is_list(name, value) then
      local entries = { n = value.n }
      for i, e in ipairs(value.entries) do
        entries[i] = type(e) == "table" and { record = e[1], reason = e[2] ~= json.null and e[2] or nil } or e
      end
      out[name] = entries
    end
  end
  return out
end

-- Texts and how many, in one line.
local function counts_line(counts)
  local texts = {}
  for text in pairs(counts) do texts[#texts + 1] = text end
  table.sort(texts)
  for k, text in ipairs(texts) do texts[k] = ("%s (%d)"):format(text, counts[text]) end
  return table.concat(texts, ", ")
end

--- What is said of records with answers that are context, where a function is the template.
M.LEFT_TO_FUNCTION = "have answers without loss weight (learn = false), which the template's function has to see to"

--- The fields of records that nothing reads, and how many records have each, in one line.
-- @treturn ?string nil where there are none
function M.unused(report)
  return next(report.unused) and "fields that are not used: " .. counts_line(report.unused) or nil
end

--- How many records the model's own chat template wrote, and for which fields, in one line.
-- @treturn ?string nil where there are none
function M.own(report, chat)
  if report.by_own == 0 then return nil end
  return ("%d written with the model's own chat template, for template %s has no words for: %s"):format(report.by_own,
    chat.name, counts_line(report.own))
end

--- The kinds that `learn` has a weight for and that no text has, in one line.
-- @tab report
-- @tparam Template chat
-- @treturn ?string nil where there are none
function M.unmet(report, chat)
  local kinds = {}
  for kind in pairs(chat.by_kind) do
    if not report.kinds[kind] then kinds[#kinds + 1] = tostring(kind) end
  end
  table.sort(kinds)
  return #kinds > 0 and "learn has weights for kinds that no text has: " .. table.concat(kinds, ", ") or nil
end

--- A report in words, a line each: counts first, then all that was left out, cut or found odd.
-- @tab report with `added`, tokens that the template added, and `bad`, of the source
-- @tab of `name`, `build` (`cft.samples.build`), `notes`: lines on where the numbers come from
function M.describe(report, of)
  local r, chat, tok, o, lines = report, of.build.chat, of.build.tok, of.build.o, {}
  local function add(...) lines[#lines + 1] = (...):format(select(2, ...)) end
  local function add_list(entry, what)
    if entry.n > 0 then add("  %d %s: records %s", entry.n, what, listed.names(entry)) end
  end
  add("%s: %d samples of %d records; %d tokens, %d loss tokens (%.1f%%), longest %d", of.name, r.samples,
    r.records, r.tokens, r.learned, r.tokens > 0 and 100 * r.learned / r.tokens or 0, r.longest)
  add("  %s", chat:describe(tok))
  for _, line in ipairs(of.notes) do add("  %s", line) end
  if #r.added > 0 then add("  added to the tokenizer: %s", table.concat(r.added, ", ")) end
  if #r.bad > 0 then add("  %d bad records left out; the first is %s", #r.bad, sources.describe(r.bad[1])) end
  add_list(r.dropped, ("dropped, %s"):format(r.dropped[1] and r.dropped[1].reason or ""))
  add_list(r.cut, ("cut (%s), %d tokens in all"):format(o.length, r.tokens_cut))
  if chat:end_token(tok) or chat.make then add_list(r.no_end, "do not end in an end token with loss weight") end
  add_list(r.no_prefix, "do not begin with what their prompt alone is encoded as, which is what a server sends")
  for _, refusal in ipairs(builder.refusals) do
    add_list(r[refusal[1]], ("%s (%s)"):format(refusal[3], o[refusal[1]] == "keep" and "kept" or "dropped"))
  end
  if r.with_specials.n > 0 then
    add_list(r.with_specials, ("hold strings of special tokens, taken as %s: %s"):format(
      chat.specials == "llamafactory" and "these tokens" or "plain text", counts_line(r.specials)))
  end
  add_list(r.left_to_function, M.LEFT_TO_FUNCTION)
  if M.own(r, chat) then add("  %s", M.own(r, chat)) end
  local unused = M.unused(r)
  local unmet = M.unmet(r, chat)
  if unused then add("  %s", unused) end
  if unmet then add("  %s", unmet) end
  return table.concat(lines, "\n")
end

return M
