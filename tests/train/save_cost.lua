-- What saves cost a run, from its steps: cft.train.save_cost; and where a run says so.

local costs = require "cft.train.save_cost"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

local function near(a, b) expect.truthy(math.abs(a - b) < 1e-9, ("%s is not %s"):format(tostring(a), tostring(b))) end

return {
  { "waits, and steps that are longer than others by their tokens", function()
    local c = costs.new()
    expect.same(c:summary(1), nil)
    c:step(50, 100, false)  -- the first is no measure
    for i = 1, 9 do c:step(2 * i, 100 * i, false) end
    c:begun()
    c:wait(0.25)
    c:wait(0.5, { inside = true })
    c:step(11, 500, true)  -- 10 would have been right, by 0.02 a token
    c:step(4.5, 200, true)
    c:wait(0.125)          -- for this one, when the next is due
    c:begun()
    c:wait(0.5)
    c:wait(7, { asked = true })
    local s = c:summary(100)
    expect.same({ s.count, s.waited, s.longest, s.awaited, s.step }, { 2, 1.375, 0.875, 7, 10 })
    near(s.slower, 1.5)
    near(s.share, (1.5 + 1.375 - 0.5) / 100)
  end },

  { "without steps to compare with there are waits alone", function()
    local c = costs.new()
    for _ = 1, 3 do
      c:begun()
      c:step(2, 100, true)
      c:wait(0.5)
    end
    expect.same(c:summary(9), { count = 3, waited = 1.5, longest = 0.5, awaited = 0 })
  end },

  { "a run has them in summary.json, and each wait in log.jsonl", function()
    local out = process.folder() .. "/out"
    local r = process.cftrun { "recipes/sft.lua", "device=cpu", "heldout=0", "steps=7", "save_every=2", "out=" .. out }
    expect.same(r.code, 0, r.err)
    local s = json.decode(process.contents(out .. "/summary.json")).saves
    expect.same(s.count, 4)
    expect.truthy(s.waited > 0 and s.longest > 0 and s.longest <= s.waited and s.awaited > 0)
    local waits, sum = {}, 0
    for line in io.lines(out .. "/log.jsonl") do
      local t = json.decode(line)
      if t.save_wait then
        waits[#waits + 1] = t.step
        sum = sum + t.save_wait
      end
    end
    for _, step in ipairs { 3, 5, 7 } do  -- a step behind a save has it beside it, longer ones may too
      local found = false
      for _, w in ipairs(waits) do found = found or w == step end
      expect.truthy(found, "step " .. step)
    end
    expect.truthy(sum <= s.waited + 1e-5)
  end },
}
