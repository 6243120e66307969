--- A recipe's settings: its defaults, and what the command line makes of them.
--
-- The types of the keys come from the defaults, so that `lr=fast` and `lrr=1e-5` are errors before
-- anything is loaded. Keys that all training recipes share have a default and a line of help here;
-- a recipe lists those it wants otherwise, and its own.
-- @module cft.config
-- @usage local cfg = cft.config {
--   model = "Qwen/Qwen2.5-Math-7B", batch = 512, lr = 5e-6,      -- common ones, other defaults
--   steps_a_problem = 3,                                         -- one of its own: a number
--   rival = cft.config.optional("string", "a second model to compare with"),
-- }
-- print(cfg.lr, cfg.demo)   -- set by `lr=1e-5` and `--demo`

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local host = require "cft.host"
local help = require "cft.config.help"
local keys = require "cft.config.keys"
local settings = require "cft.config.settings"

local M = { flags = keys.flags, common = keys.common, further = keys.further, key = keys.key, optional = keys.optional }
--- When this program began, by `host.now`: what --until counts from.
M.began = host.now()
for _, name in ipairs { "peek", "origin", "idle", "when", "group", "identity", "record", "refuse_unread" } do
  M[name] = settings[name]
end

local function refuse_gone(name)
  if keys.gone[name] then exit.fail(exit.USAGE, "%s: %s", name, keys.gone[name]) end
end

-- A recipe's own key that is a common one but for signs and case, or is what others call it, would be read by nobody.
local function refuse_near(name)
  local function bare(text) return (text:lower():gsub("[_%-]", "")) end
  local is = keys.elsewhere[name]
  for _, list in ipairs { M.common, M.further } do
    for _, row in ipairs(list) do
      if bare(row[1]) == bare(name) then is = row[1] end
    end
  end
  for theirs, ours in pairs(keys.elsewhere) do
    if bare(theirs) == bare(name) then is = ours end
  end
  if is then
    blame("config: '%s' is no setting; '%s' is. A key of your own needs a name that is further from it", name, is)
  end
end

-- The end of a message about a name that is no key.
local function suggestion(name, specs)
  local key = keys.elsewhere[name]
  return key and ("; did you mean '%s'?"):format(key) or check.suggestion(name, specs)
end

-- ---- the keys of one recipe ------------------------------------------------------------------

-- A recipe's default as a spec. `base` is the common key of this name, if it is one.
local function spec_of(name, default, base)
  if keys.is(default) then
    default.help = default.help or base and base.help
    return default
  end
  local spec = keys.key { type(default), default }
  for field, value in pairs(base or {}) do
    if field ~= 2 then spec[field] = value end
  end
  if spec[1] == "function" and not base then
    blame("config: '%s' is a function; a key is a number, a boolean, a string or a list", name)
  end
  local problem = check.problem(default, spec)
  if problem then blame("config: '%s' %s", name, problem) end
  return spec
end

local function specs_of(defaults)
  local specs, names = {}, {}
  for i, list in ipairs { M.common, M.further } do
    names[i] = {}
    for k, row in ipairs(list) do
      local name, base = row[1], row[2]
      names[i][k] = name
      specs[name] = defaults[name] == nil and base or spec_of(name, defaults[name], base)
    end
  end
  local own = {}
  for name, default in pairs(defaults) do
    if type(name) ~= "string" then blame("config: keys have names, but one came as [%s]", tostring(name)) end
    for _, flag in pairs(M.flags) do
      if flag.field == name and not specs[name] then
        blame("config: '%s' is an option of cftrun and cannot be a key", name)
      end
    end
    refuse_gone(name)
    if not specs[name] then
      refuse_near(name)
      own[#own + 1] = name
      specs[name] = spec_of(name, default)
    end
  end
  table.sort(own)
  return specs, { own = own, common = names[1], further = names[2] }
end

-- A recipe's defaults, and where each is from; of a demo with the demo's in front: its world is small and its model new.
local function with_origins(defaults, is_demo)
  local merged, origins = {}, {}
  for name, value in pairs(defaults) do
    -- A key without a value of its own is only declared.
    local given = value
    if keys.is(value) then given = value[2] end
    merged[name], origins[name] = value, given ~= nil and settings.RECIPE or nil
  end
  for name, value in pairs(is_demo and require("cft.demo").settings or {}) do
    merged[name], origins[name] = value, settings.DEMO
  end
  return merged, origins
end

-- ---- the command line ------------------------------------------------------------------------

local words = { ["true"] = true, yes = true, on = true, ["1"] = true,
                ["false"] = false, no = false, off = false, ["0"] = false }

local read = {}  -- type → function from text to value, nil if it is not one

function read.number(text)
  local x = tonumber(text)
  if x and math.abs(x) < math.huge then return x end  -- tonumber takes "nan" and "inf"
end
read.integer = read.number  -- so that 1.5 is told that it is no integer, rather than no number
function read.boolean(text) return words[text:lower()] end
function read.string(text) return text end
function read.table(text, default)
  local like = default and default[1] ~= nil and type(default[1]) or "string"
  local list = {}
  for item in (text .. ","):gmatch "([^,]*)," do
    if item ~= "" then
      local value = read[like](item)
      if value == nil then return nil end
      list[#list + 1] = value
    end
  end
  return list
end

local function value_of(name, text, spec)
  if text == "" and spec.optional then return nil end
  local value
  for _, kind in ipairs { "integer", "number", "boolean", "table", "string" } do
    local taken = ("|" .. spec[1] .. "|"):find("|" .. kind .. "|", 1, true)
    -- "string|table": a list only where there is a comma
    local plain = kind == "table" and spec[1]:find "string" and not text:find ","
    if value == nil and taken and not plain then value = read[kind](text, spec[2]) end
  end
  if value == nil then value = text end  -- for the message
  local problem = check.problem(value, spec)
  if problem then exit.fail(exit.USAGE, "%s=%s: '%s' %s", name, text, name, problem) end
  return value
end

-- How many arguments belong to the option at `args[i]`, and the option.
-- `--resume` takes the next one unless that is a script, a setting or an option.
-- @tab args
-- @int i
-- @treturn ?tab the entry of `flags`; nil if it is not an option
-- @return its value: true, or a string
-- @treturn int index of the next argument
function M.flag(args, i)
  local name, glued = args[i]:match "^(%-%-[%w-]+)=(.*)$"
  local flag = M.flags[name or args[i]]
  if not flag then return nil end
  name = name or args[i]
  if not flag.takes then
    if glued then exit.fail(exit.USAGE, "%s takes no value", name) end
    return flag, true, i + 1
  end
  if glued == "" then exit.fail(exit.USAGE, "%s= wants %s behind it", name, (flag.takes:gsub("[%[%]]", ""))) end
  if glued then return flag, glued, i + 1 end
  local next_one = args[i + 1]
  if flag.takes:sub(1, 1) == "[" then
    if not next_one or next_one:find "^%-" or next_one:find "=" or next_one:find "%.lua$" then
      return flag, true, i + 1
    end
  elseif not next_one then
    exit.fail(exit.USAGE, "%s wants %s behind it", name, flag.takes)
  end
  return flag, next_one, i + 2
end

local function unknown(argument, specs)
  local name, text = argument:match "^%-%-?([%w_-]+)=?(.*)$"
  if not name then exit.fail(exit.USAGE, "'%s' is neither key=value nor an option", argument) end
  local key = name:gsub("-", "_")
  if not specs[key] then key = keys.elsewhere[key] end
  if specs[key] then
    exit.fail(exit.USAGE, "unknown option '%s'; say %s=%s", argument, key, text ~= "" and text or "VALUE")
  end
  exit.fail(exit.USAGE, "unknown option '%s'%s", argument, check.suggestion("--" .. name, M.flags))
end

--- Settings from defaults and arguments; what `cft.config` does with the command line's.
-- @tab defaults
-- @tab args a list of strings; `[0]`, the name of the script; `inspect`, what `cftrun data` wants of it
-- @treturn table key → value. A key that is not one is an error where it is read.
-- @usage local cfg = cft.config.read({ batch = 512, lr = 5e-6 }, { "lr=1e-5", "--demo" })
-- cfg.batch, cfg.lr, cfg.demo   --> 32 1e-05 true
function M.read(defaults, args)
  local is_demo = false
  for _, argument in ipairs(args) do is_demo = is_demo or argument == "--demo" end
  local origins
  defaults, origins = with_origins(defaults, is_demo)
  local specs, names = specs_of(defaults)
  local values = { demo = false, dry_run = false, resume = false, overwrite = false, inspect = args.inspect }
  for name, spec in pairs(specs) do values[name] = spec[2] end

  local i, asks_help = 1, false
  while i <= #args do
    local flag, value, after = M.flag(args, i)
    local name, text = args[i]:match "^([%a_][%w_]*)=(.*)$"
    if flag then
      if flag.field == "time_limit" and not format.seconds(value) then
        exit.fail(exit.USAGE, "--until wants a time such as 3h or 90m, got '%s'", value)
      elseif flag.field == "trace_steps" and not require("cft.report.trace").steps(value) then
        exit.fail(exit.USAGE, "--trace-steps wants steps such as 3-5 or 12, from 1, got '%s'", value)
      elseif flag.field == "preview" then
        value = value_of("--preview", value, { "integer", min = 1 })
      elseif specs[flag.field] then
        value = value_of(flag.field, value, specs[flag.field])
      elseif flag.field == "allow_change" and values.allow_change then  -- several are one list
        value = values.allow_change .. "," .. value
      end
      values[flag.field], origins[flag.field] = value, settings.COMMAND_LINE
    elseif args[i] == "--help" or args[i] == "-h" then
      asks_help = true
    elseif not name then
      unknown(args[i], specs)
    elseif not specs[name] then
      refuse_gone(name)
      exit.fail(exit.USAGE, "unknown key '%s'%s", name, suggestion(name, specs))
    else
      values[name], origins[name] = value_of(name, text, specs[name]), settings.COMMAND_LINE
    end
    i = after or i + 1
  end
  if asks_help then
    help.recipe(args[0], specs, names)
    exit.leave()
  end
  if values.allow_change then
    if not values.resume then exit.fail(exit.USAGE, "--allow-change goes with --resume") end
    values.allow_change = read.table(values.allow_change)
    for k, name in ipairs(values.allow_change) do
      name = name:match "^%s*(.-)%s*$"
      values.allow_change[k] = name
      if not specs[name] then
        exit.fail(exit.USAGE, "--allow-change %s: no key '%s'%s", name, name, suggestion(name, specs))
      end
    end
  end

  if values.overwrite and values.resume then
    exit.fail(exit.USAGE, "--overwrite begins a run anew and --resume goes on with one; say one of them")
  end
  return settings.new { values = values, specs = specs, origins = origins, script = args[0],
                        suggest = function(name) return suggestion(name, specs) end }
end

-- Settings as all stages read them: those of `read` as they are; a plain table with the defaults of `keys`
-- behind it, and what `cftrun data` wants of the script that runs.
-- @tab cfg
-- @treturn table settings
function M.complete(cfg) return settings.complete(cfg, refuse_gone) end

--- Has the script that runs asked for its settings?
M.asked = false

return setmetatable(M, {
  --- `cft.config(defaults)`: the settings of the script that runs.
  __call = function(_, defaults)
    if type(defaults) ~= "table" then blame("config: defaults must be a table, got %s", type(defaults)) end
    M.asked = true
    return M.read(defaults, arg)
  end,
})
