-- Tokenizers against Hugging Face tokenizers: five real vocabularies and every component, by hashes
-- of ids (tests/oracle/tokenizer.py); then what users meet: errors, special tokens, saving.

local bit = require "bit"
local expect = require "tests.expect"
local json = require "cft.base.json"
local mask = require "cft.samples.mask"
local open = require "cft.data.open"
local process = require "tests.process"
local samples_of = require("cft.samples").new
local template = require "cft.text.template"
local tokenizer = require "cft.text.tokenizer"
local vocabularies = require "tests.vocabularies"

local golden = debug.getinfo(1, "S").source:match "^@(.*)text/tokenizer%.lua$" .. "golden/tokenizer/"
local shared, read = vocabularies.shared, vocabularies.read

-- ---- hashes and texts -------------------------------------------------------------------------

-- FNV-1a over 32-bit ids instead of bytes; the upper 48 bits, after the count.
local prime, offset = 0x100000001b3ULL, 0xcbf29ce484222325ULL
local function hash_of(encodings, with_counts)
  local h, n = offset, 0
  for _, e in ipairs(encodings) do
    if with_counts then h, n = bit.bxor(h, e.n) * prime, n + 1 end
    for i = 0, tonumber(e.n) - 1 do h = bit.bxor(h, 0ULL + e.ids[i]) * prime end
    n = n + tonumber(e.n)
  end
  return ("%d %s"):format(n, bit.tohex(bit.rshift(h, 16), 12))
end

local odd = assert(json.read(golden .. "odd.json"))

local function texts()
  local list = {}
  for _, source in ipairs(assert(json.read(golden .. "texts.json")).sources) do
    local number = 0
    for line in (read(shared .. "/" .. source.path) .. "\n"):gmatch "(.-)\n" do
      if number % source.every == 0 and line ~= "" then
        for _, field in ipairs(source.fields or {}) do
          local value = assert(json.decode(line))[field]
          for _, m in ipairs(type(value) == "table" and value or { { content = value } }) do
            if m.content ~= "" then list[#list + 1] = m.content end
          end
        end
        if not source.fields then list[#list + 1] = line end
      end
      number = number + 1
    end
  end
  for _, text in ipairs(odd) do list[#list + 1] = text end
  return list
end

local function utf8(cp)
  if cp < 0x80 then return string.char(cp) end
  if cp < 0x800 then return string.char(0xC0 + bit.rshift(cp, 6), 0x80 + cp % 64) end
  if cp < 0x10000 then
    return string.char(0xE0 + bit.rshift(cp, 12), 0x80 + bit.rshift(cp, 6) % 64, 0x80 + cp % 64)
  end
  return string.char(0xF0 + bit.rshift(cp, 18), 0x80 + bit.rshift(cp, 12) % 64,
                     0x80 + bit.rshift(cp, 6) % 64, 0x80 + cp % 64)
end

-- Every code point, 1,024 a text: alone, or between letters, marks and digits.
local function unicode(between)
  local list, part = {}, {}
  for cp = 0, 0x10FFFF do
    if cp < 0xD800 or cp >= 0xE000 then
      local c = utf8(cp)
      part[#part + 1] = between and ("a" .. c .. "\204\129" .. c .. "\204\150b" .. c .. "1 ") or c
      if #part == 1024 or cp == 0x10FFFF then
        list[#list + 1] = table.concat(part)
        part = {}
      end
    end
  end
  return list
end

local function compare(tok, list, want, opts, what)
  local e = tokenizer.encoding()
  local wrong, first = 0, nil
  expect.same(#list, #want, what .. ": texts")
  for i, text in ipairs(list) do
    assert(tok:encode_into(e, text, opts))
    local got = hash_of { e }
    if got ~= want[i] then
      wrong = wrong + 1
      first = first or ("text %d, %q: got %s, expected %s"):format(i, text:sub(1, 200), got, want[i])
    end
  end
  if wrong > 0 then error(("%s: %d of %d texts differ; %s"):format(what, wrong, #list, first)) end
end

-- ---- the five vocabularies --------------------------------------------------------------------

local makers = {
  ["qwen2.5"] = function() return vocabularies.qwen "<|endoftext|>" end,
  smollm2 = vocabularies.smollm2,
  deepseek = vocabularies.deepseek,
  ["mistral-v1"] = vocabularies.mistral_v1,
  ["mistral-v3"] = vocabularies.mistral_v3,
}

-- A hash of texts, as one of their bytes.
local function hash_of_texts(list)
  local h, n = offset, 0
  for _, text in ipairs(list) do
    for i = 1, #text do h = bit.bxor(h, 0ULL + text:byte(i)) * prime end
    h, n = h * prime, n + #text + 1
  end
  return ("%d %s"):format(n, bit.tohex(bit.rshift(h, 16), 12))
end

local function ids_of(e)
  local ids = {}
  for k = 1, tonumber(e.n) do ids[k] = e.ids[k - 1] end
  return ids
end

local function check_real(name)
  local want = assert(json.read(golden .. name .. ".json"))
  local tok, list = makers[name](), texts()
  expect.truthy(#list >= 2000, "at least 2,000 texts")
  compare(tok, list, want.lines, nil, name)
  compare(tok, odd, want.parsed, { parse_special = true }, name .. ", special tokens parsed")

  -- Threads give the same, and decoding gives the text back where nothing changed it.
  local batch = assert(tok:encode_batch(list, { threads = 3 }))
  for i, text in ipairs(list) do
    expect.same(hash_of { batch[i - 1] }, want.lines[i])
    -- no NFC, and a token for each byte
    if name == "deepseek" then expect.same(tok:decode(ids_of(batch[i - 1])), text) end
  end
  if want.decoded then
    local decoded = {}
    for i, text in ipairs(odd) do decoded[i] = tok:decode(tok:encode(text, { parse_special = true })) end
    expect.same(hash_of_texts(decoded), want.decoded)
  end
  return tok, list, want
end

-- Written and read again, it is the same tokenizer.
local function check_saved(name)
  local tok, list, want = check_real(name)
  local folder = process.folder()
  tok.eos = 0
  while not tok:is_special(tok.eos) do tok.eos = tok.eos + 1 end
  tok.chat_template = "{{ 1 }}"
  tok:save(folder)
  local again = tokenizer.load(folder)
  expect.same(again:size(), tok:size())
  expect.same({ again.bos, again.eos, again.chat_template }, { tok.bos, tok.eos, "{{ 1 }}" })
  compare(again, list, want.lines, nil, name .. ", saved")
  compare(again, odd, want.parsed, { parse_special = true }, name .. ", saved, special tokens parsed")
end

-- ---- components -------------------------------------------------------------------------------

local function check_components(on)
  local all = assert(json.read(golden .. "components.json"))
  local lists = { odd = odd, ["odd, with its special tokens"] = odd }
  if on == "unicode" then lists = { points = unicode(false), unicode = unicode(true) } end
  local wrong, cases = {}, 0
  for _, case in ipairs(all.cases) do
    local list = lists[case.on]
    if list then
      cases = cases + 1
      local model = case.tokenizer.model
      case.tokenizer.model = type(model) == "string" and all[model] or model
      local tok = tokenizer.parse(json.encode(case.tokenizer), case.name)
      for mode, want in pairs { plain = case.plain, parsed = case.parsed } do
        local batch = assert(tok:encode_batch(list, {
          parse_special = mode == "parsed", add_special = case.on:find "special" ~= nil }))
        local encodings = {}
        for i = 1, #list do encodings[i] = batch[i - 1] end
        local got = hash_of(encodings, true)
        if got ~= want then
          wrong[#wrong + 1] = ("%s (%s): got %s, expected %s"):format(case.name, mode, got, want)
        end
        if mode == "plain" and case.decoded then
          local decoded = {}
          for i, e in ipairs(encodings) do decoded[i] = tok:decode(ids_of(e)) end
          got = hash_of_texts(decoded)
          if got ~= case.decoded then
            wrong[#wrong + 1] = ("%s (decoded): got %s, expected %s"):format(case.name, got, case.decoded)
          end
        end
      end
    end
  end
  if #wrong > 0 then
    error(("%d of %d components differ:\n%s"):format(#wrong, cases, table.concat(wrong, "\n")))
  end
  expect.truthy(cases >= 30, "cases")
end

-- ---- a tokenizer small enough to look at --------------------------------------------------------

-- All bytes and a few merges; `changes` replace parts of the file.
local function tiny_file(changes)
  local all = assert(json.read(golden .. "components.json"))
  local file = { added_tokens = json.array {}, pre_tokenizer = { type = "ByteLevel", add_prefix_space = false },
                 decoder = { type = "ByteLevel" }, model = all.tiny }
  for key, value in pairs(changes or {}) do file[key] = value end
  return file
end

local function tiny(changes) return tokenizer.parse(json.encode(tiny_file(changes)), "tiny.json") end

local function spelled(tok, ids)
  local list = {}
  for i, id in ipairs(ids) do list[i] = tok:token(id) end
  return table.concat(list, "|")
end

-- Files whose tokens are characters, and what is wrong with their decoders.
local bad_decoders = {
  { { type = "Strip", content = " ", start = 1, stop = 0 }, "Strip is implemented behind Fuse only" },
  { { { type = "Fuse" }, { type = "Strip", content = "é", start = 1, stop = 0 } }, "as one ASCII character only" },
  { { { type = "Fuse" }, { type = "Strip", content = " ", start = -1, stop = 0 } }, "start is an integer, not a count" },
  { { { type = "Fuse" }, { type = "Strip", content = " ", start = 1 } }, "stop is nothing, not a count" },
  { { { type = "Fuse" }, { type = "ByteFallback" } }, "ByteFallback behind another step" },
  { { { type = "Fuse" }, { type = "Strip", content = " ", start = 1, stop = 0 },
      { type = "Strip", content = " ", start = 1, stop = 0 } }, "a second Strip" },
  { { type = "WordPiece" }, 'decoder "WordPiece" is not implemented' },
  { { type = "ByteLevel" }, 'decoder "ByteLevel" is not implemented' },
}

local space_marks = { type = "Sequence", normalizers = {
  { type = "Prepend", prepend = "▁" }, { type = "Replace", pattern = { String = " " }, content = "▁" } } }

local function spelled_decoder(...)
  return { type = "Sequence", decoders = { { type = "Replace", pattern = { String = "▁" }, content = " " },
                                           { type = "ByteFallback" }, { type = "Fuse" }, ... } }
end

-- Characters, bytes to fall back on and a few merges, as SentencePiece has them.
local function characters_file(changes)
  local all = assert(json.read(golden .. "components.json"))
  local file = { added_tokens = json.array {}, normalizer = space_marks, model = all.characters,
                 decoder = spelled_decoder { type = "Strip", content = " ", start = 1, stop = 0 } }
  for key, value in pairs(changes or {}) do file[key] = value ~= json.null and value or nil end
  return file
end

local function characters(changes) return tokenizer.parse(json.encode(characters_file(changes)), "characters.json") end

local function metaspace(scheme)
  return { normalizer = json.null, pre_tokenizer = { type = "Metaspace", replacement = "▁", prepend_scheme = scheme,
                                                     split = false } }
end

local function with_model(change)
  local file = tiny_file()
  change(file.model, file)
  return function() return tokenizer.parse(json.encode(file), "bad.json") end
end

-- What is wrong with a file, and what is said about it.
local bad_files = {
  { '{"model": ', "^.*bad.json, line 1 %(byte %d+%): .*" },
  { "", "bad.json, line 1 %(byte 0%)" },
  { "[1]", "bad.json: tokenizer.json is an array, not an object" },
  { "{}", "bad.json: model is nothing, not an object" },
  { '{"model": {"type": "Unigram"}}', 'model "Unigram" is not implemented' },
  { '{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}', "duplicate object key" },
  { '{"model": {"vocab": {"a": 0, "b": 0}, "merges": []}}', 'tokens "a" and "b" have the same id 0' },
  { '{"model": {"vocab": {"a": -1}, "merges": []}}', '"a": token: id %-1 is not in 0..4194303' },
  { '{"model": {"vocab": {"a": 99999999999}, "merges": []}}', "id 99999999999 is not in 0" },
  { '{"model": {"vocab": {"a": 1e400}, "merges": []}}', "bad.json, line 1" },
  { '{"model": {"vocab": {"a": 1.5}, "merges": []}}', 'token "a": its id is a real number' },
  { '{"model": {"vocab": {"a": null}, "merges": []}}', 'token "a": its id is null' },
  { '{"model": {"vocab": {"a\\u0000": 1}, "merges": []}}', "bad.json, line 1" },
  { '{"model": {"vocab": [], "merges": []}}', "vocab is an array, not an object" },
  { '{"model": {"vocab": {"a": 0}}}', "merges is nothing, not an array" },
  { '{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}', 'merge 0: "b" is not in the vocabulary' },
  { '{"model": {"vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}', 'merge 0: "ab" is not in the vocabulary' },
  { '{"model": {"vocab": {"a": 0}, "merges": ["aa"]}}', 'merge 0: "aa" is not two tokens' },
  { '{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}', "is not two tokens with a space between" },
  { '{"model": {"vocab": {"a": 0}, "merges": [["a"]]}}', 'merge 0 is neither "a b" nor' },
  { '{"model": {"vocab": {"a": 0}, "merges": [], "unk_token": "u"}}', 'unk_token "u" is not in the vocabulary' },
  { '{"model": {"vocab": {"a": 0}, "merges": [], "dropout": 0.1}}', "model: dropout is not implemented" },
  { '{"model": {"vocab": {"a": 0}, "merges": [], "byte_fallback": 1}}', "byte_fallback is an integer, not true or false" },
  { '{"model": {"vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": "##"}}', "continuing_subword_prefix is not" },
  { '{"model": {"vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"}}', "end_of_word_suffix is not" },
  { ("["):rep(100000), "bad.json, line 1" },
}

local bad_parts = {
  { { normalizer = { type = "NFKC" } }, 'normalizer "NFKC" is not implemented' },
  { { normalizer = { type = "Sequence", normalizers = { { type = "Lowercase" } } } }, 'normalizer "Lowercase"' },
  { { normalizer = { 1 } }, "normalizer is an array, not an object" },
  { { normalizer = { kind = 1 } }, "normalizer has no type" },
  { { pre_tokenizer = { type = "Whitespace" } }, 'pre_tokenizer "Whitespace" is not implemented' },
  { { pre_tokenizer = { type = "Metaspace" } }, "Metaspace: replacement is not one character" },
  { { pre_tokenizer = { type = "Metaspace", replacement = "" } }, "replacement is not one character" },
  { { pre_tokenizer = { type = "Metaspace", replacement = "__" } }, "replacement is not one character" },
  { { pre_tokenizer = { type = "Metaspace", replacement = "_", prepend_scheme = "last" } }, 'prepend_scheme "last" is not always' },
  { { pre_tokenizer = { type = "Metaspace", replacement = "_", prepend_scheme = 1 } }, "prepend_scheme an integer is not always" },
  { { pre_tokenizer = { type = "Metaspace", replacement = "_", add_prefix_space = false } }, "does not match prepend_scheme" },
  { { normalizer = { type = "Prepend" } }, "Prepend: prepend is nothing, not a string" },
  { { normalizer = { type = "Replace" } }, "Replace: pattern is no" },
  { { normalizer = { type = "Replace", pattern = { String = "" }, content = "a" } }, "Replace: pattern is no" },
  { { normalizer = { type = "Replace", pattern = { String = "a" } } }, "Replace: content is nothing, not a string" },
  { { normalizer = { type = "Replace", pattern = { Regex = "a" }, content = "b" } }, "Replace: a Regex is not implemented" },
  { { pre_tokenizer = { type = "Sequence" } }, "pretokenizers is nothing, not an array" },
  { { pre_tokenizer = { type = "Sequence", pretokenizers = { { type = "ByteLevel" }, { type = "Digits" } } } },
    'pre_tokenizer: "Digits" behind ByteLevel' },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated" } }, "Split: pattern is neither" },
  { { pre_tokenizer = { type = "Split", behavior = "Sideways", pattern = { Regex = "a" } } }, 'behavior "Sideways" is not one of' },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated", pattern = { Regex = "(a" } } }, 'pattern "%(a".*a group without its %)' },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated", pattern = { Regex = "[a" } } }, "a class without its %]" },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated", pattern = { Regex = "*a" } } }, "nothing to repeat" },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated", pattern = { Regex = "(?<=a)(" } } }, 'pattern "%(%?<=a%)%("' },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated", pattern = { Regex = "(?<=a)(?m:.)" } } }, "the option m" },
  { { pre_tokenizer = { type = "Split", behavior = "Isolated", pattern = { Regex = "a{2}?" } } }, "{n,m} with another repetition" },
  { { pre_tokenizer = { type = "ByteLevel", use_regex = "yes" } }, "use_regex is a string, not true or false" },
  { { post_processor = { type = "Magic" } }, 'post_processor "Magic" is not implemented' },
  { { post_processor = { type = "TemplateProcessing", single = { { SpecialToken = { id = "[B]" } } } } },
    'special token "%[B%]" has no ids' },
  { { decoder = { type = "WordPiece" } }, 'decoder "WordPiece" is not implemented' },
  { { decoder = { type = "ByteFallback" } }, 'decoder "ByteFallback" is not implemented' },
  { { added_tokens = { { id = 999, content = "a" } } }, 'added token "a": has id 999, but the vocabulary has it as' },
  { { added_tokens = { { id = 0, content = "new" } } }, 'tokens "!" and "new" have the same id 0' },
  { { added_tokens = { { id = 292, content = "x1" }, { id = 292, content = "x2" } } }, 'have the same id 292' },
  { { added_tokens = { { id = 292, content = "x1" }, { id = 292, content = "x1" } } }, 'added token "x1": is there twice' },
  { { added_tokens = { { id = 292, content = "x1" }, { id = 294, content = "x2" } } },
    'added token "x2": has id 294, but Hugging Face tokenizers gives it 293, the next free one; write the id that the '
    .. 'model was trained with, in the vocabulary as well' },
  { { added_tokens = { { id = 999, content = "x1" } } }, 'added token "x1": has id 999, but .* gives it 292' },
  { { added_tokens = { { id = 293, content = "x1" }, { id = 292, content = "x2" } } }, 'added token "x1": has id 293, but .* it 292' },
  { { added_tokens = { { content = "x" } } }, 'added token "x": id is nothing, not an id' },
  { { added_tokens = { { id = 1 } } }, "added token 0 has no content" },
}

return {
  { "Qwen2.5 as Hugging Face tokenizers", function() check_saved "qwen2.5" end },
  { "SmolLM2 from its GGUF as Hugging Face tokenizers", function()
    check_saved "smollm2"
    local tok = vocabularies.smollm2()
    expect.same({ tok.bos, tok.eos, tok.pad, tok:token(tok.eos) }, { 1, 2, 2, "<|im_end|>" })
    expect.match(tok.chat_template, "add_generation_prompt")
  end },
  { "Mistral v1, a legacy SentencePiece file, as Hugging Face tokenizers", function() check_saved "mistral-v1" end },
  { "Mistral v3, a SentencePiece file with Metaspace, as Hugging Face tokenizers", function()
    check_saved "mistral-v3"
  end },
  { "DeepSeek as Hugging Face tokenizers", function() check_saved "deepseek" end },
  { "every component as Hugging Face tokenizers", function() check_components "odd" end },
  { "every component on every code point", function() check_components "unicode" end },

  { "bytes that are no text", function()
    local tok = tiny()
    for _, path in ipairs(assert(json.read(golden .. "texts.json")).not_text) do
      expect.fails("encode: invalid UTF%-8 at byte %d+", tok:encode(read(shared .. "/" .. path)))
    end
    local cases = {  -- text, the first bad byte
      { "ab\255", 2 }, { "\128", 0 }, { "a\192\128", 1 }, { "\224\128\128", 0 }, { "x\237\160\128", 1 },
      { "\244\144\128\128", 0 }, { "\245", 0 }, { "\240\128\128\128", 0 }, { ("a"):rep(21) .. "\226\130", 21 },
      { "\226\130", 0 }, { "\226\40\161", 0 }, { "ok \195", 3 }, { "\240\159\152", 0 }, { "\195\169\169", 2 },
    }
    for _, case in ipairs(cases) do
      expect.fails(("invalid UTF%%-8 at byte %d "):format(case[2]), tok:encode(case[1]))
    end
    expect.fails("^text 2: encode: invalid UTF%-8 at byte 1 %(0xff%)$",
                 tok:encode_batch({ "a", "b", "c\255", "d\255" }, { threads = 2 }))
    expect.same(tok:decode(assert(tok:encode "\239\191\189")), "\239\191\189")
  end },

  { "spans are the bytes of each token", function()
    local tok = tiny()
    local text = "The  aab\nx\195\169\240\159\152\128"
    local ids, spans = tok:encode(text, { spans = true })
    local at = 1
    for i, span in ipairs(spans) do
      expect.same(span[1], at)
      expect.same(tok:decode { ids[i] }, text:sub(span[1], span[2]))
      at = span[2] + 1
    end
    expect.same(at, #text + 1)
    expect.same({ tok:encode("", { spans = true }) }, { {}, {} })
  end },

  { "spans where NFC changed the text", function()
    local tok = tiny { normalizer = { type = "NFC" } }
    -- e + acute is one character of two bytes, \195 \169, and they merge to one token
    local ids, spans = tok:encode("xe\204\129y", { spans = true })
    expect.same(tok:decode(ids), "x\195\169y")
    expect.same(spans, { { 1, 1 }, { 2, 4 }, { 5, 5 } })
    -- two tokens of one composed character both stand for all of it
    ids, spans = tok:encode("a\204\138b", { spans = true })
    expect.same(tok:decode(ids), "\195\165b")
    expect.same(spans, { { 1, 3 }, { 1, 3 }, { 4, 4 } })
    ids, spans = tok:encode("\226\132\171\226\132\171z", { spans = true })  -- the angstrom sign, twice
    expect.same(tok:decode(ids), "\195\133\195\133z")
    expect.same(spans, { { 1, 3 }, { 1, 3 }, { 4, 6 }, { 4, 6 }, { 7, 7 } })
    -- what stands before is not of them: singletons, and a letter that is always written as two
    for written, text in pairs { ["\206\169"] = "\226\132\166", ["\195\133"] = "\226\132\171", ["K"] = "\226\132\170",
                                 ["\224\164\162\224\164\188"] = "\224\165\157" } do
      for _, before in ipairs { ":", "\195\169", "\224\164\149", "=" } do
        ids, spans = tok:encode(before .. text .. "\204\129 = 3", { spans = true })
        expect.match(tok:decode(ids), "^" .. before)
        expect.same({ spans[1][1], spans[#spans][2] }, { 1, #before + #text + 6 })
        ids, spans = tok:encode(before .. text .. " = 3", { spans = true })
        expect.same(tok:decode(ids), before .. written .. " = 3")
        for i, span in ipairs(spans) do
          local inside = span[1] == #before + 1 and span[2] == #before + #text
          expect.truthy(span[2] <= #before or inside or span[1] > #before + #text, before .. text .. " " .. i)
        end
      end
      local record = { messages = { { role = "user", content = "?" }, { role = "assistant", content = {
        { text = "Solution:", learn = 0 }, { text = text .. " = 3", learn = 3 } } } } }
      local s = assert(mask.encode(record, template.custom(function(r)
        return { { text = "?" }, r.messages[2].content[1], r.messages[2].content[2] }
      end), tok))
      expect.same(s.span_count, 2)
      tok.eos = 0
      s = assert(mask.encode(record, template.plain { separator = " " }, tok))
      local first = 0
      for i = 0, s.span_count - 1 do
        if s.spans[i].weight == 3 then expect.same(tonumber(s.spans[i].count), #tok:encode(text .. " = 3")) end
        if s.spans[i].weight == 0 then first = first + tonumber(s.spans[i].count) end
      end
      expect.same(first, #tok:encode "? " + #tok:encode "Solution:")
    end
    -- a space in front that the text does not have
    tok = tiny { pre_tokenizer = { type = "ByteLevel", add_prefix_space = true } }
    ids, spans = tok:encode("ab", { spans = true })
    expect.same(spelled(tok, ids), "Ġa|b")
    expect.same(spans, { { 1, 1 }, { 2, 2 } })
  end },

  { "spans of characters and of the bytes they fall back on", function()
    local text = "the  a\n\240\159\152\128é b"
    local tok = characters()
    local ids, spans = tok:encode(text, { spans = true })
    expect.same(spelled(tok, ids), "▁the|▁▁|a|<0x0A>|<0xF0>|<0x9F>|<0x98>|<0x80>|é|▁|b")
    expect.same(spans, { { 1, 3 }, { 4, 5 }, { 6, 6 }, { 7, 7 }, { 8, 8 }, { 9, 9 }, { 10, 10 }, { 11, 11 }, { 12, 13 },
                         { 14, 14 }, { 15, 15 } })
    expect.same({ tok:encode(text, { spans = true, continues = true }) }, { tok:encode(text, { spans = true }) and
      { tok:id "t", tok:id "he", unpack(ids, 2) }, { { 1, 1 }, { 2, 3 }, unpack(spans, 2) } })
    -- a mark that the text does not have stands for nothing
    ids, spans = tok:encode("xy", { spans = true })
    expect.same(spelled(tok, ids), "▁|x|<0x79>")
    expect.same(spans, { { 1, 0 }, { 1, 1 }, { 2, 2 } })
    for _, scheme in ipairs { "always", "first", "never" } do
      tok = characters(metaspace(scheme))
      ids, spans = tok:encode(text .. text, { spans = true })
      local at = 1
      for _, span in ipairs(spans) do
        expect.same(span[1], at)
        at = span[2] + 1
      end
      expect.same(at, 2 * #text + 1)
    end
  end },

  { "what is put in front of a text", function()
    local n = characters():size()
    local function put(scheme, text, opts)
      local changes = scheme and metaspace(scheme) or {}
      changes.added_tokens = { { id = n, content = "<b>", special = true, normalized = false } }
      opts.parse_special = true
      local file = characters_file(changes)
      return (spelled(tokenizer.parse(json.encode(file), "c"), tokenizer.parse(json.encode(file), "c"):encode(text, opts)))
    end
    -- scheme, at the beginning, behind a special token, behind text
    for _, case in ipairs { { nil, "▁|o|<b>|▁|o", "▁|o|<b>|▁|o", "o|<b>|▁|o" }, { "always", "▁|o|<b>|▁|o", "▁|o|<b>|▁|o", "o|<b>|▁|o" },
                            { "first", "▁|o|<b>|o", "o|<b>|o", "o|<b>|o" }, { "never", "o|<b>|o", "o|<b>|o", "o|<b>|o" } } do
      expect.same(put(case[1], "o<b>o", {}), case[2])
      expect.same(put(case[1], "o<b>o", { inside = true }), case[3])
      expect.same(put(case[1], "o<b>o", { continues = true }), case[4])
    end
    local tok = characters()
    local ids = tok:encode "the a"
    expect.same({ tok:decode(ids), tok:decode(ids, { inside = true }) }, { "the a", " the a" })
    expect.same(tok:decode(tok:encode "  the"), "  the")
    tok = characters { decoder = spelled_decoder { type = "Strip", content = " ", start = 0, stop = 2 } }
    expect.same(tok:decode(tok:encode "a   "), " a ")
    expect.same(tok:decode(tok:encode " "), "")
    expect.same(tok:decode { tok:id "<0xC3>" }, "\195")
  end },

  { "a template's slots give the ids of the whole conversation", function()
    local function check(chat, tok)
      chat:prepare(tok, {})
      for _, answer in ipairs { "a = 1", "The answer", "1. one\n2. two", "日本 é" } do
        local record = { messages = { { role = "user", content = "What is  it?" }, { role = "assistant", content = answer },
                                      { role = "user", content = "Why?\n" }, { role = "assistant", content = "So it is." } } }
        local sample = assert(mask.encode(record, chat, tok))
        local texts, ids = {}, {}
        for i, s in ipairs(sample.segments) do texts[i] = s.text or tok:token(template.id_of(s, tok)) end
        for i = 1, sample.n do ids[i] = sample.ids[i - 1] end
        local whole = table.concat(texts)
        expect.same(spelled(tok, ids), spelled(tok, tok:encode(whole, { parse_special = true })))
        expect.same(tok:decode(ids, { inside = true }), tok:decode(tok:encode(whole, { parse_special = true }), { inside = true }))
      end
    end
    check(template.llama2(), vocabularies.mistral_v1())
    check(template.zephyr(), vocabularies.mistral_v1())
    check(template.mistral { version = "v3" }, vocabularies.mistral_v3())
  end },

  { "a template's tokens take the white space that their flags say", function()
    local space = "\227\128\128\n\t\194\160"  -- ideographic and no-break among it
    local roles = { "<|system|>", "<|user|>", "<|assistant|>", "<|end|>" }
    local function with(make, flags)
      local added, n = {}, make():size()
      for i, text in ipairs(roles) do
        added[i] = { id = n + i - 1, content = text, special = true, normalized = false }
        for name in pairs(flags[text] or flags) do added[i][name] = true end
      end
      return make { added_tokens = added }
    end
    local function check(tok, chat, answer)
      local record = { messages = { { role = "system", content = space .. "s " }, { role = "user", content = " What?" .. space },
        { role = "assistant", content = answer }, { role = "user", content = space }, { role = "assistant", content = "No." } } }
      local s = assert(mask.encode(record, chat, tok))
      local whole, ids = {}, {}
      for i, segment in ipairs(s.segments) do whole[i] = segment.text or tok:token(template.id_of(segment, tok)) end
      for i = 1, s.n do ids[i] = s.ids[i - 1] end
      return spelled(tok, ids), spelled(tok, tok:encode(table.concat(whole), { parse_special = true })), s
    end
    local both = { rstrip = true, lstrip = true }
    for _, make in ipairs { tiny, characters } do
      for _, flags in ipairs { { rstrip = true }, { lstrip = true }, both,
                               { ["<|user|>"] = both, ["<|end|>"] = { rstrip = true }, ["<|system|>"] = {}, ["<|assistant|>"] = {} } } do
        local tok = with(make, flags)
        for _, breaks in ipairs { true, false } do
          local got, want = check(tok, template.phi3 { breaks = breaks }, "Yes." .. space)
          expect.same(got, want)
        end
      end
    end
    -- an answer's own white space is no prompt's, and its own end token's
    local tok = with(tiny, both)
    local got = check(tok, template.phi3(), "\n\nYes. ")
    expect.match(got, "<|assistant|>|Ċ|Ċ|Y|e|s|.|<|end|>|<|user|>")
    expect.same(samples_of(open.list { { instruction = "2 + 3?", output = "5" } }, template.phi3(), tok):describe()
      :find("do not begin", 1, true), nil)
    -- weights stay with their text
    local _, _, s = check(tok, template.phi3(), "Yes.")
    local learned = {}
    for i = 0, s.span_count - 1 do
      if s.spans[i].weight == 1 then learned[#learned + 1] = tonumber(s.spans[i].count) end
    end
    expect.same(learned, { #"Yes.", 1, #"No.", 1 })
  end },

  { "special tokens are text unless asked for", function()
    local n = tiny():size()
    local tok = tiny { added_tokens = { { id = n, content = "<|im_end|>", special = true, normalized = false },
                                        { id = n + 1, content = "<think>", special = false, normalized = false } } }
    local text = "a<|im_end|>b<think>"
    expect.same(spelled(tok, tok:encode(text)), "a|<||i|m|_|e|n|d||>|b|<think>")
    expect.same(spelled(tok, tok:encode(text, { parse_special = true })), "a|<|im_end|>|b|<think>")
    expect.same(tok:find_special(text), { { id = n, first = 2, last = 11 } })
    expect.same(#tok:find_special(("<|im_end|>"):rep(100) .. "\255"), 100)
    expect.same({ tok:is_special(n), tok:is_special(n + 1), tok:is_special(0), tok:is_special(9999) },
                { true, false, false, false })
    expect.same(tok:decode({ n, tok:id "a", n + 1 }), "<|im_end|>a<think>")
    expect.same(tok:decode({ n, tok:id "a", n + 1 }, { skip_special = true }), "a<think>")
  end },

  { "a template's tokens are text in data, special or not", function()
    local n = tiny():size()
    local tok = tiny { added_tokens = {
      { id = n, content = "<|im_start|>", special = false, normalized = false },
      { id = n + 1, content = "<|im_end|>", special = false, normalized = true, lstrip = true },
      { id = n + 2, content = "<think>", special = false, normalized = false } } }
    local data = samples_of(open.list { { instruction = "a<|im_start|> <|im_end|>b<think><|im_start|>", output = "c" } },
                            template.chatml { system = false }, tok)
    local ids = {}
    for i = 1, data:get(0).n do ids[i] = data:get(0).ids[i - 1] end
    expect.same(spelled(tok, ids), "<|im_start|>|u|s|e|r|Ċ|a|<||i|m|_|s|t|a|r|t||>|Ġ|<||i|m|_|e|n|d||>|b|<think>|<||i|m|_|s|t|a|r|"
      .. "t||>|<|im_end|>|Ċ|<|im_start|>|a|s|s|i|s|t|a|n|t|Ċ|c|<|im_end|>")
    expect.match(data:describe(), "1 hold strings of special tokens, taken as plain text: <|im_end|> %(1%), "
      .. "<|im_start|> %(2%): records 0")
    -- asked for: LLaMA-Factory's way
    data = samples_of(open.list { { instruction = "a<|im_start|>", output = "c" } },
                      template.chatml { system = false, specials = "llamafactory" }, tok)
    expect.same(data:get(0).ids[7], n)
    expect.match(data:describe(), "taken as these tokens: <|im_start|> %(1%)")
    -- of a function of the recipe, its own; and the tokenizer's end token
    tok.eos = n
    local chat = template.custom(function(record)
      return { { text = record.messages[1].content }, { text = "<|im_end|>", special = true, learn = 1 } }
    end)
    local s = assert(mask.encode({ messages = { { role = "user", content = "<|im_start|><|im_end|><think>" } } }, chat, tok))
    ids = {}
    for i = 1, s.n do ids[i] = s.ids[i - 1] end
    expect.same(spelled(tok, ids), "<||i|m|_|s|t|a|r|t||>|<||i|m|_|e|n|d||>|<think>|<|im_end|>")
  end },

  { "added tokens in the white space that others took, as Hugging Face tokenizers", function()
    local all = assert(json.read(golden .. "spaces.json"))
    local compared = 0
    for number, case in ipairs(all.cases) do
      local tok = tiny { added_tokens = case.added, normalizer = case.normalizer or nil }
      for i, text in ipairs(all.texts) do
        local ids, spans = tok:encode(text, { spans = true })
        for _, span in ipairs(spans) do expect.truthy(span[1] >= 1 and span[2] <= #text and span[1] <= span[2] + 1) end
        if #case.ids[i] > 0 then  -- tokenizers fails with the rest
          compared = compared + 1
          expect.same(ids, case.ids[i], number .. ": " .. text)
        end
      end
    end
    expect.truthy(compared > 400, "texts")
    local n = tiny():size()
    local tok = tiny { added_tokens = { { id = n, content = "<|a|>", rstrip = true, special = true },
                                        { id = n + 1, content = " x", normalized = false } } }
    expect.same(tok:encode("<|a|> xb", { parse_special = true }), { n, n + 1, tok:id "b" })
    -- and in no more time
    tok = tiny { added_tokens = { { id = n, content = "\n", rstrip = true, normalized = false },
                                  { id = n + 1, content = " ", lstrip = true, normalized = false } } }
    local start = os.clock()
    expect.same(#tok:encode(("\n"):rep(300000)), 300000)
    expect.same(#tok:encode(("\n \t"):rep(100000)), 100000)
    expect.truthy(os.clock() - start < 5, "time")
  end },

  { "added tokens", function()
    local tok = tiny()
    local size = tok:size()
    expect.same(tok:add_token("<|end|>", { special = true }), size)
    expect.same(tok:size(), size + 1)
    expect.same(tok:add_token("<|end|>", { special = true }), size)
    expect.same(tok:add_token("aa"), tok:id "aa")
    expect.same(tok:size(), size + 1)
    expect.same(spelled(tok, tok:encode("aaa<|end|>", { parse_special = true })), "aa|a|<|end|>")
    expect.raises("add_token: the token is empty", tok.add_token, tok, "")
    expect.raises("add_token: invalid UTF%-8 at byte 0", tok.add_token, tok, "\255")
    expect.raises("unknown option 'specal'", tok.add_token, tok, "x", { specal = true })
    local folder = process.folder()
    tok:save(folder)
    expect.same(tokenizer.load(folder):encode("aaa<|end|>", { parse_special = true }),
                tok:encode("aaa<|end|>", { parse_special = true }))
  end },

  { "a normalizer that makes a thousand of one, again and again, is refused before memory is gone", function()
    local rules = json.array {}
    for i = 1, 6 do rules[i] = { type = "Replace", pattern = { String = "1" }, content = ("1"):rep(1000) } end
    local tok = tiny { normalizer = { type = "Sequence", normalizers = rules } }
    expect.same(tok:encode "a", tiny():encode "a")
    expect.raises('its normalizer\'s Replace of "1" makes more than 65600 bytes of a text, 64 times', tok.encode, tok, "1")
    rules[2] = nil
    for i = 2, 6 do rules[i] = nil end
    expect.same(#tiny({ normalizer = { type = "Sequence", normalizers = rules } }):encode "1", 1000)
  end },

  { "a folder of a slow tokenizer is named", function()
    local folder = process.folder()
    process.write(folder .. "/tokenizer.model", "x")
    expect.raises("has tokenizer.model, and no tokenizer.json, which is what is read; transformers writes one: "
      .. "AutoTokenizer.from_pretrained", tokenizer.load, folder)
  end },

  { "ids that are not in use", function()
    local tok = tiny()
    expect.same({ tok:token(-1), tok:token(1e6), tok:id "nothing" }, {})
    expect.raises("decode: id 1000000 at position 1 is not in the vocabulary", tok.decode, tok, { 0, 1e6 })
    expect.raises("decode: id %-1 at position 0", tok.decode, tok, { -1 })
    expect.same(tok:decode {}, "")
    local long = {}
    for i = 1, 9000 do long[i] = tok:id "a" end
    expect.same(tok:decode(long), ("a"):rep(9000))
  end },

  { "a folder names bos, eos and pad", function()
    local folder = process.folder()
    local n = tiny():size()
    local function write(name, value) process.write(folder .. "/" .. name, json.encode(value)) end
    write("tokenizer.json", tiny_file { added_tokens = {
      { id = n, content = "<s>", special = true }, { id = n + 1, content = "</s>", special = true } } })
    write("config.json", { bos_token_id = n, eos_token_id = { n + 1, n } })
    local tok = tokenizer.load(folder)  -- config.json is no source of a tokenizer's own tokens
    expect.same({ tok.bos, tok.eos, tok.pad }, {})
    expect.match(tok.notes[2], "the tokenizer has no eos_token, though config.json has eos_token_id %d+ %(</s>%), %d+ %(<s>%)")
    write("special_tokens_map.json", { eos_token = "<s>", unk_token = "</s>" })
    expect.same(tokenizer.load(folder).eos, n)
    write("tokenizer_config.json", { eos_token = { content = "</s>" }, bos_token = json.null, pad_token = "nowhere",
                                     chat_template = { { name = "default", template = "T" } }, model_max_length = 7 })
    tok = tokenizer.load(folder .. "/tokenizer.json")
    expect.same({ tok.eos, tok:token(tok.pad), tok.bos, tok.chat_template }, { n, "nowhere", nil, "T" })
    expect.match(tok.notes[1], "eos_token is </s> in tokenizer_config.json and <s> in special_tokens_map.json; the latter")
    expect.same({ tok:size(), tok:rows() }, { n + 3, n + 2 })
    write("special_tokens_map.json", { eos_token = json.null })  -- a null there is none
    expect.same(tokenizer.load(folder).eos, nil)
    write("special_tokens_map.json", { eos_token = "<s>", unk_token = "</s>" })
    local saved = process.folder()
    tok:save(saved)
    expect.same(assert(json.read(saved .. "/tokenizer_config.json")), { eos_token = "<s>", unk_token = "</s>",
      pad_token = "nowhere", model_max_length = 7, tokenizer_class = "PreTrainedTokenizerFast" })
    -- with added_tokens_decoder the map is not read
    write("tokenizer_config.json", { eos_token = "</s>", added_tokens_decoder = {} })
    tok = tokenizer.load(folder)
    expect.same(tok.eos, n + 1)
    expect.match(tok.notes[1], "the former is taken, since it has added_tokens_decoder")
    expect.raises("no token <x> for eos", tokenizer.parse, json.encode(tiny_file()), "t", { eos = "<x>" })
  end },

  { "tokens that only the files beside tokenizer.json name", function()
    local n = tiny():size()
    local function load(config, more, added)
      local folder = process.folder()
      process.write(folder .. "/tokenizer.json", json.encode(tiny_file {
        added_tokens = added or { { id = n, content = "<e>", special = true, normalized = false } } }))
      process.write(folder .. "/tokenizer_config.json", json.encode(config))
      for name, value in pairs(more or {}) do process.write(folder .. "/" .. name, json.encode(value)) end
      return tokenizer.load(folder), folder
    end
    local function token(text, flags)
      local t = { content = text, single_word = false, lstrip = false, rstrip = false, normalized = false, special = false }
      for name, value in pairs(flags or {}) do t[name] = value end
      return t
    end
    local function decoder(list) return { added_tokens_decoder = list } end
    -- with the ids that the file names, whatever their order; flags and a role make one special
    local config = decoder { [tostring(n + 2)] = token("<t>", { rstrip = true }), [tostring(n + 1)] = token "<p>",
                             [tostring(n)] = token("<e>", { special = true }) }
    config.pad_token = "<p>"
    local tok = load(config)
    expect.same({ tok:id "<p>", tok:id "<t>", tok.pad, tok.notes }, { n + 1, n + 2, n + 1, {} })
    expect.same({ tok:is_special(n + 1), tok:is_special(n + 2) }, { true, false })
    expect.same(tok:added(n + 2), { special = false, single_word = false, lstrip = false, rstrip = true, normalized = false })
    expect.same(tok:added(0), nil)
    expect.same(tok:encode("<t>  ", {}), { n + 2 })
    local saved = process.folder()
    tok:save(saved)
    expect.same(tokenizer.load(saved):added(n + 2), tok:added(n + 2))
    -- added_tokens.json, where there is no added_tokens_decoder
    tok = load({}, { ["added_tokens.json"] = { ["<q>"] = n + 2, ["<r>"] = n + 1 } })
    expect.same({ tok:id "<r>", tok:id "<q>", tok:added(n + 1).normalized }, { n + 1, n + 2, true })
    -- another id than transformers gives
    expect.raises("tokenizer_config.json: token <x> has id 999, and tokenizer.json lacks it; transformers gives it "
      .. (n + 1) .. ", the next free one", load, decoder { ["999"] = token "<x>" })
    expect.raises("token <x> has id 0, and", load, decoder { ["0"] = token "<x>" })
    expect.raises("added_tokens.json: token <x> has id " .. n + 5, load, {}, { ["added_tokens.json"] = { ["<x>"] = n + 5 } })
    -- what the files disagree about
    tok = load(decoder { ["999"] = token("<e>", { special = true }) })
    expect.same({ tok:id "<e>", #tok.notes }, { n, 1 })
    expect.match(tok.notes[1], "token <e> has id 999 there and " .. n .. " in tokenizer.json, which is taken, as transformers")
    tok = load(decoder { [tostring(n)] = token("<e>", { lstrip = true }) })
    -- what was ever special stays so, as in tokenizers
    expect.same(tok:added(n), { special = true, single_word = false, lstrip = true, rstrip = false, normalized = false })
    expect.match(tok.notes[1], "token <e>: lstrip = true, other than in tokenizer.json; taken")
    tok = load(decoder { [tostring(tok:id "a")] = token "a" })
    expect.match(tok.notes[1], "token a is an added one there, and in tokenizer.json only in the vocabulary")
    -- tokens that no file gives an id: the next free ones, in transformers' order; rows are not asked for them
    tok = load({ pad_token = "<none>", additional_special_tokens = { "<more>", { content = "<e>" } }, image_token = "<img>" },
               { ["special_tokens_map.json"] = { eos_token = "<lost>", extra_special_tokens = { "<e>", "<last>" } } })
    expect.same({ tok.eos, tok.pad, tok:id "<img>", tok:id "<more>", tok:id "<last>", #tok.notes },
                { n + 1, n + 2, n + 3, n + 4, n + 5, 5 })
    expect.same({ tok:rows(), tok:size(), tok:is_special(n + 4) }, { n + 1, n + 6, true })
    expect.match(tok.notes[1], "special_tokens_map.json: eos_token has <lost>, which no file gives an id; it is " .. n + 1)
    expect.match(tok.notes[4], "tokenizer_config.json: additional_special_tokens has <more>, which no file gives an id")
    local saved = process.folder()
    tok:save(saved)  -- they stay without an id
    local again = tokenizer.load(saved)
    expect.same({ again.eos, again.pad, again:id "<last>", again:rows() }, { n + 1, n + 2, n + 5, n + 1 })
    expect.same({ tok:add_token("<more>", { special = true }), tok:rows() }, { n + 4, n + 5 })  -- now somebody asks
    -- a role makes a token of tokenizer.json special, where there is no added_tokens_decoder; one of the vocabulary an
    -- added one
    local plain = { { id = n, content = "<e>", special = false, normalized = false } }
    tok = load({ pad_token = "<e>" }, nil, plain)
    expect.same(tok:is_special(n), true)
    expect.match(tok.notes[1], "pad_token makes <e> special, which it is not in tokenizer.json")
    expect.same(load({ pad_token = "<e>", added_tokens_decoder = {} }, nil, plain):is_special(n), false)
    expect.same(load({ pad_token = "a" }):added(tok:id "a").special, true)
    -- one file names another token of the same id
    tok = load({}, { ["added_tokens.json"] = { ["<q>"] = n } })
    expect.same({ tok:id "<q>", tok:token(n) }, { nil, "<e>" })
    expect.match(tok.notes[1], "added_tokens.json: token <q> has id %d+, which is <e> in tokenizer.json; the former is left")
    expect.same(template.plain():notes(tok), tok.notes)
    -- malformed
    expect.raises("added_tokens_decoder is a number, not an object", load, decoder(7))
    expect.raises("added_tokens_decoder: x is no id", load, decoder { x = token "<x>" })
    expect.raises("the token of id 999 has no content", load, decoder { ["999"] = {} })
    expect.raises("token <x>: lstrip is a string, not true or false", load, decoder { ["999"] = { content = "<x>", lstrip = "y" } })
  end },

  { "a begin-of-text token that the tokenizer puts before every text", function()
    local n = tiny():size()
    local bos = { id = n, content = "<s>", special = true, normalized = false }
    local puts = { type = "TemplateProcessing", single = { { SpecialToken = { id = "<s>" } }, { Sequence = { id = "A" } } },
                   special_tokens = { ["<s>"] = { ids = { n } } } }
    local function load(config, changes)
      local folder = process.folder()
      changes.added_tokens = { bos, { id = n + 1, content = "</s>", special = true, normalized = false } }
      process.write(folder .. "/tokenizer.json", json.encode(tiny_file(changes)))
      config.bos_token, config.eos_token = "<s>", "</s>"
      process.write(folder .. "/tokenizer_config.json", json.encode(config))
      return tokenizer.load(folder)
    end
    local records = open.list { { instruction = "2 + 3?", output = "5" } }
    local function said(tok, chat) return samples_of(records, chat or template.plain(), tok):describe() end
    local listed = "1 do not begin with what their prompt alone is encoded as"
    -- plain writes what the post-processor puts in front, unless it is told otherwise
    local tok = load({}, { post_processor = puts })
    expect.same({ tok:around() }, { { n }, {} })
    local function first(t, opts)
      local sample = samples_of(records, template.plain(opts), t):get(0)
      return { sample.ids[0] == n, sample.ids[1] == n, sample.spans[0].weight }
    end
    expect.same(first(tok), { true, false, 0 })
    expect.same(first(tok, { bos = true }), { true, false, 0 })
    expect.same(first(tok, { bos = false })[1], false)
    expect.same(first(load({}, {}))[1], false)
    expect.same(first(load({}, {}), { bos = true })[1], true)
    expect.same({ said(tok):find("do not begin", 1, true), template.plain():notes(tok)[1] }, {})
    expect.match(said(tok, template.plain { bos = false }), listed)
    expect.match(template.plain({ bos = false }):notes(tok)[1], "the tokenizer puts <s> before every text, so servers send "
      .. "it, and template plain writes none; bos = true of plain and tulu does")
    expect.same(said(tok, template.new { name = "mine", prefix = { template.first }, user_turn = { template.content, ":" },
      answer_turn = { template.content, template.eos } }):find("do not begin", 1, true), nil)
    -- tokenizer_config.json's word is not taken where there is a tokenizer.json, as in transformers 5; said where it differs
    expect.same({ load({ add_bos_token = false }, { post_processor = puts }):around() }, { { n }, {} })
    expect.match(load({ add_bos_token = false }, { post_processor = puts }).notes[1], "tokenizer_config.json: add_bos_token is "
      .. "false, and tokenizer.json's post%-processor puts <s>; the latter is taken, as in transformers 5")
    expect.same({ load({ add_bos_token = true }, {}):around() }, { {}, {} })
    expect.match(load({ add_bos_token = true }, {}).notes[1], "add_bos_token is true, and .* puts no <s>;")
    expect.match(load({ add_eos_token = true }, { post_processor = puts }).notes[1], "add_eos_token is true, .* puts no </s>;")
    local behind = { type = "TemplateProcessing", single = { { Sequence = { id = "A" } }, { SpecialToken = { id = "</s>" } } },
                     special_tokens = { ["</s>"] = { ids = { n + 1 } } } }
    expect.match(said(load({}, { post_processor = behind })), listed)
    expect.match(template.plain():notes(load({}, { post_processor = behind }))[1], "puts </s> behind every text, so servers send it")
    -- written by the template; for a chat template's server; by llama2
    for _, good in ipairs { { tok, template.plain { bos = true } }, { load({ chat_template = "x" }, { post_processor = puts }) },
                            { tok, template.llama2() } } do
      local chat = good[2] or template.plain()
      expect.same(said(good[1], chat):find("do not begin", 1, true), nil)
      expect.same(chat:notes(good[1]), {})
    end
    local identity = require "cft.samples.identity"
    expect.truthy(identity.of(template.plain(), load({}, { post_processor = puts }), {}) ~=
      identity.of(template.plain(), load({}, {}), {}))
  end },

  { "the benchmark", function()
    local folder = process.folder()
    tiny():save(folder)
    local file = process.write(folder .. "/texts", ("The aab 12\nx\n\n"):rep(100))
    local r = process.cftrun { "bench", "tokenizer", "--model", folder, "--texts", file, "--repeat", "2", "--json" }
    expect.same({ r.code, r.err }, { 0, "" })
    local result = json.decode(r.out)
    expect.same({ result.texts, result.bytes }, { 300, 1100 })
    expect.truthy(result.mb_per_s > 0)
    r = process.cftrun { "bench", "tokenizer", "--thread", "2" }
    expect.match(r.err, "unknown argument '%-%-thread'; did you mean 'threads'")
    r = process.cftrun { "bench", "tokenizer", "--model", folder, "--texts", folder .. "/none" }
    expect.match(r.err, "no file .*/none")
  end },

  { "malformed files say what and where", function()
    for _, case in ipairs(bad_files) do expect.raises(case[2], tokenizer.parse, case[1], "bad.json") end
    for _, case in ipairs(bad_parts) do
      expect.raises("bad%.json: .*" .. case[2], tokenizer.parse, json.encode(tiny_file(case[1])), "bad.json")
    end
    for _, case in ipairs(bad_decoders) do
      local decoder = case[1].type and case[1] or { type = "Sequence", decoders = case[1] }
      expect.raises("bad%.json: .*" .. case[2], tokenizer.parse, json.encode(characters_file { decoder = decoder }), "bad.json")
    end
    expect.raises("byte_fallback under ByteLevel is not implemented, and byte 97 has no token", with_model(function(model)
      model.byte_fallback, model.merges, model.vocab.a = true, json.array {}, nil
    end))
    expect.raises('merge 36: "nope" is not in the vocabulary', with_model(function(model)
      model.merges[37] = "nope a"
    end))
    -- a gap that the vocabulary fills does not count
    local file = tiny_file { added_tokens = { { id = 999, content = "<x>", special = true }, { id = 293, content = "<y>" } } }
    file.model.vocab["<x>"] = 999
    local tok = tokenizer.parse(json.encode(file), "t")
    expect.same(tok:encode("<y><x>", { parse_special = true }), { 293, 999 })
    local folder = process.folder()
    tok:save(folder)
    expect.same(tokenizer.load(folder):encode("<y><x>", { parse_special = true }), { 293, 999 })
    file.added_tokens[2].id = 1000
    expect.raises('added token "<y>": has id 1000, but .* it 293', tokenizer.parse, json.encode(file), "t")
    expect.raises("open nowhere/tokenizer.json: No such file", tokenizer.load, "nowhere/tokenizer.json")
    expect.raises("a path is wanted", tokenizer.load)
  end },

  { "a truncated file never loads", function()
    local text = json.encode(tiny_file { normalizer = { type = "NFC" } })
    for length = 0, #text - 1, 13 do
      expect.raises("bad.json, line 1", tokenizer.parse, text:sub(1, length), "bad.json")
    end
  end },

  { "hostile texts take no longer than long ones", function()
    local tok = tiny { pre_tokenizer = { type = "Sequence", pretokenizers = {
      { type = "Split", pattern = { Regex = "\\s+$" }, behavior = "Isolated" },
      { type = "ByteLevel", add_prefix_space = false, use_regex = false } } } }
    local start = os.clock()
    expect.same(#tok:encode(("a"):rep(1e6)), 250000)  -- one word of a million letters
    expect.same(tok:decode(tok:encode((" "):rep(1e6) .. "x")), (" "):rep(1e6) .. "x")
    local marks = "e" .. ("\204\129\204\163"):rep(100000)  -- 200,000 marks on one letter
    expect.truthy(#tiny({ normalizer = { type = "NFC" } }):encode(marks) > 0)
    for _, scheme in ipairs { "always", "never" } do  -- the whole text is one word
      tok = characters(metaspace(scheme))
      for _, hostile in ipairs { ("a"):rep(1e6), (" "):rep(1e6), ("\240\159\152\128"):rep(250000), ("\n"):rep(1e6) } do
        local unmarked = scheme == "never" or hostile:sub(1, 1) == " "
        expect.same(tok:decode(assert(tok:encode(hostile)), { inside = unmarked }), hostile)
      end
    end
    expect.truthy(os.clock() - start < 10, "time")  -- quadratic would be hours
  end },
}
