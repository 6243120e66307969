--- What cftrun does with its arguments.
-- @module cft.cli

local check = require "cft.base.check"
local exit = require "cft.base.exit"
local host = require "cft.host"
local launch = require "cft.ranks.launch"
local ranks = require "cft.ranks"

local M = {}

-- ---- commands: modules cft.cli.cmd.NAME with run(args) -------------------------------------------

-- name → the first line of its source, which is its summary
local function commands()
  local found = {}
  local function add(name, text)
    if name and text then found[name] = text:match "^%-%-%-%s*([^\n]*)" or "" end
  end
  for _, module in ipairs(host.modules()) do
    add(module:match "^cft%.cli%.cmd%.([%w_]+)$", host.source(module))
  end
  local edited = os.getenv "CFT_LUA_PATH"
  for _, file in ipairs(edited and host.list(edited .. "/cft/cli/cmd") or {}) do
    local source = io.open(edited .. "/cft/cli/cmd/" .. file)
    add(file:match "^([%w_]+)%.lua$", source:read(400))
    source:close()
  end
  return found
end

--- The commands, by name.
-- @treturn table a list of { name, what it does }
function M.commands()
  local list = {}
  for name, summary in pairs(commands()) do list[#list + 1] = { name, summary } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- ---- scripts ---------------------------------------------------------------------------------

local function set_arguments(script, args)
  local list = { [0] = script, inspect = args.inspect, interactive = args.interactive }
  for i, value in ipairs(args) do list[i] = value end
  rawset(_G, "arg", list)
end

--- Run a Lua file as `cftrun FILE args...` does: no stray globals, its arguments in `arg`.
-- @string path
-- @tab args list of strings; `inspect`: what its recipe does in place of training, see `cft.recipe.inspect`; `interactive`: a
-- prompt before its first step
-- @return what the script returns
function M.script(path, args)
  local chunk, message = loadfile(path)
  if not chunk then exit.fail(exit.FAILED, message) end
  set_arguments(path, args)
  require "cft.base.strict" ()
  return chunk(unpack(args))
end

-- Names in the folder of a path that is not there, to suggest one.
local function neighbours(path)
  local folder, names = path:match "^(.*/)" or "", {}
  for _, name in ipairs(host.list(folder == "" and "." or folder) or {}) do
    if name:find "%.lua$" then names[#names + 1] = folder .. name end
  end
  return names
end

-- A command that was probably meant, or the recipe of that name in ./recipes.
local function meant(target)
  local recipe = "recipes/" .. target .. ".lua"
  if host.kind(recipe) == "file" then return ("; did you mean '%s'?"):format(recipe) end
  return check.suggestion(target, commands())
end

local function not_found(target)
  if target:find "[/.]" then
    local what = host.kind(target) and "%s is a folder, not a recipe" or "no recipe %s%s"
    exit.fail(exit.USAGE, what, target, check.suggestion(target, neighbours(target)))
  end
  exit.fail(exit.USAGE, "no recipe and no command '%s'%s", target, meant(target))
end

-- Recipes find the prompt, which stands above them, by this name.
package.preload["cft.console"] = function() return require "cft.prompt.console" end

local function run(target, args, flags)
  local is_command = target:find "^[%w_]+$" and commands()[target]
  local wanted, own = launch.take(args)
  if wanted.ranks and not launch.asks_for_help(own) then
    if args.interactive then exit.fail(exit.USAGE, "-i is for one process, and --ranks starts several") end
    if is_command then exit.fail(exit.USAGE, "--ranks starts a recipe; %s is a command", target) end
    return launch.start(wanted, target, own)
  end
  local started = ranks.expected()
  if started > 1 and (is_command or args.interactive) then
    exit.fail(exit.USAGE, "%s is for one process, and %d were started; say it without mpirun or srun",
      is_command and target or "-i", started)
  end
  if is_command and args.interactive then exit.fail(exit.USAGE, "-i wants a recipe; %s is a command", target) end
  if is_command then return require("cft.cli.cmd." .. target).run(args) end
  if host.kind(target) ~= "file" then not_found(target) end
  local config = require "cft.config"
  config.asked = false
  M.script(target, args)
  local recipe = package.loaded["cft.recipe"]
  if recipe then recipe.finish_open() end  -- a loop of the script's own that was left early
  if args.interactive then
    exit.fail(exit.USAGE, "-i: %s has ended and made no step of a recipe, so there was nothing to stop before", target)
  end
  if #flags > 0 and not config.asked then
    exit.fail(exit.USAGE, "%s never called cft.config, so %s did nothing", target,
              table.concat(flags, " "))
  end
end

-- ---- the arguments ---------------------------------------------------------------------------

local function version()
  print(("cft %s, %s, %s %s"):format(host.version, jit.version, jit.os, jit.arch))
end

local function evaluate(code, args)
  set_arguments("-e", args)
  local chunk, message = loadstring(code, "=(command line)")
  if not chunk then exit.fail(exit.FAILED, message) end
  require("cft.prompt").globals()
  chunk(unpack(args))
end

-- The prompt, on a device if one was asked for.
local function prompt(flags)
  local config, i = #flags > 0 and require "cft.config", 1
  while flags[i] do
    local flag, _, after = config.flag(flags, i)
    if flag.field ~= "device" then exit.fail(exit.USAGE, "%s wants a recipe", flags[i]) end
    i = after
  end
  set_arguments("cftrun", {})
  require("cft.prompt").start(config and config.read({}, flags).device)
end

local function rest(args, i) return { unpack(args, i) } end

local function dispatch(args)
  local config
  local flags, i, help, check_only, interactive = {}, 1, false, false, false  -- flags: options of a run that stand before its recipe
  while args[i] do
    local a = args[i]
    if a == "--help" or a == "-h" then
      help, i = true, i + 1
    elseif a == "--version" then
      return version()
    elseif a == "--check" then
      check_only, i = true, i + 1
    elseif a == "-i" then
      interactive, i = true, i + 1
    elseif a == "-e" then
      if not args[i + 1] then exit.fail(exit.USAGE, "-e wants a line of Lua behind it") end
      return evaluate(args[i + 1], rest(args, i + 2))
    elseif a:sub(1, 1) == "-" then
      config = config or require "cft.config"
      local flag, _, after = config.flag(args, i)
      if not flag then
        local known = { "--help", "--version", "--check", "-e", "-i" }
        for name in pairs(config.flags) do known[#known + 1] = name end
        exit.fail(exit.USAGE, "unknown option '%s'%s", a, check.suggestion(a, known))
      end
      for k = i, after - 1 do flags[#flags + 1] = args[k] end
      i = after
    else
      if check_only then exit.fail(exit.USAGE, "--check takes no recipe, got '%s'; --dry-run checks one", a) end
      local behind = rest(args, i + 1)
      if help then table.insert(behind, 1, "--help") end
      for k = #flags, 1, -1 do table.insert(behind, 1, flags[k]) end
      behind.interactive = interactive and not help or nil
      return run(a, behind, flags)
    end
  end
  if help then return require("cft.cli.help").program(M.commands()) end
  if interactive then exit.fail(exit.USAGE, "-i wants a recipe behind it: cftrun -i RECIPE [key=value ...]") end
  if check_only then return require "cft.cli.cmd.doctor".run {} end
  prompt(flags)
end

-- As luaL_traceback in host.c does it for errors outside of this function.
local function with_traceback(err)
  if type(err) ~= "string" or os.getenv "CFT_TRACEBACK" ~= "1" or err:find "\nstack traceback:" then return err end
  return debug.traceback(err, 2)
end

-- What `error` was given, in words: tables have none of their own.
local function message_of(raised)
  if type(raised) == "string" then return raised end
  local meta = getmetatable(raised)
  if type(meta) == "table" and meta.__tostring then return tostring(raised) end
  if type(raised) == "nil" then return "an error without a message" end
  local ok, json = pcall(require("cft.base.json").encode, raised)
  return ("an error that is a %s, not a message: %s"):format(type(raised), ok and json or "not told")
end

-- All ranks have come to these together, and leave together; an error may be that of one alone.
local together = { [exit.OK] = true, [exit.NOT_FINITE] = true, [exit.INTERRUPTED] = true, [exit.TERMINATED] = true }

local function leave_ranks(code, message)
  if together[code] then ranks.leave() else ranks.abandon(message) end
end

-- Who says it, where several ranks do; nil where rank 0 says the same.
local function speaker(code)
  local rank = ranks.number()
  if rank == 0 then return "" end
  return not together[code] and code ~= exit.USAGE and ("rank %d: "):format(rank) or nil
end

--- The program.
-- @param ... the arguments
-- @treturn int exit code
function M.main(...)
  local ok, result = xpcall(dispatch, with_traceback, { ... })
  if ok then
    local code = type(result) == "number" and result or exit.OK
    leave_ranks(code)
    return code
  end
  local recipe = package.loaded["cft.recipe"]
  if type(recipe) == "table" then recipe.fail_open(result) end  -- one that fails to load is none
  local code = exit.code(result)
  if code == exit.FAILED and host.interrupts() > 0 then code = exit.INTERRUPTED end
  if code == exit.INTERRUPTED then code = exit.by_signal(host.end_signal()) end
  local message = message_of(result)
  local files = package.loaded["cft.io.save"]
  local lost = type(files) == "table" and files.lost()
  if lost and not message:find(lost, 1, true) then
    message = ("%s\n  %s: became shorter while it was in use; what was read of it since is not what it held"):format(message, lost)
  end
  local who = speaker(code)
  if message ~= "" and who then
    io.stdout:flush()
    message = who .. require("cft.base.text").printable(message)  -- it may quote what a file of others says
    io.stderr:write(require("cft.base.term").paint("bold red", "cftrun:", io.stderr), " ", message, "\n")
  end
  leave_ranks(code, message)
  return code
end

return M
