--- ProcessBench: the first wrong step of solutions to problems of GSM8K, MATH, OlympiadBench and Omni-MATH
local steps = require "cft.eval.steps"

return {
  name = "processbench", about = "ProcessBench: the first wrong step of 3,400 solutions", all_places = true, rules = true, metric = "F1",
  places = { "process-bench/gsm8k.json", "process-bench/math.json", "process-bench/olympiadbench.json", "process-bench/omnimath.json" },
  hub = { "Qwen/ProcessBench::gsm8k", "Qwen/ProcessBench::math", "Qwen/ProcessBench::olympiadbench", "Qwen/ProcessBench::omnimath" },
  stop = { "</s>", "<|im_end|>", "<|endoftext|>" }, max_new = 8192,
  problem = function(record, _, file) return steps.problem(record, file:match "^[%w]+") end,
  judged = function(record) return record end,
  messages = function(problem) return nil, problem.question end,
  grade = steps.grade, summary = steps.summary,
}
