-- What an author adds to the usual loop, or to an own one: metrics, measures, stops, the best and which checkpoints stay.

local cft = require "cft"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local retention = require "cft.train.retention"

local START = [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024, steps = 6,
                         lr = 1e-3, heldout = 8, device = "cpu", dtype = "f32" }
local function fields(r) return { instruction = r.question, output = r.answer } end
]]

-- Run a recipe with these options, Lua text. @treturn table as process.cftrun @treturn string its out=
local function run(options, ...)
  local folder = process.folder()
  local path = process.write(folder .. "/r.lua", START .. ([[
    cft.recipe.run(cfg, { name = "r", fields = fields, tokenizer = cft.demo.words, model = cft.demo.tiny, %s })
  ]]):format(options))
  local out = folder .. "/out"
  return process.cftrun { path, "out=" .. out, ... }, out, path
end

local function good(...)
  local r, out, path = run(...)
  expect.same({ r.code, r.err }, { 0, "" }, r.out)
  return out, r.out, path
end

local function lines_of(out)
  local list = {}
  for line in io.lines(out .. "/log.jsonl") do
    local t = json.decode(line)
    if t.step then list[t.step] = t end
  end
  return list
end

local function checkpoints(out)
  local list = {}
  for _, name in ipairs(host.list(out) or {}) do
    local step = tonumber(name:match "^step%-(%d+)$")
    if step then list[#list + 1] = step .. (host.kind(out .. "/" .. name .. "/state.msgpack") and "" or " bare") end
  end
  return table.concat(list, ", ")
end

local function refuses(message, options, ...)
  local args = { ... }
  return { "refuses " .. options:sub(1, 60), function()
    local r, out = run(options, unpack(args))
    expect.truthy(r.code ~= 0, r.out)
    expect.match(r.err, message)
    -- A step that was made is kept, whatever came behind it.
    local made = host.kind(out .. "/log.jsonl") and #lines_of(out) or 0
    expect.same(checkpoints(out), made > 0 and tostring(made) or "")
  end }
end

return {
  { "before_run, after_step, evaluate: what they return or set stands at the end of the step's line", function()
    local out, said = good([[
      before_run = function(run) print("before", run:trainer().done, run:model():count() > 0) end,
      after_step = function(run, t) t.set = run:trainer().done; return { half = t.loss / 2, word = "yes", sure = true } end,
      evaluate = function(run, t) return { zeal = 10 * t.step } end,
    ]], "eval_every=4")
    local lines = lines_of(out)
    expect.match(said, "\nbefore\t0\ttrue\n")
    for step, t in ipairs(lines) do
      expect.same({ t.set, t.word, t.sure, t.zeal }, { step, "yes", true, (step == 4 or step == 6) and 10 * step or nil })
      expect.close(t.half, t.loss / 2, 1e-5)
    end
    local text = process.contents(out .. "/log.jsonl"):match '\n({"step":4,[^\n]*)'
    expect.match(text, '"heldout_ledger":.*"half":[%d.]+,"set":4,"sure":true,"word":"yes","zeal":40}$')
    expect.match(said, "step 4/6 [^\n]*  held out %d+%.%d+  zeal 40  ")
    expect.same(json.read(out .. "/summary.json").metrics.zeal, 60)
  end },
  refuses("after_step gave 'loss', which the log has itself; give it another name", "after_step = function(run, t) return { loss = 1 } end"),
  refuses("after_step gave 'lr', which the log has itself", "after_step = function(run, t) return { lr = 1 } end"),
  refuses("after_step gave 'grad_norm', which the log has itself", "after_step = function(run, t) t.grad_norm = 0 end", "steps=2"),
  refuses("after_step gave 'list', a table; a metric has a name, and is a number, a text or a boolean",
          "after_step = function() return { list = {} } end"),
  refuses("evaluate gave a number; a table of names and values is wanted, or nothing", "evaluate = function() return 3 end", "steps=1"),
  refuses("best: 'word' is a string; a number is wanted", "best = { 'word', 'max' }, after_step = function() return { word = 'a' } end"),
  refuses("best names a metric and its direction, such as { \"heldout_loss\", \"min\" }", "best = { 'loss', 'down' }"),
  refuses("recipe.run: unknown option 'after_stepp'; did you mean 'after_step'%?", "after_stepp = print"),
  refuses("recipe.run: unknown option 'eval'; did you mean 'evaluate'%?", "eval = print"),
  refuses("keep: unknown option 'newst'; did you mean 'newest'%?", "keep = { newst = 2 }"),
  refuses("keep: newest is wanted beside best and every", "keep = { best = 2 }"),

  { "stop: the step is measured and saved, and everybody is told why", function()
    local out, said = good [[ stop = function(t) return t.step == 3 and "three is enough" end ]]
    expect.match(said, "\nstep 3/6 [^\n]*held out %d[^\n]*\nstopped after step 3; saved in [^\n]*/step%-000003: three is enough\n")
    expect.same({ checkpoints(out), #lines_of(out) }, { "3", 3 })
    expect.truthy(lines_of(out)[3].heldout_loss)
    local summary = json.read(out .. "/summary.json")
    expect.same({ summary.stopped, summary.steps, json.read(out .. "/run.json").status }, { "three is enough", 3, "stopped" })
  end },
  { "best: each new best value is saved, and outlasts --resume; keep leaves it", function()
    local values = "({ 5, 3, 4, 6, 7, 8 })[t.step]"
    local options = ([[ after_step = function(run, t) return { rate = %s } end, best = { "rate", "min" }, keep = 1,
      evaluate = function(run, t) return { seen = t.since_best or -1 } end ]]):format(values)
    local out, said, path = good(options, "steps=6", "save_every=1", "eval_every=1")
    expect.same(checkpoints(out), "2, 6")
    expect.match(said, "\nbest rate 3 at step 2\n")
    expect.same(json.read(out .. "/summary.json").best, { metric = "rate", value = 3, step = 2 })
    local state = cft.files.read_state(out .. "/step-000006/state.msgpack")
    expect.same(state.best, { metric = "rate", value = 3, step = 2 })
    local r = process.cftrun { path, "out=" .. out, "steps=8", "save_every=1", "--resume", "--allow-change", "steps,lr", "lr=1e-4" }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.same(checkpoints(out), "2, 8")
  end },
  { "t.since_best: an early stop needs no memory of its own", function()
    local out = good([[ after_step = function(run, t) return { rate = math.abs(t.step - 2) } end, best = { "rate", "min" },
      stop = function(t) return t.since_best >= 2 end ]])
    expect.same({ #lines_of(out), json.read(out .. "/run.json").status }, { 4, "stopped" })
  end },

  { "keep decides by steps and values alone", function()
    local function list(...)
      local made = {}
      for i, value in ipairs { ... } do made[i] = { step = 10 * i, value = value or nil } end
      return made
    end
    local function stays(keep, direction, ...)
      local all = list(...)
      local gone, bare = retention.decide(all, retention.rule(keep, true), direction)
      local names, out = {}, {}
      for _, c in ipairs(all) do names[c] = tostring(c.step) end
      for _, c in ipairs(bare) do names[c] = c.step .. " bare" end
      for _, c in ipairs(gone) do names[c] = nil end
      for _, c in ipairs(all) do out[#out + 1] = names[c] end
      return table.concat(out, ", ")
    end
    expect.same(stays(2, nil, 1, 2, 3, 4), "30, 40")
    expect.same(stays(1, "max", 1, 9, 3, 4), "20, 40")
    expect.same(stays(1, "min", 1, 9, 3, 4), "10, 40")
    expect.same(stays({ newest = 1, best = 0 }, "min", 1, 9, 3, 4), "40")
    expect.same(stays({ newest = 1, best = 2 }, "max", 5, 9, 5, 4), "10, 20, 40")   -- of equals, the first
    expect.same(stays({ newest = 1, every = 20 }, nil, 1, 2, 3, 4, 5), "20, 40, 50")
    expect.same(stays({ newest = 2, state = "newest" }, nil, 1, 2, 3), "20 bare, 30")
    expect.same(stays({ state = "newest" }, "max", 1, false, 3), "10 bare, 20 bare, 30")
    expect.same(stays({}, nil, 1, 2), "10, 20")
    expect.same(stays(1, "max", false, false), "20")
  end },
  { "keep on the command line; weights alone are a model, and nothing to resume from", function()
    expect.same(checkpoints((good("keep = 3", "steps=4", "save_every=1", "keep=2"))), "3, 4")
    local out, _, path = good("keep = { newest = 2, state = 'newest' }", "steps=3", "save_every=1")
    expect.same(checkpoints(out), "2 bare, 3")
    expect.truthy(cft.files.verify(out .. "/step-000002"))
    local m = assert(cft.models.load(out .. "/step-000002", { device = "cpu" }))
    m:release()
    os.execute(("echo damage >> '%s/step-000003/model.safetensors'"):format(out))
    local r = process.cftrun { path, "out=" .. out, "steps=3", "--resume" }
    expect.same(r.code, 4)
    expect.match(r.out, "\nskipped [^\n]*/step%-000002: it has weights alone, by the run's keep\n")
  end },
  { "a checkpoint goes when the newer one is on the disk, and never before", function()
    local folder = process.folder()
    local removed, there = {}, {}
    for step = 1, 3 do
      local save = cft.files.save(("%s/step-%06d"):format(folder, step))
      save:write("note.txt", tostring(step))
      save:write("state.msgpack", "x")
      save:commit()
      retention.apply(folder, retention.rule(1), {})
      there[step], removed[step] = checkpoints(folder), host.kind(("%s/step-%06d"):format(folder, step - 1)) or "gone"
    end
    expect.same({ there, removed }, { { "1", "2", "3" }, { "gone", "gone", "gone" } })
    os.execute(("mkdir '%s/.step-000009.leaving'"):format(folder))  -- as a killed run leaves one
    retention.apply(folder, retention.rule(1), {})
    expect.same(host.list(folder), { "step-000003" })
  end },
}
