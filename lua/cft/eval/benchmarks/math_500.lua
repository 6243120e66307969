--- MATH-500: 500 problems of MATH's test set
local maths = require "cft.eval.maths"

return maths.new {
  name = "math-500", about = "MATH-500: 500 problems of MATH's test set",
  places = { "math-500/test.jsonl", "MATH-500/test.jsonl" }, hub = "HuggingFaceH4/MATH-500::test",
  reference = maths.boxed,
  grading = { reference_strips = 3 },
}
