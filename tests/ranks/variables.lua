-- Which rank a process is, by the variables of launchers.

local expect = require "tests.expect"
local variables = require "cft.ranks.variables"

local function read(set) return variables.read(function(name) return set[name] end) end

local function says(what, set, wanted)
  return { what, function() expect.same(read(set), wanted) end }
end

local function refuses(what, set, message)
  return { "refused: " .. what, function() expect.raises(message, read, set) end }
end

local open_mpi = { OMPI_COMM_WORLD_RANK = "1", OMPI_COMM_WORLD_SIZE = "4", OMPI_COMM_WORLD_LOCAL_RANK = "1",
                   OMPI_COMM_WORLD_LOCAL_SIZE = "2" }

local function with(set, more)
  local all = {}
  for _, list in ipairs { set, more } do
    for k, v in pairs(list) do all[k] = v end
  end
  return all
end

return {
  says("nobody", {}, nil),
  says("Open MPI", open_mpi, { launcher = "Open MPI's mpirun", rank = 1, size = 4, local_rank = 1, local_size = 2 }),
  says("MPICH", { PMI_RANK = "0", PMI_SIZE = "2", MPI_LOCALRANKID = "0", MPI_LOCALNRANKS = "2" },
    { launcher = "MPICH's mpirun", rank = 0, size = 2, local_rank = 0, local_size = 2 }),
  says("torchrun", { RANK = "3", WORLD_SIZE = "8", LOCAL_RANK = "3", LOCAL_WORLD_SIZE = "8" },
    { launcher = "torchrun", rank = 3, size = 8, local_rank = 3, local_size = 8 }),
  says("srun", { SLURM_PROCID = "5", SLURM_STEP_NUM_TASKS = "6", SLURM_LOCALID = "1" },
    { launcher = "srun", rank = 5, size = 6, local_rank = 1 }),
  says("a batch script without srun is one process", { SLURM_PROCID = "0", SLURM_NTASKS = "8" }, nil),
  says("a variable RANK without WORLD_SIZE is not torchrun's", { RANK = "9" }, nil),
  says("mpirun in an allocation of Slurm, whose step is mpirun's own", with(open_mpi,
    { SLURM_PROCID = "0", SLURM_STEP_NUM_TASKS = "1" }),
    { launcher = "Open MPI's mpirun", rank = 1, size = 4, local_rank = 1, local_size = 2 }),
  { "srun with a plugin for MPI, and without", function()
    local function without(set) return variables.without_plugin({ launcher = "srun" }, function(name) return set[name] end) end
    expect.same(without { SLURM_PROCID = "0" }, true)
    expect.same(without { PMIX_RANK = "0" }, false)
    expect.same(variables.without_plugin({ launcher = "MPICH's mpirun" }, function() end), false)
  end },
  refuses("two that disagree", with(open_mpi, { RANK = "0", WORLD_SIZE = "4" }),
    "OMPI_COMM_WORLD_RANK=1 and OMPI_COMM_WORLD_SIZE=4 say rank 1 of 4, RANK=0 and WORLD_SIZE=4 rank 0 of 4: two launchers"),
  refuses("a rank beyond the size", { RANK = "4", WORLD_SIZE = "4" }, "RANK is 4 and WORLD_SIZE is 4; ranks are numbered"),
  refuses("a local rank beyond the host", with(open_mpi, { OMPI_COMM_WORLD_LOCAL_RANK = "2" }),
    "OMPI_COMM_WORLD_LOCAL_RANK is 2 and OMPI_COMM_WORLD_LOCAL_SIZE is 2"),
  refuses("a local rank that is no rank", { RANK = "1", WORLD_SIZE = "4", LOCAL_RANK = "2" },
    "LOCAL_RANK is 2 and RANK is 1; ranks of a host are numbered in the order of all"),
  refuses("a host with more than all", { RANK = "0", WORLD_SIZE = "2", LOCAL_RANK = "0", LOCAL_WORLD_SIZE = "8" },
    "LOCAL_WORLD_SIZE is 8 and WORLD_SIZE is 2"),
  refuses("no number", { PMI_RANK = "x", PMI_SIZE = "2" }, "PMI_RANK is 'x'; a whole number is wanted"),
}
