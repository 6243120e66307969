-- Choices: the letter that is taken from a text, and how questions are put.

local benchmarks = require "cft.eval.benchmarks"
local choices = require "cft.eval.choices"
local expect = require "tests.expect"

return {
  { "MMLU-Pro's rule", function()
    for text, letter in pairs {
      ["so the answer is (C), not the answer is (D)"] = "C", ["the answer is B."] = "B", ["Answer: A\nanswer: B"] = "A",
      ["x Answer: A, then answer: B\n"] = "B", ["Answer:\n\n E"] = "E", ["Is it A or B or I?"] = "I", ["ABC"] = false,
      ["the answer is 5, so Answer: none; D"] = "D", ["aA Aa A_ \195\164A"] = false,
    } do
      expect.same(choices.mmlu_pro(text) or false, letter, text)
    end
  end },
  { "GPQA's rule", function()
    for text, letter in pairs {
      ["The answer is (C). Or D"] = "C", ["I think a cat"] = "A", ["none here"] = "none here", ["so B, or C"] = "C",
      ["the answer is: d."] = "D", ["The answer is A\n\nThe answer is B"] = "A",
    } do
      expect.same(choices.gpqa(text), letter, text)
    end
  end },
  { "MMLU-Pro: the question, and what counts where nothing is found", function()
    local bench = benchmarks.get "mmlu-pro"
    local p = bench.problem { question = "Which?", options = { "one", "N/A", "two", "three" }, answer = "B" }
    expect.same(p.question, "Which?\nOptions:\nA. one\nB. two\nC. three")
    local _, user = bench.messages(p)
    expect.same(user, "Question:\nWhich?\nOptions:\nA. one\nB. two\nC. three\nAnswer: Let's think step by step.\n")
    expect.same(bench.grade(p, "no idea", "paper").verdict, "right")  -- of three choices Python's draw is the second
    p.reference = "A"
    expect.same(bench.grade(p, "no idea", "paper").verdict, "wrong")
    expect.same(bench.grade(p, "the answer is (A)", "paper").verdict, "right")
    expect.same(bench.grade(p, "The answer is (A).", "symbolic").verdict, "right")
    expect.same(bench.problem { question = "Which?", options = { "one" }, answer = "A" }, nil)
  end },
  { "GPQA: choices in an order that does not change", function()
    local bench, seen = benchmarks.get "gpqa", {}
    local record = { Question = "Which?\n", ["Correct Answer"] = "yes", ["Incorrect Answer 1"] = "n1", ["Incorrect Answer 2"] = "n2",
                     ["Incorrect Answer 3"] = "n3" }
    for i = 0, 99 do
      local p = bench.problem(record, i)
      expect.same(p, bench.problem(record, i))
      expect.truthy(p.question:find("(" .. p.reference .. ") yes", 1, true), p.question)
      seen[p.reference] = (seen[p.reference] or 0) + 1
    end
    for _, letter in ipairs { "A", "B", "C", "D" } do expect.truthy(seen[letter] > 10, letter) end
    expect.truthy(bench.problem(record, 1).question:find("^Which%?\nAnswer Choices: %(A%)"))
    record["Correct Answer"] = nil
    expect.same({ bench.problem(record, 0) }, { nil, "it has no 'Correct Answer', a text" })
  end },
}
