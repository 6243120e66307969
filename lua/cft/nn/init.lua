--- What models are built of, loaded when it is first named: `linear`, groups of `parameters`, `rope` tables,
-- `inputs` from a batch, the pages of generation, `kv_cache`.
-- @usage local y = cft.nn.linear({ w = cft.randn { 3, 4 } }, "w", cft.randn { 2, 4 })

local names = { linear = true, parameters = true, rope = true, inputs = true, kv_cache = true }

return setmetatable({}, { __index = function(t, name)
  if not names[name] then return nil end
  t[name] = require("cft.nn." .. name)
  return t[name]
end })
