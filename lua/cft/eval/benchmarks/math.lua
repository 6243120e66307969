--- MATH, the test set: 5,000 problems of competitions
local maths = require "cft.eval.maths"

return maths.new {
  name = "math", about = "MATH, the test set: 5,000 problems of competitions",
  places = { "math/test.jsonl", "MATH/test.jsonl" }, hub = "EleutherAI/hendrycks_math::test",
  reference = maths.boxed,
  grading = { reference_strips = 1 },
}
