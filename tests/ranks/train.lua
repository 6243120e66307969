-- Ranks of CPUs: a run is the same run on any number of them, by whatever of its state each keeps.

local demo = require "cft.demo"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local layout = require "cft.plan.layout"
local models = require "cft.models"
local process = require "tests.process"
local runs = require "tests.runs"
local saves = require "cft.io.save"

local RECIPE = "tests/fixtures/few_steps.lua"
local near, same_run, same_weights, steps_of = runs.near, runs.same_run, runs.same_weights, runs.steps_of

-- Start cftrun beside whatever else goes on. @treturn function waits for its end: a table as process.cftrun
local function begin(...)
  local args = { ... }
  args.env = { OMP_NUM_THREADS = "1" }
  local ended = process.begin(args)
  return function()
    local r = ended()
    if r.code == 3 and not os.getenv "CI" then skip("no ranks here: " .. r.err) end
    return r
  end
end

local function start(...) return begin(...)() end
local function ranks(n, ...) return start("--ranks", tostring(n), ...) end

-- What the recipe itself has measured last.
local function largest_of(folder)
  local largest
  for line in io.lines(folder .. "/log.jsonl") do largest = json.decode(line).largest or largest end
  return largest
end

local function run(n, folder, ...)
  local r = (n == 1 and start or function(...) return ranks(n, ...) end)(RECIPE, "out=" .. folder, ...)
  expect.same(r.code, 0, r.err .. r.out)
  return r
end

-- What one process makes, once.
local STEPS = 50
local alone
local function on_one()
  if not alone then
    alone = process.folder() .. "/one"
    run(1, alone, "steps=" .. STEPS)
  end
  return alone
end

local last = ("/step-%06d"):format(STEPS)

local function as_one(n, ...)
  local folder = process.folder() .. "/many"
  local said = run(n, folder, "steps=" .. STEPS, ...).out
  same_run(steps_of(on_one()), steps_of(folder))
  same_weights(on_one() .. last, folder .. last)
  expect.truthy(said:find(n .. " ranks by ", 1, true))
  local _, prints = said:gsub("saved in ", "")
  expect.same(prints, 1, "one rank prints")
  return folder
end

local function same_bits(a, b)
  expect.same(process.contents(b .. last .. "/model.safetensors"), process.contents(a .. last .. "/model.safetensors"))
  local of_b = steps_of(b)
  for step, t in ipairs(steps_of(a)) do expect.same(of_b[step].loss, t.loss) end
end

-- What each of 4 ranks keeps when its last step is made, and the most it had so far, in bytes. The same run is made once.
local counted = {}
local function census(stage, ...)
  local key = table.concat({ stage, ... }, " ")
  if counted[key] then return counted[key] end
  local folder, list = process.folder(), {}
  local r = ranks(4, RECIPE, "census=" .. folder .. "/c", "steps=3", "width=128", "layers=8", "batch=4", "tokens=170",
    "held=3", "zero=" .. stage, ...)
  expect.same(r.code, 0, r.err .. r.out)
  for rank = 0, 3 do
    local c = {}
    for number in process.contents(folder .. "/c." .. rank):gmatch "%d+" do c[#c + 1] = tonumber(number) end
    list[rank + 1] = { count = c[1], param = c[2], grad = c[3], optim = c[4], peak = c[5], loaded = c[6] }
  end
  counted[key] = list
  return list
end

local tests = {
  { "2 ranks make the steps that one makes, and the same bits again", function()
    local first = as_one(2)
    same_bits(first, as_one(2))
  end },
  { "ZeRO-3: the same bits again, and those of ZeRO-2", function()
    local first = as_one(2, "zero=3")
    same_bits(first, as_one(2, "zero=3"))
    same_bits(first, as_one(2, "zero=2"))
    near(largest_of(first), largest_of(on_one()), 1e-4, "logits in a hook")
  end },
  { "ZeRO-3 as ZeRO-2: a head of its own, bf16 with master weights, recomputed blocks, several micro-batches", function()
    local folders = {}
    for zero = 2, 3 do
      folders[zero] = process.folder() .. "/few"
      local r = run(3, folders[zero], "steps=4", "zero=" .. zero, "tied=false", "layers=4", "dtype=bf16", "batch=7", "tokens=170",
        "memory=1.4MB")
      expect.truthy(r.out:find "[1-3] of 4 blocks recomputed", r.out)
    end
    for _, file in ipairs { "/step-000004/model.safetensors", "/step-000004/checksums.xxh128" } do
      local what = file:find "checksums" and function(text) return #text end or function(text) return text end
      expect.same(what(process.contents(folders[3] .. file)), what(process.contents(folders[2] .. file)))
    end
  end },
  { "a rank that dies in the middle of a save leaves the checkpoint before it", function()
    local folder, whole = process.folder() .. "/died", process.folder() .. "/whole"
    local never = begin("--ranks", "2", RECIPE, "out=" .. whole, "save_every=2", "zero=3")
    local r = ranks(2, RECIPE, "out=" .. folder, "save_every=2", "zero=3", "die=4")
    expect.same(never().code, 0)
    expect.truthy(r.code == 6 or r.code == 137, r.err)  -- mpirun gives that of the first that it has heard of
    expect.truthy(r.err:find "rank 1 of 2 is lost: its process is gone", r.err)
    expect.same(host.kind(folder .. "/step-000004"), nil)
    expect.same(saves.verify(folder .. "/step-000002"), true)
    expect.truthy(run(2, folder, "save_every=2", "zero=3", "--resume").out:find "resumed at step 2 from ")
    expect.same(process.contents(folder .. "/step-000006/model.safetensors"),
      process.contents(whole .. "/step-000006/model.safetensors"))
  end },
}

for _, zero in ipairs { { 1, 0, 1 }, { 3, 3, 3 } } do
  local from = zero[1]
  tests[#tests + 1] = { ("ZeRO-%d on 4 ranks, resumed on 2 and on 1"):format(from), function()
    local four = as_one(4, "save_every=20", "zero=" .. from)
    for _, n in ipairs { 2, 1 } do
      os.execute(("find %s -maxdepth 1 -name 'step-*' ! -name step-000020 -exec rm -r {} +"):format(four))
      expect.truthy(run(n, four, "steps=" .. STEPS, "--resume", "zero=" .. zero[n + 1]).out:find "resumed at step 20 from ")
      same_run(steps_of(on_one()), steps_of(four))
      same_weights(on_one() .. last, four .. last)
    end
  end }
end

for _, row in ipairs { { 0, 4 }, { 1, 2 }, { 2, 4 } } do  -- the others are above
  local stage, n = unpack(row)
  tests[#tests + 1] = { ("ZeRO-%d on %d ranks"):format(stage, n), function() as_one(n, "zero=" .. stage) end }
end

-- What `cftrun plan` says of it is compared: bytes by class, and by how much the most that a rank has is less than at stage 0.
tests[#tests + 1] = { "ZeRO: what a rank keeps, and the most it has, fall as the arithmetic says", function()
  local shape = models.shape { arch = "qwen2", d = 128, layers = 8, heads = 4, ffn = 256, tied = true, theta = 1000, context = 512,
                               vocab = demo.tokenizer(5):size() }
  local how, most = { dtype = "f32", gradients = "f32", moments = "f32", states = 2, recompute = 0 }, {}
  for stage = 0, 3 do
    local want = layout.memory(shape, how, 170, 4, stage, 1)
    for rank, r in ipairs(census(stage)) do
      near(r.param, want.param, 0.03, "weights")
      near(r.grad, want.grad, 0.03, "gradients")
      near(r.optim, want.optim, 0.03, "optimizer state")
      most[rank] = most[rank] or { is = r.peak, want = want.total }
      if stage > 0 then near(most[rank].is - r.peak, most[rank].want - want.total, 0.03, ("ZeRO-%d, peak"):format(stage)) end
    end
  end
end }

local few = {}  -- what one process makes of so small a batch, once
for stage = 0, require "cft.ranks.zero".MOST do
  tests[#tests + 1] = { ("ZeRO-%d: ranks with fewer micro-batches than others, or none"):format(stage), function()
    for _, batch in ipairs { 5, 3 } do
      local folder, settings = process.folder() .. "/few", { "batch=" .. batch, "steps=3", "tokens=170", "held=3" }
      if not few[batch] then
        local one = process.folder() .. "/one"
        run(1, one, unpack(settings))
        few[batch] = steps_of(one)
      end
      run(4, folder, "zero=" .. stage, unpack(settings))
      same_run(few[batch], steps_of(folder))
    end
  end }
end

-- The last step's census is taken before its save, so the second run has saved twice.
for _, stage in ipairs { 1, 3 } do
  tests[#tests + 1] = { ("ZeRO-%d: a save takes no memory beside that of a step"):format(stage), function()
    local out = process.folder() .. "/saves"
    local without, with = census(stage), census(stage, "save_every=1", "out=" .. out)
    for rank, r in ipairs(with) do expect.same(r.peak, without[rank].peak) end
    expect.same(saves.verify(out .. "/step-000002"), true)
  end }
end

tests[#tests + 1] = { "ZeRO-3: a model is never whole, not while it is made either", function()
  for _, r in ipairs(census(3)) do
    expect.truthy(r.loaded < 4 * r.count * (1 / 4 + 1 / 8 + 0.05), ("%d bytes for %d weights"):format(r.loaded, r.count))
  end
end }

local function refused(what, code, message, ...)
  local given = { ... }
  tests[#tests + 1] = { "refused: " .. what, function()
    local r = start(unpack(given))
    expect.same(r.code, code, r.err)
    expect.truthy(r.err:find(message), r.err)
  end }
end

refused("no number", 2, "%-%-ranks wants a number, 1 to 65536, got 'two'", "--ranks", "two", RECIPE)
refused("a command", 2, "%-%-ranks starts a recipe; doctor is a command", "--ranks", "2", "doctor")
refused("a prompt", 2, "%-i is for one process, and %-%-ranks starts several", "--ranks", "2", "-i", RECIPE)
refused("a preview", 2, "%-%-preview is for one process, and 2 were started", "--ranks", "2", RECIPE, "--preview", "1")
refused("a prompt in it", 2, "attach is not for 2 ranks yet", "--ranks", "2", RECIPE, "attach=true")
refused("a stream", 2, "stream is not for 2 ranks yet", "--ranks", "2", RECIPE, "stream=true")

refused("a demo with weights in parts", 2, "%-%-demo has the model write text, for which no rank has the weights",
  "--ranks", "2", "recipes/webinstruct.lua", "--demo", "zero=3")
refused("samples with weights in parts", 2, "report_samples: [^\n]*with zero=3 no rank has the weights to write text with",
  "--ranks", "2", RECIPE, "zero=3", "report_samples=4", "out=" .. process.folder() .. "/out")

tests[#tests + 1] = { "refused: a loss of the recipe's own with weights in parts", function()
  local path = process.write(process.folder() .. "/own.lua", [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "chatml", batch = 4, tokens = 1024, steps = 2,
                         device = "cpu" }
local run = cft.recipe.prepare(cfg, { name = "own", fields = cft.critique.paper(), tokenizer = cft.demo.words,
                                      model = cft.demo.tiny })
run:trainer { loss = function(model, batch) return model:loss(batch) end }
for _ in run:steps() do end]])
  local parts, whole = begin("--ranks", "2", path, "zero=3"), begin("--ranks", "2", path, "zero=2")
  local r = parts()
  expect.same(r.code, 2, r.err)
  expect.truthy(r.err:find "zero=3 gathers weights by the model's own way, and this recipe has a loss of its own", r.err)
  expect.same(whole().code, 0)
end }

tests[#tests + 1] = { "--help is given once", function()
  local r = start("--ranks", "2", RECIPE, "--help")
  expect.same(r.code, 0, r.err)
  local _, times = r.out:gsub("Options", "")
  expect.truthy(times <= 1 and #r.out > 100, r.out)
end }

tests[#tests + 1] = { "a folder that another run has is refused once, and nothing is written", function()
  local folder = process.folder()
  process.write(folder .. "/log.jsonl", "{}\n")
  local r = ranks(2, RECIPE, "out=" .. folder)
  expect.same(r.code, 2)
  local _, times = r.err:gsub("cftrun: [^\n]*holds a run already", "")
  expect.same(times, 1)
  expect.same(host.kind(folder .. "/run.json"), nil)
end }

return tests
