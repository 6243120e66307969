-- Single ops against PyTorch and transformers: tests/golden/ops.safetensors, f32. What is compared is the
-- op as models call it, forward and backward. tests/golden/README.md has the conventions.

local autograd = require "cft.engine.autograd"
local door = require "cft.engine.ffi"
local golden = require "tests.golden"
local inputs_of = require "cft.nn.inputs"
local json = require "cft.base.json"
local kernels = require "cft.engine.kernels"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local rope = require "cft.nn.rope"
local tensor = require "cft.engine.tensor"

local C = door.C
local TOLERANCE = 1e-5
local spec = assert(json.read "tests/golden/ops.json").cases
local tests = {}

-- A case's tensors by name; `want(name, got)` compares with the golden one.
local function each(name, fn)
  for i, numbers in ipairs(spec[name]) do
    tests[#tests + 1] = { ("%s %d: as PyTorch"):format(name, i - 1), function()
      local file = golden.open "tests/golden/ops.safetensors"
      tensor.scope(function()
        local function get(key)
          local t = file(("%s.%d.%s"):format(name, i - 1, key))
          if t and t:dtype() == "f32" then t.requires_grad = true end
          return t
        end
        local function want(key, got, tolerance)
          op.agree(op.numbers(tensor.contiguous(got)), op.numbers(get(key)), tolerance or TOLERANCE, key, 1e-6)
        end
        fn(get, want, numbers)
      end)
    end }
  end
end

-- Forward, then backward from dy; y and the gradients of `names` are compared.
local function differentiate(get, want, names, f, tolerance)
  local x = {}
  for i, key in ipairs(names) do x[i] = get(key) end
  local y = f(unpack(x, 1, #names))
  want("y", y)
  y:keep()
  y:backward(get "dy")
  for i, key in ipairs(names) do
    if x[i] then want("d" .. key, x[i].grad, tolerance) end
  end
end

each("linear", function(get, want)
  differentiate(get, want, { "x", "w", "b" }, function(x, w, b) return ops.linear(x, w, b) end)
end)

each("embedding", function(get, want)
  local ids = get "ids"
  differentiate(get, want, { "table" }, function(table_) return ops.embedding(table_, ids) end)
end)

each("rmsnorm", function(get, want, o)
  -- A row of one number is its own mean: its gradient is what is left of two equal terms in f32.
  local tolerance = get("x"):dim(1) == 1 and 2e-4 or nil
  differentiate(get, want, { "x", "w" }, function(x, w) return ops.rmsnorm(x, w, o.eps) end, tolerance)
end)

each("rmsnorm_residual", function(get, want, o)
  local x, residual, w = get "x", get "residual", get "w"
  local y, s = ops.add_rmsnorm(x, residual, w, o.eps)
  want("y", y)
  want("sum", s)
  y:keep() s:keep()
  -- One scalar whose gradients to y and to the sum are dy and dsum.
  local total = ops.sum(ops.mul(y, get "dy":detach())) + ops.sum(ops.mul(s, get "dsum":detach()))
  total:backward()
  want("ds", x.grad)
  want("ds", residual.grad)
  want("dw", w.grad)
end)

each("rope", function(get, want, o)
  local p, x, at = o.parameters, get "x", get "position"
  local n, width = x:dim(0), o.heads * o.head_dim
  local scaling = p.rope_type ~= "default" and { type = p.rope_type } or nil
  for key, v in pairs(scaling and p or {}) do scaling[key] = scaling[key] or v end
  local last = 0
  for _, v in ipairs(op.numbers(at)) do last = math.max(last, v) end
  local f = rope.frequencies(o.head_dim, p.rope_theta, scaling)
  local cos, sin = rope.tables(last + 1, f, o.head_dim, "f32", x:device())
  want("cos", ops.gather_rows(cos, at))
  want("sin", ops.gather_rows(sin, at))
  local y = ops.rope(ops.reshape(x, { n, width }), cos, sin, at, o.heads)
  want("y", y)
  y:keep()
  y:backward(tensor.reshape(get "dy", { n, width }))
  want("dx", x.grad)
  cos:release() sin:release()
end)

each("swiglu", function(get, want)
  -- gate and up are the halves of one row here.
  local gate, up = get "gate", get "up"
  local n, d = gate:dim(0), gate:dim(1)
  local both = tensor.empty { n, 2 * d }
  tensor.narrow(both, 1, 0, d):copy_(gate)
  tensor.narrow(both, 1, d, d):copy_(up)
  both.requires_grad = true
  local y = ops.swiglu(both)
  want("y", y)
  y:keep()
  y:backward(get "dy")
  want("dgate", tensor.narrow(both.grad, 1, 0, d))
  want("dup", tensor.narrow(both.grad, 1, d, d))
end)

each("attention", function(get, want, o)
  local function rows(t) return tensor.reshape(t, { t:dim(0), t:dim(1) * t:dim(2) }) end
  local function longest(cu)
    local list, most = op.numbers(cu), 0
    for i = 2, #list do most = math.max(most, list[i] - list[i - 1]) end
    return most
  end
  local q, k, v, d_o = rows(get "q"), rows(get "k"), rows(get "v"), rows(get "do")
  local cu_q, cu_k, owner = get "cu_q", get "cu_k", {}
  local l = inputs_of.layout({ cu_q = cu_q, cu_k = cu_k, longest_q = longest(cu_q),
                               longest_k = longest(cu_k) }, owner)
  local y, lse = kernels.attention_fwd(q, k, v, o.H, o.K, o.scale, l)
  want("o", y)
  want("lse", lse)
  local dq, dk, dv = tensor.empty(q:shape()), tensor.empty(k:shape()), tensor.empty(v:shape())
  kernels.attention_bwd(dq, dk, dv, d_o, y, lse, q, k, v, o.H, o.K, o.scale, l)
  want("dq", dq)
  want("dk", dk)
  want("dv", dv)
end)

each("softmax", function(get, want) differentiate(get, want, { "x" }, function(x) return ops.softmax(x) end) end)

-- Golden gradients are those of the mean; ours of the sum.
local function mean_gradient(get, x)
  return ops.scale(x.grad:detach(), 1 / ops.sum(get "weight":detach()):item())
end

each("cross_entropy", function(get, want)
  local x, weight = get "logits", get "weight":detach()
  local loss, nll = ops.cross_entropy(x, get "target", weight)
  want("nll", nll)
  loss:backward()
  want("dlogits", mean_gradient(get, x))
end)

each("linear_cross_entropy", function(get, want)
  local x, w = get "x", get "w"
  local loss, nll = ops.linear_cross_entropy(x, w, get "target", get "weight":detach())
  want("nll", nll)
  loss:backward()
  want("dx", mean_gradient(get, x))
  want("dw", mean_gradient(get, w))
end)

local sum_squares, clip_scale = door.call(C.cft_sum_squares, 3), door.call(C.cft_clip_scale, 4)
local adamw = door.call(C.cft_adamw_step, 7)

each("clip_grad_norm", function(get, want, o)
  local sum, out = tensor.zeros({ 1 }, { dtype = "f64" }), tensor.zeros { 2 }
  local i = 0
  while get("g" .. i) do
    sum_squares(sum, tensor.contiguous(get("g" .. i)), 1)
    i = i + 1
  end
  clip_scale(out, sum, 1, o.max_norm)
  want("norm", tensor.reshape(tensor.narrow(out, 0, 1, 1), get("norm"):shape()))
  for j = 0, i - 1 do
    want("y" .. j, ops.scale(get("g" .. j):detach(), (out:to_host())[0]))
  end
end)

each("adamw", function(get, want, o)
  local p, settings = get "p":detach(), door.ffi.new "cft_adamw_options"
  local m, v = tensor.zeros(p:shape()), tensor.zeros(p:shape())
  settings.beta1, settings.beta2, settings.eps, settings.decay = o.beta1, o.beta2, o.eps, o.decay
  for t, lr in ipairs(o.lr) do
    settings.lr, settings.step = lr, t
    adamw(p, nil, m, v, get("g" .. t):detach(), nil, settings)
    want("p" .. t, p)
    want("m" .. t, m)
    want("v" .. t, v)
  end
end)

return tests
