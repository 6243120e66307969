-- A template of your own, and weights by kind of text: the verdict of a critique counts three times, its reasons
-- once, and the question a little. `--preview` shows what has which weight; docs/templates.md has the rest.
--
--   cftrun recipes/own_template.lua --preview 1
--   cftrun recipes/own_template.lua verdict=1 question=0
local cft = require "cft"
local t = cft.template

local cfg = cft.config {
  data = "recipes/data/problems.jsonl",
  verdict = 3, question = 0.1,       -- weights of the loss
  heldout = 20, epochs = 4, batch = 16, tokens = 4096,
  lr = 1e-3, warmup = 0.1, schedule = "cosine", clip = 1, seed = 42,
}

-- Turns are lists of texts; what a record says stands where `content` does.
local review = t.new({
  name = "review",
  system_turn = { t.content, "\n" },
  user_turn = { "### Work\n", t.content, "\n### Review\n" },  -- with what opens the answer
  answer_turn = { t.content, t.eos },                           -- has loss weight, its end too
  between = { "\n" },
}, { learn = { verdict = cfg.verdict, query = cfg.question, rest = 1 } })

cfg.template = review
cft.recipe.run(cfg, {
  name = "own_template",
  tokenizer = cft.demo.words, model = cft.demo.tiny,  -- where model= names no other
  fields = cft.critique.paper(),     -- question, solution, critique, right → a conversation whose parts have kinds
})
