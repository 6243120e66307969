-- Compares cft's IFEval checks with what tests/oracle/ifeval.py wrote:
--   cftrun tests/oracle/ifeval.lua input_data.jsonl ANSWERS... OUT.jsonl
-- ANSWERS as for that script. Prints each difference, and for each kind how many verdicts agree.

local ifeval = require "cft.eval.ifeval"
local json = require "cft.base.json"
local letters = require "cft.eval.ifeval.letters"

local function lines(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = assert(json.decode(line)) end
  return list
end

local prompts, by_prompt = lines(arg[1]), {}
for i, p in ipairs(prompts) do by_prompt[p.prompt] = i end

local answers = {}
for n = 2, #arg - 1 do
  answers[n - 1] = {}
  for _, d in ipairs(lines(arg[n])) do
    if d.response and by_prompt[d.prompt] then answers[n - 1][by_prompt[d.prompt]] = d.response end
    if d.problem then answers[n - 1][d.problem.number] = d.samples[1].text end
  end
end

local same, all, kinds, last = {}, {}, {}, nil
for _, row in ipairs(lines(arg[#arg])) do
  local text = row.text or row.of > 0 and answers[row.of][row.number] or last
  last, text = text, letters.strip(text)  -- as the reference does
  local p = prompts[row.number]
  local got = ifeval.check(text, { { kind = row.kind, arguments = p.kwargs[row.instruction] } })[1]
  if not all[row.kind] then kinds[#kinds + 1], all[row.kind], same[row.kind] = row.kind, 0, 0 end
  all[row.kind] = all[row.kind] + 1
  if got.strict == row.strict and got.loose == row.loose then
    same[row.kind] = same[row.kind] + 1
  else
    print(("%s of %d, prompt %d: %s, %s; the reference %s, %s: %s"):format(row.kind, row.of, row.number, tostring(got.strict),
      tostring(got.loose), tostring(row.strict), tostring(row.loose), json.encode(p.kwargs[row.instruction])))
    if os.getenv "SHOW" then print(("%q"):format(text)) end
  end
end
table.sort(kinds)
local total, agreed = 0, 0
for _, kind in ipairs(kinds) do
  print(("%-45s %5d of %5d  %6.2f%%"):format(kind, same[kind], all[kind], 100 * same[kind] / all[kind]))
  total, agreed = total + all[kind], agreed + same[kind]
end
print(("%-45s %5d of %5d  %6.2f%%"):format("all", agreed, total, 100 * agreed / total))
