-- A loop and a loss of your own: focal loss (Lin et al. 2017, arXiv 1708.02002) for critiques, so that tokens which are
-- known already count less. All options of a run hold here too; docs/own-the-training-loop.md says how.
--
--   cftrun recipes/loop.lua
--   cftrun recipes/loop.lua focus=0 out=run         the usual loss; out= for checkpoints, log.jsonl and run.json
local cft = require "cft"

local cfg = cft.config {
  data = "recipes/data/problems.jsonl", template = "chatml", focus = 2, sure = 0.9,
  heldout = 20, epochs = 4, batch = 16, tokens = 4096, lr = 1e-3, warmup = 0.1,
}

-- (1 - p)^focus * -log p, summed by weight. Its slope over -log p is what a second pass gives each row as its weight.
local function focal(model, batch)
  local _, nll, at = cft.no_grad(model.loss, model, batch)     -- -log p of each row with a loss
  local p = (-nll):exp()
  local miss = ((1 - p + 1e-6):log() * cfg.focus):exp()        -- (1 - p)^focus
  local value = (at.weights * miss * nll):sum()
  at.weights = at.weights * (miss + cfg.focus * miss / (1 - p + 1e-6) * p * nll)
  local sum = model:loss(at)
  return sum + cft.no_grad(function() return value - sum end), nll, at  -- the slope of one, the value of the other
end

local run = cft.recipe.prepare(cfg, { name = "loop", fields = cft.critique.paper(), tokenizer = cft.demo.words,
                                      model = cft.demo.tiny })
run:trainer { loss = focal }
for t in run:steps() do
  t.likely = math.exp(-t.ledger.critique.loss)                 -- a metric of your own: it stands in log.jsonl
  if t.likely > cfg.sure then break end                        -- a stop of your own: it is measured and saved
end
run:finish()
