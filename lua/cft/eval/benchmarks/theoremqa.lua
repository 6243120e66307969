--- TheoremQA: 800 problems that a theorem answers
local maths = require "cft.eval.maths"

return maths.new {
  name = "theoremqa", about = "TheoremQA: 800 problems that a theorem answers",
  places = { "theoremqa/test.jsonl" }, hub = "TIGER-Lab/TheoremQA::test",
  reference = maths.answer,
}
