-- Critique Fine-Tuning on WebInstruct: learn to judge an answer. The paper's run (Wang, Yue & Chen
-- 2025, arXiv 2501.17703): 50,000 critiques, 97 steps of 512, about 70M tokens.
--
--   cftrun recipes/webinstruct.lua                               the paper's run
--   cftrun recipes/webinstruct.lua model=Qwen/Qwen2.5-1.5B lr=1e-5
--   cftrun --demo recipes/webinstruct.lua                        a tiny built-in model and data
local cft = require "cft"

local cfg = cft.config {             -- every name here can be set on the command line
  model = "Qwen/Qwen2.5-Math-7B",
  data = "TIGER-Lab/WebInstruct-CFT:WebInstruct-CFT-50K",
  out = "checkpoints/webinstruct",
  template = "qwen",                 -- LLaMA-Factory's of that name: the target ends in the tokenizer's eos
  max_tokens = 2048,                 -- longer samples are cut as the authors' trainer cut them,
  length = "llamafactory",           -- ends of critiques included; "drop" leaves them out
  no_learned = "keep",               -- and kept where nothing of a critique was left
  norm = "tokens",                   -- the loss is a mean over the step's loss tokens; the authors'
                                     -- was probably "rank_mean" (transformers 4.46)
  epochs = 1, batch = 512,           -- samples an optimizer step
  drop_last = true,                  -- 97 steps; the rest of the epoch is not trained
  tokens = 16384,                    -- a micro-batch; changes memory and speed, not results
  lr = 5e-6, warmup = 0.1, schedule = "cosine",
  weight_decay = 0, clip = 1, seed = 42,
}

-- A record is { instruction, input, output }; the critique has loss weight, all before it is context.
cft.recipe.run(cfg, {
  name = "webinstruct",
  template = { specials = "llamafactory" },  -- strings of special tokens in data, as the authors' trainer took them
  missing = {
    model = "15.2 GB; cftrun fetch Qwen/Qwen2.5-Math-7B",
    data = "93 MB; cftrun fetch TIGER-Lab/WebInstruct-CFT --type dataset --include 'WebInstruct-CFT-50K/'",
  },
})
