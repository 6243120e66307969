--- Times of a training step and of its parts, and what perfect matmuls alone would take.
--
-- The floor counts each matmul's and attention's FLOPs (recomputation not) at the best rate that oneDNN
-- reaches for that shape in the same run, its weights packed or not; all else is free there. So the step's
-- share of it says what is left to gain. A floor whose rate is far from a burst of multiply-adds is no
-- floor: docs/performance.md says how to read it.

local host = require "cft.host"
local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local models = require "cft.models"
local ops = require "cft.engine.ops"
local optim = require "cft.train.optim"
local tensor = require "cft.engine.tensor"
local autograd = require "cft.engine.autograd"
local door = require "cft.engine.ffi"
local C = door.C

local M = {}

-- Median and best seconds of `fn`, which is called once before that.
local function time(fn, seconds)
  fn()
  local times, start = {}, host.now()
  repeat
    local t = host.now()
    fn()
    times[#times + 1] = host.now() - t
  until #times >= 3 and host.now() - start > seconds
  table.sort(times)
  return times[math.ceil(#times / 2)], times[1]
end

--- A batch of random ids: sequences of `length`, or of these lengths in turn, `tokens` in all; the last `learned` share of
-- each is learned.
function M.batch(vocab, tokens, length, learned, lengths)
  local sequences, weights, left, i = {}, {}, tokens, 0
  while left > 0 do
    i = i + 1
    local n = math.min(left, lengths and lengths[(i - 1) % #lengths + 1] or length)
    local ids, w = {}, {}
    for j = 1, n do
      ids[j] = (i * 7919 + j * j * 31 + j) % vocab
      w[j] = j > n * (1 - learned) and 1 or 0
    end
    sequences[i], weights[i], left = ids, w, left - n
  end
  return inputs.sequences(sequences, weights), sequences, weights
end

-- ---- parts -----------------------------------------------------------------------------------

local function random(dims, o, class)
  return tensor.as_class(class or "activation", tensor.randn, dims, { dtype = o.dtype, device = o.device, seed = 1, counter = 1 }):keep()
end

-- Whose arithmetic a matmul is measured with, beside ours.
local OTHERS = { "onednn", "onednn-packed" }

-- Best seconds of `fn` with oneDNN's matmul; nil where the library is missing or refuses.
local function by_onednn(fn, o)
  local best
  for _, name in ipairs(OTHERS) do
    if o.device == "cpu" and pcall(door.check, C.cft_cpu_set_matmul(name)) then
      local done, _, seconds = pcall(time, fn, o.seconds)
      if done and (not best or seconds < best) then best = seconds end
    end
  end
  door.check(C.cft_cpu_set_matmul "own")
  return best
end

-- Forward, dx and dw of one linear layer: rows of the table.
local function linear_rows(rows, name, n, width, out, count, o)
  local x, dy = random({ n, width }, o), random({ n, out }, o)
  local w = random({ out, width }, o, "param")
  local dw = tensor.zeros({ out, width }, { device = o.device }):keep()
  local flops = 2 * n * width * out
  local function row(what, fn)
    local function scoped() tensor.scope(fn) end
    local seconds, best = time(scoped, o.seconds)
    rows[#rows + 1] = { name = name .. " " .. what, seconds = seconds, best = best, flops = flops, count = count, matmul = true,
                        onednn = by_onednn(scoped, o) }
  end
  row("y", function() kernels.linear_fwd(x, w, nil) end)
  row("dx", function() kernels.linear_bwd(true, nil, nil, dy, x, w) end)
  row("dw", function() kernels.linear_bwd(nil, dw, nil, dy, x, w) end)
  for _, t in ipairs { x, dy, w, dw } do t:release() end
end

-- Forward and backward of an op through the tape; bytes that must move, or flops.
local function op_rows(rows, name, count, o, make, f, cost)
  local args = { make() }
  for _, a in ipairs(args) do if tensor.is(a) then a:keep() end end
  local seconds, best = time(function()
    tensor.scope(autograd.no_grad, f, unpack(args))
  end, o.seconds)
  rows[#rows + 1] = { name = name .. " forward", seconds = seconds, best = best, count = count,
                      bytes = cost.bytes, flops = cost.flops }
  for _, a in ipairs(args) do if tensor.is(a) and a:dtype() ~= "i32" then a.requires_grad = true end end
  local both = time(function()
    tensor.scope(function()
      local y = f(unpack(args))
      y:backward(tensor.zeros(y:shape(), { dtype = y:dtype(), device = y:device() }))
    end)
    for _, a in ipairs(args) do
      if tensor.is(a) and a.grad then a.grad:release() a.grad = nil end
    end
  end, o.seconds)
  rows[#rows + 1] = { name = name .. " backward", seconds = math.max(both - seconds, 1e-9), count = count,
                      bytes = cost.bytes_back, flops = cost.flops_back }
  for _, a in ipairs(args) do if tensor.is(a) then a:release() end end
end

-- FLOPs of causal attention over the batch, forward: half of the square of each length.
local function attention_flops(c, b)
  local sum = 0
  for s = 0, tonumber(b.sequences) - 1 do
    local len = b.cu_seqlens[s + 1] - b.cu_seqlens[s]
    sum = sum + len * (len + 1) / 2
  end
  return 4 * sum * c.heads * c.head_dim
end

--- A row an op at the model's shapes: `name`, `seconds` (median), `best`, `count` (how often a step
-- does it), `flops` or `bytes` of one.
function M.ops(model, b, o)
  local c, rows = model.config, {}
  local n, learned = tonumber(b.n), tonumber(b.m)
  local q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local oo = { dtype = model.dtype, device = tensor.device_name(model.device):match "%a+", seconds = o.seconds or 0.2 }
  local size = model.dtype == "bf16" and 2 or 4
  linear_rows(rows, "qkv", n, c.d, q + 2 * kv, c.layers, oo)
  linear_rows(rows, "o", n, q, c.d, c.layers, oo)
  linear_rows(rows, "gate, up", n, c.d, 2 * c.ffn, c.layers, oo)
  linear_rows(rows, "down", n, c.ffn, c.d, c.layers, oo)
  linear_rows(rows, "head", math.min(learned, 512), c.d, c.vocab, learned / math.min(learned, 512), oo)
  local at = model:put(b)
  local flops = attention_flops(c, b)
  op_rows(rows, "attention", c.layers, oo, function() return random({ n, q + 2 * kv }, oo) end,
          function(x) return ops.attention(ops.contiguous(x), nil, at.of_all) end,
          { flops = flops, flops_back = 2.5 * flops })
  op_rows(rows, "add, rmsnorm", 2 * c.layers, oo,
          function() return random({ n, c.d }, oo), random({ n, c.d }, oo), random({ c.d }, oo) end,
          function(x, r, w) return (ops.add_rmsnorm(x, r, w, c.eps)) end,
          { bytes = 4 * n * c.d * size, bytes_back = 4 * n * c.d * size })
  op_rows(rows, "swiglu", c.layers, oo, function() return random({ n, 2 * c.ffn }, oo) end, ops.swiglu,
          { bytes = 3 * n * c.ffn * size, bytes_back = 5 * n * c.ffn * size })
  for _, t in pairs(at) do if tensor.is(t) then t:release() end end
  return rows
end

-- ---- the step --------------------------------------------------------------------------------

--- Median seconds of a whole training step, and its peak memory.
function M.step(model, b, o)
  local opt = optim.adamw(model, {})
  model.options.ahead = true
  local loss
  tensor.memory(model.device, true)
  local seconds, best = time(function()
    model:zero_grad()
    tensor.scope(function()
      tensor.as_class("activation", function()
        local l = model:loss(b)
        l:backward()
        opt:step(1e-5, b.weight, { l })
        loss = l:item() / b.weight  -- the one wait for the device
      end)
    end)
  end, o.seconds)
  local memory = tensor.memory(model.device)
  opt:release()
  return { seconds = seconds, best = best, loss = loss, peak_bytes = memory.peak,
           held_bytes = memory.param + memory.grad + memory.optim }
end

--- A step in which only matmuls and attention took time, each matmul at oneDNN's best rate for its shape
-- and attention at the best of these rates. Where oneDNN is missing, ours stands in.
-- @treturn table `seconds`; `flops` of the step; `rate`, FLOP/s on the whole; `by`, whose rates they are
function M.floor(rows)
  local seconds, flops, rate, by = 0, 0, 0, "oneDNN"
  for _, r in ipairs(rows) do
    if r.matmul then
      local best = r.onednn or r.best
      if not r.onednn then by = "cft" end
      seconds, flops = seconds + r.count * best, flops + r.count * r.flops
      rate = math.max(rate, r.flops / best)
    end
  end
  for _, r in ipairs(rows) do
    if r.flops and not r.matmul then
      seconds, flops = seconds + r.count * r.flops / rate, flops + r.count * r.flops
    end
  end
  return { seconds = seconds, flops = flops, rate = flops / seconds, by = by }
end

--- FLOPs of a step's matmuls and attention: of all tokens, or with what is not learned skipped as the
-- model does it (no head, no loss, and of the last block norm, k and v alone).
function M.arithmetic(c, b, skip)
  local n, m = tonumber(b.n), skip and tonumber(b.m) or tonumber(b.n)
  local q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function block(rows) return 2 * (rows * c.d * (2 * q + 3 * c.ffn) + n * c.d * 2 * kv) end
  local attention = 3.5 / 3 * attention_flops(c, b)  -- forward and 2.5 times that backward
  return 3 * ((c.layers - 1) * (block(n) + attention) + block(m) + attention * m / n + 2 * m * c.d * c.vocab)
end

--- What a step may hold: weights, gradients and optimizer state, and what the list of ops says each
-- token and block keeps (docs/memory.md), a fifth added.
function M.memory_bound(model, b, held)
  local kept = require("cft.train.memory_plan").a_token(model).kept
  return held + 1.2 * kept * model.config.layers * tonumber(b.n), kept
end

--- A model of a shape or path in a dtype.
function M.model(name, dtype, device)
  local shape = require("cft.cli.bench.shapes")[name:lower()]
  if not shape then return models.load(name, { dtype = dtype, device = device }) end
  local s = { dtype = dtype, device = device, seed = 1 }
  for k, v in pairs(shape) do s[k] = v end
  return models.new(s)
end

return M
