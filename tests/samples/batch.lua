-- Batches: order, optimizer steps, packs, arrays, and one loss however an optimizer step is cut.

local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local batch = require "cft.samples.batch"
local data = require "cft.data.open"
local mask = require "cft.samples.mask"
local sampled = require("cft.samples").new
local mix = require "cft.data.mix"
local template = require "cft.text.template"

local tok = fake { "<eos>", eos = "<eos>" }

-- n records of different lengths: answers of 2 to 11 tokens, <eos> included, behind a prompt of 6 or 7.
local function samples_of(n, opts, name)
  local source = data.generate(n, function(i)
    return { instruction = ("%04d"):format(i), output = ("x"):rep(1 + (7 * i) % 10), i = i }
  end, { name = name or "made" })
  return sampled(source, template.plain(opts), tok)
end

-- `responses` texts of one length with so many critiques each, one of every text before the next.
local CONTEXT = 9 + 48 + 2  -- query, response, separator
local function critiques(responses, each, length, opts)
  local source = data.generate(responses * each, function(i)
    local response = ("%04d"):format(i % responses) .. ("r"):rep((length or 48) - 4)
    return { messages = {
      { role = "user", content = { { text = "12345678 ", kind = "query" }, { text = response, kind = "response" } } },
      { role = "assistant", content = ("c%d"):format(i):rep(1 + i % 3) },
    }, response = response }
  end)
  return sampled(source, template.plain(opts), tok)
end

-- Batches that share contexts, and that do not.
local function pair(samples, o)
  local plain = { share_prefix = false }
  for k, v in pairs(o) do plain[k] = v end
  return batch.new(samples, o), batch.new(samples, plain)
end

local function numbers_of(micros)
  local numbers = {}
  for _, micro in ipairs(micros) do
    for _, k in ipairs(micro.samples) do numbers[#numbers + 1] = k end
  end
  table.sort(numbers)
  return numbers
end

-- A made-up loss for every token, by what it is and what stands before it in its sequence.
local function loss_of(micros)
  local sum = 0
  for _, micro in ipairs(micros) do
    local b = micro.batch
    for s = 0, tonumber(b.sequences) - 1 do
      local state = 1
      for g = 0, tonumber(b.prefixes) - 1 do
        if b.cu_shared[g] <= s and s < b.cu_shared[g + 1] then
          for i = b.cu_prefix[g], b.cu_prefix[g + 1] - 1 do state = (state * 31 + b.ids[i]) % 1009 end
        end
      end
      for i = b.cu_seqlens[s], b.cu_seqlens[s + 1] - 1 do
        state = (state * 31 + b.ids[i]) % 1009
        if b.targets[i] >= 0 then sum = sum + b.weights[i] * (state + b.targets[i]) / 1009 end
      end
    end
  end
  return sum
end

return {
  { "every sample once an epoch, the last step shorter", function()
    local batches = batch.new(samples_of(23), { batch = 5, tokens = 64, seed = 3 })
    expect.same({ batches:updates(), batches:size() }, { 5, 23 })
    local all = {}
    for index = 0, 4 do
      local numbers = numbers_of((batches:update(1, index)))
      expect.same(#numbers, index < 4 and 5 or 3)
      for _, k in ipairs(numbers) do all[#all + 1] = k end
    end
    table.sort(all)
    for k = 0, 22 do expect.same(all[k + 1], k) end
    local dropped = batch.new(samples_of(23), { batch = 5, tokens = 64, drop_last = true })
    expect.same({ dropped:updates(), dropped:size() }, { 4, 20 })
    expect.raises("step 4 of 4", dropped.update, dropped, 0, 4)
    expect.raises("3 samples fill no step of batch = 5", batch.new, samples_of(3), { batch = 5, tokens = 64, drop_last = true })
  end },

  { "the order depends on seed and epoch, not on what was asked before", function()
    local samples = samples_of(40)
    local function first(seed, epoch, index)
      local b = batch.new(samples, { batch = 8, tokens = 64, seed = seed })
      if index > 0 then b:update(epoch, index - 1) end
      return (b:plan(epoch, index))
    end
    expect.same(first(1, 2, 3), first(1, 2, 3))
    local b = batch.new(samples, { batch = 8, tokens = 64, seed = 1 })
    for i = 0, 4 do b:update(0, i) end
    expect.same((b:plan(2, 3)), first(1, 2, 3))
    expect.truthy(table.concat(first(1, 2, 3), " ") ~= table.concat(first(2, 2, 3), " "))
    expect.truthy(table.concat(first(1, 2, 3), " ") ~= table.concat(first(1, 1, 3), " "))
    local still = batch.new(samples, { batch = 8, tokens = 64, shuffle = false })
    expect.same((still:plan(0, 1)), { 8, 9, 10, 11, 12, 13, 14, 15 })
  end },

  { "packs hold at most their tokens and no step's neighbours", function()
    local batches = batch.new(samples_of(100), { batch = 32, tokens = 40, seed = 1 })
    for index = 0, batches:updates() - 1 do
      local micros, weight = batches:update(0, index)
      local sum = 0
      for _, micro in ipairs(micros) do
        expect.truthy(micro.batch.n <= 40)
        expect.same(#micro.samples, tonumber(micro.batch.sequences))
        sum = sum + micro.batch.weight
      end
      expect.same(weight, sum)
      expect.same(#numbers_of(micros), index < 3 and 32 or 4)
    end
    expect.truthy(batches:survey(1).fill > 0.85)
    expect.raises("made: record 4 has 16 tokens, but a pack holds tokens = 15; give samples.new max_tokens = 15",
      batch.new, samples_of(100), { batch = 32, tokens = 15 })
  end },

  { "rows, targets, weights, positions and kinds", function()
    local source = data.list { { instruction = "q", output = "ab. Conclusion: right" }, { instruction = "rr", output = "c" } }
    local samples = sampled(source, template.plain { separator = "|", learn = { verdict = 2 } }, tok)
    local micros, weight = batch.new(samples, { batch = 2, tokens = 99, shuffle = false }):update(0, 0)
    local micro = micros[1]
    local b = micro.batch
    local text = "q|ab. Conclusion: right"
    expect.same({ #micros, tonumber(b.n), tonumber(b.sequences), tonumber(b.longest) }, { 1, #text + 1 + 5, 2, #text + 1 })
    expect.same({ b.cu_seqlens[0], b.cu_seqlens[1], b.cu_seqlens[2] }, { 0, #text + 1, #text + 6 })
    for i = 0, #text - 1 do
      expect.same(b.ids[i], text:byte(i + 1))
      expect.same(b.targets[i], i < #text - 1 and text:byte(i + 2) or tok.eos)
      expect.same(b.positions[i], i)
      -- row i predicts byte i + 2 of the text: "ab. " is bytes 3 to 6, the verdict 7 to the end
      expect.same(b.weights[i], i < 1 and 0 or i < 5 and 1 or i < #text - 1 and 2 or 1)
      expect.same(mask.kind_name(b.kinds[i]), i < 1 and "template" or i < 5 and "critique" or i < #text - 1 and "verdict" or "end")
    end
    expect.same({ b.targets[#text], b.weights[#text], b.positions[#text + 1] }, { -1, 0, 0 })
    local learned = #text - 1 + 2
    expect.same(tonumber(b.m), learned)
    expect.same({ b.cu_rows[0], b.cu_rows[1], b.cu_rows[2] }, { 0, #text - 1, learned })
    expect.same({ b.rows[0], b.rows[#text - 1], b.row_positions[#text - 1] }, { 1, #text + 1 + 2, 2 })
    expect.same(weight, 4 + 2 * #"Conclusion: right" + 1 + 2)
    expect.same(micro.samples, { 0, 1 })
    expect.same({ micro.names[1], micro.names[2], micro.names[3] }, { "list: record 0", "list: record 1" })
    expect.same({ micro.verdicts[1], micro.verdicts[2] }, { true })
  end },

  { "one loss, however a step is cut", function()
    local samples = samples_of(64)
    for _, norm in ipairs { "tokens", "rank_mean", "micro_mean" } do
      local want
      for _, cut in ipairs { { tokens = 18 }, { tokens = 57 }, { tokens = 4096 }, { tokens = 64, packing = false } } do
        local batches = batch.new(samples, { batch = 32, seed = 9, norm = norm, rows = 4, ranks = 2,
          tokens = cut.tokens, packing = cut.packing })
        local micros, weight = batches:update(0, 1)
        local loss = loss_of(micros) / weight
        want = want or loss
        expect.close(loss, want, 1e-6, norm)
      end
    end
  end },

  { "rank_mean and micro_mean are the means they claim to be", function()
    local samples = samples_of(22)
    local plain = batch.new(samples, { batch = 22, tokens = 64, seed = 9, packing = false, rows = 4 })
    local micros = plain:update(0, 0)  -- 4 + 4 + 4 + 4 + 4 + 2 rows
    expect.same(#micros, 6)
    local function mean(group)  -- of micro-batches
      local loss, weight = 0, 0
      for _, m in ipairs(group) do
        loss, weight = loss + loss_of { micros[m] }, weight + micros[m].batch.weight
      end
      return loss / weight
    end
    local function with(norm, ranks)
      local b = batch.new(samples, { batch = 22, tokens = 64, seed = 9, norm = norm, rows = 4, ranks = ranks })
      local made, weight = b:update(0, 0)
      return loss_of(made) / weight
    end
    expect.close(with("tokens"), mean { 1, 2, 3, 4, 5, 6 }, 1e-6)
    expect.close(with("micro_mean"), (mean { 1 } + mean { 2 } + mean { 3 } + mean { 4 } + mean { 5 } + mean { 6 }) / 6, 1e-6)
    -- rank r of 4 sees micro-batches r, r + 4, ...
    expect.close(with("rank_mean", 4), (mean { 1, 5 } + mean { 2, 6 } + mean { 3 } + mean { 4 }) / 4, 1e-6)
    expect.close(with("rank_mean", 1), with("tokens"), 1e-6)
    expect.truthy(math.abs(with "micro_mean" - with "tokens") > 1e-5)
  end },

  { "weights that are functions get the step's number", function()
    local asked = {}
    local samples = samples_of(6, { learn = { critique = function(record, step)
      asked[step] = (asked[step] or 0) + 1
      return record.raw.i % 2 == 0 and step or 1
    end } })
    local batches = batch.new(samples, { batch = 3, tokens = 99, seed = 1, norm = "micro_mean", rows = 1 })
    local micros, weight = batches:update(2, 1)  -- step 2 * 2 + 1
    expect.same(asked, { [5] = 3 })
    local sum = 0
    for j, k in ipairs(micros[1].samples) do
      local b = micros[1].batch
      local first = b.cu_rows[j - 1]
      local ratio = b.weights[b.rows[first]] / b.weights[b.rows[b.cu_rows[j] - 1]]
      expect.close(ratio, k % 2 == 0 and 5 or 1, 1e-6)  -- the critique against its end token
      sum = sum + 1
    end
    expect.same(sum, 3)
    expect.truthy(weight > 0)
  end },

  { "a mixture of samples", function()
    local a, b = samples_of(10, nil, "a"), samples_of(4, nil, "b")
    local mixed = mix.new { { a, epochs = 1 }, { b, epochs = 2 } }
    local batches = batch.new(mixed, { batch = 6, tokens = 64, seed = 2 })
    expect.same({ batches:updates(), batches:size() }, { 3, 18 })
    local counts, named = {}, {}
    for index = 0, 2 do
      for _, micro in ipairs((batches:update(0, index))) do
        for j, k in ipairs(micro.samples) do
          counts[k] = (counts[k] or 0) + 1
          named[micro.names[j]] = true
        end
      end
    end
    for k = 0, 13 do expect.same(counts[k], k < 10 and 1 or 2) end
    expect.truthy(named["a: record 9"] and named["b: record 3"])
    local source = mix.new { { data.list { { instruction = "q", output = "a" } } }, { data.list { { instruction = "r", output = "b" } } } }
    local samples = sampled(source, template.plain(), tok)
    expect.same({ samples:size(), samples:get(1).record }, { 2, 0 })
    expect.match(samples:describe(), "list: 1 samples of 1 records")
  end },

  { "contexts that samples share are laid once", function()
    local samples = critiques(6, 4)
    local shared, alone = pair(samples, { batch = 24, tokens = 4096, shuffle = false })
    local micros, weight = shared:update(0, 0)
    local plain, plain_weight = alone:update(0, 0)
    expect.same({ #micros, #plain, weight }, { 1, 1, plain_weight })
    local b, whole = micros[1].batch, plain[1].batch
    local context = CONTEXT - 1  -- its last token predicts the first that has loss weight
    expect.same({ tonumber(b.prefixes), tonumber(b.sequences), tonumber(b.saved) }, { 6, 24, 6 * 3 * context })
    expect.same(tonumber(b.n), tonumber(whole.n - b.saved))
    expect.same({ tonumber(b.m), tonumber(b.reach), b.cu_prefix[6] }, { tonumber(whole.m), tonumber(whole.longest), 6 * context })
    expect.same(tonumber(b.longest), math.max(context, tonumber(whole.longest) - context))
    expect.close(loss_of(micros), loss_of(plain), 1e-6)
    -- Every row is where it would be without, and carries what it would carry.
    for s = 0, 23 do
      local from, to, far = b.cu_seqlens[s], b.cu_seqlens[s + 1] - 1
      for t = 0, 23 do if plain[1].samples[t + 1] == micros[1].samples[s + 1] then far = whole.cu_seqlens[t] end end
      for row = from, to do
        local there = far + context + row - from
        expect.same({ b.ids[row], b.targets[row], b.positions[row], b.weights[row], b.kinds[row] },
          { whole.ids[there], whole.targets[there], whole.positions[there], whole.weights[there], whole.kinds[there] })
      end
    end
    expect.same(shared:survey(), { updates = 1, samples = 24, micros = 1, tokens = tonumber(whole.n), rows = tonumber(b.n),
      room = 4096, fill = tonumber(b.n) / 4096 })
    expect.match(batch.describe(shared:survey()), ("^packs of 4096 tokens are filled to %%d+.%%d%%%% %%(1 pack of the first step%%); "
      .. "samples that begin alike share it: %d of %d tokens"):format(tonumber(b.saved), tonumber(whole.n)))
    expect.match(batch.describe(alone:survey()), "step%)$")
    expect.close(shared:survey(1).fill, tonumber(b.n) / 4096, 1e-12)
  end },

  { "packs hold what is computed, and one context may need several", function()
    local samples = critiques(5, 9)
    for _, tokens in ipairs { 70, 100, 333, 4096 } do
      local shared, alone = pair(samples, { batch = 45, tokens = tokens, seed = 4 })
      local micros, weight = shared:update(0, 0)
      local plain, plain_weight = alone:update(0, 0)
      expect.same(numbers_of(micros), numbers_of(plain))
      expect.same(weight, plain_weight)
      expect.close(loss_of(micros), loss_of(plain), 1e-6)
      expect.truthy(#micros <= #plain)
      local rows = 0
      for _, micro in ipairs(micros) do
        expect.truthy(tonumber(micro.batch.n) <= tokens)
        rows = rows + tonumber(micro.batch.n)
      end
      local _, plan, planned = shared:plan(0, 0)
      expect.same({ #plan, planned }, { #micros, rows })
    end
  end },

  { "what is short, has loss or is another's is not shared", function()
    local b = batch.new(critiques(3, 3, 4), { batch = 9, tokens = 4096 })  -- a context of 15 tokens
    expect.same(tonumber(b:update(0, 0)[1].batch.prefixes), 0)
    local whole = batch.new(critiques(3, 3, nil, { learn = { critique = 1, query = 1, response = 1 } }), { batch = 9, tokens = 4096 })
    expect.same(tonumber(whole:update(0, 0)[1].batch.prefixes), 0)
    local lone = batch.new(critiques(9, 1), { batch = 9, tokens = 4096 })
    expect.same({ tonumber(lone:update(0, 0)[1].batch.prefixes), tonumber(lone:update(0, 0)[1].batch.saved) }, { 0, 0 })
    local rows = batch.new(critiques(3, 3), { batch = 9, tokens = 4096, packing = false })
    expect.same(tonumber(rows:update(0, 0)[1].batch.prefixes), 0)
    -- A weight that a function makes 0 in some steps: there the context reaches further.
    local by_step = critiques(2, 3, nil, { learn = { critique = function(_, step) return step % 2 end } })
    local turns = batch.new(by_step, { batch = 6, tokens = 4096 })
    local odd, even = turns:update(1, 0)[1].batch, turns:update(0, 0)[1].batch
    expect.same({ tonumber(odd.prefixes), tonumber(odd.saved) }, { 2, 4 * (CONTEXT - 1) })
    expect.same(tonumber(even.prefixes), 0)  -- then the critiques are context, and differ
  end },

  { "group_by: critiques of one response stand together", function()
    local samples = critiques(8, 5)
    local function order(o)
      local all = {}
      local batches = batch.new(samples, o)
      for index = 0, batches:updates() - 1 do
        for _, k in ipairs((batches:plan(o.epoch, index))) do all[#all + 1] = k end
      end
      return all, batches
    end
    local function setup(epoch, seed, by, size)
      local all, batches = order(setmetatable({ batch = size or 7, tokens = 4096, seed = seed, group_by = by }, { __index = { epoch = epoch } }))
      return all, batches
    end
    local first = setup(0, 1, "prefix")
    local seen, last, turns = {}, nil, 0
    for _, k in ipairs(first) do
      expect.same(seen[k], nil)
      seen[k] = true
      local response = samples:record(k).raw.response
      if response ~= last then turns = turns + 1 end
      last = response
    end
    expect.same({ #first, turns }, { 40, 8 })  -- every sample once, every response in one run
    local function text(list) return table.concat(list, " ") end
    expect.same(first, (setup(0, 1, function(record) return record.raw.response end)))
    expect.same(first, (setup(0, 1, "prefix", 3)))  -- however it is cut
    expect.truthy(text(first) ~= text((setup(1, 1, "prefix"))))
    expect.truthy(text(first) ~= text((setup(0, 2, "prefix"))))
    -- A place is a function of (seed, epoch, index): what was asked before does not matter.
    local b = batch.new(samples, { batch = 7, tokens = 4096, seed = 1, group_by = "prefix" })
    local later = (b:plan(5, 3))
    b:plan(0, 0)
    expect.same((b:plan(5, 3)), later)
    local alone = setup(0, 1, function() return nil end)
    table.sort(alone)
    for k = 0, 39 do expect.same(alone[k + 1], k) end
    local still = batch.new(samples, { batch = 40, tokens = 4096, shuffle = false, group_by = "prefix" })
    expect.same({ unpack((still:plan(0, 0)), 1, 6) }, { 0, 8, 16, 24, 32, 1 })
  end },

  { "options", function()
    local samples = samples_of(5)
    expect.raises("group_by is 'context'; \"prefix\" or a function", batch.new, samples, { batch = 1, tokens = 99, group_by = "context" })
    expect.raises("group_by: gave table: .* for made: record 0; a string, a number or nil", batch.new, samples,
      { batch = 1, tokens = 99, group_by = function() return {} end })
    expect.raises("group_by wants one source", batch.new, mix.new { { samples } }, { batch = 1, tokens = 99, group_by = "prefix" })
    local source = data.list { { instruction = "q", output = "a" } }
    expect.raises("samples of cft.samples are wanted", batch.new, source, { batch = 1, tokens = 9 })
    expect.raises("samples of cft.samples are wanted", batch.new, mix.new { { source } }, { batch = 1, tokens = 9 })
    expect.raises("'batch' is required", batch.new, samples, { tokens = 5 })
    expect.raises("unknown option 'bacth'; did you mean 'batch'", batch.new, samples, { bacth = 5 })
    expect.raises("'norm' must be one of", batch.new, samples, { batch = 1, tokens = 99, norm = "mean" })
  end },
}
