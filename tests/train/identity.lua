-- A run that is resumed is the run that was saved: what is not the same is listed, and refused unless it is allowed.

local cft = require "cft"
local config = require "cft.config"
local data = require "cft.data.open"
local demo = require "cft.demo"
local exit = require "cft.base.exit"
local expect = require "tests.expect"
local files = require "cft.io.files"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local recipe = require "cft.recipe"

-- ---- a small world: a model, 24 records, other ones --------------------------------------------

local world

local function record(i)
  local r = demo.training(1)(i)
  return { instruction = r.instruction, input = r.input, output = r.output }
end

local function jsonl(name, from, count)
  local lines = {}
  for i = 1, count do lines[i] = json.encode(record(from + i - 1)) .. "\n" end
  return process.write(world .. "/" .. name, table.concat(lines))
end

local function make_world()
  if world then return end
  world = process.folder()
  local tok = demo.tokenizer(1)
  local model = cft.models.new { arch = "qwen2", d = 8, layers = 1, heads = 2, ffn = 16, vocab = tok:size(), tied = true,
                                 context = 512, seed = 1 }
  cft.checkpoint.export(model, world .. "/model", { tokenizer = tok })
  model:release()
  jsonl("data.jsonl", 0, 24)
  jsonl("other.jsonl", 100, 24)
  jsonl("tests.jsonl", 200, 8)
  jsonl("more_tests.jsonl", 300, 8)
  process.write(world .. "/benchmark.jsonl", json.encode { question = "How many eggs does a hen lay in a year of " .. ("days "):rep(20) } .. "\n")
end

-- Train, quietly. @tab t `args`, settings; `own`, more defaults; `load`, `fields`, `template`, `schedule`
-- @treturn table summary @treturn string what was said
local function run(folder, t, ...)
  local defaults = { model = world .. "/model", data = world .. "/data.jsonl", out = folder, template = "chatml", batch = 4,
                     tokens = 512, steps = 2, save_every = 1, lr = 1e-3, warmup = 0, device = "cpu", dtype = "f32" }
  for name, value in pairs(t.own or {}) do defaults[name] = value end
  local args = { [0] = "tests/train/identity.lua" }
  for _, a in ipairs(t) do args[#args + 1] = a end
  for _, a in ipairs { ... } do args[#args + 1] = a end
  local cfg = config.read(defaults, args)
  if t.schedule then cfg.schedule = t.schedule end
  if t.group_by then cfg.group_by = t.group_by end
  if t.made then cfg.template = t.made end
  for name in pairs(t.own or {}) do assert(cfg[name] ~= nil) end  -- as the recipe does that has it
  local print_, said, summary = print, {}, nil
  rawset(_G, "print", function(text) said[#said + 1] = tostring(text) end)
  local load = t.load and function(_) return t.load() end  -- which takes a path: `data` is set for all
  local ok, err = pcall(function()
    summary = recipe.run(cfg, { name = "identity", load = load, fields = t.fields, template = t.template })
  end)
  rawset(_G, "print", print_)
  if not ok then error(err, 0) end
  return summary, table.concat(said, "\n") .. "\n"
end

-- A folder with the first of two checkpoints of such a run.
local function begun(t)
  make_world()
  local folder = process.folder() .. "/out"
  run(folder, t)
  for _, name in ipairs(host.list(folder)) do
    if name:find "^step" and name ~= "step-000001" then files.remove(folder .. "/" .. name) end
  end
  return folder
end

local function step(folder) return host.kind(folder .. "/step-000002") end

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

-- A run that began as `before` and goes on as `after` is refused with this line, and goes on with its key allowed.
local function refuses(name, before, after, line, keys)
  test("refused: " .. name, function()
    local folder = begun(before)
    local err = expect.raises("resume: this run is not the one that made [^\n]*/step%-000001:\n", run, folder, after, "--resume")
    expect.match(err, "\n  " .. line .. "\n")
    expect.same({ exit.code(err), step(folder) }, { exit.FAILED })
    local allow = err:match "go on all the same with %-%-allow%-change ([%w_,]+), or start a new run with model="
    expect.same(allow, keys)
    local _, said = run(folder, after, "--resume", "--allow-change=" .. allow)
    expect.match(said, "resume: changed after step 1: " .. line .. "\n")
    expect.same(step(folder), "folder")
  end)
end

-- One that is the same, or differs in what is free, goes on.
local function goes_on(name, before, after, line)
  test("goes on: " .. name, function()
    local folder = begun(before)
    local _, said = run(folder, after, "--resume")
    expect.match(said, "\nresumed at step 1 from ")
    expect.same(step(folder), "folder")
    if line then expect.match(said, "\nresume: " .. line .. "\n") else expect.same(said:match "resume: [^\n]*", nil) end
  end)
end

-- ---- data --------------------------------------------------------------------------------------

local function file(name) return data.open(world .. "/" .. name) end

refuses("another file", {}, { load = function() return file "other.jsonl" end },
        "data: was 24 records, now other contents %(24 records%)", "data")
goes_on("the same file in another place", {}, { load = function() return file "data.jsonl" end })
refuses("a held-out part of another size", { "heldout=2" }, { "heldout=4" }, "data: was 22 records, now 20 records", "data,heldout")
refuses("a held-out part of another file", { "heldout=2" }, { load = function()
  return file "other.jsonl":split { heldout = 2, seed = 42 }
end }, "data: was 22 records, now other contents %(22 records%)", "data,heldout")
refuses("a file of other held-out records",
        { load = function() return file "data.jsonl", file "tests.jsonl" end },
        { load = function() return file "data.jsonl", file "more_tests.jsonl" end },
        "heldout: was 8 records, now other contents %(8 records%)", "heldout")
refuses("no held-out records any more", { load = function() return file "data.jsonl", file "tests.jsonl" end }, {},
        "heldout: was 8 records, now not set", "heldout")
refuses("select", { load = function() return file "data.jsonl":select { 0, 1, 2, 3, 4, 5, 6, 7 } end },
        { load = function() return file "data.jsonl":select { 0, 1, 2, 3, 4, 5, 6, 8 } end },
        "data: was 8 records, now other contents %(8 records%)", "data")
refuses("filter", { load = function() return file "data.jsonl":filter(function(_, i) return i < 12 end) end },
        { load = function() return file "data.jsonl":filter(function(_, i) return i >= 12 end) end },
        "data: was 12 records, now other contents %(12 records%)", "data")
local function same(r) return r end
local function copied(r) return { messages = r.messages } end
refuses("map", { load = function() return file "data.jsonl":map(same) end },
        { load = function() return file "data.jsonl":map(copied) end },
        "data: was 24 records, now other contents %(24 records%)", "data")
refuses("a list", { load = function() return data.list { record(0), record(1), record(2), record(3) } end },
        { load = function() return data.list { record(0), record(1), record(2), record(4) } end },
        "data: was 4 records, now other contents %(4 records%)", "data")
refuses("fields", { fields = function(r) return r end },
        { fields = function(r) return { instruction = r.instruction, input = r.input, output = r.output } end },
        "data: was 24 records, now other contents %(24 records%)", "data")

local function mixture(weight)
  return function()
    return require("cft.data.mix").new { { file "data.jsonl", weight = weight }, { file "other.jsonl", weight = 1 }, size = 24 }
  end
end
refuses("a mixture with other weights", { load = mixture(1) }, { load = mixture(3) },
        "data: was 48 records, now other contents %(48 records%)", "data")
goes_on("the same mixture", { load = mixture(2) }, { load = mixture(2) })

local function mapped(object)
  local function make(r) return object and r end
  return function() return file "data.jsonl":map(make) end
end
goes_on("a map that has no name, and it is said", { load = mapped(setmetatable({}, {})) },
        { load = mapped(setmetatable({}, {})) },
        "data: not compared: map is a function that has no name: its upvalue 'object' is an object")
test("refused: where data have no name, their path", function()
  local load = mapped(setmetatable({}, {}))
  local folder = begun { load = load }
  expect.raises("\n  setting data: was [^\n]*, now [^\n]*other.jsonl\n", run, folder,
                { load = load, "data=" .. world .. "/other.jsonl" }, "--resume")
end)
goes_on("a function that reads the settings", { load = mapped(config.read({}, {})) }, { load = mapped(config.read({}, {})) })

-- ---- settings ----------------------------------------------------------------------------------

for name, row in pairs {
  no_learned = { "drop", "was error, now drop" },
  all_learned = { "drop", "was error, now drop" }, double_bos = { "keep", "was error, now keep" },
  add_tokens = { "true", "was false, now true" }, limit_bad = { "3", "was 0, now 3" },
  deterministic = { "true", "was false, now true" }, lr = { "0.002", "was 0.001, now 0.002" },
  max_tokens = { "300", "was not set, now 300" },
} do
  refuses(name, {}, { name .. "=" .. row[1] }, name .. ": " .. row[2], name)
end
refuses("cut_side", { "length=cut_context" }, { "length=cut_context", "cut_side=left" }, "cut_side: was right, now left", "cut_side")
refuses("a setting that is left out", { "max_tokens=300" }, {}, "max_tokens: was 300, now not set", "max_tokens")
test("refused: decontaminate", function()
  local folder = begun {}
  expect.raises("\n  decontaminate: was not set, now [^\n]*benchmark.jsonl\n", run, folder,
                { "decontaminate=" .. world .. "/benchmark.jsonl" }, "--resume")
end)
refuses("the length of the schedule", {}, { "steps=4" }, "steps: was 2, now 4", "steps")
refuses("epochs", { "steps=", "epochs=1" }, { "steps=", "epochs=2" }, "steps: was 6, now 12", "steps")
goes_on("as many steps, said in another way", { "steps=6" }, { "steps=", "epochs=1" })
refuses("the dtype that auto came to", { "dtype=bf16" }, {}, "dtype: was bf16, now f32", "dtype")
refuses("a key of the recipe's own", { own = { depth = 2 } }, { own = { depth = 2 }, "depth=3" }, "depth: was 2, now 3", "depth")
refuses("a list of the recipe's own", { own = { sizes = { 1, 2 } } }, { own = { sizes = { 1, 2 } }, "sizes=1,3" },
        "sizes: was {%[1%]=1,%[2%]=2}, now {%[1%]=1,%[2%]=3}", "sizes")
goes_on("a free key of the recipe's own", { own = { note = config.key { "string", "a", resume = "free" } } },
        { own = { note = config.key { "string", "a", resume = "free" } }, "note=b" })
goes_on("free keys", { "heldout=2" }, { "heldout=2",  "eval_every=1", "save_every=2", "memory=1GiB", "context_loss=true", "autotune=false",
                           "template_check=off", "quarantine=/tmp/none" })
goes_on("the same in all", { "heldout=2" }, { "heldout=2" })

-- ---- functions, templates ------------------------------------------------------------------------

local function falling(by)
  return function(at, all) return 1 - by * at / all end
end
refuses("a schedule with another number in it", { schedule = falling(0.5) }, { schedule = falling(0.25) },
        "schedule: was a function, now other contents %(a function%)", "schedule")
refuses("another schedule", { schedule = falling(0.5) }, { "schedule=linear" }, "schedule: was a function, now linear", "schedule")
goes_on("the same schedule", { schedule = falling(0.5) }, { schedule = falling(0.5) })
local object = setmetatable({}, {})
local function odd() return object and 1 end
goes_on("a schedule that has no name, and it is said", { schedule = odd }, { schedule = odd },
        "schedule: not compared: schedule is a function that has no name: its upvalue 'object' is an object")
local function by_prompt(r) return r.messages[1].content end
local function all_alike() return "one" end
refuses("group_by", { group_by = by_prompt }, { group_by = all_alike },
        "group_by: was a function, now other contents %(a function%)", "group_by")
refuses("another template", {}, { "template=plain" }, "template: was chatml, now plain", "template")
refuses("an option of the template", { template = { system = "Short." } }, { template = { system = "Long and polite." } },
        "template option system: was Short%., now Long and polite%.", "template")
refuses("an option that is gone", { template = { turns = "last" } }, {}, "template option turns: was last, now not set", "template")
refuses("another function as template",
        { made = function(r) return { { text = r.messages[1].content }, { text = r.messages[2].content, learn = true } } end },
        { made = function(r) return { { text = r.messages[1].content }, { text = r.messages[2].content, learn = 2 } } end },
        "template: was a function, now other contents %(a function%)", "template")

-- ---- model and tokenizer -------------------------------------------------------------------------

test("refused: another tokenizer, another shape", function()
  local folder = begun {}
  local other = process.folder() .. "/model"
  local tok = demo.tokenizer(1)
  local model = cft.models.new { arch = "qwen2", d = 8, layers = 1, heads = 1, ffn = 16, vocab = tok:size() + 1, tied = true,
                                 context = 512, seed = 1 }
  tok:add_token("<another>", { special = true })
  cft.checkpoint.export(model, other, { tokenizer = tok })
  model:release()
  local err = expect.raises("resume: this run is not the one", run, folder, { "model=" .. other }, "--resume")
  expect.match(err, "\n  model heads: was 2, now 1\n")
  expect.match(err, "\n  model tokenizer: was %d+ tokens, now %d+ tokens\n")
  expect.match(err, "\n  model vocab: was %d+, now %d+\n")
  expect.match(err, "%-%-allow%-change model, or start")
end)

-- ---- --allow-change ------------------------------------------------------------------------------

test("--allow-change: each change must be named, and each name must be a change", function()
  local folder = begun {}
  local err = expect.raises("\n  batch: was 4, now 2\n  give", run, folder, { "batch=2", "lr=2" }, "--resume", "--allow-change=lr")
  expect.same(err:match "lr: was", nil)
  err = expect.raises("^%-%-allow%-change seed: seed did not change since [^\n]*/step%-000001$", run, folder, { "lr=2" }, "--resume",
                      "--allow-change=lr,seed")
  expect.same({ exit.code(err), step(folder) }, { exit.USAGE })
end)

test("--allow-change: what changed is kept in the summary and in later checkpoints, and is no change then", function()
  local folder = begun {}
  local summary = run(folder, { "lr=0.002" }, "--resume", "--allow-change=lr")
  expect.same(summary.changes, { "after step 1: lr: was 0.001, now 0.002" })
  expect.same(json.read(folder .. "/summary.json").changes, json.array { "after step 1: lr: was 0.001, now 0.002" })
  expect.same(assert(files.read_state(folder .. "/step-000002/state.msgpack")).changes, summary.changes)
  local _, said = run(folder, { "lr=0.002" }, "--resume")
  expect.match(said, "nothing to train: 2 of 2")
end)

-- ---- state of other versions -----------------------------------------------------------------------

-- The checkpoint with another state.
local function restate(folder, change)
  local old, save = folder .. "/step-000001", files.save(folder .. "/step-000001.new")
  local state = assert(files.read_state(old .. "/state.msgpack"))
  for name, kinds in pairs(state.moments) do
    for kind, array in pairs(kinds) do
      local t = cft.zeros(array.dims)
      array:copy_to(t)
      state.moments[name][kind] = t
    end
  end
  change(state)
  for _, name in ipairs(host.list(old)) do
    if name ~= "state.msgpack" and name ~= "checksums.xxh128" then
      local source = assert(io.open(old .. "/" .. name, "rb"))
      save:write(name, source:read "*a")
      source:close()
    end
  end
  save:write_state("state.msgpack", state)
  save:commit()
  for _, kinds in pairs(state.moments) do
    for _, t in pairs(kinds) do t:release() end
  end
  files.remove(old)
  assert(os.rename(folder .. "/step-000001.new", old))
end

-- What the first version kept.
local function version_1(state)
  state.version, state.identity, state.changes = 1, nil, nil
  state.settings = { batch = 4, tokens = 512, lr = 1e-3, template = "chatml", dtype = "f32", seed = 42 }
  state.data = file "data.jsonl":hash()
end

test("a checkpoint of version 1 is resumed: what it has is compared, the rest is listed", function()
  local folder = begun {}
  local whole = run(folder, {}, "--resume")
  files.remove(folder .. "/step-000002")
  restate(folder, version_1)
  expect.raises("\n  lr: was 0.001, now 0.002\n  steps: was 2, now 3\n", run, folder, { "lr=0.002", "steps=3" }, "--resume")
  expect.raises("\n  data: was other files, now 24 records\n", run, folder, { "data=" .. world .. "/other.jsonl" }, "--resume")
  local summary, said = run(folder, { "heldout=" .. world .. "/tests.jsonl" }, "--resume")
  expect.match(said, "resume: [^\n]*/step%-000001 was saved by an earlier program, state version 1\n")
  expect.match(said, "resume: not compared, since it was not kept: heldout, model arch, [^\n]*template turns, warmup\n")
  expect.same(summary.loss_last, whole.loss_last)
end)

test("a state of a version to come is refused by its number", function()
  local folder = begun {}
  restate(folder, function(state) state.version = 7 end)
  expect.raises("resume: [^\n]*/step%-000001 has state of version 7; this program reads 1 to 3: resume with the program that wrote "
                .. "it, or start a new run with model=", run, folder, {}, "--resume")
end)

test("a state that is not one is refused by the field that is not", function()
  local folder = begun {}
  for _, row in ipairs {
    { "'done' must be an integer, got nil", function(s) s.done = nil end },
    { "'done' must be 0 or more, got %-1", function(s) s.done = -1 end },
    { "'tokens' must be a number, got 'x'", function(s) s.done, s.tokens = 1, "x" end },
    { "'updates' must be an integer, got 0.5", function(s) s.tokens, s.updates = 1, 0.5 end },
    { "'identity' must be a table, got nil", function(s) s.updates, s.keep, s.identity = 1, s.identity, nil end },
    { "'lr' of the identity must be a table, got 5", function(s) s.identity = { lr = 5 } end },
    { "'key' of 'lr' of the identity must be a string, got nil", function(s) s.identity = { lr = {} } end },
    { "'changes' must be a string, got 5", function(s) s.identity, s.keep, s.changes = s.keep, nil, { 5 } end },
    { "'settings' must be a table, got nil", function(s) s.changes, s.version, s.data = nil, 1, "" end },
  } do
    restate(folder, row[2])
    local err = expect.raises("resume: [^\n]*/step%-000001/state.msgpack: " .. row[1] .. "$", run, folder, {}, "--resume")
    expect.same({ exit.code(err), step(folder) }, { exit.FAILED })
  end
end)

-- ---- log.jsonl -----------------------------------------------------------------------------------

test("log.jsonl is cut back to the step that is resumed from, and a torn line is mended", function()
  local folder = begun { "steps=4" }
  local function steps()
    local list = {}
    for line in io.lines(folder .. "/log.jsonl") do list[#list + 1] = assert(json.decode(line)).step end
    return list
  end
  expect.same(steps(), { 1, 2, 3, 4 })
  local log = assert(io.open(folder .. "/log.jsonl", "ab"))
  log:write '{"epoch":1,"grad_norm":0.31,"lea'
  log:close()
  run(folder, { "steps=4" }, "--resume")
  expect.same(steps(), { 1, 2, 3, 4 })
end)

return tests
