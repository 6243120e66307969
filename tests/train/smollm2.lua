-- Real weights: SmolLM2-135M-Instruct from a GGUF file against the same weights in transformers.
-- tests/golden/README.md tells how the numbers were made.

local autograd = require "cft.engine.autograd"
local cached = require "tests.cached"
local expect = require "tests.expect"
local generate = require "cft.generate"
local golden = require "tests.golden"
local models = require "cft.models"
local op = require "tests.op"
local tensor = require "cft.engine.tensor"

local function texts(get)
  local ids, cu = op.numbers(get "ids"), op.numbers(get "cu_seqlens")
  local list = {}
  for s = 1, #cu - 1 do
    list[s] = {}
    for i = cu[s] + 1, cu[s + 1] do table.insert(list[s], ids[i]) end
  end
  return list, cu
end

-- Sums that every logit of a row enters, in doubles, and the root of the sum of squares.
local function waves(logits, row, V)
  local sums, squares = { 0, 0, 0, 0 }, 0
  for v = 0, V - 1 do
    local x = logits[row * V + v]
    squares = squares + x * x
    for j = 1, 4 do sums[j] = sums[j] + x * math.cos((v + 1) * j / 7) end
  end
  return sums, math.sqrt(squares * V / 2)
end

return {
  { "SmolLM2: logits of 20 texts, f32", function()
    local m = assert(models.load(cached.path "smollm2"))
    tensor.scope(function()
      local get = golden.open "tests/golden/smollm2/expected.safetensors"
      local sequences, cu = texts(get)
      local logits = autograd.no_grad(m.logits, m, sequences):to_host()
      local V = m.config.vocab
      local ids, wanted = op.numbers(get "top_ids"), op.numbers(get "top_logits")
      local all_waves = op.numbers(get "waves")
      for s = 1, #cu - 1 do
        local last = cu[s + 1] - 1
        for k = 1, 16 do
          local i = (s - 1) * 16 + k
          expect.close(logits[last * V + ids[i]], wanted[i], 1e-4, ("text %d, logit %d"):format(s, k),
                       math.abs(wanted[(s - 1) * 16 + 1]))
        end
        local sums, size = waves(logits, last, V)
        for j = 1, 4 do
          expect.close(sums[j], all_waves[last * 4 + j], 1e-4, ("text %d, wave %d"):format(s, j), size)
        end
      end
    end)
    m:release()
  end },
  { "SmolLM2: 32 greedy tokens of each text", function()
    local m = assert(models.load(cached.path "smollm2"))
    tensor.scope(function()
      local get = golden.open "tests/golden/smollm2/expected.safetensors"
      local wanted = op.numbers(get "greedy")
      for s, written in ipairs(generate.ids(m, (texts(get)), { max_new = 32 })) do
        for k = 1, 32 do expect.same(written[k], wanted[(s - 1) * 32 + k], ("text %d, token %d"):format(s, k)) end
      end
    end)
    m:release()
  end },
}
