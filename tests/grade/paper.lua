-- The modes `paper` and `qwen` against the programs that they follow: tests/oracle/grade_paper.py made the pairs and asked
-- those programs. Where their string and number rules decide, all verdicts are equal, and so are the answers that were
-- taken out of responses; where they ask sympy, most are (the pairs are odd ones: units in odd places, brackets that do
-- not fit; docs/grade.md has the share of real ones).
local expect = require "tests.expect"
local grade = require "cft.grade"
local json = require "cft.base.json"

local graders = {}

local function grader_of(mode, strips, keep_units)
  local key = ("%s %s %s"):format(mode, strips, keep_units)
  graders[key] = graders[key] or grade.new { mode = mode, reference_strips = strips, keep_units = keep_units }
  return graders[key]
end

local pairs_of_golden = {}
for line in io.lines "tests/golden/grade/paper.jsonl" do pairs_of_golden[#pairs_of_golden + 1] = json.decode(line) end
assert(table.remove(pairs_of_golden, 1).made_by, "the first line says what made the others")

local function graded(mode, pair)
  if not pair.response then return grader_of(mode, 0, false):answer(pair.answer, pair.reference) end
  return grader_of(mode, pair.strips, pair.keep_units):response(pair.response, pair.reference)
end

-- "raises ..." and "timeout" are no verdicts of theirs.
local function wanted(verdict) return verdict == true and "right" or verdict == false and "wrong" or "unknown" end

local function compare(mode)
  local count, equal, failed = { rules = 0, algebra = 0 }, 0, {}
  for _, pair in ipairs(pairs_of_golden) do
    local theirs, ours = pair[mode], graded(mode, pair)
    local same = ours.verdict == wanted(theirs.verdict)
    local text = ("%s against %s: %s (%s)"):format(pair.response or pair.answer, pair.reference, ours.verdict, ours.reason)
    count[theirs.decided] = count[theirs.decided] + 1
    if pair.response and ours.answer ~= theirs.answer then
      failed[#failed + 1] = ("%s: took out %s, theirs is %s"):format(pair.response, ours.answer, theirs.answer)
    end
    if theirs.decided == "rules" and not same then failed[#failed + 1] = text end
    if theirs.decided == "algebra" and same then equal = equal + 1 end
  end
  expect.same(failed, {})
  expect.truthy(count.rules >= 1000 and count.algebra >= 400, "both kinds are there")
  return equal / count.algebra
end

-- Answers and references that the fact sheets of those programs have, and their verdicts in `paper` and in `qwen`.
local vectors = {
  { "0.5", "50", true, true }, { "90", "0.9", true, true }, { "3.14", "3.1", true, false }, { "5", "5.04", true, false },
  { "0.04", "0.01", true, false }, { "5", "5.06", false, false }, { "1.46", "1.44", false, false },
  { "50%", "30%", true, false }, { "1,2", "(1,2)", true, true }, { "(1,2)", "[1,2]", true, true },
  { "[2,5)", "(2,5)", true, true }, { "(3,2)", "(2,3)", false, false }, { "12", "1,2", true, true },
  { "1e5", "100000", true, true }, { "\\frac{1}{2}", "0.5", true, true }, { "\\frac{1}{3}", "0.333", false, false },
  { "3\\times10^5", "7\\times10^5", false, false }, { "10^{5}", "3\\cdot 10^{5}", true, false },
  { "3.0e8", "3\\times10^8", true, true }, { "5\\times10^{3}+x", "5\\times10^{3}", true, false },
  { "y=2x+1", "2x+1", true, true }, { "(A)", "A", true, true }, { "", "", true, true }, { "", "5", false, false },
  { "-1", "1", false, false }, { "7e5", "7.1e5", false, false }, { "52_8", "528", true, true },
  { "True", "true", true, true }, { "x^2+2x+1", "(x+1)^2", true, true }, { "\\pi", "3.14159", false, false },
}

return {
  { "their rules decide: every verdict and every answer is theirs, in `paper`", function()
    if not grade.has_balls() then skip "no ball arithmetic" end
    expect.truthy(compare "paper" >= 0.85, "where sympy decides, most are equal")
  end },
  { "their rules decide: every verdict and every answer is theirs, in `qwen`", function()
    if not grade.has_balls() then skip "no ball arithmetic" end
    expect.truthy(compare "qwen" >= 0.85, "where sympy decides, most are equal")
  end },
  { "leniencies by name", function()
    local failed = {}
    for _, row in ipairs(vectors) do
      for column, mode in pairs { [3] = "paper", [4] = "qwen" } do
        local v = grader_of(mode, 0, false):answer(row[1], row[2])
        if (v.verdict == "right") ~= row[column] then
          failed[#failed + 1] = ("%s: %s against %s: %s, %s"):format(mode, row[1], row[2], v.verdict, v.reason)
        end
      end
    end
    expect.same(failed, {})
  end },
}
