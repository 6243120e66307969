local expect = require "tests.expect"
local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local sampling = require "cft.generate.sampling"
local tensor = require "cft.engine.tensor"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local DRAWS = 20000
local base = { temperature = 1, top_k = 0, top_p = 1, min_p = 0, penalty = 1, seed = 9, sequence = 0 }

-- Twelve tokens, of which two are equal.
local logits = { 2.0, 1.5, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.5, 0.25, 1.25 }

local function draws(settings, seen)
  local request = setmetatable(settings, { __index = base })
  local rows, ids = {}, {}
  for i = 1, DRAWS do
    rows[i] = { request = request, sample = i, ids = ids, seen = seen or {} }
  end
  local counts = {}
  tensor.scope(function()
    local row = tensor.new { logits }
    local all = tensor.zeros({ DRAWS, #logits }) + tensor.reshape(row, { #logits })
    local chosen = sampling.choose(all, rows, 0)
    for i = 0, DRAWS - 1 do
      local id = chosen.token[i]
      counts[id] = (counts[id] or 0) + 1
    end
  end)
  return counts
end

-- Chi-square against probabilities, which are 0 for what may not come. The bound is its 99.99% quantile, by Wilson and
-- Hilferty; draws are a function of the seed, so this test does not fail by chance from run to run.
local function fits(counts, probability, what)
  local chi, freedom = 0, -1
  for id = 0, #logits - 1 do
    local wanted, got = probability[id + 1] * DRAWS, counts[id] or 0
    if wanted == 0 then
      expect.same(got, 0, ("%s: token %d was filtered away"):format(what, id))
    else
      chi, freedom = chi + (got - wanted) ^ 2 / wanted, freedom + 1
    end
  end
  local k = math.max(freedom, 1)
  local bound = k * (1 - 2 / (9 * k) + 3.719 * math.sqrt(2 / (9 * k))) ^ 3
  expect.truthy(chi < bound, ("%s: chi-square %.1f of %d degrees, at most %.1f"):format(what, chi, freedom, bound))
end

-- softmax of z, over the tokens that `kept` says.
local function softmax(z, kept)
  local p, sum = {}, 0
  for i, v in ipairs(z) do
    p[i] = (not kept or kept[i]) and math.exp(v) or 0
    sum = sum + p[i]
  end
  for i in ipairs(p) do p[i] = p[i] / sum end
  return p
end

local function keep(list)
  local kept = {}
  for _, id in ipairs(list) do kept[id + 1] = true end
  return kept
end

local function each(f)
  local z = {}
  for i, v in ipairs(logits) do z[i] = f(v, i - 1) end
  return z
end

test("draws are softmax's", function() fits(draws {}, softmax(logits), "plain") end)

test("temperature", function()
  fits(draws { temperature = 0.6 }, softmax(each(function(v) return v / 0.6 end)), "0.6")
  fits(draws { temperature = 3 }, softmax(each(function(v) return v / 3 end)), "3")
end)

test("top-k keeps equals together", function()
  fits(draws { top_k = 4 }, softmax(logits, keep { 0, 1, 2, 11 }), "4")
  fits(draws { top_k = 2 }, softmax(logits, keep { 0, 1, 2 }), "2 with a tie")
end)

test("top-p", function()
  -- 0.266 0.161 0.161 0.125 0.098 ...: 0.6 is reached by the fourth
  fits(draws { top_p = 0.6 }, softmax(logits, keep { 0, 1, 2, 11 }), "0.6")
  fits(draws { top_p = 0.01 }, softmax(logits, keep { 0 }), "0.01")
  -- after top-k, of what top-k left
  fits(draws { top_k = 4, top_p = 0.5 }, softmax(logits, keep { 0, 1, 2 }), "with top-k")
end)

test("min-p", function()
  fits(draws { min_p = 0.3 }, softmax(logits, keep { 0, 1, 2, 3, 11 }), "0.3")  -- ln 0.3 is -1.2
  fits(draws { min_p = 1 }, softmax(logits, keep { 0 }), "1")
end)

test("the penalty on repeats, and bias", function()
  local z = each(function(v, id) return (id == 0 or id == 7) and (v > 0 and v / 1.5 or v * 1.5) or v end)
  fits(draws({ penalty = 1.5 }, { 0, 7 }), softmax(z), "penalty")
  z = each(function(v, id) return id == 9 and v + 4 or id == 0 and v - 2 or v end)
  fits(draws { bias = { { 0, -2 }, { 9, 4 } } }, softmax(z), "bias")
end)

test("what is too small for f32 takes the likeliest token", function()
  for _, settings in ipairs { { temperature = 1e-40 }, { temperature = 1e-300 }, { top_p = 1e-300 } } do
    settings.bias = { { 3, 10 } }
    expect.same(draws(settings), { [3] = DRAWS })
  end
end)

test("the noise is of the seed, the sequence and the position", function()
  local function token(o, ids)
    local row = { request = setmetatable(o, { __index = base }), sample = o.sample or 1, ids = ids or { 1 } }
    return tensor.scope(function()
      local list, n = {}, 40  -- one row would be equal by chance too often
      for i = 1, n do
        local more = { unpack(row.ids) }
        for j = 1, i do more[#more + 1] = j end
        list[i] = { request = row.request, sample = row.sample, ids = more }
      end
      local all = tensor.zeros({ n, #logits }) + tensor.reshape(tensor.new { logits }, { #logits })
      local chosen, out = sampling.choose(all, list, 0), {}
      for i = 0, n - 1 do out[i + 1] = chosen.token[i] end
      return table.concat(out, " ")
    end)
  end
  local first = token {}
  expect.same(token {}, first)
  expect.same(token({}, { 5 }), first)  -- which ids came before is nothing to it
  expect.truthy(token { seed = 10 } ~= first, "seed")
  expect.truthy(token { sequence = 1 } ~= first, "sequence")
  expect.same(token { sample = 4 }, token { sequence = 3 })
  expect.truthy(token({}, { 1, 2 }) ~= first, "position")
end)

-- What C is given, checked there too: it follows indices.
local function call(o)
  o = o or {}
  local function ints(list) return tensor.new(#list > 0 and list or { 0 }, { dtype = "i32" }) end
  local keys = inputs.longs(8)
  keys[3] = o.top_k or 0
  return kernels.sample(o.logits or tensor.zeros { 2, 5 }, o.numbers or tensor.new { { 1, 1, 0, 1 }, { 0, 1, 0, 1 } },
    tensor.from_host(keys, { 2, 4 }, "i64"), ints(o.cu_seen or { 0, 1, 2 }), ints(o.seen or { 0, 4 }),
    ints { 0, 0, 1 }, ints { 3 }, o.bias or tensor.new { 0.5 }, o.top or 0)
end

test("what cft_sample does not take", function()
  tensor.scope(call)
  for what, o in pairs {
    ["logits are %(5%); %(n, V%) wanted"] = { logits = tensor.zeros { 5 } },
    ["logits are %(2, 524289%); at most 524288 ids"] = { logits = tensor.zeros { 2, 524289 } },
    ["numbers is f32 %(1, 4%); f32 %(2, 4%) wanted"] = { numbers = tensor.new { { 1, 1, 0, 1 } } },
    ["row 0 has temperature %-1"] = { numbers = tensor.new { { -1, 1, 0, 1 }, { 0, 1, 0, 1 } } },
    ["row 1 has temperature 0, top_p 0"] = { numbers = tensor.new { { 1, 1, 0, 1 }, { 0, 0, 0, 1 } } },
    ["row 0 has temperature 1, top_p 1, min_p 0, penalty 1, top_k %-3"] = { top_k = -3 },
    ["seen rises from 0 to 2"] = { cu_seen = { 0, 3, 2 } },
    ["seen%[1%] is 5; it must be in %[0, 5%)"] = { seen = { 0, 5 } },
    ["bias is f32 %(2%); f32 %(1%) wanted"] = { bias = tensor.new { 1, 2 } },
    ["top_n is 6; 0 to 5 wanted"] = { top = 6 },
  } do
    expect.raises(what, function() tensor.scope(call, o) end)
    for _, t in pairs(o) do
      if tensor.is(t) then t:release() end
    end
  end
end)

return tests
