--- Work in several processes: copies of this one, each with all that a recipe has made, its functions included.
--
-- Jobs answer with texts, which come back in the order of the jobs; `each` goes through all records of a source so, and
-- `chunks` gives a job some of them. So what comes of it is the same for any number of processes. A copy sees what this
-- process had when it was made, and what it changes is lost: it should say all that it finds.
-- @module cft.data.parallel
-- @usage local parallel = require "cft.data.parallel"
-- local ffi, longest = require "ffi", 0
-- parallel.each(source, {
--   of = function(record) return tostring(#record.messages[1].content) end,
--   take = function(i, at, bytes) longest = math.max(longest, tonumber(ffi.string(at, bytes))) end,
-- })

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local core = require "cft.worker"
local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local ffi = door.ffi

local M = {}

M.CHUNK = 2048   -- records of a job
M.SMALL = 8192   -- records for which no other process is worth its start

-- ---- processes -------------------------------------------------------------------------------

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
function M.jobs(o)
  o = check.options("parallel.jobs", o, {
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

-- ---- records ---------------------------------------------------------------------------------

--- How many processes go through a source unless something else is asked for: one a processor, and this one alone
-- where there are few records or where they are in memory, or where this process is itself one of several.
-- @param source of `cft.data`
function M.processes(source)
  local many = source.read and source:bytes() > 0 and source:size() >= M.SMALL  -- what has no `read` is no file's
  return many and not M.inside and M.cores() or 1
end

--- The option by which a user says how many.
M.option = { "integer", optional = true, min = 1 }

--- Give each job some records of a source. Whoever calls it ends with `source:enforce()`.
-- @param source of `cft.data`
-- @tab o
-- @func o.work gets the numbers of the first record and of the one behind the last; returns a text
-- @func o.take gets the number of the job, the text, and these two; true from it ends everything
-- @int[opt=0] o.first job
-- @int[opt] o.processes one a processor if absent
function M.chunks(source, o)
  o = check.options("parallel.chunks", o, {
    work = { "function" }, take = { "function" }, first = { "integer", 0, min = 0 }, processes = M.option,
  })
  local bad, n = source:bad(), source:size()
  local function range(job) return job * M.CHUNK, math.min((job + 1) * M.CHUNK, n) end
  M.jobs {
    count = math.ceil(n / M.CHUNK), first = o.first, processes = o.processes,
    work = function(job)
      if M.inside then bad.quarantine = nil end  -- the process that asked writes it, in order
      return o.work(range(job))
    end,
    take = function(job, text) return o.take(job, text, range(job)) end,
  }
end

local SAYS_NOTHING, BAD = -1, -2

-- A job's text: for each record how many bytes are said of it, then these.
local function go_through(source, of, first, last)
  local lengths, texts = ffi.new("int32_t[?]", last - first), {}
  for i = first, last - 1 do
    local record = source.read(i)
    local text = record ~= nil and of(record, i) or nil
    lengths[i - first] = record == nil and BAD or text and #text or SAYS_NOTHING
    texts[#texts + 1] = text
  end
  return ffi.string(lengths, 4 * (last - first)) .. table.concat(texts)
end

-- The other half. @treturn bool whether there are so many bad records that nobody needs the rest
local function take_job(source, take, first, last, text)
  local bad = source:bad()
  local lengths = ffi.cast("const int32_t *", text)
  local at = ffi.cast("const uint8_t *", text) + 4 * (last - first)
  for i = first, last - 1 do
    local bytes = lengths[i - first]
    if bytes == BAD then  -- met again here, where it is counted and kept
      if source.read(i) ~= nil then
        blame("%s: is a bad record in one process and a good one in another; fields and map must always give the same",
          source:where(i))
      end
      if bad:hopeless() then return true end
    elseif bytes ~= SAYS_NOTHING then
      take(i, at, bytes)
      at = at + bytes
    end
  end
end

--- Go through the good records; at the end, or when there are too many bad ones, `source:enforce()`.
-- @param source of `cft.data`; or a mixture, which one process goes through
-- @tab o
-- @func o.of gets a record and its number; returns a text, or nil where nothing is to be said. It runs in another
-- process unless there is but one
-- @func o.take gets the number, a pointer to the text's bytes, and how many these are, until it returns
-- @int[opt] o.processes those of `processes` if absent
function M.each(source, o)
  o = check.options("parallel.each", o, { of = { "function" }, take = { "function" }, processes = M.option })
  local jobs = math.ceil(source:size() / M.CHUNK)
  local processes = source.read and math.min(jobs, o.processes or M.processes(source)) or 1  -- a mixture has no `read`
  if processes <= 1 or M.inside then
    for i, record in source:records() do
      local text = o.of(record, i)
      if text then o.take(i, ffi.cast("const uint8_t *", text), #text) end
    end
    return
  end
  M.chunks(source, {
    processes = processes,
    work = function(first, last) return go_through(source, o.of, first, last) end,
    take = function(_, text, first, last) return take_job(source, o.take, first, last, text) end,
  })
  source:enforce()
end

return M
