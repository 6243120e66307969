--- Work in several processes: copies of this one, each with all that a recipe has made, its functions
-- included. Results come back as texts, in the order of the jobs.
-- @module cft.data.workers
-- @usage local sum = 0
-- workers.each { count = 100, work = function(job) return tostring(job * job) end,
--                take = function(job, text) sum = sum + tonumber(text) end }

local check = require "cft.base.check"
local exit = require "cft.base.exit"
local core = require "cft.worker"

local M = {}

--- How many processors this process may use.
M.cores = core.cores

--- Is this a process that `start` made?
M.inside = false

--- Start one process.
-- @func work gets a function that sends a text
-- @bool[opt=false] low whether whatever else runs on this machine goes first
-- @return a worker: `read()` gives its next text, nil at its end, and why where it failed; `ready(ms)` says
-- whether that would come at once; `stop()` ends it. The collector stops one that is forgotten
function M.start(work, low)
  collectgarbage()  -- what is garbage here should not be the worker's to finish
  local worker, why = core.start(function(send)
    M.inside = true
    work(send)
  end, low)
  return worker or error("no process beside this one: " .. why, 0)
end

-- An error travels as a text: with the exit code in front.
local function report(work)
  local ok, err = pcall(work)
  if not ok then error(("%d %s"):format(exit.code(err), tostring(err)), 0) end
end

local function raise(why)
  local code, message = why:match "^(%d+) (.*)$"
  if not code then error(why, 0) end  -- it was ended from outside
  if tonumber(code) == exit.FAILED then error(message, 0) end
  exit.fail(tonumber(code), "%s", message)
end

--- Do jobs in several processes. What one of them raises is raised here, when its job's turn comes.
-- @tab o
-- @int o.count jobs are numbered up to count - 1
-- @int[opt=0] o.first the first of them
-- @func o.work gets a job's number and returns a text; runs in another process unless `processes` is 1
-- @func o.take gets the number and the text, in order, in this process; true from it ends everything
-- @int[opt] o.processes one a processor if absent
function M.each(o)
  o = check.options("workers.each", o, {
    count = { "integer", min = 0 }, first = { "integer", 0, min = 0 }, work = { "function" }, take = { "function" },
    processes = { "integer", optional = true, min = 1 },
  })
  local n = math.min(o.processes or M.cores(), o.count - o.first)
  if n <= 1 then
    for job = o.first, o.count - 1 do
      if o.take(job, o.work(job)) then break end
    end
    return
  end
  local list = {}
  for k = 0, n - 1 do
    list[k] = M.start(function(send)
      report(function()
        for job = o.first + k, o.count - 1, n do send(o.work(job)) end
      end)
    end)
  end
  local function stop()
    for k = 0, n - 1 do list[k]:stop() end
  end
  local ok, err = pcall(function()
    for job = o.first, o.count - 1 do
      local text, why = list[(job - o.first) % n]:read()
      if not text then raise(why or "a worker ended early") end
      if o.take(job, text) then return end
    end
    for k = 0, n - 1 do  -- until all have finished
      local _, why = list[k]:read()
      if why then raise(why) end
    end
  end)
  stop()
  if not ok then error(err, 0) end
end

return M
