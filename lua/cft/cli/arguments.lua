--- The options of a command: `--name value`, `--name=value`, and `--name` alone where its spec is a boolean's.

local check = require "cft.base.check"
local exit = require "cft.base.exit"

--- Read them, or end with a message and code 2.
-- @string where the command, for messages
-- @tab args a list of strings
-- @tab specs name → spec of `cft.base.check`
-- @treturn table name → value
return function(where, args, specs)
  local o, i = {}, 1
  local function refuse(...) exit.fail(exit.USAGE, where .. ": " .. (...), select(2, ...)) end
  while i <= #args do
    local name, value = args[i]:match "^%-%-([%a-]+)=?(.*)$"
    local spec = name and specs[name]
    if not spec then refuse("unknown argument '%s'%s", args[i], check.suggestion(name or args[i], specs)) end
    if spec[1] == "boolean" then
      value = true
    elseif value == "" then
      i = i + 1
      value = args[i] or refuse("--%s wants a value", name)
    end
    if spec[1] == "integer" or spec[1] == "number" then
      value = tonumber(value) or refuse("--%s wants a number, got '%s'", name, value)
    end
    local problem = check.problem(value, spec)
    if problem then refuse("--%s %s", name, problem) end
    o[name] = value
    i = i + 1
  end
  return check.options(where, o, specs)
end
