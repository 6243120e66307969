-- Every option of a run on every recipe, an own loop among them: nothing trains that should not, nothing is overwritten,
-- and what goes on is what was never stopped.

local cft = require "cft"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local model_for = require "tests.small_model"
local process = require "tests.process"

-- What a recipe wants to run here, in a few steps.
local small = { "device=cpu", "dtype=f32", "batch=4", "tokens=1024" }
local elsewhere = {  -- recipes whose model and data are not here
  webinstruct = { "recipes/data/webinstruct.jsonl" },
  one_problem = { "recipes/data/one_problem.jsonl", "heldout=8" },
  gsm8k = { "recipes/data/gsm8k.jsonl", "train_problems=30", "heldout=12" },
}
local longer = { sft_vs_cft = "budget_tokens=500", hello = "steps=2" }

local names = {}
for _, name in ipairs(host.list "recipes") do names[#names + 1] = name:match "^(.*)%.lua$" end

local function run(name, more)
  local args = {}
  local data = elsewhere[name]
  for _, list in ipairs { more.front or {}, { "recipes/" .. name .. ".lua" }, small,
                          data and { "model=" .. model_for(data[1]), "data=" .. data[1], unpack(data, 2) } or {},
                          { not more.plain and (longer[name] or "steps=2") or nil }, more } do
    for _, argument in ipairs(list) do args[#args + 1] = argument end
  end
  return process.cftrun(args)
end

local function weights(out, step) return process.contents(("%s/step-%06d/model.safetensors"):format(out, step)) end

-- The names in a folder, and the texts of its files.
local function all_of(folder)
  local list = {}
  for _, name in ipairs(host.list(folder)) do
    local path = folder .. "/" .. name
    local text = host.kind(path) == "file" and process.contents(path) or table.concat(host.list(path), " ")
    list[name] = name ~= ".lock" and text or ""  -- whoever asked last is named in a lock
  end
  return list
end

local tests = {}
for _, name in ipairs(names) do
  table.insert(tests, { name .. ": --dry-run, --preview and cftrun data train nothing and write nothing", function()
    local out = process.folder() .. "/out"
    for _, how in ipairs { { "--dry-run" }, { "--preview", "1" }, { front = { "data" }, "--samples", "1" },
                           { "--dry-run", "--demo", plain = true } } do
      how[#how + 1] = "out=" .. out
      local r = run(name, how)
      expect.same({ r.code, r.err }, { 0, "" }, table.concat(how, " ") .. "\n" .. r.out)
      expect.same(r.out:match "\nstep 1/[^\n]*", nil, table.concat(how, " "))
      expect.same(host.kind(out), nil, table.concat(how, " "))
    end
  end })
  table.insert(tests, { name .. ": a run is resumed as it was, and no second one takes its folder", function()
    local out = process.folder() .. "/out"
    local r = run(name, { "out=" .. out, "save_every=1" })
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    local last = json.read(out .. "/run.json").steps
    local wanted, log = weights(out, last), process.contents(out .. "/log.jsonl")
    local before = all_of(out)
    expect.same(run(name, { "out=" .. out }).code, 2)
    expect.same(all_of(out), before)
    r = run(name, { "out=" .. out, "--resume", "--dry-run" })
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\nwould go on from [^\n]*, at step " .. last)
    expect.same(all_of(out), before)
    r = run(name, { "out=" .. out, "--resume" })
    expect.match(r.out, ("nothing to train: %d of %d steps are made"):format(last, last))
    expect.same(all_of(out), before)
    cft.files.remove(("%s/step-%06d"):format(out, last))
    if name == "sft_vs_cft" then return end  -- keeps the newest alone: there is nothing before it
    r = run(name, { "out=" .. out, "--resume" })
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\nresumed at step " .. last - 1 .. " from ")
    expect.truthy(weights(out, last) == wanted, "the same weights to the bit")
    local function steps(text)
      local list = {}
      for step, loss in text:gmatch '"step":(%d+).-"loss":([%d.]+)' do list[#list + 1] = step .. " " .. loss end
      return list
    end
    expect.same(steps(process.contents(out .. "/log.jsonl")), steps(log))
  end })
end

table.insert(tests, { "--demo: own loops train its model on its data, and it judges before and after", function()
  for _, name in ipairs { "loop", "sft" } do
    local out = process.folder() .. "/out"
    local r = process.cftrun { "--demo", "recipes/" .. name .. ".lua", "steps=2", "batch=4", "out=" .. out }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\nword problems: 8 samples of 8 records")
    expect.match(r.out, "\nmodel of the demo: ")
    expect.match(r.out, "\ndemo: verdict accuracy %d+%.%d%% %-> ")
    expect.same(json.read(out .. "/run.json").settings.lr, { value = 1.2e-3, from = "demo" })
  end
end })

return tests
