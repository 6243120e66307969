-- Ranks with a GPU each, emulated, and the stand-in for NCCL between them: cftrun tests/run.lua tests/cuda_emu/ranks.lua
-- with CFT_CUDA_MODULE naming the emulated module. A run is the same run on any number of them, in whatever order streams
-- go on.

local expect = require "tests.expect"
local process = require "tests.process"
local runs = require "tests.runs"

local RECIPE = "tests/fixtures/few_steps.lua"
local STEPS = 4

local function train(n, folder, env, ...)
  local args = { RECIPE, "device=cuda", "batch=4", "tokens=200", "held=3", "steps=" .. STEPS, "save_every=" .. STEPS / 2,
                 "out=" .. folder, ... }
  if n > 1 then table.insert(args, 1, "--ranks=" .. n) end
  args.env = { OMP_NUM_THREADS = "1", CUDA_EMU_DEVICES = "4" }
  for name, value in pairs(env or {}) do args.env[name] = value end
  local r = process.cftrun(args)
  expect.same(r.code, 0, r.err .. r.out)
  return r.out
end

-- What one process makes, once.
local alone
local function on_one()
  if not alone then
    alone = process.folder() .. "/one"
    train(1, alone)
  end
  return alone
end

local last = ("/step-%06d"):format(STEPS)

local function heldout_of(folder)
  local list = {}
  for value in process.contents(folder .. "/log.jsonl"):gmatch '"heldout_loss":([%d.]+)' do list[#list + 1] = value end
  return list
end

local function same_as_one(folder)
  runs.same_run(runs.steps_of(on_one()), runs.steps_of(folder))
  runs.same_weights(on_one() .. last, folder .. last)
  local a, b = heldout_of(on_one()), heldout_of(folder)
  expect.truthy(#a > 0, "held-out losses are logged")
  for i, loss in ipairs(a) do runs.near(loss, b[i], 1e-5, "held-out loss " .. i) end
end

local function as_one(n, env, ...)
  local folder = process.folder() .. "/many"
  local said = train(n, folder, env, ...)
  same_as_one(folder)
  expect.truthy(said:find("device cuda:0", 1, true), said)
  return folder
end

local function same_bits(a, b)
  expect.truthy(process.contents(a .. last .. "/model.safetensors") == process.contents(b .. last .. "/model.safetensors"))
  for step, t in ipairs(runs.steps_of(a)) do expect.same(runs.steps_of(b)[step].loss, t.loss) end
end

local tests = {
  { "2 ranks make the steps that one makes, and the same bits whenever collectives go on", function()
    local first = as_one(2, { CUDA_EMU_COLLECTIVES = "late" }, "zero=0")
    same_bits(first, as_one(2, { CUDA_EMU_COLLECTIVES = "early", CUDA_EMU_NCCL_DELAY = "1:2" }, "zero=0"))
  end },
  { "ZeRO-1 on 4 ranks, one of which is late; resumed on 2", function()
    local folder = as_one(4, { CUDA_EMU_ORDER = "4", CUDA_EMU_NCCL_DELAY = "2:5" }, "zero=1")
    process.shell("rm -r step-000004", folder)
    expect.truthy(train(2, folder, {}, "zero=0", "--resume"):find "resumed at step 2 from ")
    same_as_one(folder)
  end },
  { "ZeRO-2 on 2 ranks", function() as_one(2, { CUDA_EMU_COLLECTIVES = "late" }, "zero=2") end },
  { "ZeRO-3 on 2 ranks", function() as_one(2, { CUDA_EMU_COLLECTIVES = "late" }, "zero=3") end },
}

return tests
