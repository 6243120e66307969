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

return M
