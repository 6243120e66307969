--- Which GPU each rank has, and the communicator of these.
--
-- What a rank finds on its host is told to all before anything is decided, so that all come to the same answer, and one
-- of them says it.

local comm = require "cft.engine.comm"
local exit = require "cft.base.exit"
local tensor = require "cft.engine.tensor"

local M = {}

-- So many seconds after the heartbeat would have found who does not come, a collective that no card gets done is an error.
local AFTER_S = 10

-- What this rank has of GPUs and NCCL; no device is opened. `why` there can be no GPU for it.
local function look()
  local gpus, why, nccl = 0, nil, "this build has no module for GPUs"
  for _, row in ipairs(tensor.gpu_report()) do
    if row.name:find "^cuda:%d" and row.state == "ok" then
      gpus = gpus + 1
    elseif row.name == "NCCL" then
      nccl = row.state ~= "ok" and row.detail or nil
    elseif row.state ~= "ok" and (row.name == "module" or row.name == "driver" or row.name:find "^cuda:%d") then
      why = why or ("%s: %s"):format(row.name, row.detail)
    end
  end
  return { gpus = gpus, why = gpus == 0 and (why or "there is none") or nil, nccl = nccl }
end

-- Why the ranks cannot have GPUs, the first reason; nil where they can.
local function obstacle(here, looks)
  for r, found in ipairs(looks) do
    local place = ("rank %d on %s"):format(r - 1, here.places[r].host)
    if found.why then return ("%s has no GPU: %s"):format(place, found.why) end
    if found.nccl then return ("%s has no NCCL, by which GPUs sum: %s"):format(place, found.nccl) end
  end
end

--- The device that a rank is to open: of "cuda" the GPU of its number among the ranks of its host, where it sees all of them.
-- "auto" is that where all ranks have GPUs and NCCL, else the CPU; "cuda" without them is exit code 3.
-- @tparam Ranks here @string wanted "cpu", "cuda", "cuda:N", "auto"
-- @treturn string "cpu", "cuda:N" @treturn ?string why it is the CPU
function M.choose(here, wanted)
  if here.size == 1 or wanted == "cpu" then return wanted end
  local looks = here:gather(look())
  local why = obstacle(here, looks)
  if why and wanted == "auto" then return "cpu", why end
  if why then here:refuse(exit.DEVICE, "device=%s: %s", wanted, why) end
  if wanted:find ":" then return wanted end
  return "cuda:" .. here.local_rank % looks[here.rank + 1].gpus
end

--- Have two ranks one GPU? NCCL cannot do that, and each would have half of it. A GPU's UUID is its own on all hosts, whatever
-- these are called: two containers of one machine have different names, and hosts without one may have the same.
-- @tab places of each rank, by its number from 1: `host` @tab uuids of their GPUs
-- @treturn ?string what is wrong, of the first two @usage
-- local devices = require "cft.ranks.devices"
-- print(devices.shared({ { host = "a" }, { host = "b" } }, { "GPU-1", "GPU-2" }))   --> nil
function M.shared(places, uuids)
  local first = {}
  for r, uuid in ipairs(uuids) do
    local f, host = first[uuid], places[r].host
    first[uuid] = f or r
    if f and places[f].host ~= host then
      return ("ranks %d on %s and %d on %s have the same GPU, %s: these are one machine, and each rank needs a GPU of its own")
        :format(f - 1, places[f].host, r - 1, host, uuid)
    elseif f then
      local there = 0
      for _, place in ipairs(places) do there = there + (place.host == host and 1 or 0) end
      return ("ranks %d and %d on %s have the same GPU, %s; %d ranks are there, and each needs a GPU of its own: start at most as "
        .. "many on a host as it has GPUs"):format(f - 1, r - 1, host, uuid, there)
    end
  end
end

--- Give the ranks a communicator of their devices; that of the processes does for CPUs. All ranks call it.
-- @tparam Ranks here @param device of `tensor.device`
function M.join(here, device)
  if here.size == 1 or device.host_memory == 1 then return end
  local why = M.shared(here.places, here:gather(tensor.uuid(device)))
  if why then here:refuse(exit.DEVICE, "%s", why) end
  here:at "NCCL's communicator"
  local id = here:of_first(here.first and comm.id(device) or "")
  here.comm = comm.open { id = id, rank = here.rank, size = here.size, device = device, timeout = here.stall + AFTER_S }
  local unasked = here.heartbeat:asks_nccl()
  if unasked and here.first then io.stderr:write("cftrun: ", unasked, "; NCCL is not asked when a rank is lost\n") end
  for _, hook in ipairs { "before", "after", "failed" } do here.comm[hook] = here.cpu[hook] end
end

return M
