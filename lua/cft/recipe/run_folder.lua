--- The folder of a run: who may write into it.

local exit = require "cft.base.exit"
local host = require "cft.host"

local M = {}

--- The folder that a run writes into, one run at a time.
-- @string folder is made if it is not there
-- @return a lock, which lasts as long as it is kept
function M.take(folder)
  local made, why_not = host.make_folders(folder)
  if not made then exit.fail(exit.FAILED, "out '%s': %s", folder, why_not) end
  local lock, why = host.lock(folder .. "/.lock")
  if why == "busy" then  -- perhaps by a run of this process that is over, and not yet collected
    collectgarbage()
    collectgarbage()
    lock, why = host.lock(folder .. "/.lock")
  end
  if not lock then
    exit.fail(exit.FAILED, "%s: %s", folder, why == "busy" and "another run is writing into this folder; "
              .. "give this one another out=" or why)
  end
  return lock
end

return M
