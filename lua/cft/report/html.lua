--- What `cft.report.data` measured as one page of HTML that needs nothing else: no script, no font, no link.
-- @module cft.report.html

local dataview = require "cft.report.data"
local page = require "cft.report.page"

local M = { escape = page.escape }

local escape = page.escape

-- ---- style -----------------------------------------------------------------------------------

--- Of samples, which run reports have as well.
M.STYLE = [[
.context { color: var(--soft); } .learned { background: var(--learned); } .other1 { background: var(--w1); }
.other2 { background: var(--w2); } .other3 { background: var(--w3); } .other4 { background: var(--w4); }
.system { border-bottom: 2px solid #8a8f99; } .query { border-bottom: 2px solid #3f8bd0; }
.response { border-bottom: 2px solid #a56bd0; } .critique { border-bottom: 2px solid #2f9444; }
.verdict { border-bottom: 2px solid #d0453f; } .end { border-bottom: 2px solid #c98e2c; }
pre:hover .t, pre:focus .t { box-shadow: inset -1px 0 var(--soft); } .t:hover { outline: 2px solid var(--ink); }
]]

-- Which of a page's weights a class stands for: 0 and 1 have their own, of all others four are told apart.
local function classes_of(sets)
  local list, class = {}, { [0] = "context", "learned" }
  for _, set in ipairs(sets) do
    for _, row in ipairs(set.weights) do
      local weight = tonumber(row[1]) or row[1]
      if not class[weight] then list[#list + 1], class[weight] = weight, "other4" end
    end
  end
  table.sort(list, function(a, b) return type(a) == type(b) and a < b or type(a) == "number" and type(b) ~= "number" end)
  for i, weight in ipairs(list) do class[weight] = "other" .. math.min(i, 4) end
  return class, list
end

local KINDS = { "system", "query", "response", "critique", "verdict", "end" }

local function legend(class, others)
  local weights, kinds = { "<span class='key context'>0, context</span>", "<span class='key learned'>1</span>" }, {}
  for _, weight in ipairs(others) do
    weights[#weights + 1] = ("<span class='key %s'>%s</span>"):format(class[weight],
      escape(type(weight) == "number" and ("%g"):format(weight) or weight))
  end
  for i, kind in ipairs(KINDS) do kinds[i] = ("<span class='%s'>%s</span>"):format(kind, kind) end
  return ("<p>Loss weights: %s. The line below a text says what it is: %s. A sample that is pointed at, or has the "
    .. "focus, shows where its tokens end; a token that is pointed at shows its id.</p>"):format(
    table.concat(weights, ", "), table.concat(kinds, ", "))
end

-- ---- filters: without a script, a style sheet hides what is not asked for -------------------------

local VERDICTS = { "right", "wrong", "none" }

-- At most three classes of length, with about as many samples each.
local function lengths_of(shown)
  local sorted, edges, names = {}, {}, {}
  for i, one in ipairs(shown) do sorted[i] = one.sample.length end
  table.sort(sorted)
  for third = 1, 3 do
    local edge = sorted[math.ceil(third * #sorted / 3)]
    if edge ~= edges[#edges] then
      names[#names + 1] = ("%d to %d tokens"):format(edges[#edges] and edges[#edges] + 1 or sorted[1], edge)
      edges[#edges + 1] = edge
    end
  end
  return names, function(n)
    for i, edge in ipairs(edges) do
      if n <= edge then return i end
    end
  end
end

-- All filters of a page, and the classes by which a sample is found.
local function filters(view, scope)
  local shown, kinds, sources = {}, {}, {}
  for _, set in ipairs(view.sets) do
    for _, sample in ipairs(set.shown) do
      shown[#shown + 1] = { sample = sample, set = set }
      if not page.position(sources, set.name) then sources[#sources + 1] = set.name end
      for _, kind in ipairs(sample.kinds) do
        if not page.position(kinds, kind) then kinds[#kinds + 1] = kind end
      end
    end
  end
  if #shown < 2 then return "", "", function() return "sample" .. scope end end
  local lengths, length_of = lengths_of(shown)
  local html, style = {}, {}
  for i, f in ipairs { { "verdict", "v", VERDICTS }, { "length", "n", lengths }, { "has text of the kind", "k", kinds },
                       { "source", "s", sources } } do
    html[i], style[i] = page.filter(f[1], scope .. f[2], f[3], ".sample" .. scope)
  end
  return ("<h2>Samples shown</h2>\n%s"):format(table.concat(html, "\n")), table.concat(style), function(set, sample)
    local list = { "sample" .. scope, "v" .. page.position(VERDICTS, sample.verdict), "n" .. length_of(sample.length),
                   "s" .. page.position(sources, set.name) }
    for _, kind in ipairs(sample.kinds) do list[#list + 1] = "k" .. page.position(kinds, kind) end
    return table.concat(list, " " .. scope)
  end
end

-- ---- samples ---------------------------------------------------------------------------------

local function ids_text(ids)
  local shown = { unpack(ids, 1, 8) }
  return escape(("%s %s%s"):format(#ids == 1 and "id" or "ids", table.concat(shown, " "), #ids > 8 and " ..." or ""))
end

-- Neighbours of one kind and weight stand in one span, each token in one of its own.
local function tokens_html(tokens, class)
  local out, i = {}, 1
  while i <= #tokens do
    local first, inner, count = tokens[i], {}, 0
    while tokens[i] and tokens[i].kind == first.kind and tokens[i].weight == first.weight do
      inner[#inner + 1] = ("<span class=t title='%s'>%s</span>"):format(ids_text(tokens[i].ids), escape(tokens[i].text))
      count, i = count + #tokens[i].ids, i + 1
    end
    out[#out + 1] = ("<span class='%s %s' title='%s, %d tokens, weight %g'>%s</span>"):format(
      class[first.weight] or "other4", page.class(first.kind), escape(first.kind), count, first.weight,
      table.concat(inner))
  end
  return table.concat(out)
end

local function sample_html(sample, classes, class)
  return ("<div class='%s'><h3>%s</h3>\n<pre tabindex=0>%s</pre></div>"):format(classes, escape(sample.about),
    tokens_html(sample.tokens, class))
end

-- ---- sets ------------------------------------------------------------------------------------

local function histogram_html(title, rows)
  local most, cells = 1, {}
  for _, row in ipairs(rows) do most = math.max(most, row[2]) end
  for i, row in ipairs(rows) do cells[i] = { row[1], ("%d"):format(row[2]), page.bar(row[2] / most) } end
  return ("<h3>%s</h3>\n%s"):format(escape(title), page.table(title, { "from", "count", "<share" }, cells))
end

local function percent(part, whole) return ("%.1f%%"):format(whole > 0 and 100 * part / whole or 0) end

local function contents(set)
  local v, out = set.verdicts, {}
  local function add(...) out[#out + 1] = select("#", ...) > 1 and (...):format(select(2, ...)) or ... end
  add("<h2>%s</h2>\n<p>%s<br>%s<br>half have at most %d tokens, 95%% at most %d; longest %d<br>"
    .. "verdicts: %d right, %d wrong, %d without</p>", escape(set.name), escape(set.counts),
    escape(set.template), set.half, set.most, set.longest, v.right, v.wrong, v.none)
  if set.measured then
    add("<p class=soft>What follows is of %d samples, evenly spread.</p>", set.measured)
  end
  add(#set.findings > 0 and page.list("odd", set.findings) or set.measured and "<p>Nothing odd was found.</p>"
    or "<p>Nothing odd: no duplicates, nothing dropped, cut or refused.</p>")
  local rows, all = {}, 0
  for _, kind in ipairs(set.kinds) do all = all + kind.tokens end
  for i, kind in ipairs(set.kinds) do
    rows[i] = { kind.name, ("%d"):format(kind.tokens), percent(kind.tokens, all), ("%d"):format(kind.learned) }
  end
  add(page.table("tokens by kind of text", { "<kind", "tokens", "share", "loss tokens" }, rows))
  for _, h in ipairs(set.histograms) do add(histogram_html(h.title, h.rows)) end
  add(histogram_html("tokens by weight", set.weights))
  rows = {}
  for i, one in ipairs(set.longest_samples) do rows[i] = { ("%d"):format(one.tokens), one.where } end
  add("<h3>longest</h3>")
  add(page.table("longest samples", { "tokens", "<record" }, rows))
  return table.concat(out, "\n")
end

local function comparison(sets)
  if #sets < 2 then return nil end
  local rows = {}
  for i, set in ipairs(sets) do
    local v = set.verdicts
    rows[i] = { set.name, ("%d"):format(set.records), ("%d"):format(set.samples), ("%d"):format(set.tokens),
                percent(set.learned, set.tokens), ("%d"):format(set.half), ("%d"):format(set.most),
                ("%d"):format(set.longest), ("%d"):format(v.right), ("%d"):format(v.wrong), ("%d"):format(v.none),
                ("%d"):format(set.bad), set.passes and ("%.2f"):format(set.passes) or "" }
  end
  return "<h2>Sources beside each other</h2>\n" .. page.table("sources", { "<source", "records", "samples", "tokens",
    "loss tokens", "half have", "95% have", "longest", "right", "wrong", "without", "bad", "passes" }, rows)
end

local function contaminated(found)
  local out = ("<h2>Decontamination</h2>\n<p>%s</p>"):format(escape(found.says))
  if #found.pairs == 0 then return out end
  local rows = {}
  for i, p in ipairs(found.pairs) do
    rows[i] = { ("%d"):format(p.rank), p.where, p.benchmark, ("%d"):format(p.shared), p.equal and "yes" or "",
                p.answer and "yes" or "", p.passage }
  end
  return out .. "\n" .. page.table("decontamination", { "rank", "<record", "<benchmark", "runs shared", "same question",
    "equal answer", "<passage" }, rows)
end

--- The data of a run as part of a page.
-- @tab view of `dataview.plain`
-- @string[opt=""] scope a letter, where a page has several: their choices are their own
-- @treturn string HTML @treturn string its style, beside `STYLE`
function M.body(view, scope)
  local class, others = classes_of(view.sets)
  local choice, style, classes = filters(view, scope or "")
  local out = { ("<p>%s</p>"):format(escape(view.plan)) }
  local function add(html) out[#out + 1] = html end
  if view.mixture then add(("<h2>Mixture</h2>\n<pre>%s</pre>"):format(escape(view.mixture))) end
  if view.unlooked then add(("<p>%s</p>"):format(escape(view.unlooked))) end
  if view.template_report then add(("<pre class=odd>%s</pre>"):format(escape(view.template_report))) end
  for _, note in ipairs(view.notes) do add(("<p class=odd>%s</p>"):format(escape(note))) end
  for _, line in ipairs(view.refusals) do
    add(("<p class=refused>training would refuse: %s</p>"):format(escape(line)))
  end
  add(comparison(view.sets))
  for _, set in ipairs(view.sets) do add(contents(set)) end
  for _, found in ipairs(view.contaminated) do add(contaminated(found)) end
  local samples = {}
  for _, set in ipairs(view.sets) do
    for _, sample in ipairs(set.shown) do samples[#samples + 1] = sample_html(sample, classes(set, sample), class) end
  end
  if #samples > 0 then
    add(choice ~= "" and choice or "<h2>Samples shown</h2>")
    add(legend(class, others))
    add(table.concat(samples, "\n"))
  end
  return table.concat(out, "\n"), style
end

--- The page.
-- @tab view of `dataview.gather`
function M.page(view)
  local body, style = M.body(dataview.plain(view))
  local title = view.name .. ": data"
  return page.document(title, M.STYLE .. style, body)
end

return M
