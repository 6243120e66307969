--- Pages of HTML that need nothing else: no script, no font, no link. What all of them share.
--
-- What stands in a page is from data and models, so it is hostile until it is escaped: every text goes through `escape`,
-- and the page's policy forbids scripts and anything from elsewhere should one get through.
-- @module cft.report.page

local texts = require "cft.base.text"

local M = {}

--- What a browser may do with a page: use its own style sheet, and nothing besides.
M.POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

-- Colours of text stand out from their ground at least 4.5 to 1 in both schemes (WCAG 2, AA).
local STYLE = [[
:root { color-scheme: light dark; --ink: #1c1d20; --soft: #565a63; --ground: #fff; --line: #c9ccd3; --bar: #2f74b5;
  --odd: #8a4b00; --bad: #b3170f; --one: #1f66ad; --two: #b04a12; --learned: #c3ecc9; --w1: #f7e19a; --w2: #f3c6a5;
  --w3: #d9cdf3; --w4: #f2c3d8; --l1: #fff1ea; --l2: #ffe1d2; --l3: #ffcdb6; --l4: #ffb798; --l5: #ff9f7a; --l6: #fb8560; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e9; --soft: #a9adb6; --ground: #17181b; --line: #43464e;
  --bar: #5c9fdd; --odd: #eab068; --bad: #ff8a80; --one: #74b4f0; --two: #f0a070; --learned: #1d4d29; --w1: #574710;
  --w2: #633516; --w3: #41336a; --w4: #5e2543; --l1: #2b201c; --l2: #3d261d; --l3: #52301f; --l4: #683820; --l5: #7c3f22;
  --l6: #8f4623; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; color: var(--ink);
  background: var(--ground); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; } h1, h2, h3, p, li, td.text, dd { overflow-wrap: anywhere; }
.wide { overflow-x: auto; } .soft, th, dt { color: var(--soft); }
table { border-collapse: collapse; }
td, th { padding: .05rem .8rem .05rem 0; text-align: right; font-weight: normal; white-space: nowrap; vertical-align: top;
  font-variant-numeric: tabular-nums; }
td.text, th.text { text-align: left; white-space: normal; min-width: 6rem; } td.bar { text-align: left; }
svg.bar { display: block; width: min(26rem, 40vw); height: .8rem; margin-top: .3rem; } svg.bar rect { fill: var(--bar); }
.odd li, pre.odd { color: var(--odd); } .refused { color: var(--bad); font-weight: bold; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); padding: .7rem; font-size: 13px;
  margin: .3rem 0; }
pre, .key, svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
summary { cursor: pointer; overflow-wrap: anywhere; }
fieldset { border: 1px solid var(--line); margin: .4rem 0; padding: .2rem .7rem; }
label { margin-right: 1rem; white-space: nowrap; }
@media print { body { max-width: none; font-size: 11px; } fieldset { display: none; } pre, figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } }
]]

--- Bytes that are no UTF-8 become U+FFFD: a character that lies on the edge of two spans is cut.
-- @string text
function M.valid(text)
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

--- A value of tables, numbers and texts, with every text as JSON can hold it.
function M.plain(value)
  if type(value) == "string" then return M.valid(value) end
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for k, v in pairs(value) do copy[M.plain(k)] = M.plain(v) end
  return copy
end

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;",
                   ["\226\128\168"] = "\\u2028", ["\226\128\169"] = "\\u2029" }

--- A text of the data as HTML shows it, between tags or in quotes of either kind.
-- @string text
function M.escape(text)
  text = texts.printable(M.valid(tostring(text))):gsub("[&<>\"']", entities)
  return (text:gsub("\226\128[\168\169]", entities))
end

local escape = M.escape

--- A name as part of a class: those that users make up hold anything.
function M.class(name) return (name:gsub("[^%w]", "-")) end

--- A list of texts. @string class @tab lines
function M.list(class, lines)
  local out = {}
  for i, line in ipairs(lines) do out[i] = "<li>" .. escape(line) .. "</li>" end
  return ("<ul class='%s'>\n%s\n</ul>"):format(class, table.concat(out, "\n"))
end

-- What is HTML already. Its metatable is what tells it from a table that a file of data holds.
local Made = {}
local function made(html) return setmetatable({ html = html }, Made) end

--- A table. It scrolls by itself where the screen is narrow, also by keys.
-- @string what it is, for those who hear it
-- @tab head names of columns; in front of one of text, a `<`
-- @tab rows lists of cells: texts, or what `bar` makes; anything else is shown as text
function M.table(what, head, rows)
  local out, class = { ("<div class=wide role=group tabindex=0 aria-label='%s'><table>"):format(escape(what)) }, {}
  local cells = {}
  for i, name in ipairs(head) do
    local text = name:sub(1, 1) == "<"
    class[i] = text and " class=text" or ""
    cells[i] = ("<th scope=col%s>%s</th>"):format(class[i], escape(text and name:sub(2) or name))
  end
  out[2] = "<tr>" .. table.concat(cells) .. "</tr>"
  for _, row in ipairs(rows) do
    cells = {}
    for i = 1, #head do
      local cell = row[i]
      cells[i] = ("<td%s>%s</td>"):format(class[i], getmetatable(cell) == Made and cell.html or escape(cell == nil and "" or cell))
    end
    out[#out + 1] = "<tr>" .. table.concat(cells) .. "</tr>"
  end
  out[#out + 1] = "</table></div>"
  return table.concat(out, "\n")
end

--- A bar of a histogram, as a cell of `table`. @number share 0 to 1
function M.bar(share)
  if share <= 0 then return made "" end
  return made(("<svg class=bar viewBox='0 0 100 1' preserveAspectRatio=none aria-hidden=true><rect width=%.2f height=1 />"
    .. "</svg>"):format(math.max(0.3, 100 * share)))
end

--- Where a value stands in a list. @treturn ?int
function M.position(list, value)
  for i, v in ipairs(list) do
    if v == value then return i end
  end
end

--- A choice of one, without a script: a style sheet hides what is not asked for.
-- @string title of the choice, HTML
-- @string name of its inputs, and of the classes that they ask for: name .. i for value i
-- @tab names of the values
-- @string element what is hidden where it has another class: a selector
-- @treturn string HTML @treturn string a style sheet
function M.filter(title, name, names, element)
  local inputs, style = {}, {}
  for i = 0, #names do
    inputs[#inputs + 1] = ("<label><input type=radio name=%s id=%s%d%s> %s</label>"):format(name, name, i,
      i == 0 and " checked" or "", i == 0 and "all" or escape(names[i]))
    if i > 0 then
      style[#style + 1] = ("body:has(#%s%d:checked) %s:not(.%s%d) { display: none; }\n"):format(name, i, element, name, i)
    end
  end
  return ("<fieldset><legend>%s</legend>%s</fieldset>"):format(title, table.concat(inputs, "\n")), table.concat(style)
end

--- A page.
-- @string title also its heading
-- @string style what it has beside the style of all pages
-- @string body HTML
-- @string[opt] script of a page that has nothing of data or models in it
function M.document(title, style, body, script)
  return table.concat { "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n",
    ('<meta http-equiv="Content-Security-Policy" content="%s">\n'):format(M.POLICY .. (script and "; script-src 'unsafe-inline'" or "")),
    "<meta name=viewport content='width=device-width, initial-scale=1'>\n", "<title>", escape(title), "</title>\n<style>",
    STYLE, style, "</style>\n</head>\n<body>\n<main>\n<h1>", escape(title), "</h1>\n", body, "\n</main>\n",
    script and "<script>" .. script .. "</script>\n" or "", "</body>\n</html>\n" }
end

return M
