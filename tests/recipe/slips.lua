--- Slips in what a recipe gives: each is named, none is passed over, and no work is lost by it.

local cft_files = require("cft").files
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"

local START = [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024, lr = 1e-3,
                         heldout = 4, device = "cpu", dtype = "f32", report_samples = 0 }
local o = { name = "r", fields = function(r) return { instruction = r.question, output = r.answer } end,
            tokenizer = cft.demo.words, model = cft.demo.tiny }
]]
local OWN = "local run = cft.recipe.prepare(cfg, o)\nrun:trainer { %s }\nfor t in run:steps() do end\n"
local USUAL = "cft.recipe.run(cfg, o)\n"

-- Run these lines of a recipe. @treturn table as process.cftrun @treturn string its out=
local function run(lines, ...)
  local folder = process.folder()
  local out = folder .. "/out"
  return process.cftrun { process.write(folder .. "/r.lua", START .. lines), "out=" .. out, ... }, out
end

local function refuses(message, lines, ...)
  local more = { ... }
  return { message:sub(1, 70), function()
    local r, out = run(lines, unpack(more))
    expect.truthy(r.code == 1 or r.code == 2, r.out)
    expect.match(r.err, message)
    expect.truthy(not r.err:find("lua/cft/", 1, true), r.err)
    expect.same(host.kind(out .. "/step-000002"), nil)
  end }
end

local function hook(text) return ("o.%s\n%s"):format(text, USUAL) end

-- A recipe that has run in out=; folder of it. @treturn function as process.cftrun with the recipe in front
local function ran()
  local folder = process.folder()
  local recipe, out = process.write(folder .. "/r.lua", START .. USUAL), folder .. "/out"
  local function again(...) return process.cftrun { recipe, "steps=2", ... } end
  expect.same(again("out=" .. out, "save_every=1").code, 0)
  return again, out, folder
end

return {
  { "--resume --dry-run refuses what --resume would", function()
    local again, out = ran()
    cft_files.remove(out .. "/step-000002")
    local r = again("out=" .. out, "--resume", "--dry-run")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\nwould go on from .*/step%-000001, at step 1\n")
    r = again("out=" .. out, "--resume", "--dry-run", "lr=2e-3")
    expect.same(r.code, 1)
    expect.match(r.err, "lr: was 0.001, now 0.002")
  end },
  { "a checkpoint of a run is nobody's out=, and a pipe is no log", function()
    local again, out, folder = ran()
    for _, name in ipairs { "/step-000001", "/step-000001/mine" } do
      local r = again("out=" .. out .. name)
      expect.same(r.code, 2, r.out)
      expect.match(r.err, "is in a checkpoint of the run in '.*/out', which may remove it; give another out=")
      expect.same(host.kind(out .. name .. "/run.json"), nil)
    end
    local r = again("out=" .. out .. "/other", "steps=1")
    expect.same(r.code, 0, r.err)
    process.shell("mkdir piped && mkfifo piped/log.jsonl", folder)
    for _, name in ipairs { "data", "model" } do
      r = again(name .. "=" .. folder .. "/piped/log.jsonl")
      expect.same(r.code, 4, r.out)
      expect.match(r.err, "is a pipe or a device")
    end
    r = again("out=" .. folder .. "/piped")
    expect.same(r.code, 1, r.out)
    expect.match(r.err, "log.jsonl is no regular file")
    process.shell("mkdir -p odd/log.jsonl", folder)
    r = again("out=" .. folder .. "/odd")
    expect.same(r.code, 1, r.out)
    expect.match(r.err, "log.jsonl is a folder; the run writes a file there")
  end },
  { "a load that holds nothing out is one of a run without it", function()
    local r = run(hook("fields, o.load = nil, function(p) return cft.data.open(p, { fields = function(r) "
      .. "return { instruction = r.question, output = r.answer } end }):split { heldout = cfg.heldout } end"), "heldout=0", "steps=1")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\n[^\n]*: nothing is held out\n")
  end },
  { "a report's page takes the place of no file of its run", function()
    local _, out = ran()
    local was = process.contents(out .. "/run.json")
    local r = process.cftrun { "report", out, "--html", out .. "/../out/run.json" }
    expect.same(r.code, 2, r.out)
    expect.match(r.err, "run.json is a file of the run, which would be overwritten")
    expect.same(process.contents(out .. "/run.json"), was)
    expect.same(process.cftrun({ "report", out, "--html", out .. "/page.html" }).code, 0)
  end },
  { "metrics that JSON cannot hold are texts, in the log and in summary.json", function()
    local r, out = run(hook [[after_step = function() return { inf = math.huge, nan = 0 / 0, word = "a\255", ["n\255"] = 1 } end]],
      "steps=1")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    local summary, line = json.read(out .. "/summary.json").metrics, nil
    for text in io.lines(out .. "/log.jsonl") do line = json.decode(text) end
    for _, t in ipairs { summary, line } do
      expect.same({ t.inf, t.nan:gsub("-", ""), t.word, t["n\\xff"] }, { "inf", "nan", "a\\xff", 1 })
    end
    expect.same(json.read(out .. "/run.json").status, "finished")
  end },
  { "a loop that makes no step ends as any", function()
    local r, out = run("local run = cft.recipe.prepare(cfg, o)\nrun:trainer()\nrun:finish()\n", "steps=2")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\nno step was made\n$")
    expect.same(json.read(out .. "/run.json").status, "stopped")
  end },
  { "a best that no step has is said when the first step was measured", function()
    local r = run(hook 'best = { "godo", "max" }', "steps=3", "eval_every=2")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    local _, said = r.out:gsub("\nbest: step 2 was measured and has no 'godo', so that there is no best value yet\n", "")
    expect.same(said, 1)
  end },
  refuses("best: nothing is held out, so there is no heldout_loss", hook 'best = { "heldout_loss", "min" }', "heldout="),
  refuses("best names a metric and its direction", hook 'best = { "loss", "min", patience = 3 }'),
  refuses("keep: best counts by the metric that best = { NAME, ... } follows, and there is none", hook "keep = { newest = 1, best = 3 }"),
  refuses("after_step set 'foo' in the step's ledger, which has kinds of text alone; set it on the step itself: t%.foo",
    hook "after_step = function(_, t) t.ledger.foo = 3 end"),
  refuses("stop gave a number; true or a text that says why is wanted, or false or nil to go on", hook "stop = function() return 0 end"),
  refuses("after_step took 'step' away, which the log needs", hook "after_step = function(_, t) t.step = nil end"),
  refuses("the loop took 'ledger' away, which the log needs", [[
    local run = cft.recipe.prepare(cfg, o)
    for t in run:steps() do t.ledger = nil end
  ]]),
  refuses("after_step gave a metric without a name", hook 'after_step = function() return { [""] = 1 } end'),
  refuses("trainer:step was called by a hook of the step; stop = ends a run early", hook "after_step = function(run) run:trainer():step() end"),
  refuses("finish was called by a hook of the step; stop = ends a run early", hook "evaluate = function(run) run:finish() end", "steps=1"),
  refuses("recipe.run: missing: unknown option 'modle'; did you mean 'model'?", hook 'missing = { modle = "2 GB" }'),
  refuses("config: 'lr' must be a number, got 'fast'", 'cfg.lr = "fast"\n' .. USUAL),
  refuses("budget_tokens=1e%+12 is that of .* passes over the samples, of which one has .*; at most 10000 are taken", USUAL, "budget_tokens=1e12"),
  refuses("split: by gave nan for .*record 0, line 1; a string or number is wanted", hook "heldout_by = function() return 0 / 0 end"),
  refuses("run:trainer: 'model' is a table without loss%(%); cft.models makes what is wanted", OWN:format "model = {}"),
  refuses("run:trainer: 'optim' is a table without step%(%); cft.optim makes what is wanted", OWN:format "optim = {}"),
  refuses("run:trainer: 'batches' is a table without .*; cft.batch makes what is wanted", OWN:format "batches = {}"),
  refuses("loss gave a nil; a tensor is wanted, the sum over rows of weight times loss", OWN:format "loss = function() end"),
  refuses("record 0, line 1, [^\n]*: fields: an error that is a table, not a message\n", hook "fields = function() error {} end"),
  refuses("heldout = 1e%-06 holds out none of the 160 records of r; say more, or 0 for none", USUAL, "heldout=1e-6"),
  refuses("recipe.run: load opens the data itself, and nothing reads 'fields' beside it", hook "load = cft.data.open"),
  refuses("generate.answers: record 2 is no conversation, a table with `messages`; cft.data.conversation makes one",
    hook "finish = function(run) cft.generate.answers(run, { run.source:get(0), { instruction = 'a' } }) end", "steps=1"),
  refuses("'select' must be one of gsm8k, .*, or the path of a Lua file, got 'gsm9k'", USUAL, "select=gsm9k"),
  refuses("order_by: .*record 0, line 1 has nil as 'question'; its fields are instruction, output; a number or a text is wanted", USUAL,
    "order_by=question"),
}
