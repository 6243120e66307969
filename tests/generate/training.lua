-- Generation between the steps of a run: it reads the weights as they are, and changes no bit of what comes after.

local expect = require "tests.expect"
local generate = require "cft.generate"
local inputs = require "cft.nn.inputs"
local models = require "cft.models"
local optim = require "cft.train.optim"
local tensor = require "cft.engine.tensor"

local STEPS, EVERY, V = 200, 10, 31

-- Counting in rows: the next id is the last one and three.
local function batch(step)
  local ids, weights = {}, {}
  for i = 1, 3 do
    ids[i], weights[i] = {}, {}
    for j = 1, 9 + i do ids[i][j], weights[i][j] = (step * 7 + i * 11 + j * 3) % V, 1 end
  end
  return inputs.sequences(ids, weights)
end

-- A run's weights as text, and what was generated meanwhile.
local function train(generates, dtype)
  local m = models.new { arch = "llama", d = 32, layers = 2, heads = 4, kv_heads = 2, ffn = 48, vocab = V, seed = 3, dtype = dtype }
  local o, texts = optim.adamw(m), {}
  for step = 1, STEPS do
    tensor.scope(function() m:loss(batch(step)):backward() end)
    o:update(3e-3, 30)
    m:zero_grad()
    if generates and step % EVERY == 0 then
      local rs = generate(m, { { 1, 4, 7 }, { 2, 5, 8, 11 } }, { max_new = 40, n = 2, temperature = 0.5, ends = false,
                                                                  batch = 3, seed = step })
      texts[#texts + 1] = rs[2].samples[1].ids
    end
  end
  local bits = {}
  for name, t in m:named() do
    local host, n = t:to_host()
    local list = {}
    for i = 0, n - 1 do list[i + 1] = ("%a"):format(host[i]) end
    bits[#bits + 1] = name .. " " .. table.concat(list, " ")
    t:release()
  end
  local last = generate.ids(m, { { 1, 4, 7 } }, { max_new = 8 })[1]
  o:release()
  m:release()
  return table.concat(bits, "\n"), texts, last
end

local tests = {}
for _, dtype in ipairs { "f32", "bf16" } do
  tests[#tests + 1] = { dtype .. ": 200 steps with 20 generations between them end in the same bits as without", function()
    local without, _, counted = train(false, dtype)
    local with, texts = train(true, dtype)
    expect.same(#texts, STEPS / EVERY)
    expect.truthy(with == without, "the final weights differ")
    expect.truthy(table.concat(texts[1], " ") ~= table.concat(texts[20], " "), "20 texts of one model")
    expect.same(counted, { 10, 13, 16, 19, 22, 25, 28, 0 })  -- it learned to count
  end }
end
return tests
