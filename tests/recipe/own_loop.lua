-- A run at the prompt and in a loop of the author's: how it ends, whatever ends it, and what is written of that.

local cft = require "cft"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

local START = [[
local cft = require "cft"
local ffi = require "ffi"
ffi.cdef "int raise(int signal);"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024, steps = 6,
                         heldout = 8, lr = 1e-3, device = "cpu", dtype = "f32" }
local run = cft.recipe.prepare(cfg, { name = "own", fields = function(r) return { instruction = r.question, output = r.answer } end,
                                      tokenizer = cft.demo.words, model = cft.demo.tiny })
]]

-- Run such a loop. @treturn table as process.cftrun @treturn table run.json @treturn string out
local function run(body, ...)
  local folder = process.folder()
  local out = folder .. "/out"
  local r = process.cftrun { process.write(folder .. "/own.lua", START .. body), "out=" .. out, ... }
  return r, json.read(out .. "/run.json"), out
end

local function steps_of(out)
  local last
  for line in io.lines(out .. "/log.jsonl") do last = json.decode(line).step or last end
  return last
end

local tests = {}

-- { name, the loop, exit code, run.json's status, the last step in the log, that of the checkpoint, what is said }
for _, case in ipairs {
  { "to its end", "for t in run:steps() do t.twice = 2 * t.loss end print(run.summary.steps)", 0, "finished", 6, 6, "\n6\n$" },
  { "left by break", "for t in run:steps() do if t.step == 2 then break end end print 'behind'", 0, "stopped", 2, 2,
    "\nbehind\n.*stopped after step 2; saved in [^\n]*: its loop ended\n" },
  { "left by break, finished by hand", "for t in run:steps() do if t.step == 2 then break end end print(run:finish().steps, run:finish().stopped)",
    0, "stopped", 2, 2, "\n2\tits loop ended\n$" },
  { "written out", "local trainer = run:trainer() while trainer:goes_on() do trainer:step() end run:finish()", 0, "finished", 6, 6, "\nsaved in " },
  { "one step and no more", "run:trainer():step()", 0, "stopped", 1, 1, "stopped after step 1; saved" },
  { "an error in it", "for t in run:steps() do if t.step == 3 then error 'mine' end end", 1, "failed", 3, 3, "" },
  { "Ctrl-C in it", "for t in run:steps() do if t.step == 3 then ffi.C.raise(2) end end print 'not reached'", 130, "interrupted", 3, 3,
    "\ninterrupted after step 3; saved in [^\n]*/step%-000003\n$" },
  { "Ctrl-C, in steps by hand", "local trainer = run:trainer() for i = 1, 6 do trainer:step() if i == 3 then ffi.C.raise(2) end end", 130,
    "interrupted", 3, 3, "\ninterrupted after step 3; saved" },
  { "more steps than there are", "local trainer = run:trainer() for i = 1, 7 do trainer:step() end", 1, "failed", 6, 6, "" },
} do
  local name, body, code, status, logged, saved, says = unpack(case, 1, 7)
  table.insert(tests, { "a loop: " .. name, function()
    local r, record, out = run(body)
    expect.same(r.code, code, r.out .. r.err)
    expect.match(r.out, says)
    expect.same({ record.status, steps_of(out) }, { status, logged })
    expect.truthy(type(record.ended) == "string")
    local path = saved and ("%s/step-%06d"):format(out, saved)
    expect.same(path and cft.files.verify(path) or nil, path and true or nil)
    if saved and status ~= "failed" then expect.same(json.read(out .. "/summary.json").steps, saved) end
    if status == "interrupted" or status == "stopped" then  -- and it goes on
      local again = process.cftrun { out:gsub("/out$", "/own.lua"), "out=" .. out, "--resume" }
      expect.truthy(again.out:find("resumed at step " .. saved, 1, true), again.out)
    end
  end })
end

-- `cftrun -i` stands before the first step of such a loop; what is typed makes the steps.
table.insert(tests, { "-i: by hand, over a run that is there, and a dry run", function()
  local folder = process.folder()
  local script, out = process.write(folder .. "/own.lua", START .. "for t in run:steps() do print('own ' .. t.step) end"), folder .. "/out"
  local function hand(typed, ...)
    local r = process.cftrun { "-i", script, "out=" .. out, input = typed, ... }
    return r, (json.read(out .. "/run.json") or {}).id
  end
  local r, first = hand "run:step().step + 40\n"
  expect.same(r.code, 0, r.err)
  expect.match(r.out, "\n41\n")
  expect.truthy(first and not r.out:find "own 1")  -- the loop makes no step after the prompt
  local refused, same = hand "1 + 41\n"
  expect.same({ refused.code, same }, { 2, first })
  expect.match(refused.err, "holds a run already")
  r, same = hand("1 + 41\n", "--overwrite")
  expect.same({ r.code, same }, { 0, first })  -- no step: what was there stays
  expect.match(r.out, "\n42\nno step was made, and nothing was written\n$")
  local _, second = hand("run:step()\n", "--overwrite")
  expect.truthy(second and second ~= first)
  r, same = hand("1 + 41\n", "--dry-run", "--overwrite")
  expect.same({ r.code, same, r.out:find "\n42\n" }, { 0, second })
  expect.match(r.out, "dry run: all is there; nothing was trained\n$")
end })

-- The run starts the prompt that attaches to it, and ends when a line has run in it.
local ATTACHED = [[
local host = require "cft.host"
for t in run:steps() do
  if t.step == 1 then
    os.execute(("c=$(readlink /proc/$PPID/exe); echo 'trainer.done + 1000' | timeout 60 $c attach %s >%s.said 2>&1 &"):format(run.out, run.out))
  end
  if host.kind(run.out .. "/attached.jsonl") or t.step == 2 and not cfg.attach then break end
end
os.execute(("for i in $(seq 200); do [ -s %s.said ] && break; sleep 0.05; done"):format(run.out))
]]
table.insert(tests, { "a run changed by hand says so when it goes on, and in its report", function()
  local r, record, out = run(ATTACHED, "steps=2000")
  expect.same({ r.code, record.changed_by_hand }, { 0, true }, r.err)
  local again = process.cftrun { out:gsub("/out$", "/own.lua"), "out=" .. out, "--resume", "steps=2000" }
  expect.match(again.out, "this run was changed by hand: [^\n]*/attached%.jsonl has the lines")
  expect.same(json.read(out .. "/run.json").changed_by_hand, true)
  expect.match(process.cftrun({ "log", out }).out, "changed by hand %(attached%.jsonl%)")
  expect.same(process.cftrun({ "report", out }).code, 0)
  expect.match(process.contents(out .. "/report.html"), "changed by hand")
end })
table.insert(tests, { "attach=false: nobody comes in", function()
  local r, record, out = run(ATTACHED, "attach=false")
  expect.same({ r.code, record.changed_by_hand }, { 0, false }, r.err)
  expect.match(process.contents(out .. ".said"), "cannot be reached: nobody listens; .* was told attach=false")
end })

table.insert(tests, { "what a loop asks for twice, or too late, and options of the usual loop", function()
  local function refuses(message, body)
    local r = run(body)
    expect.same(r.code, 1, r.out)
    expect.match(r.err, message)
  end
  refuses("own.lua:8: run:trainer: this run has its trainer already; give options the first time", "run:trainer() run:trainer { keep = 1 }")
  refuses("run:trainer: unknown option 'after_stp'; did you mean 'after_step'%?", "run:trainer { after_stp = print }")
  refuses("recipe.prepare: 'stop' is the usual loop's; give it to run:trainer { }",
          "cft.recipe.prepare(cfg, { name = 'x', stop = print })")
  refuses("the loop gave 'lr', which the log has itself", "for t in run:steps() do t.lr = 3 end")
end })
table.insert(tests, { "parts of the author's own: model, rates, optimizer", function()
  local body = [[
    local shape = { vocab = run.tokenizer:size(), device = "cpu", seed = 3 }
    for name, value in pairs(cft.demo.tiny) do shape[name] = value end
    shape.layers = 1
    local model = cft.models.new(shape)
    run:trainer { model = model, lr = function(step) return RATE / (step + 1) end, optim = cft.optim.lion(model, { weight_decay = 0.1 }) }
    for t in run:steps() do print(("rate %g"):format(t.lr)) end
    print(run:model() == model, tostring(run))
  ]]
  local r, record = run((body:gsub("RATE", "1e-3")), "steps=3")
  expect.same(r.code, 2, r.out .. r.err)  -- lr= of the recipe does nothing beside these rates
  expect.match(r.err, "^cftrun: lr: nothing reads it, and the recipe sets it")
  expect.same(record and record.status, "failed", r.err)
  r, record = run((body:gsub("RATE", "cfg.lr")), "steps=2")
  expect.same({ r.code, r.err }, { 0, "" }, r.out)
  expect.match(r.out, "\nrate 0.001\n.*\nrate 0.0005\n.*\ntrue\trun own: step 2 of 2, [^\n]*on cpu, in ")
  expect.truthy(record.model.parameters < 250000, "one layer of two")
end })

return tests
