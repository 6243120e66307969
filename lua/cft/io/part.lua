--- A file that appears when all of its lines are there: they are collected in OUT.part, by one process at a time.
-- @module cft.io.part

local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local host = require "cft.host"

local M = {}

--- Call `make` while no other process writes OUT.part. OUT.part.lock is there as long, and where the process was killed until
-- the next one is done. Ends with code 2 where another process is at it.
-- @string where the command, for messages
-- @string out folders above it are made
-- @func make what it gives is given
-- @usage require("cft.io.part").alone("eval", folder .. "/r.jsonl", function() return 2 end)   --> 2
function M.alone(where, out, make)
  local folder = out:match "^(.+)/[^/]*$"
  if folder then host.make_folders(folder) end
  local path = out .. ".part.lock"
  local lock, why, who = host.lock(path)
  if why == "busy" then
    exit.fail(exit.USAGE, "%s: %s.part is being written%s; wait for it, or write to another file", where, out,
              who ~= "" and " by " .. who or "")
  end
  if not lock then exit.fail(exit.FAILED, "%s: %s", where, why) end
  return finally(function()
    os.remove(path)  -- in front of the release: whoever waits sees that it is gone
    lock:release()
  end, make)
end

return M
