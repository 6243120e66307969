--- OlympiadBench, its 675 problems in English with answers in text
local maths = require "cft.eval.maths"

return maths.new {
  name = "olympiadbench", about = "OlympiadBench, its 675 problems in English with answers in text",
  places = { "olympiadbench/test.jsonl" }, hub = "math-ai/olympiadbench::test",
  reference = function(record)
    local answer = type(record.final_answer) == "table" and record.final_answer[1]
    if type(answer) ~= "string" then return nil, "it has no final_answer, a list of texts" end
    return (answer:gsub("^%$+", ""):gsub("%$+$", ""))
  end,
}
