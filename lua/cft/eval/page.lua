--- Results as one page of HTML, of one model or of two beside each other: each problem, what was answered, which answer was
-- taken from it, and why it is right or wrong. It has no script; filters are a style sheet's.
-- @module cft.eval.page

local benchmarks = require "cft.eval.benchmarks"
local compare = require "cft.eval.compare"
local files = require "cft.io.files"
local page = require "cft.report.page"
local score = require "cft.eval.score"

local M = {}

local escape = page.escape

local STYLE = [[
article { border-top: 1px solid var(--line); padding: .2rem 0 .6rem; }
.right { color: var(--good); } .wrong { color: var(--bad); } .unknown { color: var(--odd); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: .2rem 1.2rem; }
details pre { max-height: 32rem; overflow: auto; }
:root { --good: #1a6b2f; } @media (prefers-color-scheme: dark) { :root { --good: #7ed492; } }
@media print { details pre { max-height: none; } }
]]

local VERDICTS = { "right", "wrong", "unknown" }
local PAIRS = { "both right", "only the first right", "only the second right", "neither right" }

-- ---- scores --------------------------------------------------------------------------------------

local function scores(results)
  local rows = {}
  for i, result in ipairs(results) do
    for _, name in ipairs(result.names) do
      local s, parts = score.of(benchmarks.get(name, true), result.entries[name], result.head.grade), {}
      for k, row in ipairs(s.rows) do parts[k] = row[1] .. " " .. score.percent(row[2], row[3]) end
      local chooser = result.head.selected_by == name
      rows[#rows + 1] = { name .. (chooser and " (chose this checkpoint: the score says too much)" or ""), (#results > 1 and i .. ": " or "") .. tostring(result.head.model), ("%d"):format(s.problems),
                          table.concat(parts, ", "), ("%d"):format(s.unknown), ("%d"):format(s.cut), result.head.grade }
    end
  end
  return "<h2>Scores</h2>\n<p>In percent, with standard errors over problems.</p>\n" .. page.table("scores", { "<benchmark",
    "<model", "problems", "<score", "not judged", "cut", "<graded" }, rows)
end

local function comparisons(results)
  if #results < 2 then return "" end
  local lines = {}
  for _, name in ipairs(results[1].names) do
    local other = results[2].entries[name]
    local r = other and compare.of(results[1].entries[name], other)
    lines[#lines + 1] = name .. ": " .. (r and r.says or "no problem is in both files")
  end
  return "<h2>Compared</h2>\n" .. page.list("says", lines)
end

-- ---- problems ------------------------------------------------------------------------------------

-- The critiques of a sample, each with its verdict.
local function critiques_html(s)
  local out = {}
  for k, c in ipairs(s.critiques or {}) do
    local says = c.right == nil and "unknown" or c.right and "right" or "wrong"
    out[k] = ("<details><summary>critique %d: <span class=%s>%s</span> <span class=soft>%s%s</span></summary>\n"
      .. "<pre tabindex=0>%s</pre></details>"):format(k, says, c.right == nil and "no verdict" or says,
      c.p and ("P(right) %.3f"):format(c.p) or "", type(c.finish) == "string" and c.finish ~= "stop" and "; ended by " .. escape(c.finish) or "",
      escape(c.text))
  end
  return table.concat(out, "\n")
end

local function sample_html(s, label, open)
  local verdict = page.position(VERDICTS, s.verdict) and s.verdict or "unknown"
  return ("<details%s><summary><span class=%s>%s</span> %s<b>%s</b> <span class=soft>%s%s</span></summary>\n"
    .. "<pre tabindex=0>%s</pre>%s</details>"):format(open and " open" or "", verdict, verdict, escape(label),
    escape(s.answer or ""), escape(s.reason or ""), s.finish and s.finish ~= "stop" and "; ended by " .. escape(s.finish) or "",
    escape(s.text), critiques_html(s))
end

local function samples_html(entry, label)
  if not entry then return "<div><p class=soft>" .. escape(label) .. "not answered</p></div>" end
  local out = {}
  for i, s in ipairs(entry.samples) do
    out[i] = sample_html(s, label .. (#entry.samples > 1 and ("[%d] "):format(i) or ""), #entry.samples == 1)
  end
  return "<div>" .. table.concat(out, "\n") .. "</div>"
end

local function first_right(entry) return entry ~= nil and entry.samples[1].verdict == "right" end

local function classes(a, b, bench)
  local list = { "b" .. bench }
  if a then list[#list + 1] = "v" .. (page.position(VERDICTS, a.samples[1].verdict) or 3) end
  if a and b then
    local both, one, two = first_right(a) and first_right(b), first_right(a), first_right(b)
    list[#list + 1] = "p" .. (both and 1 or one and 2 or two and 3 or 4)
    list[#list + 1] = "w" .. (page.position(VERDICTS, b.samples[1].verdict) or 3)
    list[#list + 1] = a.samples[1].answer == b.samples[1].answer and "a1" or "a2"
  end
  return table.concat(list, " ")
end

local function article(name, a, b, two, bench)
  local problem = (a or b).problem
  local reference = problem.reference
  return ("<article class='%s'><h3>%s, %d</h3>\n<pre tabindex=0>%s</pre>\n%s<div class=answers>%s%s</div></article>"):format(
    classes(a, b, bench), escape(name), problem.number, escape(problem.question),
    type(reference) == "string" and "<p><span class=soft>reference</span> " .. escape(reference) .. "</p>\n" or "",
    samples_html(a, two and "1: " or ""), two and samples_html(b, "2: ") or "")
end

-- Benchmarks of all results, in the order they are met; and for each the entries of every problem.
local function united(results)
  local names, rows = {}, {}
  for i, result in ipairs(results) do
    for _, name in ipairs(result.names) do
      if not rows[name] then names[#names + 1], rows[name] = name, { numbers = {} } end
      for _, entry in ipairs(result.entries[name]) do
        local number = entry.problem.number
        if not rows[name][number] then
          rows[name][number] = {}
          table.insert(rows[name].numbers, number)
        end
        rows[name][number][i] = entry
      end
    end
  end
  return names, rows
end

local function problems(results)
  local names, rows = united(results)
  local two, out, style = #results > 1, { "<h2>Problems</h2>" }, {}
  local function choice(title, letter, values)
    if #values < 2 then return end
    local html, css = page.filter(title, letter, values, "article")
    out[#out + 1], style[#style + 1] = html, css
  end
  choice("benchmark", "b", names)
  choice(two and "verdict on the first model" or "verdict", "v", VERDICTS)
  if two then
    choice("verdict on the second model", "w", VERDICTS)
    choice("both models", "p", PAIRS)
    choice("their answers", "a", { "the same text", "different" })
  end
  for k, name in ipairs(names) do
    table.sort(rows[name].numbers)
    for _, number in ipairs(rows[name].numbers) do
      local row = rows[name][number]
      out[#out + 1] = article(name, row[1], row[2], two, k)
    end
  end
  return table.concat(out, "\n"), table.concat(style)
end

--- The page of results.
-- @tab results one or two of `cft.eval.file`
-- @treturn string HTML
function M.html(results)
  local body, style = problems(results)
  local title = "Evaluation: " .. tostring(results[1].head.model)
    .. (results[2] and " and " .. tostring(results[2].head.model) or "")
  return page.document(title, STYLE .. style, ("%s\n%s\n%s"):format(scores(results), comparisons(results), body))
end

--- Write it. @string path @tab results
function M.write(path, results) files.write(path, M.html(results)) end

return M
