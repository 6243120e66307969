--- Every gradient rule of the program, one short entry an op.
--
-- `forward(ctx, ...)` computes and saves; `backward(ctx, dy)` hands C a slot for each argument's
-- gradient (nil where nobody wants it), or returns the gradients in the order of the arguments.

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"
local C, wrap = door.C, tensor.wrap

-- C's ops as Lua functions of tensors: outputs are returned.
local function maker(name, outs, arguments) return door.maker(C["cft_" .. name], outs, arguments, wrap) end
local function call(name, arguments) return door.call(C["cft_" .. name], arguments) end

local K = {
  linear_fwd = maker("linear_fwd", 1, "linear: x w b?"), linear_bwd = call("linear_bwd", 6),
  matmul = maker("matmul", 1, "matmul: a b #trans_a #trans_b"),
  embedding_fwd = maker("embedding_fwd", 1, "embedding: table ids"), embedding_bwd = call("embedding_bwd", 4),
  gather_rows = maker("gather_rows", 1, "gather_rows: x index"), scatter_rows = call("scatter_rows", 4),
  rmsnorm_bwd = call("rmsnorm_bwd", 7), rope = call("rope", "rope: x cos sin position #heads #inverse"),
  swiglu_fwd = maker("swiglu_fwd", 1, "swiglu: gate_up"), swiglu_bwd = call("swiglu_bwd", 3),
  attention_fwd = maker("attention_fwd", 2, "attention: q k v #heads #kv_heads #scale *layout"),
  attention_bwd = call("attention_bwd", 13),
  softmax_fwd = maker("softmax_fwd", 1, "softmax: x"), softmax_bwd = call("softmax_bwd", 3),
  unary = maker("unary_op", 1, "unary: x #f #alpha"), binary = maker("binary_op", 1, "binary: a b #f"),
  axpby = call("axpby", 4),
  reduce = maker("reduce", 1, "reduce: x #dim #f #alpha"),
}

local rule = {}

-- ---- linear, rows ----------------------------------------------------------------------------

rule.linear = {
  forward = function(ctx, x, w, b) ctx:save(x, w) return K.linear_fwd(x, w, b) end,
  backward = function(ctx, dy)
    local x, w = ctx:saved()
    K.linear_bwd(ctx:grad(1), ctx:grad(2), ctx:grad(3), dy, x, w)
  end,
}

rule.matmul = {
  forward = function(ctx, a, b) ctx:save(a, b) return K.matmul(a, b, 0, 0) end,
  backward = function(ctx, dy)
    local a, b = ctx:saved()
    return ctx:needs(1) and K.matmul(dy, b, 0, 1), ctx:needs(2) and K.matmul(a, dy, 1, 0)
  end,
}

rule.embedding = {
  forward = function(ctx, table_, ids) ctx:save(ids, table_:dim(0)) return K.embedding_fwd(table_, ids) end,
  backward = function(ctx, dy)
    local ids, rows = ctx:saved()
    if ctx:needs(1) then K.embedding_bwd(ctx:grad(1), dy, ids, rows) end
  end,
}

rule.gather_rows = {
  forward = function(ctx, x, index) ctx:save(index, x:shape()) return K.gather_rows(x, index) end,
  backward = function(ctx, dy)
    local index, shape = ctx:saved()
    local dx = tensor.zeros(shape, { dtype = dy:dtype(), device = dy:device() })
    K.scatter_rows(dx, dy, index, 1)
    return dx
  end,
}

-- ---- norm, activation ------------------------------------------------------------------------

rule.rmsnorm = {
  forward = function(ctx, x, w, eps)
    local y, _, rstd = tensor.rmsnorm_fwd(x, nil, w, eps)
    ctx:save(x, w, rstd)
    return y
  end,
  backward = function(ctx, dy)
    local x, w, rstd = ctx:saved()
    K.rmsnorm_bwd(ctx:grad(1), ctx:grad(2), dy, nil, x, w, rstd)
  end,
}

-- y, s = rmsnorm(x + residual), x + residual: one pass over memory. x and residual share ds.
rule.add_rmsnorm = {
  forward = function(ctx, x, residual, w, eps)
    local y, s, rstd = tensor.rmsnorm_fwd(x, residual, w, eps)
    ctx:save(s, w, rstd)
    return y, s
  end,
  backward = function(ctx, dy, dsum)
    local s, w, rstd = ctx:saved()
    if not dy then return dsum:detach(), dsum:detach() end
    local ds = door.ffi.new "cft_tensor *[1]"
    K.rmsnorm_bwd(ds, ctx:grad(3), dy, dsum, s, w, rstd)
    local d = wrap(ds[0])
    return d, d:detach()
  end,
}

rule.swiglu = {
  forward = function(ctx, gate_up) ctx:save(gate_up) return K.swiglu_fwd(gate_up) end,
  backward = function(ctx, dy)
    if ctx:needs(1) then K.swiglu_bwd(ctx:grad(1), dy, (ctx:saved())) end
  end,
}

-- ---- attention -------------------------------------------------------------------------------

-- Rotary positions, then attention. `q` holds the queries and, where `kv` is nil, keys and values
-- beside them: (n, (H + 2K) D); else q is (nq, H D) and kv (n, 2 K D). q and kv are rotated in
-- place: what made them needs only its own inputs to go back, and no copy is kept.
-- `a`: heads, kv_heads, scale, cos, sin, layout (a C struct), q_at and k_at (positions for the
-- rotation, i32).
local function parts(a, q, kv)
  local width = kv and q:dim(1) or q:dim(1) / (1 + 2 * a.kv_heads / a.heads)
  local kv_width = width / a.heads * a.kv_heads
  local keys, from = kv or q, kv and 0 or width
  return tensor.narrow(q, 1, 0, width), tensor.narrow(keys, 1, from, kv_width),
         tensor.narrow(keys, 1, from + kv_width, kv_width), tensor.narrow(keys, 1, from, 2 * kv_width)
end

rule.attention = {
  forward = function(ctx, q, kv, a)
    if kv and q:shares(kv) then blame "attention: q and kv share memory, and both are rotated in place" end
    local qv, kv_, vv = parts(a, q, kv)
    K.rope(qv, a.cos, a.sin, a.q_at, a.heads, 0)
    K.rope(kv_, a.cos, a.sin, a.k_at, a.kv_heads, 0)
    local o, lse = K.attention_fwd(qv, kv_, vv, a.heads, a.kv_heads, a.scale, a.layout)
    ctx:save(q, kv, a, o, lse)
    return o
  end,
  backward = function(ctx, d_o)
    local q, kv, a, o, lse = ctx:saved()
    local function like(x) return tensor.empty(x:shape(), { dtype = x:dtype(), device = x:device() }) end
    local dq, dkv = like(q), kv and like(kv)
    local qv, kv_, vv = parts(a, q, kv)
    local dqv, dkv_, dvv = parts(a, dq, dkv)
    K.attention_bwd(dqv, dkv_, dvv, d_o, o, lse, qv, kv_, vv, a.heads, a.kv_heads, a.scale, a.layout)
    K.rope(dqv, a.cos, a.sin, a.q_at, a.heads, 1)
    K.rope(dkv_, a.cos, a.sin, a.k_at, a.kv_heads, 1)
    return dq, dkv
  end,
}

-- Rotary positions alone, on a copy: for models that put something between it and attention.
rule.rope = {
  forward = function(ctx, x, cos, sin, at, heads)
    ctx:save(cos, sin, at, heads)
    local y = tensor.cast(x, x:dtype())
    K.rope(y, cos, sin, at, heads, 0)
    return y
  end,
  backward = function(ctx, dy)
    local cos, sin, at, heads = ctx:saved()
    local dx = tensor.cast(dy, dy:dtype())
    K.rope(dx, cos, sin, at, heads, 1)
    return dx
  end,
}

-- ---- loss ------------------------------------------------------------------------------------

-- The weighted sum of nll over a linear head, and nll itself (no gradient flows through that).
-- dx and dw come from the same pass over the logits. With `ahead`, dw is added to w.grad at once,
-- and the loss must be walked back as it is; without, dw waits for the gradient of the loss.
rule.linear_cross_entropy = {
  differentiable = { true, false },
  forward = function(ctx, x, w, target, weight, o)
    local ffi = door.ffi
    o = o or {}
    local nll = ffi.new "cft_tensor *[1]"
    local want_x = ctx.recorded and ctx:needs(1)
    local want_w = ctx.recorded and ctx:needs(2)
    local ahead = want_w and o.ahead and not w.node and w.grad ~= nil
    local dx = want_x and ffi.new "cft_tensor *[1]" or nil
    local dw = want_w and ffi.new "cft_tensor *[1]" or nil
    if ahead then dw[0] = door.raw(w.grad) end
    door.try(C.cft_linear_cross_entropy, nll, dx, dw, door.raw(x), door.raw(w), door.raw(target),
             door.raw(weight), 1, o.chunk or 0)
    local n = wrap(nll[0])
    local weighted = K.binary(n, n:dtype() == "f32" and weight or tensor.cast(weight, n:dtype()), C.CFT_MUL)
    local loss = K.reduce(weighted, -1, C.CFT_SUM, 1)
    ctx:save(dx and wrap(dx[0]), dw and not ahead and wrap(dw[0]) or nil, ahead)
    return loss, n
  end,
  backward = function(ctx, dloss)
    local dx, dw, ahead = ctx:saved()
    local s = dloss.is_one and 1 or dloss:item()
    if ahead and s ~= 1 then
      error("linear_cross_entropy: with ahead = true the loss itself is walked back, not a multiple", 0)
    end
    local function scaled(g)
      if not g then return nil end
      local y = g:detach()
      if s ~= 1 then K.axpby(y, y, s, 0) end
      return y
    end
    return scaled(dx), scaled(dw)
  end,
}

-- The same from logits that exist.
rule.cross_entropy = {
  differentiable = { true, false },
  forward = function(ctx, logits, target, weight)
    local ffi = door.ffi
    local nll, d = ffi.new "cft_tensor *[1]", ctx.recorded and ffi.new "cft_tensor *[1]" or nil
    door.try(C.cft_cross_entropy, nll, d, door.raw(logits), door.raw(target), door.raw(weight), 1)
    local n = wrap(nll[0])
    local weighted = K.binary(n, n:dtype() == "f32" and weight or tensor.cast(weight, n:dtype()), C.CFT_MUL)
    ctx:save(d and wrap(d[0]))
    return K.reduce(weighted, -1, C.CFT_SUM, 1), n
  end,
  backward = function(ctx, dloss)
    local d = ctx:saved()
    local y, s = d:detach(), dloss.is_one and 1 or dloss:item()
    if s ~= 1 then K.axpby(y, y, s, 0) end
    return y
  end,
}

rule.softmax = {
  forward = function(ctx, x)
    local y = K.softmax_fwd(x)
    ctx:save(y)
    return y
  end,
  backward = function(ctx, dy)
    if ctx:needs(1) then K.softmax_bwd(ctx:grad(1), dy, (ctx:saved())) end
  end,
}

-- ---- elementwise -----------------------------------------------------------------------------

local function u(f, x, alpha) return K.unary(x, f, alpha or 1) end
local function b(f, x, y) return K.binary(x, y, f) end

-- dx = dy * slope(x, y), the slope a tensor of x's shape.
local function unary(f, slope)
  return {
    forward = function(ctx, x)
      local y = u(f, x)
      ctx:save(x, y)
      return y
    end,
    backward = function(ctx, dy) return b(C.CFT_MUL, dy, slope(ctx:saved())) end,
  }
end

rule.exp = unary(C.CFT_EXP, function(_, y) return y end)
rule.log = unary(C.CFT_LOG, function(x) return u(C.CFT_RECIPROCAL, x) end)
rule.sqrt = unary(C.CFT_SQRT, function(_, y) return u(C.CFT_RECIPROCAL, y, 0.5) end)
rule.rsqrt = unary(C.CFT_RSQRT, function(x, y) return u(C.CFT_NEG, b(C.CFT_DIV, y, x), 0.5) end)
rule.sin = unary(C.CFT_SIN, function(x) return u(C.CFT_COS, x) end)
rule.cos = unary(C.CFT_COS, function(x) return u(C.CFT_SIN, x, -1) end)
rule.relu = unary(C.CFT_RELU, function(x) return u(C.CFT_STEP, x) end)
rule.square = unary(C.CFT_SQUARE, function(x) return u(C.CFT_NEG, x, -2) end)
rule.reciprocal = unary(C.CFT_RECIPROCAL, function(_, y) return u(C.CFT_SQUARE, y, -1) end)
rule.tanh = unary(C.CFT_TANH, function(_, y) -- 1 - y^2
  local s = u(C.CFT_SQUARE, y, -1)
  return b(C.CFT_ADD, s, tensor.ones({ 1 }, { dtype = s:dtype(), device = s:device() }))
end)
rule.sigmoid = unary(C.CFT_SIGMOID, function(_, y) return b(C.CFT_SUB, y, u(C.CFT_SQUARE, y)) end)
rule.silu = unary(C.CFT_SILU, function(x, y) -- s + y (1 - s)
  local s = u(C.CFT_SIGMOID, x)
  return b(C.CFT_SUB, b(C.CFT_ADD, s, y), b(C.CFT_MUL, y, s))
end)
rule.abs = unary(C.CFT_ABS, function(x) -- step(x) - step(-x)
  return b(C.CFT_SUB, u(C.CFT_STEP, x), u(C.CFT_STEP, u(C.CFT_NEG, x)))
end)

-- y = alpha * x, alpha a Lua number.
rule.scale = {
  forward = function(ctx, x, alpha)
    door.number("scale", "alpha", alpha)
    ctx:save(alpha)
    return u(C.CFT_NEG, x, -alpha)
  end,
  backward = function(ctx, dy) return u(C.CFT_NEG, dy, -ctx:saved()) end,
}

-- The gradient of an operand that was read as a row, as a number a row, or as one number: summed
-- over what it was repeated along.
local function unbroadcast(g, like)
  local count, shape = like:count(), like:shape()
  if g:count() == count then return tensor.reshape(g, shape) end
  if count == 1 then return tensor.reshape(K.reduce(g, -1, C.CFT_SUM, 1), shape) end
  local last = g:dim(g:ndim() - 1)
  if shape[#shape] == 1 and #shape == g:ndim() then
    return tensor.reshape(K.reduce(g, g:ndim() - 1, C.CFT_SUM, 1), shape)
  end
  return K.reduce(tensor.reshape(g, { g:count() / last, last }), 0, C.CFT_SUM, 1)
end

local function binary(f, dx, dy)
  return {
    forward = function(ctx, x, y) ctx:save(x, y) return b(f, x, y) end,
    backward = function(ctx, g)
      local x, y = ctx:saved()
      return ctx:needs(1) and dx(g, x, y), ctx:needs(2) and unbroadcast(dy(g, x, y), y)
    end,
  }
end

local function same(g) return tensor.cast(g, g:dtype()) end
rule.add = binary(C.CFT_ADD, same, same)
rule.sub = binary(C.CFT_SUB, same, function(g) return u(C.CFT_NEG, g) end)
rule.mul = binary(C.CFT_MUL, function(g, _, y) return b(C.CFT_MUL, g, y) end,
                  function(g, x) return b(C.CFT_MUL, g, x) end)
rule.div = binary(C.CFT_DIV, function(g, _, y) return b(C.CFT_DIV, g, y) end,
                  function(g, x, y) -- -g x / y^2
                    return u(C.CFT_NEG, b(C.CFT_DIV, b(C.CFT_DIV, b(C.CFT_MUL, g, x), y), y))
                  end)

-- ---- reductions, shapes, casts ---------------------------------------------------------------

rule.sum = {
  forward = function(ctx, x, dim) ctx:save(x:shape(), dim or -1) return K.reduce(x, dim or -1, C.CFT_SUM, 1) end,
  backward = function(ctx, dy)
    local shape, dim = ctx:saved()
    local dx = tensor.zeros(shape, { dtype = dy:dtype(), device = dy:device() })
    if dim == -1 then return b(C.CFT_ADD, dx, tensor.reshape(dy, { 1 })) end
    -- Move the summed dimension last, where one number a row can be added.
    local last = #shape - 1
    local moved = tensor.contiguous(tensor.transpose(dx, dim, last))
    local lead = moved:shape()
    lead[#lead] = 1
    local keep = {}
    for i, d in ipairs(shape) do keep[i] = i - 1 == dim and 1 or d end
    local g = tensor.contiguous(tensor.transpose(tensor.reshape(dy, keep), dim, last))
    local spread = b(C.CFT_ADD, moved, tensor.reshape(g, lead))
    return tensor.contiguous(tensor.transpose(spread, dim, last))
  end,
}

rule.reshape = {
  forward = function(ctx, x, dims) ctx:save(x:shape()) return tensor.reshape(x, dims) end,
  backward = function(ctx, dy) return tensor.reshape(dy, (ctx:saved())) end,
}

rule.transpose = {
  forward = function(ctx, x, i, j) ctx:save(i, j) return tensor.transpose(x, i, j) end,
  backward = function(ctx, dy) return tensor.contiguous(tensor.transpose(dy, ctx:saved())) end,
}

rule.narrow = {
  forward = function(ctx, x, dim, start, len)
    ctx:save(x:shape(), dim, start, len)
    return tensor.narrow(x, dim, start, len)
  end,
  backward = function(ctx, dy)
    local shape, dim, start, len = ctx:saved()
    local dx = tensor.zeros(shape, { dtype = dy:dtype(), device = dy:device() })
    tensor.narrow(dx, dim, start, len):copy_(dy)
    return dx
  end,
}

rule.contiguous = {
  forward = function(_, x) return tensor.contiguous(x) end,
  backward = function(_, dy) return same(dy) end,
}

rule.cast = {
  forward = function(ctx, x, dtype) ctx:save(x:dtype()) return tensor.cast(x, dtype) end,
  backward = function(ctx, dy) return tensor.cast(dy, (ctx:saved())) end,
}

return setmetatable(rule, { __index = { parts = parts } })
