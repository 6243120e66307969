--- GPQA Diamond: 198 questions with four choices
local choices = require "cft.eval.choices"

-- The order of the choices of question i: that evaluation shuffles them anew in each run. Ours is the same in all runs: Fisher and Yates's
-- shuffle by Park and Miller's generator, begun at the question's number.
local function order(i)
  local state, list = (i + 1) * 48271 % 2147483647, { 1, 2, 3, 4 }
  for k = 4, 2, -1 do
    state = state * 16807 % 2147483647
    local other = math.floor(state / 2147483647 * k) + 1
    list[k], list[other] = list[other], list[k]
  end
  return list
end

local FIELDS = { "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3" }

return {
  name = "gpqa", about = "GPQA Diamond: 198 questions with four choices", with_nan = true,
  places = { "gpqa/gpqa_diamond.jsonl", "gpqa/gpqa_diamond.csv" }, hub = "Idavidrein/gpqa:gpqa_diamond",
  stop = { "USER:", "ASSISTANT:", "### Instruction:", "Response:", "\n\nProblem", "\nProblem", "Problem:", "<|eot_id|>", "####" },
  max_new = 2048,
  problem = function(record, number)
    local parts, reference = {}, nil
    for i, which in ipairs(order(number)) do
      local text = record[FIELDS[which]]
      if type(text) ~= "string" then return nil, ("it has no '%s', a text"):format(FIELDS[which]) end
      parts[i] = ("(%s) %s"):format(choices.letter(i), text)
      if which == 1 then reference = choices.letter(i) end
    end
    if type(record.Question) ~= "string" then return nil, "it has no Question, a text" end
    local line = record.Question:sub(-1) == "\n" and "" or "\n"
    return { question = record.Question .. line .. "Answer Choices: " .. table.concat(parts, " "), reference = reference }
  end,
  messages = function(problem) return "You are a helpful assistant.", problem.question end,
  grade = function(problem, text, mode) return choices.grade(problem, text, mode, choices.gpqa) end,
}
