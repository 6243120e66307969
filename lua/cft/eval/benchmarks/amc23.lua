--- AMC 2023: 40 problems
local maths = require "cft.eval.maths"

return maths.new {
  name = "amc23", about = "AMC 2023: 40 problems",
  places = { "amc23/test.jsonl" }, hub = "math-ai/amc23::test",
  reference = maths.answer,
}
