-- Critique Fine-Tuning on GSM8K: four real model solutions to each of 1,319 problems, marked right or
-- wrong, and critiques by rule. These are GSM8K's *test* problems: report nothing on its test set
-- with a model that was trained on them.
--
--   cftrun recipes/gsm8k.lua model=Qwen/Qwen2.5-0.5B data=example_model_solutions.jsonl
local cft = require "cft"
local critic = require "cft.demo.rule_critic"

local cfg = cft.config {
  model = "Qwen/Qwen2.5-0.5B",
  data = "example_model_solutions.jsonl",  -- or the folder that it is in
  out = "checkpoints/gsm8k",
  template = "chatml",
  train_problems = 1000,             -- the first so many train, the rest are held out
  heldout = 128,                     -- solutions of the rest that are measured
  max_tokens = 1024,
  epochs = 1, batch = 64, tokens = 8192,
  lr = 1e-5, warmup = 0.1, schedule = "cosine",
  weight_decay = 0, clip = 1, seed = 42,
}

local SOLVERS = { "6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification" }
local counts = {}

-- The critiques of one problem, a record for each solution.
local function critiques(problem, add)
  for _, solver in ipairs(SOLVERS) do
    local s = problem[solver]
    local text, how = critic.critique(s.solution, problem.ground_truth, s.is_correct)
    counts[how] = (counts[how] or 0) + 1
    add {
      instruction = "Please critique whether the following solution to the question is correct.",
      input = ("Question:\n%s\n\nSolution:\n%s"):format(problem.question, critic.plain(s.solution)),
      output = text,
    }
  end
end

local function load(path)
  if not path:match "%.jsonl" then path = path .. "/example_model_solutions.jsonl" end
  local train, heldout = {}, {}
  for i, problem in cft.data.open(path, { schema = "none" }):records() do
    local to = i < cfg.train_problems and train or heldout
    critiques(problem, function(r) to[#to + 1] = r end)
  end
  print(("critiques by rule: %d of right solutions; of wrong ones %d name a calculation, %d a step, "
         .. "%d only the final answer"):format(counts.right or 0, counts.calculation or 0,
                                               counts.step or 0, counts.answer or 0))
  -- Spread over the held-out problems, whatever their order.
  local some, every = {}, math.max(1, math.floor(#heldout / cfg.heldout))
  for i = 1, #heldout, every do
    if #some < cfg.heldout then some[#some + 1] = heldout[i] end
  end
  return cft.data.list(train, { name = "gsm8k" }), cft.data.list(some, { name = "gsm8k (held out)" })
end

cft.recipe.run(cfg, {
  name = "gsm8k",
  load = load,
  missing = {
    model = "1 GB; cftrun fetch Qwen/Qwen2.5-0.5B",
    data = "2.6 MB; https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
      .. "example_model_solutions.jsonl",
  },
})
