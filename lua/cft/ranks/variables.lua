--- Which of several processes this one is, as the variables of whoever has started them say it.

local exit = require "cft.base.exit"

local M = {}

-- `inside`: another one of these may have been started by it, and is the one that counts.
local launchers = {
  { name = "Open MPI's mpirun", rank = "OMPI_COMM_WORLD_RANK", size = "OMPI_COMM_WORLD_SIZE",
    local_rank = "OMPI_COMM_WORLD_LOCAL_RANK", local_size = "OMPI_COMM_WORLD_LOCAL_SIZE" },
  { name = "MPICH's mpirun", rank = "PMI_RANK", size = "PMI_SIZE", local_rank = "MPI_LOCALRANKID",
    local_size = "MPI_LOCALNRANKS" },
  { name = "torchrun", rank = "RANK", size = "WORLD_SIZE", local_rank = "LOCAL_RANK", local_size = "LOCAL_WORLD_SIZE" },
  { name = "srun", rank = "SLURM_PROCID", size = "SLURM_STEP_NUM_TASKS", local_rank = "SLURM_LOCALID", inside = true },
}

local function whole(get, name)
  local text = get(name)
  if text == nil then return nil end
  local n = text:find "^%d+$" and tonumber(text)
  if not n then exit.fail(exit.USAGE, "%s is '%s'; a whole number is wanted", name, text) end
  return n
end

-- What one launcher says; nil where it has started nothing here.
local function read(get, l)
  if not (get(l.rank) and get(l.size)) then return nil end
  local r = { launcher = l.name, rank = whole(get, l.rank), size = whole(get, l.size),
              local_rank = whole(get, l.local_rank), local_size = l.local_size and whole(get, l.local_size) }
  if r.size < 1 or r.rank >= r.size then
    exit.fail(exit.USAGE, "%s is %d and %s is %d; ranks are numbered from 0", l.rank, r.rank, l.size, r.size)
  end
  if r.local_rank and r.local_size and r.local_rank >= r.local_size then
    exit.fail(exit.USAGE, "%s is %d and %s is %d; ranks of a host are numbered from 0", l.local_rank, r.local_rank,
      l.local_size, r.local_size)
  end
  if r.local_rank and r.local_rank > r.rank then
    exit.fail(exit.USAGE, "%s is %d and %s is %d; ranks of a host are numbered in the order of all", l.local_rank, r.local_rank,
      l.rank, r.rank)
  end
  if r.local_size and r.local_size > r.size then
    exit.fail(exit.USAGE, "%s is %d and %s is %d; a host has no more ranks than there are", l.local_size, r.local_size, l.size,
      r.size)
  end
  return r, l
end

--- What they say. Two launchers that disagree are an error with exit code 2.
-- @func[opt] get name of a variable → its text or nil
-- @treturn ?table `launcher`, in words; `rank`, `size`; `local_rank` and `local_size`, among those of this host, where they
-- are known. nil where nobody says that there are several
function M.read(get)
  get = get or os.getenv
  local found, of
  for _, l in ipairs(launchers) do
    local r = read(get, l)
    if r and found and not l.inside and (r.rank ~= found.rank or r.size ~= found.size) then
      exit.fail(exit.USAGE, "%s=%d and %s=%d say rank %d of %d, %s=%d and %s=%d rank %d of %d: two launchers disagree; unset "
        .. "the variables of the one that did not start this", of.rank, found.rank, of.size, found.size, found.rank, found.size,
        l.rank, r.rank, l.size, r.size, r.rank, r.size)
    end
    if r and not found then found, of = r, l end
  end
  return found
end

--- Has srun started this without a plugin for MPI, which then knows of no other ranks?
-- @tab found of `read`
-- @func[opt] get name of a variable → its text or nil
-- @treturn boolean
-- @usage local variables = require "cft.ranks.variables"
-- print(variables.without_plugin({ launcher = "srun" }, function() return nil end))   --> true
function M.without_plugin(found, get)
  get = get or os.getenv
  return found.launcher == "srun" and not (get "PMIX_RANK" or get "PMI_FD" or get "PMI_CONTROL_PORT")
end

return M
