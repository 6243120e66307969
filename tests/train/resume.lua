-- A run that was stopped and resumed is, to the bit, the run that was never stopped.

local checkpoint = require "cft.train.checkpoint"
local config = require "cft.config"
local door = require "cft.engine.ffi"
local demo = require "cft.demo"
local expect = require "tests.expect"
local files = require "cft.io.files"
local recipe = require "cft.recipe"
local runs = require "tests.runs"
local states = require "cft.io.state"

-- Without output, and with a few held-out solutions: what is judged is not what is tested here.
local function quietly(fn)
  local print_, tests = print, demo.tests
  rawset(_G, "print", function() end)
  demo.tests = 8
  local ok, err = pcall(fn)
  rawset(_G, "print", print_)
  demo.tests = tests
  if not ok then error(err, 0) end
end

local function run(folder, ...)
  local cfg = config.read({ out = folder, steps = 6, heldout = 8 }, { [0] = "tests/train/resume.lua", "--demo",
    "out=" .. folder, "steps=6", "batch=8", "tokens=512", "warmup=2", "save_every=3", ... })
  local result
  quietly(function() result = recipe.run(cfg, { name = "resume" }) end)
  return result
end

local function with_folder(fn)
  local folder = os.tmpname()
  os.remove(folder)
  local ok, err = pcall(fn, folder)
  files.remove(folder)
  if not ok then error(err, 0) end
end

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

test("resumed equals uninterrupted, f32", function()
  with_folder(function(folder)
    local whole = run(folder)
    local wanted = runs.weights_of(folder .. "/step-000006")
    files.remove(folder .. "/step-000006")
    local again = run(folder, "--resume")
    expect.same(again.loss_last, whole.loss_last, "last loss")
    expect.same(again.tokens, whole.tokens, "tokens")
    local got = runs.weights_of(folder .. "/step-000006")
    for i, v in ipairs(wanted) do
      if got[i] ~= v then error(("weight %d is %.9g, wanted %.9g"):format(i, got[i], v), 0) end
    end
  end)
end)

test("resumed equals uninterrupted, all states in bf16", function()
  with_folder(function(folder)
    local how = { "dtype=bf16", "master=no", "moments=bf16", "gradients=bf16" }
    local whole = run(folder, unpack(how))
    local wanted = runs.weights_of(folder .. "/step-000006")
    local state = assert(files.read_state(folder .. "/step-000003/state.msgpack"))
    for _, kinds in pairs(state.moments) do expect.same(kinds.master, nil, "a master") end
    expect.raises("\n  moments: was bf16, now f32\n", run, folder, "dtype=bf16", "master=no",
                  "gradients=bf16", "--resume")
    files.remove(folder .. "/step-000006")
    local again = run(folder, "--resume", unpack(how))
    expect.same(again.loss_last, whole.loss_last, "last loss")
    for i, v in ipairs(runs.weights_of(folder .. "/step-000006")) do expect.same(v, wanted[i], "weight " .. i) end
    local function size()
      local file = assert(io.open(folder .. "/step-000006/state.msgpack", "rb"))
      local bytes = file:seek "end"
      file:close()
      return bytes
    end
    local narrow = size()
    files.remove(folder)
    run(folder, "dtype=bf16", "gradients=bf16")
    expect.truthy(narrow < 0.4 * size(), "m and v in bf16 are a third of m, v and master in f32")
    local summed = runs.weights_of(folder .. "/step-000006")
    files.remove(folder)
    run(folder, "dtype=bf16")
    local differs = false
    for i, v in ipairs(runs.weights_of(folder .. "/step-000006")) do differs = differs or v ~= summed[i] end
    expect.truthy(differs, "gradients that add up in f32 make other weights")
  end)
end)

test("resumed equals uninterrupted, Lion; another optimizer does not take its state", function()
  with_folder(function(folder)
    local how = { "optimizer=lion", "lr=1e-4", "dtype=bf16", "master=no", "moments=bf16" }
    local whole = run(folder, unpack(how))
    local wanted = runs.weights_of(folder .. "/step-000006")
    local state = assert(files.read_state(folder .. "/step-000003/state.msgpack"))
    expect.same(state.optimizer, "lion")
    for _, kinds in pairs(state.moments) do
      for kind in pairs(kinds) do expect.same(kind, "m") end
    end
    files.remove(folder .. "/step-000006")
    local read = states.read
    states.read = function(path)  -- as it was before state said whose it is
      local old = read(path)
      old.version, old.identity, old.optimizer, old.settings, old.data = 1, nil, nil, { seed = 42 }, ""
      return old
    end
    local ok, err = pcall(expect.raises, "step%-000003 was made with optimizer = adamw, and this run has lion", run, folder,
                          "--resume", unpack(how))
    states.read = read
    if not ok then error(err, 0) end
    local again = run(folder, "--resume", unpack(how))
    expect.same(again.loss_last, whole.loss_last, "last loss")
    for i, v in ipairs(runs.weights_of(folder .. "/step-000006")) do expect.same(v, wanted[i], "weight " .. i) end
    how[1] = "optimizer=adamw"
    expect.raises("\n  optimizer: was lion, now adamw\n", run, folder, "--resume", unpack(how))
  end)
end)

test("a damaged checkpoint is skipped, and said so", function()
  with_folder(function(folder)
    run(folder)
    local path = folder .. "/step-000006/model.safetensors"
    local file = assert(io.open(path, "r+b"))
    file:seek("set", 5000)
    file:write "damage"
    file:close()
    local lines = {}
    local newest = checkpoint.newest(folder, { say = function(_, ...) lines[#lines + 1] = string.format(...) end })
    expect.same(newest, folder .. "/step-000003")
    expect.match(lines[1], "skipped .*step%-000006: .*model%.safetensors")
  end)
end)

test("other settings are refused", function()
  with_folder(function(folder)
    run(folder)
    expect.raises("\n  batch: was 8, now 16\n", function() run(folder, "--resume", "batch=16") end)
  end)
end)

test("a save leaves no view to the collector", function()
  with_folder(function(folder)
    local fill, left = checkpoint.fill, {}
    checkpoint.fill = function(...)
      collectgarbage "stop"
      local before = tonumber(door.C.cft_tensor_alive())
      fill(...)
      left[#left + 1] = tonumber(door.C.cft_tensor_alive()) - before
      collectgarbage "restart"
    end
    local ok, err = pcall(run, folder)
    checkpoint.fill = fill
    if not ok then error(err, 0) end
    expect.same(left, { 0, 0 })
  end)
end)

return tests
