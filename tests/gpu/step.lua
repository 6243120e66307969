--- A training step at a model's true shape with random weights, on a GPU, timed:
--    cftrun tests/gpu/step.lua MODEL TOKENS LENGTH [LEARNED] [accumulate=16] [device=cuda] [states=bf16|f32]
--                              [recompute=N]
-- A step is `accumulate` micro-batches of TOKENS tokens and the optimizer's pass, which are timed apart. Prints a
-- line for people and a line of JSON. MODEL is one of lua/cft/models/shapes.lua. The states:
--   bf16  bf16 weights with stochastic rounding, gradients and moments in bf16: 7B in 80 GB
--   f32   bf16 weights with an f32 master, gradients and moments in f32

local host = require "cft.host"
local json = require "cft.base.json"
local optim = require "cft.train.optim"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local o = { device = "cuda", states = "bf16", recompute = 0, accumulate = 16, seconds = 5 }
local positional = {}
for _, word in ipairs(arg) do
  local key, value = word:match "^(%a+)=(.*)$"
  if key then o[key] = tonumber(value) or value else positional[#positional + 1] = word end
end
local name, tokens, length = positional[1], tonumber(positional[2]), tonumber(positional[3])
local learned = tonumber(positional[4] or 1)

local model = step.model(name, "bf16", o.device)
local c = model.config
model.options.ahead = true  -- as in a run: the head's dW is added to its gradient at once
if o.recompute > 0 then model.options.recompute = function(i) return i <= o.recompute end end
for _, g in ipairs(model.groups) do g:zero_grad(o.states) end
local opt = optim.adamw(model, { master = o.states == "f32", moments = o.states })
local batch = step.batch(c.vocab, tokens, learned, { length })

-- A step of so many micro-batches. @treturn number seconds @treturn number the loss
local function step_of(micros)
  local start, mean = host.now(), nil
  model:zero_grad()
  tensor.scope(function()
    tensor.as_class("activation", function()
      local losses = {}
      for i = 1, micros do
        losses[i] = tensor.scope(function()
          local l = model:loss(batch)
          l:backward()
          return l:keep()
        end)
      end
      opt:step(1e-5, micros * batch.weight, losses)
      mean = losses[micros]:item() / batch.weight  -- the one wait for the device
    end)
  end)
  return host.now() - start, mean
end

-- The median of several steps, in at least so many seconds.
local function timed(micros, seconds)
  local times, loss, begun = {}, nil, host.now()
  repeat
    times[#times + 1], loss = step_of(micros)
  until #times >= 3 and host.now() - begun > seconds
  return step.median(times), loss
end

for _ = 1, 2 do step_of(1) end  -- algorithms are timed, plans compiled, clocks warm
tensor.memory(model.device, true)
local one, loss = timed(1, o.seconds / 2)
local whole = one
if o.accumulate > 1 then whole, loss = timed(o.accumulate, o.seconds) end
-- From a step of one micro-batch and one of many: what each of these costs, and what the rest does.
local micro = o.accumulate > 1 and (whole - one) / (o.accumulate - 1) or one
local seconds = whole
local memory = tensor.memory(model.device)

-- Useful FLOPs, as docs/cuda.md counts them: three times forward; attention by sequence length; the
-- head and the last block's queries for rows with loss only.
local q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
local share = tonumber(batch.m) / tonumber(batch.n)
local block = 2 * c.d * (2 * q + 2 * kv + 3 * c.ffn)
local last = 2 * c.d * 2 * kv + share * (block - 2 * c.d * 2 * kv)
local per_token = (c.layers - 1) * block + last + share * 2 * c.d * c.vocab
local attention = 0
for s = 0, tonumber(batch.sequences) - 1 do
  local len = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]
  attention = attention + 4 * q * len * (len + 1) / 2
end
local n = o.accumulate * tonumber(batch.n)
local flops = 3 * n * per_token + o.accumulate * 3.5 * (c.layers - 1 + share) * attention

local result = { model = name, device = tensor.device_description(model.device), tokens = n, length = length,
                 learned = share, states = o.states, recompute = o.recompute, seconds = seconds, accumulate = o.accumulate,
                 micro_batch_seconds = micro, optimizer_seconds = one - micro, tokens_per_s = n / seconds, flops = flops, flops_per_s = flops / seconds, loss = loss,
                 peak_bytes = memory.peak, reserved_bytes = memory.reserved }
print(("%s, %d x %d tokens in sequences of %d, %.0f%% loss tokens: %.0f tok/s, %.1f TFLOP/s; a micro-batch %.1f ms, "
  .. "the optimizer %.1f ms; peak %.1f GiB"):format(name, o.accumulate, tonumber(batch.n), length, 100 * share, n / seconds,
  flops / seconds / 1e12, 1e3 * micro, 1e3 * (one - micro), memory.peak / 2 ^ 30))
print("json " .. json.encode(result))
