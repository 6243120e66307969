-- What a hostile or clumsy user does: one clear message that names the culprit, and nothing crashes.
local cft = require "cft"
local expect = require "tests.expect"
local ops = cft.ops

-- What is no tensor. LuaJIT itself would take an open file for any address, and nil for NULL.
local strangers = { 1, "x", {}, print, io.stdout, true }

return {
  -- ---- tensors -------------------------------------------------------------------------------
  { "every op refuses what is no tensor", function()
    for name, op in pairs(ops) do
      if name ~= "define" then
        expect.raises("^[^:]+expect.lua:%d+: " .. name .. ": a tensor is wanted, got nil", op)
        for _, s in ipairs(strangers) do expect.raises(name .. ": a tensor is wanted, got ", op, s) end
      end
    end
  end },
  { "and as a further argument, by name", function()
    local x = cft.zeros { 2, 3 }
    expect.raises("^[^:]+expect.lua:%d+: matmul: 'b' must be a tensor, got nil", ops.matmul, x)
    expect.raises("linear: 'w' must be a tensor, got nil", ops.linear, x)
    expect.raises("rope: 'cos' must be a tensor, got nil", ops.rope, x)
    for _, s in ipairs(strangers) do
      expect.raises("binary: 'b' must be a tensor, got ", ops.mul, x, s)
      expect.raises("linear: 'b' must be a tensor, got ", ops.linear, x, x, s)
      expect.raises("a tensor is wanted, got ", x.copy_, x, s)
    end
  end },
  { "no number where one is wanted", function()
    local x = cft.zeros { 2, 3 }
    expect.raises("^[^:]+expect.lua:%d+: narrow: 'dim' must be a number, got a string", x.narrow, x, "a", 0, 1)
    expect.raises("transpose: 'b' must be a number, got nil", x.transpose, x, 0)
    expect.raises("scale: 'alpha' must be a number, got nil", x.scale, x)
    expect.raises("rmsnorm: 'eps' must be a number, got nil", ops.rmsnorm, x, x)
    expect.raises("full: 'value' must be a number, got a string", cft.full, { 2 }, "x")
  end },
  { "a gradient that only a superfluous argument wants", function()
    local x, y = cft.randn { 2, 4 }, cft.randn({ 2, 4 }, { requires_grad = true })
    for _, name in ipairs { "softmax", "swiglu", "exp" } do ops[name](x, y):sum():backward() end
    expect.same(y.grad, nil)
  end },
  { "a released tensor says so, and may be released again", function()
    local x = cft.zeros { 2, 3 }
    x:release()
    x:release()
    expect.raises("this tensor %(2, 3%) f32 was released", ops.exp, x)
    expect.raises("was released", ops.add, cft.zeros { 2, 3 }, x)
    expect.match(tostring(x), "^released tensor %(2, 3%)")
  end },
  { "shapes that no memory holds", function()
    expect.raises("cpu: no memory for 4000000000000000000 bytes", cft.zeros, { 1e9, 1e9 })
    expect.raises("is larger than any memory", cft.zeros, { 2 ^ 40, 2 ^ 40 })
    expect.raises("%(%-1%) has a negative dimension", cft.zeros, { -1 })
    for _, d in ipairs { 0 / 0, 1 / 0, 1e300, 1.5, "a" } do
      expect.raises("dimension 0 of a shape is .*; a whole number wanted", cft.zeros, { d })
    end
    expect.raises("12 dimensions; at most 6", cft.zeros, { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 })
  end },
}
