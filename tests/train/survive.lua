-- Whatever ends a run, the last good state is there; what is not good is never saved.

local checkpoint = require "cft.train.checkpoint"
local expect = require "tests.expect"
local host = require "cft.host"
local journals = require "cft.train.journal"
local process = require "tests.process"
local saves = require "cft.io.save"
local spikes = require "cft.train.spikes"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

-- A recipe with a model of its own, and further options of the run.
local function recipe(options)
  return process.write(process.folder() .. "/r.lua", ([[
local cft = require "cft"
local cfg = cft.config { data = %q, heldout = 0, steps = 6, batch = 8, tokens = 1024, lr = 1e-3, warmup = 0, device = "cpu",
                         dtype = "f32", save_every = 100, pause = 0 }
local _ = cfg.pause
cft.recipe.run(cfg, { name = "r", tokenizer = cft.demo.words, model = cft.demo.tiny,
  fields = function(r) return { instruction = r.question, output = r.answer } end,
  %s })
]]):format(process.shell("pwd", "."):match "[^\n]*" .. "/recipes/data/problems.jsonl", options or ""))
end

local function run(script, out, ...)
  return process.cftrun { script, "out=" .. out, ... }
end

local function steps_of(out)
  local list = {}
  for _, name in ipairs(host.list(out) or {}) do
    local step = name:match "^step%-(%d+)$"
    if step then
      list[#list + 1] = tonumber(step)
      expect.truthy(saves.verify(out .. "/" .. name))
    end
  end
  return list
end

test("an error in a hook or a schedule keeps what was won, and a resumed run is as one never stopped", function()
  local whole = process.folder() .. "/out"
  expect.same(run(recipe(), whole).code, 0)
  for _, row in ipairs {
    { "after_step = function(run, t) if t.step == 4 and cfg.pause == 1 then error 'broken hook' end end", 4, "broken hook" },
    { "stop = function(t) if t.step == 3 and cfg.pause == 1 then local x = nil; return x.y end end", 3, "attempt to index" },
  } do
    local script, out = recipe(row[1]), process.folder() .. "/out"
    local r = run(script, out, "pause=1")
    expect.same(r.code, 1, r.out)
    expect.match(r.err, row[3])
    expect.match(r.out, ("the state after step %d is saved in "):format(row[2]))
    expect.same(steps_of(out), { row[2] })
    r = run(script, out, "pause=0", "--resume", "--allow-change", "pause")
    expect.same(r.code, 0, r.err)
    local file = "/step-000006/model.safetensors"
    expect.truthy(process.contents(out .. file) == process.contents(whole .. file), "the same weights")
    local entries, last = journals.read(out)
    expect.same(last, 6)
    for step = 1, 6 do expect.truthy(entries[step], "entry " .. step) end
  end
  local out = process.folder() .. "/out"
  local script = process.write(process.folder() .. "/s.lua", (process.contents(recipe()):gsub("save_every = 100",
    "save_every = 100, schedule = function(step) if step == 3 then error 'no rate' end return 1 end")))
  local r = run(script, out)
  expect.same(r.code, 1)
  expect.match(r.err, "no rate")
  expect.same(steps_of(out), { 3 })
end)

test("a state with numbers that are not finite is never saved, and never ends with 0", function()
  for _, row in ipairs { { "lr=1e300" }, { "weight_decay=1e300" }, { "optimizer=lion", "lr=1e300" },
                         { "lr=1e300", "master=false", "dtype=bf16" } } do
    local out = process.folder() .. "/out"
    local r = run(recipe "after_step = function(run, t) end", out, "steps=2", unpack(row))
    expect.same(r.code, 5, table.concat(row, " ") .. r.err)
    expect.match(r.err, "step 1 made weights or moments that are no finite numbers.*no good state was saved before it")
    expect.same(steps_of(out), {})
  end
  local out = process.folder() .. "/out"
  local r = run(recipe "before_run = function(run) local rate = run.training.lr; run.training.lr = function(s) return s == 3 and 1e300 or rate(s) end end",
                out, "save_every=2")
  expect.same(r.code, 5)
  expect.match(r.err, "step 4 made weights.*the last good state is in .*step%-000002")
  expect.same(steps_of(out), { 2 })
end)

test("resumed at an epoch's end, with fewer steps left than between two saves, also with stream", function()
  for _, how in ipairs { "stream=false", "stream=true" } do
    local whole, cut = process.folder() .. "/whole", process.folder() .. "/cut"
    for _, out in ipairs { whole, cut } do
      expect.same(run(recipe(), out, how, "batch=16", "steps=12", "save_every=5").code, 0)
      expect.same(steps_of(out), { 5, 10, 12 })
    end
    saves.remove(cut .. "/step-000012")
    local r = run(recipe(), cut, how, "batch=16", "steps=12", "save_every=5", "--resume")
    expect.same(r.code, 0, r.err)
    expect.match(r.out, "resumed at step 10 ")
    local file = "/step-000012/model.safetensors"
    expect.truthy(process.contents(whole .. file) == process.contents(cut .. file), how)
    local a, b = journals.read(whole), journals.read(cut)
    for step = 1, 12 do expect.same(b[step].samples, a[step].samples, "step " .. step) end
  end
end)

-- Run in the background, send a signal at its step 2, and wait: its code, and what it said.
local function signalled(signal, options, ...)
  local out, script = process.folder() .. "/out", recipe(options)
  local words = { "cftrun", script, "out=" .. out, "steps=4000", ... }
  local text = process.shell(([[ %s > log 2>&1 & pid=$!
    while kill -0 $pid && ! grep -qs "^step 1/" log; do sleep 0.02; done
    kill -%s $pid; %s wait $pid; echo "code $?"; cat log ]]):format(table.concat(words, " "), signal,
    signal == "USR1" and "while kill -0 $pid && ! grep -q 'goes on' log; do sleep 0.02; done; kill -TERM $pid;" or ""), process.folder())
  return tonumber(text:match "code (%d+)"), text, out
end

local slow = "after_step = function() require('cft.host').sleep(0.05) end"

test("TERM and HUP end the run after its step, saved, with 143; USR1 saves and goes on", function()
  for signal, code in pairs { TERM = 143, HUP = 143, USR1 = 143 } do
    local got, text, out = signalled(signal, slow)
    expect.same(got, code, text)
    local steps = steps_of(out)
    expect.match(text, ("interrupted after step %d; saved in "):format(steps[#steps]))
    expect.same(#steps, signal == "USR1" and 2 or 1, text)
    if signal == "USR1" then expect.match(text, ("SIGUSR1: step %d is saved, and the run goes on"):format(steps[1])) end
  end
end)

test("--until ends in time, with 0, and says so", function()
  local out = process.folder() .. "/out"
  local r = run(recipe(slow), out, "steps=4000", "--until", "3s")
  expect.same(r.code, 0, r.err)
  local steps = steps_of(out)
  expect.match(r.out, ("stopped after step %d; saved in [^\n]*: the time of %%-%%-until is nearly over; %%-%%-resume goes on"):format(steps[1]))
  for _, wrong in ipairs { "soon", "-3h", "0", "3x", "h" } do
    r = run(recipe(), out, "--until", wrong)
    expect.same(r.code, 2)
    expect.match(r.err, "%-%-until wants a time such as 3h or 90m, got '" .. wrong:gsub("%-", "%%-") .. "'")
  end
end)

test("without save_every the clock says when, and the next checkpoint takes the place of the one before", function()
  local out = process.folder() .. "/out"
  local script = process.write(process.folder() .. "/s.lua", (process.contents(recipe(slow)):gsub("save_every = 100, ", "")))
  local r = run(script, out, "steps=12", "save_minutes=0.002")
  expect.same(r.code, 0, r.err)
  expect.same(steps_of(out), { 12 })
  expect.match(run(recipe(), process.folder() .. "/out", "save_minutes=1").err, "save_minutes: nothing reads it: save_every says when")
end)

test("a save that fails is said at once; the code is not 0, unless a later one succeeds", function()
  local out = process.folder() .. "/out"
  -- A file stands where the checkpoint of step 2 is to be; the same for the last one.
  local block = "after_step = function(run, t) if t.step == 1 then for _, n in ipairs { %s } do "
    .. "local f = io.open(('%%s/step-%%06d'):format(run.out, n), 'w') f:close() end end end"
  local r = run(recipe(block:format "2"), out, "save_every=2")
  expect.same(r.code, 0, r.err)
  expect.match(r.out, "the save of step 2 failed: .*there is a file of that name; there is none before it\n.*step 3/6")
  r = run(recipe(block:format "6"), process.folder() .. "/out", "save_every=2")
  expect.same(r.code, 1)
  expect.match(r.err, "the save of step 6 failed: .*the last checkpoint is .*step%-000004")
end)

test("a full disk is waited for, and harms nothing older", function()
  local disk = process.folder()
  if process.shell("mount -t tmpfs -o size=24m none " .. disk .. " && echo mounted", "."):sub(1, 7) ~= "mounted" then
    return "skip", "a small disk is mounted, which this user may not"
  end
  local ok, err = pcall(function()
    local script = recipe("after_step = function(run, t) if t.step == 3 then local f = assert(io.open('" .. disk
      .. "/ballast', 'w')) f:write(('x'):rep(17 * 2^20)) f:close() end require('cft.host').sleep(0.1) end")
    local text = process.shell(("cftrun %s out=%s/out save_every=2 keep=2 > log 2>&1 & pid=$!; while ! grep -q 'no room' log; do "
      .. "sleep 0.05; kill -0 $pid || break; done; ls %s/out; rm %s/ballast; wait $pid; echo code $?; cat log")
      :format(script, disk, disk, disk), process.folder())
    expect.match(text, "step%-000002\n")
    expect.match(text, "code 0\n", text)
    expect.match(text, "no room for the checkpoint of step 4: .*it is tried again until there is, and [^\n]*step%-000002 stays")
    expect.same(steps_of(disk .. "/out"), { 4, 6 })
  end)
  process.shell("umount -l " .. disk, ".")
  if not ok then error(err, 0) end
end)

test("a file that is read in place is shortened: an error that names it, no signal, and the state is saved", function()
  local out, mapped = process.folder() .. "/out", process.folder() .. "/mapped.safetensors"
  local files, tensor = require "cft.io.files", require "cft.engine.tensor"
  files.write_tensors(mapped, { { name = "w", tensor = tensor.ones { 200000 } } })
  local script = recipe(([[after_step = function(run, t)
    if t.step == 2 then
      HELD = cft.files.safetensors(%q)
      os.execute("truncate -s 0 %s")
      assert(HELD:tensor("w"):to_host()[150000] == 0)
    end end]]):format(mapped, mapped):gsub("HELD", "_G.held"))
  script = process.write(script, "rawset(_G, 'held', false)\n" .. process.contents(script))
  local r = run(script, out)
  expect.same(r.code, 1, r.out)
  expect.match(r.err, "mapped%.safetensors: became shorter while it was in use")
  expect.same(steps_of(out), { 2 })
end)

test("any byte of a checkpoint flipped: it is named, and the one before is taken", function()
  local out = process.folder() .. "/out"
  expect.same(run(recipe(), out, "save_every=3").code, 0)
  local files, said = {}, nil
  for line in io.lines(out .. "/step-000006/checksums.xxh128") do files[#files + 1] = line:match "^%x+  (.*)" end
  files[#files + 1] = "checksums.xxh128"
  local log = { say = function(_, line, ...) said = line:format(...) end }
  for place = 1, 200 do
    local path = out .. "/step-000006/" .. files[place % #files + 1]
    local file = assert(io.open(path, "r+b"))
    local size = file:seek "end"
    local at = math.floor((place * 7919 % 10007) / 10007 * size)
    file:seek("set", at)
    local byte = file:read(1):byte()
    file:seek("set", at)
    file:write(string.char((byte + 1 + place % 255) % 256))
    file:flush()
    said = nil
    expect.same(checkpoint.newest(out, log), out .. "/step-000003", path)
    expect.match(said, "skipped .*step%-000006: .*" .. path:match "[^/]*$":gsub("[%-%.]", "%%%0"))
    file:seek("set", at)
    file:write(string.char(byte))
    file:close()
  end
  expect.same(checkpoint.newest(out, log), out .. "/step-000006")
end)

test("outliers are judged by the steps before them", function()
  local s = spikes.new("skip", 6)
  for i = 1, 16 do
    expect.same(s:judge(100, 100), nil)
    s:accept(2 + i % 3 / 10, 1)
  end
  expect.same(s:judge(2.3, 1.05), nil)
  expect.same(s:judge(2.3, 1.2).what, "norm")
  expect.same(s:judge(9, 1).what, "loss")
  local again = spikes.new("skip", 6)
  again:restore(s:state())
  expect.same(again:judge(9, 1), s:judge(9, 1))
end)

test("a planted outlier is skipped, reduced, or ends the run, and its sample is named", function()
  local folder = process.folder()
  local lines = {}
  for i = 1, 120 do
    local answer = i == 77 and ("zz qq xx jj "):rep(12) or ("the sum is %d"):format(i % 5)
    lines[i] = ('{"question": "what is %d?", "answer": "%s"}'):format(i % 7, answer)
  end
  local data = process.write(folder .. "/data.jsonl", table.concat(lines, "\n") .. "\n")
  local function one(policy, ...)
    local out = process.folder() .. "/out"
    return run(recipe(), out, "data=" .. data, "batch=4", "steps=60", "spike=" .. policy, ...), out
  end
  local r, out = one "skip"
  expect.same(r.code, 0, r.err)
  local step = tonumber(r.out:match "step (%d+): the [^\n]*data.jsonl[^\n]*77[^\n]*nothing was updated")
  expect.truthy(step, r.out)
  expect.same((journals.read(out))[step].spike, "skip")
  r = one "reduce"
  expect.same(r.code, 0, r.err)
  expect.match(r.out, ("step %d: the [^\n]*77[^\n]*its norm was reduced to"):format(step))
  r, out = one "stop"
  expect.same(r.code, 1)
  expect.match(r.err, ("step %d: the [^\n]*77[^\n]*nothing was updated: spike=stop"):format(step))
  expect.same(steps_of(out), { step - 1 })
end)

return tests
