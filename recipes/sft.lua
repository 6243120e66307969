-- Supervised fine-tuning, the baseline that Critique Fine-Tuning is compared with (arXiv 2501.17703): the same
-- questions, and a right answer to imitate. A tiny model of random weights is trained where model= names no other.
--
--   cftrun recipes/sft.lua
--   cftrun recipes/sft.lua model=Qwen/Qwen2.5-0.5B data=mine.jsonl lr=1e-5
local cft = require "cft"

local cfg = cft.config {
  data = "recipes/data/problems.jsonl",  -- a question, a right answer, a noisy solution and its critique a line
  template = "chatml",
  heldout = 20, epochs = 4, batch = 16, tokens = 4096,
  lr = 1e-3, warmup = 0.1, schedule = "cosine", weight_decay = 0, clip = 1, seed = 42,
}

cft.recipe.run(cfg, {
  name = "sft",
  tokenizer = cft.demo.words, model = cft.demo.tiny,
  -- A record of the file becomes what is asked and what has loss weight. For Critique Fine-Tuning on the same
  -- questions it is `fields = cft.critique.paper()`.
  fields = function(r) return { instruction = r.question, output = r.answer } end,
})
