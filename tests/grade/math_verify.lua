-- The test cases of Math-Verify (tests/golden/grade/math_verify.jsonl has where from): 246 responses with references. Where
-- `symbolic` says otherwise than they do, the row is below, with why. A row that is no longer so is an error.
local expect = require "tests.expect"
local grade = require "cft.grade"
local json = require "cft.base.json"

local judged = {
  [6] = "a comma that is a decimal point: 1,234 would have two meanings",
  [7] = "a comma that is a decimal point",
  [8] = "a comma that is a decimal point",
  [18] = "a comma that is a decimal point",
  [32] = "a formula over several lines is read here, and holds the reference",
  [33] = "a formula over several lines is read here, and holds the reference",
  [36] = "the last dollar sign of the response belongs to none: its formula is broken",
  [108] = "a reference that says 1 = ... = 0 names no value",
  [121] = "matrices are compared, not added",
  [122] = "matrices are compared, not multiplied",
  [131] = "0.33 is not 1/3: two digits are too few",
  [150] = "a set is no point",
  [177] = "|z| in an inequality is not solved",
  [183] = "which variable has which value is lost",
  [198] = "the reference is no formula: it was escaped once too often",
  [201] = "a set of values is no inequality of a function",
  [218] = "two boxes with words between them: the last one is the answer",
  [227] = "two boxes in two formulas: the last one is the answer",
  [231] = "two boxes of the reference are one answer here",
  [238] = "\\sum is not read: unknown",
  [242] = "the values differ: theirs is a slip",
}

return {
  { "symbolic agrees, or why it does not is written down", function()
    if not grade.has_balls() then skip "no ball arithmetic" end
    local grader, count, failed, seen = grade.new(), 0, {}, {}
    for line in io.lines "tests/golden/grade/math_verify.jsonl" do
      local row = json.decode(line)
      if row.response then
        count = count + 1
        local v = grader:response(row.response, row.reference)
        local differs = (v.verdict == "right") ~= row.theirs
        seen[count] = differs
        if differs and not judged[count] then
          failed[#failed + 1] = ("%d: %s for %s: %s, %s"):format(count, row.response, row.reference, v.verdict, v.reason)
        end
      end
    end
    for n in pairs(judged) do
      if not seen[n] then failed[#failed + 1] = ("%d no longer differs"):format(n) end
    end
    expect.same(failed, {})
    expect.same(count, 246)
  end },
}
