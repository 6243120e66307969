--- GSM8K, the test set: 1,319 problems of grade school
local maths = require "cft.eval.maths"

return maths.new {
  name = "gsm8k", about = "GSM8K, the test set: 1,319 problems of grade school",
  places = { "gsm8k/test.jsonl" }, hub = "openai/gsm8k:main:test",
  reference = function(record)
    local answer = type(record.answer) == "string" and record.answer:match "####%s*(.-)%s*$"
    if not answer then return nil, "its answer has no ####" end
    return answer
  end,
}
