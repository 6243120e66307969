-- cft beside transformers, tokenizers and datasets, on 2,000 inputs drawn at random, and what these made of them:
-- tests/golden/differential.jsonl.zst. `known` has what is wrong today, by name and with how many cases: a name that is
-- not there and a count that is higher are failures; a lower one is said, and is to be lowered here.

local differential = require "tests.differential"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

local known = {}

local found
local function all()
  found = found or differential.run "tests/golden/differential.jsonl.zst"
  return found
end

local function hold(part)
  local problems, notes = differential.hold(all(), known, part)
  for _, note in ipairs(notes) do print("  known to be wrong: " .. note) end
  if #problems > 0 then error(table.concat(problems, "\n"), 0) end
end

local function cases(list)
  local lines = {}
  for i, case in ipairs(list) do lines[i] = json.encode(case) end
  return process.write(process.folder() .. "/cases.jsonl", table.concat(lines, "\n") .. "\n")
end

local shape = { model_type = "llama", hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2,
                intermediate_size = 4, vocab_size = 8, max_position_embeddings = 16, rms_norm_eps = 1e-5 }

local function config(more, facts)
  local case = { part = "config", kind = "rope none", usual = true, config = {}, expect = { inv_freq = { 1, 0.01 },
    scale = 1, tied = false, eps = 1e-5, kv_heads = 2, head_dim = 4, context = 16, plain = true } }
  for k, v in pairs(shape) do case.config[k] = v end
  for k, v in pairs(more or {}) do case.config[k] = v end
  for k, v in pairs(facts or {}) do case.expect[k] = v end
  return case
end

return {
  { "2,000 cases of four kinds are there", function()
      expect.same(all().n, 2000)
      for _, part in ipairs { "record", "config", "tokenizer", "folder" } do
        expect.truthy(all().counts[part].equal > 0, part)
      end
    end },
  { "records: equal, refused, counted, or known to be wrong", function() hold "record" end },
  { "cftrun data lists each field that it does not use, with how many records have it", function()
      local sets = 0
      for _, set in pairs(all().counted) do
        local folder = process.folder()
        process.write(folder .. "/config.json", "{}")
        set.tok:save(folder)
        process.write(folder .. "/records.jsonl", table.concat(set.records, "\n") .. "\n")
        process.write(folder .. "/recipe.lua", ([[
          local cft = require "cft"
          local cfg = cft.config { model = "%s", data = "%s/records.jsonl", batch = 1, tokens = 4000 }
          cfg.template = cft.template.%s(cft.json.decode '%s')
          cft.recipe.run(cfg, { name = "fields" })]]):format(folder, folder, set.template.preset,
            json.encode(set.template.options)))
        local r = process.cftrun { "data", folder .. "/recipe.lua", "--samples", "0" }
        expect.same({ r.code, r.err }, { 0, "" })
        local listed = r.out:match "fields that are not used: ([^\n]+)" or ""
        for field, n in pairs(set.fields) do expect.match(listed .. ",", ("%s %%(%d%%)"):format(field, n)) end
        sets = sets + 1
      end
      expect.truthy(sets >= 2, "records of several templates")
    end },
  { "config.json: equal, refused, or known to be wrong", function() hold "config" end },
  { "tokenizers: equal, refused, or known to be wrong", function() hold "tokenizer" end },
  { "folders of data: equal, refused, or known to be wrong", function() hold "folder" end },

  { "what is other than the reference is found, by its name, with the smallest case", function()
      local got = differential.run(cases {
        config(), config { hidden_act = "gelu" }, config({ tie_word_embeddings = true }, { tied = true }),
        config({ use_cache = true }, { inv_freq = { 1, 0.02 } }), config(nil, { inv_freq = { 1, 0.02 } }),
        config(nil, { plain = false }), config(nil, { error = "KeyError: 12 of 'x'" }), config(nil, { scale = 1.5 }),
      })
      expect.same(got.n, 8)
      expect.same(got.counts.config, { equal = 2, refused = 0, counted = 0, WRONG = 6 })
      local names = {}
      for name, w in pairs(got.wrong) do names[name] = w.n end
      expect.same(names, { ["config: other frequencies: rope none"] = 3,
        ["config: refused though it has nothing unusual"] = 1,
        ["config: taken, and transformers refuses it: N of 'x'"] = 1,
        ["config: taken, though it changes the logits: rope"] = 1 })
      expect.match(got:describe(), "frequency 2 is 0.0%d+, wanted 0.02")
      expect.match(got:describe(), "config +2 +0 +0 +6\n")
      expect.truthy(not got.wrong["config: other frequencies: rope none"].input:find "use_cache")
    end },
  { "a record's field that is left out is to be named in the report", function()
      local said = "set: 1 samples\n  template\n  2 records have weight, which is not used"
      expect.truthy(differential.names(said, "weight"))
      expect.truthy(not differential.names(said, "weigh"))
      expect.truthy(not differential.names("set weight: 1 samples\n  loss weight 2\n  2 weights", "weight"))
    end },
  { "counts of what is known to be wrong may shrink, and not grow", function()
      local fake = { wrong = { ["config: a"] = { n = 3, input = "I", detail = "D" },
        ["config: b"] = { n = 1, input = "J", detail = "E" }, ["record: c"] = { n = 1, input = "K", detail = "F" } } }
      local listed = { ["config: a"] = 3, ["config: b"] = 2, ["config: gone"] = 4 }
      local problems, notes = differential.hold(fake, listed, "config")
      expect.same(problems, {})
      expect.same(notes, { "3 config: a", "1 config: b (2 are listed: lower the number)",
                           "0 config: gone (4 are listed: lower the number)" })
      problems = differential.hold(fake, { ["config: a"] = 2, ["record: c"] = 0 }, "config")
      expect.same(#problems, 2)
      expect.match(problems[1], "^config: a: 3 cases, and 2 are known; the smallest:\n      I\n      got D$")
      expect.match(problems[2], "^config: b: 1 cases, and 0 are known")
    end },
}
