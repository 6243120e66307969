--- What --help prints.
-- @module cft.cli.help

local config = require "cft.config"
local term = require "cft.base.term"

local M = {}

-- Two columns; what does not fit into the first gets a line of its own.
local function rows(list)
  for _, row in ipairs(list) do
    if #row[1] > 24 then print("  " .. row[1]); print((" "):rep(28) .. row[2])
    else print(("  %-25s %s"):format(row[1], row[2])) end
  end
end

local function heading(text) print("\n" .. term.paint("bold", text)) end

local function options()
  local list = {}
  for name, flag in pairs(config.flags) do
    list[#list + 1] = { name .. (flag.takes and " " .. flag.takes or ""), flag.help }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  rows(list)
end

--- The program.
-- @tab commands list of { name, summary }
function M.program(commands)
  print [[
cftrun: Critique Fine-Tuning from a recipe in Lua

  cftrun RECIPE [key=value ...] [option ...]   run a recipe
  cftrun                                       a prompt: tensors, models, batches, steps
  cftrun -e CODE [argument ...]                run a line of Lua
  cftrun COMMAND [argument ...]                one of the commands below]]
  if #commands > 0 then
    heading "Commands"
    rows(commands)
  end
  heading "Options of a run"
  options()
  heading "Other options"
  rows {
    { "--help", "this; behind a recipe or a command, theirs" },
    { "--version", "of cft and of what it is built on" },
  }
  heading "Exit codes"
  rows {
    { "0", "all is well" },
    { "1", "the run failed: an error in a script, bad data, output that cannot be written" },
    { "2", "unknown option or key, no such recipe" },
    { "3", "a device, a driver or a library is missing" },
    { "4", "a model or data are not on this machine, or cannot be fetched" },
    { "5", "the loss is NaN or infinite; the last good state is kept" },
    { "130", "Ctrl-C; or SIGTERM, where a run could save" },
  }
  heading "Environment"
  rows {
    { "CFT_CACHE=DIR", "where is kept what can be made again; ~/.cache/cft" },
    { "CFT_TRACEBACK=1", "errors with a traceback" },
    { "HF_HOME, HF_TOKEN", "the Hub's cache and its token, as elsewhere" },
    { "NO_COLOR=1", "no colours" },
    { "", "docs/cli.md has the rest" },
  }
end

-- The comment a script starts with.
local function header_of(path)
  local file = path and io.open(path)
  if not file then return {} end
  local lines = {}
  for line in file:lines() do
    local text = line:match "^%-%-+%s?(.*)$"
    if text then lines[#lines + 1] = text
    elseif not line:find "^#!" then break end
  end
  file:close()
  return lines
end

local function shown(value)
  if type(value) == "table" then return table.concat(value, ",") end
  if type(value) == "function" or value == nil then return "" end
  return tostring(value)
end

--- A recipe.
-- @string path the script's, for its name and the comment it starts with
-- @tab specs key → spec
-- @tab names lists of keys in order: the recipe's `own`, `common` ones, `further` ones
function M.recipe(path, specs, names)
  for _, line in ipairs(header_of(path)) do print(line) end
  print(("\nUsage: cftrun %s [key=value ...] [option ...]"):format(path or "RECIPE"))
  local function keys(list)
    local table_rows = {}
    for i, name in ipairs(list) do
      local spec = specs[name]
      local help = spec.help or ""
      if spec.one_of then help = ("%s (%s)"):format(help, table.concat(spec.one_of, ", ")) end
      table_rows[i] = { name .. "=" .. shown(spec[2]), help }
    end
    rows(table_rows)
  end
  if #names.own > 0 then
    heading "Keys of this recipe, and their defaults"
    keys(names.own)
  end
  heading "Keys of every recipe, and their defaults"
  keys(names.common)
  heading "Further keys"
  keys(names.further)
  heading "Options"
  options()
end

return M
