-- Every variable of the environment that the program reads stands in docs/cli.md, and no other does.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local contents = process.contents

local function read_in(folder, found)
  for _, name in ipairs(host.list(folder)) do
    local path = folder .. "/" .. name
    if host.kind(path) == "folder" then
      read_in(path, found)
    elseif name:find "%.lua$" or name:find "%.[ch]$" or name:find "%.cuh?$" or name:find "%.cpp$" then
      local text = contents(path)
      for _, reader in ipairs { "getenv", "set", "is_true" } do  -- the latter two are how Lua files ask often
        for variable in text:gmatch("%f[%w_]" .. reader .. "%s*%(?\"([%u_][%u%d_]+)\"") do
          found[variable] = path
        end
      end
      for _, field in ipairs { "rank", "size", "local_rank", "local_size" } do  -- of a table of launchers
        for variable in text:gmatch("%f[%w_]" .. field .. " = \"([%u_]+)\"") do found[variable] = path end
      end
      -- a list of names that one of them is asked for
      for list in text:gmatch "in ipairs { (\"[%u_][%u%d_\", ]+) }" do
        for variable in list:gmatch "%u+_[%u%d_]+" do found[variable] = path end
      end
    end
  end
  return found
end

-- What a library asks for, and we only say so.
local of_libraries = { "http_proxy", "https_proxy", "no_proxy" }

return {
  { "docs/cli.md has every variable that is read, and no other", function()
    local found = {}
    for _, layer in ipairs { "kernels", "lua", "runtime" } do read_in(layer, found) end
    local section = contents "docs/cli.md":match "\n## Environment\n(.*)$":gsub("\n## .*$", "")
    local told = {}
    for cell in section:gmatch "\n|([^|\n]*)|" do
      for name in cell:gmatch "`([%w_]+)[=`]" do told[name] = true end
    end
    for _, name in ipairs(of_libraries) do
      expect.truthy(told[name], name .. " is told")
      told[name] = nil
    end
    local wrong = {}
    for name, path in pairs(found) do
      if not told[name] then wrong[#wrong + 1] = ("%s, read in %s, is not in the table"):format(name, path) end
    end
    for name in pairs(told) do
      if not found[name] then wrong[#wrong + 1] = name .. " is in the table, and nothing reads it" end
    end
    table.sort(wrong)
    expect.same(wrong, {})
    expect.truthy(found.CFT_ISA and found.HF_TOKEN and found.CFT_LUA_PATH and found.CFT_CUDNN, "the sources were read")
  end },
}
