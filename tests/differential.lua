--- cft beside its references, on inputs that were drawn at random: what `tests/oracle/differential.py` writes.
--
-- Each case ends in one word. `equal`: cft makes of it what the reference makes. `refused`: cft says that it takes no
-- such input. `counted`: cft leaves fields of a record out, and its report names each of them. All else is WRONG, and
-- has a name, the same for all cases that are wrong in the same way.
-- @module tests.differential
-- @usage local found = require("tests.differential").run "tests/golden/differential.jsonl.zst"
-- print(found:describe())

local configs = require "cft.models.config"
local data = require "cft.data.open"
local ffi = require("cft.engine.ffi").ffi
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local rope = require "cft.nn.rope"
local samples = require "cft.samples"
local template = require "cft.text.template"
local tokenizer = require "cft.text.tokenizer"

local M = {}

ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"

-- Write a file below a folder, and the folders that lead to it.
local function write(folder, path, text)
  local above = path:match "^(.*)/[^/]*$"
  if above then assert(host.make_folders(folder .. "/" .. above)) end
  return process.write(folder .. "/" .. path, text)
end

-- An error of Python's in short, the same for all of a kind.
local function reason_of(text) return (text:gsub("^%w+: ", ""):gsub("%d+", "N"):sub(1, 56)) end

local function null_or(value)
  if value ~= json.null then return value end
end

-- ---- records ---------------------------------------------------------------------------------

local records = {}

-- The tokenizer that a chat template comes with, as a folder.
local function tokenizer_of(self, name, marked)
  local key = name .. tostring(marked)
  if not self.toks[key] then
    local spec, folder = self.head.templates[name], process.folder()
    write(folder, "tokenizer.json", json.encode { version = "1.0", truncation = json.null, padding = json.null,
      added_tokens = self.head.added, normalizer = json.null, post_processor = json.null,
      pre_tokenizer = { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = false },
      decoder = { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = false },
      model = self.head.model })
    write(folder, "tokenizer_config.json", json.encode { tokenizer_class = "PreTrainedTokenizerFast",
      eos_token = spec.eos, bos_token = spec.bos })
    write(folder, "chat_template.jinja", marked and spec.jinja or spec.unmarked)
    self.toks[key] = tokenizer.load(folder)
  end
  return self.toks[key]
end

-- { { weight, ids... } }, neighbours of one weight as one.
local function spans_of(sample)
  local spans, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local span = sample.spans[i]
    local last = spans[#spans]
    if not last or last[1] ~= span.weight then
      last = { span.weight }
      spans[#spans + 1] = last
    end
    for k = 0, tonumber(span.count) - 1 do last[#last + 1] = sample.ids[at + k] end
    at = at + tonumber(span.count)
  end
  return spans
end

local function text_of(spans)
  local texts = {}
  for i, span in ipairs(spans) do texts[i] = table.concat(span, ",") end
  return table.concat(texts, "|")
end

-- Spans as a text to read: «learned» stands in marks.
local function shown(spans, tok)
  local texts = {}
  for i, span in ipairs(spans) do
    local ids = {}
    for k = 2, #span do ids[k - 1] = span[k] end
    local weight = span[1] ~= 1 and span[1] .. ":" or ""
    texts[i] = span[1] == 0 and tok:decode(ids) or ("«%s%s»"):format(weight, tok:decode(ids))
  end
  return table.concat(texts)
end

--- Does a report of samples name a field? Its first two lines are of the source and the template.
-- @string report what `describe` of samples gives
-- @string field
-- @treturn bool
function M.names(report, field)
  for line in report:match("^[^\n]*\n[^\n]*(.*)$"):gmatch "[^\n]+" do
    if line:find("%f[%w_]" .. field .. "%f[^%w_]") then return true end
  end
  return false
end

function records.head(self, line) self.head, self.toks, self.folder, self.counted = line, {}, process.folder(), {} end

function records.try(self, case)
  local spec = self.head.templates[case.template] or error("no template " .. case.template)
  local tok = tokenizer_of(self, case.template, case.marked)
  local path = write(self.folder, "record.jsonl", case.record .. "\n")
  local ok, made = pcall(function()
    return samples.new(data.open(path), template.of(spec.preset, spec.options), tok)
  end)
  if not ok then
    if case.usual then return "refused though it has nothing unusual", tostring(made) end
    return "refused"
  end
  local got, report, wanted = spans_of(made:get(0)), made:describe(), {}
  for i, variant in ipairs(case.variants) do
    if text_of(variant.spans) == text_of(got) then
      for _, field in ipairs(variant.without) do
        if not M.names(report, field) then return ("%s dropped without a word"):format(field), shown(got, tok) end
      end
      if #variant.without == 0 then return "equal" end
      local set = self.counted[case.template] or { tok = tok, template = spec, records = {}, fields = {} }
      self.counted[case.template] = set
      set.records[#set.records + 1] = case.record
      for _, field in ipairs(variant.without) do set.fields[field] = (set.fields[field] or 0) + 1 end
      return "counted"
    end
    wanted[i] = shown(variant.spans, tok)
  end
  local problem = #wanted == 0 and ("taken, and nothing says what it means: %s"):format(case.kind)
    or ("other ids or weights: %s"):format(case.kind)
  return problem, ("%s\n      wanted %s"):format(shown(got, tok), wanted[1] or "a refusal")
end

-- ---- configs ---------------------------------------------------------------------------------

local config = {}
local LENGTH = 24  -- of the sequence that the reference's logits are of

local function close(a, b) return math.abs(a - b) <= 1e-6 * math.abs(b) end

-- How our frequencies differ from theirs; nil where they do not.
local function rope_difference(c, want)
  if c.head_dim ~= want.head_dim then return nil end  -- is said by itself
  local ours = rope.frequencies(c.head_dim, c.theta, c.scaling)
  for i, theirs in ipairs(want.inv_freq) do
    if not close(ours[i - 1], theirs) then
      return ("frequency %d is %.9g, wanted %.9g"):format(i, ours[i - 1], theirs)
    end
  end
  if want.scale ~= 1 then return ("attention is scaled by 1, wanted %.9g"):format(want.scale) end
end

function config.head() end

function config.try(_, case)
  local want = case.expect
  local ok, c, why = pcall(configs.read, case.config)
  if not ok then return "an error of Lua's", tostring(c) end
  if not c then
    if case.usual then return "refused though it has nothing unusual", why end
    return "refused"
  end
  local what = case.kind:match "^[%w_]+"
  if want.error then return "taken, and transformers refuses it: " .. reason_of(want.error), want.error end
  local different = rope_difference(c, want)
  if different then return "other frequencies: " .. (case.kind:match "rope [%w ]+" or case.kind), different end
  for _, fact in ipairs { "head_dim", "kv_heads", "tied", "eps", "context" } do
    if c[fact] ~= want[fact] then
      return "other " .. fact, ("%s, wanted %s"):format(tostring(c[fact]), tostring(want[fact]))
    end
  end
  -- Its logits are compared on a sequence that is longer than such a window, and the model takes none of these.
  if not want.plain and c.window and c.window < LENGTH then return "refused" end
  if not want.plain then
    return ("taken, though it changes the logits: %s"):format(what), "transformers computes more than we do"
  end
  return "equal", want.as_in_4 == false and "transformers 4 has another" or nil
end

-- ---- tokenizers ------------------------------------------------------------------------------

local tokenizers = {}

function tokenizers.head(self, line)
  self.models = self.models or {}
  self.models[line.base] = line.model
end

-- What a case is about, the rarest first.
local features = { "tokens in config alone", "config has another", "extra special tokens", "a new eos_token",
                   "add_bos_token", "map", "add_prefix_space", "gaps", "in the vocabulary", "stripping", "normalized",
                   "normalizer" }

local function feature_of(kind)
  for _, feature in ipairs(features) do
    if kind:find(feature, 1, true) then return feature end
  end
  return "nothing unusual"
end

local function list(ids) return table.concat(ids, " ") end

-- A conversation with the preset that says the same as the chat template: what is other, and how; nil and true where it
-- is refused.
local function chat_difference(tok, want)
  local ok, made = pcall(function()
    return samples.new(data.list { { messages = want.messages } }, template.chatml { system = false }, tok)
  end)
  if not ok then return nil, true end
  local sample, ids, learned, at = made:get(0), {}, {}, 0
  for i = 0, sample.span_count - 1 do
    for _ = 1, tonumber(sample.spans[i].count) do
      ids[at + 1], learned[at + 1] = sample.ids[at], sample.spans[i].weight
      at = at + 1
    end
  end
  local text = json.encode(want.messages)
  if list(ids) ~= list(want.ids) then
    return "a conversation's ids", ("%s\n      got    %s\n      wanted %s"):format(text, list(ids), list(want.ids))
  end
  if list(learned) ~= list(want.learned) then
    return "a conversation's mask", ("%s\n      ids    %s\n      got    %s\n      wanted %s"):format(text, list(ids),
      list(learned), list(want.learned))
  end
end

local modes = { { "parsed", { parse_special = true } }, { "plain", {} },
                { "whole", { parse_special = true, add_special = true } } }

function tokenizers.try(self, case)
  local folder, spec, want = process.folder(), case.spec, case.expect
  write(folder, "tokenizer.json", json.encode { version = "1.0", truncation = json.null, padding = json.null,
    added_tokens = spec.added_tokens, normalizer = spec.normalizer, pre_tokenizer = spec.pre_tokenizer,
    post_processor = spec.post_processor, decoder = spec.decoder, model = self.models[case.base] })
  for name, value in pairs(case.files) do write(folder, name, json.encode(value)) end
  local ok, tok = pcall(tokenizer.load, folder)
  if not ok then
    if case.usual then return "refused though it has nothing unusual", tostring(tok) end
    return "refused"
  end
  if want.error then return "taken, and transformers refuses it: " .. reason_of(want.error), want.error end
  local feature = feature_of(case.kind)
  local shape = case.files["config.json"]
  for _, role in ipairs { "bos", "eos", "pad" } do
    if shape and tok[role] and want[role] == json.null then
      return "own tokens that config.json alone names", ("%s is %d, wanted none"):format(role, tok[role])
    end
    if tok[role] ~= null_or(want[role]) then
      return ("other own tokens: %s"):format(feature),
        ("%s is %s, wanted %s"):format(role, tostring(tok[role]), tostring(want[role]))
    end
  end
  for _, mode in ipairs(modes) do
    for _, text in ipairs(want.texts) do
      local ids, why = tok:encode(text.text, mode[2])
      local got, wanted = list(ids or { why }), list(text[mode[1]])
      if got ~= wanted then
        return ("other ids of a text (%s): %s"):format(mode[1], feature),
          ("%s\n      got    %s\n      wanted %s"):format(json.encode(text.text), got, wanted)
      end
    end
  end
  if not want.chat then return "equal" end
  local different, detail = chat_difference(tok, want.chat)
  if different then return ("other %s: %s"):format(different, feature), detail end
  return detail and "refused" or "equal"
end

-- ---- folders ---------------------------------------------------------------------------------

local folders = {}

function folders.head() end

local COMMIT = ("0123456789"):rep(4)

function folders.try(self, case)
  if not self.hub then
    self.hub, self.count = process.folder(), 0
    ffi.C.setenv("HF_HUB_CACHE", self.hub, 1)
  end
  self.count = self.count + 1
  local repo = ("datasets--o--d%d/"):format(self.count)
  local snapshot = repo .. "snapshots/" .. COMMIT .. "/"
  write(self.hub, repo .. "refs/main", COMMIT)
  for _, file in ipairs(case.files) do write(self.hub, snapshot .. file, '{"instruction":"q","output":"a"}\n') end
  if null_or(case.card) then write(self.hub, snapshot .. "README.md", case.card) end
  local refused = false
  for name, splits in pairs(case.expect) do
    for _, split in ipairs { "train", "test", "validation" } do
      local wanted = splits[split] or {}
      local ok, files, why = pcall(data.find, ("o/d%d:%s:%s"):format(self.count, name, split))
      if not ok then return "an error of Lua's", tostring(files) end
      for i, file in ipairs(files or {}) do files[i] = file:sub(#self.hub + #snapshot + 2) end
      table.sort(files or {})
      if files and list(files) ~= list(wanted) then
        local odd = case.kind:match "card: none$" and case.kind or case.kind:match "card: .*$"
        return ("%s: %s"):format(splits.error and "taken, and datasets refuses it" or "other files", odd),
          ("%s:%s: %s\n      wanted %s"):format(name, split, list(files),
            splits.error or #wanted > 0 and list(wanted) or "none")
      end
      if not files and #wanted > 0 then
        if case.usual then return "refused though it has nothing unusual", why end
        refused = true
      end
    end
  end
  return refused and "refused" or "equal"
end

-- ---- all -------------------------------------------------------------------------------------

local parts = { record = records, config = config, tokenizer = tokenizers, folder = folders }
local right = { equal = true, refused = true, counted = true }

-- A case's input in short.
local function input_of(case)
  if case.part == "record" then return ("%s, template %s"):format(case.record, case.template) end
  if case.part == "config" then return json.encode(case.config) end
  if case.part == "folder" then
    return ("files %s, card %s"):format(list(case.files), json.encode(case.card))
  end
  local tokens, rest = {}, {}
  for i, t in ipairs(case.spec.added_tokens) do
    local flags = ""
    for _, flag in ipairs { "lstrip", "rstrip", "single_word", "normalized", "special" } do
      if t[flag] then flags = flags .. " " .. flag end
    end
    tokens[i] = ("%d %s%s"):format(t.id, json.encode(t.content), flags)
  end
  for _, name in ipairs { "normalizer", "pre_tokenizer", "post_processor" } do rest[name] = null_or(case.spec[name]) end
  return ("model %s; added tokens %s; %s; %s"):format(case.base, #tokens > 0 and table.concat(tokens, ", ") or "none",
    json.encode(rest), json.encode(case.files))
end

local Found = {}
Found.__index = Found

--- The cases in words: a table, then each name under which cases are wrong, with how many and the smallest.
-- @bool[opt=true] smallest with the smallest case of each
-- @treturn string
function Found:describe(smallest)
  local lines = { ("%-10s %7s %7s %7s %7s"):format("", "equal", "refused", "counted", "WRONG") }
  for _, part in ipairs { "record", "config", "tokenizer", "folder" } do
    local c = self.counts[part]
    lines[#lines + 1] = ("%-10s %7d %7d %7d %7d"):format(part, c.equal, c.refused, c.counted, c.WRONG)
  end
  if self.other_in_4 > 0 then
    lines[#lines + 1] = ("%d configs are equal to transformers 5, and other in transformers 4"):format(self.other_in_4)
  end
  local wrong = {}
  for name in pairs(self.wrong) do wrong[#wrong + 1] = name end
  table.sort(wrong)
  for _, name in ipairs(wrong) do
    local w = self.wrong[name]
    lines[#lines + 1] = ("%5d %s"):format(w.n, name)
    if smallest ~= false then lines[#lines + 1] = ("      %s\n      got %s"):format(w.input, w.detail) end
  end
  return table.concat(lines, "\n")
end

--- Try all cases of a file.
-- @string path what differential.py wrote, compressed or not
-- @treturn table `counts` by part and outcome; `wrong` by name: `n`, and `input` and `detail` of the smallest case;
-- `n`, how many cases; `counted`, by template the records of which something is left out: `records`, `fields` (field →
-- how many have it), `tok` and `template`; `describe`
function M.run(path)
  local found = setmetatable({ n = 0, other_in_4 = 0, counts = {}, wrong = {} }, Found)
  local states = {}
  for name in pairs(parts) do
    states[name], found.counts[name] = {}, { equal = 0, refused = 0, counted = 0, WRONG = 0 }
  end
  for _, case in data.open(path, { schema = "none" }):records() do
    local part = parts[case.part]
    if part and not case.kind then
      part.head(states[case.part], case)
    elseif part then
      local outcome, detail = part.try(states[case.part], case)
      local counts = found.counts[case.part]
      found.n = found.n + 1
      if right[outcome] then
        counts[outcome] = counts[outcome] + 1
        if detail then found.other_in_4 = found.other_in_4 + 1 end
      else
        counts.WRONG = counts.WRONG + 1
        local name, input = ("%s: %s"):format(case.part, outcome), input_of(case)
        local w = found.wrong[name] or { n = 0, input = input, detail = detail }
        found.wrong[name], w.n = w, w.n + 1
        if #input < #w.input then w.input, w.detail = input, detail end
      end
    end
  end
  found.counted = states.record.counted or {}
  return found
end

--- Hold what was found to what is known.
-- @tab found what `run` gave
-- @tab known name → how many cases may be wrong in this way
-- @string part the part that is looked at
-- @treturn table problems: what is not known, and what there is more of
-- @treturn table notes: a line for each that is known
function M.hold(found, known, part)
  local names, problems, notes = {}, {}, {}
  for _, list in ipairs { known, found.wrong } do
    for name in pairs(list) do
      if name:find(part .. ": ", 1, true) == 1 and not names[name] then names[#names + 1], names[name] = name, true end
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local w, may = found.wrong[name] or { n = 0 }, known[name] or 0
    if w.n > may then
      problems[#problems + 1] = ("%s: %d cases, and %d are known; the smallest:\n      %s\n      got %s"):format(
        name, w.n, may, w.input, w.detail)
    else
      local fewer = w.n < may and (" (%d are listed: lower the number)"):format(may) or ""
      notes[#notes + 1] = ("%d %s%s"):format(w.n, name, fewer)
    end
  end
  return problems, notes
end

return M
