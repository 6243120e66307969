-- A setting does something, or is refused before the first step; and one rule says how long a run is.

local cft = require "cft"
local exit = require "cft.base.exit"
local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local START = [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024,
                         device = "cpu", dtype = "f32", %s }
local options = { name = "r", fields = function(r) return { instruction = r.question, output = r.answer } end,
                  tokenizer = cft.demo.words, model = cft.demo.tiny }
]]
local USUAL = "cft.recipe.run(cfg, options)"
local OWN = [[  -- a loop that takes no more than batches and rates from its run, and steps as SGD does
  local run = cft.recipe.prepare(cfg, options)
  local model = run:model()
  for step = 0, run.last_step - 1 do
    local micros, weight = run.batches:update(0, step)
    model:zero_grad()
    cft.scope(function() (model:loss(micros[1].batch)):backward() end)
    print("own step", run.lr(step) > 0, weight > 0)
  end
]]

local function run(settings, body, ...)
  local folder = process.folder()
  local path = process.write(folder .. "/r.lua", START:format(settings or "") .. body)
  return process.cftrun { path, ... }, folder
end

local function refused(name, message, settings, body, ...)
  local args = { ... }
  return { "refused: " .. name, function()
    local r = run(settings, body, unpack(args))
    expect.same(r.code, exit.USAGE, r.out .. r.err)
    expect.match(r.err, "^cftrun: " .. message)
    expect.same(r.out:match "step 1/[^\n]*" or r.out:match "own step", nil)
  end }
end

local function fine(name, settings, body, ...)
  local args = { ... }
  return { "fine: " .. name, function()
    local r = run(settings, body, unpack(args))
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
  end }
end

-- How many steps such a run has, and what its lines say.
local function steps(settings, ...)
  local r = run(settings, USUAL, "--dry-run", ...)
  expect.same({ r.code, r.err }, { 0, "" }, r.out)
  return tonumber(r.out:match "\n(%d+) steps of 4 samples"), r.out
end

-- A prepared run, quiet, for a look at its batches.
local function stages(...)
  local cfg = cft.config.read({ data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024, device = "cpu" },
                              { [0] = "tests/recipe/settings_read.lua", ... })
  return cft.recipe.stages(cfg, { name = "r", fields = function(r) return { instruction = r.question, output = r.answer } end,
                                  tokenizer = cft.demo.words, model = cft.demo.tiny }, true)
end

return {
  refused("ranks beside a norm without ranks", "ranks: nothing reads it: norm = rank_mean alone has ranks\n$", "steps = 1", USUAL, "ranks=2"),
  refused("save_every without out", "save_every: nothing reads it: nothing is saved without out=\n$", "steps = 1", USUAL, "save_every=1"),
  refused("eval_every with nothing to measure", "eval_every: nothing reads it: nothing is held out, and the recipe has no evaluate\n$",
          "steps = 1", USUAL, "eval_every=1"),
  refused("warm-up beside a schedule of the recipe's", "warmup: nothing reads it: the schedule is a function of the recipe\n$",
          "steps = 1, schedule = function() return 1 end", USUAL, "warmup=3"),
  refused("a key of the recipe's that it never reads", "depth: nothing reads it, and the recipe sets it\n$", "steps = 1, depth = 3", USUAL),
  refused("a path beside a load that takes none", "data: nothing reads it: who opens the data itself reads it, or leaves it out\n$", "steps = 1",
          "options.fields = nil\noptions.load = function() return cft.data.generate(40, cft.demo.training(1)) end\n" .. USUAL,
          "data=recipes/data/problems.jsonl"),
  refused("a held-out number beside a load that does not look", "heldout: nothing reads it, and the recipe sets it: who opens the data itself",
          "steps = 1, heldout = 3",
          "local fields = options.fields; options.fields, options.load = nil, function(p) return cft.data.open(p, { fields = fields }) end; "
          .. USUAL),
  refused("two lengths of one origin", "steps and epochs are both given by the command line, and one of them says how long a run is",
          "", USUAL, "steps=1", "epochs=2"),
  refused("two lengths of the recipe's", "steps and budget_tokens are both given by the recipe", "steps = 2, budget_tokens = 100", USUAL),
  refused("a budget of a stream", "budget_tokens goes through the samples' lengths first, which a stream does not; give steps",
          "budget_tokens = 100, stream = true", USUAL, "max_tokens=512"),
  fine("what a recipe sets for runs that have a use for it", "steps = 1, eval_every = 5, save_every = 5, ranks = 3", USUAL),
  fine("a key that a hook reads later", "steps = 1, depth = 3", "options.finish = function() assert(cfg.depth == 3) end; " .. USUAL),
  fine("a length of the recipe's under one of the command line", "epochs = 3", USUAL, "steps=1"),

  refused("an own loop: the optimizer's settings", "weight_decay: nothing reads it: run:trainer {} applies the optimizer's settings; "
          .. "with an optimizer of its own a loop reads them itself\n$", "steps = 2", OWN, "weight_decay=0.1"),
  refused("an own loop: --resume", "%-%-resume: nothing reads it", "steps = 2", OWN, "--resume"),
  refused("an own loop: memory and clip", "clip: nothing reads it, and the recipe sets it: [^\n]*\n  memory: nothing reads it: run:model%(%)",
          "steps = 2, clip = 2", OWN, "memory=2GiB"),
  fine("an own loop without them", "steps = 3, lr = 1e-3, warmup = 0", OWN),
  { "refused: an own loop that has made a step and asked for no rate", function()
    local r = run("steps = 3, lr = 1e-3", (OWN:gsub("run.lr%(step%) > 0, ", "")))
    expect.same(r.code, exit.USAGE, r.out)
    expect.match(r.err, "^cftrun: lr: nothing reads it, and the recipe sets it")
    expect.same(select(2, r.out:gsub("own step", "")), 1)
  end },
  { "an own loop with out=: run.json is there, and the folder is its own", function()
    local r, folder = run("steps = 2", OWN, "out=" .. process.folder() .. "/out")
    expect.same({ r.code, r.err }, { 0, "" })
    local out = folder .. "/x"
    expect.same(run("steps = 2", OWN, "out=" .. out, "--dry-run").code, 0)
    expect.same(host.kind(out), nil)
  end },

  { "the command line goes before the recipe", function()
    expect.same(steps "steps = 7", 7)
    expect.same(steps("steps = 7", "epochs=1"), 40)
    expect.same(steps("epochs = 2", "steps=3"), 3)
    expect.same(steps(""), 40)
  end },
  { "budget_tokens: the step that reaches it is the last", function()
    local r = stages()
    local sum, count = 0, 0
    for index = 0, 4 do
      for _, tokens in ipairs(r.batches:lengths(0, index)) do sum, count = sum + tokens, count + 1 end
    end
    expect.same(count, 20)
    expect.same(steps("", "budget_tokens=" .. sum), 5)
    expect.same(steps("", "budget_tokens=" .. sum + 1), 6)
    local n, said = steps("", "budget_tokens=" .. sum - 1)
    expect.same(n, 5)
    expect.match(said, "\nbudget_tokens: 5 steps have " .. sum .. " tokens, of " .. sum - 1 .. "\n")
    local all = 0
    for index = 0, r.batches:updates() - 1 do
      for _, tokens in ipairs(r.batches:lengths(0, index)) do all = all + tokens end
    end
    expect.same(steps("", ("budget_tokens=%d"):format(2 * all)), 80)  -- two epochs
  end },
  { "budget_flops: by the formula of docs/performance.md", function()
    local r = stages()
    local c = cft.models.shape { arch = "qwen2", d = 128, layers = 2, heads = 4, ffn = 256, tied = true, theta = 1000,
                                 context = 512, vocab = r.tokenizer:size() }
    local function by_hand(t)  -- one sequence of t tokens, every row through the head
      local block = 2 * (t * 128 * (2 * 128 + 3 * 256) + 2 * t * 128 * 128)
      local attention = 3.5 / 3 * 4 * t * (t + 1) / 2 * 128
      return 3 * (2 * (block + attention) + 2 * t * 128 * c.vocab)
    end
    expect.close(cft.models.flops(c, { 37 }), by_hand(37), 1)
    expect.close(cft.models.flops(c, { 37, 5 }), by_hand(37) + by_hand(5), 1)
    local sum = 0
    for index = 0, 2 do sum = sum + cft.models.flops(c, r.batches:lengths(0, index)) end
    expect.same(steps("", ("budget_flops=%.17g"):format(sum * (1 - 1e-9))), 3)
    expect.same(steps("", ("budget_flops=%.17g"):format(sum * (1 + 1e-9))), 4)
  end },
  { "a budget of a mixture whose weights follow the run", function()
    local r = process.cftrun { "recipes/sft_vs_cft.lua", "device=cpu", "--dry-run", "budget_tokens=20000" }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    local n, tokens = r.out:match "\nbudget_tokens: (%d+) steps have ([%d.]+)k tokens, of 20.0k\n"
    expect.truthy(tonumber(n) > 5 and tonumber(tokens) >= 20)
    expect.match(r.out, "75%% %-> 25%%")
  end },

  { "a schedule that is a function: said in --help and in the log, and so is a first rate of 0", function()
    local own = "steps = 4, schedule = function(step, steps) return step / steps end"
    local r = run(own, USUAL, "--help")
    expect.match(r.out, "\n  schedule=%(a function, line 3%)\n")
    local _, said = steps(own)
    expect.match(said, "\n4 steps of 4 samples %(40 an epoch%), rates by a function of the recipe, learning rate 5e%-06\n"
      .. "step 1 has the rate 0 by the recipe's schedule, and changes no weight\n")
    _, said = steps("steps = 4, schedule = 'linear', warmup = 2")
    expect.match(said, ", linear, 2 of warm%-up, learning rate 5e%-06\nstep 1 is the first of the warm%-up: its rate is 0, ")
  end },
}
