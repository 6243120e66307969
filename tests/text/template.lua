-- Templates: kinds, weights, presets as text; and ids equal to LLaMA-Factory's and transformers'.

local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local vocabularies = require "tests.vocabularies"
local data = require "cft.data.open"
local door = require "cft.engine.ffi"
local json = require "cft.base.json"
local mask = require "cft.samples.mask"
local template = require "cft.text.template"

local function chat_of(...)
  local roles, messages = { "user", "assistant" }, {}
  for i, content in ipairs { ... } do messages[i] = { role = roles[(i - 1) % 2 + 1], content = content } end
  return { messages = messages }
end

-- Segments as text, loss tokens in braces, the tokenizer's own tokens by name.
local function text_of(chat, record)
  local out, inside = {}, false
  for _, s in ipairs(chat:segments(record)) do
    local learned = s.weight ~= 0
    if learned ~= inside then out[#out + 1] = learned and "{" or "}" end
    inside = learned
    out[#out + 1] = s.own and "<" .. s.own .. ">" or s.text
  end
  return table.concat(out) .. (inside and "}" or "")
end

local tok = fake { "<eos>", "<bos>", "<|im_start|>", "<|im_end|>", eos = "<eos>", bos = "<bos>" }

-- ---- golden files ----------------------------------------------------------------------------

local ffi, C = door.ffi, door.C

local function hash_of(pointer, bytes)
  local hash = ffi.new "uint8_t[16]"
  C.cft_bytes_hash(hash, pointer, bytes)
  return (ffi.string(hash, 16):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- { start, stop } of each run of loss tokens, their number, and a byte a token.
local function learned_of(sample)
  local runs, count, mask_bytes, at = json.array {}, 0, ffi.new("uint8_t[?]", sample.n), 0
  for i = 0, sample.span_count - 1 do
    local stop = at + tonumber(sample.spans[i].count)
    if sample.spans[i].weight ~= 0 then
      local last = runs[#runs]
      if last and last[2] == at then last[2] = stop else runs[#runs + 1] = { at, stop } end
      count = count + stop - at
      for j = at, stop - 1 do mask_bytes[j] = 1 end
    end
    at = stop
  end
  return runs, count, mask_bytes
end

local function expect_ids(sample, ids, what)
  for i, id in ipairs(ids) do
    if sample.ids[i - 1] ~= id then expect.same({ i - 1, sample.ids[i - 1] }, { i - 1, id }, what) end
  end
end

local variants = {
  { "552816e04", {} },
  { "867980196", { end_token = "im_end_newline" } },
  { "3e1a7fcb9", { end_token = "im_end_newline",
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant." } },
}

local function llamafactory_cases(commit, opts)
  local golden = assert(json.read(("tests/golden/llamafactory/qwen-%s.json"):format(commit)))
  local count = 0
  for _, group in ipairs(golden.tokenizers) do
    local qwen = vocabularies.qwen(group.eos)
    local chat = template.qwen { end_token = opts.end_token, system = opts.system, specials = "llamafactory" }
    for _, case in ipairs(group.cases) do
      local what = ("%s, %s: %s"):format(commit, group.eos, case.name)
      local record = assert(data.conversation(case.record, true))
      local sample = assert(mask.encode(record, chat, qwen, { max_tokens = case.cutoff, length = "llamafactory" }))
      local runs, _, mask_bytes = learned_of(sample)
      expect.same(sample.n, case.tokens, what)
      expect_ids(sample, case.ids or {}, what)
      expect.same(runs, case.learned, what)
      expect.same(hash_of(sample.ids, 4 * sample.n), case.ids_xxh3, what)
      expect.same(hash_of(mask_bytes, sample.n), case.mask_xxh3, what)
      count = count + 1
    end
  end
  expect.same(count, 45)
end

local INSTRUCTION = "Please critique whether the following solution to the question is correct."

-- The records of tests/oracle/llamafactory.py, made from the same files.
local makers = {
  ["one-shot-cft/DSR-CFT-p0.jsonl"] = function(row)
    local instruction, input = row.messages[1].content:match "^(.-)\n\n(.*)$"
    return { instruction = instruction, input = input, output = row.messages[2].content }
  end,
  ["one-shot-cft/DSR-CFT-p1.jsonl"] = function(row) return row end,
  ["gsm8k/example_model_solutions.jsonl"] = function(row, repeat_input, repeat_output)
    local answer = row["6b_finetuning"]
    return {
      instruction = INSTRUCTION,
      input = ("Question:\n%s\n\nSolution:\n%s"):format(row.question, answer.solution):rep(repeat_input),
      output = ("Critique:\n%s\n\nConclusion: %s [END]"):format(row.ground_truth,
        answer.is_correct and "right" or "wrong"):rep(repeat_output),
    }
  end,
}

local function llamafactory_records()
  local golden = assert(json.read "tests/golden/llamafactory/records-552816e04.json")
  local column, sources = {}, {}
  for i, name in ipairs(golden.columns) do column[name] = i end
  local qwen = vocabularies.qwen(golden.eos)
  local parity, default = template.qwen { specials = "llamafactory" }, template.qwen()
  local fitted = 0
  for _, row in ipairs(golden.records) do
    local file, index = row[column.file], row[column.index]
    vocabularies.read(vocabularies.shared .. "/" .. file)
    sources[file] = sources[file] or data.open(vocabularies.shared .. "/" .. file, { schema = "none" })
    local record = assert(data.conversation(makers[file](sources[file]:get(index), row[column.repeat_input],
      row[column.repeat_output])))
    for _, max in ipairs { 2048, 512 } do
      local what = ("%s, record %d, cutoff %d"):format(file, index, max)
      local function want(name) return row[column[name .. "@" .. max]] end
      local sample = mask.encode(record, parity, qwen, { max_tokens = max, length = "llamafactory" })
      local _, count, mask_bytes = learned_of(sample)
      expect.same({ sample.n, count }, { want "tokens", want "learned" }, what)
      expect.same(hash_of(sample.ids, 4 * sample.n), want "ids_xxh3", what)
      expect.same(hash_of(mask_bytes, sample.n), want "mask_xxh3", what)
      -- By default a record that does not fit is left out, and one that fits is the same.
      local kept = mask.encode(record, default, qwen, { max_tokens = max })
      expect.same(kept ~= nil, row[column.tokens] <= max, what)
      if kept then
        fitted = fitted + 1
        expect.same(hash_of(kept.ids, 4 * kept.n), want "ids_xxh3", what)
      end
    end
  end
  expect.same({ #golden.records, fitted }, { 500, 1000 - golden.longer_than["2048"] - golden.longer_than["512"] })
end

-- Texts of context and answers in turn, as golden files have them: { text, 0 or 1 }.
local function learned_texts(chat, record, names)
  local texts = {}
  for _, s in ipairs(chat:segments(record)) do
    local text, learned = s.own and names[s.own] or s.text, s.weight ~= 0 and 1 or 0
    local last = texts[#texts]
    if last and last[2] == learned then last[1] = last[1] .. text
    elseif text ~= "" then texts[#texts + 1] = { text, learned } end
  end
  return texts
end

-- A sample has the ids of these texts, and the weights.
local function expect_segments(sample, segments, bytes, what)
  local ids, runs = {}, json.array {}
  for _, segment in ipairs(segments) do
    local encoding, from = bytes:encode_spans(segment[1], true), #ids
    for i = 0, encoding.n - 1 do ids[#ids + 1] = encoding.ids[i] end
    if segment[2] == 1 then runs[#runs + 1] = { from, #ids } end
  end
  expect.same(sample.n, #ids, what)
  expect_ids(sample, ids, what)
  expect.same(learned_of(sample), runs, what)
  expect.same(sample.ends, true, what)
end

-- What apply_chat_template rendered: the texts of context and answers in turn.
local function chat_template_texts(preset)
  local golden = assert(json.read(("tests/golden/templates/%s.json"):format(preset)))
  local names = { bos = golden.bos or "<|begin_of_text|>", eos = golden["end"] }
  if preset == "deepseek" then names.bos = "<｜begin▁of▁sentence｜>" end
  for _, case in ipairs(golden.cases) do
    local record = assert(data.conversation({ messages = case.messages }, true))
    expect.same(learned_texts(template.of(preset), record, names), case.segments, preset .. ": " .. case.name)
  end
  return #golden.cases
end

local function chat_template_ids(preset, real)
  local golden = assert(json.read(("tests/golden/templates/%s.json"):format(preset)))
  local chat = template.of(preset)
  for _, case in ipairs(golden.cases) do
    local what = preset .. ": " .. case.name
    local sample = assert(mask.encode(assert(data.conversation({ messages = case.messages }, true)), chat, real))
    expect.same(sample.n, #case.ids, what)
    expect_ids(sample, case.ids, what)
    expect.same(learned_of(sample), case.learned, what)
  end
  return #golden.cases
end

-- What the publishers' templates rendered for families whose tokenizers are not here: texts, and with a tokenizer of
-- bytes ids and weights.
local function family_cases()
  local golden = assert(json.read "tests/golden/templates/families.json")
  local names, compared, refused = { bos = golden.bos, eos = golden.eos }, 0, 0
  for _, family in ipairs(golden.families) do
    local bytes = fake { golden.bos, golden.eos, bos = golden.bos, eos = golden.eos }
    template.of(family.preset, family.options):prepare(bytes, { add_tokens = true })
    for _, case in ipairs(family.cases) do
      local what = family.name .. ": " .. case.name
      local options = { turns = case.turns }
      for name, value in pairs(family.options) do options[name] = value end
      local chat = template.of(family.preset, options)
      local record = assert(data.conversation({ messages = golden.conversations[case.name] }, true))
      if case.segments == json.null then
        refused = refused + 1
        expect.same({ chat:segments(record) }, { nil, ("template %s has no place for a system text, and the record has one")
          :format(chat.name) }, what)
      else
        compared = compared + 1
        expect.same(learned_texts(chat, record, names), case.segments, what)
        expect_segments(assert(mask.encode(record, chat, bytes)), case.segments, bytes, what)
      end
      if case.turns == "last" then
        local all = template.of(family.preset, family.options)
        expect.match(select(2, mask.encode(record, all, bytes)), "writes the system text into the last question alone, "
          .. "and the record has 2; turns = \"last\"")
      end
    end
  end
  expect.same({ compared, refused }, { 100, 4 })
end

return {
  { "verdicts by the authors' rule", function()
    expect.same(template.verdict "Critique:\nno.\n\nConclusion: wrong [END]", false)
    expect.same(template.verdict "Conclusion: right [END]", true)
    expect.same(template.verdict "Conclusion: right. But no.\nConclusion: Incorrect", false)
    expect.same(template.verdict "**Conclusion**: the solution is CORRECT", true)
    expect.same(template.verdict "Conclusion: right, not wrong", false)  -- theirs, not ours
    expect.same(template.verdict "It is right.", nil)
    expect.same(template.verdict "Conclusion: unsure", nil)
  end },

  { "messages are cut by kind and keep every byte", function()
    local parts = template.parts("user", "Critique this.\n\nQuestion:\nq\n\nSolution:\na\n\nSolution:\nb\n")
    expect.same(parts, { { text = "Critique this.\n\nQuestion:\nq\n\nSolution:\n", kind = "query" },
      { text = "a\n\nSolution:\nb\n", kind = "response" } })
    expect.same(template.parts("user", "q\nSolution:\na")[2], { text = "a", kind = "response" })
    expect.same(template.parts("user", "q"), { { text = "q", kind = "query" } })
    expect.same(template.parts("user", "q\n\nSolution:\n"), { { text = "q\n\nSolution:\n", kind = "query" } })
    expect.same(template.parts("assistant", "c.\n\nConclusion: x\nConclusion: right [END]"),
      { { text = "c.\n\nConclusion: x\n", kind = "critique" }, { text = "Conclusion: right [END]", kind = "verdict" } })
    expect.same(template.parts("assistant", "Conclusion: right"), { { text = "Conclusion: right", kind = "verdict" } })
    expect.same(template.parts("system", "s"), { { text = "s", kind = "system" } })
    expect.same(template.parts("assistant", ""), { { text = "", kind = "critique" } })
  end },

  { "qwen and its variants", function()
    local record = chat_of("q", "a", "r", "b")
    local head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    local function turn(q) return "<|im_start|>user\n" .. q .. "<|im_end|>\n<|im_start|>assistant\n" end
    expect.same(text_of(template.qwen(), record), head .. turn "q" .. "{a<eos>}\n" .. turn "r" .. "{b<eos>}")
    expect.same(text_of(template.qwen { end_token = "im_end" }, record),
      head .. turn "q" .. "{a<|im_end|>}\n" .. turn "r" .. "{b<|im_end|>}")
    expect.same(text_of(template.qwen { end_token = "im_end_newline", system = false }, record),
      turn "q" .. "{a<|im_end|>\n}" .. turn "r" .. "{b<|im_end|>\n}")
    expect.same(text_of(template.qwen { turns = "last" }, record), head .. turn "q" .. "a<eos>\n" .. turn "r" .. "{b<eos>}")
    table.insert(record.messages, 1, { role = "system", content = "" })
    expect.match(text_of(template.qwen(), record), "^<|im_start|>system\nYou are a helpful")
    record.messages[1].content = "S"
    expect.match(text_of(template.qwen { system = false }, record), "^<|im_start|>system\nS<|im_end|>\n")
  end },

  { "llama3: dates, trimmed contents", function()
    local chat = template.llama3()
    local text = text_of(chat, chat_of("\n q \u{2003}", "\u{85}\u{1c} a\t"))
    expect.same(text, "<bos><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n" ..
      "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>" ..
      "<|start_header_id|>assistant<|end_header_id|>\n\n{a<|eot_id|>}")
    expect.match(text_of(template.llama3 { date = "01 Jan 2025" }, chat_of("q", "a")), "Today Date: 01 Jan 2025\n\n<")
    expect.match(text_of(template.llama3 { dates = false, system = "S" }, chat_of("q", "a")), "\n\nS<|eot_id|>")
    expect.match(text_of(chat, chat_of("q", " \n ")), "\n\n{<|eot_id|>}$")
  end },

  { "an answer whose message says so is context", function()
    local record = chat_of("q", "a", "r", "b")
    record.messages[2].learn = false
    expect.same(text_of(template.plain(), record), "q\n\na<eos>\n\nr\n\n{b<eos>}")
    record.messages[4].learn = false
    expect.same(text_of(template.plain(), record), "q\n\na<eos>\n\nr\n\nb<eos>")
    table.insert(record.messages, 1, { role = "system", content = "S" })
    record.messages[3].learn = nil
    expect.match(text_of(template.chatml { learn = function() return 1 end }, record), "{a<|im_end|>}\n.*\nb<|im_end|>$")
    record = chat_of("q", { { text = "a", kind = "critique", learn = 2 } })
    record.messages[2].learn = false
    expect.same(text_of(template.plain(), record), "q\n\na<eos>")
  end },

  { "one part of text is that text: trimmed, cut by kind", function()
    local text = " The sum is 5.\n\nConclusion: wrong \n"
    local function segments(content)
      local record = assert(data.conversation { messages = { { role = "user", content = "q" }, { role = "assistant", content = content } } })
      return template.llama3({ learn = { verdict = 3 } }):segments(record)
    end
    expect.same(segments { { type = "text", text = text } }, segments(text))
    expect.same(segments { { text = text:sub(1, 9) }, { type = "text", text = text:sub(10) } }, segments(text))
  end },

  { "names in what functions give, and in learn, are checked", function()
    local record = chat_of("q", "a")
    local function segments(list) return template.custom(function() return list end):segments(record) end
    expect.raises("segment 1 has 'laern', and no such name is read; did you mean 'learn'%?", segments, { { text = "a", laern = 1 } })
    expect.raises("segment 2 has 'weight', and no such name is read; did you mean 'learn'%?", segments,
      { { text = "q" }, { text = "a", weight = 1 } })
    expect.raises("segment 1 has 'colour', and no such name is read$", segments, { { text = "a", colour = 1 } })
    expect.raises("segment 1 is a string; a table is wanted", segments, { "a" })
    expect.raises("segment 1 has no text", segments, { { kind = "query" } })
    local function parts(given) return template.plain({ parts = function() return given end }):segments(record) end
    expect.raises("part 1 of `parts` has 'lern', and no such name is read; did you mean 'learn'%?", parts, { { text = "q", lern = 0 } })
    expect.raises("part 1 of `parts` has 'txt', and no such name is read; did you mean 'text'%?", parts, { { txt = "q" } })
    expect.raises("'text of part 1 of `parts`' is required", parts, { { kind = "query" } })
    expect.raises("'kind of part 1 of `parts`' must be a string, got 5", parts, { { text = "q", kind = 5 } })
    expect.raises("part 1 of `parts` is a string; a table is wanted", parts, { "q" })
    expect.raises("parts gave a nil; a list of parts is wanted", parts, nil)
    expect.raises("parts gave a string; a list of parts is wanted", parts, "q")
    expect.raises("learn has 'verdct'; did you mean 'verdict'%?", template.plain, { learn = { verdct = 3 } })
    expect.raises("learn has 'respones'; did you mean 'response'%?", template.plain, { learn = { respones = 3 } })
    expect.truthy(template.plain { learn = { rest = 1, ["end"] = 0, correction = 2 } })  -- a kind of the user's own
  end },

  { "deepseek, chatml, plain, zephyr, tulu", function()
    local record = chat_of("q", "a", "r", "b")
    expect.same(text_of(template.deepseek(), record),
      "<bos>User: q\n\nAssistant:{ a<eos>}User: r\n\nAssistant:{ b<eos>}")
    expect.match(text_of(template.deepseek { space = false, system = "S" }, record), "^<bos>S\n\nUser: q\n\nAssistant:{a<eos>}")
    expect.match(text_of(template.chatml(), record), "named SmolLM, .*assistant\n{a<|im_end|>}\n<|im_start|>user\nr.*{b<|im_end|>}$")
    expect.same(text_of(template.plain { bos = true, separator = "\n" }, record), "<bos>q\n{a<eos>}\nr\n{b<eos>}")
    expect.same(text_of(template.zephyr { system = "S" }, record), "<|system|>\nS<eos>\n<|user|>\nq<eos>\n<|assistant|>\n" ..
      "{a<eos>}\n<|user|>\nr<eos>\n<|assistant|>\n{b<eos>}")
    expect.same(text_of(template.tulu { bos = true }, record),
      "<bos><|user|>\nq\n<|assistant|>\n{a<eos>}\n<|user|>\nr\n<|assistant|>\n{b<eos>}")
  end },

  { "a system text in a question", function()
    local record = chat_of("q", "a", "r", "b")
    table.insert(record.messages, 1, { role = "system", content = " S " })
    expect.same(text_of(template.gemma3(), record), "<bos><start_of_turn>user\n S \n\nq<end_of_turn>\n<start_of_turn>model\n" ..
      "{a<end_of_turn>}\n<start_of_turn>user\nr<end_of_turn>\n<start_of_turn>model\n{b<end_of_turn>}")
    expect.match(text_of(template.llama2 { system = "T" }, chat_of("q", "a")), "^<bos>%[INST%] <<SYS>>\nT\n<</SYS>>\n\nq %[/INST%]{ a <eos>}$")
    local kinds = {}
    for _, s in ipairs(template.gemma3():segments(record)) do kinds[s.kind] = (kinds[s.kind] or "") .. (s.text or "") end
    expect.same({ kinds.system, kinds.query, kinds.critique }, { " S ", "qr", "ab" })
    expect.same({ template.gemma2():segments(record) },
      { nil, "template gemma2 has no place for a system text, and the record has one" })
    local function new(changes)
      local spec = { name = "x", user_turn = { template.system, template.content }, answer_turn = { template.content } }
      for name, value in pairs(changes) do spec[name] = value end
      return template.new(spec)
    end
    expect.same(text_of(new {}, record), " S q{a}r{b}")
    expect.same(text_of(new { system_turn = { "[", template.content, "]" }, trim = true }, record), "[S]q{a}r{b}")
    expect.raises("'system' stands in answer_turn; its place is in user_turn", new, { answer_turn = { template.system } })
    expect.raises("'system_turn' must be a turn or false, got true", new, { system_turn = true })
    expect.raises("'system' must be a text or false, got true", new, { system = true })
    expect.raises("'system' is \"S\", and system_turn = false has no place for it", new, { system_turn = false, system = "S" })
    expect.raises("system_in = \"last\" is for a 'system' in user_turn, and there is none", new,
      { system_in = "last", user_turn = { template.content } })
    expect.raises("'system' stands twice in user_turn; once is wanted", new,
      { user_turn = { template.system, template.system, template.content } })
    expect.raises("'system' stands behind 'content' in user_turn; its place is before it", new,
      { user_turn = { template.content, template.system } })
    expect.raises("trim: 'user' must be one of 'both', 'joined', got 'left'", new, { trim = { user = "left" } })
    expect.raises("trim: unknown option 'users'; did you mean 'user'", new, { trim = { users = "both" } })
  end },

  { "a tokenizer without a family's tokens", function()
    local bytes = fake { "<eos>", "<bos>", "[INST]", "[/INST]", eos = "<eos>", bos = "<bos>" }
    expect.same(template.mistral { version = "v3-tekken" }:missing(bytes), {})
    expect.same(template.mistral():missing(bytes), { "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]" })
    expect.same(template.phi3():missing(bytes), { "<|system|>", "<|end|>", "<|user|>", "<|assistant|>" })
    expect.same(template.llama2():describe(bytes), "template llama2: answers end in <eos> (id 256), loss weight 1; nothing follows it")
    expect.raises("'version' must be one of 'v3', .*got 'v2'", template.mistral, { version = "v2" })
    expect.raises("unknown option 'system'", template.gemma2, { system = "S" })
  end },

  { "every preset is listed where a user looks", function()
    expect.same(#template.presets, #require "cft.text.presets")
    local function text(path)
      local file = assert(io.open(path, "rb"))
      local all = file:read "*a"
      file:close()
      return all
    end
    local cli, page = text "docs/cli.md", text "docs/templates.md"
    expect.truthy(cli:find("how a record becomes text: " .. table.concat(template.names, ", ") .. " |", 1, true), "docs/cli.md")
    for _, name in ipairs(template.presets) do
      expect.same(template.of(name).name, name)
      expect.truthy(page:find("\n| `" .. name .. "` | ", 1, true), name .. " in docs/templates.md")
    end
  end },

  { "weights by kind, by part, by function", function()
    local record = chat_of("q\n\nSolution:\ns", "c. Conclusion: wrong")
    local function weights(opts)
      local out = {}
      for _, s in ipairs(template.plain(opts):segments(record)) do
        if s.content or s.special then out[s.kind] = s.weight end
      end
      return out
    end
    expect.same(weights(), { query = 0, response = 0, critique = 1, verdict = 1, ["end"] = 1 })
    expect.same(weights { learn = { verdict = 3, query = 0.1, rest = 0.5 } },
      { query = 0.1, response = 0, critique = 0.5, verdict = 3, ["end"] = 0.5 })
    local by_function = function() return 2 end
    expect.same(weights { learn = by_function }.critique, by_function)
    record.messages[2].content = { { text = "c", kind = "critique", learn = 0 }, { text = "v", kind = "verdict" } }
    expect.same(weights { learn = 2 }, { query = 0, response = 0, critique = 0, verdict = 2, ["end"] = 2 })
    expect.raises("weight of 'verdict' must be a number from 0 or a function, got %-1", template.plain, { learn = { verdict = -1 } })
    expect.raises("weight of 'learn' must be .* got nan", template.plain, { learn = 0 / 0 })
  end },

  { "a tokenizer that lacks a token", function()
    local poor = fake { "<eos>", eos = "<eos>" }
    local chat = template.chatml()
    expect.same(chat:missing(tok), {})
    expect.same(chat:missing(poor), { "<|im_start|>", "<|im_end|>" })
    expect.raises("template chatml needs the tokens <|im_start|>, <|im_end|>, which the tokenizer lacks; add_tokens = true adds them",
      chat.prepare, chat, poor)
    expect.same(chat:prepare(poor, { add_tokens = true }), { "<|im_start|>", "<|im_end|>" })
    expect.same(chat:missing(poor), {})
    local deepseek = template.deepseek()
    expect.same(deepseek:missing(poor), { "bos" })
    expect.raises("needs the tokenizer's bos token, and it names none", deepseek.prepare, deepseek, poor, { add_tokens = true })
  end },

  { "which end token has loss weight", function()
    expect.same(template.qwen():describe(tok), "template qwen: answers end in <eos> (id 256), loss weight 1; nothing follows it")
    expect.same(template.qwen { end_token = "im_end_newline" }:describe(tok),
      [[template qwen: answers end in <|im_end|> (id 259), loss weight 1; "\n" follows it, as text with loss weight]])
    expect.match(template.qwen { learn = { ["end"] = 0 } }:describe(tok), "loss weight 0;")
    expect.match(template.qwen { learn = 2 }:describe(tok), "loss weight 2;")
    expect.same({ template.chatml():end_token(tok) }, { 259, "<|im_end|>" })
    local endless = template.new { name = "endless", user_turn = { template.content }, answer_turn = { template.content } }
    expect.match(endless:describe(tok), "answers end in no token; the model never learns to stop")
  end },

  { "a recipe's own function", function()
    local chat = template.of(function(r)
      return { { text = r.messages[1].content }, { text = r.messages[2].content, learn = true },
        { text = "<|im_end|>", special = true, learn = 0.5, kind = "end" } }
    end)
    local s = mask.encode(chat_of("q", "ab"), chat, tok)
    expect.same({ s.n, s.ids[0], s.ids[3] }, { 4, ("q"):byte(), 259 })
    expect.same({ s.span_count, s.spans[0].weight, s.spans[1].weight, s.spans[2].weight }, { 3, 0, 1, 0.5 })
    expect.same(s.ends, true)
    expect.raises("segment 1 has no text", mask.encode, chat_of("q", "a"), template.of(function() return { {} } end), tok)
    expect.raises("the function gave a string", mask.encode, chat_of("q", "a"), template.of(function() return "x" end), tok)
    expect.raises("must be one of 'qwen', .*did you mean 'chatml'", template.of, "chat_ml")
    expect.raises("unknown option 'end'; did you mean 'end_token'", template.of, "qwen", { ["end"] = 1 })
    expect.same(template.of(chat), chat)
    expect.same(template.of("plain").name, "plain")
  end },

  { "ids and masks of LLaMA-Factory, small cases at three commits", function()
    for _, variant in ipairs(variants) do llamafactory_cases(variant[1], variant[2]) end
  end },

  { "ids and masks of LLaMA-Factory, 500 records", llamafactory_records },

  { "texts of apply_chat_template", function()
    for _, preset in ipairs { "chatml", "llama3", "deepseek" } do expect.same(chat_template_texts(preset), 11) end
  end },

  { "texts of apply_chat_template, families", family_cases },

  { "ids of apply_chat_template: chatml with SmolLM2's tokenizer", function()
    expect.same(chat_template_ids("chatml", vocabularies.smollm2()), 11)
  end },

  { "ids of apply_chat_template: deepseek", function()
    expect.same(chat_template_ids("deepseek", vocabularies.deepseek()), 11)
  end },
}
