--- Samples: what the records of a source become, once each, before anything is trained.
--
-- A sample is a record's ids with their weights (`cft.mask`). Here are the passes over all records, what a recipe
-- allows, and the report on all that was left out, cut or found odd.
-- @module cft.samples
-- @usage local all = samples.new(source, template.qwen(), tok, { max_tokens = 2048 })
-- print(all:describe())
-- local s = all:get(0)
-- print(s.n, s.ids[0], s.spans[0].weight)

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local data = require "cft.data.open"
local listed = require "cft.data.util.sampled_list"
local mask = require "cft.samples.mask"
local template = require "cft.text.template"

local M = {}

local Samples = { are_samples = true }
Samples.__index = Samples

-- Strings of special tokens in the record's text → how many; nil where there are none.
local function specials_in(segments, tok)
  local found
  for _, segment in ipairs(segments) do
    if segment.content then
      for _, match in ipairs(tok:find_special(segment.text)) do
        local text = tok:token(match.id)
        found = found or {}
        found[text] = (found[text] or 0) + 1
      end
    end
  end
  return found
end

-- Does the sample begin with the ids of its prompt? A server writes all before the last answer as one text, special
-- tokens by their strings, and encodes that; where it gets other ids, the model was trained on another prompt.
local function begins_with_prompt(sample, tok)
  local segments, texts = sample.segments, {}
  local answer = #segments
  while answer > 0 and not segments[answer].target do answer = answer - 1 end
  while answer > 1 and segments[answer - 1].target do answer = answer - 1 end
  for i = 1, answer - 1 do texts[i] = segments[i].text or tok:token(template.id_of(segments[i], tok)) end
  local encoding = tok:encode_spans(table.concat(texts), true)
  local n = encoding and tonumber(encoding.n) or math.huge
  if n > sample.n then return false end
  for i = 0, n - 1 do
    if encoding.ids[i] ~= sample.ids[i] then return false end
  end
  return true
end

local function specials_line(report)
  local texts = {}
  for text in pairs(report.specials) do texts[#texts + 1] = text end
  table.sort(texts)
  for k, text in ipairs(texts) do texts[k] = ("%s (%d)"):format(text, report.specials[text]) end
  return table.concat(texts, ", ")
end

local refusals = {
  { "no_learned", "have no learned token" },
  { "all_learned", "have nothing but learned tokens" },
  { "double_bos", "begin with two begin-of-text tokens" },
}

-- The sample of a record, with `specials` and `prefix`, which say what is odd about its text; or nil, the
-- reason and its class.
local function look(self, record)
  local tok = self.tok
  local sample, why, class = mask.sample(record, self.chat, tok, self.o)
  if sample then
    sample.specials = specials_in(sample.segments, tok)
    -- A cut prompt is none that a server would write, and a special token's string is reported as such.
    sample.prefix = sample.cut > 0 or sample.specials ~= nil or begins_with_prompt(sample, tok)
    sample.segments = nil
  end
  return sample, why, class
end

-- A report of nothing yet. Counts, lists of records, and counts by text: `cft.samples.index` adds them up.
local function new_report()
  return { records = 0, samples = 0, tokens = 0, learned = 0, longest = 0, tokens_cut = 0, specials = {},
    with_specials = listed.new(), dropped = listed.new(), cut = listed.new(), no_end = listed.new(),
    no_prefix = listed.new(), no_learned = listed.new(), all_learned = listed.new(), double_bos = listed.new(),
    unsayable = listed.new() }
end

-- Look at a record and enter it in a report: its sample, if it is one to train on.
local function book(self, report, i, record)
  local tok, o = self.tok, self.o
  report.records = report.records + 1
  local sample, why, class = look(self, record)
  if not sample then
    listed.add(report[class], { record = i, reason = why })
    return nil
  end
  if sample.specials then listed.add(report.with_specials, i) end
  for text, count in pairs(sample.specials or {}) do
    report.specials[text] = (report.specials[text] or 0) + count
  end
  if not sample.prefix then listed.add(report.no_prefix, i) end
  local rows, all = mask.learned_of(sample)
  self.dynamic = self.dynamic or sample.learn ~= nil
  local double = tok.bos and sample.n > 1 and sample.ids[0] == tok.bos and sample.ids[1] == tok.bos
  local refused = rows == 0 and "no_learned" or all and "all_learned" or double and "double_bos"
  if refused then listed.add(report[refused], i) end
  if sample.cut > 0 then listed.add(report.cut, i) end
  if not sample.ends then listed.add(report.no_end, i) end
  if refused and o[refused] ~= "keep" then return nil end
  report.tokens, report.learned = report.tokens + sample.n, report.learned + rows
  report.longest = math.max(report.longest, sample.n)
  report.tokens_cut = report.tokens_cut + sample.cut
  return sample
end

-- Samples that nobody has gone through yet. @tab added tokens that the template added
local function begin(source, chat, tok, o, added)
  local report = new_report()
  report.added, report.bad = added, source:bad()
  return setmetatable({ source = source, name = source.name, chat = chat, tok = tok, o = o, report = report,
    cache = {}, dynamic = false }, Samples)
end

-- The same samples once more.
local function afresh(self) return begin(self.source, self.chat, self.tok, self.o, self.report.added) end

-- What `cft.samples.index` and `cft.samples.lazy` do with records is done here.
local hooks = { new_report = new_report, book = book, weight_of = mask.weight_of, afresh = afresh }

-- Go through the source once: which records become samples, how long they are, what is odd.
local function go_through(self)
  local source, o, report = self.source, self.o, self.report
  local room, n, cached = 0, 0, 0
  local function make_room(rows)
    room = rows
    self.numbers = door.resized(self.numbers, "int64_t", rows)
    self.lengths = door.resized(self.lengths, "int64_t", rows)
    self.weights = door.resized(self.weights, "double", rows)
  end
  make_room(1024)
  for i, record in source:records() do
    local sample = book(self, report, i, record)
    if sample then
      if n == room then make_room(2 * room) end
      self.numbers[n], self.lengths[n] = i, sample.n
      self.weights[n] = mask.weight_of(sample.spans, sample.span_count)
      local bytes = 4 * sample.n + 16 * sample.span_count + 300
      if cached + bytes <= o.cache_bytes then
        self.cache[n], cached = sample, cached + bytes
      end
      n = n + 1
    end
    if o.progress then o.progress(i + 1, source:size()) end
  end
  self.n, report.samples = n, n
end

-- What the recipe did not allow is an error that names the records.
local function refuse(self)
  local o, report = self.o, self.report
  for _, refusal in ipairs(refusals) do
    local name, says = refusal[1], refusal[2]
    local found = report[name]
    if found.n > 0 and o[name] == "error" then
      blame("%s: %d of %d samples %s (template %s): records %s; %s = \"drop\" leaves them out, \"keep\" takes them",
        self.source.name, found.n, report.records, says, self.chat.name, listed.names(found), name)
    end
  end
  if report.unsayable.n > 0 then
    local first = report.unsayable[1]
    blame("%s: %d records cannot become samples: record %d: %s", self.source.name,
      report.unsayable.n, first.record, first.reason)
  end
  if self.n == 0 then
    local why = report.dropped[1]
    blame("%s: none of %d records is left%s", self.source.name, report.records,
      why and (": record %d has %s"):format(why.record, why.reason) or "")
  end
end

local samples_options = {
  no_learned = { "string", "error", one_of = { "error", "drop", "keep" } },
  all_learned = { "string", "error", one_of = { "error", "drop", "keep" } },
  double_bos = { "string", "error", one_of = { "error", "drop", "keep" } },
  add_tokens = { "boolean", false },
  cache = { "string", optional = true },
  cache_bytes = { "integer", 64 * 1024 * 1024, min = 0 },
  progress = { "function", optional = true },
  large = { "integer", data.LARGE, min = 0 },
  stream = { "boolean", false },
  say = { "function", optional = true },
  also = { "function", optional = true },
}
for name, spec in pairs(mask.options) do samples_options[name] = spec end

--- The samples of a source: all of its records are encoded once, and what is odd is reported before
-- anything is trained. Record numbers, lengths and weights stay in memory, and ids up to
-- `cache_bytes`; others are made again when they are asked for.
-- @param source of `cft.data`, or a mixture of `cft.mix`: then the mixture of their samples
-- @tparam Template chat
-- @param tok
-- @tab[opt] opts
-- @int[opt] opts.max_tokens longer samples are dropped or cut; without it there is no limit
-- @string[opt="drop"] opts.length `drop`; `cut_context`, which cuts text of the record that is not
-- learned; `llamafactory`, which cuts as the paper's trainer did, ends of answers included
-- @string[opt="right"] opts.cut_side with `cut_context`: from the left, or from the right
-- @tab[opt] opts.cut_kinds with `cut_context`: which kinds, such as `{ "response" }`; all but the system
-- text if absent
-- @string[opt="error"] opts.no_learned samples without a learned token: `error`, `drop` or `keep`
-- @string[opt="error"] opts.all_learned samples with nothing but learned tokens
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
  o.last_first = chat.turns == "last"
  local added = chat:prepare(tok, { add_tokens = o.add_tokens })
  local self = begin(source, chat, tok, o, added)
  if o.stream then return require("cft.samples.lazy").new(self, hooks, Samples) end
  if source:bytes() >= o.large then
    require("cft.samples.index").samples(self, hooks, { progress = o.progress })
  else
    go_through(self)
  end
  refuse(self)
  return self
end

--- Are these samples of a source?
function M.is(value) return type(value) == "table" and rawget(getmetatable(value) or {}, "are_samples") == true end

--- How many samples there are.
-- @treturn int
function Samples:size() return self.n end

--- One sample.
-- @int k from 0
-- @treturn table as `mask.encode` gives it, with `record`, its number in the source
function Samples:get(k)
  if type(k) ~= "number" or k < 0 or k >= self.n or k % 1 ~= 0 then
    blame("samples: %s of %d in %s", tostring(k), self.n, self.name)
  end
  local i = tonumber(self.numbers[k])
  local sample = self.cache[k]
  if not sample then
    local record, why = self.source:get(i)
    if record ~= nil then sample, why = mask.sample(record, self.chat, self.tok, self.o) end
    if not sample or sample.n ~= self.lengths[k] then
      blame("%s is not what it was when it was scanned%s", self.source:where(i), why and ": " .. why or "")
    end
    sample.segments = nil
  end
  sample.record = i
  return sample
end

--- The record that a sample was made of.
-- @int k from 0
-- @treturn table
function Samples:record(k) return self.source:get(tonumber(self.numbers[k])) end

--- Where it comes from, for messages.
-- @int k from 0
-- @treturn string
function Samples:where(k) return self.source:where(tonumber(self.numbers[k])) end

--- A sample as the model sees it, for looking at: its spans with their text.
-- @int k from 0
-- @int[opt=0] step for weights that are functions
-- @treturn table a list of `{ text =, weight =, kind =, ids = }`; texts are decoded ids, and a character
-- that lies on the edge of two spans is cut
function Samples:show(k, step)
  local sample = self:get(k)
  local spans = mask.spans_at(sample, function() return self:record(k) end, step or 0)
  local shown, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local ids = {}
    for j = 1, tonumber(spans[i].count) do ids[j] = sample.ids[at + j - 1] end
    at = at + #ids
    shown[i + 1] = { text = self.tok:decode(ids), weight = spans[i].weight,
      kind = mask.kind_name(spans[i].kind), ids = ids }
  end
  return shown
end

--- What the scan found, a line each: counts first, then all that was left out, cut or found odd.
-- @treturn string
function Samples:describe()
  local r, lines = self.report, {}
  local function add(...) lines[#lines + 1] = (...):format(select(2, ...)) end
  local function add_list(entry, says)
    if entry.n > 0 then add("  %d %s: records %s", entry.n, says, listed.names(entry)) end
  end
  add("%s: %d samples of %d records; %d tokens, %d learned (%.1f%%), longest %d", self.name, r.samples,
    r.records, r.tokens, r.learned, r.tokens > 0 and 100 * r.learned / r.tokens or 0, r.longest)
  add("  %s", self.chat:describe(self.tok))
  for _, line in ipairs(require("cft.samples.index").describe(self)) do add("  %s", line) end
  if #r.added > 0 then add("  added to the tokenizer: %s", table.concat(r.added, ", ")) end
  if #r.bad > 0 then add("  %d bad records left out; the first is %s", #r.bad, data.describe(r.bad[1])) end
  add_list(r.dropped, ("dropped, %s"):format(r.dropped[1] and r.dropped[1].reason or ""))
  add_list(r.cut, ("cut (%s), %d tokens in all"):format(self.o.length, r.tokens_cut))
  if self.chat:end_token(self.tok) or self.chat.make then add_list(r.no_end, "do not end in a learned end token") end
  add_list(r.no_prefix, "do not begin with what their prompt alone is encoded as, which is what a server sends")
  for _, refusal in ipairs(refusals) do
    add_list(r[refusal[1]], ("%s (%s)"):format(refusal[2], self.o[refusal[1]] == "keep" and "kept" or "dropped"))
  end
  if r.with_specials.n > 0 then
    add_list(r.with_specials, ("hold strings of special tokens, taken as %s: %s"):format(
      self.chat.specials == "llamafactory" and "these tokens" or "plain text", specials_line(r)))
  end
  return table.concat(lines, "\n")
end

return M
