-- Ranks of CPUs: a run is the same run on any number of them, by whatever of its state each keeps.

local expect = require "tests.expect"
local golden = require "tests.golden"
local host = require "cft.host"
local journals = require "cft.train.journal"
local op = require "tests.op"
local process = require "tests.process"

local RECIPE = "tests/fixtures/few_steps.lua"

local function start(...)
  local args = { ... }
  args.env = { OMP_NUM_THREADS = "1" }
  local r = process.cftrun(args)
  if r.code == 3 and not os.getenv "CI" then skip("no ranks here: " .. r.err) end
  return r
end

local function ranks(n, ...) return start("--ranks", tostring(n), ...) end

-- The losses and norms of a run, and the samples of its steps in order of their numbers.
local function steps_of(folder)
  local entries, last = journals.read(folder)
  local list = {}
  for step = 1, last do
    local e = entries[step]
    list[step] = { loss = e.loss, norm = e.grad_norm, tokens = e.tokens, weight = e.weight, samples = {} }
    for k, number in ipairs(e.samples) do list[step].samples[k] = number end
    table.sort(list[step].samples)
  end
  return list
end

local function weights_of(folder)
  local get, list = golden.open(folder .. "/model.safetensors"), {}
  for _, name in ipairs { "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
                          "model.layers.1.mlp.down_proj.weight", "model.norm.weight" } do
    local t = get(name)
    for _, v in ipairs(op.numbers(t)) do list[#list + 1] = v end
    t:release()
  end
  return list
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
    run(1, alone, "steps=" .. STEPS, "save_every=4")
  end
  return alone
end

local function near(a, b, relative, what)
  a, b = tonumber(a), tonumber(b)
  expect.truthy(math.abs(a - b) <= relative * math.max(math.abs(a), math.abs(b)), ("%s: %.9g and %.9g"):format(what, a, b))
end

local function same_run(a, b)
  expect.same(#a, #b)
  for step = 1, #a do
    near(a[step].loss, b[step].loss, 1e-5, "loss of step " .. step)
    near(a[step].norm, b[step].norm, 1e-4, "norm of step " .. step)
    expect.same({ b[step].tokens, b[step].weight, b[step].samples }, { a[step].tokens, a[step].weight, a[step].samples })
  end
end

local function same_weights(a, b)
  local x, y, most = weights_of(a), weights_of(b), 0
  for i, v in ipairs(x) do most = math.max(most, math.abs(v - y[i])) end
  expect.truthy(most < 2e-5, ("weights differ by %g"):format(most))
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

local tests = {
  { "2 ranks make the steps that one makes, and the same bits again", function()
    local first, again = as_one(2), as_one(2)
    expect.same(process.contents(again .. last .. "/model.safetensors"), process.contents(first .. last .. "/model.safetensors"))
    for step, t in ipairs(steps_of(first)) do expect.same(steps_of(again)[step].loss, t.loss) end
  end },
  { "resume from 4 ranks on 2 and on 1", function()
    local four = process.folder() .. "/four"
    run(4, four, "steps=" .. STEPS, "save_every=4", "zero=1")
    same_run(steps_of(on_one()), steps_of(four))
    for _, n in ipairs { 2, 1 } do
      os.execute(("find %s -maxdepth 1 -name 'step-*' ! -name step-000004 -exec rm -r {} +"):format(four))
      expect.truthy(run(n, four, "steps=" .. STEPS, "--resume", "zero=" .. n % 2).out:find "resumed at step 4 from ")
      same_run(steps_of(on_one()), steps_of(four))
      same_weights(on_one() .. last, four .. last)
    end
  end },
}

for stage = 0, require "cft.ranks.zero".MOST do
  for _, n in ipairs(stage == 0 and { 4 } or { 2, 4 }) do
    tests[#tests + 1] = { ("ZeRO-%d on %d ranks"):format(stage, n), function() as_one(n, "zero=" .. stage) end }
  end
end

-- Bytes of f32: what is cut among the ranks is there once in all of them.
for stage = 0, require "cft.ranks.zero".MOST do
  tests[#tests + 1] = { ("ZeRO-%d: what a rank keeps falls as the arithmetic says"):format(stage), function()
    local folder = process.folder()
    expect.same(ranks(4, RECIPE, "steps=2", "width=128", "census=" .. folder .. "/c", "zero=" .. stage).code, 0)
    for rank = 0, 3 do
      local count, param, grad, optim = process.contents(folder .. "/c." .. rank):match "(%d+) (%d+) (%d+) (%d+)"
      near(param, 4 * count, 0.03, "weights")
      near(grad, 4 * count / (stage >= 2 and 4 or 1), 0.03, "gradients")
      near(optim, 8 * count / (stage >= 1 and 4 or 1), 0.03, "optimizer state")
    end
  end }
  tests[#tests + 1] = { ("ZeRO-%d: ranks with fewer micro-batches than others, or none"):format(stage), function()
    for _, batch in ipairs { 5, 3 } do
      local folder, one = process.folder() .. "/few", process.folder() .. "/one"
      run(4, folder, "batch=" .. batch, "steps=3", "tokens=170", "zero=" .. stage)
      run(1, one, "batch=" .. batch, "steps=3", "tokens=170")
      same_run(steps_of(one), steps_of(folder))
    end
  end }
end

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
