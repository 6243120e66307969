--- say what this machine has for a run: processor, memory, GPUs, libraries, disk; and what is missing
--
--   cftrun doctor
--
-- Nothing is changed, no device is opened. Exit code 3 where no GPU can be used, 0 otherwise.

local exit = require "cft.base.exit"
local format = require "cft.base.format"
local host = require "cft.host"
local tensor = require "cft.engine.tensor"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local function first_line(command)
  local pipe = io.popen(command .. " 2>/dev/null")
  local line = pipe and pipe:read "*l"
  if pipe then pipe:close() end
  return line and line:match "%S" and line or nil
end

local function field_of(path, pattern)
  local file = io.open(path)
  if not file then return nil end
  local found = file:read "*a":match(pattern)
  file:close()
  return found
end

-- ---- rows: { name, state, detail } -------------------------------------------------------------

local function processor()
  local name = field_of("/proc/cpuinfo", "model name%s*:%s*([^\n]*)") or "a processor that does not say its name"
  return { "processor", "ok", ("%s; cft uses %s"):format(name, tensor.device_description(tensor.device "cpu")) }
end

-- What of memory a process may have: the machine's, or what its control group has.
local function memory()
  local total = tonumber(field_of("/proc/meminfo", "MemTotal:%s*(%d+) kB") or 0) * 1024
  local free = tonumber(field_of("/proc/meminfo", "MemAvailable:%s*(%d+) kB") or 0) * 1024
  local limit = tonumber(field_of("/sys/fs/cgroup/memory.max", "^(%d+)"))
  local text = ("%s, %s of it available"):format(format.bytes(total), format.bytes(free))
  if limit and limit < total then text = text .. ("; this process may have %s"):format(format.bytes(limit)) end
  return { "memory", "ok", text }
end

local function disk(name, folder)
  local there = folder
  while not host.kind(there) do there = there:match "^(.+)/[^/]*$" or "/" end
  local free = first_line(("df -kP '%s' | awk 'NR == 2 { print $4 }'"):format(there:gsub("'", "'\\''")))
  return { name, "ok", ("%s, %s free"):format(folder, free and format.bytes(1024 * tonumber(free)) or "unknown room") }
end

local function mpi()
  local path = first_line "command -v mpirun"
  if not path then return { "MPI", "missing", "several ranks want it: apt-get install openmpi-bin" } end
  return { "MPI", "ok", ("%s, %s"):format(path, first_line "mpirun --version" or "of no version") }
end

local function rows()
  local list = { processor(), memory() }
  for _, row in ipairs(tensor.gpu_report()) do list[#list + 1] = { row.name, row.state, row.detail } end
  list[#list + 1] = mpi()
  list[#list + 1] = disk("Hub cache", require "cft.io.hub".cache())
  list[#list + 1] = disk("this folder", first_line "pwd" or ".")
  return list
end

-- ---- the command -------------------------------------------------------------------------------

local colours = { ok = "green", missing = "yellow", old = "red" }

-- Can a run have a GPU? It takes the module, a driver, one GPU and matrix products.
local function usable(list)
  local good = {}
  for _, row in ipairs(list) do good[row[1]:match "^cuda:" and "gpu" or row[1]] = row[2] == "ok" or good[row[1]] end
  for _, name in ipairs { "module", "driver", "gpu" } do
    if not good[name] then return false, name end
  end
  return true
end

--- `cftrun doctor`.
-- @tab args
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then return print "cftrun doctor" end
  if args[1] then exit.fail(exit.USAGE, "doctor: takes no argument, got '%s'", args[1]) end
  local list = rows()
  for _, row in ipairs(list) do
    local state = row[2] == "ok" and "" or row[2] .. ": "
    print(("%-12s %s%s"):format(row[1], term.paint(colours[row[2]] or "red", state), texts.printable(row[3])))
  end
  local ok, without = usable(list)
  if ok then return exit.OK end
  print(("No GPU can be used: %s. Runs take the CPU."):format(without == "gpu" and "there is none"
    or ("the row '%s' says why"):format(without)))
  return exit.DEVICE
end

return M
