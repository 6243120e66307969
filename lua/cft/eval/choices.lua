--- What the benchmarks of choices share: letters in a text, and the answers that two programs of the authors' evaluation take.
-- @module cft.eval.choices

local maths = require "cft.eval.maths"
local texts = require "cft.base.text"

local M = {}

M.LETTERS = "ABCDEFGHIJKLMNOP"

--- The n-th letter. @int n from 1
function M.letter(n) return M.LETTERS:sub(n, n) end

-- What may not stand beside a letter that stands alone; bytes of characters above ASCII are letters here.
local WORD = "[%w_\128-\255]"

--- Letters of a set that stand alone, in order. @string text @string last the last letter of the set, such as "J"
-- @treturn table a list of { letter, the byte where it stands }
function M.alone(text, last)
  local found = {}
  for at, letter in text:gmatch("()([A-" .. last .. "])") do
    if not text:sub(at - 1, at - 1):find(WORD) and not text:sub(at + 1, at + 1):find(WORD) then found[#found + 1] = letter end
  end
  return found
end

-- ---- MMLU-Pro ------------------------------------------------------------------------------------

-- The last "Answer: X" of the first line that has one.
local function answer_of_line(text)
  for line_start in ("\n" .. text):gmatch "()\n" do
    local line_end = text:find("\n", line_start, true) or #text + 1
    local letter
    for at in text:sub(line_start, line_end - 1):gmatch "()[aA]nswer:" do
      letter = text:match("^[aA]nswer:%s*([A-J])", line_start + at - 1) or letter
    end
    if letter then return letter end
  end
end

--- The letter that the evaluation of MMLU-Pro takes: "answer is (X)"; else the last "answer: X" of the first line that has one;
-- else the last letter that stands alone.
-- @treturn ?string nil where there is none
function M.mmlu_pro(text)
  local letter = text:match "answer is %(?([A-J])"
  if not letter then letter = answer_of_line(text) end
  if letter then return letter end
  local list = M.alone(text, "J")
  return list[#list]
end

-- ---- GPQA ----------------------------------------------------------------------------------------

local TRIGGERS = { "The answer is:", "The answer is", "the answer is" }

-- What follows the last of the triggers, and whether there is one.
local function behind_trigger(text)
  local at
  for _, trigger in ipairs(TRIGGERS) do
    local from = 1
    while true do
      local first, last = text:find(trigger, from, true)
      if not first then break end
      if not at or last > at then at = last end
      from = last + 1
    end
  end
  return at and text:sub(at + 1) or text, at ~= nil
end

--- What the evaluation of GPQA takes: the first letter behind the last "the answer is", else the last letter that stands alone, of the
-- text in capitals, so that the article "a" may be one; else the text.
function M.gpqa(text)
  text = text:gsub("^\n+", ""):gsub("\n+$", "")
  local several = false
  for _, trigger in ipairs(TRIGGERS) do several = several or texts.count(text, trigger) > 1 end
  if several then text = text:match "^(.-)\n\n" or text end
  local rest, found = behind_trigger(text)
  rest = rest:gsub("^\n+", ""):gsub("\n+$", ""):gsub("%.+$", ""):gsub("/+$", ""):gsub("^ +", ""):gsub(" +$", "")
  local list = M.alone(rest:upper(), "D")
  return list[found and 1 or #list] or rest
end

-- ---- grading -------------------------------------------------------------------------------------

--- Grade a choice: `paper` and `qwen` by the evaluation's own rule, the other modes by the grader.
-- @func taken text → what that evaluation takes, or nil and the verdict that it then gives
function M.grade(problem, text, mode, taken)
  if mode ~= "paper" and mode ~= "qwen" then return maths.grader(mode):response(text, problem.reference) end
  local answer, otherwise = taken(text)
  if answer then
    local right = answer == problem.reference
    return { verdict = right and "right" or "wrong", answer = answer, reason = right and "the letter" or "another choice" }
  end
  return { verdict = otherwise and "right" or "wrong", answer = "", reason = "no letter: the evaluation takes a fixed choice" }
end

return M
