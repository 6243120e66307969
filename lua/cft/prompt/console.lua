--- The prompt of a run: before its first step (`cftrun -i`), and lines that come from elsewhere (`cftrun attach`).
-- Recipes, which know nothing of the prompt, find this as "cft.console".
-- @module cft.prompt.console

local complete = require "cft.prompt.complete"
local line = require "cft.prompt.line"
local prompt = require "cft.prompt"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local CALLS = "run.model, run:step(), run:preview(3), run:generate \"...\", run:save(), run:finish(); ? Run:step says more"

-- ---- before the first step ---------------------------------------------------------------------

--- A prompt with a run at hand, until it is left.
-- @tab names global name → value: `run`, `trainer`, `model`
function M.start(names)
  local unlocked = getmetatable(_G)
  setmetatable(_G, nil)  -- globals are allowed here, as at any prompt
  for name, value in pairs(names) do rawset(_G, name, value) end
  prompt.settle = function() names.run.log:close_line() end
  prompt.start(nil, texts.printable(tostring(names.run)) .. "\n" .. CALLS)
  setmetatable(_G, unlocked)
end

-- ---- lines from elsewhere ----------------------------------------------------------------------

--- What lines have at hand: `names`, what they set themselves, and all that the run's own files have.
-- @tab names name → value
-- @treturn table
function M.environment(names)
  local env = {}
  for name, command in pairs(prompt.commands) do env[name] = command end
  for name, value in pairs(names) do env[name] = value end
  env.os = setmetatable({ exit = function() error("the run would end; run:finish() ends it, Ctrl-D leaves", 0) end },
    { __index = os })
  return setmetatable(env, { __index = function(_, name)
    if name == "cft" then return require "cft" end
    return rawget(_G, name)
  end, __newindex = rawset })
end

local function compiled(text, env)
  local fn = loadstring("return " .. text, "=attach")
  local why
  if not fn then fn, why = loadstring(text, "=attach") end
  return fn and setfenv(fn, env), why
end

-- Call `fn`; what is printed meanwhile goes to `out`, without colours.
local function redirected(out, fn)
  local own_print, own_write, own_colour = print, io.write, term.in_colour
  local function restore() rawset(_G, "print", own_print) io.write, term.in_colour = own_write, own_colour end
  rawset(_G, "print", function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    out(table.concat(parts, "\t") .. "\n")
  end)
  io.write = function(...)
    out(table.concat { ... })
    return io.stdout
  end
  term.in_colour = function() return false end
  local results = { pcall(fn) }
  restore()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- Run a line: what it prints, and its values as the prompt shows them, go to `out`.
-- @string text @tab o `env`; `out(text)`; `guard(fn)`, as pcall, but who has sent the line may stop it
-- @treturn ?string what went wrong
function M.answer(text, o)
  local fn, why = compiled(line.rewrite(text), o.env)
  if not fn then return texts.printable(why) end
  local function in_words(err) return texts.printable(tostring(err)) end
  return redirected(o.out, function()
    local results = { o.guard(fn) }
    local count = table.maxn(results)
    if not results[1] then return in_words(results[2]) end
    if count == 1 then return nil end
    o.env._ = results[2]
    local shown, value = o.guard(function()  -- a value says itself how it looks
      local parts = {}
      for i = 2, count do parts[i - 1] = prompt.text(results[i]) end
      return table.concat(parts, "\t")
    end)
    if not shown then return in_words(value) end
    o.out(value .. "\n")
  end)
end

--- Tab in a line that comes from elsewhere.
-- @string text up to the cursor @tab env of `environment`
-- @treturn string what to put in @treturn ?string what to show
function M.complete(text, env) return complete.complete(text, env) end

return M
