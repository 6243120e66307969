-- Losses depend neither on the number of threads nor on the run: bit for bit, in f32 and bf16.

local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local inputs = require "cft.nn.inputs"
local models = require "cft.models"
local optim = require "cft.train.optim"
local tensor = require "cft.engine.tensor"

local C = door.C
local VOCAB = 300

-- A batch large enough that its kernels are shared among threads.
local function batch()
  local sequences, weights = {}, {}
  for i, length in ipairs { 301, 1, 97, 130 } do
    sequences[i], weights[i] = {}, {}
    for j = 1, length do
      sequences[i][j] = (i * 7919 + j * j * 31) % VOCAB
      weights[i][j] = j > length / 2 and 1 or 0
    end
  end
  return inputs.sequences(sequences, weights)
end

local function losses(dtype, threads)
  door.check(C.cft_cpu_set_threads(threads))
  local model = models.new { arch = "qwen2", d = 128, layers = 3, heads = 4, kv_heads = 2, ffn = 320, vocab = VOCAB,
                             tied = true, dtype = dtype, device = "cpu", seed = 3 }
  local opt, b, seen = optim.adamw(model, {}), batch(), {}
  for i = 1, 6 do
    model:zero_grad()
    tensor.scope(function()
      local loss = model:loss(b)
      loss:backward()
      seen[i] = loss:item()
    end)
    opt:update(1e-3, b.weight)
  end
  opt:release()
  model:release()
  return seen
end

local function case(dtype)
  return { "losses in " .. dtype .. " are the same on 1, 2 and 3 threads, and when run again", function()
    local threads = C.cft_cpu_threads()
    local one = losses(dtype, 1)
    local two, three, again = losses(dtype, 2), losses(dtype, 3), losses(dtype, 3)
    door.check(C.cft_cpu_set_threads(threads))
    expect.truthy(one[6] < one[1] - 0.1, "the loss falls")
    expect.same(two, one)
    expect.same(three, one)
    expect.same(again, one)
  end }
end

return { case "f32", case "bf16" }
