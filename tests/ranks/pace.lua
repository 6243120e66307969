-- A rank that is slower than the others, step after step, is named.

local expect = require "tests.expect"
local json = require "cft.base.json"
local paces = require "cft.ranks.pace"
local process = require "tests.process"

local function pace_of(n, seconds)
  local pace = paces.new()
  for step = 1, n do pace:add(seconds(step)) end
  return pace
end

return {
  { "the slow one of three, the first step apart", function()
    local pace = pace_of(13, function(step) return step == 1 and { 90, 1, 1 } or { 1, 1.5, 1.25 } end)
    expect.same(pace:straggler(), { rank = 1, seconds = 1.5, others = 1.125, steps = 12, slowest = 12 })
    expect.same(paces.describe(pace:news(), "node7"),
      "rank 1 on node7 was slower than the others in 12 of 12 steps: 1.5 s a step, they 1.13 s")
    expect.same(pace:news(), nil)
  end },
  { "a step's slowest", function() expect.same(paces.new():add { 2, 1, 4, 3 }, { rank = 2, seconds = 4, others = 2 }) end },
  { "none: too few steps, a little slower, or another one each time", function()
    expect.same(pace_of(8, function() return { 1, 2 } end):straggler(), nil)
    expect.same(pace_of(40, function() return { 1, 1.05 } end):straggler(), nil)
    expect.same(pace_of(40, function(step) return step % 2 == 0 and { 1, 2 } or { 2.5, 1 } end):straggler(), nil)
    expect.same(pace_of(40, function(step) return step % 10 == 0 and { 30, 1 } or { 1, 1.01 } end):straggler(), nil)
  end },
  { "a run says so, in its log, at its end, in summary.json and in its report", function()
    local folder = process.folder()
    local r = process.cftrun { "--ranks", "3", "tests/fixtures/few_steps.lua", "steps=12", "slow=0.15", "slow_rank=1", "out=" .. folder .. "/run",
                               env = { OMP_NUM_THREADS = "1" } }
    if r.code == 3 and not os.getenv "CI" then skip("no ranks here: " .. r.err) end
    expect.same(r.code, 0, r.err .. r.out)
    local _, times = r.out:gsub("rank 1 on %S+ was slower than the others in %d+ of %d+ steps", "")
    expect.same(times, 2, r.out)  -- when it is found, and at the end
    expect.same(json.read(folder .. "/run/summary.json").slow_rank.rank, 1)
    local log = process.contents(folder .. "/run/log.jsonl")
    expect.truthy(log:find '"ranks":{[^}]*"rank":1' and log:find '"notes":%["rank 1 on ', log)
    local page = process.cftrun { "report", folder .. "/run" }
    expect.same(page.code, 0, page.err)
    expect.truthy(process.contents(folder .. "/run/report.html"):find("<dt>slow rank</dt><dd>rank 1 on ", 1, true))
  end },
}
