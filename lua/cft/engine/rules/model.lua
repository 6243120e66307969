--- Rules of what models are made of: linear layers, rows, norms, attention, losses.

local blame = require "cft.base.blame"
local K = require "cft.engine.kernels"
local rotary = require "cft.engine.rotary"
local tensor = require "cft.engine.tensor"
local kernel = K.kernel

local rule = {}

rule.linear = kernel { "linear: x w b? -> y", saves = "x w" }
rule.swiglu = kernel { "swiglu: gate_up -> y", saves = "gate_up" }
rule.relu2 = kernel { "relu2: x -> y", saves = "x", method = true }
rule.softmax = kernel { "softmax: x -> y", saves = "y", method = true }

rule.matmul = {
  method = true,
  forward = function(ctx, a, b) ctx:save(a, b) return K.matmul(a, b, 0, 0) end,
  backward = function(ctx, dy)
    local a, b = ctx:saved()
    return ctx:needs(1) and K.matmul(dy, b, 0, 1), ctx:needs(2) and K.matmul(a, dy, 1, 0)
  end,
}

rule.embedding = {
  forward = function(ctx, table_, ids) ctx:save(ids, table_:dim(0)) return K.embedding_fwd(table_, ids) end,
  backward = function(ctx, dy) if ctx:needs(1) then return K.embedding_bwd(ctx:grad(1), dy, ctx:saved()) end end,
}

rule.gather_rows = {
  method = true,
  forward = function(ctx, x, index) ctx:save(index, x:shape()) return K.gather_rows(x, index) end,
  backward = function(ctx, dy)
    local index, shape = ctx:saved()
    local dx = tensor.zeros(shape, { dtype = dy:dtype(), device = dy:device() })
    K.scatter_rows(dx, dy, index, 1)
    return dx
  end,
}

rule.rmsnorm = {
  forward = function(ctx, x, w, eps)
    local y, _, rstd = K.rmsnorm_fwd(nil, x, nil, w, eps)
    ctx:save(x, w, rstd)
    return y
  end,
  backward = function(ctx, dy) return K.rmsnorm_bwd(ctx:grad(1), ctx:grad(2), dy, nil, ctx:saved()) end,
}

-- y, s = rmsnorm(x + residual), x + residual: one pass over memory. x and residual share ds.
rule.add_rmsnorm = {
  forward = function(ctx, x, residual, w, eps)
    local y, s, rstd = K.rmsnorm_fwd(true, x, residual, w, eps)
    ctx:save(s, w, rstd)
    return y, s
  end,
  backward = function(ctx, dy, dsum)
    if not dy then return dsum:detach(), dsum:detach() end
    local ds, dw = K.rmsnorm_bwd(true, ctx:grad(3), dy, dsum, ctx:saved())
    return ds, ds:detach(), dw
  end,
}

-- Rotary positions, then attention, of q and kv as `rotary.split` has them. Both are rotated in place: what
-- made them needs only its own inputs to go back, and no copy is kept.
-- `a`: what `rotary` takes, and `scale`, `layout` (a C struct).
rule.attention = {
  forward = function(ctx, q, kv, a)
    if kv and q:shares(kv) then blame "attention: q and kv share memory, and both are rotated in place" end
    local qv, kv_, vv = rotary.split(a, q, kv)
    rotary.rotate(a, qv, kv_, 0)
    local o, lse = K.attention_fwd(qv, kv_, vv, a.heads, a.kv_heads, a.scale, a.layout)
    ctx:save(q, kv, a, o, lse)
    return o
  end,
  backward = function(ctx, d_o)
    local q, kv, a, o, lse = ctx:saved()
    local function like(x) return tensor.empty(x:shape(), { dtype = x:dtype(), device = x:device() }) end
    local dq, dkv = like(q), kv and like(kv)
    local qv, kv_, vv = rotary.split(a, q, kv)
    local dqv, dkv_, dvv = rotary.split(a, dq, dkv)
    K.attention_bwd(dqv, dkv_, dvv, d_o, o, lse, qv, kv_, vv, a.heads, a.kv_heads, a.scale, a.layout)
    rotary.rotate(a, dqv, dkv_, 1)
    return dq, dkv
  end,
}

-- Rotary positions alone, on a copy: for models that put something between it and attention.
local function rotated(x, inverse, cos, sin, at, heads)
  local y = tensor.cast(x, x:dtype())
  K.rope(y, cos, sin, at, heads, inverse)
  return y
end

rule.rope = {
  forward = function(ctx, x, ...) ctx:save(...) return rotated(x, 0, ...) end,
  backward = function(ctx, dy) return rotated(dy, 1, ctx:saved()) end,
}

local function weighted_sum(nll, weight)
  local w = nll:dtype() == "f32" and weight or tensor.cast(weight, nll:dtype())
  return K.reduction("sum", K.binary("mul", nll, w))
end

-- A gradient of the loss itself, times the gradient that reached the loss.
local function scaled(g, s)
  if not g then return nil end
  local y = g:detach()
  if s ~= 1 then K.axpby(y, y, s, 0) end
  return y
end

-- The weighted sum of nll over a linear head, and nll itself (no gradient flows through that).
-- dx and dw come from the same pass over the logits. With `ahead`, dw is added to w.grad at once,
-- and backward must start at the loss as it is; without, dw waits for the gradient of the loss.
rule.linear_cross_entropy = {
  differentiable = { true, false },
  forward = function(ctx, x, w, target, weight, o)
    local want_x, want_w = ctx.recorded and ctx:needs(1), ctx.recorded and ctx:needs(2)
    local ahead = want_w and o and o.ahead and not w.node and w.grad or nil
    local nll, dx, dw = K.linear_cross_entropy(want_x, ahead or want_w, x, w, target, weight, 1, o and o.chunk or 0)
    ctx:save(dx, dw, ahead ~= nil)
    return weighted_sum(nll, weight), nll
  end,
  backward = function(ctx, dloss)
    local dx, dw, ahead = ctx:saved()
    local s = dloss.is_one and 1 or dloss:item()
    if ahead and s ~= 1 then
      error("linear_cross_entropy: with ahead = true backward starts at the loss itself, not at a multiple", 0)
    end
    return scaled(dx, s), scaled(dw, s)
  end,
}

-- The same from logits that exist.
rule.cross_entropy = {
  differentiable = { true, false },
  forward = function(ctx, logits, target, weight)
    local nll, d = K.cross_entropy(ctx.recorded, logits, target, weight, 1)
    ctx:save(d)
    return weighted_sum(nll, weight), nll
  end,
  backward = function(ctx, dloss) return scaled((ctx:saved()), dloss.is_one and 1 or dloss:item()) end,
}

return rule
