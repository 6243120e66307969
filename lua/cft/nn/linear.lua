--- A linear layer of a group of weights, by its key.

local ops = require "cft.engine.ops"

--- x w^T + b, where w is `group[key]` and b `group[key .. "_bias"]`, if there is one.
-- @tab group of `cft.nn.parameters`, or any table with these fields
-- @string key
-- @tparam Tensor x (..., k), for w (o, k)
-- @treturn Tensor (..., o)
return function(group, key, x) return ops.linear(x, group[key], group[key .. "_bias"]) end
