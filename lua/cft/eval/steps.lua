--- What the benchmarks of first wrong steps share: a solution in paragraphs, the index of the first wrong one, and F1.
-- @module cft.eval.steps

local maths = require "cft.eval.maths"
local score = require "cft.eval.score"

local M = {}

--- What a model is asked, as ProcessBench asks it (Zheng et al. 2024, arXiv 2412.06559).
-- @string problem @tab steps texts
-- @treturn string
function M.prompt(problem, steps)
  local tagged = {}
  for i, step in ipairs(steps) do tagged[i] = ("<paragraph_%d>\n%s\n</paragraph_%d>"):format(i - 1, step, i - 1) end
  return "The following is a math problem and a solution (split into paragraphs, enclosed with tags and indexed from 0):\n\n"
    .. "[Math Problem]\n\n" .. problem .. "\n\n[Solution]\n\n" .. table.concat(tagged, "\n\n")
    .. "\n\nYour task is to review and critique the solution paragraph by paragraph. Once you identify an error in a paragraph, return "
    .. "the index of the paragraph where the earliest error occurs. Otherwise, return the index of -1 (which typically denotes \"not "
    .. "found\").\n\nPlease put your final answer (i.e., the index) in \\boxed{}."
end

local function texts_of(list)
  for _, step in ipairs(type(list) == "table" and list or {}) do
    if type(step) ~= "string" then return nil end
  end
  return type(list) == "table" and #list > 0 and list or nil
end

--- A record's problem: `problem`, `steps` and `label`, the first wrong step from 0, or -1.
function M.problem(record, part)
  local steps = texts_of(record.steps)
  if type(record.problem) ~= "string" or not steps or type(record.label) ~= "number" or record.label % 1 ~= 0 then
    return nil, "it has no problem, steps (texts) and label (a whole number)"
  end
  return { question = M.prompt(record.problem, steps), reference = ("%d"):format(record.label), part = part }
end

--- The index in the last box; nothing else is looked at.
function M.grade(problem, text)
  local box = maths.last_box(text)
  local index = box and tonumber(box:match "^%s*([-+]?%d+)%s*$")
  if not index then return { verdict = "wrong", answer = box or "", reason = box and "the box has no index" or "no box" } end
  local right = index == tonumber(problem.reference)
  return { verdict = right and "right" or "wrong", answer = ("%d"):format(index), reason = right and "the index" or "another index" }
end

-- A share and its standard error; 0 where there is nothing.
local function share(list)
  if #list == 0 then return 0, 0 end
  local mean, err = score.mean(list)
  return mean, err or 0
end

--- F1 of the shares of problems answered rightly, with and without a wrong step: their harmonic mean; its error by theirs.
-- @tab entries
-- @treturn number @treturn number error @treturn table { name, value, error } of both shares
function M.f1(entries)
  local wrong, right = {}, {}
  for _, entry in ipairs(entries) do
    local list = entry.problem.reference == "-1" and right or wrong
    list[#list + 1] = entry.samples[1].verdict == "right" and 1 or 0
  end
  local a, da = share(wrong)
  local b, db = share(right)
  local f = a + b > 0 and 2 * a * b / (a + b) or 0
  local err = a + b > 0 and math.sqrt((2 * b * b * da) ^ 2 + (2 * a * a * db) ^ 2) / (a + b) ^ 2 or 0
  return f, err, { { "with an error", a, da }, { "without", b, db } }
end

--- Rows of a benchmark: both shares and F1; of several parts F1 of each, and as F1 their mean.
function M.summary(entries)
  local names, parts, rows = {}, {}, {}
  for _, entry in ipairs(entries) do
    local part = entry.problem.part or ""
    if not parts[part] then names[#names + 1], parts[part] = part, {} end
    table.insert(parts[part], entry)
  end
  local sum, squares = 0, 0
  for _, name in ipairs(names) do
    local f, err, both = M.f1(parts[name])
    if #names == 1 then rows = both end
    rows[#rows + 1] = { #names == 1 and "F1" or "F1 " .. name, f, err }
    sum, squares = sum + f, squares + err * err
  end
  if #names > 1 then rows[#rows + 1] = { "F1", sum / #names, math.sqrt(squares) / #names } end
  return rows
end

return M
