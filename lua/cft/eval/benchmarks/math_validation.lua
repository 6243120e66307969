--- 500 problems of MATH's test set that MATH-500 does not have, to select by
local maths = require "cft.eval.maths"

return maths.new {
  name = "math-validation", about = "500 problems of MATH's test set that MATH-500 does not have, to select by",
  places = { "math-validation/test.jsonl" },
  reference = maths.boxed,
  grading = { reference_strips = 3 },
}
