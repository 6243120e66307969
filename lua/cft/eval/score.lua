--- Numbers of a benchmark: shares of right answers with their standard errors.
--
-- A problem is one draw from the problems that might have been asked, whatever the number of its samples:
-- errors are those of the mean over problems. An answer that the grader cannot judge (`unknown`) is not
-- right, and is counted.
-- @module cft.eval.score

local maths = require "cft.eval.maths"

local M = {}

--- Mean of numbers and its standard error: the standard deviation by the root of their count; nil for fewer
-- than two.
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

--- Probability that at least one of k of n samples is right, of which c are, drawn without putting back (Chen
-- et al. 2021, arXiv 2107.03374): 1 - C(n-c, k) / C(n, k).
function M.pass_at(n, c, k)
  if n - c < k then return 1 end
  local none = 1
  for i = n - c + 1, n do none = none * (1 - k / i) end
  return 1 - none
end

--- The answers of a problem as groups of what is equal: by text, else by the grader. Samples without an
-- answer vote for none.
-- @tab entry @string mode of `cft.grade`
-- @tab[opt] weights a number for each sample; 1 if absent
-- @treturn table of groups, in order of their first sample: `sample`, the first; `count`; and `weight`
function M.votes(entry, mode, weights)
  local groups = {}
  for i, s in ipairs(entry.samples) do
    local found = s.answer == nil or s.answer == ""
    for _, group in ipairs(found and {} or groups) do
      if not found and (group.sample.answer == s.answer
         or maths.grader(mode):answer(s.answer, group.sample.answer).verdict == "right") then
        group.weight, group.count, found = group.weight + (weights and weights[i] or 1), group.count + 1, group
      end
    end
    if not found then groups[#groups + 1] = { sample = s, weight = weights and weights[i] or 1, count = 1 } end
  end
  return groups
end

--- The sample that most agree with; of equals the first that was written. @treturn ?table nil where nothing
-- was answered
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

-- ---- critiques -----------------------------------------------------------------------------------

-- What the verdict of a critique counts: P(right) where it was read, else the word.
local function by_probability(c) return c.right ~= nil and (c.p or c.right and 1 or 0) or nil end
local function by_word(c)
  if c.right ~= nil then return c.right and 1 or 0 end
end

--- What a model holds of each of its answers: the mean over the critiques that conclude; one half where none
-- does.
-- @tab entry @func of critique → number from 0 to 1, nil where it abstains
-- @treturn table a number for each sample
local function weights(entry, of)
  local list = {}
  for i, s in ipairs(entry.samples) do
    local sum, n = 0, 0
    for _, c in ipairs(s.critiques or {}) do
      local w = of(c)
      if w then sum, n = sum + w, n + 1 end
    end
    list[i] = n > 0 and sum / n or 0.5
  end
  return list
end

--- The answer that a model's own verdicts speak for: the group of equal answers with the largest sum of
-- weights.
-- @tab entry @string mode
-- @bool[opt] words verdicts count as they are written, in place of P(right)
-- @treturn ?table the sample; nil where nothing was answered
-- @treturn bool whether the group's mean weight is above one half: else a model that may abstain does
function M.criticised(entry, mode, words)
  local best
  local w = weights(entry, words and by_word or by_probability)
  for _, group in ipairs(M.votes(entry, mode, w)) do
    if not best or group.weight > best.weight then best = group end
  end
  return best and best.sample, best ~= nil and best.weight / best.count > 0.5
end

-- Of the critiques of answers that the grader judged, the shares whose verdict is the grader's, a number for
-- each entry that has any.
local function agreements(entries)
  local list, mute = {}, 0
  for _, entry in ipairs(entries) do
    local hits, n = 0, 0
    for _, s in ipairs(entry.samples) do
      for _, c in ipairs(s.critiques or {}) do
        if c.right == nil then mute = mute + 1
        elseif s.verdict ~= "unknown" then hits, n = hits + (c.right == is_right(s) and 1 or 0), n + 1 end
      end
    end
    if n > 0 then list[#list + 1] = hits / n end
  end
  return list, mute
end

-- Rows of critiques that are no mean over all problems.
local function add_critiques(out, entries, mode)
  local chosen = {}
  for _, e in ipairs(entries) do
    local sample, sure = M.criticised(e, mode)
    if sure then chosen[#chosen + 1] = is_right(sample) and 1 or 0 end
  end
  if #chosen > 0 then out.rows[#out.rows + 1] = { ("crit@%d of answered"):format(out.samples), M.mean(chosen) } end
  local list, mute = agreements(entries)
  if #list > 0 then out.rows[#out.rows + 1] = { "verdicts right", M.mean(list) } end
  out.mute = mute
end

-- ---- a benchmark ---------------------------------------------------------------------------------

-- How many samples every problem has, and whether all of them were criticised.
local function samples_of(entries)
  local k, criticised = #entries[1].samples, true
  for _, entry in ipairs(entries) do
    k = math.min(k, #entry.samples)
    for _, s in ipairs(entry.samples) do criticised = criticised and s.critiques ~= nil end
  end
  return k, criticised
end

-- Numbers that are means over problems: their names, and each a function of an entry.
local function columns(bench, k, criticised, mode)
  local list = {}
  local function add(name, of) list[#list + 1] = { name, of } end
  local function right(sample) return sample and is_right(sample) and 1 or 0 end
  add("pass@1", function(e) return right(e.samples[1]) end)
  if k > 1 then
    add("avg@" .. k, function(e) return M.right(e) / #e.samples end)
    if not bench.no_votes then add("maj@" .. k, function(e) return right(M.majority(e, mode)) end) end
    add("pass@" .. k, function(e) return M.pass_at(#e.samples, M.right(e), k) end)
  end
  if criticised and not bench.no_votes then
    add("crit@" .. k, function(e) return right((M.criticised(e, mode))) end)
    add(("crit@%d words"):format(k), function(e) return right((M.criticised(e, mode, true))) end)
    add(("crit@%d answered"):format(k), function(e) return select(2, M.criticised(e, mode)) and 1 or 0 end)
  end
  return list
end

--- What one of the numbers is made of, for comparisons.
-- @tab bench @tab entries @string mode @string name of the number, such as "maj@4"
-- @treturn ?func entry → number, of which it is the mean; nil where it is no mean
-- @treturn ?func entries → number, where it is another function of all
function M.parts_of(bench, entries, mode, name)
  local k, criticised = samples_of(entries)
  for _, column in ipairs(columns(bench, k, criticised, mode)) do
    if column[1] == name then return column[2] end
  end
  return nil, bench.summary and function(list)
    for _, row in ipairs(bench.summary(list)) do
      if row[1] == name then return row[2] end
    end
  end or nil
end

--- The numbers of one benchmark.
-- @tab bench @tab entries of `cft.eval.work` @string mode with which they were graded
-- @treturn table `problems`, `samples` (of each), `unknown`, `cut` (answers that ended at the bound on
-- tokens), where there are critiques `mute` (those without a verdict), and `rows`: a list of { name, value,
-- error } with shares as numbers from 0 to 1
function M.of(bench, entries, mode)
  local k, criticised = samples_of(entries)
  local out = { problems = #entries, samples = k, unknown = 0, cut = 0, rows = {} }
  for _, entry in ipairs(entries) do
    for _, s in ipairs(entry.samples) do
      out.unknown = out.unknown + (s.verdict == "unknown" and 1 or 0)
      out.cut = out.cut + (s.finish ~= "stop" and 1 or 0)
    end
  end
  for _, c in ipairs(columns(bench, k, criticised, mode)) do
    out.rows[#out.rows + 1] = { c[1], M.mean(column(entries, c[2])) }
  end
  if criticised and not bench.no_votes then add_critiques(out, entries, mode) end
  for _, more in ipairs(bench.summary and bench.summary(entries) or {}) do out.rows[#out.rows + 1] = more end
  return out
end

--- A share as people read it, with its error: "34.0 ± 4.7".
function M.percent(value, err)
  return ("%.1f%s"):format(100 * value, err and (" ± %.1f"):format(100 * err) or "")
end

return M
