--- The prompt's manners: how values and errors look, what is at hand. The loop is repl.c.
-- @module cft.cli.repl

local host = require "cft.host"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local MOST = 20  -- entries of a table that are shown

--- Make `cft` a global that is loaded when it is first used.
function M.globals()
  setmetatable(_G, { __index = function(_, name)
    if name == "cft" then
      rawset(_G, "cft", require "cft")
      return rawget(_G, "cft")
    end
  end })
end

local function has_words(value)  -- does it say itself what it is?
  local meta = getmetatable(value)
  return type(meta) == "table" and rawget(meta, "__tostring") ~= nil
end

local function inner(value)  -- a value inside of a table
  if type(value) == "string" then
    return texts.quoted(#value > 60 and value:sub(1, 57) .. "..." or value)
  end
  if type(value) == "table" and not has_words(value) then
    return next(value) == nil and "{}" or "{...}"
  end
  return texts.printable(tostring(value))
end

local function by_name(a, b)
  if type(a) == type(b) and (type(a) == "string" or type(a) == "number") then return a < b end
  return type(a) == "number" or type(b) ~= "number" and tostring(a) < tostring(b)
end

--- A value as the prompt shows it: a table shallowly, anything with `__tostring` by that.
-- @param value
-- @treturn string
function M.text(value)
  if type(value) == "string" then return texts.quoted(value) end
  if type(value) ~= "table" or has_words(value) then return texts.printable(tostring(value)) end
  local parts, count = {}, #value
  for i = 1, math.min(count, MOST) do parts[i] = inner(value[i]) end
  local keys = {}
  for key in pairs(value) do
    local listed = type(key) == "number" and key >= 1 and key <= count and key % 1 == 0
    if not listed then keys[#keys + 1] = key end
  end
  table.sort(keys, by_name)
  for i, key in ipairs(keys) do
    if i > MOST then break end
    local name = type(key) == "string" and key:find "^[%a_][%w_]*$" and key
      or "[" .. inner(key) .. "]"
    parts[#parts + 1] = name .. " = " .. inner(value[key])
  end
  local missing = count + #keys - #parts
  if missing > 0 then parts[#parts + 1] = ("... %d more"):format(missing) end
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #parts == 0 then return "{}" end
  if #line <= term.width() then return line end
  return "{\n  " .. table.concat(parts, ",\n  ") .. "\n}"
end

local function history_path()
  local state = os.getenv "XDG_STATE_HOME"
  local home = os.getenv "HOME"
  if not state or state == "" then state = home and home .. "/.local/state" end
  if not state then return nil end
  return host.make_folders(state .. "/cft") and state .. "/cft/history"
end

--- Read, run and show lines until Ctrl-D or `exit()`.
-- @string[opt] device where new tensors are made; opened at once, so that a missing one is known
function M.start(device)
  M.globals()
  local on = ""
  if device then
    local tensor = require "cft.engine.tensor"
    on = ", device " .. tensor.device_description(tensor.default_device(device))
  end
  local prompt = { prompt = "> ", more = ">> ", leaving = false, history = history_path() }
  prompt.banner = ("cft %s%s. Ctrl-D leaves, Ctrl-C stops what runs."):format(host.version, on)
  function prompt.show(...)
    local texts = {}
    for i = 1, select("#", ...) do texts[i] = M.text((select(i, ...))) end
    print(table.concat(texts, "\t"))
  end
  function prompt.failed(err)
    if prompt.leaving then return end
    io.stderr:write(term.paint("red", texts.printable(tostring(err)), io.stderr), "\n")
  end
  rawset(_G, "exit", function()
    prompt.leaving = true
    error("exit", 0)  -- the rest of the line does not run
  end)
  host.repl(prompt)
end

return M
