--- AIME 2024: 30 problems
local maths = require "cft.eval.maths"

return maths.new {
  name = "aime24", about = "AIME 2024: 30 problems",
  places = { "aime24/test.jsonl" }, hub = "math-ai/aime24::test",
  reference = function(record) return maths.answer(record) or maths.boxed(record) end,
}
