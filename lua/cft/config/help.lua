--- What `cftrun RECIPE --help` prints, and how help is laid out.
-- @module cft.config.help

local keys = require "cft.config.keys"
local term = require "cft.base.term"

local M = {}

--- Print two columns; what does not fit into the first gets a line of its own.
-- @tab list of { text, text }
function M.rows(list)
  for _, row in ipairs(list) do
    if #row[1] > 24 then print("  " .. row[1]); print((" "):rep(28) .. row[2])
    else print(("  %-25s %s"):format(row[1], row[2])) end
  end
end

--- Print a heading.
-- @string text
function M.heading(text) print("\n" .. term.paint("bold", text)) end

--- Print the options of a run.
function M.options()
  local list = {}
  for name, flag in pairs(keys.flags) do
    list[#list + 1] = { name .. (flag.takes and " " .. flag.takes or ""), flag.help }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  M.rows(list)
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
  if value == nil then return "" end
  if type(value) == "function" then return ("(a function, line %d)"):format(debug.getinfo(value, "S").linedefined) end
  return tostring(value)
end

--- A recipe.
-- @string path the script's, for its name and the comment it starts with
-- @tab specs key → spec
-- @tab names lists of keys in order: the recipe's `own`, `common` ones, `further` ones
function M.recipe(path, specs, names)
  for _, line in ipairs(header_of(path)) do print(line) end
  print(("\nUsage: cftrun %s [key=value ...] [option ...]"):format(path or "RECIPE"))
  local function print_keys(list)
    local table_rows = {}
    for i, name in ipairs(list) do
      local spec = specs[name]
      local help = spec.help or ""
      if spec.one_of then help = ("%s (%s)"):format(help, table.concat(spec.one_of, ", ")) end
      table_rows[i] = { name .. "=" .. shown(spec[2]), help }
    end
    M.rows(table_rows)
  end
  if #names.own > 0 then
    M.heading "Keys of this recipe, and their defaults"
    print_keys(names.own)
  end
  M.heading "Keys of every recipe, and their defaults"
  print_keys(names.common)
  M.heading "Further keys"
  print_keys(names.further)
  M.heading "Options"
  M.options()
end

return M
