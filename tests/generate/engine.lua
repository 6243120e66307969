local autograd = require "cft.engine.autograd"
local engines = require "cft.generate.engine"
local expect = require "tests.expect"
local generate = require "cft.generate"
local inputs = require "cft.nn.inputs"
local models = require "cft.models"
local pages = require "cft.generate.pages"
local tensor = require "cft.engine.tensor"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local V = 301

local function model(o)
  local shape = { arch = "llama", d = 96, layers = 3, heads = 6, kv_heads = 2, ffn = 208, vocab = V, seed = 4, init = 0.2 }
  for name, value in pairs(o or {}) do shape[name] = value end
  return models.new(shape)
end

-- Prompts of 16 to 120 ids; two begin alike for a page and more.
local function prompts()
  local list = {}
  for i = 1, 9 do
    list[i] = {}
    for j = 1, 3 + i * 13 do list[i][j] = (i * j * 7 + j * j) % V end
  end
  for j = 1, 50 do list[9][j] = list[6][j] end
  return list
end

local function options(o)
  local all = { max_new = 40, ends = false, temperature = 1.3, n = 2, logprobs = 2, seed = 5 }
  for name, value in pairs(o or {}) do all[name] = value end
  return all
end

local function same(got, wanted, what)
  for i, r in ipairs(wanted) do
    for s, sample in ipairs(r.samples) do
      local where = ("%s: prompt %d, sample %d"):format(what, i, s)
      expect.same(got[i].samples[s].ids, sample.ids, where)
      expect.same(got[i].samples[s].logprobs, sample.logprobs, where)
      expect.same(got[i].samples[s].top, sample.top, where)
    end
  end
end

for _, dtype in ipairs { "f32", "bf16" } do
  test(dtype .. ": the same bits for any batch, chunk, order and preemption", function()
    local m = model { dtype = dtype, arch = dtype == "bf16" and "qwen2" or "llama" }
    local wanted = generate(m, prompts(), options())
    same(generate(m, prompts(), options { batch = 1 }), wanted, "batch 1")
    local seven = generate(m, prompts(), options { batch = 7, chunk = 17 })
    same(seven, wanted, "batch 7")
    expect.truthy(seven.counts.shared > 0, "no page was shared")
    local tight = generate(m, prompts(), options { memory = engines.page_bytes(m) * 9, chunk = 50 })
    same(tight, wanted, "nine pages")
    expect.truthy(tight.counts.preempted > 10, "nobody was preempted")
    -- Another order, each with the number that it had.
    for i, p in ipairs(prompts()) do
      local _, one = generate(m, p, options { sequence = (i - 1) * 2 })
      same({ one }, { wanted[i] }, "alone")
    end
    m:release()
  end)

  test(dtype .. ": log-probabilities are the trainer's, to the bit", function()
    local m = model { dtype = dtype }
    local results, ids, weights = generate(m, prompts(), options { batch = 5 }), {}, {}
    for i, r in ipairs(results) do
      ids[i], weights[i] = {}, {}
      for _, id in ipairs(r.prompt) do table.insert(ids[i], id) table.insert(weights[i], 0) end
      for _, id in ipairs(r.samples[2].ids) do table.insert(ids[i], id) table.insert(weights[i], 1) end
    end
    -- In the order of sums of a deterministic run to the bit; in that of another one nearly.
    for _, alone in ipairs { true, false } do
      expect.same(tensor.set_rows_alone("cpu", alone), not alone)  -- an engine leaves it as it was
      tensor.scope(function()
        local _, nll = m:loss(inputs.sequences(ids, weights))
        local host, at = nll:to_host(), 0
        for i, r in ipairs(results) do
          for j, logprob in ipairs(r.samples[2].logprobs) do
            local difference = math.abs(logprob + host[at])
            expect.truthy(difference <= (alone and 0 or dtype == "bf16" and 0.2 or 1e-4),
                          ("prompt %d, token %d: %g"):format(i, j, difference))
            at = at + 1
          end
        end
      end)
    end
    m:release()
  end)
end

test("greedy tokens are those of whole forward passes", function()
  local m = model()
  local list = prompts()
  local got = generate.ids(m, list, { max_new = 5 })
  for i, p in ipairs(list) do
    local ids = { unpack(p) }
    for step = 1, 5 do
      local id = tensor.scope(autograd.no_grad, function()
        return (m:logits(ids):argmax(1):to_host())[#ids - 1]
      end)
      expect.same(got[i][step], id, ("prompt %d, token %d"):format(i, step))
      ids[#ids + 1] = id
    end
  end
  m:release()
end)

test("samples of a prompt share its pages, and copy the last when they write", function()
  local m = model()
  local prompt = prompts()[6]  -- 81 ids: two full pages and a part of one
  local function count(n)
    local _, r = generate(m, prompt, options { n = n, max_new = 3 })
    return r
  end
  local one, eight = count(1), count(8)
  expect.same(eight.samples[1].ids, one.samples[1].ids)
  local differ = false
  for s = 2, 8 do differ = differ or table.concat(eight.samples[s].ids, " ") ~= table.concat(one.samples[1].ids, " ") end
  expect.truthy(differ, "eight samples are the same")
  local rs = generate(m, { prompt }, options { n = 8, max_new = 3 })
  expect.same(rs.counts.rows, 81 + 8 * 2)  -- the prompt once, and each sample's first two tokens
  m:release()
end)

test("pages that are found and left again and again leave no trace, and are taken in the order they were left", function()
  local p, ids = pages.new(8), {}
  for i = 1, 128 do ids[i] = i end
  local taken, node = {}, p.root
  for number = 0, 3 do
    taken[number + 1] = p:take()
    node = p:child(node, ids, number, true)
    p:remember(node, taken[number + 1])
  end
  for _ = 1, 1000 do
    for i = 4, 1, -1 do p:release(taken[i]) end
    for i = 1, 4 do p:share(taken[i]) end
  end
  for i = 4, 1, -1 do p:release(taken[i]) end
  local entries = 0
  for _ in pairs(p.queue) do entries = entries + 1 end
  expect.truthy(entries <= 2 * 8 + 2, entries .. " entries")
  expect.same(p:available(), 8)
  for _ = 1, 4 do p:take() end
  expect.same({ p:take(), p:take(), p:take(), p:take(), p:take() }, { taken[4], taken[3], taken[2], taken[1] })
  expect.same(next(p.root.children), nil)
end)

test("a finished sequence makes room at once", function()
  local m = model()
  local engine = engines.new(m, { pages = 40, batch = 2, chunk = 512 })
  local function request(max_new)
    return { prompt = { 1, 2, 3 }, n = 1, max_new = max_new, stop = {}, top = 0, temperature = 0, top_k = 0, top_p = 1,
             min_p = 0, penalty = 1, seed = 0, sequence = 0 }
  end
  local long, short, third = engine:add(request(9))[1], engine:add(request(2))[1], engine:add(request(2))[1]
  engine:step() engine:step()
  expect.same({ short.finish, third.finish, #long.ids }, { "length", nil, 5 })
  engine:step() engine:step()
  expect.same({ third.finish, long.finish, #long.ids }, { "length", nil, 7 })
  engine:cancel(long)
  expect.same({ long.finish, engine:busy(), engine.pages:available() }, { "cancelled", false, 40 })
  engine:release()
  m:release()
end)

test("a sequence may be cancelled wherever it stands", function()
  local m = model()
  local engine = engines.new(m, { pages = 12, batch = 3, chunk = 30 })
  local list = {}
  for i = 1, 6 do
    list[i] = engine:add { prompt = prompts()[i], n = 2, max_new = 8, stop = {}, top = 0, temperature = 0, top_k = 0,
                           top_p = 1, min_p = 0, penalty = 1, seed = 0, sequence = 0 }
  end
  local turn = 0
  while engine:busy() do
    turn = turn + 1
    local group = list[(turn - 1) % 6 + 1]
    if turn <= 7 and turn % 2 == 1 then engine:cancel(group[turn % 4 == 1 and 1 or 2]) end
    engine:step()
  end
  expect.same(engine.pages:available(), 12)
  for _, group in ipairs(list) do
    for _, seq in ipairs(group) do
      expect.truthy(seq.finish == "length" and #seq.ids == seq.prompt + 8 or seq.finish == "cancelled", tostring(seq.finish))
    end
  end
  engine:release()
  m:release()
end)

test("what ends a sample, and what is refused", function()
  local m = model { context = 64 }
  local prompt = { 3, 1, 4, 1, 5 }
  local ids = generate.ids(m, { prompt }, { max_new = 6 })[1]
  expect.same(generate.ids(m, { prompt }, { max_new = 6, stop = { ids[3] } })[1], { ids[1], ids[2], ids[3] })
  local _, r = generate(m, prompt, { max_new = 300, ends = false })
  expect.same({ r.samples[1].finish, #r.samples[1].ids }, { "context", 59 })
  expect.raises("a prompt of 64 tokens, but the model's context is 64", function()
    local long = {}
    for i = 1, 64 do long[i] = i end
    generate(m, long, {})
  end)
  expect.raises("want 2 pages of 32 tokens, but memory holds 1", function()
    generate(m, prompt, { max_new = 40, memory = engines.page_bytes(m) * 1.5 })
  end)
  expect.raises("memory for keys and values is 10 bytes", function() generate(m, prompt, { memory = 10 }) end)
  expect.raises("id 301 in a prompt; the model's vocabulary is 0 to 300", function() generate(m, { 301 }, {}) end)
  expect.raises("list of ids; got an empty table", function() generate.ids(m, { {} }, {}) end)
  expect.raises("unknown option 'temprature'; did you mean 'temperature'", function()
    generate(m, prompt, { temprature = 1 })
  end)
  expect.raises("'top_p' must be more than 0", function() generate(m, prompt, { top_p = 0 }) end)
  expect.raises("a stop string needs a tokenizer", function() generate(m, prompt, { stop = "x" }) end)
  expect.raises("'bias' has numbers by id, from 0 to 300; got %[301%]", function() generate(m, prompt, { bias = { [301] = 1 } }) end)
  expect.raises("the model came without a tokenizer", function() generate(m, "a text", {}) end)
  m:release()
end)

test("logits that are no numbers end a call with words", function()
  local m = model()
  m.weights.embed.table:fill_(0 / 0)
  expect.raises("logits are NaN or infinite", function() generate(m, { 1, 2 }, {}) end)
  m:release()
end)

test("nothing is left of a call but the model", function()
  local m = model()
  generate(m, { 1, 2 }, { max_new = 2 })
  local before = tensor.memory("cpu").total
  for _ = 1, 3 do generate(m, prompts(), options { max_new = 2 }) end
  expect.same(tensor.memory("cpu").total, before)
  m:release()
end)

return tests
