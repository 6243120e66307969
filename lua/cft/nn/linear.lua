--- A linear layer of a group of weights, by its key.

local ops = require "cft.engine.ops"

--- x w^T + b, where w is `group[key]` and b `group[key .. "_bias"]`, if there is one.
-- @tab group of `cft.nn.parameters`, or any table with these fields
-- @string key
-- @tparam Tensor x (..., k), for w (o, k)
-- @treturn Tensor (..., o)
-- @usage cft.nn.linear({ w = cft.ones { 3, 4 }, w_bias = cft.ones { 3 } }, "w", cft.ones { 1, 4 })   --> (1, 3) f32 on cpu {{5, 5, 5}}
return function(group, key, x) return ops.linear(x, group[key], group[key .. "_bias"]) end
