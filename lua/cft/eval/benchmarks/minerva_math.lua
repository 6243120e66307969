--- Minerva-Math: 272 problems of undergraduate courses
local maths = require "cft.eval.maths"

return maths.new {
  name = "minerva-math", about = "Minerva-Math: 272 problems of undergraduate courses",
  places = { "minerva_math/test.jsonl", "minerva-math/test.jsonl" }, hub = "math-ai/minervamath::test",
  reference = function(record) return maths.boxed(record) or maths.answer(record) end,
  grading = { reference_strips = 1, keep_units = true },
}
