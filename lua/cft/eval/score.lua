--- Numbers of a benchmark: shares of right answers with their standard errors.
--
-- A problem is one draw from the problems that might have been asked, whatever the number of its samples: errors are those
-- of the mean over problems. An answer that the grader cannot judge (`unknown`) is not right, and is counted.
-- @module cft.eval.score

local maths = require "cft.eval.maths"

local M = {}

--- Mean of numbers and its standard error: the standard deviation by the root of their count; nil for fewer than two.
-- @tab list @treturn number @treturn ?number
function M.mean(list)
  local sum, n = 0, #list
  for _, x in ipairs(list) do sum = sum + x end
  local mean, squares = sum / n, 0
  for _, x in ipairs(list) do squares = squares + (x - mean) ^ 2 end
  return mean, n > 1 and math.sqrt(squares / (n - 1) / n) or nil
end

local function is_right(sample) return sample.verdict == "right" end

--- How many of a problem's samples are right.
function M.right(entry)
  local count = 0
  for _, s in ipairs(entry.samples) do count = count + (is_right(s) and 1 or 0) end
  return count
end

--- Probability that at least one of k of n samples is right, of which c are, drawn without putting back (Chen et al. 2021,
-- arXiv 2107.03374): 1 - C(n-c, k) / C(n, k).
function M.pass_at(n, c, k)
  if n - c < k then return 1 end
  local none = 1
  for i = n - c + 1, n do none = none * (1 - k / i) end
  return 1 - none
end

--- The answers of a problem as groups of what is equal: by text, else by the grader. Samples without an answer vote for none.
-- @tab entry @string mode of `cft.grade`
-- @tab[opt] weights a number for each sample; 1 if absent
-- @treturn table of groups, in order of their first sample: `sample`, the first, and `weight`
function M.votes(entry, mode, weights)
  local groups = {}
  for i, s in ipairs(entry.samples) do
    local found = s.answer == nil or s.answer == ""
    for _, group in ipairs(found and {} or groups) do
      if not found and (group.sample.answer == s.answer
         or maths.grader(mode):answer(s.answer, group.sample.answer).verdict == "right") then
        group.weight, found = group.weight + (weights and weights[i] or 1), group
      end
    end
    if not found then groups[#groups + 1] = { sample = s, weight = weights and weights[i] or 1 } end
  end
  return groups
end

--- The sample that most agree with; of equals the first that was written. @treturn ?table nil where nothing was answered
function M.majority(entry, mode, weights)
  local best
  for _, group in ipairs(M.votes(entry, mode, weights)) do
    if not best or group.weight > best.weight then best = group end
  end
  return best and best.sample
end

local function column(entries, of)
  local list = {}
  for i, entry in ipairs(entries) do list[i] = of(entry) end
  return list
end

--- The numbers of one benchmark.
-- @tab bench @tab entries of `cft.eval.work` @string mode with which they were graded
-- @treturn table `problems`, `samples` (of each), `unknown`, `cut` (answers that ended at the bound on tokens), and `rows`:
-- a list of { name, value, error } with shares as numbers from 0 to 1
function M.of(bench, entries, mode)
  local k, out = #entries[1].samples, { problems = #entries, unknown = 0, cut = 0, rows = {} }
  for _, entry in ipairs(entries) do
    k = math.min(k, #entry.samples)
    for _, s in ipairs(entry.samples) do
      out.unknown = out.unknown + (s.verdict == "unknown" and 1 or 0)
      out.cut = out.cut + (s.finish ~= "stop" and 1 or 0)
    end
  end
  out.samples = k
  local function row(name, of) out.rows[#out.rows + 1] = { name, M.mean(column(entries, of)) } end
  row("pass@1", function(e) return is_right(e.samples[1]) and 1 or 0 end)
  if k > 1 then
    row("avg@" .. k, function(e) return M.right(e) / #e.samples end)
    row("maj@" .. k, function(e)
      local most = M.majority(e, mode)
      return most and is_right(most) and 1 or 0
    end)
    row("pass@" .. k, function(e) return M.pass_at(#e.samples, M.right(e), k) end)
  end
  for _, more in ipairs(bench.summary and bench.summary(entries) or {}) do out.rows[#out.rows + 1] = more end
  return out
end

--- A share as people read it, with its error: "34.0 ± 4.7".
function M.percent(value, err)
  return ("%.1f%s"):format(100 * value, err and (" ± %.1f"):format(100 * err) or "")
end

return M
