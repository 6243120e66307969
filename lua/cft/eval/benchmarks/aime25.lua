--- AIME 2025: 30 problems
local maths = require "cft.eval.maths"

return maths.new {
  name = "aime25", about = "AIME 2025: 30 problems",
  places = { "aime25/test.jsonl" }, hub = "math-ai/aime25::test",
  reference = maths.answer,
}
