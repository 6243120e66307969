--- Masks: segments become token ids, each with the weight of its segment.
--
-- The weight of a token is decided where its text is made, never found again by searching ids. Here
-- are also the rules for samples that are too long, and the report on all that was left out, cut or
-- found odd. docs/templates.md has the rules in words.
-- @module cft.mask
-- @usage local samples = mask.samples(source, template.qwen(), tok, { max_tokens = 2048 })
-- print(samples:describe())
-- local s = samples:get(0)
-- print(s.n, s.ids[0], s.spans[0].weight)

local door = require "cft.ffi"
local blame = require "cft.blame"
local check = require "cft.check"
local data = require "cft.data"
local template = require "cft.template"
local ffi = door.ffi

local M = {}

-- ---- kinds -----------------------------------------------------------------------------------

-- Kinds travel through batches as one byte a token. Those that users make up get the next numbers.
local kind_names = { [0] = "template", "system", "query", "response", "critique", "verdict", "end" }
local kind_ids = {}
for id = 0, #kind_names do kind_ids[kind_names[id]] = id end

--- The number of a kind of text, which is its byte in `batch.kinds`.
-- @string name
-- @treturn int
function M.kind_id(name)
  local id = kind_ids[name]
  if not id then
    id = #kind_names + 1
    if id > 255 then blame("mask: kind '%s' is one too many; there may be 256", tostring(name)) end
    kind_names[id], kind_ids[name] = name, id
  end
  return id
end

--- The kind of a number.
-- @int id
-- @treturn string
function M.kind_name(id) return kind_names[tonumber(id)] end

-- ---- segments to pieces ----------------------------------------------------------------------

-- The tokens of one record while it is made: ids, and for each the byte of its text where it starts.
local Buffer = {}
Buffer.__index = Buffer

local function new_buffer() return setmetatable({ n = 0, room = 0 }, Buffer) end

function Buffer:reserve(more)
  if self.n + more <= self.room then return end
  local room = math.max(2 * self.room, self.n + more, 4096)
  local ids, starts = ffi.new("int32_t[?]", room), ffi.new("int32_t[?]", room)
  if self.n > 0 then
    ffi.copy(ids, self.ids, 4 * self.n)
    ffi.copy(starts, self.starts, 4 * self.n)
  end
  self.ids, self.starts, self.room = ids, starts, room
end

function Buffer:add(id, start)
  self.ids[self.n], self.starts[self.n] = id, start
  self.n = self.n + 1
end

local buffer = new_buffer()  -- of one record at a time

-- A piece is what a segment became: `count` tokens from `first` on.
local function add_special(pieces, segment, tok)
  local id = template.id_of(segment, tok)
  if not id then
    blame("mask: the tokenizer has no token %s", segment.text or "for '" .. segment.own .. "'")
  end
  pieces[#pieces + 1] = { segment = segment, first = buffer.n, count = 1 }
  buffer:reserve(1)
  buffer:add(id, 0)
end

-- Encode neighbours as one text. A token belongs to the segment its first byte is in.
local function add_run(pieces, run, tok)
  local texts, stops, bytes = {}, {}, 0
  for i, segment in ipairs(run) do
    texts[i] = segment.text
    bytes = bytes + #segment.text
    stops[i] = bytes
  end
  if bytes == 0 then return end
  local text = table.concat(texts)
  local last = pieces[#pieces]
  local encoding, why = tok:encode_spans(text, run[1].parse or false, last and (last.text and "text" or "token"))
  if not encoding then return why end
  local n = tonumber(encoding.n)
  buffer:reserve(n)
  local first, i = buffer.n, 0
  for k, segment in ipairs(run) do
    local from = i
    while i < n and (encoding.spans[i].start < stops[k] or k == #run) do
      buffer:add(encoding.ids[i], tonumber(encoding.spans[i].start))
      i = i + 1
    end
    if i > from then
      pieces[#pieces + 1] = { segment = segment, first = first + from, count = i - from, text = text }
    end
  end
end

local function pieces_of(segments, tok)
  buffer.n = 0
  local pieces, i = {}, 1
  while i <= #segments do
    local segment = segments[i]
    if segment.special then
      add_special(pieces, segment, tok)
      i = i + 1
    else
      local run = {}
      while i <= #segments and not segments[i].special and segments[i].slot == segment.slot do
        run[#run + 1] = segments[i]
        i = i + 1
      end
      local why = add_run(pieces, run, tok)
      if why then return nil, why end
    end
  end
  return pieces, buffer.n
end

-- ---- length policies -------------------------------------------------------------------------
-- Each gets the pieces of a record that is too long and shortens them in place. It returns how many
-- tokens it took away, or nil and the reason why the record must be dropped.

local policies = {}

function policies.drop(_, n, o)
  return nil, ("%d tokens, more than %d"):format(n, o.max_tokens)
end

-- Does token k of a piece start inside a character? Byte-level tokens can.
local function splits_character(piece, k)
  local byte = piece.text:byte(buffer.starts[piece.first + k] + 1)
  return byte ~= nil and byte >= 0x80 and byte < 0xc0
end

local function cuttable(piece, o)
  local s = piece.segment
  if not s.content or s.target or s.weight ~= 0 then return false end
  if not o.cut_kinds then return s.kind ~= "system" end
  for _, kind in ipairs(o.cut_kinds) do
    if kind == s.kind then return true end
  end
  return false
end

function policies.cut_context(pieces, n, o)
  local left, total = n - o.max_tokens, 0
  for _, piece in ipairs(pieces) do
    if cuttable(piece, o) then total = total + piece.count end
  end
  if total <= left then
    return nil, ("%d tokens, %d of them context that may be cut; %d fit"):format(n, total, o.max_tokens)
  end
  local cut, from, to, step = 0, 1, #pieces, 1
  if o.cut_side == "right" then from, to, step = #pieces, 1, -1 end
  for i = from, to, step do
    local piece = pieces[i]
    if left > 0 and cuttable(piece, o) then
      local take = math.min(left, piece.count)
      if o.cut_side == "left" then
        while take < piece.count and splits_character(piece, take) do take = take + 1 end
        piece.first = piece.first + take
      else
        while take < piece.count and splits_character(piece, piece.count - take) do take = take + 1 end
      end
      piece.count = piece.count - take
      cut, left = cut + take, left - take
    end
  end
  return cut
end

-- How many tokens of a turn LLaMA-Factory keeps: `infer_seqlen` of its processor_utils.py.
local function kept_of(source, target, room)
  local most
  if 2 * target < room then
    most = room
  elseif 2 * source < room then
    most = room - source
  else
    most = math.floor(room * (target / (source + target)))
  end
  target = math.min(most, target)
  return math.min(math.max(room - target, 0), source), target
end

-- Keep the first `count` tokens of these pieces; returns how many went.
local function keep_first(pieces, count)
  local gone = 0
  for _, piece in ipairs(pieces) do
    local keep = math.min(piece.count, count)
    gone = gone + piece.count - keep
    piece.count, count = keep, count - keep
  end
  return gone
end

-- Turn by turn, both sides lose their ends, and later turns get what is left; where only the last
-- turn is learned, the order is turned round.
function policies.llamafactory(pieces, _, o)
  local turns, count = {}, 0
  for _, piece in ipairs(pieces) do
    local t = piece.segment.turn
    turns[t] = turns[t] or { [false] = {}, [true] = {}, n = { [false] = 0, [true] = 0 } }
    local side = piece.segment.target
    table.insert(turns[t][side], piece)
    turns[t].n[side] = turns[t].n[side] + piece.count
    count = math.max(count, t + 1)
  end
  local room, cut = o.max_tokens, 0
  for i = 0, count - 1 do
    local turn = turns[o.last_first and count - 1 - i or i]
    if turn then
      local source, target = 0, 0
      if room > 0 then source, target = kept_of(turn.n[false], turn.n[true], room) end
      cut = cut + keep_first(turn[false], source) + keep_first(turn[true], target)
      room = room - source - target
    end
  end
  return cut
end

-- ---- a sample --------------------------------------------------------------------------------

local none = ffi.new "cft_batch_span[0]"

-- Spans of equal weight and kind run together. Weights that are functions are 0 in `spans` until the
-- batch asks for them; `learn` has them by the number of the span.
local function spans_of(pieces)
  local list, learn = {}, nil
  for _, piece in ipairs(pieces) do
    local s = piece.segment
    if piece.count > 0 then
      local last, kind = list[#list], M.kind_id(s.kind)
      if last and last.weight == s.weight and last.kind == kind then
        last.count = last.count + piece.count
      else
        list[#list + 1] = { count = piece.count, weight = s.weight, kind = kind }
      end
    end
  end
  local spans = #list > 0 and ffi.new("cft_batch_span[?]", #list) or none
  for i, span in ipairs(list) do
    local weight = span.weight
    if type(weight) == "function" then
      learn = learn or {}
      learn[i - 1], weight = weight, 0
    end
    spans[i - 1].count, spans[i - 1].weight, spans[i - 1].kind = span.count, weight, span.kind
  end
  return spans, #list, learn
end

local function verdict_of(record)
  local content = record.messages and record.messages[#record.messages].content
  if type(content) == "table" then
    local texts = {}
    for i, part in ipairs(content) do
      if part.verdict ~= nil then return part.verdict end  -- who made the parts knows it
      texts[i] = part.text
    end
    content = table.concat(texts)
  end
  return content and template.verdict(content)
end

local encode_options = {
  max_tokens = { "integer", optional = true, min = 1 },
  length = { "string", "drop", one_of = { "drop", "cut_context", "llamafactory" } },
  cut_side = { "string", "right", one_of = { "left", "right" } },
  cut_kinds = { "table", optional = true },
}

-- The sample of a record; or nil, the reason and its class.
local function encode(record, chat, tok, o)
  local segments, unsaid = chat:segments(record)
  if not segments then return nil, unsaid, "unreadable" end
  local pieces, n = pieces_of(segments, tok)
  if not pieces then return nil, n, "unreadable" end
  local whole, cut = n, 0
  local last = pieces[#pieces]
  local ends = last and last.segment.special and last.segment.target and last.segment.weight ~= 0
  if o.max_tokens and n > o.max_tokens then
    local why
    cut, why = policies[o.length](pieces, n, o)
    if not cut then return nil, why, "dropped" end
    n = n - cut
  end
  local ids, at = ffi.new("int32_t[?]", n), 0
  for _, piece in ipairs(pieces) do
    ffi.copy(ids + at, buffer.ids + piece.first, 4 * piece.count)
    at = at + piece.count
  end
  local spans, span_count, learn = spans_of(pieces)
  return {
    n = n, ids = ids, spans = spans, span_count = span_count, learn = learn, cut = cut, whole = whole,
    ends = ends and last.count > 0 or false, verdict = verdict_of(record), segments = segments,
  }
end

--- One record by itself, without a report: for looking at what a template does.
-- @tab record a conversation
-- @tparam Template chat
-- @param tok
-- @tab[opt] opts `max_tokens`, `length`, `cut_side`, `cut_kinds` as in `samples`
-- @treturn ?table a sample: `n` tokens, `ids` (int32_t), `spans` (cft_batch_span) and `span_count`,
-- `cut` tokens taken away, `ends` true if it ends in a learned end token, `verdict` true, false or nil;
-- or nil and the reason
function M.encode(record, chat, tok, opts)
  local o = check.options("mask.encode", opts, encode_options)
  o.last_first = chat.turns == "last"
  return encode(record, chat, tok, o)
end

--- A sample's spans with all weights as numbers.
-- @tab sample
-- @func record gives the record; called only if a weight is a function
-- @int step the update, from 0
-- @return cft_batch_span array: the sample's own, or a copy where a function had to be asked
function M.spans_at(sample, record, step)
  if not sample.learn then return sample.spans end
  local spans = ffi.new("cft_batch_span[?]", sample.span_count)
  ffi.copy(spans, sample.spans, ffi.sizeof(spans))
  local asked = record()
  for i, learn in pairs(sample.learn) do
    local weight = learn(asked, step)
    if type(weight) ~= "number" or not (weight >= 0 and weight < math.huge) then
      blame("learn: gave %s for record %d at step %d; a number from 0 is wanted", tostring(weight),
        sample.record or 0, step)
    end
    spans[i].weight = weight
  end
  return spans
end

--- The sum of the weights of spans, a sequence's first token left out: nothing predicts it.
-- @param spans
-- @int count
-- @treturn number
function M.weight_of(spans, count)
  local sum = 0
  for i = 0, count - 1 do
    sum = sum + (tonumber(spans[i].count) - (i == 0 and 1 or 0)) * spans[i].weight
  end
  return sum
end

-- How many rows are learned, and whether all are. A weight that is a function counts as learned.
local function learned_of(sample)
  local rows, plain = 0, false
  for i = 0, sample.span_count - 1 do
    local span = sample.spans[i]
    if span.weight ~= 0 or sample.learn and sample.learn[i] then
      rows = rows + tonumber(span.count) - (i == 0 and 1 or 0)
    else
      plain = true
    end
  end
  return rows, not plain
end

-- ---- samples of a source ---------------------------------------------------------------------

local Samples = { of_mask = true }
Samples.__index = Samples

local NAMED = 10     -- record numbers that a line names
local LISTED = 10000  -- that the report keeps

local function new_list() return { n = 0 } end

local function list(entry, i, ...)
  entry.n = entry.n + 1
  if #entry < LISTED then entry[#entry + 1] = select("#", ...) > 0 and { record = i, reason = ... } or i end
end

local function named(entry)
  local names = {}
  for k = 1, math.min(#entry, NAMED) do
    local e = entry[k]
    names[k] = tostring(type(e) == "table" and e.record or e)
  end
  return table.concat(names, ", ") .. (entry.n > NAMED and ", ..." or "")
end

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

local function grow(array, ctype, n, room)
  if n < room then return array end
  local bigger = ffi.new(ctype .. "[?]", 2 * room)
  ffi.copy(bigger, array, ffi.sizeof(ctype) * n)
  return bigger
end

-- The sample of a record, with `specials` and `prefix`, which say what is odd about its text; or nil, the
-- reason and its class. The token cache answers where it can.
local function look(self, record)
  local tok, cache = self.tok, self.token_cache
  local key = cache and cache:key(record)
  local sample, why, class
  if key then
    sample, why, class = cache:get(key)
    if sample or class then
      cache.taken = cache.taken + 1
      return sample, why, class
    end
  end
  sample, why, class = encode(record, self.chat, tok, self.o)
  if sample then
    sample.specials = specials_in(sample.segments, tok)
    -- A cut prompt is none that a server would write, and a special token's string is reported as such.
    sample.prefix = sample.cut > 0 or sample.specials ~= nil or begins_with_prompt(sample, tok)
    sample.segments = nil
  end
  if key and class ~= "unreadable" then cache:put(key, sample, why, class) end
  return sample, why, class
end

-- A report of nothing yet. Counts, lists of records, and counts by text: `cft.scan` adds them up.
local function new_report()
  return { records = 0, samples = 0, tokens = 0, learned = 0, longest = 0, tokens_cut = 0, specials = {},
    with_specials = new_list(), dropped = new_list(), cut = new_list(), no_end = new_list(),
    no_prefix = new_list(), no_learned = new_list(), all_learned = new_list(), double_bos = new_list(),
    unreadable = new_list() }
end

-- Look at a record and enter it in a report: its sample, if it is one to train on.
local function book(self, report, i, record)
  local tok, o = self.tok, self.o
  report.records = report.records + 1
  local sample, why, class = look(self, record)
  if not sample then
    list(report[class], i, why)
    return nil
  end
  if sample.specials then list(report.with_specials, i) end
  for text, count in pairs(sample.specials or {}) do
    report.specials[text] = (report.specials[text] or 0) + count
  end
  if not sample.prefix then list(report.no_prefix, i) end
  local rows, all = learned_of(sample)
  self.dynamic = self.dynamic or sample.learn ~= nil
  local double = tok.bos and sample.n > 1 and sample.ids[0] == tok.bos and sample.ids[1] == tok.bos
  local refused = rows == 0 and "no_learned" or all and "all_learned" or double and "double_bos"
  if refused then list(report[refused], i) end
  if sample.cut > 0 then list(report.cut, i) end
  if not sample.ends then list(report.no_end, i) end
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

-- What `cft.scan` and `cft.stream` do with records is done here.
local hooks = { new_report = new_report, book = book, weight_of = M.weight_of, afresh = afresh }

-- Go through the source once: which records become samples, how long they are, what is odd.
local function scan(self)
  local source, o, report = self.source, self.o, self.report
  local room, n, cached = 1024, 0, 0
  self.numbers, self.lengths, self.weights =
    ffi.new("int64_t[?]", room), ffi.new("int64_t[?]", room), ffi.new("double[?]", room)
  for i, record in source:records() do
    local sample = book(self, report, i, record)
    if sample then
      if n == room then
        self.numbers = grow(self.numbers, "int64_t", n, room)
        self.lengths = grow(self.lengths, "int64_t", n, room)
        self.weights = grow(self.weights, "double", n, room)
        room = 2 * room
      end
      self.numbers[n], self.lengths[n] = i, sample.n
      self.weights[n] = M.weight_of(sample.spans, sample.span_count)
      local bytes = 4 * sample.n + 16 * sample.span_count + 300
      if cached + bytes <= o.cache_bytes then
        self.cache[n], cached = sample, cached + bytes
      end
      n = n + 1
    end
    if o.progress then o.progress(i + 1, source:size()) end
  end
  self.n, report.samples = n, n
  if self.token_cache then self.token_cache:flush() end
end

-- What the recipe did not allow is an error that names the records.
local function refuse(self)
  local o, report = self.o, self.report
  for _, refusal in ipairs(refusals) do
    local name, says = refusal[1], refusal[2]
    local found = report[name]
    if found.n > 0 and o[name] == "error" then
      blame("%s: %d of %d samples %s (template %s): records %s; %s = \"drop\" leaves them out, \"keep\" takes them",
        self.source.name, found.n, report.records, says, self.chat.name, named(found), name)
    end
  end
  if report.unreadable.n > 0 then
    local first = report.unreadable[1]
    blame("%s: %d records cannot become samples: record %d: %s", self.source.name,
      report.unreadable.n, first.record, first.reason)
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
for name, spec in pairs(encode_options) do samples_options[name] = spec end

local function open_cache(self)
  local o = self.o
  if not o.cache then return end
  self.token_cache, self.no_cache = require("cft.tokencache").open(o.cache, self.chat, self.tok, {
    max_tokens = o.max_tokens, length = o.length, cut_side = o.cut_side, cut_kinds = o.cut_kinds,
  })
end
hooks.open_cache = open_cache

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
-- @string[opt] opts.cache folder that keeps ids between runs, see `cft.tokencache`
-- @int[opt=64 MiB] opts.cache_bytes of ids that are kept in memory
-- @func[opt] opts.progress called with records done and all, once a record or more
-- @int[opt=64 MiB] opts.large sources of files from so many bytes on are scanned in all processors, and
-- what is found is kept: see `cft.scan`
-- @bool[opt=false] opts.stream do not scan: each record is checked before it is trained on, see `cft.stream`
-- @func[opt] opts.say gets what is to be said meanwhile, a line each
-- @func[opt] opts.also with `stream`: gets a record and where it is from; a text from it is why it is left out
-- @treturn Samples
function M.samples(source, chat, tok, opts)
  if source.parts then  -- a mixture
    return source:map(function(part) return M.samples(part, chat, tok, opts) end)
  end
  local o = check.options("mask.samples", opts, samples_options)
  o.last_first = chat.turns == "last"
  local added = chat:prepare(tok, { add_tokens = o.add_tokens })
  local self = begin(source, chat, tok, o, added)
  if o.stream then return require("cft.stream").new(self, hooks, Samples) end
  if source:bytes() >= o.large then
    require("cft.scan").samples(self, hooks, { progress = o.progress })
  else
    open_cache(self)
    scan(self)
  end
  refuse(self)
  return self
end

--- Are these samples of a source?
function M.is(value) return type(value) == "table" and rawget(getmetatable(value) or {}, "of_mask") == true end

-- A sample again, from the token cache or made anew.
local function recall(self, record)
  local cache = self.token_cache
  local key = cache and cache:key(record)
  local sample = key and cache:get(key)
  if sample then return sample end
  return encode(record, self.chat, self.tok, self.o)
end

--- How many samples there are.
-- @treturn int
function Samples:size() return self.n end

--- One sample.
-- @int k from 0
-- @treturn table as `encode` gives it, with `record`, its number in the source
function Samples:get(k)
  if type(k) ~= "number" or k < 0 or k >= self.n or k % 1 ~= 0 then
    blame("samples: %s of %d in %s", tostring(k), self.n, self.name)
  end
  local i = tonumber(self.numbers[k])
  local sample = self.cache[k]
  if not sample then
    local record, why = self.source:get(i)
    if record ~= nil then sample, why = recall(self, record) end
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
  local spans = M.spans_at(sample, function() return self:record(k) end, step or 0)
  local shown, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local ids = {}
    for j = 1, tonumber(spans[i].count) do ids[j] = sample.ids[at + j - 1] end
    at = at + #ids
    shown[i + 1] = { text = self.tok:decode(ids), weight = spans[i].weight,
      kind = M.kind_name(spans[i].kind), ids = ids }
  end
  return shown
end

--- What the scan found, a line each: counts first, then all that was left out, cut or found odd.
-- @treturn string
function Samples:describe()
  local r, lines = self.report, {}
  local function add(...) lines[#lines + 1] = (...):format(select(2, ...)) end
  local function add_list(entry, says)
    if entry.n > 0 then add("  %d %s: records %s", entry.n, says, named(entry)) end
  end
  add("%s: %d samples of %d records; %d tokens, %d learned (%.1f%%), longest %d", self.name, r.samples,
    r.records, r.tokens, r.learned, r.tokens > 0 and 100 * r.learned / r.tokens or 0, r.longest)
  add("  %s", self.chat:describe(self.tok))
  for _, line in ipairs(require("cft.scan").describe(self)) do add("  %s", line) end
  if self.token_cache then
    add("  %s", (self.token_cache:describe():gsub("\n", "\n  ")))
  elseif self.no_cache then
    add("  not cached: %s", self.no_cache)
  end
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
