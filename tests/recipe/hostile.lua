-- What a hostile or clumsy user does: one clear message that names what is wrong, and nothing crashes.
local cft = require "cft"
local expect = require "tests.expect"
local json = require "cft.base.json"
local ops = cft.ops
local process = require "tests.process"

-- What is no tensor. LuaJIT itself would take an open file for any address, and nil for NULL.
local strangers = { 1, "x", {}, print, io.stdout, true }

-- A folder with a small model's weights and a config.json in which `change` is changed.
local function model_folder(change)
  local folder = process.folder() .. "/m"
  local m = cft.models.new { arch = "llama", d = 8, layers = 2, heads = 2, ffn = 16, vocab = 11 }
  cft.checkpoint.export(m, folder)
  m:release()
  local config = json.read(folder .. "/config.json")
  for key, value in pairs(change) do config[key] = value end
  process.write(folder .. "/config.json", json.encode(config))
  return folder
end

local function refuses_config(change, message)
  expect.raises(message, cft.models.load, model_folder(change))
end

-- ---- runs of cftrun ------------------------------------------------------------------------------

-- A folder in which a recipe is run on the demo's model and its out= is `out`.
local function recipe(more)
  local folder = process.folder()
  process.write(folder .. "/r.lua", [[
local cft = require "cft"
cft.demo.tests = 8
local cfg = cft.config { template = "qwen", batch = 4, tokens = 512, steps = 2, out = "]] .. folder .. [[/out" }
]] .. (more or "") .. [[
cft.recipe.run(cfg, { name = "r" })
]])
  return folder .. "/r.lua", folder
end

-- A model with its tokenizer, as a run reads and writes them.
local function save_model(folder)
  local tokenizer = cft.demo.tokenizer(1)
  local shape = { vocab = tokenizer:size(), seed = 1, device = "cpu" }
  for name, value in pairs(cft.demo.tiny) do shape[name] = value end
  local m = cft.models.new(shape)
  cft.checkpoint.export(m, folder, { tokenizer = tokenizer })
  m:release()
end

local function contents(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

return {
  -- ---- runs ----------------------------------------------------------------------------------
  { "a setting that the device ignores is said in the run's log", function()
    local r = process.cftrun { "--demo", "--dry-run", (recipe()), env = { CFT_ISA = "sse9" } }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nCFT_ISA is ignored: isa: 'sse9' is not known")
  end },

  { "what two keys of config.json disagree about is said in the run's log", function()
    local path, folder = recipe()
    save_model(folder .. "/m")
    local config = json.read(folder .. "/m/config.json")
    config.rope_scaling = { type = "linear", factor = 2 }
    process.write(folder .. "/m/config.json", json.encode(config))
    process.write(folder .. "/d.jsonl", ('{"instruction": "A", "input": "1", "output": "b"}\n'):rep(8))
    local r = process.cftrun { path, "model=" .. folder .. "/m", "data=" .. folder .. "/d.jsonl", "device=cpu",
                               "--dry-run" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nconfig.json: rope_scaling %(linear by 2, theta 1000%) and rope_parameters .- disagree; ")
  end },

  { "odd places for out=, and one that is removed while the run writes into it", function()
    local path, folder = recipe()
    local function at(out, ...) return process.cftrun { path, "--demo", "device=cpu", "out=" .. out, ... } end
    process.write(folder .. "/file", "x")
    local r = at(folder .. "/file")
    expect.same({ r.code, r.err }, { 1, ("cftrun: out '%s/file': is a file; a folder is wanted\n"):format(folder) })
    os.execute(("ln -s /nowhere/at/all '%s/link'"):format(folder))
    r = at(folder .. "/link")
    expect.same({ r.code, r.err }, { 1, ("cftrun: out '%s/link': is a link to nothing; a folder is wanted\n"):format(folder) })
    local gone, to = recipe [[
      cfg.schedule = function(step) if step == 2 then os.execute("rm -rf '" .. cfg.out .. "'") end return 1e-3 end
]]
    r = process.cftrun { gone, "--demo", "device=cpu", "steps=4", "out=" .. to .. "/o" }
    expect.same(r.code, 1)
    expect.match(r.err, "/o: the folder of this run was removed while it runs\n$")
  end },

  { "weights that are not those that were saved, and a setting of another optimizer, are refused before the run", function()
    local path, folder = recipe()
    local model = folder .. "/m"
    save_model(model)
    process.write(folder .. "/d.jsonl", ('{"instruction": "A", "input": "1", "output": "b"}\n'):rep(8))
    local function run(...)
      return process.cftrun { path, "model=" .. model, "data=" .. folder .. "/d.jsonl", "device=cpu", "--dry-run", ... }
    end
    expect.same(run().code, 0)
    local r = run("optimizer=lion", "eps=1e-3")
    expect.same({ r.code, r.out, r.err }, { 2, "", "cftrun: eps=0.001: optimizer lion has no eps\n" })
    r = run("--resume=" .. folder .. "/none")  -- which a dry run looks at
    expect.same(r.code, 1)
    expect.match(r.err, "resume: [^\n]*/none: no complete checkpoint")
    local weights = contents(model .. "/model.safetensors")
    process.write(model .. "/model.safetensors", weights:sub(1, -2) .. string.char((weights:byte(-1) + 1) % 256))
    r = run()
    expect.same(r.code, 1)
    expect.match(r.err, "m/model.safetensors: its weights are not those that were saved: the checksum in checksums.xxh128")
  end },

  { "a token that no file gives an id: no row of the model is asked for until a template writes it", function()
    local path, folder = recipe()
    local model = folder .. "/m"
    save_model(model)
    process.write(folder .. "/d.jsonl", ('{"instruction": "A", "input": "1", "output": "b"}\n'):rep(8))
    local file = json.read(model .. "/tokenizer_config.json")
    local function run(change)
      for key, value in pairs(change) do file[key] = value end
      process.write(model .. "/tokenizer_config.json", json.encode(file))
      return process.cftrun { path, "model=" .. model, "data=" .. folder .. "/d.jsonl", "device=cpu", "--dry-run" }
    end
    local r = run { pad_token = "[PAD]" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "pad_token has %[PAD%], which no file gives an id; it is %d+, the next free one")
    r = run { eos_token = "<new end>" }
    expect.same(r.code, 1)
    expect.match(r.err, "template qwen writes <new end>, which no file gives an id; transformers makes it %d+, and the model has")
  end },

  { "five mistakes, each one message and one code, and nothing is lost", function()
    local path, folder = recipe()
    local model, data, out = folder .. "/m", folder .. "/d.jsonl", folder .. "/out"
    save_model(model)
    local record = '{"instruction": "Critique.", "input": "1 + 1 = 3", "output": "Conclusion: wrong [END]"}\n'
    process.write(data, record:rep(8))
    local function run(...) return process.cftrun { path, "model=" .. model, "data=" .. data, "device=cpu", "--overwrite", ... } end
    local good = run()
    expect.same({ good.code, good.err }, { 0, "" })
    local log, summary = contents(out .. "/log.jsonl"), contents(out .. "/summary.json")
    local function fails(code, message, r)
      expect.same(r.code, code, message)
      expect.match(r.err, "^cftrun: [^\n]*" .. message)
      expect.same({ contents(out .. "/log.jsonl"), contents(out .. "/summary.json") }, { log, summary })
      expect.truthy(cft.files.verify(out .. "/step-000002"), "the checkpoint")
    end
    fails(2, "unknown key 'stepz'; did you mean 'steps'%?\n$", run "stepz=3")

    process.write(data, record:rep(2) .. '{"instruction": "a\n' .. record)
    fails(1, "1 bad record, limit_bad = 0 allows none:\n  [^\n]*d.jsonl: record 2, line 3, byte 176: not JSON", run())
    process.write(data, record:rep(8))

    local weights = contents(model .. "/model.safetensors")
    process.write(model .. "/model.safetensors", weights:sub(1, #weights - 100))
    fails(1, "model.safetensors: is cut short: tensor \"[%w._]+\" ends at byte %d+ of the data, but the file has %d+\n$", run())
    process.write(model .. "/model.safetensors", weights)

    local tokenizer = contents(model .. "/tokenizer.json")
    local parsed = json.decode(tokenizer)
    parsed.model.merges = { { "no such", "token" } }
    process.write(model .. "/tokenizer.json", json.encode(parsed))
    fails(1, "tokenizer.json: merge 0: \"no such\" is not in the vocabulary\n$", run())
    process.write(model .. "/tokenizer.json", tokenizer)

    local text = contents(path):gsub("cft.recipe.run", "cfg.template = function() return { { text = 'x' } } end\n%0")
    process.write(path, text)
    fails(1, "8 of 8 samples have no loss token", run())
  end },
  { "a run that makes no step leaves an earlier one's log and summary", function()
    local path, folder = recipe()
    local first = { "--demo", path, "out=" .. folder .. "/out", "steps=2", "eval_every=" }
    expect.same(process.cftrun(first).code, 0)
    local log, summary = contents(folder .. "/out/log.jsonl"), contents(folder .. "/out/summary.json")
    first[#first + 1] = "--resume"
    local r = process.cftrun(first)
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "nothing to train: 2 of 2 steps are made")
    expect.same(contents(folder .. "/out/log.jsonl"), log)
    expect.same(contents(folder .. "/out/summary.json"), summary)
    first[#first] = "warmup=nonsense"
    expect.same(process.cftrun(first).code, 2)
    expect.same(contents(folder .. "/out/log.jsonl"), log)
  end },
  { "--resume without a folder to look in", function()
    local r = process.cftrun { "--demo", recipe(), "out=", "--resume" }
    expect.same(r.code, 2)
    expect.match(r.err, "^cftrun: %-%-resume goes on from the newest checkpoint in out=, which is not set")
  end },
  { "an empty out in the recipe itself, and one that cannot be made", function()
    for _, case in ipairs { { "", "make folder: the path is empty" }, { "/proc/none/x", "make folder /proc/none: No such file or directory" } } do
      local r = process.cftrun { "--demo", (recipe(("cfg.out = '%s'\n"):format(case[1]))), "steps=2" }
      expect.same(r.code, 1)
      expect.same(r.err, ("cftrun: out '%s': %s\n"):format(case[1], case[2]))
    end
  end },
  { "out is no UTF-8: the run ends as any, and summary.json names it readably", function()
    local path, folder = recipe()
    local out = folder .. "/a\255b"
    local r = process.cftrun { "--demo", path, "steps=1", "out=" .. out }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(json.read(out .. "/summary.json").checkpoint, "/a\\xffb/step%-000001$")
  end },
  { "a schedule that gives no rate", function()
    for _, value in ipairs { "0 / 0", "'x'", "-1", "nil" } do
      local r = process.cftrun { "--demo", (recipe("cfg.schedule = function() return " .. value .. " end\n")), "steps=2" }
      expect.same(r.code, 1)
      expect.match(r.err, "^cftrun: [^\n]*r.lua:5: the schedule made the learning rate of step 1 [^\n]*\n$")
    end
  end },
  { "numbers beyond counting", function()
    for _, setting in ipairs { "steps=1e300", "seed=1e300", "batch=1e17", "tokens=inf" } do
      local r = process.cftrun { "--demo", (recipe()), setting }
      expect.same(r.code, 2)
      expect.match(r.err, "^cftrun: [^\n]*must be an integer, got [^\n]*\n$")
    end
  end },
  { "what is odd about the rates and the files is said before the first step", function()
    local path, folder = recipe()
    save_model(folder .. "/m")
    local record = '{"instruction": "Critique.", "input": "1 + 1 = 3", "output": "Conclusion: wrong [END]"}\n'
    local data, empty = folder .. "/d.jsonl", folder .. "/empty.jsonl"
    process.write(data, record:rep(8))
    process.write(empty, "")
    process.write(folder .. "/h.jsonl", record)
    local function said(...)
      local r = process.cftrun { path, "model=" .. folder .. "/m", "data=" .. data, "device=cpu", "--dry-run", ... }
      expect.same({ r.code, r.err }, { 0, "" })
      return r.out
    end
    expect.match(said "warmup=100", "\nwarm%-up of 100 steps in a run of 2: the rate comes to 5e%-08 at most\n")
    expect.match(said "lr=0", "\nlearning rate 0: no step changes a weight\n")
    expect.match(said "warmup=1", "\nstep 1 is the first of the warm%-up: its rate is 0, and it changes no weight\n")
    expect.match(said("heldout=" .. folder .. "/./d.jsonl"),
      "\nheldout: [^\n]*/./d.jsonl is a file of the training data as well; its loss is no held%-out one\n")
    expect.match(said("data=" .. data .. "," .. empty), "\n[^\n]*/empty.jsonl: no records in it\n")
    local quiet = said("warmup=0", "heldout=" .. folder .. "/h.jsonl")
    for _, words in ipairs { "heldout:", "no records", "changes", "warm%-up of" } do expect.truthy(not quiet:find(words), words) end
  end },
  { "what is written is never what is read", function()
    local path, folder = recipe "cfg.limit_bad = 1\n"
    save_model(folder .. "/m")
    local record = '{"instruction": "Critique.", "input": "1 + 1 = 3", "output": "Conclusion: wrong [END]"}\n'
    local files = { data = folder .. "/d.jsonl", held = folder .. "/h.jsonl", bench = folder .. "/b.jsonl", recipe = path }
    process.write(files.data, record:rep(8) .. "{}\n")
    process.write(files.held, record)
    process.write(files.bench, '{"question": "What?"}\n')
    files.model = folder .. "/m/tokenizer.json"
    local before = {}
    for name, file in pairs(files) do before[name] = contents(file) end
    local function run(...)
      local args = { ... }
      table.insert(args, args[1] == "data" and 2 or 1, path)
      for _, more in ipairs { "model=" .. folder .. "/m", "data=" .. files.data, "heldout=" .. files.held,
                              "decontaminate=" .. files.bench, "device=cpu" } do table.insert(args, more) end
      return process.cftrun(args)
    end
    local function refused(what, r)
      expect.same(r.code, 2, r.out .. r.err)
      expect.match(r.err, "^cftrun: " .. what .. " is [^\n]*, which is read; it would be overwritten\n$")
      for name, file in pairs(files) do expect.same(contents(file), before[name], name) end
    end
    refused("quarantine: [^\n]*/./d.jsonl", run("quarantine=" .. folder .. "/./d.jsonl"))
    for _, name in ipairs { "held", "bench", "recipe", "model" } do
      refused("quarantine: [^\n]*", run("quarantine=" .. files[name]))
    end
    for _, name in ipairs { "data", "recipe", "held", "bench", "model" } do
      refused("%-%-html: [^\n]*", run("data", "--html", files[name]))
    end
    files.data = folder .. "/out/log.jsonl"
    expect.truthy(require("cft.host").make_folders(folder .. "/out"))
    process.write(files.data, before.data)
    refused("out's log.jsonl: [^\n]*", run())
    local look = run "data"
    expect.same({ look.code, look.err }, { 0, "" })
    local good = run("quarantine=" .. folder .. "/bad.jsonl", "out=" .. folder .. "/other", "steps=1")
    expect.same({ good.code, good.err }, { 0, "" })
    expect.match(contents(folder .. "/bad.jsonl"), "^{")
  end },
  { "settings that mean nothing, before anything is loaded", function()
    for setting, message in pairs {
      ["steps=-1"] = "must be 0 or more", ["eval_every=0"] = "must be 1 or more", ["save_every=-1"] = "must be 1 or more",
      ["heldout=-3"] = "must be 0 or more", ["lr=inf"] = "must be a number, got 'inf'", ["warmup=inf"] = "must be a number",
      ["batch=0"] = "must be 1 or more", ["epochs=-1"] = "must be 0 or more",
      ["memory=0"] = "must be a size such as 8GiB or 500MiB, got '0'\n$", ["memory=8"] = "must be a size such as 8GiB",
      ["memory=8G"] = "must be a size such as 8GiB", ["memory=0GiB"] = "must be a size such as 8GiB",
      ["beta1=1"] = "must be less than 1, got 1\n$", ["beta2=1"] = "must be less than 1", ["beta1=-1"] = "must be 0 or more",
    } do
      local r = process.cftrun { (recipe()), setting }
      expect.same({ r.code, r.out }, { 2, "" })
      expect.match(r.err, "^cftrun: " .. setting:gsub("%-", "%%-") .. ": '%w+_?%w*' " .. message)
    end
  end },
  { "a learn that gives 0 for a whole step is named, and what was trained is kept", function()
    local folder = process.folder()
    process.write(folder .. "/r.lua", ([[
      local cft = require "cft"
      cft.demo.tests = 8
      local cfg = cft.config { template = "qwen", batch = 4, tokens = 512 }
      local function learn(_, step) return step == 1 and 0 or 1 end
      cft.recipe.run(cfg, { name = "r", template = { learn = learn } })
    ]]))
    local r = process.cftrun { "--demo", folder .. "/r.lua", "steps=3", "out=" .. folder .. "/out" }
    expect.same(r.code, 5)
    expect.match(r.err, "^cftrun: the loss of step 2 is %-?nan; nothing was updated%. Samples: all; the weights of their "
      .. "tokens add up to 0, so there is no loss: see learn = of the template; the last good state is in ")
    expect.truthy(cft.files.verify(folder .. "/out/step-000001"))
  end },
  { "a load that makes no source", function()
    local path, folder = recipe()
    save_model(folder .. "/m")
    local text = contents(path):gsub('{ name = "r" }', '{ name = "r", load = function() return 5 end }')
    process.write(path, text)
    local r = process.cftrun { path, "data=" .. path, "model=" .. folder .. "/m" }
    expect.same(r.code, 1)
    expect.match(r.err, "load gave 5 as the source of training records; cft.data.open and cft.data.list make one")
  end },
  { "a gradient that is no number updates nothing", function()
    local m = cft.models.new { arch = "llama", d = 8, layers = 1, heads = 2, ffn = 16, vocab = 11 }
    local adamw = cft.optim.adamw(m)
    local before = m.weights.embed.flat:to_table()
    for _, bad in ipairs { 0 / 0, 1 / 0 } do
      m:zero_grad()
      m.weights.blocks[1].group.grad:fill_(bad)
      local norm = adamw:update(1e-2)
      expect.truthy(norm ~= norm or norm == math.huge, "the norm")
      expect.same({ adamw.count, m.weights.embed.flat:to_table() }, { 0, before })
    end
    adamw:release()
    m:release()
  end },
  -- ---- config.json ---------------------------------------------------------------------------
  { "sizes that cannot be", function()
    refuses_config({ hidden_size = json.null }, "hidden_size must be an integer, got nil")
    refuses_config({ hidden_size = "8" }, "hidden_size must be an integer, got '8'")
    refuses_config({ num_hidden_layers = -1 }, "num_hidden_layers must be from 1 to 2147483647, got %-1")
    refuses_config({ vocab_size = 1e10 }, "vocab_size must be from 1 to 2147483647, got 10000000000")
    refuses_config({ intermediate_size = { 16 } }, "intermediate_size must be an integer, got a table")
    refuses_config({ num_attention_heads = 3 }, "num_attention_heads 3 is no multiple of num_key_value_heads 2")
  end },
  { "sizes that the files do not have take no memory", function()
    refuses_config({ num_hidden_layers = 1e6 }, "no tensor 'model.layers.999999.self_attn.q_proj.weight'")
    refuses_config({ hidden_size = 1e6 }, "'model.embed_tokens.weight' is %(11, 8%); config.json makes it %(11, 1000000%)")
    refuses_config({ vocab_size = 1e9 }, "'model.embed_tokens.weight' is %(11, 8%); config.json makes it %(1000000000, 8%)")
    refuses_config({ vocab_size = 12 }, "config.json makes it %(12, 8%)")
    refuses_config({ head_dim = 1e9 }, "q_proj.weight' is %(8, 8%); config.json makes it %(2000000000, 8%)")
    refuses_config({ intermediate_size = 1e9 }, "down_proj.weight' is %(8, 16%); config.json makes it %(8, 1000000000%)")
  end },
  { "other values of the wrong type", function()
    refuses_config({ rms_norm_eps = "a" }, "rms_norm_eps is no number above 0")
    refuses_config({ rms_norm_eps = 0 }, "rms_norm_eps is no number above 0")
    refuses_config({ layer_types = 5 }, "layer_types is no list")
    refuses_config({ tie_word_embeddings = "no" }, "tie_word_embeddings is neither true nor false")
    refuses_config({ initializer_range = "x" }, "initializer_range is no number")
    refuses_config({ rope_parameters = { rope_type = "linear", factor = 0 } }, "rope type 'linear' without a 'factor' above 0")
    refuses_config({ rope_parameters = { rope_theta = {} } }, "rope_theta is no number above 0")
  end },
  -- ---- tensors -------------------------------------------------------------------------------
  { "every op refuses what is no tensor", function()
    for name in pairs(require "cft.engine.rules") do  -- ours: another test may have defined one of its own
      expect.raises("^[^:]+expect.lua:%d+: " .. name .. ": a tensor is wanted, got nil", ops[name])
      for _, s in ipairs(strangers) do expect.raises(name .. ": a tensor is wanted, got ", ops[name], s) end
    end
  end },
  { "and as a further argument, by name", function()
    local x = cft.zeros { 2, 3 }
    expect.raises("^[^:]+expect.lua:%d+: matmul: 'b' must be a tensor, got nil", ops.matmul, x)
    expect.raises("linear: 'w' must be a tensor, got nil", ops.linear, x)
    expect.raises("rope: 'cos' must be a tensor, got nil", ops.rope, x)
    for _, s in ipairs(strangers) do
      expect.raises("binary: 'b' must be a tensor, got ", ops.mul, x, s)
      expect.raises("linear: 'b' must be a tensor, got ", ops.linear, x, x, s)
      expect.raises("a tensor is wanted, got ", x.copy_, x, s)
    end
  end },
  { "no number where one is wanted", function()
    local x = cft.zeros { 2, 3 }
    expect.raises("^[^:]+expect.lua:%d+: narrow: 'dim' must be a number, got a string", x.narrow, x, "a", 0, 1)
    expect.raises("transpose: 'b' must be a number, got nil", x.transpose, x, 0)
    expect.raises("scale: 'alpha' must be a number, got nil", x.scale, x)
    expect.raises("rmsnorm: 'eps' must be a number, got nil", ops.rmsnorm, x, x)
    expect.raises("full: 'value' must be a number, got a string", cft.full, { 2 }, "x")
  end },
  { "a gradient that only a superfluous argument wants", function()
    local x, y = cft.randn { 2, 4 }, cft.randn({ 2, 4 }, { requires_grad = true })
    for _, name in ipairs { "softmax", "swiglu", "exp" } do ops[name](x, y):sum():backward() end
    expect.same(y.grad, nil)
  end },
  { "a released tensor says so, and may be released again", function()
    local x = cft.zeros { 2, 3 }
    x:release()
    x:release()
    expect.raises("this tensor %(2, 3%) f32 was released", ops.exp, x)
    expect.raises("was released", ops.add, cft.zeros { 2, 3 }, x)
    expect.match(tostring(x), "^released tensor %(2, 3%)")
  end },
  { "shapes that no memory holds", function()
    expect.raises("cpu: no memory for 4000000000000000000 bytes", cft.zeros, { 1e9, 1e9 })
    expect.raises("is larger than any memory", cft.zeros, { 2 ^ 40, 2 ^ 40 })
    expect.raises("%(%-1%) has a negative dimension", cft.zeros, { -1 })
    for _, d in ipairs { 0 / 0, 1 / 0, 1e300, 1.5, "a" } do
      expect.raises("dimension 0 of a shape is .*; a whole number wanted", cft.zeros, { d })
    end
    expect.raises("12 dimensions; at most 6", cft.zeros, { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 })
  end },
}
