--- Passes: through all records of a source, in all processors.
--
-- What is to be known of a record is found by a function that runs in one of several processes (`cft.data.workers`), and
-- comes back as a short text; another function takes these texts in this process, in the order of the records. So what
-- comes of a pass is the same for any number of processes. The first function sees what this process had when the pass
-- began, and what it changes is lost: it should say all that it finds.
-- @module cft.data.parallel
-- @usage local longest = 0
-- passes.each(source, {
--   of = function(record) return tostring(#record.messages[1].content) end,
--   take = function(i, at, bytes) longest = math.max(longest, tonumber(ffi.string(at, bytes))) end,
-- })

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local workers = require "cft.data.workers"
local ffi = door.ffi

local M = {}

M.CHUNK = 2048   -- records of a job
M.SMALL = 8192   -- records for which no other process is worth its start

--- How many processes go through a source unless something else is asked for: one a processor, and this one alone
-- where there are few records or where they are in memory, or where this process is itself one of several.
-- @param source of `cft.data`
-- @treturn int
function M.processes(source)
  local many = source.read and source:bytes() > 0 and source:size() >= M.SMALL  -- what has no `read` is no file's
  return many and not workers.inside and workers.cores() or 1
end

--- The option by which a user says how many.
M.option = { "integer", optional = true, min = 1 }

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
  o = check.options("passes.each", o, { of = { "function" }, take = { "function" }, processes = M.option })
  local n = source:size()
  local jobs = math.ceil(n / M.CHUNK)
  local processes = source.read and math.min(jobs, o.processes or M.processes(source)) or 1  -- a mixture has no `read`
  if processes <= 1 or workers.inside then
    for i, record in source:records() do
      local text = o.of(record, i)
      if text then o.take(i, ffi.cast("const uint8_t *", text), #text) end
    end
    return
  end
  local bad = source:bad()
  local function last_of(job) return math.min((job + 1) * M.CHUNK, n) end
  workers.each {
    count = jobs, processes = processes,
    work = function(job)
      bad.quarantine = nil  -- of the copy that this process has: the one that asked writes it, in order
      return go_through(source, o.of, job * M.CHUNK, last_of(job))
    end,
    take = function(job, text) return take_job(source, o.take, job * M.CHUNK, last_of(job), text) end,
  }
  source:enforce()
end

return M
