-- The table of facts in docs/models.md, held to the program: of the sources of a fact, in the order of the table, the
-- first one that is there wins; where it says "said", a note is made.

local configs = require "cft.models.config"
local expect = require "tests.expect"
local process = require "tests.process"
local json = require "cft.base.json"
local end_tokens = require "cft.text.end_tokens"
local splits = require "cft.io.splits"
local tokenizers = require "cft.text.tokenizer"

-- Rows by fact: `sources`, a list; `module`; `disagree`.
local function rows_of_page()
  local rows, n = {}, 0
  for line in io.lines "docs/models.md" do
    local fact, sources, module, disagree = line:match "^| ([^|]+) | ([^|]+) | `([%w_.]+)` | ([^|]+) |"
    if fact then
      local row = { sources = {}, module = module, disagree = disagree }
      for source in (sources .. ", "):gmatch "(.-), " do row.sources[#row.sources + 1] = source end
      rows[fact], n = row, n + 1
    end
  end
  return rows, n
end

local function config(more)
  local c = { model_type = "llama", hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2,
              intermediate_size = 16, vocab_size = 11 }
  for key, value in pairs(more) do c[key] = value end
  return c
end

local function llama3(original)
  return { rope_type = "llama3", factor = 2, low_freq_factor = 1, high_freq_factor = 4,
           original_max_position_embeddings = original }
end

local tiny = assert(json.read "tests/golden/tokenizer/components.json").tiny
local n = 0
for _ in pairs(tiny.vocab) do n = n + 1 end

local function token(id, text, flags)
  local t = { id = id, content = text, special = false, normalized = false }
  for name, value in pairs(flags or {}) do t[name] = value end
  return t
end

-- A tokenizer of a folder: `added` tokens, more of tokenizer.json, and the `files` beside it, by name.
local function load(added, files, more)
  local folder = process.folder()
  local file = { added_tokens = json.array(added), model = tiny, decoder = { type = "ByteLevel" },
                 pre_tokenizer = { type = "ByteLevel", add_prefix_space = false } }
  for key, value in pairs(more or {}) do file[key] = value end
  process.write(folder .. "/tokenizer.json", json.encode(file))
  for name, value in pairs(files) do
    process.write(folder .. "/" .. name, type(value) == "string" and value or json.encode(value))
  end
  return tokenizers.load(folder)
end

local a_and_b = { token(n, "<a>", { special = true }), token(n + 1, "<b>", { special = true }) }

-- What each fact is when the sources that are true in `has`, a list in the table's order, say "their" value, and what
-- each source says.
local facts = {
  ["kind of RoPE and its numbers"] = { says = { 2, 3 }, decide = function(has)
    local function linear(factor) return { rope_type = "linear", factor = factor } end
    local c, notes = configs.read(config { rope_scaling = has[1] and linear(2) or {},
                                           rope_parameters = has[2] and linear(3) or nil })
    return c.scaling.factor, notes
  end },
  ["theta of RoPE"] = { says = { 7, 8, 10000 }, decide = function(has)
    local inside = { rope_type = "default", rope_theta = has[1] and 7 or nil }
    local c, notes = configs.read(config { rope_parameters = inside, rope_theta = has[2] and 8 or nil })
    return c.theta, notes
  end },
  ["name of the kind"] = { says = { "linear", "llama3" }, decide = function(has)
    local r = llama3(9)
    r.rope_type, r.type = has[1] and "linear" or nil, has[2] and "llama3" or nil
    local c, notes = configs.read(config { rope_scaling = r })
    return c.scaling.type, notes
  end },
  ["llama3's `original_max_position_embeddings`"] = { says = { 9, 77 }, decide = function(has)
    local c, notes = configs.read(config { rope_scaling = llama3(has[1] and 9 or nil),
                                           max_position_embeddings = has[2] and 77 or nil })
    return c.scaling.original_max_position_embeddings, notes
  end },
  ["id of an added token"] = { says = { n, n + 1 }, decide = function(has)
    local tok = load({ token(n, has[1] and "<x>" or "<y>") },
      { ["tokenizer_config.json"] = has[2] and { added_tokens_decoder = { [tostring(n + 1)] = token(0, "<x>") } } or {} })
    return tok:id "<x>", tok.notes
  end },
  ["flags of an added token"] = { says = { "lstrip", "rstrip" }, decide = function(has)
    local tok = load({ token(n, "<x>", { rstrip = true }) }, { ["tokenizer_config.json"] = has[1]
      and { added_tokens_decoder = { [tostring(n)] = token(n, "<x>", { lstrip = true }) } } or {} })
    return tok:added(n).lstrip and "lstrip" or tok:added(n).rstrip and "rstrip", tok.notes
  end },
  ["a tokenizer's own tokens (bos, eos, unk, sep, pad, cls, mask)"] = { says = { "<a>", "<b>" }, decide = function(has)
    local tok = load(a_and_b, { ["special_tokens_map.json"] = { eos_token = has[1] and "<a>" or nil },
                                ["tokenizer_config.json"] = { eos_token = has[2] and "<b>" or nil } })
    return tok:token(tok.eos), tok.notes
  end },
  ["a token that is named without an id"] = { says = { n + 2 }, decide = function()
    local tok = load(a_and_b, { ["tokenizer_config.json"] = { eos_token = "<new>" } })
    return tok.eos, tok.notes
  end },
  ["tokens at which generation stops"] = { says = { n, n + 1 }, decide = function(has)
    local files = { ["tokenizer_config.json"] = { eos_token = "<a>" },
                    ["generation_config.json"] = has[1] and { eos_token_id = { n } } or nil,
                    ["config.json"] = { eos_token_id = has[2] and n + 1 or nil } }
    return end_tokens.of(files["generation_config.json"], files["config.json"])[1], load(a_and_b, files).notes
  end },
  ["what stands before and behind every text"] = { says = { "<a>" }, decide = function()
    local tok = load(a_and_b, { ["tokenizer_config.json"] = { bos_token = "<a>", add_bos_token = false } }, {
      post_processor = { type = "TemplateProcessing", single = { { SpecialToken = { id = "<a>" } }, { Sequence = { id = "A" } } },
                         special_tokens = { ["<a>"] = { ids = { n } } } } })
    return tok:token(tok:around()[1]), tok.notes
  end },
  ["chat templates"] = { says = { "F", "C" }, decide = function(has)
    local tok = load({}, { ["tokenizer_config.json"] = { chat_template = has[2] and "C" or nil },
                           ["chat_template.jinja"] = has[1] and "F" or nil })
    return tok.chat_template, tok.notes
  end },
  ["files of a split of a data set"] = { says = { "b.jsonl", "train/a.jsonl", "train.jsonl", "b.jsonl" }, decide = function(has)
    local files = { "b.jsonl", has[2] and "train/a.jsonl" or nil }
    if has[3] then files[#files + 1] = "train.jsonl" end
    local card = has[1] and "---\nconfigs:\n- config_name: main\n  data_files: b.jsonl\n---\n" or nil
    return table.concat(assert(splits.choose(files, card, nil, "train", function() return true end)), " "), {}
  end },
}

-- Facts that other cases hold: of tests/models/head.lua and tests/text/tokenizer.lua.
local held_by = {
  ["which added tokens there are"] = "tokens that only the files beside tokenizer.json name",
  ["whether head and embedding are one"] =
    "tied by config, another head in the file: the head is kept, said, and saved",
  ["the embedding of a tied model"] = "tied by config, the head alone in the file: it is the embedding",
  ["rows of embedding and head"] = "head or embedding of another size than config says: refused, growing asked or not",
}

local rows, count = rows_of_page()
local tests = {
  { "every row of the table is held to the program, and every fact has a row", function()
    local n, cases = 0, {}
    for _, file in ipairs { "tests.models.head", "tests.text.tokenizer" } do
      for _, case in ipairs(require(file)) do cases[case[1]] = true end
    end
    for fact in pairs(facts) do
      n = n + 1
      expect.truthy(rows[fact], fact)
    end
    for fact, case in pairs(held_by) do
      n = n + 1
      expect.truthy(rows[fact] and cases[case], fact)
    end
    expect.same(n, count)
    for _, row in pairs(rows) do require(row.module) end
  end },
}

for fact, is in pairs(facts) do
  tests[#tests + 1] = { "docs/models.md: " .. fact, function()
    local row = rows[fact]
    expect.same(#row.sources, #is.says)
    local has = {}
    for i in ipairs(is.says) do has[i] = true end
    local _, notes = is.decide(has)
    local said = row.disagree:find "said" and not row.disagree:find "not said"
    expect.same(#notes, said and 1 or 0)
    for i, value in ipairs(is.says) do
      expect.same((is.decide(has)), value, row.sources[i])
      has[i] = false
    end
  end }
end
table.sort(tests, function(a, b) return a[1] < b[1] end)  -- `facts` come in any order

return tests
