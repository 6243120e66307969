-- The recipes of recipes/, run as they stand on the samples beside them: masks are what they should be, losses fall.

local cft = require "cft"
local expect = require "tests.expect"
local json = require "cft.base.json"
local model_for = require "tests.small_model"
local process = require "tests.process"

-- What a recipe would run with: prepared, nothing trained.
local function prepared(name, ...)
  local run, outer, config, opts = cft.recipe.run, arg, nil, nil
  local chunk = assert(loadfile("recipes/" .. name .. ".lua"))
  rawset(_G, "arg", { [0] = "recipes/" .. name .. ".lua", "device=cpu", "--dry-run", ... })
  cft.recipe.run = function(c, o) config, opts = c, o end
  local ok, why = pcall(chunk)
  cft.recipe.run = run
  rawset(_G, "arg", outer)
  if not ok then error(why, 0) end
  return cft.recipe.stages(config, opts, true)
end

-- What of a sample has loss weight: its text, and with `weights` each span's weight before it.
local function learned(samples, k, weights)
  local parts = {}
  for _, span in ipairs(samples:show(k)) do
    if span.weight ~= 0 then parts[#parts + 1] = (weights and ("(%g)"):format(span.weight) or "") .. span.text end
  end
  return table.concat(parts)
end

-- All that a record's answer says has loss weight, with its end, and nothing else.
local function learns(samples, answer, ending)
  expect.truthy(samples:size() > 0)
  for k = 0, samples:size() - 1 do
    expect.same(learned(samples, k), answer(samples:record(k)) .. ending, samples:where(k))
  end
end

-- The line of problems.jsonl that a record was made of.
local problems
local function problem_of(record)
  if not problems then
    problems = {}
    for i, r in cft.data.open("recipes/data/problems.jsonl", { schema = "none" }):records() do problems[i + 1] = r end
  end
  local text = record.messages[1].content
  if type(text) == "table" then text = text[1].text .. text[2].text end
  for _, p in ipairs(problems) do
    local asked = text:find(p.question, 1, true)
    if asked and (text == p.question or text:sub(-#p.solution) == p.solution) then return p end
  end
  error("no problem asks " .. text)
end

local function train(name, ...)
  local out = process.folder() .. "/out"
  local r = process.cftrun { "recipes/" .. name .. ".lua", "device=cpu", "dtype=f32", "out=" .. out, ... }
  expect.same({ r.code, r.err }, { 0, "" }, r.out)
  local summary = assert(json.read(out .. "/summary.json"))
  local first, last = summary.loss_first, summary.loss_last
  expect.truthy(last < 0.9 * first, ("loss %g -> %g"):format(first, last))
  return r.out
end

local function of_model(data) return "model=" .. model_for(data), "data=" .. data end

local GSM8K = "recipes/data/gsm8k.jsonl"

return {
  { "hello: a model learns in one process, and writes", function()
    local run = prepared "hello"
    learns(run.samples, function(r) return r.raw.output end, "<|im_end|>")
    expect.same({ run.samples:size(), run.heldout_samples:size() }, { 456, 40 })
    local out = train("hello", "steps=40", "warmup=5")
    expect.match(out, "\nmodel of the recipe: ")
    expect.match(out, "\n  Is it right%? %d %+ %d = %d+ +%-> [^\n]*\n")
    expect.match(out, "\n%d+ of 40 critiques of answers it never saw are right")
  end },
  { "sft: right answers are imitated", function()
    learns(prepared("sft").samples, function(r) return problem_of(r).answer end, "<|im_end|>")
    train("sft", "steps=12")
  end },
  { "sft: what it saved is a model like any other", function()
    local out = process.folder() .. "/out"
    local first = process.cftrun { "recipes/sft.lua", "steps=2", "device=cpu", "out=" .. out }
    expect.same({ first.code, first.err }, { 0, "" })
    local r = process.cftrun { "recipes/sft.lua", "steps=1", "device=cpu", "model=" .. out .. "/step-000002" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nmodel /[^\n]*step%-000002: ")
  end },
  { "mixture: three sources, each with its weight and its answers", function()
    local run = prepared "mixture"
    local answers = {
      critiques = function(record)
        local r = problem_of(record)
        return ("Critique:\n%s\n\nConclusion: %s [END]"):format(r.critique, r.right and "right" or "wrong")
      end,
      answers = function(r) return problem_of(r).answer end,
      check = function(r) return problem_of(r).right and "Yes." or "No." end,
    }
    for _, part in ipairs(run.samples.parts) do learns(part.source, answers[part.source.name], "<|im_end|>") end
    local shares = {}
    for places, share, name in run.samples:table():gmatch "\n +160 +(%d+) +([%d.]+)%% [^\n]* (%a+)%f[\n%z]" do
      shares[#shares + 1] = ("%s %s %s"):format(name, places, share)
    end
    expect.same(shares, { "critiques 320 66.7", "answers 107 22.3", "check 53 11.0" }, run.samples:table())
    train("mixture", "steps=12")
  end },
  { "own_template: weights by kind of text", function()
    local run = prepared "own_template"
    for k = 0, run.samples:size() - 1 do
      local r = problem_of(run.samples:record(k))
      local got, verdict = learned(run.samples, k, true), r.right and "right" or "wrong"
      local answer = ("(1)Critique:\n%s\n\n(3)Conclusion: %s [END](1)<|endoftext|>"):format(r.critique, verdict)
      expect.same(got:sub(-#answer), answer)
      expect.match(got:sub(1, -#answer - 1), "^%(0%.1%)[^%(]*Question:\n[^%(]*$")
    end
    train("own_template", "steps=12")
  end },

  { "sft_vs_cft: both ways, by one budget, graded by what they write; the best checkpoint stays", function()
    for mode, ending in pairs { sft = "Answer: %d+", cft = "Conclusion: %a+" } do
      local out = process.folder() .. "/out"
      local r = process.cftrun { "recipes/sft_vs_cft.lua", "device=cpu", "dtype=f32", "mode=" .. mode, "budget_tokens=60000",
                                 "eval_every=10", "patience=20", "out=" .. out }
      expect.same({ r.code, r.err }, { 0, "" }, r.out)
      expect.match(r.out, "\nbudget_tokens: %d+ steps have 6[01].%dk tokens, of 60.0k\n")
      expect.match(r.out, "75%% %-> 25%%")
      local summary = assert(json.read(out .. "/summary.json"))
      expect.truthy(summary.loss_last < 0.5 * summary.loss_first, mode)
      local best = summary.best
      expect.same(best.metric, "good")
      for _, step in ipairs { best.step, summary.steps } do
        expect.truthy(cft.files.verify(("%s/step-%06d"):format(out, step)), "step " .. step)
      end
      local run = prepared("sft_vs_cft", "mode=" .. mode)
      for _, part in ipairs(run.samples.parts) do
        for k = 0, part.source:size() - 1 do expect.match(learned(part.source, k), ending) end
      end
    end
  end },
  { "loop: focal loss falls, and its metric is in the log", function()
    local out = process.folder() .. "/out"
    local r = process.cftrun { "recipes/loop.lua", "device=cpu", "dtype=f32", "steps=12", "sure=0.1", "out=" .. out }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    local summary = assert(json.read(out .. "/summary.json"))
    expect.truthy(summary.loss_last < 0.7 * summary.loss_first and summary.metrics.likely > 0.01)
  end },

  { "webinstruct: the paper's run, on a sample of the file's shape", function()
    local model, data = of_model "recipes/data/webinstruct.jsonl"
    learns(prepared("webinstruct", model, data, "batch=8").samples, function(r) return r.raw.output end, "<|endoftext|>")
    train("webinstruct", model, data, "batch=8", "steps=10", "lr=1e-3")
  end },
  { "one_problem: the authors' messages, on a sample of the file's shape", function()
    local model, data = of_model "recipes/data/one_problem.jsonl"
    local run = prepared("one_problem", model, data, "heldout=8")
    learns(run.samples, function(r) return r.raw.messages[2].content end, "<|im_end|>")
    expect.same({ run.samples:size(), run.heldout_samples:size() }, { 32, 8 })
    expect.same({ run.samples.build.o.max_tokens, run.context }, { 512, 512 })  -- not `tokens`, 16384
    train("one_problem", model, data, "heldout=8", "batch=8", "steps=10", "lr=1e-3")
  end },
  { "gsm8k: its own load, critiques by rule, on a sample of the file's shape", function()
    local model, data = of_model(GSM8K)
    local run = prepared("gsm8k", model, data, "train_problems=30", "heldout=12")
    expect.same({ run.samples:size(), run.heldout_samples:size() }, { 120, 12 })
    for k = 0, 119 do
      expect.match(learned(run.samples, k), "^Critique:\n.*\n\nConclusion: %a+ %[END%]<|im_end|>$")
    end
    local problems, right = 0, 0
    for _, problem in cft.data.open(GSM8K, { schema = "none" }):records() do
      problems = problems + 1
      for _, solution in pairs(problem) do
        if type(solution) == "table" and solution.is_correct then right = right + 1 end
      end
    end
    local out = train("gsm8k", model, data, "train_problems=30", "heldout=12", "batch=8", "steps=10", "lr=1e-3")
    local n, calculation, step, answer = out:match("critiques by rule: (%d+) of right solutions; of wrong ones "
      .. "(%d+) name a calculation, (%d+) a step, (%d+) only the final answer")
    expect.same({ tonumber(n), calculation + step + answer }, { right, 4 * problems - right })
  end },

  { "where a model or data are missing, the command that gets them", function()
    local env = { HF_HOME = process.folder(), HF_HUB_CACHE = false }
    for name, want in pairs {
      webinstruct = "cftrun fetch Qwen/Qwen2.5%-Math%-7B\n.*cftrun fetch TIGER%-Lab/WebInstruct%-CFT %-%-type dataset",
      one_problem = "cftrun fetch Qwen/Qwen2.5%-Math%-1.5B\n.*cftrun fetch TIGER%-Lab/One%-Shot%-CFT%-Data %-%-type dataset DSR%-CFT%-p0.jsonl",
      gsm8k = "cftrun fetch Qwen/Qwen2.5%-0.5B\n.*openai/grade%-school%-math",
    } do
      local r = process.cftrun { "recipes/" .. name .. ".lua", env = env }
      expect.same(r.code, 4, r.out)
      expect.match(r.err, want)
    end
  end },
  { "the samples are what their script makes", function()
    local folder = process.folder()
    local r = process.cftrun { "scripts/make_samples.lua", folder }
    expect.same({ r.code, r.err }, { 0, "" })
    for _, name in ipairs { "problems", "webinstruct", "one_problem", "gsm8k" } do
      local files = {}
      for i, path in ipairs { folder, "recipes/data" } do
        local file = assert(io.open(("%s/%s.jsonl"):format(path, name), "rb"))
        files[i] = file:read "*a"
        file:close()
      end
      local says = name .. ".jsonl is not what `cftrun scripts/make_samples.lua recipes/data` makes"
      expect.truthy(files[1] == files[2], says)
    end
    expect.same(process.cftrun { "scripts/make_samples.lua" }.code, 2)
  end },

  { "a recipe brings its own model: a Model as it is", function()
    local recipe = process.write(process.folder() .. "/r.lua", [[
      local cft = require "cft"
      local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, steps = 2,
                               device = "cpu", dtype = "f32" }
      local fields = function(r) return { instruction = r.question, output = r.answer } end
      local tokenizer = cft.demo.words(cft.data.open(cfg.data, { fields = fields }))
      local shape = { vocab = tokenizer:size() + 5, device = "cpu" }
      for name, value in pairs(cft.demo.tiny) do shape[name] = value end
      local model = cft.models.new(shape)
      cft.recipe.run(cfg, { name = "r", model = model, tokenizer = tokenizer, fields = fields,
                            finish = function(run) print(run:model() == model, run:trainer().done) end })
    ]])
    local r = process.cftrun { recipe }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\ntrue\t2\n")
  end },
  { "a model without a tokenizer, and what is no model", function()
    local function refuses(opts, message)
      local recipe = process.write(process.folder() .. "/r.lua", ([[
        local cft = require "cft"
        local cfg = cft.config { data = "recipes/data/webinstruct.jsonl", device = "cpu" }
        cft.recipe.run(cfg, { name = "r", %s })]]):format(opts))
      local r = process.cftrun { recipe }
      expect.same(r.code, 1, r.out)
      expect.match(r.err, message)
    end
    refuses("model = cft.demo.tiny", "r.lua:3: recipe.run: a model without a tokenizer; a recipe brings both, or neither")
    refuses("tokenizer = cft.demo.words", "recipe.run: a tokenizer without a model")
    refuses("model = cft.demo.tiny, tokenizer = function() return 3 end",
      "recipe.run: tokenizer gave 3; cft.tokenizer.load and cft.tokenizer.parse make one")
    refuses("model = { arch = 'llama', dd = 3 }, tokenizer = cft.demo.words", "models.new: unknown option 'dd'")
  end },
}
