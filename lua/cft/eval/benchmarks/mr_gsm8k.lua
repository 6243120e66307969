--- Mr-GSM8K: the first wrong step of solutions to 1,418 problems of GSM8K and its variations
local steps = require "cft.eval.steps"

-- A record as Mr-GSM8K itself has it: steps count from 1 there.
local function own(record)
  local right = record.model_output_solution_correctness
  local first = tonumber(record.model_output_solution_first_error_step)
  return { problem = record.question, steps = record.model_output_steps,
           label = right == "correct" and -1 or first and first - 1 or nil }
end

local function judged(record) return record.model_output_steps and own(record) or record end

return {
  name = "mr-gsm8k", about = "Mr-GSM8K: the first wrong step of 1,418 solutions", rules = true, metric = "F1",
  places = { "process-bench/mr-gsm8k.json", "mr-gsm8k/test.json", "mr-gsm8k/test.jsonl" }, hub = "Randolphzeng/Mr-GSM8K::test",
  stop = { "</s>", "<|im_end|>", "<|endoftext|>" }, max_new = 8192,
  problem = function(record) return steps.problem(judged(record)) end, judged = judged,
  messages = function(problem) return nil, problem.question end,
  grade = steps.grade, summary = steps.summary,
}
