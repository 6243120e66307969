--- The options of a command: `--name value`, `--name=value`, and `--name` alone where its spec is a boolean's.

local check = require "cft.base.check"
local exit = require "cft.base.exit"

-- `--max-new` is the option max_new.
local function name_of(flag) return (flag:gsub("%-", "_")) end

local function converted(value, spec)
  if spec[1] ~= "integer" and spec[1] ~= "number" then return value end
  return tonumber(value)
end

--- Read them, or end with a message and code 2.
-- @string where the command, for messages
-- @tab args a list of strings
-- @tab specs name → spec of `cft.base.check`; with `list` the option may come several times, and is a list
-- @tab[opt] places names of what stands without a `--name`, in order; behind `--` nothing is an option
-- @treturn table name → value
return function(where, args, specs, places)
  local o, place, i, flags = {}, 1, 1, {}
  for name in pairs(specs) do flags[name:gsub("_", "-")] = true end
  local function refuse(...) exit.fail(exit.USAGE, where .. ": " .. (...), select(2, ...)) end
  local only_places = false
  while i <= #args do
    local flag, value = args[i]:match "^%-%-([%a-]+)=?(.*)$"
    local name = flag and name_of(flag)
    local spec = not only_places and name and specs[name]
    if places and args[i] == "--" and not only_places then
      only_places = true
    elseif places and places[place] and (only_places or args[i]:sub(1, 1) ~= "-") then
      o[places[place]], place = args[i], place + 1
    elseif not spec or places and name == places[1] then
      refuse("unknown argument '%s'%s", args[i], check.suggestion(flag or args[i], flags))
    else
      if spec[1] == "boolean" then
        if args[i]:find("=", 1, true) then refuse("--%s takes no value, got '%s'", flag, args[i]) end
        value = true
      elseif not args[i]:find("=", 1, true) then
        i = i + 1
        value = args[i] or refuse("--%s wants a value", flag)
      end
      value = converted(value, spec)
      if value == nil then refuse("--%s wants a number, got '%s'", flag, args[i]:match "^%-%-[%a-]+=(.*)$" or args[i]) end
      local problem = check.problem(value, spec)
      if problem then refuse("--%s %s", flag, problem) end
      if spec.list then
        o[name] = o[name] or {}
        table.insert(o[name], value)
      else
        local said = o[name]
        if said ~= nil and said ~= value then refuse("--%s is said twice: %s and %s", flag, tostring(said), tostring(value)) end
        o[name] = value
      end
    end
    i = i + 1
  end
  local lists = {}
  for name, spec in pairs(specs) do
    if spec.list then lists[name], o[name] = o[name], nil end
  end
  o = check.options(where, o, specs)
  for name, list in pairs(lists) do o[name] = list end
  return o
end
