-- Copies of this process: what they send, how they end, and who goes first.

local expect = require "tests.expect"
local parallel = require "cft.data.parallel"

-- The scheduling policy of the process that asks: field 41 of its stat, behind a name in brackets.
local function policy()
  local file = assert(io.open "/proc/self/stat")
  local fields, k = file:read("*a"):match "^.*%) (.*)$", 2
  file:close()
  for value in fields:gmatch "%S+" do
    k = k + 1
    if k == 41 then return value end
  end
end

local function answer(low)
  local w = parallel.start(function(send) send(policy()) end, low)
  local text, why = w:read()
  w:stop()
  return text or error(why)
end

local IDLE = "5"  -- SCHED_IDLE of <linux/sched.h>

return {
  { "a low worker has only what nobody else wants of a processor", function()
    expect.same(answer(true), IDLE)
    expect.truthy(answer(false) ~= IDLE)
    expect.truthy(policy() ~= IDLE, "who starts one stays as it is")
  end },
  { "jobs come back in order, whoever is done first", function()
    local got = {}
    parallel.jobs { count = 7, first = 2, processes = 3,
      work = function(job)
        if job == 2 then require("cft.host").sleep(0.05) end
        return tostring(job * job)
      end,
      take = function(job, text) got[#got + 1] = job .. ":" .. text end }
    expect.same(got, { "2:4", "3:9", "4:16", "5:25", "6:36" })
  end },
  { "an error of a job is that of all, with its text", function()
    local ok, why = pcall(parallel.jobs, { count = 4, processes = 2, take = function() end,
      work = function(job) return job == 3 and error("job three", 0) or "" end })
    expect.same(ok, false)
    expect.match(tostring(why), "job three")
  end },
}
