-- The folder of a run: docs/run-folder.md beside what is written, whose it is, and what a second run may do to it.

local cft = require "cft"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local run_folder = require "cft.recipe.run_folder"
local states = require "cft.io.state"

local contents = process.contents
local PAGE = "docs/run-folder.md"

local function run(out, ...)
  return process.cftrun { "recipes/sft.lua", "device=cpu", "dtype=f32", "steps=3", "heldout=0", "save_every=1", "out=" .. out, ... }
end

-- A folder with such a run in it.
local function made(...)
  local out = process.folder() .. "/out"
  local r = run(out, ...)
  expect.same({ r.code, r.err }, { 0, "" }, r.out)
  return out, r
end

-- All that is in a folder, with contents.
local function all_of(folder, list)
  list = list or {}
  for _, name in ipairs(host.list(folder)) do
    local path = folder .. "/" .. name
    if host.kind(path) == "folder" then all_of(path, list)
    elseif name ~= ".lock" then list[path] = contents(path) end  -- whoever asks last is named there
  end
  return list
end

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = assert(json.decode(line)) end
  return list
end

-- The names of the first column of the page's table below a line.
local function column(below)
  local list = {}
  local text = contents(PAGE):match(below .. ".-\n|%-[^\n]*\n(.-)\n\n")
  for row in (text .. "\n"):gmatch "| ([^|]*) |[^\n]*\n" do
    for name in row:gmatch "`([^`]*)`" do list[#list + 1] = name end
  end
  return list
end

local function refused(out, ...)
  local before = all_of(out)
  local r = run(out, ...)
  expect.same(r.code, 2, r.out .. r.err)
  expect.same(all_of(out), before)
  return r.err
end

return {
  { "the page has every file that the program may write, and the program every file of the page", function()
    local names = {}
    for i, file in ipairs(run_folder.files) do names[i] = file.name end
    expect.same(column "\n| file | written by", names)
  end },
  { "a run's folder has the page's files and no other; run.json and log.jsonl have the page's fields", function()
    local out = made("heldout=20", "eval_every=2")
    local record = assert(json.read(out .. "/run.json"))
    for _, name in ipairs(host.list(out)) do expect.truthy(run_folder.is_file(name), name) end
    for _, name in ipairs { ".lock", "run.json", "log.jsonl", "summary.json", "step-000003" } do
      expect.truthy(host.kind(out .. "/" .. name), name)
    end
    local told, real = {}, {}
    for _, name in ipairs(column "\n## run.json\n") do told[name] = true end
    for name in pairs(record) do
      expect.truthy(told[name], "run.json has " .. name)
      real[name] = true
    end
    for _, name in ipairs { "format", "id", "status", "started", "ended", "recipe", "command", "settings", "versions", "host",
                            "device", "seed", "data", "heldout", "template", "model", "steps", "resumed", "changed_by_hand" } do
      expect.truthy(real[name] ~= nil, name)
    end
    expect.same({ record.format, record.status, record.seed, record.steps, record.changed_by_hand }, { 1, "finished", 42, 3, false })
    expect.match(record.id, "^" .. ("%x"):rep(32) .. "$")
    expect.match(record.started, "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$")
    expect.truthy(record.ended >= record.started)
    expect.same(record.settings.steps, { value = 3, from = "command line" })
    expect.same(record.settings.lr, { value = 1e-3, from = "recipe" })
    expect.same(record.settings.clip.from, "recipe")
    expect.same(record.settings.beta1, { value = 0.9, from = "default" })
    expect.same(record.recipe.text, contents "recipes/sft.lua")
    expect.same(record.data, { { path = "recipes/data/problems.jsonl", bytes = #contents "recipes/data/problems.jsonl", records = 160,
                                 hash = cft.data.open("recipes/data/problems.jsonl", { schema = "none" }):hash() } })
    expect.match(record.template.text, "user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>$")
    expect.same({ record.model.class, record.model.dtype }, { "qwen2", "f32" })

    local lines = lines_of(out .. "/log.jsonl")
    expect.same(lines[1], { log = 1, run = record.id, started = record.started })
    expect.same(#lines, 4)
    told = {}
    for i, name in ipairs(column "\n## log.jsonl\n") do told[name] = i end
    local text, at = contents(out .. "/log.jsonl"):match "\n({[^\n]*heldout_loss[^\n]*)", 0
    for name in text:gsub("{[^{}]*}", ""):gsub("{[^{}]*}", ""):gmatch '"([%w_]+)":' do
      if told[name] then
        expect.truthy(told[name] > at, name .. " stands in the page's order")
        at = told[name]
      end
    end
    for name in pairs(json.decode(text)) do expect.truthy(told[name], "log.jsonl has " .. name) end
    local digits = tostring(json.decode(text).loss):gsub("^[0.]*", ""):gsub("%.", "")
    expect.truthy(#digits <= 6, "six digits of " .. digits)
  end },

  { "a second run into a folder is refused, and nothing there changes; --overwrite removes the first", function()
    local out = made()
    process.write(out .. "/notes.txt", "mine")
    local id = json.read(out .. "/run.json").id
    local err = refused(out)
    expect.match(err, "^cftrun: out '[^\n]*/out' holds a run already %(recipes/sft.lua, %d[^\n]*Z, finished, step%-000003%), and a folder "
      .. "belongs to one run: go on with it by %-%-resume, remove it and begin anew by %-%-overwrite, or give this run another out=\n$")
    expect.match(refused(out, "--dry-run"), "holds a run already")
    for _, way in ipairs { "--overwrite", "--resume" } do
      local before, r = all_of(out), run(out, "--dry-run", way)
      expect.same({ r.code, r.err }, { 0, "" })
      expect.same(all_of(out), before)
    end
    refused(out, "--overwrite", "--resume")
    refused(out, "--overwrite", "ranks=3")          -- a mistake is found before anything is removed
    refused(out, "--overwrite", "model=" .. out .. "/step-000003")  -- it would read what it removes
    local r = run(out, "steps=1", "--overwrite")
    expect.same({ r.code, r.err }, { 0, "" })
    expect.same({ host.kind(out .. "/step-000003"), host.kind(out .. "/step-000001") }, { nil, "folder" })
    expect.same({ contents(out .. "/notes.txt"), #lines_of(out .. "/log.jsonl") }, { "mine", 2 })
    expect.truthy(json.read(out .. "/run.json").id ~= id, "another id")
  end },
  { "a run that was refused before its first step leaves a folder that is free", function()
    local out = process.folder() .. "/out"
    expect.same(run(out, "max_tokens=3").code, 1)
    expect.same(run_folder.look(out), nil)
    expect.same(run(out, "steps=1", "--overwrite").code, 0)
  end },

  { "--resume keeps the run's id and its log; no step stands twice", function()
    local out = made()
    local first = json.read(out .. "/run.json")
    cft.files.remove(out .. "/step-000003")
    local log = assert(io.open(out .. "/log.jsonl", "ab"))
    log:write '{"step":2}\nnot JSON\n{"step":4,"ti'
    log:close()
    local r = run(out, "--resume")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "log%.jsonl: 2 lines are no step's, or are not in order, and are gone: lines 5, 6\n")
    local record, steps = json.read(out .. "/run.json"), {}
    expect.same({ record.id, record.started, #record.resumed, record.resumed[1].at_step }, { first.id, first.started, 1, 2 })
    for i, line in ipairs(lines_of(out .. "/log.jsonl")) do steps[i] = line.step or line.run end
    expect.same(steps, { first.id, 1, 2, 3 })
    expect.same(states.read(out .. "/step-000003/state.msgpack").run, first.id)
  end },
  { "--resume takes no checkpoint of another run", function()
    local mine, other = made("steps=2"), made("seed=3")
    os.execute(("cp -r '%s/step-000003' '%s/'"):format(other, mine))  -- as two runs into one folder left it
    local r = run(mine, "steps=2", "--resume")
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nskipped [^\n]*/step%-000003: it is of another run, %x+\n.*resumed at step 2 from [^\n]*/step%-000002\n")
    local err = refused(mine, "--resume", other .. "/step-000003")
    expect.match(err, "^cftrun: resume: [^\n]*/step%-000003 is of the run %x+, and out '[^\n]*' holds the run %x+; "
      .. "give its own out=, or another one\n$")
    local elsewhere = process.folder() .. "/new"
    r = run(elsewhere, "seed=3", "steps=3", "--resume", other .. "/step-000002")
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.same(json.read(elsewhere .. "/run.json").id, json.read(other .. "/run.json").id)
  end },
  { "while a run writes, a second process is refused, and told who writes", function()
    local out, here = process.folder() .. "/out", process.shell("pwd", "."):match "[^\n]*"
    local run = ("cftrun %s/recipes/sft.lua device=cpu heldout=0 data=%s/recipes/data/problems.jsonl out=%s"):format(here, here, out)
    local text = process.shell(("%s steps=2000 > log 2>&1 & pid=$!; while kill -0 $pid && ! grep -q '^step 1/' log; do sleep 0.05; "
      .. "done; %s steps=2 --resume > other 2>&1; echo code $?; cat other; kill -9 $pid; echo pid $pid"):format(run, run), process.folder())
    expect.match(text, "code 1\n")
    expect.match(text, "another run is writing into this folder, process " .. text:match "pid (%d+)" .. " on [^\n]*; give this one another out=")
  end },
  { "the demo's own folder is replaced by the next demo", function()
    local here = process.folder()
    for _ = 1, 2 do
      expect.match(process.shell("cftrun --demo " .. process.shell("pwd", "."):match "[^\n]*"
        .. "/recipes/sft.lua steps=1 batch=2 2>&1 | grep -c '^saved in'", here), "^1")
    end
    expect.match(process.shell("ls checkpoints/demo", here), "^data.json\njournal.msgpack\nlog.jsonl\nrun.json\nsamples.jsonl\nstep%-000001\nsummary.json\n$")
  end },
}
