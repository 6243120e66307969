-- Mixtures: proportions, epochs, and an order that is a function of seed, epoch and place.

local expect = require "tests.expect"
local data = require "cft.data"
local mix = require "cft.mix"

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

  { "what makes no mixture", function()
    local a = source("a", 3)
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
