--- Times of a training step and of its parts, and what perfect matmuls alone would take.
--
-- The floor counts each matmul's and attention's FLOPs (recomputation not) at the best rate that oneDNN
-- reaches for that shape in the same run, its weights packed or not; all else is free there. So the step's
-- share of it says what is left to gain. A floor whose rate is far from a burst of multiply-adds is no
-- floor: docs/performance.md says how to read it.

local archs = require "cft.models.archs"
local door = require "cft.engine.ffi"
local host = require "cft.host"
local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local models = require "cft.models"
local onednn = require "cft.cli.bench.onednn"
local ops = require "cft.engine.ops"
local optim = require "cft.train.optim"
local tensor = require "cft.engine.tensor"
local autograd = require "cft.engine.autograd"
local trace = require "cft.engine.trace"

local M = {}

--- Seconds of an op, run once: of `run` alone. What it makes is gone afterwards.
-- @tab op as `each_op` visits it
-- @func[opt] before called between `prepare` and `run`
function M.once(op, before)
  local seconds
  tensor.scope(function()
    local made = op.prepare and op.prepare()
    if before then before() end
    local start = host.now()
    op.run(made)
    seconds = host.now() - start
  end)
  if op.after then op.after() end
  return seconds
end

--- The median of a list of numbers, which is sorted by it.
function M.median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

-- Median and best seconds of an op, which is run once before that.
local function time(op, seconds)
  M.once(op)
  local times, start = {}, host.now()
  repeat times[#times + 1] = M.once(op) until #times >= 3 and host.now() - start > seconds
  return M.median(times), times[1]
end

--- A batch of random ids: sequences of these `lengths` in turn, `tokens` in all; the last `learned` share of each has
-- loss weight.
function M.batch(vocab, tokens, learned, lengths)
  local sequences, weights, left, i = {}, {}, tokens, 0
  while left > 0 do
    i = i + 1
    local n = math.min(left, lengths[(i - 1) % #lengths + 1])
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
  local opts = { dtype = o.dtype, device = o.device, seed = 1, counter = 1 }
  return tensor.as_class(class or "activation", tensor.randn, dims, opts):keep()
end

-- Forward, dx and dw of one linear layer: x (n, width), w (out, width).
local function linear(visit, name, n, width, out, count, o)
  local x, dy = random({ n, width }, o), random({ n, out }, o)
  local w = random({ out, width }, o, "param")
  local dw = tensor.zeros({ out, width }, { device = o.device }):keep()
  local function part(what, run)
    visit { name = name .. " " .. what, flops = 2 * n * width * out, count = count, matmul = true, run = run }
  end
  part("y", function() kernels.linear_fwd(x, w, nil) end)
  part("dx", function() kernels.linear_bwd(true, nil, nil, dy, x, w) end)
  part("dw", function() kernels.linear_bwd(nil, dw, nil, dy, x, w) end)
  for _, t in ipairs { x, dy, w, dw } do t:release() end
end

-- Forward and backward of an op through the tape. Gradients of what is a parameter are added to, as in a step; those
-- of activations are made anew.
local function taped(visit, name, count, cost, f, activations, parameters, ...)
  local args = {}
  for _, list in ipairs { activations, parameters, { ... } } do
    for _, t in ipairs(list) do args[#args + 1] = t end
  end
  visit { name = name .. " forward", count = count, bytes = cost.bytes, flops = cost.flops,
          run = function() autograd.no_grad(f, unpack(args)) end }
  for _, list in ipairs { activations, parameters } do
    for _, t in ipairs(list) do t.requires_grad = true end
  end
  visit { name = name .. " backward", count = count, bytes = cost.bytes_back, flops = cost.flops_back,
    prepare = function()
      local y = f(unpack(args))
      return { y, tensor.zeros(y:shape(), { dtype = y:dtype(), device = y:device() }) }
    end,
    run = function(made) made[1]:backward(made[2]) end,
    after = function()
      for _, t in ipairs(activations) do
        t.grad:release()
        t.grad = nil
      end
    end }
  for _, list in ipairs { activations, parameters } do
    for _, t in ipairs(list) do
      if t.grad then t.grad:release() end
      t:release()
    end
  end
end

-- Pairs of a token and one before it, or itself.
local function pairs_of(b)
  local sum = 0
  for s = 0, tonumber(b.sequences) - 1 do
    local len = b.cu_seqlens[s + 1] - b.cu_seqlens[s]
    sum = sum + len * (len + 1) / 2
  end
  return sum
end

-- Every op of a step at the model's shapes, one after the other, by `visit(op)`: `name`; `run`, with `prepare`
-- before and `after`, which are not timed; `count`, how often a step does it; `flops` or `bytes` of one; `matmul`,
-- whether it is one. What an op works on is there while it is visited.
function M.each_op(model, b, visit)
  local o = { dtype = model.dtype, device = tensor.device_name(model.device):match "%a+" }
  local c, n, learned = model.config, tonumber(b.n), tonumber(b.m)
  local q, kv, rows = c.heads * c.head_dim, c.kv_heads * c.head_dim, math.min(learned, 512)
  local size = door.dtype_bytes[o.dtype]
  local at = model:put(b)
  taped(visit, "embedding", 1, { bytes = 2 * n * c.d * size, bytes_back = n * c.d * (size + 8) },
        ops.embedding, {}, { random({ c.vocab, c.d }, o, "param") }, at.ids)
  linear(visit, "qkv", n, c.d, q + 2 * kv, c.layers, o)
  linear(visit, "o", n, q, c.d, c.layers, o)
  linear(visit, "gate, up", n, c.d, 2 * c.ffn, c.layers, o)
  linear(visit, "down", n, c.ffn, c.d, c.layers, o)
  linear(visit, "head", rows, c.d, c.vocab, learned / rows, o)
  local flops = 4 * pairs_of(b) * c.heads * c.head_dim  -- of causal attention, forward
  taped(visit, "attention", c.layers, { flops = flops, flops_back = 2.5 * flops },
        function(x) return ops.attention(ops.contiguous(x), nil, at.of_all) end,
        { random({ n, q + 2 * kv }, o) }, {})
  taped(visit, "add, rmsnorm", 2 * c.layers, { bytes = 4 * n * c.d * size, bytes_back = 4 * n * c.d * size },
        function(x, r, w) return (ops.add_rmsnorm(x, r, w, c.eps)) end,
        { random({ n, c.d }, o), random({ n, c.d }, o) }, { random({ c.d }, o, "param") })
  taped(visit, "swiglu", c.layers, { bytes = 3 * n * c.ffn * size, bytes_back = 5 * n * c.ffn * size },
        ops.swiglu, { random({ n, 2 * c.ffn }, o) }, {})
  local logits = random({ rows, c.vocab }, o)
  local target = tensor.zeros({ rows }, { dtype = "i32", device = o.device }):keep()
  local weight = tensor.full({ rows }, 1, { device = o.device }):keep()
  logits.requires_grad = true
  visit { name = "cross entropy", count = learned / rows, bytes = 2 * rows * c.vocab * size,
          run = function() ops.cross_entropy(logits, target, weight) end }
  for _, t in ipairs { logits, target, weight } do t:release() end
  local opt, bytes = optim.adamw(model, {}), 0
  for _, g in ipairs(model.groups) do
    local grad = g.grad:dtype() == "bf16" and 2 or 4  -- read for the norm and for the step
    bytes = bytes + g.flat:count() * (2 * grad + 16 + (size == 2 and 2 + 8 or 8))
  end
  visit { name = "adamw", count = 1, bytes = bytes, run = function() opt:step(0, 1) end }
  opt:release()
  for _, t in pairs(at) do if tensor.is(t) then t:release() end end
end

-- Best seconds of an op with oneDNN's matmul; nil where it refuses.
local function by_onednn(op, library, seconds)
  local best
  onednn.instead(library, function()
    local done, _, fastest = pcall(time, op, seconds)
    if done and (not best or fastest < best) then best = fastest end
  end)
  return best
end

--- A row an op at the model's shapes: `name`, `seconds` (median), `best`, `count`, `flops` or `bytes` of one;
-- `onednn`, its best seconds, where `o.onednn` is the library of `cft.cli.bench.onednn` and has such a matmul.
-- `o.seconds` are spent on each at least.
function M.ops(model, b, o)
  local rows = {}
  M.each_op(model, b, function(op)
    local seconds, best = time(op, o.seconds)
    rows[#rows + 1] = { name = op.name, seconds = seconds, best = best, count = op.count, flops = op.flops,
                        bytes = op.bytes, matmul = op.matmul,
                        onednn = op.matmul and o.onednn and by_onednn(op, o.onednn, o.seconds) or nil }
  end)
  return rows
end

-- ---- the step --------------------------------------------------------------------------------

--- Median seconds of a whole training step, and its peak memory.
-- @tparam Model model @tab b of `batch`
-- @tab o `seconds` to spend at least; `traced`, steps that are made under a trace behind those that are timed
function M.step(model, b, o)
  local opt = optim.adamw(model, {})
  model.options.ahead = true
  local loss
  tensor.memory(model.device, true)
  local function spanned(name, f, ...)
    local span = trace.begin(name)
    local result = f(...)
    trace.done(span)
    return result
  end
  local function one()
    model:zero_grad()
    tensor.as_class("activation", function()
      local l = spanned("forward", model.loss, model, b)
      spanned("backward", l.backward, l)
      spanned("optimizer", opt.step, opt, 1e-5, b.weight, { l })
      loss = spanned("wait for the device, and read the loss", l.item, l) / b.weight  -- the one wait for the device
    end)
  end
  local seconds, best = time({ run = one }, o.seconds)
  for i = 1, o.traced or 0 do
    if i == 1 then trace.start(model.device) else trace.sync() end
    spanned("step " .. i, M.once, { run = one })
  end
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

--- FLOPs of a step's matmuls and attention: of all tokens, or with what has no loss weight skipped as the
-- model does it (no head, no loss, and of the last block norm, k and v alone).
function M.arithmetic(c, b, skip)
  local n, m = tonumber(b.n), skip and tonumber(b.m) or tonumber(b.n)
  return archs.module(c).flops(c, n, m, pairs_of(b))
end

--- What a step may hold: weights, gradients and optimizer state, and what the list of ops says each
-- token and block keeps (docs/memory.md), a fifth added.
function M.memory_bound(model, b, held)
  local kept = require("cft.train.memory_plan").a_token(model).kept
  return held + 1.2 * kept * model.config.layers * tonumber(b.n), kept
end

--- A model of a shape or path in a dtype.
function M.model(name, dtype, device)
  local shape = not name:find "/" and require("cft.models.shapes").named(name)
  if not shape then return models.load(name, { dtype = dtype, device = device }) end
  shape.dtype, shape.device, shape.seed = dtype, device, 1
  return models.new(shape)
end

return M
