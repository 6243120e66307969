--- Templates: a record becomes segments of text, each with a kind and a weight.
--
-- A segment is `{ text =, kind =, weight =, ... }`: the weight is the loss weight of its tokens
-- (0 is context), and `special = true` that it is one token of the template. Special tokens come from
-- here alone: their strings inside data are plain text, unless the template says otherwise.
--
-- A template is described by its turns; `cft.text.presets` has the presets, to copy from. docs/templates.md has the
-- rules.
-- @module cft.text.template
-- @usage local record = { messages = { { role = "user", content = "2 + 3?" }, { role = "assistant", content = "5" } } }
-- for _, s in ipairs(cft.template.qwen():segments(record)) do print(s.weight, s.kind, s.text) end

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local chat_segments = require "cft.text.chat_segments"
local kinds = require "cft.text.kinds"
local pieces = require "cft.text.presets"
local texts = require "cft.base.text"
local tokens = require "cft.text.template_tokens"

local M = {}
local Template = {}
Template.__index = Template
for name, method in pairs(tokens.methods) do Template[name] = method end

--- What turns are made of: `content`, `system`, `special "..."`, `bos` and `eos`, see `cft.text.presets`.
M.content, M.system, M.special, M.bos, M.eos = pieces.content, pieces.system, pieces.special, pieces.bos, pieces.eos
M.first = pieces.first
M.verdict, M.parts = kinds.verdict, kinds.parts
M.id_of, M.around, M.tokenizer_of = tokens.id_of, tokens.around, tokens.tokenizer_of

-- ---- a template ------------------------------------------------------------------------------

-- Options that every template takes.
local options = {
  learn = { "number|table|function", 1 },
  turns = { "string", "all", one_of = { "all", "last" } },
  specials = { "string", "text", one_of = { "text", "llamafactory" } },
  parts = { "function", kinds.parts },
}

local function has_system(turn)
  for _, piece in ipairs(turn) do
    if piece == M.system then return true end
  end
  return false
end

local rule = { "string", optional = true, one_of = { "both", "joined" } }
local trims = { system = rule, user = rule, assistant = rule }

-- A user's turn has one place for the system text, or none.
local function check_system_place(s)
  local found, behind = false, false
  for _, piece in ipairs(s.user_turn) do
    if piece == M.system then
      if behind then blame "template.new: 'system' stands behind 'content' in user_turn; its place is before it" end
      if found then blame "template.new: 'system' stands twice in user_turn; once is wanted" end
      found = true
    end
    behind = behind or piece == M.content
  end
  if s.system_in == "last" and not found then
    blame "template.new: system_in = \"last\" is for a 'system' in user_turn, and there is none"
  end
end

-- A description that was checked for what would be left out without a word, or written twice.
local function checked(spec)
  local s = check.options("template.new", spec, {
    name = { "string" }, prefix = { "table", {} }, system_turn = { "table|boolean", { M.content } },
    system = { "string|boolean", false }, empty_system_is_default = { "boolean", false },
    system_in = { "string", "first", one_of = { "first", "last" } },
    user_turn = { "table" }, answer_turn = { "table" }, between = { "table", {} },
    trim = { "boolean|table", false },
  })
  if type(s.trim) == "table" then check.options("template.new: trim", s.trim, trims) end
  for _, name in ipairs { "prefix", "system_turn", "answer_turn", "between" } do
    if type(s[name]) == "table" and has_system(s[name]) then
      blame("template.new: 'system' stands in %s; its place is in user_turn, before content", name)
    end
  end
  check_system_place(s)
  if s.system_turn == true then blame "template.new: 'system_turn' must be a turn or false, got true" end
  if s.system == true then blame "template.new: 'system' must be a text or false, got true" end
  if s.system and not s.system_turn then
    blame("template.new: 'system' is %q, and system_turn = false has no place for it", s.system)
  end
  return s
end

-- The template of a checked description and of options.
local function made(s, o)
  local t = setmetatable(s, Template)
  t.by_kind, t.rest = kinds.weights_of(o.learn)
  t.turns, t.specials, t.parts = o.turns, o.specials, o.parts
  t.system_inside = has_system(t.user_turn)
  return t
end

--- A template of turns. A turn is a list of texts, `special "..."`, `bos`, `eos` and `content`; what
-- stands between two special tokens is tokenised together, but never across the edge of an answer: no
-- token goes from the prompt into it, as none can when the model writes it.
-- @tab spec
-- @string spec.name
-- @tab[opt] spec.prefix a turn without content, before everything
-- @param[opt] spec.system_turn a turn, which comes before all others; or which stands where `system` does in the
-- user's turn; false if the family has no place for a system text: a record that has one is refused
-- @string[opt="first"] spec.system_in with `system` in the user's turn: in the `first` one, or in the `last`.
-- Then only the last answer of a conversation can have loss weight, since no other saw the system text
-- @param[opt=false] spec.system the system text of records that have none; false: no system turn
-- @bool[opt=false] spec.empty_system_is_default a record's empty system text counts as none
-- @tab spec.user_turn with what opens the answer at its end
-- @tab spec.answer_turn all of it has loss weight
-- @tab[opt] spec.between a turn without content, before each further user turn
-- @param[opt=false] spec.trim white space around contents goes: true, or `{ user = "both", assistant = "both" }`.
-- "joined" takes a system text and the question behind it as one text, and leaves what is between them
-- @tab[opt] opts what the user chose
-- @param[opt=1] opts.learn the loss weight of answers: a number, a function of record and step, or
-- these by kind, `{ verdict = 3, query = 0.1, rest = 1 }`; `rest` is all other text with loss weight
-- @string[opt="all"] opts.turns `last`: only the last answer has loss weight
-- @string[opt="text"] opts.specials `llamafactory` takes data as LLaMA-Factory does: strings of
-- special tokens in it become these tokens, and the first `{{idx}}` of a user's text its turn's number
-- @func[opt] opts.parts in place of `template.parts`
-- @treturn Template
-- @usage local t = cft.template
-- local mine = t.new { name = "mine", user_turn = { "Q: ", t.content, "\nA: " }, answer_turn = { t.content, t.eos } }
-- local record = cft.data.conversation { instruction = "2?", output = "2" }
-- for _, s in ipairs(mine:segments(record)) do print(s.text or s.own) end
-- --> Q:  2?  A:  2 eos
function M.new(spec, opts)
  local s = checked(spec)
  return made(s, check.options("template." .. s.name, opts, options))
end

-- Content without the white space at its ends that the template takes away.
local function trimmed(t, role, content, behind_system)
  local rule = t.trim == true and "both" or t.trim and t.trim[role]
  if rule == "joined" and behind_system then return texts.trim_right(content) end
  return rule and texts.trim(content) or content
end

-- Hold what a function of the user's gave for `where` to its names.
local function check_names(where, made, names)
  if type(made) ~= "table" then blame("template: %s is a %s; a table is wanted", where, type(made)) end
  for name in pairs(made) do
    if not names[name] then
      local meant = name == "weight" and "learn" or check.closest(tostring(name), names)
      blame("template: %s has '%s', and %s", where, tostring(name),
        meant and ("no such name is read; did you mean '%s'?"):format(meant) or "no such name is read")
    end
  end
end

local part_names = { text = true, kind = true, learn = true }

local function checked_parts(parts)
  if type(parts) ~= "table" then blame("template: parts gave a %s; a list of parts is wanted", type(parts)) end
  for i, part in ipairs(parts) do
    check_names("part " .. i .. " of `parts`", part, part_names)
    check.value("template", "text of part " .. i .. " of `parts`", part.text, { "string" })
    check.value("template", "kind of part " .. i .. " of `parts`", part.kind, { "string", optional = true })
  end
  return parts
end

--- The parts of a text of a message by what they are, with the function that was given for it.
-- @string role of the message @string text its content
-- @treturn table a list of { text =, kind = }
-- @usage chat:cut("assistant", "Fine.\nConclusion: right")[2].kind   --> "verdict"
function Template:cut(role, text)
  return self.parts == kinds.parts and kinds.parts(role, text) or checked_parts(self.parts(role, text))
end

-- The parts of a message's content, as texts.
local function parts_of(t, role, content, turn, behind_system)
  if type(content) ~= "string" then return content end
  content = trimmed(t, role, content, behind_system)
  if t.specials == "llamafactory" and role == "user" then content = content:gsub("{{idx}}", tostring(turn), 1) end
  return t:cut(role, content)
end

-- The system text of a record, false where there is none; nil and why where the template cannot say it.
local function system_of(t, messages, turns)
  local system = messages[1].role == "system" and messages[1].content or nil
  if system ~= nil and #system == 0 and t.empty_system_is_default then system = nil end
  if system == nil then system = t.system end
  if not system then return false end
  if not t.system_turn then
    return nil, ("template %s has no place for a system text, and the record has one"):format(t.name)
  end
  if t.system_inside and t.system_in == "last" and turns > 1 and t.turns ~= "last" then
    return nil, ("template %s writes the system text into the last question alone, and the record has %d; "
      .. "turns = \"last\" gives loss weight only to the answer that saw it"):format(t.name, turns)
  end
  return system
end

-- The fields that need the model's own chat template, in one line.
local function needs_of(record)
  local names = {}
  for name in pairs(record.needs) do names[#names + 1] = "'" .. name .. "'" end
  table.sort(names)
  return table.concat(names, ", ")
end

-- What the model's own chat template makes of a record.
local function by_own(self, record, tok)
  if not (tok and tok.chat_template) then
    return nil, ("the record has %s: template %s has no words for that, and the model has no chat template; `fields` can "
      .. "write it into the contents"):format(needs_of(record), self.name)
  end
  local segments, why = chat_segments.of(record, tok, self)
  if segments then return segments end
  if not record.needs then return nil, why end
  return nil, ("the model's own chat template, which the record needs for %s: %s"):format(needs_of(record), why)
end

--- The segments of a record: `{ text, kind, weight, special, own, content, turn, target, slot }`.
-- `own` is `bos` or `eos` for the tokenizer's tokens, which have no text here; `content` marks text
-- that comes from the record; neighbours of one `slot` are tokenised together; `target` marks the
-- answer of `turn` (from 0) and its end. An answer whose message has `learn = false` is context. A record that has what
-- no preset has words for (`needs`) is written with the model's own chat template, see `cft.text.chat_segments`.
-- @tab record a conversation (`cft.data.conversation`)
-- @param[opt] tok which says whether there is a token for `template.first`, and has the model's chat template; without it
-- there is neither
-- @treturn ?table
-- @treturn ?string why the template cannot say the record
function Template:segments(record, tok)
  if record.needs then return by_own(self, record, tok) end
  local segments, slot, turn = {}, 0, 0
  local parse = self.specials == "llamafactory" or nil
  local messages = record.messages
  local first, last = messages[1].role == "system" and 2 or 1, math.floor(#messages / 2)
  local system, why = system_of(self, messages, last)
  if system == nil then return nil, why end
  local system_at = system and self.system_inside and (self.system_in == "last" and last - 1 or 0)

  local function weight_of(kind, target, asked)
    if target and self.turns == "last" and turn ~= last - 1 then return 0 end
    if target and messages[first + 2 * turn + 1].learn == false then return 0 end
    if asked ~= nil then return kinds.check_weight(kind, asked) end
    return self.by_kind[kind] or (target and self.rest or 0)
  end

  local function add(piece, kind, target, extra)
    local segment = { text = piece.text, kind = kind, weight = weight_of(kind, target, piece.learn),
      turn = turn, slot = slot, target = target, parse = parse }
    for name, value in pairs(extra) do segment[name] = value end
    segments[#segments + 1] = segment
  end

  local function add_turn(pieces, role, content, target)
    slot = 2 * turn + (target and 1 or 0)
    local structure, behind_system = target and "critique" or "template", false
    for _, piece in ipairs(pieces) do
      if piece == M.system then
        behind_system = turn == system_at
        if behind_system then add_turn(self.system_turn, "system", system, false) end
      elseif piece == M.content then
        for _, part in ipairs(parts_of(self, role, content, turn, behind_system)) do
          add(part, part.kind or role, target, { content = true })
        end
        if target then structure = "end" end
      elseif type(piece) == "string" then
        add({ text = piece }, structure, target, {})
      elseif piece ~= M.first or tok and M.id_of(piece, tok) then
        add({ text = piece.special }, structure, target, { special = true, own = piece.own })
      end
    end
  end

  add_turn(self.prefix, "system", "", false)
  if system and not self.system_inside then add_turn(self.system_turn, "system", system, false) end
  for i = first, #messages, 2 do
    if turn > 0 then add_turn(self.between, "user", "", false) end
    add_turn(self.user_turn, "user", messages[i].content, false)
    add_turn(self.answer_turn, "assistant", messages[i + 1].content, true)
    turn = turn + 1
  end
  return segments
end

-- ---- from what a recipe says -----------------------------------------------------------------

local NO_OWN = "template = \"own\": the model has no chat template; a preset's name says how records are written"

local Custom = setmetatable({}, { __index = Template })
Custom.__index = Custom

local segment_names = { text = true, kind = true, learn = true, special = true, own = true }

function Custom:segments(record)
  local list = self.make(record)
  if type(list) ~= "table" then blame("template: the function gave a %s; a list of segments is wanted", type(list)) end
  local segments, turn, learned = {}, 0, false
  for i, s in ipairs(list) do
    check_names("segment " .. i, s, segment_names)
    if type(s.text) ~= "string" and not s.own then
      blame("template: segment %d has no text", i)
    end
    local weight = kinds.check_weight(s.kind or "segment " .. i, s.learn == true and 1 or s.learn or 0)
    local target = weight ~= 0
    if learned and not target then turn = turn + 1 end
    learned = target
    segments[i] = { text = s.text, kind = s.kind or (target and "critique" or "query"), weight = weight,
      turn = turn, slot = i, target = target, special = s.special or s.own ~= nil or nil, own = s.own,
      content = not (s.special or s.own) or nil }
  end
  return segments
end

-- Nothing is known before a record is seen.
function Custom:missing() return {} end
function Custom:end_token() end
function Custom:describe() return "template: a function of the recipe; what ends an answer is its business" end

--- A template from a function: record → a list of `{ text =, learn =, kind =, special = }`, each
-- tokenised by itself. `learn` is a weight, true for 1, or a function of record and step; `special`
-- makes it one token.
-- @func make
-- @treturn Template
-- @usage local mine = cft.template.custom(function(r)
--   return { { text = r.messages[1].content .. "\n" }, { text = r.messages[2].content, learn = true } }
-- end)
-- #mine:segments(source:get(0))   --> 2
function M.custom(make)
  check.value("template.custom", "make", make, { "function" })
  return setmetatable({ name = "custom", make = make, turns = "all", by_kind = {}, rest = 1,
    answer_turn = {} }, Custom)
end

local Own = setmetatable({}, { __index = Template })
Own.__index = Own

function Own:segments(record, tok)
  if not (tok and tok.chat_template) then return nil, NO_OWN end
  return by_own(self, record, tok)
end

function Own:prepare(tok)
  if not tok.chat_template then blame("%s", NO_OWN) end
  return {}
end

function Own:missing() return {} end

-- A small conversation as the template writes it.
local function sample_of(self, tok)
  return self:segments({ messages = { { role = "user", content = "2 + 3?" }, { role = "assistant", content = "5" } } }, tok)
end

-- Those of a small conversation; others are found where samples are made.
function Own:writes(tok)
  local ids = {}
  for _, s in ipairs(sample_of(self, tok) or {}) do ids[#ids + 1] = s.special and M.id_of(s, tok) or nil end
  return ids
end

function Own:end_token(tok)
  local segments = sample_of(self, tok)
  local last = segments and segments[#segments]
  for k = #(segments or {}), 1, -1 do
    if segments[k].special and segments[k].target then last = segments[k] break end
  end
  local id = last and last.special and M.id_of(last, tok)
  return id, id and tok:token(id)
end

function Own:notes(tok)
  local notes = {}
  for i, note in ipairs(tok.notes or {}) do notes[i] = note end
  return notes
end

function Own:describe(tok)
  local id, text = self:end_token(tok)
  return ("template own: the model's own chat template; %s"):format(id and ("answers end in %s (id %d)"):format(text, id)
    or "answers end in no token, as far as a small conversation shows")
end

--- The model's own chat template for all records, rendered by `cft.text.jinja`; docs/templates.md has the rules.
-- @tab[opt] opts `learn`, `turns`, `parts`, `specials` (but for `{{idx}}`), as those of `template.new`
-- @treturn Template
-- @usage tok.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
-- #cft.template.own():segments(source:get(0), tok)   --> 6
function M.own(opts)
  local o = check.options("template.own", opts, options)
  local t = setmetatable({ name = "own", answer_turn = {}, specials = o.specials }, Own)
  t.by_kind, t.rest = kinds.weights_of(o.learn)
  t.turns, t.parts = o.turns, o.parts
  return t
end

--- The names of the presets, see `cft.text.presets`. Each is a function here: `template.qwen { turns = "last" }`.
M.presets = {}

--- A template as a family of models wants it, by the preset's name; docs/templates.md has them all.
-- @tab[opt] opts `learn`, `turns`, `parts`, `specials` and `system` of every template, and what the preset has of its own
-- @treturn Template
for i, preset in ipairs(pieces) do
  M.presets[i] = preset.name
  for name, spec in pairs(options) do preset.options[name] = spec end
  M[preset.name] = function(opts)
    local o = check.options("template." .. preset.name, opts, preset.options)
    local spec = preset.turns(o)
    spec.name, spec.system = preset.name, o.system
    return made(checked(spec), o)
  end
end

--- What a recipe's `template` may name: the presets, and `own`.
M.names = { unpack(M.presets) }
M.names[#M.names + 1] = "own"

M.Template = Template  -- `cft.samples.prompt` gives it the method `prompt`

--- A template by name, by function, or as it is: what a recipe's `template` may be.
-- @param value a preset's name, a function, or a template
-- @tab[opt] opts for a preset
-- @treturn Template
-- @usage cft.template.of("chatml", { turns = "last" }).name, cft.template.of(chat) == chat   --> "chatml" true
function M.of(value, opts)
  if type(value) == "function" then return M.custom(value) end
  local kind = getmetatable(value)
  if kind == Template or kind == Custom or kind == Own then return value end
  check.value("template", "template", value, { "string", one_of = M.names })
  return M[value](opts)
end

return M
