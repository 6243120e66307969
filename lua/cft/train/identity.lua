--- The identity of a run: all that its next step depends on besides the saved state. It is kept in a
-- checkpoint, and a run that goes on from there is compared with it, entry by entry.
--
-- An identity is a table: label → entry. An entry has `key`, the setting that answers for it; `is`, a text that
-- is equal for equal things (a hash where it is long), and `shown`, what people read; or, in place of these
-- two, `why` it cannot be compared. `default` marks a setting that nobody changed, `instead` one that stands for what
-- cannot be compared.

local canonical = require "cft.base.canonical"
local hash = require "cft.io.hash"
local texts = require "cft.base.text"

local M = {}

local LONGEST = 60  -- characters of a value that are shown, or kept as they are

local function shown(value)
  local kind, text = type(value), tostring(value)
  if kind == "function" then text = "a function" end
  if kind == "number" and tonumber(text) ~= value then text = ("%.17g"):format(value) end
  if kind == "table" then text = value.name or canonical.text(value) or "a table" end
  if #text > LONGEST then text = text:sub(1, LONGEST - 3):gsub("[\192-\255]?[\128-\191]*$", "") .. "..." end
  return text == "" and "''" or texts.printable(text)
end

-- The entry of a value, nil for nil.
local function entry(key, value, what, default)
  if value == nil then return nil end
  local text, why = canonical.text(value, { what = what, object = true })
  if not text then return { key = key, why = why } end
  if #text > LONGEST then text = hash.text(text) end
  return { key = key, is = text, shown = shown(value), default = value == default or nil }
end

local function records(key, source)
  if not source then return nil end
  local text, why = source:identity()
  if not text then return { key = key, why = why } end
  return { key = key, is = text, shown = ("%d records"):format(source:size()) }
end

--- The identity of a run.
-- @tab parts `settings`, of `cft.config.identity`; `data` and, where there are any, `heldout`: sources; `template` and
-- `options`, what the recipe gave, and `chat`, what came of it; `tokenizer`; `model`, of whose config the shape is
-- taken; `steps` of the whole run, which the schedule depends on; `dtype`
-- @treturn table
function M.of(parts)
  local id = { data = records("data", parts.data), heldout = records("heldout", parts.heldout),
               steps = entry("steps", parts.steps, "steps"), dtype = entry("dtype", parts.dtype, "dtype"),
               ["template turns"] = entry("template", parts.chat, "template"),
               ["model tokenizer"] = { key = "model", is = parts.tokenizer:hash(),
                                       shown = ("%d tokens"):format(parts.tokenizer:size()) } }
  for name, value in pairs(parts.options) do
    id["template option " .. name] = entry("template", value, "template option " .. name)
  end
  for name, value in pairs(parts.model) do
    if name ~= "raw" then id["model " .. name] = entry("model", value, name) end
  end
  for name, setting in pairs(parts.settings) do
    if not setting.resolved then
      id[name] = entry(name, setting.value, name, setting.default)
    elseif id[name] and id[name].why then
      local instead = entry(name, setting.value, name)
      if instead then instead.instead = true end
      id["setting " .. name] = instead
    end
  end
  return id
end

--- The identity that the first version of the state knew of: some settings, the number of steps, and the
-- hash of whole files.
-- @tab state as it was read
-- @tab now the identity of the run that goes on
-- @string[opt] hash of this run's files
-- @treturn table with `partial`: what it does not have is not known
function M.of_version_1(state, now, hash)
  local id = { steps = entry("steps", state.steps, "steps") }
  for name, value in pairs(state.settings) do
    if now[name] and not (name == "dtype" and value == "auto") then id[name] = entry(name, value, name) end
  end
  if state.data ~= "" and hash then
    id.data = hash == state.data and now.data or { key = "data", is = state.data, shown = "other files" }
  end
  return id
end

local function difference(label, was, now)
  if was and now and was.shown == now.shown then
    return ("%s: was %s, now other contents (%s)"):format(label, was.shown, now.shown)
  end
  return ("%s: was %s, now %s"):format(label, was and was.shown or "not set", now and now.shown or "not set")
end

--- What is not as it was.
-- @tab was the saved identity @tab now that of this run
-- @bool[opt=false] partial `was` does not know all: what it lacks is not compared
-- @treturn table a list of { `key`, `text` }, by label
-- @treturn table a list of texts: what cannot be compared, and why
function M.compare(was, now, partial)
  local labels, changes, unknown, missing = {}, {}, {}, {}
  for label in pairs(now) do labels[#labels + 1] = label end
  for label in pairs(was) do
    if not now[label] then labels[#labels + 1] = label end
  end
  table.sort(labels)
  local template_named = false
  for _, label in ipairs(labels) do
    local a, b = was[label], now[label]
    local why = a and a.why or b and b.why
    local quiet = not a and (b.default or b.instead) or not b and (a.default or a.instead)
    if why then
      unknown[#unknown + 1] = ("%s: not compared: %s"):format(label, why)
    elseif partial and not a then
      if not quiet then missing[#missing + 1] = label end
    elseif not quiet and (a and a.is) ~= (b and b.is) and not (label == "template turns" and template_named) then
      changes[#changes + 1] = { key = (a or b).key, text = difference(label, a, b) }
      template_named = template_named or (a or b).key == "template"
    end
  end
  if #missing > 0 then
    unknown[#unknown + 1] = "not compared, since it was not kept: " .. table.concat(missing, ", ")
  end
  return changes, unknown
end

return M
