--- Every gradient rule of the program by its op's name, one short entry an op, in three files.
--
-- `forward(ctx, ...)` computes and saves; `backward(ctx, dy)` returns the gradients in the order of the
-- arguments. Where C makes them, `ctx:grad(i)` says into what. `kernel { ... }` is a rule of two calls of C;
-- `method = true` makes the op a method of tensors as well.

local rules = {}
for _, file in ipairs { "model", "elementwise", "shape" } do
  for name, rule in pairs(require("cft.engine.rules." .. file)) do rules[name] = rule end
end
return rules
