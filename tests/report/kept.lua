-- What a run keeps for its report: held-out samples before and after, and its data.

local autograd = require "cft.engine.autograd"
local expect = require "tests.expect"
local host = require "cft.host"
local inputs = require "cft.nn.inputs"
local json = require "cft.base.json"
local process = require "tests.process"
local run_page = require "cft.report.run_page"
local runs = require "cft.report.run"
local tensor = require "cft.engine.tensor"

-- A recipe of the demo's records, some of them with texts that are hard to write down.
local RECIPE = [[
local cft = require "cft"
local cfg = cft.config { steps = 3, batch = 4, tokens = 600, device = "cpu", lr = 1e-2, warmup = 0, report_samples = 3 }
local function records(make, n)
  local list = {}
  for i = 1, n do
    local r = make(i)
    list[i] = { instruction = r.instruction, input = r.input, output = r.output }
  end
  list[1].output = "\226\130\172 \240\159\152\128 <script> " .. list[1].output
  return list
end
local run = cft.recipe.prepare(cfg, {
  name = "kept", model = { arch = "llama", d = 16, layers = 1, heads = 2, ffn = 32 }, tokenizer = cft.demo.tokenizer(1),
  load = function()
    return cft.data.list(records(cft.demo.training(1), 12), { name = "train" }), cft.data.list(records(cft.demo.heldout(1), 6), { name = "held" })
  end,
})
for t in run:steps() do KEPT_STEP = t.step end
return run
]]

-- Run it in this process. @treturn table the run @treturn string its folder
local function train(...)
  local folder = process.folder() .. "/out"
  local path = process.write(process.folder() .. "/r.lua", (RECIPE:gsub("KEPT_STEP", "local _")))
  local r = process.cftrun { path, "out=" .. folder, ... }
  expect.same({ r.code, r.err }, { 0, "" })
  return folder, path, r.out
end

local function kept(folder)
  local list = {}
  for line in io.lines(folder .. "/samples.jsonl") do list[#list + 1] = assert(json.decode(line)) end
  return list
end

return {
  { "samples are kept before and after, evenly spread, with what the model writes", function()
    local folder, path = train()
    local list = kept(folder)
    local brief = {}
    for i, line in ipairs(list) do brief[i] = ("%s %d %s"):format(line.at, line.step, line.record) end
    expect.same(brief, { "start 0 held: record 0", "start 0 held: record 2", "start 0 held: record 4",
                         "end 3 held: record 0", "end 3 held: record 2", "end 3 held: record 4" })
    expect.match(list[1].prompt, "<|im_start|>assistant\n$")
    expect.same({ list[1].tokens[1][1], type(list[1].tokens[1][2]) }, { "\226\130\172", "number" })
    local text, sums = {}, { 0, 0 }
    for i, token in ipairs(list[1].tokens) do text[i] = token[1] end
    expect.match(table.concat(text), "^\226\130\172 \240\159\152\128 <script> Critique:\n.*<|im_end|>$")
    for side, line in ipairs { list[1], list[4] } do
      for _, token in ipairs(line.tokens) do sums[side] = sums[side] + token[2] end
    end
    expect.truthy(sums[2] < sums[1], "the loss of a sample falls")
    expect.truthy(list[4].written ~= nil, "it has a text of the model")
    local html = run_page.page { runs.read(folder) }
    expect.match(html, "before, step 0; %d%.%d+ a token")
    expect.match(html, "after, step 3; %d%.%d+ a token")
    expect.match(html, "12 samples of 12 records")
    -- Resumed, it keeps what was before, and measures the same samples after.
    local first = process.contents(folder .. "/samples.jsonl"):match "^[^\n]*"
    local r = process.cftrun { path, "out=" .. folder, "steps=5", "--resume", "--allow-change", "steps" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.same(process.contents(folder .. "/samples.jsonl"):match "^[^\n]*", first)
    expect.same({ #kept(folder), kept(folder)[6].step }, { 6, 5 })
  end },
  { "report_samples=0 keeps none, and costs none", function()
    local folder = train "report_samples=0"
    expect.same({ host.kind(folder .. "/samples.jsonl"), host.kind(folder .. "/data.json") }, { nil, "file" })
  end },
  { "losses of a sample's tokens are the model's, whatever it skips", function()
    local model = require("cft.models").new { arch = "llama", d = 16, layers = 1, heads = 2, ffn = 32, vocab = 40, seed = 3 }
    local list = { { ids = { 5 }, weight = 0 }, { ids = { 7, 9 }, weight = 0 }, { ids = { 3 }, weight = 1 },
                   { ids = { 4 }, weight = 0 }, { ids = { 11, 2 }, weight = 0.5 } }
    local losses = require("cft.report.kept").losses
    autograd.no_grad(tensor.scope, function()
      local _, nll = model:loss(inputs.sequences({ { 5, 7, 9, 3, 4, 11, 2 } }, { { 1, 1, 1, 1, 1, 1, 1 } }))
      local all = nll:to_host()
      for _, skip in ipairs { true, false } do
        model.options.skip = skip
        local found = losses(model, list)
        for place = 1, 7 do
          if place == 4 or place >= 6 then expect.close(found[place], all[place - 2], 1e-5) else expect.same(found[place], nil) end
        end
      end
    end)
  end },
}
