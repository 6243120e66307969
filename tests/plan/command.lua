-- `cftrun plan` as its users meet it, and what a run says of the plan when it is over.

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"

local function plan(...) return process.cftrun { "plan", ... } end

-- A command that is refused: its code, and a text of its message.
local function refused(code, text, ...)
  local r = plan(...)
  expect.same(r.code, code, r.err)
  expect.truthy(r.err:find(text, 1, true), r.err)
  expect.same(r.out, "")
end

return {
  { "the paper's run is planned where neither its model nor its data are here", function()
    local r = plan("recipes/webinstruct.lua", "--samples", "50000", "--length=1400")
    expect.same(r.code, 0, r.err)
    expect.truthy(r.out:find("7.62B parameters", 1, true), r.out)
    expect.truthy(r.out:find("take ZeRO-", 1, true), r.out)
    expect.truthy(r.out:find("no card has run that yet", 1, true), r.out)
    expect.truthy(r.out:find("the run: 97 steps", 1, true), r.out)
    expect.same(host.kind "checkpoints/webinstruct", nil)
  end },
  { "settings count: fewer bytes a weight need less of ZeRO", function()
    local function best(...)
      local r = plan("recipes/webinstruct.lua", "--samples", "50000", "--length", "1400", "--json", ...)
      expect.same(r.code, 0, r.err)
      local p = json.decode(r.out)
      for _, choice in ipairs(p.choices) do
        if choice.best then return choice, p end
      end
    end
    local usual, p = best()
    local lean = best("moments=bf16", "master=false", "gradients=bf16")
    expect.truthy(lean.stage < usual.stage, "a lower stage will do")
    expect.same({ p.gpus, p.gpu, p.steps, p.parameters }, { 8, "h100", 97, 7615616512 })
    expect.truthy(best("--gpus", "16", "--hosts", "2").step_seconds < usual.step_seconds, "16 GPUs are faster than 8")
  end },
  { "a recipe's own data are read, and its own model's shape is taken", function()
    local r = plan("recipes/webinstruct.lua", "--demo", "--gpus", "2", "steps=30")
    expect.same(r.code, 0, r.err)
    expect.truthy(r.out:find("of the recipe's data", 1, true), r.out)
    expect.truthy(r.out:find("the run: 30 steps", 1, true), r.out)
  end },
  { "a tokenizer of the recipe's records' words, and a length that is said", function()
    local r = plan("recipes/hello.lua", "--length", "30", "steps=4")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.truthy(r.out:find("of 30 tokens each", 1, true), r.out)
    refused(4, "data none.jsonl: no such file", "recipes/hello.lua", "--length", "30", "data=none.jsonl")
  end },
  { "a run on a GPU, in what a GPU takes, is planned where there is none", function()
    local r = plan("recipes/hello.lua", "device=cuda", "dtype=auto", "gradients=bf16")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.truthy(r.out:find("of the recipe's data", 1, true), r.out)
  end },
  { "what is wrong is refused by name", function()
    refused(2, "a recipe is wanted")
    refused(2, "no recipe recipes/none.lua", "recipes/none.lua")
    refused(2, "--gpu ", "recipes/webinstruct.lua", "--gpu", "h101")
    refused(2, "--gpus", "recipes/webinstruct.lua", "--gpus", "0")
    refused(2, "--hosts 3", "recipes/webinstruct.lua", "--gpus", "8", "--hosts", "3")
    refused(2, "--length", "recipes/webinstruct.lua", "--length", "long")
    refused(2, "--link", "recipes/webinstruct.lua", "--link", "0")
    refused(2, "--link", "recipes/webinstruct.lua", "--link", "inf")
    refused(2, "--gpu is said twice: h100 and a100", "recipes/webinstruct.lua", "--gpu", "h100", "--gpu=a100")
    refused(2, "--samples wants a value", "recipes/webinstruct.lua", "--samples")
    refused(2, "--gpuss", "recipes/webinstruct.lua", "--gpuss", "8")
    refused(4, "its shape is not known by name", "recipes/webinstruct.lua", "model=Nobody/knows", "--length", "10")
  end },
  { "a run says what was expected of this machine, and how far off that was", function()
    local out = process.folder() .. "/run"
    local r = process.cftrun { "recipes/hello.lua", "steps=3", "out=" .. out, "device=cpu" }
    expect.same(r.code, 0, r.err)
    local said = r.out .. r.err
    expect.truthy(said:find "plan: [%d.kM]+ tok/s were expected of this machine's products and copies, %d+%% of that", said)
    expect.truthy(json.read(out .. "/summary.json").expected_tokens_per_s > 0)
  end },
}
