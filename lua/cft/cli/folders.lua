--- What commands about runs are told: one folder or two, and options.

local arguments = require "cft.cli.arguments"
local exit = require "cft.base.exit"
local host = require "cft.host"

-- The head of a command's source, which says how it is called.
local function usage(name)
  local lines = {}
  for line in (host.source("cft.cli.cmd." .. name) or ""):gmatch "([^\n]*)\n" do
    if not line:find "^%-%-" then break end
    lines[#lines + 1] = line:gsub("^%-%-%-? ?", "")
  end
  return table.concat(lines, "\n")
end

--- Read them, or end with a message and code 2. `--help` prints the head of the command's source.
-- @string name of the command
-- @tab args a list of strings
-- @tab specs name → spec of `cft.base.check`
-- @treturn table folders @treturn table name → value; `help` if that was asked for
return function(name, args, specs)
  local folders, options, i = {}, {}, 1
  while i <= #args do
    local option, glued = args[i]:match "^%-%-([%a-]+)(=?)"
    if option == "help" or args[i] == "-h" then
      print(usage(name))
      return {}, { help = true }
    elseif args[i]:sub(1, 1) == "-" then
      options[#options + 1] = args[i]
      if option and specs[option] and specs[option][1] ~= "boolean" and glued == "" then
        i = i + 1
        options[#options + 1] = args[i]
      end
    else
      folders[#folders + 1] = args[i]:gsub("(.)/+$", "%1")
    end
    i = i + 1
  end
  if #folders < 1 or #folders > 2 then
    exit.fail(exit.USAGE, "%s: one folder of a run is wanted, or two: cftrun %s RUN [RUN2]", name, name)
  end
  return folders, arguments(name, options, specs)
end
