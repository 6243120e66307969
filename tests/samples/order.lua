-- The order of samples by a key, and what a server is sent.

local batch = require "cft.samples.batch"
local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local samples = require "cft.samples"
local template = require "cft.text.template"

local function record(i)
  local r = demo.training(1)(i)
  return { instruction = r.question, output = r.reference, level = i % 3, name = "n" .. i }
end

local N = 24

-- The samples' keys in the order of an epoch.
local function ordered(opts, epoch, key)
  local made = samples.new(data.generate(N, record), template.chatml(), demo.tokenizer(1))
  local o = { batch = 5, tokens = 400, seed = 3 }
  for name, value in pairs(opts) do o[name] = value end
  local batches, list, numbers = batch.new(made, o), {}, {}
  for index = 0, batches:updates() - 1 do
    for _, k in ipairs((batches:plan(epoch, index))) do
      list[#list + 1], numbers[#numbers + 1] = key(made, k), k
    end
  end
  return list, numbers
end

local function level(made, k) return made:record(k).raw.level end
local function length(made, k) return made:length(k) end

local function is_sorted(list, falling)
  for i = 2, #list do
    local a, b = list[i - 1], list[i]
    if falling then a, b = b, a end
    if a > b then return false end
  end
  return #list == N
end

local function each_once(numbers)
  local seen = {}
  for _, k in ipairs(numbers) do seen[k] = true end
  for k = 0, N - 1 do expect.truthy(seen[k], "sample " .. k) end
end

return {
  { "by a field, by the length, by a function, and the largest first", function()
    for _, case in ipairs { { "level", level }, { "-level", level, true }, { "length", length }, { "-length", length, true },
                            { function(r) return r.raw.level end, level },
                            { function(r) return ("%02d"):format(-r.raw.level + 9) end, level, true } } do
      for epoch = 0, 2 do
        local list, numbers = ordered({ order_by = case[1] }, epoch, case[2])
        expect.truthy(is_sorted(list, case[3]), tostring(case[1]))
        each_once(numbers)
      end
    end
  end },
  { "equal ones are shuffled anew each epoch, or stay as they come; an order is a function of seed and epoch", function()
    local _, first = ordered({ order_by = "level" }, 0, level)
    local _, again = ordered({ order_by = "level" }, 0, level)
    local _, second = ordered({ order_by = "level" }, 1, level)
    local _, other = ordered({ order_by = "level", seed = 4 }, 0, level)
    expect.same(first, again)
    expect.truthy(table.concat(first, " ") ~= table.concat(second, " "))
    expect.truthy(table.concat(first, " ") ~= table.concat(other, " "))
    local _, plain = ordered({ order_by = "level", shuffle = false }, 1, level)
    local wanted = {}
    for l = 0, 2 do
      for i = l, N - 1, 3 do wanted[#wanted + 1] = i end
    end
    expect.same(plain, wanted)
    local _, as_they_come = ordered({ shuffle = false }, 1, level)
    for i, k in ipairs(as_they_come) do expect.same(k, i - 1) end
  end },
  { "what is no key is an error that names the record", function()
    local function refuses(message, by)
      local made = samples.new(data.generate(6, record, { name = "six" }), template.chatml(), demo.tokenizer(1))
      expect.raises(message, batch.new, made, { batch = 2, tokens = 400, order_by = by })
    end
    refuses("order_by: six: record 0 has nil as 'hardness'; its fields are instruction, level, name, output; a number or a text is wanted", "hardness")
    refuses("order_by: six: record 2 has nil; a number or a text is wanted", function(r) return r.raw.level < 2 and 1 or nil end)
    refuses("order_by: six: record 1 has a string where others have a number",
            function(r) return r.raw.level == 1 and "a" or 1 end)
    local made = samples.new(data.generate(6, record), template.chatml(), demo.tokenizer(1))
    expect.raises("group_by and order_by are two orders; give one of them", batch.new, made,
                  { batch = 2, tokens = 400, order_by = "level", group_by = "prefix" })
  end },
  { "the tokens of an optimizer step's samples, without the samples", function()
    local made = samples.new(data.generate(N, record), template.chatml(), demo.tokenizer(1))
    local batches = batch.new(made, { batch = 5, tokens = 400, share_prefix = false })
    for index = 0, batches:updates() - 1 do
      local sum, micros = 0, batches:update(1, index)
      for _, n in ipairs(batches:lengths(1, index)) do sum = sum + n end
      for _, micro in ipairs(micros) do sum = sum - tonumber(micro.batch.n) end
      expect.same(sum, 0)
    end
  end },

  { "chat:prompt: what a sample begins with, with an answer or without", function()
    local tok = demo.tokenizer(1)
    for _, chat in ipairs { template.chatml(), template.qwen(), template.plain() } do
      local made = samples.new(data.generate(3, record), chat, tok)
      for k = 0, 2 do
        local sample, ids = made:get(k), chat:prompt(made:record(k))
        expect.truthy(#ids > 5 and #ids < sample.n)
        for i, id in ipairs(ids) do expect.same(id, sample.ids[i - 1]) end
        local bare = record(k)
        bare.output, bare.level, bare.name = nil, nil, nil
        expect.same(chat:prompt(bare), ids)
        expect.same(chat:prompt({ messages = { { role = "user", content = bare.instruction } } }, tok), ids)
      end
    end
    expect.raises("chat:prompt: no samples were made with this template; give the tokenizer", function()
      template.chatml():prompt(record(0))
    end)
    expect.raises("chat:prompt: neither 'messages', 'conversations' nor", function() template.chatml():prompt("What?", tok) end)
  end },
}
