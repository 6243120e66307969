-- Hello: Critique Fine-Tuning with all of it in this file. A tiny model of random weights reads a sum and
-- somebody's answer, and learns to write what is to be said of it. 9 seconds on two cores, which recipes/README.md
-- names; no download.
--
--   ./run.sh recipes/hello.lua
--   ./run.sh recipes/hello.lua --preview 2      what the model sees; what it learns is marked
--   ./run.sh recipes/hello.lua steps=100        too early to be right
local cft = require "cft"
local texts = require "cft.base.text"

local cfg = cft.config {             -- every name here can be set on the command line
  template = "chatml", steps = 700, batch = 32, tokens = 4096,
  lr = 2e-3, warmup = 20, heldout = 40, device = "cpu", dtype = "f32",
}

-- The data: each sum of two digits with its right answer and with those around it, and the critique of each.
local records = {}
for a = 0, 9 do
  for b = 0, 9 do
    for answer = math.max(0, a + b - 2), a + b + 2 do
      local right = answer == a + b
      records[#records + 1] = {
        instruction = ("Is it right? %d + %d = %d"):format(a, b, answer),
        output = ("%d + %d = %d. Conclusion: %s"):format(a, b, a + b, right and "right" or "wrong"),
      }
    end
  end
end

cft.recipe.run(cfg, {
  name = "hello",
  template = { system = false },     -- ChatML without a system text
  load = function()
    return cft.data.list(records, { name = "sums" }):split { heldout = cfg.heldout, seed = cfg.seed }
  end,
  tokenizer = cft.demo.words,        -- of these records' words, and
  model = cft.demo.tiny,             -- two layers: where model= names no other
  finish = function(run)             -- the model writes critiques of answers that it was not trained on
    local asked, good = {}, 0
    for i, record in run.heldout_source:records() do asked[i + 1] = record end
    for i, text in ipairs(cft.generate.answers(run, asked, { max_new = 16 })) do
      if i <= 5 then print(("  %-24s -> %s"):format(asked[i].messages[1].content, texts.quoted(text))) end
      if text == asked[i].messages[2].content then good = good + 1 end
    end
    print(("%d of %d critiques of answers it never saw are right, word for word"):format(good, #asked))
  end,
})
