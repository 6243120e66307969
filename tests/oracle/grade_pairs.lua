-- The verdicts of `paper` and `qwen` beside those of the programs that they follow, on pairs that are not committed:
--
--   python tests/oracle/grade_pairs.py DATA pairs.jsonl
--   python tests/oracle/grade_paper.py PAPER QWEN --pairs pairs.jsonl --out theirs.jsonl
--   cftrun tests/oracle/grade_pairs.lua theirs.jsonl          shares, and each difference
--
-- tests/grade/differences.lua has the differences of 2026-12-01, judged.
local grade = require "cft.grade"
local json = require "cft.base.json"
local texts = require "cft.base.text"

local function wanted(verdict) return verdict == true and "right" or verdict == false and "wrong" or "unknown" end

local graders = {}
local function graded(mode, pair)
  local key = ("%s %s %s"):format(mode, pair.strips, pair.keep_units)
  graders[key] = graders[key]
    or grade.new { mode = mode, reference_strips = pair.strips or 0, keep_units = pair.keep_units or false }
  if pair.response then return graders[key]:response(pair.response, pair.reference) end
  return graders[key]:answer(pair.answer, pair.reference)
end

local list, path = {}, assert(arg[1], "a file of grade_paper.py is wanted")
for line in io.lines(path) do
  local pair = assert(json.decode(line))
  if pair.reference then list[#list + 1] = pair end  -- the first line says what made the others
end

for _, mode in ipairs { "paper", "qwen" } do
  local asked, equal, taken = { rules = 0, algebra = 0 }, { rules = 0, algebra = 0 }, 0
  for _, pair in ipairs(list) do
    local theirs, ours = pair[mode], graded(mode, pair)
    local kind = theirs.decided
    asked[kind] = asked[kind] + 1
    if pair.response and ours.answer ~= theirs.answer then taken = taken + 1 end
    if ours.verdict == wanted(theirs.verdict) then
      equal[kind] = equal[kind] + 1
    else
      print(texts.one_line(("%s, %s: %s against %s: theirs %s, ours %s (%s)"):format(mode, kind, ours.answer, pair.reference,
        wanted(theirs.verdict), ours.verdict, ours.reason), 400))
    end
  end
  for _, kind in ipairs { "rules", "algebra" } do
    local n, same = asked[kind], equal[kind]
    print(("%s: of %d that %s decide %d are equal, %.1f%%"):format(mode, n, kind, same, 100 * same / n))
  end
  print(("%s: of %d answers %d were taken out otherwise"):format(mode, #list, taken))
end
