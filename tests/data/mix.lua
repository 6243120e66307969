-- Mixtures: proportions, epochs, and an order that is a function of seed, epoch and place.

local expect = require "tests.expect"
local data = require "cft.data.open"
local mix = require "cft.data.mix"

local function source(name, n)
  return data.generate(n, function(i) return { instruction = name .. i, output = "x" } end, { name = name })
end

local function prompt(m, number) return m:get(number).messages[1].content end

-- How often each record of an epoch occurs, and how many distinct ones.
local function epoch_of(m, seed, epoch)
  local counts, order = {}, {}
  for place = 0, m:places() - 1 do
    local text = prompt(m, m:at(seed, epoch, place))
    counts[text] = (counts[text] or 0) + 1
    order[#order + 1] = text
  end
  return counts, order
end

local function total(counts, letter)
  local sum, kinds = 0, 0
  for text, n in pairs(counts) do
    if text:sub(1, 1) == letter then sum, kinds = sum + n, kinds + 1 end
  end
  return sum, kinds
end

return {
  { "without weights everything is seen once an epoch", function()
    local m = mix.new { { source("a", 30) }, { source("b", 7) } }
    expect.same({ m:size(), m:places() }, { 37, 37 })
    local counts, order = epoch_of(m, 1, 0)
    for _, n in pairs(counts) do expect.same(n, 1) end
    expect.same(total(counts, "b"), 7)
    local _, again = epoch_of(m, 1, 0)
    expect.same(again, order)
    local _, next_one = epoch_of(m, 1, 1)
    local _, other = epoch_of(m, 2, 0)
    expect.truthy(table.concat(order) ~= table.concat(next_one) and table.concat(order) ~= table.concat(other))
    local from_a = 0  -- the sources are dealt, not one behind the other
    for i = 1, 7 do from_a = from_a + (order[i]:sub(1, 1) == "a" and 1 or 0) end
    expect.truthy(from_a < 7)
  end },

  { "weights are shares of the places", function()
    local m = mix.new { { source("a", 100), weight = 3 }, { source("b", 10), weight = 1 }, size = 60 }
    local counts = epoch_of(m, 5, 0)
    expect.same({ total(counts, "a") }, { 45, 45 })
    expect.same({ total(counts, "b") }, { 15, 10 })  -- all ten, five of them twice
    for _, n in pairs(counts) do expect.truthy(n <= 2) end
    expect.same(mix.new({ { source("a", 5), weight = 1 }, { source("b", 4), weight = 1 }, { source("c", 1), weight = 1 } }):places(), 10)
  end },

  { "a source goes on in the next epoch where it stopped", function()
    local m = mix.new { { source("a", 10), epochs = 0.3 }, { source("b", 4), epochs = 2 } }
    expect.same(m:places(), 11)
    local seen = {}
    for epoch = 0, 9 do  -- 30 places: three times through all ten
      local counts = epoch_of(m, 3, epoch)
      expect.same(total(counts, "a"), 3)
      for text, n in pairs(counts) do
        if text:sub(1, 1) == "b" then expect.same(n, 2) end
        seen[text] = (seen[text] or 0) + n
      end
      if epoch == 2 then expect.same(select(2, total(seen, "a")), 9) end
    end
    for i = 0, 9 do expect.same(seen["a" .. i], 3) end
  end },

  { "numbers, places and names", function()
    local m = mix.new { { source("a", 3) }, { source("b", 2), epochs = 0 }, { source("c", 2) } }
    expect.same(prompt(m, 0) .. prompt(m, 2) .. prompt(m, 3) .. prompt(m, 6), "a0a2b0c1")
    expect.same(m:where(4), "b: record 1")
    expect.raises("mix: record 7 of 7 in a %+ b %+ c", m.get, m, 7)
    expect.same(m:places(), 5)
    for place = 0, 4 do expect.truthy(prompt(m, m:at(0, 0, place)):sub(1, 1) ~= "b") end
    local mapped = m:map(function(s) return s:range(0, s:size()) end)
    for place = 0, 4 do expect.same(mapped:at(9, 1, place), m:at(9, 1, place)) end
    expect.match(m:describe(), "records     places   share  epochs  source\n         3          3   60.0%%    1.00  a\n")
  end },

  { "temperature: weights are levelled, sizes where there are none", function()
    local function places(opts)
      local parts = { { source("a", 90), weight = opts.a }, { source("b", 10), weight = opts.b }, size = 1000,
        temperature = opts.t }
      return total(epoch_of(mix.new(parts), 1, 0), "b")
    end
    expect.same(places { t = 1 }, 100)
    expect.same(places { t = 2 }, 250)        -- 3 to 1
    expect.same(places { t = 1e9 }, 500)
    expect.same(places { a = 4, b = 16, t = 2 }, 667)
  end },

  { "caps: what a part cannot take goes to the others", function()
    expect.same(mix.new({ { source("a", 10), cap = 4 } }):places(), 4)
    local m = mix.new { { source("a", 50), weight = 1, cap = 20 }, { source("b", 50), weight = 1 }, { source("c", 5), weight = 2,
      cap = 10 }, size = 100 }
    local counts = epoch_of(m, 1, 0)
    expect.same({ (total(counts, "a")), (total(counts, "b")), (total(counts, "c")) }, { 20, 70, 10 })
    expect.raises("size = 100, but caps leave 30 places", mix.new,
      { { source("a", 50), weight = 1, cap = 20 }, { source("b", 50), weight = 1, cap = 10 }, size = 100 })
  end },

  { "a curriculum: shares follow progress, and nothing is seen twice before all is", function()
    local m = mix.new { { source("a", 400), weight = function(p) return 1 - p end },
      { source("b", 300), weight = function(p) return p end }, size = 500, over = 1000 }
    local quarters, seen = { 0, 0, 0, 0 }, {}
    for epoch = 0, 1 do
      local _, order = epoch_of(m, 7, epoch)
      for place, text in ipairs(order) do
        local q = epoch * 2 + (place <= 250 and 1 or 2)
        quarters[q] = quarters[q] + (text:sub(1, 1) == "b" and 1 or 0)
        seen[text] = (seen[text] or 0) + 1
      end
    end
    expect.same(quarters, { 31, 94, 156, 219 })  -- 1/8, 3/8, 5/8, 7/8 of 250
    for _, n in pairs(seen) do expect.truthy(n <= 2) end
    local third = epoch_of(m, 7, 2)               -- behind its end it stays as it is
    expect.same({ total(third, "a") }, { 0, 0 })
    for i = 0, 299 do  -- 500 of the first two epochs, 500 of the third: b was gone through three times and a bit
      local n = (seen["b" .. i] or 0) + (third["b" .. i] or 0)
      expect.truthy(n >= 3 and n <= 4, "b" .. i)
    end
    expect.same(m:at(7, 1, 77), m:map(function(s) return s end):at(7, 1, 77))
    expect.match(m:describe(), "  100%% %-> 1%%\n")
    local fitted = mix.new { { source("a", 4), weight = function(p) return 1 - p end }, { source("b", 4), weight = 1 } }
    fitted:fit(80)
    expect.match(fitted:describe(), "  50%% %-> 0%%\n")
    expect.raises("the weight of a at progress [%d.e-]+ is nan", function()
      mix.new({ { source("a", 3), weight = function() return 0 / 0 end } }):at(1, 0, 0)
    end)
    expect.raises("all weights are 0 at progress", function()
      mix.new({ { source("a", 3), weight = function() return 0 end } }):at(1, 0, 0)
    end)
  end },

  { "filter, map, and duplicates across sources", function()
    local function say(name, n) return { instruction = name, output = n } end
    local long = ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "):rep(1)
      .. "sixteen seventeen eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four twenty-five"
    local a = data.list({ say("a", "1"), say("b", "2"), say("a", "1"), say("q", long) }, { name = "a" })
    local b = data.list({ say("b", "2"), say("c", "3"), say("q", (long:upper():gsub("TWENTY%-FIVE", "TWENTY-SIX"))),
      say("q", "something else with as many words as it takes to be another record altogether, or so") }, { name = "b" })
    local exact = mix.new { { a }, { b }, dedup = "exact" }
    expect.same({ exact:size(), exact.parts[1].source:size(), exact.parts[2].source:size() }, { 6, 3, 3 })
    expect.match(exact:describe(), "2 of 8 records are duplicates, word for word\n  a: record 2 = a: record 0\n"
      .. "  b: record 0 = a: record 1")
    local near = mix.new { { a }, { b }, dedup = "near", near = 0.8 }
    expect.same(near:size(), 5)
    expect.match(near:describe(), "b: record 2 = a: record 3 %(9%d%%%)")
    expect.same(mix.new({ { a, filter = function(r) return r.messages[1].content == "a" end } }):size(), 2)
    local mapped = mix.new { { b, map = function(r)
      return { messages = { { role = "user", content = r.messages[1].content .. "!" }, r.messages[2] } }
    end } }
    expect.same(prompt(mapped, 1), "c!")
    expect.raises("part 1: filter and map are for sources of records", mix.new, { { exact, filter = function() end } })
    local count = 0
    for i, record in exact:records() do
      expect.same(record.messages[1].content, prompt(exact, i))
      count = count + 1
    end
    expect.same(count, 6)
  end },

  { "near duplicates among many texts: found as counting finds them", function()
    local seed = 3
    local function draw(n)
      seed = (seed * 16807) % 2147483647
      return seed % n
    end
    local list = {}
    for i = 1, 300 do
      local words = {}
      if i > 150 then  -- a record before it with a tenth to a half of its words changed
        for word in list[i - 150].output:gmatch "%S+" do
          words[#words + 1] = draw(1000) < 2 * (i - 150) and "new" .. draw(10000) or word
        end
      else
        for w = 1, 80 do words[w] = "w" .. draw(2000) end
      end
      list[i] = { instruction = "q", output = table.concat(words, " ") }
    end
    local seen = require("cft.data.dedup").new { near = 0.6 }
    local kept = seen:keep(data.list(list))
    local function shingles(text)
      local words, set, n = {}, {}, 0
      for word in text:gmatch "%S+" do words[#words + 1] = word end
      for k = 5, #words do
        local s = table.concat(words, " ", k - 4, k)
        if not set[s] then set[s], n = true, n + 1 end
      end
      return set, n
    end
    local wanted = 0
    for i = 151, 300 do
      local x, nx = shingles("q " .. list[i].output)
      local y, ny = shingles("q " .. list[i - 150].output)
      local both = 0
      for s in pairs(x) do both = both + (y[s] and 1 or 0) end
      if both / (nx + ny - both) >= 0.6 then wanted = wanted + 1 end
    end
    expect.truthy(wanted > 15 and wanted < 140, wanted)
    expect.truthy(#seen.duplicates <= wanted and #seen.duplicates >= 0.9 * wanted, #seen.duplicates)
    expect.same(kept:size(), 300 - #seen.duplicates)
  end },

  { "what makes no mixture", function()
    local a = source("a", 3)
    expect.raises("part 2: give a weight to every part, or to none", mix.new, { { a }, { a, weight = 1 }, temperature = 2 })
    expect.raises("a cap wants weights that are numbers", mix.new, { { a, weight = function() return 1 end, cap = 1 } })
    expect.raises("'over' wants a weight that is a function", mix.new, { { a, weight = 1 }, over = 5 })
    expect.raises("'dedup' must be one of 'no', 'exact', 'near'", mix.new, { { a }, dedup = "yes" })
    expect.raises("no parts", mix.new, {})
    expect.raises("part 1 is no { source, weight", mix.new, { a })
    expect.raises("part 2: give a weight to every part", mix.new, { { a, weight = 1 }, { a } })
    expect.raises("part 1: give a weight to every part", mix.new, { { a, weight = 1, epochs = 1 } })
    expect.raises("all weights are 0", mix.new, { { a, weight = 0 } })
    expect.raises("size wants weights", mix.new, { { a }, size = 5 })
    expect.raises("unknown option 'wieght'; did you mean 'weight'", mix.new, { { a, wieght = 5 } })
    expect.raises("no record of a is wanted", mix.new, { { a, epochs = 0 } })
  end },
}
