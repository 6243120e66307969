-- Critique Fine-Tuning on one problem (arXiv 2506.03295): 600 critiques of many solutions to a single
-- question, about 50 steps. The data are the authors' files, { messages = { user, assistant } }.
--
--   cftrun recipes/one_problem.lua model=Qwen/Qwen2.5-Math-1.5B data=DSR-CFT-p0.jsonl
local cft = require "cft"

local cfg = cft.config {             -- the authors' settings, arXiv 2506.03295 and their scripts
  model = "Qwen/Qwen2.5-Math-1.5B",
  data = "DSR-CFT-p0.jsonl",
  out = "checkpoints/one_problem",
  template = "chatml",               -- ms-swift's for Qwen2.5: the end is <|im_end|>, and it has loss weight
  system = "Please reason step by step, and put your final answer within \\boxed{}.",
  heldout = 60,                      -- rows whose prompts are not trained on
  epochs = 50, batch = 512, tokens = 16384,
  lr = 5e-6, warmup = 0.05, schedule = "cosine",
  length = "drop",                   -- samples longer than the model's context are left out, as by ms-swift
  weight_decay = 0.05, beta2 = 0.95, clip = 1, seed = 42,
}

cft.recipe.run(cfg, {
  name = "one_problem",
  template = { system = cfg.system },
  missing = {
    model = "3.1 GB; cftrun fetch Qwen/Qwen2.5-Math-1.5B",
    data = "2.6 MB; cftrun fetch TIGER-Lab/One-Shot-CFT-Data --type dataset DSR-CFT-p0.jsonl, and data= its path",
  },
})
