--- Masks: segments become token ids, each with the weight of its segment.
--
-- The weight of a token is decided where its text is made, never found again by searching ids. Here
-- are also the rules for samples that are too long; all samples of a source, and what is odd about them, are
-- `cft.samples`' business. docs/templates.md has the rules in words.
-- @module cft.samples.mask
-- @usage local s = cft.mask.encode(source:get(0), chat, tok, { max_tokens = 2048 })
-- s.n, tok:token(s.ids[0]), s.spans[0].weight   --> 134 "<|im_start|>" 0

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local conversation = require "cft.data.conversation"
local template = require "cft.text.template"
local ffi = door.ffi

local M = {}

-- ---- kinds -----------------------------------------------------------------------------------

-- Kinds travel through batches as one byte a token. Those that users make up get the next numbers.
local kind_names = { [0] = "template", "system", "query", "response", "critique", "verdict", "end" }
local kind_ids = {}
for id = 0, #kind_names do kind_ids[kind_names[id]] = id end

--- The number of a kind of text, which is its byte in `batch.kinds`.
-- @string name
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
-- @usage cft.mask.kind_name(cft.mask.kind_id "verdict")   --> "verdict"
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

-- Where a run's white space belongs to the template's tokens beside it, as Hugging Face tokenizers has it for the whole
-- text: on the `left`, behind one with rstrip; on the `right`, before one with lstrip. An answer's own white space
-- belongs to its own tokens alone, since the model writes it.
local function strip_of(last, run, following, tok)
  local function takes(segment, flag, edge)
    local flags = segment and segment.special and tok:added(template.id_of(segment, tok))
    return flags and flags[flag] and (not edge.target or edge.slot == segment.slot)
  end
  local left = takes(last and last.segment, "rstrip", run[1])
  local right = takes(following, "lstrip", run[#run])
  return left and right and "both" or left and "left" or right and "right" or nil
end

-- Encode neighbours as one text. A token belongs to the segment its first byte is in.
local function add_run(pieces, run, following, tok, controls)
  local texts, stops, bytes = {}, {}, 0
  for i, segment in ipairs(run) do
    texts[i] = segment.text
    bytes = bytes + #segment.text
    stops[i] = bytes
  end
  if bytes == 0 then return end
  local text = table.concat(texts)
  local last = pieces[#pieces]
  local encoding, why = tok:encode_spans(text, run[1].parse or false, last and (last.text and "text" or "token"),
    not run[1].parse and controls or nil, strip_of(last, run, following, tok))
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

local function pieces_of(segments, tok, controls)
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
      local why = add_run(pieces, run, segments[i], tok, controls)
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
  return nil, ("%d tokens, more than %d%s"):format(n, o.max_tokens, o.limit and ", " .. o.limit or "")
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
    return nil, ("%d tokens, %d of them context that may be cut; %d fit%s"):format(n, total, o.max_tokens,
      o.limit and ", " .. o.limit or "")
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
-- turn has loss weight, the order is reversed.
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

--- What `encode` may be told, as specs for `check.options`.
M.options = {
  max_tokens = { "integer", optional = true, min = 1 },
  limit = { "string", optional = true },  -- what `max_tokens` is, for messages
  length = { "string", "drop", one_of = { "drop", "cut_context", "llamafactory" } },
  cut_side = { "string", "right", one_of = { "left", "right" } },
  cut_kinds = { "table", optional = true },
}

-- The sample of a record by options that were checked, with its `segments`; or nil, the reason, and its class:
-- `unsayable` or `dropped`. See `encode`.
-- @tab record
-- @tparam Template chat
-- @tparam Tokenizer tok
-- @tab o options
function M.sample(record, chat, tok, o)
  local segments, unsaid = chat:segments(record, tok)
  if not segments then return nil, unsaid, "unsayable" end
  local controls = chat:controls(tok, segments)
  local pieces, n = pieces_of(segments, tok, controls)
  if not pieces then return nil, n, "unsayable" end
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
    ends = ends and last.count > 0 or false, verdict = conversation.verdict(record), segments = segments,
    controls = controls.texts,
  }
end

--- One record by itself, without a report: for looking at what a template does.
-- @tab record a conversation
-- @tparam Template chat
-- @param tok
-- @tab[opt] opts `max_tokens`, `limit`, `length`, `cut_side`, `cut_kinds` as in `cft.samples`
-- @treturn ?table a sample: `n` tokens, `ids` (int32_t), `spans` (cft_batch_span) and `span_count`,
-- `cut` tokens taken away, `ends` true if it ends in an end token with loss weight, `verdict` true, false or nil;
-- or nil and the reason
function M.encode(record, chat, tok, opts)
  local o = check.options("mask.encode", opts, M.options)
  o.last_first = chat.turns == "last"
  return M.sample(record, chat, tok, o)
end

--- The ids of all that stands before a record's last answer: what a model is given to answer.
-- @tab record a conversation
-- @tparam Template chat
-- @param tok
-- @treturn ?table a list of ids; nil where the record cannot be said, and why
-- @usage local ids = cft.mask.prompt(source:get(0), chat, tok)
-- tok:decode({ unpack(ids, #ids - 2) })   --> "<|im_start|>assistant\n"
function M.prompt(record, chat, tok)
  local segments, why = chat:segments(record, tok)
  local pieces
  if segments then pieces, why = pieces_of(segments, tok, chat:controls(tok, segments)) end
  if not pieces then return nil, why end
  local last = #pieces
  while last > 0 and not pieces[last].segment.target do last = last - 1 end
  while last > 1 and pieces[last - 1].segment.target do last = last - 1 end
  local ids = {}
  for i = 1, last - 1 do
    for k = 0, pieces[i].count - 1 do ids[#ids + 1] = buffer.ids[pieces[i].first + k] end
  end
  return ids
end

--- A sample's spans with all weights as numbers.
-- @tab sample
-- @func record gives the record; called only if a weight is a function
-- @int step the step, from 0
-- @return cft_batch_span array: the sample's own, or a copy where a function had to be asked
-- @usage local rising = cft.template.qwen { learn = function(record, step) return step / 10 end }
-- local s = cft.mask.encode(source:get(0), rising, tok)
-- local spans = cft.mask.spans_at(s, function() return source:get(0) end, 5)
-- cft.mask.weight_of(spans, s.span_count)   --> 17.5
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

--- The kinds of a sample's tokens, in the order in which they first come.
-- @tab sample
-- @treturn table a list of `{ name =, tokens =, learned = }`: rows that have loss weight, as `learned_of` counts them
-- @usage local s = cft.mask.encode(source:get(0), chat, tok)
-- for _, kind in ipairs(cft.mask.kinds_of(s)) do print(kind.name, kind.learned) end
-- --> template 0   system 0   query 0   response 0   critique 28   verdict 6   end 1
function M.kinds_of(sample)
  local list, by_name = {}, {}
  for i = 0, sample.span_count - 1 do
    local span = sample.spans[i]
    local name, count = M.kind_name(span.kind), tonumber(span.count)
    local kind = by_name[name]
    if not kind then
      kind = { name = name, tokens = 0, learned = 0 }
      by_name[name], list[#list + 1] = kind, kind
    end
    kind.tokens = kind.tokens + count
    if span.weight ~= 0 or sample.learn and sample.learn[i] then
      kind.learned = kind.learned + count - (i == 0 and 1 or 0)  -- nothing predicts a sequence's first token
    end
  end
  return list
end

--- How many rows of a sample have loss weight, and whether all are. A weight that is a function counts as weight.
-- @tab sample
-- @treturn bool
-- @usage cft.mask.learned_of(cft.mask.encode(source:get(0), chat, tok))   --> 35 false
function M.learned_of(sample)
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

return M
