--- What the benchmarks of mathematics share: the question, the reference, the prompt, and the grader.
--
-- Prompts, stop strings and the bound on tokens are those of the evaluation of Critique Fine-Tuning
-- (arXiv 2501.17703); docs/eval.md says what is left out.
-- @module cft.eval.maths

local grade = require "cft.grade"

local M = {}

--- Strings that end an answer. The last four are there because such a model may end as a critique does.
M.STOP = { "</s>", "<|im_end|>", "<|endoftext|>", "(END)", "\\[END\\]", "**END**", "[END]" }
M.MAX_NEW = 2048
M.SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."

local graders = {}

--- A grader of a mode, made once.
-- @string mode @tab[opt] compatible `keep_units` and `reference_strips`, heard by the modes paper and qwen
function M.grader(mode, compatible)
  local o = (mode == "paper" or mode == "qwen") and compatible or {}
  local key = ("%s %s %s"):format(mode, tostring(o.keep_units), tostring(o.reference_strips))
  graders[key] = graders[key] or grade.new { mode = mode, keep_units = o.keep_units, reference_strips = o.reference_strips }
  return graders[key]
end

--- What stands in the last box of a solution: its braces matched. @string text @treturn ?string
function M.last_box(text)
  local at = text:match "^.*()\\boxed" or text:match "^.*()\\fbox"
  if not at then return nil end
  local box = text:match("^%s*(%b{})", text:find("[ {]", at))
  if box then return box:sub(2, -2) end
  return text:match("^\\boxed%s+([^$]*)", at)
end

local function trimmed(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

--- A number as the references have it: 27.0 for a float of a whole value, since JSON says 27.0.
function M.text_of(value)
  if type(value) == "number" then return value % 1 == 0 and ("%d"):format(value) or ("%.17g"):format(value) end
  if type(value) == "boolean" then return value and "True" or "False" end
  return type(value) == "string" and value or nil
end

local HINTS = { ["true"] = " (True or False)", ["false"] = " (True or False)", yes = " (Yes or No)", no = " (Yes or No)" }

--- A question as it is asked: white space taken off, and what is wanted said where the reference is a truth value.
function M.question(record, reference)
  local text
  for _, name in ipairs { "question", "problem", "Question", "input" } do
    if not text and type(record[name]) == "string" then text = record[name] end
  end
  return text and trimmed(text .. (HINTS[trimmed(reference):lower()] or ""))
end

--- A benchmark of mathematics.
-- @tab o `name`, `about`, `places`, `hub`; `reference(record)` → a text, or nil and why there is none; `grading`, what
-- the modes paper and qwen treat otherwise, see `cft.grade.new`
-- @treturn table of `cft.eval.benchmarks`
function M.new(o)
  return {
    name = o.name, about = o.about, places = o.places, hub = o.hub, stop = M.STOP, max_new = M.MAX_NEW,
    problem = function(record)
      local reference, why = o.reference(record)
      if not reference then return nil, why or "it has no reference answer" end
      local question = M.question(record, reference)
      if not question then return nil, "it has no question, problem, Question or input" end
      return { question = question, reference = reference }
    end,
    messages = function(problem) return M.SYSTEM, problem.question end,
    grade = function(problem, text, mode) return M.grader(mode, o.grading):response(text, problem.reference) end,
  }
end

--- For `reference`: the field `answer`.
function M.answer(record)
  local answer = record.answer
  if answer == nil then answer = record.Answer end
  local text = M.text_of(answer)
  if not text then return nil, "it has no answer, a text or a number" end
  return text
end

--- For `reference`: the last box of the solution.
function M.boxed(record)
  local box = type(record.solution) == "string" and M.last_box(record.solution)
  if not box then return nil, "its solution has no \\boxed answer" end
  return box
end

return M
