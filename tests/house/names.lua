-- The names of `cft`: each stands for a module that is there, and what is no name is nil.

local expect = require "tests.expect"

-- The table of contents, as its own source has it: `NAME = "cft.MODULE"`.
local function names()
  local file = assert(io.open("lua/cft/init.lua"))
  local list = {}
  for name, module in file:read "*a":gmatch '([%a_]+) = "(cft%.[%w_.]+)"' do list[#list + 1] = { name, module } end
  file:close()
  return list
end

return {
  { "every name of cft loads its module", function()
    local cft, count = require "cft", 0
    for _, entry in ipairs(names()) do
      local name, module = unpack(entry)
      local ok, what = pcall(function() return cft[name] end)
      if not ok then error(("cft.%s: %s"):format(name, what), 0) end
      expect.truthy(what ~= nil and what == require(module), "cft." .. name .. " is " .. module)
      count = count + 1
    end
    expect.truthy(count > 30, "names were found")
  end },
  { "every name of cft.nn loads", function()
    local nn = require("cft").nn
    for _, name in ipairs { "linear", "parameters", "rope", "inputs", "kv_cache" } do
      expect.truthy(nn[name] ~= nil and nn[name] == require("cft.nn." .. name), "cft.nn." .. name)
    end
    expect.same(nn.nothing, nil)
  end },
  { "cft.files.gguf is cft.models.gguf", function()
    expect.raises("/nowhere/x%.gguf: No such file", require("cft").files.gguf, "/nowhere/x.gguf")
  end },
  { "what is no name of cft is nil", function()
    expect.same(require("cft").loss, nil)
    expect.same(require("cft").nothing, nil)
  end },
}
