-- Several sources as one: critiques, right answers to the same questions, and questions on critiques, each as
-- often as its weight says. docs/mixtures.md has caps, curricula and duplicates.
--
--   cftrun recipes/mixture.lua
--   cftrun recipes/mixture.lua critiques=1 answers=1 check=0.5      a key for each weight
--   cftrun data recipes/mixture.lua                                 places, tokens and loss tokens of each
local cft = require "cft"

local cfg = cft.config {
  data = "recipes/data/problems.jsonl",
  template = "chatml",
  critiques = 3, answers = 1, check = 0.5,   -- weights
  epochs = 2, batch = 16, tokens = 4096,
  lr = 1e-3, warmup = 0.1, schedule = "cosine", clip = 1, seed = 42,
}

-- The same file three times, a function of its records each.
local function source(name, fields) return cft.data.open(cfg.data, { name = name, fields = fields }) end

local function answer(r) return { instruction = r.question, output = r.answer } end

-- Only whether it is right, no reasons.
local function verdict(r)
  return { instruction = r.question .. "\nIs this right?\n" .. r.solution, output = r.right and "Yes." or "No." }
end

cft.recipe.run(cfg, {
  name = "mixture",
  tokenizer = cft.demo.words, model = cft.demo.tiny,  -- where model= names no other
  load = function()
    return cft.mix.new {
      { source("critiques", cft.critique.paper()), weight = cfg.critiques },
      { source("answers", answer), weight = cfg.answers },
      { source("check", verdict), weight = cfg.check },
    }
  end,
})
