--- The prompt: how values and errors look, what is at hand. The loop is repl.c.
-- @module cft.prompt

local host = require "cft.host"
local line = require "cft.prompt.line"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local MOST = 20  -- entries of a table that are shown

--- Make `cft` a global that is loaded when it is first used.
function M.globals()
  setmetatable(_G, { __index = function(_, name)
    if name == "cft" then
      rawset(_G, "cft", require "cft")
      getmetatable(_G.cft).__tostring = function() return require "cft.prompt.help".contents() end
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

-- A micro-batch with its first samples, loss tokens in colour.
local SAMPLES = 3
local function micro_batch(micro)
  local samples = require "cft.report.samples"
  local lines = { tostring(micro) }
  for i = 1, math.min(#micro.samples, SAMPLES) do
    local sample, tok = micro:sample(i)
    lines[#lines + 1] = term.paint("bold", texts.printable(("--- %s"):format(micro.names[i])))
    lines[#lines + 1] = samples.sample(tok, sample)
  end
  if #micro.samples > SAMPLES then lines[#lines + 1] = ("... and %d more"):format(#micro.samples - SAMPLES) end
  return table.concat(lines, "\n")
end

local function is_micro_batch(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and rawget(meta, "is_micro_batch") == true
end

--- A value as the prompt shows it: a table shallowly, anything with `__tostring` by that.
-- @param value
-- @treturn string
function M.text(value)
  if type(value) == "string" then return texts.quoted(value) end
  if is_micro_batch(value) then return micro_batch(value) end
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

-- ---- what is at hand -------------------------------------------------------------------------

local commands = {}
M.commands = commands  -- name → function, for lines that come from elsewhere

--- Print what `help` has on a module, a function, or a name of either.
-- @param[opt] what
function commands.help(what) print((require "cft.prompt.help".page(what))) end

function commands.__length(value) return line.length(value) end

function commands.__shell(command)
  io.stdout:flush()
  local code = os.execute(command)
  if code ~= 0 and code ~= true then error(("exit code %d"):format(math.floor(code / 256)), 0) end
end

function commands.__timed(fn)
  local from = host.now()
  local results = { fn() }
  print(term.paint("dim", ("%.3f s"):format(host.now() - from)))
  return unpack(results, 1, table.maxn(results))
end

-- ---- the loop --------------------------------------------------------------------------------

--- Called before a value or an error is shown: ends a line of the screen that something still replaces.
function M.settle() end

local function show(...)
  M.settle()
  local shown = {}
  for i = 1, select("#", ...) do shown[i] = M.text((select(i, ...))) end
  print(table.concat(shown, "\t"))
  rawset(_G, "_", (...))
end

--- What `host.repl` is told: how values and errors look, what leaves, Tab, history.
-- @treturn table `leaving` set to true ends the loop
function M.handlers()
  M.globals()
  local prompt = { prompt = "> ", more = ">> ", leaving = false, history = history_path(), show = show,
                   rewrite = line.rewrite }
  function prompt.complete(text) return require "cft.prompt.complete".complete(text) end
  function prompt.failed(err)
    if prompt.leaving then return end
    M.settle()
    io.stderr:write(term.paint("red", texts.printable(tostring(err)), io.stderr), "\n")
  end
  -- What a line made and nobody holds goes before the next one: the collector does not see what a tensor weighs.
  function prompt.done()
    M.settle()
    if package.loaded["cft.engine.tensor"] then collectgarbage() end
  end
  for name, command in pairs(commands) do rawset(_G, name, command) end
  rawset(_G, "exit", function()
    prompt.leaving = true
    error("exit", 0)  -- the rest of the line does not run
  end)
  return prompt
end

--- Read, run and show lines until Ctrl-D or `exit()`.
-- @string[opt] device where new tensors are made; opened at once, so that a missing one is known
-- @string[opt] about what is at hand, said before the first line
function M.start(device, about)
  local on, prompt = "", M.handlers()
  if device then
    local tensor = require "cft.engine.tensor"
    on = ", device " .. tensor.device_description(tensor.default_device(device))
  end
  prompt.banner = (about and about .. "\n" or "")
    .. ("cft %s%s. Tab completes, ? NAME explains, Ctrl-C stops what runs, Ctrl-D leaves."):format(host.version, on)
  host.repl(prompt)
end

return M
