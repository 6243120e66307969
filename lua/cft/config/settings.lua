--- The settings of a run: values, where each is from, and who reads them.
--
-- A read is noted. Before the first step `refuse_unread` names what nobody read: a setting that does nothing is a
-- mistake, of the command line or of the recipe. Whoever only looks (help, records of the run) takes `peek`.
-- @module cft.config.settings

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local keys = require "cft.config.keys"

local M = {}

--- Where a value is from, in the words of run.json.
M.DEFAULT, M.RECIPE, M.DEMO, M.COMMAND_LINE = "default", "recipe", "demo", "command line"

local books = setmetatable({}, { __mode = "k" })  -- settings → their book

--- Settings.
-- @tab book `values`; `specs`, name → spec; `origins`, name → where from, `DEFAULT` where nothing stands; `own`, names of
-- the recipe's own keys; `plain`, true where they are a table that nobody declared; `suggest`, a function of an
-- unknown name → the end of a message; `script`, the recipe's path
-- @treturn table name → value. A key that is not one is an error where it is read, but for plain ones.
function M.new(book)
  book.read, book.idle, book.used_by = {}, {}, {}
  local known = { preview = true, allow_change = true, inspect = true, time_limit = true, go_on = true, trace = true,
                  trace_steps = true }
  local function must_know(name)
    if known[name] or book.specs[name] or book.values[name] ~= nil or book.plain then return end
    blame("config: no key '%s'%s", tostring(name), book.suggest(tostring(name)))
  end
  local settings = setmetatable({}, {
    __canonical = "settings",  -- in the name of a function that reads them; they are compared one by one
    __index = function(_, name)
      must_know(name)
      book.read[name] = true
      return book.values[name]
    end,
    __newindex = function(_, name, value)
      must_know(name)
      local spec = book.specs[name]
      local problem = value ~= nil and spec and check.problem(value, spec)
      if problem then blame("config: '%s' %s", name, problem) end
      book.values[name], book.origins[name] = value, M.RECIPE
    end,
  })
  books[settings] = book
  return settings
end

--- Is this a table of settings?
function M.is(cfg) return books[cfg] ~= nil end

--- A value, without having read it.
-- @tab cfg @string name
-- @usage cft.config.peek(cfg, "batch"), cft.config.origin(cfg, "batch"), cft.config.origin(cfg, "seed")   --> 2 "recipe" "default"
function M.peek(cfg, name) return books[cfg].values[name] end

--- Where a value is from.
-- @tab cfg @string name
-- @treturn string
function M.origin(cfg, name) return books[cfg].origins[name] or M.DEFAULT end

-- Somebody would have read a key, but it does nothing here.
-- @tab cfg @string name
-- @string why such as "norm = tokens has no ranks"
function M.idle(cfg, name, why) books[cfg].idle[name] = why end

--- A value for who has a use for it under a condition.
-- @tab cfg @string name
-- @param condition
-- @string why it does nothing else
-- @return the value; nil where the condition is false
-- @usage cft.config.when(cfg, "clip", cfg.steps > 1, "there is one step")   --> 1
function M.when(cfg, name, condition, why)
  if condition then return cfg[name] end
  M.idle(cfg, name, why)
end

-- The settings of one stage. All of them are read, but those that say by `idle` of their declaration that they do
-- nothing.
-- @tab cfg
-- @string group such as "samples", "batch", "forward"
-- @treturn table name → value
function M.group(cfg, group)
  local values, book = {}, books[cfg]
  for name, spec in pairs(keys.by_name) do
    if (" " .. spec.group .. " "):find(" " .. group .. " ", 1, true) then
      values[name] = book.values[name]
      local why = spec.idle and spec.idle(function(other) return book.values[other] end)
      if why then book.idle[name] = why else book.read[name] = true end
    end
  end
  return values
end

-- What of the settings is a run's own, so that a resumed one must have the same: all keys that are not
-- declared free.
-- @tab cfg
-- @treturn table name → { `value`; `default`, what the key is where nobody sets it; `resolved`, the value is compared
-- where what it came to is not }
function M.identity(cfg)
  local list, book = {}, books[cfg]
  for name, spec in pairs(book.specs) do
    if spec.resume ~= "free" then
      local base = keys.by_name[name]
      list[name] = { value = book.values[name], default = base and base[2], resolved = spec.resume == "resolved" or nil }
    end
  end
  return list
end

local function shown(value)
  local kind = type(value)
  if kind == "function" then
    local info = debug.getinfo(value, "S")
    return ("a function (%s:%d)"):format(info.short_src, info.linedefined)
  end
  if kind == "table" and getmetatable(value) then return tostring(value.name or "an object") end
  return value
end

-- All of them, for the record of a run.
-- @tab cfg
-- @treturn table name → { `value`, a function or an object as a text; `from` }. Keys without a value are left out.
function M.record(cfg)
  local list, book = {}, books[cfg]
  for name in pairs(book.specs) do
    local value = book.values[name]
    if value ~= nil then list[name] = { value = shown(value), from = M.origin(cfg, name) } end
  end
  return list
end

-- ---- what nobody reads -------------------------------------------------------------------------

-- Does the recipe's text name a key otherwise than by declaring it? Then a hook may read it later on.
local function named_in(script, name)
  local file = script and io.open(script, "rb")
  if not file then return true end
  local text = file:read "*a" or ""
  file:close()
  return text:find("%." .. name .. "%f[^%w_]") ~= nil or text:find("%[%s*[\"']" .. name .. "[\"']%s*%]") ~= nil
end

local flags = {}  -- field → option
for option, flag in pairs(keys.flags) do flags[flag.field] = option end

local hints = {
  optim = "run:trainer {} applies the optimizer's settings; with an optimizer of its own a loop reads them itself",
  model = "run:model() and run:trainer {} apply it",
  run = "run:trainer {} applies it",
  samples = "it is the samples' of cft.recipe.prepare",
  batch = "it is the batches' of cft.recipe.prepare",
  data = "who opens the data itself reads it, or leaves it out",
}

-- Names of keys that nobody read, each with a reason; or of those alone that are known to do nothing, or of none of a set.
local function unread(book, only_idle, later)
  local list = {}
  local function look(name, spec)
    local from = book.origins[name] or M.DEFAULT
    if book.read[name] or from == M.DEFAULT or from == M.DEMO or book.values[name] == nil then return end
    local is_own = not keys.by_name[name]
    local by_user = from == M.COMMAND_LINE
    local why = book.idle[name]
    if only_idle and not why or later and later[name] then return end
    if why and not by_user or not by_user and (book.values.demo or not spec) then return end
    if is_own and spec and (book.plain or named_in(book.script, name)) then return end
    if book.plain and spec and spec.group and spec.group:find "data" then return end
    local hint = spec and spec.group and hints[spec.group:match "%S+"]
    if book.values.demo and (is_own or spec and spec.group == "data") then hint = "--demo has its own data" end
    list[#list + 1] = { name = name, why = why or hint, by_user = by_user }
  end
  for name, spec in pairs(book.specs) do look(name, spec) end
  for field in pairs(flags) do
    if not book.specs[field] and book.values[field] then look(field) end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- An error with code 2 if there is a setting that nobody has read: before the first step.
-- @tab cfg
-- @bool[opt=false] only_idle look at those alone that are known to do nothing: others may still be read
-- @tab[opt] later a set of keys that may still be read
function M.refuse_unread(cfg, only_idle, later)
  local list = unread(books[cfg], only_idle, later)
  if #list == 0 then return end
  local lines = {}
  for i, u in ipairs(list) do
    lines[i] = ("%s: nothing reads it%s%s"):format(flags[u.name] or u.name,
      u.by_user and "" or ", and the recipe sets it", u.why and ": " .. u.why or "")
  end
  exit.fail(exit.USAGE, "%s", table.concat(lines, "\n  "))
end

-- ---- settings that are a plain table -----------------------------------------------------------

--- Settings as all stages read them: those of `new` as they are; a plain table with the defaults of `keys`
-- behind it, and what `cftrun data` wants of the script that runs.
-- @tab cfg
-- @func refuse_gone raises for a name that is no key any more
-- @treturn table settings
function M.complete(cfg, refuse_gone)
  if books[cfg] then return cfg end
  local book = { values = { inspect = (rawget(_G, "arg") or {}).inspect }, specs = {}, origins = {}, own = {}, plain = true }
  for name, spec in pairs(keys.by_name) do book.values[name], book.specs[name] = spec[2], spec end
  for name, value in pairs(cfg) do
    refuse_gone(name)
    local problem = keys.by_name[name] and check.problem(value, keys.by_name[name])
    if problem then blame("config: '%s' %s", name, problem) end
    book.values[name], book.origins[name] = value, M.RECIPE
    if not flags[name] or keys.by_name[name] then book.specs[name] = book.specs[name] or { resume = "same" } end
  end
  return M.new(book)
end

return M
