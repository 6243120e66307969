-- Samples longer than the model's context: held to it before the first step, by the length policy, and counted.

local cft = require "cft"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

local CONTEXT = 128

-- Short records, and one that is longer than the context.
local data = process.write(process.folder() .. "/train.jsonl", (function()
  local lines = {}
  for i = 0, 5 do
    local r = cft.demo.training(1)(i)
    local more = i == 3 and (" and then"):rep(100) or ""
    lines[i + 1] = json.encode { instruction = r.question .. more, output = r.reference }
  end
  return table.concat(lines, "\n") .. "\n"
end)())

local model = process.folder() .. "/m"
local tokenizer = cft.demo.tokenizer(1)
local small = cft.models.new { arch = "llama", d = 8, layers = 1, heads = 2, ffn = 8, vocab = tokenizer:size(),
                               context = CONTEXT, device = "cpu" }
cft.checkpoint.export(small, model, { tokenizer = tokenizer })
small:release()

local recipe = process.write(process.folder() .. "/r.lua", [[
  local cft = require "cft"
  local cfg = cft.config { template = "plain", batch = 2, tokens = 4096, steps = 1, device = "cpu", dtype = "f32" }
  cft.recipe.run(cfg, { name = "r" })
]])

local IS = "which is the model's context %(max_position_embeddings = 128 in config%.json%)"
local HELD = "samples are held to 128 tokens, " .. IS .. "\n"
local DROPPED = "%d%d%d tokens, more than 128, " .. IS

local function run(...)
  local r = process.cftrun { recipe, "model=" .. model, "data=" .. data, ... }
  expect.same({ r.code, r.err }, { 0, "" }, r.out)
  return r.out
end

-- The limit of a config.json.
local function limit(config)
  local folder = process.folder()
  process.write(folder .. "/config.json", json.encode(config))
  return { cft.models.context(folder) }
end

local function config(more)
  local c = { model_type = "llama", hidden_size = 8, num_hidden_layers = 1, vocab_size = 11,
              num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 8, max_position_embeddings = 4096 }
  for name, value in pairs(more) do c[name] = value end
  return c
end

return {
  { "--dry-run and a run: named, counted, left out", function()
    for _, more in ipairs { "--dry-run", "seed=1" } do
      local out = run(more)
      expect.match(out, HELD)
      expect.match(out, "5 samples of 6 records.*1 dropped, " .. DROPPED .. ": records 3\n")
    end
  end },
  { "cftrun data", function()
    local r = process.cftrun { "data", recipe, "model=" .. model, "data=" .. data }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "dropped, the first with " .. DROPPED .. ": records 3\n")
  end },
  { "a stream", function()
    expect.match(run("stream=true", "steps=3"), "left out: [^\n]*record 3[^\n]* has " .. DROPPED)
  end },
  { "held-out records", function()
    expect.match(run("heldout=" .. data), "held out: 5 samples of 6 records.*dropped, " .. DROPPED)
  end },
  { "cut by the policy that cuts", function()
    expect.match(run("--dry-run", "length=cut_context"),
      HELD .. ".*6 samples of 6 records; .* longest 128\n.*1 cut %(cut_context%)")
  end },
  { "max_tokens beyond the context is no leave; below it, it is the limit", function()
    expect.match(run("--dry-run", "max_tokens=4000"), HELD .. ".*1 dropped, " .. DROPPED)
    local out = run("--dry-run", "max_tokens=120")
    expect.match(out, "1 dropped, %d+ tokens, more than 120: records 3\n")
    expect.truthy(not out:find("context", 1, true), out)
  end },
  { "a micro-batch that is smaller", function()
    expect.match(run("--dry-run", "tokens=100"),
      "1 dropped, %d+ tokens, more than 100, which is what a micro%-batch holds %(tokens = 100%)")
  end },
  { "a recipe's own shape, and none that is known", function()
    local own = process.write(process.folder() .. "/own.lua", [[
      local cft = require "cft"
      local shape = { arch = "llama", d = 8, layers = 1, heads = 2, ffn = 8, context = 120 }
      cft.recipe.run(cft.config { template = "plain", batch = 2, steps = 1, device = "cpu" },
        { name = "r", tokenizer = cft.demo.words, model = shape })]])
    local r = process.cftrun { own, "data=" .. data, "--dry-run" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "1 dropped, %d+ tokens, more than 120, which is the model's context "
      .. "%(context = 120 of its shape%)")
    local folder = process.folder()
    tokenizer:save(folder)
    process.write(folder .. "/config.json", '{"model_type": "gpt9"}')
    r = process.cftrun { recipe, "model=" .. folder, "data=" .. data, "--preview", "1" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "samples are not held to the model's context, which is not known: "
      .. ".*model_type 'gpt9' is not implemented")
  end },
  { "where a context is from: scaling, a window, a default, GGUF", function()
    expect.same(limit(config {}), { 4096, "max_position_embeddings = 4096 in config.json" })
    expect.same(limit(config { rope_scaling = { type = "linear", factor = 4 } }),
      { 16384, "max_position_embeddings = 4096, RoPE scaled by 4 in config.json" })
    local llama3 = { rope_type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4,
                     original_max_position_embeddings = 512 }
    expect.same(limit(config { rope_scaling = llama3 })[1], 4096)
    expect.same(limit(config { model_type = "mistral", sliding_window = 1024 }),
      { 1024, "sliding_window = 1024 in config.json" })
    for arch, context in pairs { llama = 2048, mistral = 131072, qwen2 = 32768 } do
      local c = config { model_type = arch, sliding_window = arch == "mistral" and json.null or nil }
      c.max_position_embeddings = nil
      expect.same(limit(c),
        { context, ("max_position_embeddings = %d, the default in config.json"):format(context) })
    end
    local tokens, where = cft.models.context "tests/golden/gguf/tiny-llama.gguf"
    expect.truthy(tokens > 0)
    expect.match(where, "^max_position_embeddings = " .. tokens .. " in tiny%-llama%.gguf$")
    expect.fails("config%.json", cft.models.context(process.folder()))
  end },
}
