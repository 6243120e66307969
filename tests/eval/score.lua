-- Numbers of an evaluation: shares, errors, votes, pairs of models.

local compare = require "cft.eval.compare"
local expect = require "tests.expect"
local host = require "cft.host"
local score = require "cft.eval.score"

local function entry(number, ...)
  local e = { bench = "b", problem = { number = number, question = "q" .. number }, samples = {} }
  for i, v in ipairs { ... } do
    local answer, right = v:match "^(.-)(!?)$"
    e.samples[i] = { answer = answer, verdict = right == "!" and "right" or "wrong", text = answer, finish = "stop" }
  end
  return e
end

local function near(a, b) expect.truthy(math.abs(a - b) < 1e-9, ("%.12g is not %.12g"):format(a, b)) end

return {
  { "a mean and its standard error", function()
    local mean, err = score.mean { 1, 0, 1, 1 }
    near(mean, 0.75)
    near(err, math.sqrt(0.75 / 3 / 4))
    expect.same({ score.mean { 1 } }, { 1 })
  end },
  { "pass@k is the share of draws that hold a right one", function()
    -- Counted: all draws of k of n samples, c of them right.
    for n = 1, 6 do
      for c = 0, n do
        for k = 1, n do
          local draws, hits = 0, 0
          for set = 0, 2 ^ n - 1 do
            local size, hit = 0, false
            for i = 0, n - 1 do
              if bit.band(set, bit.lshift(1, i)) ~= 0 then size, hit = size + 1, hit or i < c end
            end
            if size == k then draws, hits = draws + 1, hits + (hit and 1 or 0) end
          end
          near(score.pass_at(n, c, k), hits / draws)
        end
      end
    end
  end },
  { "maj@k: equal answers vote together, the empty one for nobody, of equals the first", function()
    expect.same(score.majority(entry(1, "1/2!", "0.5!", "7"), "symbolic").answer, "1/2")
    expect.same(score.majority(entry(1, "", "", "7!"), "symbolic").answer, "7")
    expect.same(score.majority(entry(1, "3", "7!"), "symbolic").answer, "3")
    expect.same(score.majority(entry(1, "3", "7!"), "symbolic", { 1, 2 }).answer, "7")
    expect.same(score.majority(entry(1, "", ""), "symbolic"), nil)
  end },
  { "the rows of a benchmark", function()
    local entries = { entry(1, "4!", "5", "4!"), entry(2, "1", "2", "2"), entry(3, "8", "9!", "9!") }
    entries[2].samples[1].verdict, entries[2].samples[2].finish = "unknown", "length"
    local s, by = score.of({}, entries, "symbolic"), {}
    for _, row in ipairs(s.rows) do by[row[1]] = row[2] end
    near(by["pass@1"], 1 / 3)
    near(by["avg@3"], 4 / 9)
    near(by["maj@3"], 2 / 3)
    near(by["pass@3"], 2 / 3)
    expect.same({ s.problems, s.samples, s.unknown, s.cut }, { 3, 3, 1, 1 })
    expect.same(score.percent(by["pass@1"], s.rows[1][3]), "33.3 ± 33.3")
  end },
  { "two models: equal ones, a clear difference, one that is not", function()
    local a, b, c = {}, {}, {}
    for i = 1, 60 do
      a[i] = entry(i, i % 2 == 0 and "1!" or "0")
      b[i] = entry(i, (i % 2 == 0 or i % 5 == 0) and "1!" or "0")  -- right wherever a is, and on 6 more
      c[i] = entry(i, (i % 2 == 0) == (i > 4) and "1!" or "0")     -- two more, two fewer
    end
    local same = compare.of(a, a)
    expect.truthy(same.says:find "no difference", same.says)
    local r = compare.of(a, b)
    near(r.difference, 0.1)
    expect.same({ r.problems, r.wins, r.losses, r.alone }, { 60, 6, 0, 0 })
    expect.truthy(r.low > 0 and r.low < 0.1 and r.high > 0.1 and r.high < 0.2, ("%g %g"):format(r.low, r.high))
    expect.truthy(r.says:find "^The second is better by 10.0 points" and r.says:find "more than chance", r.says)
    expect.truthy(compare.of(b, a).says:find "^The first is better by 10.0 points", "the other way round")
    expect.same(compare.of(a, b), r)
    expect.truthy(compare.of(a, b, { seed = 2 }).low ~= nil)
    local none = compare.of(a, c)
    expect.truthy(none.says:find "chance alone does as much", none.says)
    table.remove(b)
    expect.same(compare.of(a, b).alone, 1)
    expect.same(compare.of({ entry(1, "1") }, { entry(2, "1") }), nil)
    b[1].problem.question = "another"
    expect.raises("is another one in the second file", compare.of, a, b)
  end },
  { "a number that is no mean over problems is made again of each draw", function()
    local a, b = {}, {}
    for i = 1, 40 do a[i], b[i] = entry(i, i % 2 == 0 and "1!" or "0"), entry(i, i % 4 == 0 and "0" or "1!") end
    local function squared(list)
      local n = 0
      for _, e in ipairs(list) do n = n + score.right(e) end
      return (n / #list) ^ 2
    end
    local r = compare.of(a, b, { total = squared })
    near(r.first, 0.25)
    near(r.second, 0.5625)
    near(r.difference, 0.3125)
    expect.truthy(r.low >= 0 and r.low < 0.3125 and r.high > 0.3125 and r.error > 0.05 and r.error < 0.2, ("%g %g %g"):format(r.low, r.high, r.error))
    expect.same(compare.of(a, b, { total = squared }), r)
    local of = compare.of(a, b, { of = function(e) return e.samples[1].verdict == "right" and 2 or 0 end })
    near(of.difference, 0.5)
  end },
  { "what is left is told by what is done in parts as well", function()
    local now, lines = 0, {}
    local show = require "cft.eval.show"
    local list = {}
    for i = 1, 100 do list[i] = {} end
    local real = host.now
    host.now = function() return now end
    local ok, why = pcall(function()
      local progress = show.progress({ { name = "b" } }, { b = list }, function(text) lines[#lines + 1] = text end, true)
      now = 10
      progress(entry(1, "1!"), 1, false, 49)  -- of 64 at once, one ended first; the others are nearly there
    end)
    host.now = real
    expect.truthy(ok, why)
    expect.truthy(lines[1]:find "1/100 in all  ETA 10s", lines[1])
  end },
  { "an interval is as wide as theory says", function()
    local d = {}
    for i = 1, 400 do d[i] = i % 4 == 0 and 1 or 0 end
    local low, high = compare.interval(d)
    local width = 2 * 1.96 * math.sqrt(0.25 * 0.75 / 400)
    expect.truthy(math.abs((high - low) / width - 1) < 0.05, ("%g of %g"):format(high - low, width))
  end },
}
