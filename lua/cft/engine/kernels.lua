--- C's ops as Lua functions of tensors, each declared once: here where rules call them by hand, or in the
-- rule itself where one call of C goes forward and one back. Nothing here is recorded.
-- @usage local kernels = require "cft.engine.kernels"
-- local x, w, dy = cft.ones { 2, 3 }, cft.ones { 4, 3 }, cft.ones { 2, 4 }
-- local y = kernels.linear_fwd(x, w, nil)
-- local dx, dw = kernels.linear_bwd(true, true, nil, dy, x, w)

local door = require "cft.engine.ffi"
local tensor = require "cft.engine.tensor"

local M = {}

for _, text in ipairs {
  "linear_fwd: x w b? -> y", "linear_bwd: dy x w -> dx? dw? db?",
  "matmul: a b #trans_a #trans_b -> y", "logits: x w -> y",
  "embedding_fwd: table ids -> y", "embedding_bwd: dy ids #rows -> dtable?",
  "gather_rows: x index -> y", "scatter_rows: y x index #add",
  "rmsnorm_fwd: x residual? w #eps -> y sum? rstd", "rmsnorm_bwd: dy dsum? s w rstd -> ds? dw?",
  "rope: x cos sin position #heads #inverse",
  "attention_fwd: q k v #heads #kv_heads #scale *layout -> o lse",
  "attention_bwd: dq dk dv do o lse q k v #heads #kv_heads #scale *layout",
  "attention_paged: q k v #heads #kv_heads #scale *layout -> o",
  "block_paged: x branch? cache *weights *step -> y sum",
  "sample: logits numbers keys cu_seen seen cu_bias bias_id bias #top_n -> token logprob top top_logprob",
  "cross_entropy: logits target weight #scale -> nll dlogits?",
  "linear_cross_entropy: x w target weight #scale #chunk -> nll dx? dw?",
  "unary_op: x #f #alpha -> y", "binary_op: a b #f -> y", "reduce: x #dim #f #alpha -> y",
  "axpby: y x #alpha #beta",
} do
  M[text:match "^[%w_]+"] = door.bind(text, tensor.wrap)
end

--- alpha f(x), f by its name in C: "exp", "neg", "reciprocal", ...
function M.unary(f, x, alpha) return M.unary_op(x, door.constant[f], alpha or 1) end

--- f(x, y): "add", "sub", "mul", "div", "max", "min", "pow"
function M.binary(f, x, y) return M.binary_op(x, y, door.constant[f]) end

--- "sum", "maximum" or "argmax" over one dimension; over all without.
function M.reduction(f, x, dim) return M.reduce(x, dim or -1, door.constant[f], 1) end

--- The gradient of an operand that was read as a row, as a number a row, or as one number: summed over what
-- it was repeated along. @tparam Tensor g @tparam Tensor like the operand
function M.unbroadcast(g, like)
  local count, shape = like:count(), like:shape()
  if g:count() == count then return tensor.reshape(g, shape) end
  if count == 1 then return tensor.reshape(M.reduction("sum", g), shape) end
  local last = g:dim(g:ndim() - 1)
  if shape[#shape] == 1 and #shape == g:ndim() then
    return tensor.reshape(M.reduction("sum", g, g:ndim() - 1), shape)
  end
  return M.reduction("sum", tensor.reshape(g, { g:count() / last, last }), 0)
end

--- The gradient of a sum: repeated along what was summed. @tparam Tensor g @tab shape of what was summed @int dim or -1
function M.spread(g, shape, dim)
  local zeros = tensor.zeros(shape, { dtype = g:dtype(), device = g:device() })
  if dim == -1 then return M.binary("add", zeros, tensor.reshape(g, { 1 })) end
  -- Move the summed dimension last, where one number a row can be added.
  local last, keep = #shape - 1, {}
  for i, d in ipairs(shape) do keep[i] = i - 1 == dim and 1 or d end
  local function moved(t) return tensor.contiguous(tensor.transpose(t, dim, last)) end
  return moved(M.binary("add", moved(zeros), moved(tensor.reshape(g, keep))))
end

--- Rows that the head works on at a time. @int host_memory 1 on a device whose memory is the host's, else 0
-- @int rows in all @int vocab
function M.head_chunk(host_memory, rows, vocab) return tonumber(door.C.cft_head_chunk(host_memory, rows, vocab)) end

-- Where C puts the gradients of arguments i to n, then the rest.
local function with_gradients(ctx, i, n, ...)
  if i > n then return ... end
  return ctx:grad(i), with_gradients(ctx, i + 1, n, ...)
end

--- The rule of an op that is one call of C forward and one back, from its declaration:
--
--     kernel { "swiglu: gate_up -> y", saves = "gate_up" }
--
-- is `cft_swiglu_fwd(&y, gate_up)` and `cft_swiglu_bwd(&dgate_up, dy, gate_up)`: gradients of all tensors
-- that go in, the gradient of what came out, what was saved.
-- @tab spec the declaration as of `cft.engine.ffi.bind`, of tensors alone; `saves`, names out of it; further
-- fields are the rule's
-- @treturn table the rule
function M.kernel(spec)
  local name, ins, out = spec[1]:match "^([%w_]+): (.*) %-> ([%w_]+)$"
  local place, gradients, saved = {}, {}, {}
  for arg in ins:gmatch "[%w_]+" do
    gradients[#gradients + 1] = "d" .. arg .. "?"
    place[arg] = #gradients
  end
  for arg in spec.saves:gmatch "[%w_]+" do saved[#saved + 1] = place[arg] or out end
  local forward = door.bind(("%s_fwd: %s -> %s"):format(name, ins, out), tensor.wrap)
  local backward = door.bind(("%s_bwd: d%s %s -> %s"):format(name, out, spec.saves, table.concat(gradients, " ")),
                             tensor.wrap)
  return {
    method = spec.method,
    forward = function(ctx, ...)
      local y, kept = forward(...), {}
      if ctx.recorded == false then return y end
      for i, at in ipairs(saved) do kept[i] = at == out and y or (select(at, ...)) end
      ctx:save(unpack(kept, 1, #saved))
      return y
    end,
    backward = function(ctx, dy)
      for i = 1, #gradients do
        if ctx:needs(i) then return backward(with_gradients(ctx, 1, #gradients, dy, ctx:saved())) end
      end
    end,
  }
end

return M
