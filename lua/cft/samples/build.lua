--- From a record to a sample, or to the reason why there is none.
-- @module cft.samples.build
-- @usage local build = require("cft.samples.build").new(chat, tok, { max_tokens = 2048, length = "drop" })
-- local sample, why, class = build:sample(source:get(0))

local mask = require "cft.samples.mask"
local prompt = require "cft.samples.prompt"
local template = require "cft.text.template"

local M = {}
local Build = {}
Build.__index = Build

--- Samples that a recipe may not want: `{ class, what is said of one, what is said of several }`.
M.refusals = {
  { "no_learned", "has no loss token", "have no loss token" },
  { "all_learned", "has nothing but loss tokens", "have nothing but loss tokens" },
  { "double_bos", "begins with two begin-of-text tokens", "begin with two begin-of-text tokens" },
}

local says = {}
for _, refusal in ipairs(M.refusals) do says[refusal[1]] = refusal[2] end

--- What `new` may be told, as specs for `check.options`: those of `cft.samples.mask`, and what becomes of refusals.
M.options = {}
for name, spec in pairs(mask.options) do M.options[name] = spec end
for name in pairs(says) do M.options[name] = { "string", "error", one_of = { "error", "drop", "keep" } } end

-- Strings of special tokens in the record's text, and of others that the template writes → how many; nil where there
-- are none.
local function specials_in(segments, tok, controls)
  local found
  local function add(text, count)
    found = found or {}
    found[text] = (found[text] or 0) + count
  end
  for _, segment in ipairs(segments) do
    if segment.content then
      for _, match in ipairs(tok:find_special(segment.text)) do add(tok:token(match.id), 1) end
      for _, text in ipairs(controls) do
        local at = segment.text:find(text, 1, true)
        while at do
          add(text, 1)
          at = segment.text:find(text, at + #text, true)
        end
      end
    end
  end
  return found
end

-- Does the sample begin with the ids of its prompt? A server writes all before the last answer as one text, special
-- tokens by their strings, and encodes that, with what the tokenizer puts around it where there is no chat template;
-- where it gets other ids, the model was trained on another prompt.
local function begins_with_prompt(sample, tok)
  if sample.segments.other_prompt then return false end
  local encoding = tok:encode_spans(prompt.text(sample.segments, tok), true)
  local front, behind = template.around(tok)
  local n, before = encoding and tonumber(encoding.n) or math.huge, #front
  if behind[1] or n > sample.n then return false end
  if n > 0 and encoding.ids[0] == front[1] then before = 0 end  -- the template writes it
  if before + n > sample.n then return false end
  for i = 1, before do
    if sample.ids[i - 1] ~= front[i] then return false end
  end
  for i = 0, n - 1 do
    if encoding.ids[i] ~= sample.ids[before + i] then return false end
  end
  return true
end

-- The fields of a record that nothing reads: what its conversation knows of, and what the model's own chat template
-- leaves out, or a function does not say that it reads.
local function unused_of(record, segments, chat)
  if not segments.written and not (chat.make and record.needs) then return record.unused end
  local unused = {}
  for name in pairs(record.unused or {}) do
    if not (segments.written and name:find "%.name$") then unused[name] = true end  -- it is given to the template
  end
  for name in pairs(segments.written and segments.unwritten or {}) do unused[name] = true end
  for name in pairs(not segments.written and record.needs or {}) do unused[name .. ", left to the template's function"] = true end
  return next(unused) and unused or nil
end

-- Does a record have an answer that is context? A template that is a function decides by itself what has loss weight.
local function has_context(record)
  for _, message in ipairs(record.messages or {}) do
    if message.learn == false then return true end
  end
  return false
end

-- The first reason for which a recipe may not want a sample.
local function odd_class(sample, tok)
  local rows, all = mask.learned_of(sample)
  local double = tok.bos and sample.n > 1 and sample.ids[0] == tok.bos and sample.ids[1] == tok.bos
  return rows == 0 and "no_learned" or all and "all_learned" or double and "double_bos" or nil, rows
end

--- The sample of a record, with what is odd about it: `specials`, strings of special tokens in its text and how many;
-- `prefix`, false where a server would encode its prompt otherwise; `unused`, the set of the
-- record's fields that nothing reads; `own`, the set of those for which the model's own chat template wrote it;
-- `left_to_function`, true where the record has answers that are context and a function is the template; `odd`, the class
-- of `refusals` that it is of; and `learned`, its rows that have loss weight.
-- @tab record a conversation
-- @treturn ?table as `mask.encode` gives it; nil where there is none to train on, then
-- @treturn string why
-- @treturn string its class: `unsayable`, `dropped`, or one of `refusals`
-- @treturn ?table the sample all the same, where it is the recipe that does not want it
function Build:sample(record)
  local tok = self.tok
  local sample, why, class = mask.sample(record, self.chat, tok, self.o)
  if not sample then return nil, why, class end
  sample.specials = specials_in(sample.segments, tok, sample.controls)
  -- A cut prompt is not what a server would write, and a special token's string is reported as such.
  sample.prefix = sample.cut > 0 or sample.specials ~= nil or begins_with_prompt(sample, tok)
  sample.unused, sample.own = unused_of(record, sample.segments, self.chat), sample.segments.written and record.needs or nil
  sample.segments, sample.controls = nil, nil
  sample.left_to_function = self.chat.make ~= nil and has_context(record)
  sample.odd, sample.learned = odd_class(sample, tok)
  if sample.odd and self.o[sample.odd] ~= "keep" then return nil, says[sample.odd], sample.odd, sample end
  return sample
end

--- A sample again, without a look at what is odd.
-- @tab record
-- @treturn ?table nil and why
function Build:again(record)
  local sample, why = mask.sample(record, self.chat, self.tok, self.o)
  if sample then sample.segments, sample.controls = nil, nil end
  return sample, why
end

--- What `show` of samples gives: a sample's spans with their text.
-- @param samples with `get`, `record`, `tok`
-- @int k
-- @int[opt=0] step
-- @treturn table a list of `{ text =, weight =, kind =, ids = }`
function M.show(samples, k, step)
  local sample = samples:get(k)
  local spans = mask.spans_at(sample, function() return samples:record(k) end, step or 0)
  local shown, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local ids = {}
    for j = 1, tonumber(spans[i].count) do ids[j] = sample.ids[at + j - 1] end
    at = at + #ids
    shown[i + 1] = { text = samples.tok:decode(ids), weight = spans[i].weight,
      kind = mask.kind_name(spans[i].kind), ids = ids }
  end
  return shown
end

--- A builder. The template's tokens must be in the tokenizer.
-- @tparam Template chat
-- @param tok
-- @tab o checked by `options`
-- @treturn Build
function M.new(chat, tok, o)
  o.last_first = chat.turns == "last"
  return setmetatable({ chat = chat, tok = tok, o = o }, Build)
end

return M
