-- What must hold for a whole model, whatever its weights: cuts, neighbours, skipped rows, recomputation.

local autograd = require "cft.engine.autograd"
local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local inputs = require "cft.nn.inputs"
local models = require "cft.models"
local op = require "tests.op"
local tensor = require "cft.engine.tensor"

local function model(dtype, arch, o)
  local shape = { arch = arch or "qwen2", d = 24, layers = 3, heads = 4, kv_heads = 2, ffn = 36, vocab = 41,
                  init = 0.3, seed = 3, dtype = dtype }
  for k, v in pairs(o or {}) do shape[k] = v end
  return models.new(shape)
end

-- Sequences of odd lengths; about half of each has loss weight, with weights that are not all one.
local function samples()
  local ids, weights = {}, {}
  for s, len in ipairs { 7, 1, 12, 5, 9 } do
    ids[s], weights[s] = {}, {}
    for j = 1, len do
      ids[s][j] = (s * 17 + j * j * 5) % 41
      weights[s][j] = j > len / 2 and (j % 3 == 0 and 0.5 or 1) or 0
    end
  end
  weights[3][2] = 2  -- learned, then context, then learned: not only a suffix
  return ids, weights
end

-- Loss and every gradient of some sequences, in one or several micro-batches.
local function measure(m, groups, ids, weights)
  m:zero_grad()
  local loss = 0
  for _, group in ipairs(groups) do
    local some, theirs = {}, {}
    for i, s in ipairs(group) do some[i], theirs[i] = ids[s], weights[s] end
    loss = loss + tensor.scope(function()
      local l = m:loss(inputs.sequences(some, theirs))
      l:backward()
      return l:item()
    end)
  end
  local grads = {}
  for _, g in ipairs(m.groups) do
    for _, v in ipairs(op.numbers(g.grad)) do grads[#grads + 1] = v end
  end
  return loss, grads
end

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local function compare(name, a, b, tolerance)
  local ids, weights = samples()
  local all = { { 1, 2, 3, 4, 5 } }
  local ma, ga = a.model()
  local loss_a, grads_a = measure(ma, a.groups or all, ids, weights)
  ma:release()
  local mb = b.model()
  local loss_b, grads_b = measure(mb, b.groups or all, ids, weights)
  mb:release()
  expect.close(loss_b, loss_a, tolerance, name .. ": loss")
  op.agree(grads_b, grads_a, tolerance, name .. ": gradients")
end

for _, arch in ipairs { "qwen2", "llama" } do
  for _, dtype in ipairs { "f64", "f32" } do
    local tolerance = dtype == "f64" and 1e-11 or 1e-4
    local function plain() return model(dtype, arch) end
    local function with(o)
      return function()
        local m = model(dtype, arch)
        for k, v in pairs(o) do m.options[k] = v end
        return m
      end
    end
    test(("%s in %s: rows of weight 0 are skipped exactly"):format(arch, dtype), function()
      compare("skip", { model = with { skip = false } }, { model = with { skip = true } }, tolerance)
      compare("suffix", { model = with { skip = false } }, { model = with { suffix = true } }, tolerance)
    end)
    test(("%s in %s: any cut into micro-batches"):format(arch, dtype), function()
      compare("two", { model = plain }, { model = plain, groups = { { 4, 1 }, { 3, 2, 5 } } }, tolerance)
      compare("one by one", { model = plain }, { model = plain, groups = { { 5 }, { 4 }, { 3 }, { 2 }, { 1 } } }, tolerance)
    end)
    test(("%s in %s: recomputation changes nothing"):format(arch, dtype), function()
      compare("all", { model = plain }, { model = with { recompute = function() return true end } }, tolerance)
      compare("some", { model = plain }, { model = with { recompute = function(i) return i == 2 end } }, tolerance)
    end)
    test(("%s in %s: the head's gradient ahead of time"):format(arch, dtype), function()
      compare("ahead", { model = plain }, { model = with { ahead = true } }, tolerance)
    end)
  end
end

test("tied and untied heads, gradcheck in f64", function()
  for _, tied in ipairs { true, false } do
    local m = model("f64", "qwen2", { tied = tied, layers = 1, d = 8, heads = 2, kv_heads = 1, ffn = 6, vocab = 11 })
    local ids, weights = { { 1, 2, 3, 4 }, { 5, 6 } }, { { 0, 0, 1, 0.5 }, { 0, 2 } }
    local b = inputs.sequences(ids, weights)
    m:zero_grad()
    tensor.scope(function() m:loss(b):backward() end)
    for _, g in ipairs(m.groups) do
      local got, host, n = op.numbers(g.grad), g.flat:to_host()
      local wanted = {}
      for i = 0, n - 1 do
        local old = host[i]
        local function at(v)
          host[i] = v
          g.flat:copy_(tensor.from_host(host, { n }, "f64"))
          return tensor.scope(function() return autograd.no_grad(m.loss, m, b):item() end)
        end
        local h = 1e-5
        wanted[i + 1] = (at(old + h) - at(old - h)) / (2 * h)
        at(old)
      end
      op.agree(got, wanted, 1e-6, g.name, 1e-2)
    end
    m:release()
  end
end)

for _, dtype in ipairs { "f32", "bf16" } do
  test("a neighbour changed leaves logits bit-equal, " .. dtype, function()
    local m = model(dtype)
    local function logits(first, last)
      return tensor.scope(autograd.no_grad, function()
        local y = m:logits { first, { 9, 8, 7, 6, 5, 4, 3 }, last }
        return op.numbers(tensor.contiguous(tensor.narrow(y, 0, #first, 7)))
      end)
    end
    expect.same(logits({ 1, 2, 3, 4 }, { 5, 6 }), logits({ 30, 31, 32, 33 }, { 0, 40 }))
    m:release()
  end)
end

test("using what a step released says so", function()
  local m = model "f32"
  local ids, weights = samples()
  local nll
  tensor.scope(function()
    local loss, n = m:loss(inputs.sequences(ids, weights))
    loss:backward()
    nll = n
  end)
  expect.raises("was released .*call :keep%(%) on it where it is made", function() nll:item() end)
  m:release()
end)

test("a step leaves no memory behind", function()
  local m = model "f32"
  local ids, weights = samples()
  local function step() tensor.scope(function() m:loss(inputs.sequences(ids, weights)):backward() end) end
  step()
  local before = tensor.memory("cpu").total
  for _ = 1, 3 do step() end
  expect.same(tensor.memory("cpu").total, before)
  m:release()
end)

test("generation with a cache gives what a whole forward pass gives", function()
  local m = model "f32"
  local prompts = { { 1, 2, 3, 4, 5 }, { 7 }, { 9, 8, 7 } }
  local got = require("cft.generate").ids(m, prompts, { max_new = 6 })
  for i, p in ipairs(prompts) do
    local ids = { unpack(p) }
    for step = 1, 6 do
      local id = tensor.scope(autograd.no_grad, function()
        local y = m:logits(ids):argmax(1):to_host()
        return y[#ids - 1]
      end)
      expect.same(got[i][step], id, ("prompt %d, token %d"):format(i, step))
      ids[#ids + 1] = id
    end
  end
  m:release()
end)

test("what a model holds is released with it, and left to no collector", function()
  collectgarbage() collectgarbage "stop"
  local before = tonumber(door.C.cft_tensor_alive())
  local m = model "f32"
  m:zero_grad()
  tensor.scope(function()
    for _ in m:named() do end
  end)
  m:release()
  local left = tonumber(door.C.cft_tensor_alive()) - before
  collectgarbage "restart"
  expect.same(left, 0)
end)

return tests
