-- Every optimizer: against a loop over Lua's numbers, and what must hold for each of them.

local config = require "cft.config"
local keys = require "cft.config.keys"
local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local models = require "cft.models"
local optim = require "cft.train.optim"
local tensor = require "cft.engine.tensor"

local DEVICE = os.getenv "CFT_TEST_DEVICE"

-- One weight's step as its paper has it: p and the state s → p. g is clipped.
local formulas = {}

function formulas.adamw(p, g, s, o, lr, decay, t)
  s.m = o.beta1 * (s.m or 0) + (1 - o.beta1) * g
  s.v = o.beta2 * (s.v or 0) + (1 - o.beta2) * g * g
  local m, v = s.m / (1 - o.beta1 ^ t), s.v / (1 - o.beta2 ^ t)
  return p - lr * decay * p - lr * m / (math.sqrt(v) + o.eps)
end

function formulas.lion(p, g, s, o, lr, decay)
  local m = s.m or 0
  local c = o.beta1 * m + (1 - o.beta1) * g
  s.m = o.beta2 * m + (1 - o.beta2) * g
  return p - lr * ((c > 0 and 1 or c < 0 and -1 or 0) + decay * p)
end

local function model(dtype)  -- f64 is the CPU's
  return models.new { arch = "qwen2", d = 8, layers = 1, heads = 2, ffn = 12, vocab = 13, dtype = dtype, seed = 4,
                      device = dtype ~= "f64" and DEVICE or nil }
end

-- Gradients of a step: some are 0, and the norm is above and below the clip by turns.
local function gradient(step, group, i)
  local x = math.sin(12.9898 * i + 78.233 * step + 3.7 * group) * 43758.5453
  x = x - math.floor(x) - 0.5
  return i % 7 == 0 and 0 or x * (step % 2 == 0 and 0.01 or 1)
end

local function set_gradients(m, step)
  for k, g in ipairs(m.groups) do
    local values = {}
    for i = 1, g.flat:count() do values[i] = gradient(step, k, i) end
    local t = tensor.new(values, { dtype = g.grad:dtype(), device = m.device })
    g.grad:copy_(t)
    t:release()
  end
end

local function weights(m)
  local list = {}
  for k, g in ipairs(m.groups) do list[k] = g.flat:to_table() end
  return list
end

local cases = {}
local function each(name, fn)
  for _, optimizer in ipairs(optim.keys[1][2].one_of) do
    cases[#cases + 1] = { optimizer .. ": " .. name, function() fn(optimizer) end }
  end
end

for _, row in ipairs { { "f64", 1e-6 }, { "f32", 1e-5 } } do
  local dtype, within = row[1], row[2]
  each("20 steps against its formula, with decay and clip, in " .. dtype, function(name)
    local m = model(dtype)
    local opt = optim[name](m, { weight_decay = 0.1, clip = 2 })
    local want, state = weights(m), {}
    for step = 1, 20 do
      set_gradients(m, step)
      local lr, weight, sum = 1e-2 / step, 3, 0
      for k, g in ipairs(m.groups) do
        for i = 1, g.flat:count() do sum = sum + gradient(step, k, i) ^ 2 end
      end
      local norm = math.sqrt(sum) / weight
      local scale = math.min(1, 2 / (norm + 1e-6)) / weight
      expect.close(opt:update(lr, weight), norm, 1e-5, "norm of step " .. step)
      for k, g in ipairs(m.groups) do
        state[k] = state[k] or {}
        for i = 1, g.flat:count() do
          state[k][i] = state[k][i] or {}
          want[k][i] = formulas[name](want[k][i], gradient(step, k, i) * scale, state[k][i], opt.settings, lr,
                                      i <= g.decayed and 0.1 or 0, step)
        end
      end
    end
    local got = weights(m)
    for k, list in ipairs(want) do
      for i, w in ipairs(list) do
        local off = math.abs(got[k][i] - w)
        expect.truthy(off < within, ("group %d, weight %d is off by %g"):format(k, i, off))
      end
    end
    opt:release()
    m:release()
  end)
end

each("a norm that is no number leaves weights and state alone, and does not count", function(name)
  for _, dtype in ipairs { "f32", "bf16" } do
    local m = model(dtype)
    local opt = optim[name](m, { weight_decay = 0.1, master = false })
    local function all()
      local list = weights(m)
      tensor.scope(function()
        for _, _, t in opt:state() do list[#list + 1] = tensor.contiguous(t):to_table() end
      end)
      return list
    end
    set_gradients(m, 1)
    opt:update(1e-2)
    local before = all()
    for _, bad in ipairs { 0 / 0, 1 / 0, -1 / 0 } do
      set_gradients(m, 2)
      m.groups[2].grad:fill_(bad)
      local norm = opt:update(1e-2)
      expect.truthy(norm ~= norm or norm == math.huge, "the norm")
      expect.same(opt.count, 1)
      expect.same(all(), before)
    end
    opt:release()
    m:release()
  end
end)

each("a loss that is no number is enough to leave a step out", function(name)
  local m = model "f32"
  local opt = optim[name](m)
  local before, loss = weights(m), tensor.full({ 1 }, 0 / 0, { device = m.device })
  set_gradients(m, 1)
  opt:step(1e-2, 1, { loss })
  expect.same(opt:finish((opt.scale:to_host())[1]), false)
  expect.same(weights(m), before)
  loss:release()
  opt:release()
  m:release()
end)

each("bf16 weights without a master move as far as f32 ones, by stochastic rounding", function(name)
  local moved = {}
  for _, dtype in ipairs { "f32", "bf16" } do
    local m = model(dtype)
    for _, g in ipairs(m.groups) do g.flat:fill_(1) end
    local opt = optim[name](m, { master = false, moments = dtype, clip = 0 })
    for _ = 1, 30 do
      for _, g in ipairs(m.groups) do g.grad:fill_(0.5) end
      opt:update(1e-4)  -- a fortieth of what bf16 tells apart below 1
    end
    local sum, n = 0, 0
    for _, list in ipairs(weights(m)) do
      for _, w in ipairs(list) do sum, n = sum + 1 - w, n + 1 end
    end
    moved[dtype] = sum / n
    opt:release()
    m:release()
  end
  expect.close(moved.f32, 30e-4, 1e-3, "f32")
  expect.close(moved.bf16, 30e-4, 0.1, "bf16")
end)

each("a step leaves no tensor behind", function(name)
  local m = model "bf16"
  local opt = optim[name](m)
  set_gradients(m, 1)
  collectgarbage() collectgarbage "stop"
  local before = tonumber(door.C.cft_tensor_alive())
  opt:update(1e-3)
  local left = tonumber(door.C.cft_tensor_alive()) - before
  collectgarbage "restart"
  expect.same(left, 0)
  opt:release()
  m:release()
end)

each("its settings are keys of a recipe, with a line of help", function(name)
  local m = model "f32"
  local opt = optim[name](m)
  for key, value in pairs(opt.settings) do
    local default = keys.by_name[key][2]
    if key ~= "seed" and default ~= nil then expect.same(value, default, key) end
  end
  for _, row in ipairs(optim.keys) do expect.truthy(row[2].help, row[1]) end
  opt:release()
  m:release()
end)

cases[#cases + 1] = { "lion: a run of more than a chunk, and momentum in bf16, is as one of f32", function()
  local moved = {}
  for _, moments in ipairs { "f32", "bf16" } do
    local m = models.new { arch = "llama", d = 64, layers = 1, heads = 1, ffn = 8, vocab = 20000, dtype = "f32",
                           device = DEVICE }
    local opt = optim.lion(m, { moments = moments, clip = 0 })
    local g = m.groups[1]
    g.flat:fill_(0)
    for step = 1, 3 do
      g.grad:fill_(step == 3 and -0.02 or 1)  -- beta1 m outweighs the last one
      opt:update(0.25)
    end
    local flat = g.flat:to_table()
    for i, w in ipairs(flat) do
      if w ~= -0.75 then error(("weight %d is %g"):format(i, w), 0) end
    end
    moved[moments] = tensor.scope(function() return opt.slots[1].m:cast("f32"):mean():item() end)
    opt:release()
    m:release()
  end
  local want = 0.99 * (0.99 * 0.01 + 0.01) + 0.01 * -0.02
  expect.close(moved.f32, want, 1e-5)
  expect.close(moved.bf16, want, 1e-3)
end }

cases[#cases + 1] = { "lion: bf16 weights take bf16 gradients, with and without a master", function()
  for _, master in ipairs { true, false } do
    local m = models.new { arch = "llama", d = 64, layers = 1, heads = 1, ffn = 8, vocab = 64, dtype = "bf16",
                           device = DEVICE }
    m.options.gradients = "bf16"
    local opt = optim.lion(m, { master = master, moments = "bf16", clip = 0 })
    expect.same(m.groups[1].grad:dtype(), "bf16")
    for i, g in ipairs(m.groups) do
      (opt.slots[i].master or g.flat):fill_(0)
      g.flat:fill_(0)
      g.grad:fill_(-2)
    end
    opt:update(0.25)
    local p, moved = tensor.scope(function()
      return m.groups[1].flat:cast("f32"):to_table(), opt.slots[1].m:cast("f32"):mean():item()
    end)
    for i, w in ipairs(p) do expect.same(w, 0.25, "weight " .. i) end
    expect.close(moved, -0.02, 1e-3)
    opt:release()
    m:release()
  end
end }

cases[#cases + 1] = { "lion: a step holds a few chunks beside its state, whatever the group's size", function()
  local m = models.new { arch = "llama", d = 64, layers = 1, heads = 1, ffn = 8, vocab = 65536, tied = true, device = DEVICE }
  local opt = optim.lion(m)
  local held = tensor.memory(m.device, true).total
  opt:update(1e-3)
  local beside = tensor.memory(m.device).peak - held
  expect.truthy(beside < 9 * 4 * 2 ^ 20, ("%d bytes beside 16 MiB of weights"):format(beside))
  opt:release()
  m:release()
end }

-- A learning rate that takes weights out of their dtype is found by the step itself, in whichever group it is.
for _, dtype in ipairs { "f32", "bf16" } do
  each(("a step that makes no finite numbers says so, %s"):format(dtype), function(name)
    for _, way in ipairs { "lr", "decay", "moment", "weight" } do
      local m = model(dtype)
      local opt = optim[name](m, { weight_decay = way == "decay" and 1e308 or 0, clip = 0 })
      set_gradients(m, 1)
      opt:update(1e-3)
      expect.same((opt.scale:to_host())[2] > 0, way == "decay", way)
      if way == "moment" then opt.slots[#opt.slots].m:fill_(math.huge) end
      if way == "weight" then (opt.slots[1].master or m.groups[1].flat):fill_(0 / 0) end
      set_gradients(m, 2)
      opt:update(way == "lr" and 1e300 or 1e-3)
      expect.truthy((opt.scale:to_host())[2] > 0, name .. " " .. dtype .. " " .. way)
      opt:release()
      m:release()
    end
  end)
end

cases[#cases + 1] = { "a setting that the optimizer does not have is refused, its own defaults are taken", function()
  local m = model "f32"
  local given = { optimizer = "lion", seed = 1 }
  local function setting(key)
    if given[key] ~= nil then return given[key] end
    return keys.by_name[key][2]
  end
  local opt = optim.of(m, setting)
  expect.same({ opt.name, opt.settings.beta1, opt.settings.beta2, opt.settings.seed }, { "lion", 0.9, 0.99, 1 })
  opt:release()
  given.optimizer, given.beta2 = "adamw", 0.95
  opt = optim.of(m, setting)
  expect.same({ opt.name, opt.settings.beta2 }, { "adamw", 0.95 })
  opt:release()
  given.optimizer, given.eps = "lion", 1e-6
  expect.raises("eps=1e%-06: optimizer lion has no eps", optim.of, m, setting)
  m:release()
end }

cases[#cases + 1] = { "an unknown optimizer", function()
  expect.raises("optimizer=sgd: 'optimizer' must be one of 'adamw', 'lion', got 'sgd'", function()
    config.read({}, { [0] = "x.lua", "optimizer=sgd" })
  end)
end }

return cases
