--- MMLU-Pro, the test set: 12,032 questions with up to ten choices, as the authors' evaluation asks them, without examples
local choices = require "cft.eval.choices"

-- Where no letter is found that evaluation draws one, from a generator that it seeds anew for each question: choice
-- number FIXED[n] of n, from 0.
local FIXED = { 0, 1, 1, 3, 3, 3, 3, 6, 6, 6, 6, 6, 6, 6, 6, 13 }

local SYSTEM = 'Please reason step by step, and put your answer with "the answer is (X)" where X is the correct letter choice.'

return {
  name = "mmlu-pro", about = "MMLU-Pro, the test set: 12,032 questions with up to ten choices",
  places = { "mmlu-pro/test.jsonl", "mmlu_pro/test.jsonl", "mmlu_pro/test.parquet", "mmlu-pro/test.parquet" },
  hub = "TIGER-Lab/MMLU-Pro::test",
  stop = { "</s>", "<|im_end|>", "<|endoftext|>", "Question:" }, max_new = 2048,
  problem = function(record)
    if type(record.question) ~= "string" or type(record.options) ~= "table" or type(record.answer) ~= "string" then
      return nil, "it has no question, options (a list) and answer (a letter)"
    end
    local lines, n = { record.question, "Options:" }, 0
    for _, option in ipairs(record.options) do
      if option ~= "N/A" then
        n = n + 1
        lines[#lines + 1] = ("%s. %s"):format(choices.letter(n), tostring(option))
      end
    end
    if n < 2 or n > 16 then return nil, ("it has %d options; 2 to 16 are wanted"):format(n) end
    return { question = table.concat(lines, "\n"), reference = record.answer, options = n, category = record.category }
  end,
  messages = function(problem) return SYSTEM, "Question:\n" .. problem.question .. "\nAnswer: Let's think step by step.\n" end,
  grade = function(problem, text, mode)
    return choices.grade(problem, text, mode, function(t)
      local letter = choices.mmlu_pro(t)
      if letter then return letter end
      return nil, choices.letter(FIXED[problem.options] + 1) == problem.reference
    end)
  end,
}
