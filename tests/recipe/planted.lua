-- Mistakes in the data, planted one by one: each is said by name before anything is trained, by a run
-- and by `cftrun data`. There are no weights here, so nothing can be trained on.

local demo = require "cft.demo"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

-- A folder with what a recipe wants of a model before it loads the weights.
local model = process.folder()
process.write(model .. "/config.json", "{}")
process.write(model .. "/tokenizer.json", demo.tokenizer_json(1))
process.write(model .. "/tokenizer_config.json", json.encode { bos_token = "<|im_start|>", eos_token = "<|endoftext|>" })

-- Six good records; `change` gets the list.
local function records(change)
  local list, make = {}, demo.training(1)
  for i = 0, 5 do
    local r = make(i)
    list[i + 1] = { instruction = r.instruction, input = r.input, output = r.output }
  end
  if change then change(list) end
  return list
end

local function jsonl(list)
  local lines = {}
  for i, r in ipairs(list) do lines[i] = type(r) == "string" and r or json.encode(r) end
  return process.write(process.folder() .. "/train.jsonl", table.concat(lines, "\n") .. "\n")
end

-- A recipe over these records. @string cfg more settings @string opts more options, both Lua
local function recipe(list, cfg, opts)
  return process.write(process.folder() .. "/planted.lua", ([[
    local cft = require "cft"
    cft.recipe.run(cft.config { model = %q, data = %q, template = "plain", batch = 2, tokens = 4096, %s },
                   { name = "planted", %s })
  ]]):format(model, jsonl(list), cfg or "", opts or ""))
end

-- The run and `cftrun data` both say it. `refused`: they do with an error, and the exit code 1.
local function says(pattern, path, refused)
  local run = process.cftrun { path, "--preview", "1" }
  expect.same(run.code, refused and 1 or 0, run.out .. run.err)
  expect.match(refused and run.err or run.out, pattern.run or pattern)
  local look = process.cftrun { "data", path, "--samples", "0" }
  expect.same({ look.code, look.err }, { refused and 1 or 0, "" }, look.out)
  expect.match(look.out, pattern.look or pattern)
  if refused then expect.match(look.out, "training would refuse: ") end
end

return {
  { "nothing planted: nothing odd", function()
    says({ run = "6 samples of 6 records", look = "nothing odd" }, recipe(records()))
  end },

  { "a benchmark problem", function()
    local make = demo.training(1)
    local question = make(4).input:match "Question:\n(.-)\n"
    local bench = process.write(process.folder() .. "/bench.jsonl", json.encode { problem = question:upper() } .. "\n")
    local cfg = ("decontaminate = { %q }, "):format(bench)
    local pair = "1 of 6 records ask what one of 1 benchmark problems asks\n  1%. .*record 4, line 5 = .*bench%.jsonl: record 0, "
      .. "line 1: the same question"
    says({ run = pair, look = pair }, recipe(records(), cfg))
    says({ run = "dropped: 1\n.*5 samples of 5 records", look = "5 samples of 5 records" },
      recipe(records(), cfg .. "decontaminate_drop = true"))
  end },

  { "a double BOS", function()
    local list = records(function(l) l[3].instruction = "<|im_start|>" .. l[3].instruction end)
    says({ run = "1 of 6 samples begin with two begin%-of%-text tokens .*: records 2",
           look = "1 begin with two begin%-of%-text tokens: records 2\n" },
      recipe(list, "", 'template = { bos = true, specials = "llamafactory" }'), true)
    says("5 samples of 6 records", recipe(list, 'double_bos = "drop"', 'template = { bos = true, specials = "llamafactory" }'))
  end },

  { "a template without an end token", function()
    says("6 do not end in an end token with loss weight: records 0, 1, 2, 3, 4, 5\n", recipe(records(),
      "template = function(r) return { { text = r.messages[1].content }, { text = r.messages[2].content, learn = true } } end"))
    says("answers end in <|endoftext|> %(id %d+%), loss weight 0;", recipe(records(), "", 'template = { learn = { ["end"] = 0 } }'))
  end },

  { "a target that is cut", function()
    local list = records(function(l) l[2].output = l[2].output .. (" Step 1: 2 + 3 = 5."):rep(60) end)
    says("1 cut [^\n]*: records 1\n.*1 do not end in an end token with loss weight: records 1\n",
      recipe(list, 'max_tokens = 200, length = "llamafactory"'))
    says("1 dropped, [^\n]*%d+ tokens, more than 200: records 1\n", recipe(list, "max_tokens = 200"))
  end },

  { "a target of which nothing is left", function()
    local list = records(function(l) l[2].input = l[2].input:rep(40) end)
    says({ run = "1 of 6 samples have no loss token .*: records 1;", look = "1 have no loss token: records 1\n" },
      recipe(list, 'max_tokens = 30, length = "llamafactory"'), true)
  end },

  { "a broken record", function()
    local list = records(function(l) l[4] = '{"instruction": "Add.", "output": ' end)
    says({ run = "1 bad record, limit_bad = 0 allows none:\n.*train%.jsonl: record 3, line 4, byte %d+: ",
           look = "bad record: .*train%.jsonl: record 3, line 4, byte %d+: .*limit_bad = 0\n" }, recipe(list), true)
    says({ run = "1 bad records left out; the first is .*record 3, line 4", look = "bad record: .*record 3, line 4" },
      recipe(list, "limit_bad = 1"))
  end },

  { "a mask of zeros, a mask of ones", function()
    says({ run = "6 of 6 samples have no loss token", look = "6 have no loss token: records 0, 1, 2" },
      recipe(records(), "", "template = { learn = 0 }"), true)
    says({ run = "6 of 6 samples have nothing but loss tokens", look = "6 have nothing but loss tokens: records 0" },
      recipe(records(), "template = function(r) return { { text = r.messages[1].content, learn = 1 } } end"), true)
  end },

  { "a prompt that a server encodes otherwise", function()
    says("6 do not begin with what their prompt alone is encoded as[^\n]*: records 0", recipe(records(),
      [[template = function(r)
        local q = r.messages[1].content
        return { { text = q:sub(1, 20) }, { text = q:sub(21) }, { text = r.messages[2].content, learn = 1 } }
      end]]))
  end },

  { "duplicates, in a mixture; and its table", function()
    local one, two = jsonl(records()), jsonl(records(function(l) l[2], l[3] = l[1], nil end))
    says("records     places   share  epochs      tokens  loss tokens   share  source\n"
      .. "         6          6   75.0%%    1.00 +%d+ +%d+ +%d+%.%d%%  [^\n]*\n         2          2   25.0%%",
      recipe(records(), "", ([[load = function()
        return cft.mix.new { { cft.data.open %q, weight = 3 }, { cft.data.open %q, weight = 1 } }
      end]]):format(one, two:gsub("train", "train"))), false)
  end },

  { "a template that differs at serving time", function()
    local chatml = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
      .. "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    process.write(model .. "/chat_template.jinja", chatml)
    local differs = 'template chatml writes otherwise than the model\'s own chat template, which servers use, in 1 place:\n'
      .. '  before the first question %(system text%): "<|im_start|>system\\nYou are [^\n]* in training, "<|im_start|>user\\n" by'
    says(differs, recipe(records(), 'template = "chatml"'))
    says({ run = differs .. '.*template_check = "strict" allows none', look = differs }, recipe(records(),
      'template = "chatml", template_check = "strict"'), true)
    says({ run = "6 samples", look = "nothing odd" }, recipe(records(), 'template = "chatml", template_check = "strict"', "template = { system = false }"))
    says({ run = "6 samples", look = "nothing odd" }, recipe(records(), 'template = "chatml", template_check = "off"'))
    process.write(model .. "/chat_template.jinja", "{% for m in messages %}\n{{ m.content")
    says("template plain cannot be compared: the model's chat template, line 2: the text ends where '}}' was wanted",
      recipe(records()))
    os.remove(model .. "/chat_template.jinja")
  end },

  { "a special token's string in the text", function()
    says("1 hold strings of special tokens[^\n]*: records 0",
      recipe(records(function(l) l[1].input = l[1].input .. "<|im_end|>" end)))
  end },
}
