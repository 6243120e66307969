--- What `cft.report.data` measured as one page of HTML that needs nothing else: no script, no font, no link.
-- @module cft.report.html

local dataview = require "cft.report.data"
local preview = require "cft.report.samples"
local texts = require "cft.base.text"

local M = {}

local STYLE = [[
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #8886; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
table { border-collapse: collapse; } td, th { padding: .05rem .7rem .05rem 0; text-align: right; font-weight: normal;
       white-space: nowrap; font-variant-numeric: tabular-nums; } th { color: #777; }
td.text, th.text { text-align: left; white-space: normal; } td.bar { width: 30rem; text-align: left; }
td.bar div { background: #4a90d9; height: .8rem; min-width: 1px; }
.odd li { color: #a15c00; } .refused { color: #c00; font-weight: bold; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8884; padding: .7rem; font-size: 13px; }
.learned { background: #bdebc4; } .context { color: #777; } .other { background: #f7e19a; }
.system { border-bottom: 2px solid #999; } .query { border-bottom: 2px solid #4a90d9; }
.response { border-bottom: 2px solid #b07cd8; } .critique { border-bottom: 2px solid #3a9d4c; }
.verdict { border-bottom: 2px solid #d9534f; } .end { border-bottom: 2px solid #d9a441; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b; } .learned { background: #1d4d29; } .other { background: #5a4a12; }
  .odd li { color: #e0a050; } .refused { color: #f66; } .context { color: #999; }
}]]

-- Bytes that are no UTF-8 become U+FFFD: a character that lies on the edge of two spans is cut.
local function valid(text)
  if not text:find "[\128-\255]" then return text end
  local out, at = {}, 1
  while at <= #text do
    local good = text:match("^[%z\1-\127]+", at) or text:match("^[\194-\223][\128-\191]", at)
      or text:match("^[\224-\239][\128-\191][\128-\191]", at)
      or text:match("^[\240-\244][\128-\191][\128-\191][\128-\191]", at)
    out[#out + 1] = good or "\239\191\189"
    at = at + (good and #good or 1)
  end
  return table.concat(out)
end

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

--- A text of the data as HTML shows it.
-- @string text
function M.escape(text) return (texts.printable(valid(text)):gsub("[&<>\"']", entities)) end

local escape = M.escape

local function histogram(title, h)
  local rows, most = dataview.rows(h), 1
  for _, row in ipairs(rows) do most = math.max(most, row[2]) end
  local out = { ("<h3>%s</h3>\n<table>"):format(escape(title)) }
  for _, row in ipairs(rows) do
    out[#out + 1] = ("<tr><td>%s</td><td>%d</td><td class=bar>%s</td></tr>"):format(row[1], row[2],
      row[2] > 0 and ("<div style='width:%.2f%%'></div>"):format(100 * row[2] / most) or "")
  end
  out[#out + 1] = "</table>"
  return table.concat(out, "\n")
end

-- A kind as a class: kinds that users make up have none of their own.
local function class_of(span)
  local learned = span.weight == 0 and "context" or span.weight == 1 and "learned" or "learned other"
  return learned .. " " .. span.kind:gsub("[^%w]", "-")
end

local function sample(samples, k)
  local out = { ("<h3>%s</h3>\n<pre>"):format(escape(preview.describe(samples, k))) }
  for _, span in ipairs(samples:show(k)) do
    out[#out + 1] = ("<span class='%s' title='%s, %d tokens, weight %g'>%s</span>"):format(class_of(span),
      escape(span.kind), #span.ids, span.weight, escape(span.text))
  end
  out[#out + 1] = "</pre>\n"
  return table.concat(out)
end

local function list(class, lines)
  local out = {}
  for i, line in ipairs(lines) do out[i] = "<li>" .. escape(line) .. "</li>" end
  return ("<ul class=%s>\n%s\n</ul>"):format(class, table.concat(out, "\n"))
end

local function contents(set)
  local r, v, out = set.report, set.verdicts, {}
  local function add(...) out[#out + 1] = (...):format(select(2, ...)) end
  add("<h2>%s</h2>\n<p>%s<br>%s<br>half have at most %d tokens, 95%% at most %d; longest %d<br>"
    .. "verdicts: %d right, %d wrong, %d without</p>", escape(set.name), escape(dataview.counts(set)),
    escape(set.samples.chat:describe(set.samples.tok)), set.half, set.most, r.longest, v.right, v.wrong, v.none)
  local findings = dataview.findings(set)
  add("%s", #findings > 0 and list("odd", findings)
    or "<p>Nothing odd: no duplicates, nothing dropped, cut or refused.</p>")
  add "<table>\n<tr><th class=text>kind</th><th>tokens</th><th>share</th><th>loss tokens</th></tr>"
  for _, kind in ipairs(set.kinds) do
    add("<tr><td class=text>%s</td><td>%d</td><td>%.1f%%</td><td>%d</td></tr>", escape(kind.name), kind.tokens,
      100 * kind.tokens / math.max(1, r.tokens), kind.learned)
  end
  add "</table>"
  for _, h in ipairs(dataview.histograms(set)) do add("%s", histogram(h[1], h[2])) end
  add "<h3>longest</h3>\n<table>"
  for _, k in ipairs(set.longest) do
    add("<tr><td>%d tokens</td><td class=text>%s</td></tr>", set.lengths[k + 1], escape(set.samples:where(k)))
  end
  add "</table>"
  for _, k in ipairs(set.shown) do add("%s", sample(set.samples, k)) end
  return table.concat(out, "\n")
end

local function pairs_table(found)
  local out = { ("<h2>Decontamination</h2>\n<p>%s</p>"):format(escape(found:describe(0):match "^[^\n]*")) }
  if #found.pairs == 0 then return out[1] end
  out[#out + 1] = "<table>\n<tr><th>rank</th><th class=text>record</th><th class=text>benchmark</th>"
    .. "<th>runs shared</th><th>same question</th><th>equal answer</th><th class=text>passage</th></tr>"
  for _, p in ipairs(found.pairs) do
    out[#out + 1] = ("<tr><td>%d</td><td class=text>%s</td><td class=text>%s</td><td>%d</td><td>%s</td><td>%s</td>"
      .. "<td class=text>%s</td></tr>"):format(p.rank, escape(p.where), escape(p.benchmark), p.shared,
      p.equal and "yes" or "", p.answer and "yes" or "", escape(p.passage))
  end
  out[#out + 1] = "</table>"
  return table.concat(out, "\n")
end

--- The page.
-- @tab view of `dataview.gather`
function M.page(view)
  local out = { ("<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<title>%s: data</title>\n<style>%s</style>")
    :format(escape(view.name), STYLE) }
  out[#out + 1] = ("<h1>%s: data</h1>\n<p>%s</p>"):format(escape(view.name), escape(dataview.plan(view)))
  if view.run.samples.parts then
    out[#out + 1] = ("<h2>Mixture</h2>\n<pre>%s</pre>"):format(escape(view.run.samples:table()))
  end
  if dataview.unlooked(view) then out[#out + 1] = ("<p>%s</p>"):format(escape(dataview.unlooked(view))) end
  if view.run.template_report then
    out[#out + 1] = ("<pre class=odd>%s</pre>"):format(escape(view.run.template_report))
  end
  for _, line in ipairs(view.refusals) do
    out[#out + 1] = ("<p class=refused>training would refuse: %s</p>"):format(escape(line))
  end
  out[#out + 1] = "<p>In samples, <span class=learned>marked text</span> has loss weight 1, "
    .. "<span class='learned other'>other</span> another one, and <span class=context>context</span> 0; the line "
    .. "below says what it is: <span class=system>system</span>, <span class=query>query</span>, "
    .. "<span class=response>response</span>, <span class=critique>critique</span>, "
    .. "<span class=verdict>verdict</span>, <span class=end>end</span>.</p>"
  for _, set in ipairs(view.sets) do out[#out + 1] = contents(set) end
  for _, found in ipairs(view.contaminated) do out[#out + 1] = pairs_table(found) end
  return table.concat(out, "\n") .. "\n</html>\n"
end

return M
