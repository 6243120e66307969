-- How declarations become Lua functions, and what a rule of two C calls does.

local expect = require "tests.expect"
local kernels = require "cft.engine.kernels"
local op = require "tests.op"
local ops = require "cft.engine.ops"
local rules = require "cft.engine.rules"
local tensor = require "cft.engine.tensor"

local function f64(data) return tensor.new(data, { dtype = "f64" }) end

return {
  { "kernels: what may come out is new, added to, or left out", function()
    local x, w, dy = f64 { { 1, 2 } }, f64 { { 3, 4 } }, f64 { { 10 } }
    local dx, dw, db = kernels.linear_bwd(true, nil, true, dy, x, w)
    expect.same(dx:to_table(), { { 30, 40 } })
    expect.same(dw, nil)
    expect.same(db:to_table(), { 10 })
    local so_far = f64 { { 100, 100 } }
    local none, made = kernels.linear_bwd(so_far, true, nil, dy, x, w)
    expect.same(none, nil)
    expect.same(so_far:to_table(), { { 130, 140 } })
    expect.same(made:to_table(), { { 10, 20 } })
  end },
  { "matmul: over a long k the error is that of a slice, not of k", function()
    local k, n = 40000, 16
    for _, turned in ipairs { 0, 1 } do
      local a = tensor.zeros(turned == 1 and { k, n } or { n, k }, { dtype = "f32" })
      local b = tensor.zeros({ k, n }, { dtype = "f32" })
      a:normal_(1, 0, 0, 1)
      b:normal_(1, 1, 0, 1)
      local got = kernels.matmul(a, b, turned, 0):to_host()
      local want = kernels.matmul(tensor.cast(a, "f64"), tensor.cast(b, "f64"), turned, 0):to_host()
      local wrong, all = 0, 0
      for i = 0, n * n - 1 do wrong, all = wrong + (got[i] - want[i]) ^ 2, all + want[i] ^ 2 end
      expect.truthy(math.sqrt(wrong / all) < 8e-7, math.sqrt(wrong / all))  -- one running sum has 3.6e-6
    end
  end },
  { "backward twice, and a block of nothing, are told", function()
    local x = f64 { 1, 2 }
    x.requires_grad = true
    local y = ops.sum(ops.mul(x, x))
    y:backward()
    expect.raises("backward: was called before, and what it needs is released", y.backward, y)
    expect.raises("tensor.block: a function is wanted, got nil", tensor.block)
  end },
  { "kernels: what is no tensor is named, and nothing is left behind", function()
    local x = f64 { { 1, 2 } }
    expect.raises("linear: 'w' must be a tensor, got nil", kernels.linear_fwd, x)
    expect.raises("reduce: 'dim' must be a number, got a string", x.max, x, "a")
    expect.raises("a tensor is wanted, got a string", kernels.linear_bwd, "a", nil, nil, x, x, x)
  end },
  { "kernels: a rule of two calls saves what it names", function()
    local rule, saved = rules.linear, nil
    local x, w = f64 { { 1, 2 } }, f64 { { 3, 4 } }
    local ctx = { save = function(_, ...) saved = { n = select("#", ...), ... } end }
    rule.forward(ctx, x, w, nil)
    expect.truthy(saved.n == 2 and saved[1] == x and saved[2] == w, "x and w are saved")
    local y = rules.softmax.forward(ctx, x)
    expect.truthy(saved.n == 1 and saved[1] == y, "softmax saves what came out")
  end },
  { "kernels: methods of tensors come from the rules", function()
    for name, rule in pairs(rules) do
      expect.same(tensor.Tensor[name] ~= nil, rule.method == true, name)
    end
    local x = tensor.new({ 1, -2 }, { requires_grad = true })
    x:relu():cast("f64"):sum():backward()
    expect.same(op.numbers(x.grad), { 1, 0 })
    expect.truthy(ops.relu == x.relu, "one function")
  end },
}
