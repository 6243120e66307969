--- Rules of sums, views, copies and casts.

local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"

local rule = {}

local function method(forward, backward) return { method = true, forward = forward, backward = backward } end

rule.sum = method(
  function(ctx, x, dim) ctx:save(x:shape(), dim or -1) return kernels.reduction("sum", x, dim) end,
  function(ctx, dy) return kernels.spread(dy, ctx:saved()) end)

rule.reshape = method(
  function(ctx, x, dims) ctx:save(x:shape()) return tensor.reshape(x, dims) end,
  function(ctx, dy) return tensor.reshape(dy, (ctx:saved())) end)

rule.transpose = method(
  function(ctx, x, i, j) ctx:save(i, j) return tensor.transpose(x, i, j) end,
  function(ctx, dy) return tensor.contiguous(tensor.transpose(dy, ctx:saved())) end)

rule.narrow = method(
  function(ctx, x, ...) ctx:save(x:shape(), ...) return tensor.narrow(x, ...) end,
  function(ctx, dy)
    local shape, dim, start, len = ctx:saved()
    local dx = tensor.zeros(shape, { dtype = dy:dtype(), device = dy:device() })
    tensor.narrow(dx, dim, start, len):copy_(dy)
    return dx
  end)

rule.contiguous = method(
  function(_, x) return tensor.contiguous(x) end,
  function(_, dy) return tensor.cast(dy, dy:dtype()) end)

rule.cast = method(  -- recorded, where `:to` is a plain copy
  function(ctx, x, dtype) ctx:save(x:dtype()) return tensor.cast(x, dtype) end,
  function(ctx, dy) return tensor.cast(dy, (ctx:saved())) end)

return rule
