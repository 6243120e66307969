--- Options with types, defaults and suggestions.
-- @module cft.base.check
-- @usage local check = require "cft.base.check"
-- local function cosine(opts)
--   local o = check.options("schedule.cosine", opts, {
--     steps  = { "integer", min = 1 },            -- required: it has no default
--     warmup = { "number", 0, min = 0 },          -- a default
--     floor  = { "number", 0, min = 0, max = 1 },
--     shape  = { "string", "cosine", one_of = { "cosine", "linear" } },
--     weight = { "number|function", optional = true },  -- may be absent: nil
--   })
--   return o
-- end
-- print(cosine { steps = 10 }.warmup)  --> 0

local blame = require "cft.base.blame"

local M = {}

-- Optimal string alignment: insertions, deletions, replacements and swapped neighbours cost one.
local function distance(a, b)
  local before, last, this = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    this[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local d = math.min(last[j] + 1, this[j - 1] + 1, last[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      this[j] = d
    end
    before, last, this = last, this, before
  end
  return last[#b]
end

--- The name that was probably meant.
-- @string name what came
-- @param names a list of strings, or a table whose keys are the names
-- @treturn ?string the closest; nil if none is close
-- @usage cft.check.closest("warmpu", { "warmup", "steps" })   --> "warmup"
function M.closest(name, names)
  local candidates = {}
  for key, value in pairs(names) do
    candidates[#candidates + 1] = type(key) == "string" and key or tostring(value)
  end
  table.sort(candidates)  -- so that a tie has one answer
  local best, least
  for _, candidate in ipairs(candidates) do
    local d = distance(name:lower(), candidate:lower())
    -- `warm` for `warmup` is further away than a slip of the finger, and as clear
    if #name >= 3 and candidate:sub(1, #name) == name then d = math.min(d, 1) end
    if d <= math.max(1, math.floor(math.max(#name, #candidate) / 3)) and (not least or d < least) then
      best, least = candidate, d
    end
  end
  return best
end

--- `; did you mean 'warmup'?`, or nothing, to put behind a message about an unknown name.
-- @string name what came
-- @param names as in `closest`
-- @treturn string
-- @usage cft.check.suggestion("warmpu", { "warmup", "steps" })   --> "; did you mean 'warmup'?"
function M.suggestion(name, names)
  local best = M.closest(name, names)
  return best and ("; did you mean '%s'?"):format(best) or ""
end

local function show(value)
  local kind = type(value)
  if kind == "string" then
    if #value > 40 then value = value:sub(1, 37) .. "..." end
    return "'" .. value .. "'"
  elseif kind == "number" or kind == "boolean" or kind == "nil" then
    return tostring(value)
  end
  return "a " .. kind
end

local function is(value, kind)
  if kind == "any" then return value ~= nil end
  if kind == "integer" then  -- not inf, not nan, and below where doubles skip some
    return type(value) == "number" and value % 1 == 0 and math.abs(value) <= 2 ^ 53
  end
  return type(value) == kind
end

--- What is wrong with a value.
-- @param value
-- @tab spec `{ "type|type", default }` and any of `one_of`, `min`, `max`, `optional`, and `fits`, a
-- function from the value to what it must be ("a device's name") or nil; types are Lua's, `integer`,
-- and `any`
-- @treturn ?string nil if nothing is; else "must be ..., got ..."
-- @usage cft.check.problem(1.5, { "number", min = 0, max = 1 })   --> "must be from 0 to 1, got 1.5"
function M.problem(value, spec)
  local fits = false
  for kind in spec[1]:gmatch "[^|]+" do fits = fits or is(value, kind) end
  local among = fits and not spec.one_of
  for _, allowed in ipairs(spec.one_of or {}) do among = among or value == allowed end
  if not fits or not among then
    if spec.one_of then
      local names = {}
      for i, allowed in ipairs(spec.one_of) do names[i] = show(allowed) end
      local hint = type(value) == "string" and M.suggestion(value, spec.one_of) or ""
      return ("must be one of %s, got %s%s"):format(table.concat(names, ", "), show(value), hint)
    end
    local wanted = spec[1]:gsub("|", " or ")
    return ("must be %s %s, got %s"):format(wanted:find "^[aeiou]" and "an" or "a", wanted, show(value))
  end
  if type(value) == "number" then
    local low, high = spec.min, spec.max
    if (low and not (value >= low)) or (high and not (value <= high)) then  -- so that nan fails
      local range = low and high and ("from %s to %s"):format(low, high)
        or low and ("%s or more"):format(low) or ("%s or less"):format(high)
      return ("must be %s, got %s"):format(range, show(value))
    end
  end
  local wanted = spec.fits and spec.fits(value)
  return wanted and ("must be %s, got %s"):format(wanted, show(value))
end

--- For `fits`: a number below 1. @number value
-- @usage cft.check.below_one(1)   --> "less than 1"
-- cft.check.options("f", { share = 0.5 }, { share = { "number", fits = cft.check.below_one } }).share   --> 0.5
function M.below_one(value)
  if not (value < 1) then return "less than 1" end
end

--- For `fits`: the name of a device, whether or not it is there. @string name
-- @usage cft.check.device "gpu"   --> "cpu, cuda, cuda:N or auto"
-- cft.check.options("f", {}, { device = { "string", "cpu", fits = cft.check.device } }).device   --> "cpu"
function M.device(name)
  if name ~= "auto" and name ~= "cpu" and name ~= "cuda" and not name:find "^cuda:%d+$" then
    return "cpu, cuda, cuda:N or auto"
  end
end

--- One argument.
-- @string where the function's name, for the message
-- @string name the argument's
-- @param value what came; nil takes the default
-- @tab spec as in `problem`
-- @return the value or the default
-- @usage cft.check.value("train.new", "clip", nil, { "number", 1 })   --> 1
function M.value(where, name, value, spec)
  if value == nil then
    if spec[2] ~= nil or spec.optional then return spec[2] end
    blame("%s: '%s' is required", where, name)
  end
  local problem = M.problem(value, spec)
  if problem then blame("%s: '%s' %s", where, name, problem) end
  return value
end

--- A table of named options.
-- A mistake is an error at the caller's line: an unknown name, a wrong type, one that is missing.
-- @string where the function's name, for the message
-- @tab[opt] opts what the caller gave; nil is the same as none
-- @tab specs name → spec, as in `problem`. Without a default and `optional` it is required.
-- @treturn table a new one: every option that was given or has a default
function M.options(where, opts, specs)
  if opts ~= nil and type(opts) ~= "table" then
    blame("%s: options must be a table of names and values, got %s", where, show(opts))
  end
  opts = opts or {}
  local unknown = {}
  for name in pairs(opts) do
    if specs[name] == nil then unknown[#unknown + 1] = tostring(name) end
  end
  if #unknown > 0 then
    table.sort(unknown)
    local name = unknown[1]
    if opts[name] == nil then blame("%s: options have names, but one came as [%s]", where, name) end
    blame("%s: unknown option '%s'%s", where, name, M.suggestion(name, specs))
  end
  local names, values = {}, {}
  for name in pairs(specs) do names[#names + 1] = name end
  table.sort(names)  -- of two mistakes, the same one is always named first
  for _, name in ipairs(names) do values[name] = M.value(where, name, opts[name], specs[name]) end
  return values
end

return M
