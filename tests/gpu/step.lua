--- A training step at a model's true shape with random weights, on a GPU, timed:
--    cftrun tests/gpu/step.lua MODEL TOKENS LENGTH [LEARNED] [device=cuda] [states=bf16|f32] [recompute=N]
-- Prints a line for people and a line of JSON. MODEL is one of lua/cft/cli/bench/shapes.lua. The states:
--   bf16  bf16 weights with stochastic rounding, gradients and moments in bf16: 7B in 80 GB
--   f32   bf16 weights with an f32 master, gradients and moments in f32

local host = require "cft.host"
local json = require "cft.base.json"
local optim = require "cft.train.optim"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local o = { device = "cuda", states = "bf16", recompute = 0, seconds = 5 }
local positional = {}
for _, word in ipairs(arg) do
  local key, value = word:match "^(%a+)=(.*)$"
  if key then o[key] = tonumber(value) or value else positional[#positional + 1] = word end
end
local name, tokens, length = positional[1], tonumber(positional[2]), tonumber(positional[3])
local learned = tonumber(positional[4] or 1)

local model = step.model(name, "bf16", o.device)
local c = model.config
if o.recompute > 0 then model.options.recompute = function(i) return i <= o.recompute end end
for _, g in ipairs(model.groups) do g:zero_grad(o.states) end
local opt = optim.adamw(model, { master = o.states == "f32", moments = o.states })
local batch = step.batch(c.vocab, tokens, learned, { length })

local times, loss = {}, nil
local function update()
  local start = host.now()
  model:zero_grad()
  tensor.scope(function()
    tensor.as_class("activation", function()
      local l = model:loss(batch)
      l:backward()
      opt:step(1e-5, batch.weight, { l })
      loss = l:item() / batch.weight  -- the one wait for the device
    end)
  end)
  return host.now() - start
end

for _ = 1, 3 do update() end  -- algorithms are timed, plans compiled, clocks warm
tensor.memory(model.device, true)
local begun = host.now()
repeat times[#times + 1] = update() until #times >= 5 and host.now() - begun > o.seconds
table.sort(times)
local seconds = times[math.ceil(#times / 2)]
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
local n = tonumber(batch.n)
local flops = 3 * n * per_token + 3.5 * (c.layers - 1 + share) * attention

local result = { model = name, device = tensor.device_description(model.device), tokens = n, length = length,
                 learned = share, states = o.states, recompute = o.recompute, seconds = seconds,
                 tokens_per_s = n / seconds, flops = flops, flops_per_s = flops / seconds, loss = loss,
                 peak_bytes = memory.peak, reserved_bytes = memory.reserved }
print(("%s, %d tokens in sequences of %d, %.0f%% loss tokens: %.0f tok/s, %.1f TFLOP/s, peak %.1f GiB"):format(
  name, n, length, 100 * share, n / seconds, flops / seconds / 1e12, memory.peak / 2 ^ 30))
print("json " .. json.encode(result))
