--- What models are built of, loaded when it is first named: `linear`, groups of `parameters`, `rope` tables,
-- `inputs` from a batch, the pages of generation, `kv_cache`.
-- @usage local y = cft.nn.linear({ w = cft.randn { 3, 4 } }, "w", cft.randn { 2, 4 })

local modules = { linear = "cft.nn.linear", parameters = "cft.nn.parameters", rope = "cft.nn.rope", inputs = "cft.nn.inputs",
                  kv_cache = "cft.nn.kv_cache" }

return setmetatable({}, { modules = modules, __index = function(t, name)
  if not modules[name] then return nil end
  t[name] = require(modules[name])
  return t[name]
end })
