-- The tables of settings and options in the documentation, from their declarations in lua/cft/config/keys.lua.
--
--   cftrun scripts/print_settings.lua FILE             print FILE with its tables as they should be
--   cftrun scripts/print_settings.lua --write FILE...  and write it
--
-- A table stands between the lines `<!-- settings: WHICH -->` and `<!-- end of settings -->`; WHICH is common, further,
-- options, or group and its name.

local files = require "cft.io.files"
local keys = require "cft.config.keys"

local function code(list) return "`" .. table.concat(list, "`, `") .. "`" end

local function row(name, spec, more)
  local default = spec[2] == nil and "" or " " .. tostring(spec[2]):gsub("e%-0", "e-")
  local meaning = spec.help .. (spec.one_of and (" (%s)"):format(code(spec.one_of)) or "")
  if more and spec.more then meaning = meaning .. "; " .. spec.more end
  return ("| `%s` |%s | %s | %s |"):format(name, default, meaning, spec.resume)
end

local HEAD = "| key | default | meaning | `--resume` |\n|---|---|---|---|"

local function rows(list, group)
  local lines = { HEAD }
  for _, declared in ipairs(list) do
    local name, spec = declared[1], declared[2]
    if not group or spec.group:match "%S+" == group then lines[#lines + 1] = row(name, spec, group) end
  end
  return table.concat(lines, "\n")
end

local function options()
  local lines = {}
  for name, flag in pairs(keys.flags) do
    lines[#lines + 1] = ("| `%s%s` | %s |"):format(name, flag.takes and " " .. flag.takes or "", flag.help)
  end
  table.sort(lines)
  return "| option | meaning |\n|---|---|\n" .. table.concat(lines, "\n")
end

local function section(which)
  if which == "options" then return options() end
  if which:find "^group " then return rows(keys.further, which:match "^group (.*)") end
  local list = assert(keys[which], which)
  return rows(list)
end

local function printed(text)
  return (text:gsub("(<!%-%- settings: ([%w ]-) %-%->\n).-(<!%-%- end of settings %-%->)", function(first, which, last)
    return first .. section(which) .. "\n" .. last
  end))
end

local write = false
for _, argument in ipairs(arg) do
  if argument == "--write" then
    write = true
  else
    local file = assert(io.open(argument, "rb"))
    local text = printed(file:read "*a")
    file:close()
    if write then files.write(argument, text) else io.write(text) end
  end
end
