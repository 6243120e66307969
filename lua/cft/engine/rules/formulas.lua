--- What each op computes, its arguments and their shapes: for `help`, the reference and docs/ops. n rows, d wide.
-- @module cft.engine.rules.formulas

local M = {}

local function op(name, arguments, formula, shapes)
  M[name] = { arguments = arguments, formula = formula, shapes = shapes }
end

local function elementwise(name, formula) op(name, "(x)", formula, "of any shape") end

elementwise("exp", "e^x")
elementwise("log", "ln x")
elementwise("sqrt", "x^(1/2)")
elementwise("rsqrt", "x^(-1/2)")
elementwise("sin", "sin x")
elementwise("cos", "cos x")
elementwise("tanh", "tanh x")
elementwise("sigmoid", "1 / (1 + e^-x)")
elementwise("relu", "max(x, 0)")
elementwise("relu2", "y = max(x, 0)^2")
elementwise("silu", "x sigmoid(x)")
elementwise("abs", "|x|")
elementwise("square", "x^2")
elementwise("reciprocal", "1 / x")
op("scale", "(x, alpha)", "alpha x", "alpha a Lua number")
for name, formula in pairs { add = "x + y", sub = "x - y", mul = "x y", div = "x / y" } do
  op(name, "(x, y)", formula, "of one shape, or y of x's last dimensions, or of one number")
end

op("linear", "(x, w, b)", "y = x w^T + b", "x (n, k), w (m, k), b (m) or nil -> y (n, m)")
op("matmul", "(a, b)", "y = a b", "a (n, k), b (k, m) -> y (n, m)")
op("embedding", "(table, ids)", "y[i] = table[ids[i]]", "table (V, d), ids (n) i32 -> y (n, d)")
op("gather_rows", "(x, index)", "y[i] = x[index[i]]", "x (N, d), index (n) i32, each below N -> y (n, d)")
op("rmsnorm", "(x, w, eps)", "y = w x / sqrt(mean(x^2) + eps)", "x (..., d), w (d)")
op("add_rmsnorm", "(x, residual, w, eps)", "s = x + residual, y = rmsnorm(s); both", "x and residual (..., d), w (d) -> y, s")
op("rope", "(x, ...)", "pairs (j, j + D/2) turned by their position", "see cft.engine.rotary")
op("attention", "(q, kv, a)", "[attention.md](attention.md), with rope", "see docs/ops/attention.md")
op("swiglu", "(gate_up)", "y = gate sigmoid(gate) up, gate and up beside each other", "gate_up (n, 2 d) -> y (n, d)")
op("softmax", "(x)", "y = exp(x) / sum exp(x), of each row", "x (n, d)")
op("cross_entropy", "(logits, target, weight)", "sum of weight (logsumexp(x) - x[target])",
   "logits (n, V), target (n) i32, weight (n) -> the sum, and nll (n), through which no gradient flows")
op("linear_cross_entropy", "(x, w, target, weight, options)", "cross_entropy(linear(x, w)), logits a chunk at a time",
   "x (n, d), w (V, d), target (n) i32, weight (n) -> the sum, and nll (n), through which no gradient flows")

op("sum", "(x, dim)", "over one dimension, or all", "dim from 0; nil: one number")
op("reshape", "(x, dims)", "the same numbers in another shape", "dims a table of as many numbers in all; a view")
op("transpose", "(x, i, j)", "two dimensions exchanged", "dimensions from 0; a view")
op("narrow", "(x, dim, start, len)", "a part of a dimension", "dim and start from 0; a view")
op("contiguous", "(x)", "row-major", "a copy, or x itself where it is already")
op("cast", "(x, dtype)", "another dtype", "dtype f32, bf16, f16 or f64; recorded, where x:to(dtype) is a plain copy")

-- ---- an example each, as typed at the prompt; of rope and attention see docs/ops/attention.md --------

local function example(name, text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  M[name].example = lines
end

example("exp", [[
cft.ops.exp(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {1.6487, 7.3891}]])
example("log", [[
cft.ops.log(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {-0.69315, 0.69315}]])
example("sqrt", [[
cft.ops.sqrt(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.70711, 1.4142}]])
example("rsqrt", [[
cft.ops.rsqrt(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {1.4142, 0.70711}]])
example("sin", [[
cft.ops.sin(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.47943, 0.9093}]])
example("cos", [[
cft.ops.cos(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.87758, -0.41615}]])
example("tanh", [[
cft.ops.tanh(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.46212, 0.96403}]])
example("sigmoid", [[
cft.ops.sigmoid(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.62246, 0.8808}]])
example("relu", [[
cft.ops.relu(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.5, 2}]])
example("relu2", [[
cft.ops.relu2(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.25, 4}]])
example("silu", [[
cft.ops.silu(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.31123, 1.7616}]])
example("abs", [[
cft.ops.abs(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.5, 2}]])
example("square", [[
cft.ops.square(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {0.25, 4}]])
example("reciprocal", [[
cft.ops.reciprocal(cft.tensor { 0.5, 2 })
--> (2) f32 on cpu {2, 0.5}]])
example("scale", [[
cft.ops.scale(cft.tensor { 0.5, 2 }, 3)
--> (2) f32 on cpu {1.5, 6}]])
example("add", [[
cft.ops.add(cft.tensor { 0.5, 2 }, cft.tensor { 1, 4 })
--> (2) f32 on cpu {1.5, 6}]])
example("sub", [[
cft.ops.sub(cft.tensor { 0.5, 2 }, cft.tensor { 1, 4 })
--> (2) f32 on cpu {-0.5, -2}]])
example("mul", [[
cft.ops.mul(cft.tensor { 0.5, 2 }, cft.tensor { 1, 4 })
--> (2) f32 on cpu {0.5, 8}]])
example("div", [[
cft.ops.div(cft.tensor { 0.5, 2 }, cft.tensor { 1, 4 })
--> (2) f32 on cpu {0.5, 0.5}]])
example("linear", [[
cft.ops.linear(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.tensor { { 1, 1 } }, cft.tensor { 10 })
--> (2, 1) f32 on cpu {{13}, {17}}]])
example("matmul", [[
cft.ops.matmul(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.tensor { { 1 }, { 1 } })
--> (2, 1) f32 on cpu {{3}, {7}}]])
example("embedding", [[
cft.ops.embedding(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.tensor({ 1, 0 }, { dtype = "i32" }))
--> (2, 2) f32 on cpu {{3, 4}, {1, 2}}]])
example("gather_rows", [[
cft.ops.gather_rows(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.tensor({ 1, 0 }, { dtype = "i32" }))
--> (2, 2) f32 on cpu {{3, 4}, {1, 2}}]])
example("rmsnorm", [[
cft.ops.rmsnorm(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.ones { 2 }, 1e-6)
--> (2, 2) f32 on cpu {{0.63246, 1.2649}, {0.84853, 1.1314}}]])
example("add_rmsnorm", [[
cft.ops.add_rmsnorm(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.tensor { { 1, 2 }, { 3, 4 } }, cft.ones { 2 }, 1e-6)
--> (2, 2) f32 on cpu {{0.63246, 1.2649}, {0.84853, 1.1314}} (2, 2) f32 on cpu {{2, 4}, {6, 8}}]])
example("swiglu", [[
cft.ops.swiglu(cft.tensor { { 1, 2, 10, 10 } })
--> (1, 2) f32 on cpu {{7.3106, 17.616}}]])
example("softmax", [[
cft.ops.softmax(cft.tensor { { 1, 2 }, { 3, 4 } })
--> (2, 2) f32 on cpu {{0.26894, 0.73106}, {0.26894, 0.73106}}]])
example("cross_entropy", [[
cft.ops.cross_entropy(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.tensor({ 1, 0 }, { dtype = "i32" }), cft.ones { 2 })
--> () f32 on cpu 1.6265 (2) f32 on cpu {0.31326, 1.3133}]])
example("linear_cross_entropy", [[
cft.ops.linear_cross_entropy(cft.tensor { { 1, 2 }, { 3, 4 } }, cft.ones { 3, 2 }, cft.tensor({ 1, 0 }, { dtype = "i32" }), cft.ones { 2 })
--> () f32 on cpu 2.1972 (2) f32 on cpu {1.0986, 1.0986}]])
example("sum", [[
cft.ops.sum(cft.tensor { { 1, 2 }, { 3, 4 } }, 0)
--> (2) f32 on cpu {4, 6}]])
example("reshape", [[
cft.ops.reshape(cft.tensor { { 1, 2 }, { 3, 4 } }, { 4 })
--> (4) f32 on cpu {1, 2, 3, 4}]])
example("transpose", [[
cft.ops.transpose(cft.tensor { { 1, 2 }, { 3, 4 } }, 0, 1)
--> (2, 2) f32 on cpu {{1, 3}, {2, 4}}]])
example("narrow", [[
cft.ops.narrow(cft.tensor { { 1, 2 }, { 3, 4 } }, 1, 0, 1)
--> (2, 1) f32 on cpu {{1}, {3}}]])
example("contiguous", [[
cft.ops.contiguous(cft.tensor.transpose(cft.tensor { { 1, 2 }, { 3, 4 } }, 0, 1))
--> (2, 2) f32 on cpu {{1, 3}, {2, 4}}]])
example("cast", [[
cft.ops.cast(cft.tensor { 0.5, 2 }, "bf16")
--> (2) bf16 on cpu {0.5, 2}]])

return M
