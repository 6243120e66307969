--- A run's folder, or two, as one page of HTML that needs nothing else: what `cftrun report` writes.
-- @module cft.report.run_page

local data_page = require "cft.report.html"
local format = require "cft.base.format"
local kept = require "cft.report.kept_html"
local page = require "cft.report.page"
local runs = require "cft.report.run"
local run_text = require "cft.report.run_text"
local svg = require "cft.report.svg"

local M = {}

local escape = page.escape

local STYLE = [[
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .5rem 1.5rem; }
.beside > div { min-width: 0; } .beside h4 { margin: .3rem 0; font-weight: normal; color: var(--soft); }
summary { padding: .25rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; } dd { margin: 0; }
]]

-- ---- what the runs are -------------------------------------------------------------------------

local function fact(list, name, value)
  if value ~= nil and value ~= "" then list[#list + 1] = { name, tostring(value) } end
end

local function versions(run)
  local list = {}
  for name, value in pairs(runs.field(run.record, "table", "versions") or {}) do
    if type(value) == "string" then list[#list + 1] = name .. " " .. value end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

local function command(run)
  local words = {}
  for i, word in ipairs(runs.field(run.record, "table", "command") or {}) do
    word = tostring(word)
    words[i] = word:find "^[%w%._/=:,+@%-]+$" and word or "'" .. word:gsub("'", "'\\''") .. "'"
  end
  return table.concat(words, " ")
end

local function facts_of(run)
  local r, s, list = run.record, run.summary, {}
  local function add(...) fact(list, ...) end
  local last = run.steps[#run.steps]
  local seconds = runs.seconds(run)
  local parameters = runs.field(r, "number", "model", "parameters") or runs.number(s.parameters)
  add("folder", run.folder)
  add("status", runs.text(r.status))
  add("started", runs.text(r.started))
  add("ended", runs.text(r.ended))
  add("time", seconds and format.duration(seconds))
  add("steps", last and ("%d%s"):format(last.step, runs.number(r.steps) and (" of %d"):format(r.steps) or ""))
  add("tokens", last and format.count(last.tokens))
  add("model", runs.field(r, "string", "model", "path") or runs.field(r, "string", "model", "name") or runs.text(s.model))
  add("parameters", parameters and format.count(parameters))
  add("device", runs.text(r.device) or runs.text(s.device))
  add("host", runs.text(r.host))
  add("seed", runs.number(r.seed))
  add("command", command(run))
  add("versions", versions(run))
  add("id", runs.id(run))
  add("best", runs.best(run))
  add("chosen by", runs.chooser(run))
  for _, one in ipairs(runs.field(r, "table", "resumed") or {}) do
    add("resumed", ("at step %s, %s"):format(tostring(runs.field(one, "number", "at_step") or "?"),
      runs.field(one, "string", "time") or ""))
  end
  add("slow rank", runs.slow_rank(run))
  if r.changed_by_hand == true then add("changed by hand", "yes") end
  return list
end

local function head(list)
  local out = {}
  for i, run in ipairs(list) do
    local rows = {}
    for k, f in ipairs(facts_of(run)) do rows[k] = ("<dt>%s</dt><dd>%s</dd>"):format(escape(f[1]), escape(f[2])) end
    local broken = run.broken > 0 and ("<p class=refused>%d lines of log.jsonl are no JSON</p>"):format(run.broken) or ""
    out[#out + 1] = ("<div><h2>%s%s</h2>\n<dl>%s</dl>%s</div>"):format(#list > 1 and svg.swatch(i) or "",
      escape(runs.name(run)), table.concat(rows, "\n"), broken)
  end
  return "<div class=beside>" .. table.concat(out, "\n") .. "</div>"
end

-- ---- curves ------------------------------------------------------------------------------------

-- Tokens are what runs of other batches share; the step, where a log has no tokens.
local function x_of(list)
  for _, run in ipairs(list) do
    local last = run.steps[#run.steps]
    if last and last.tokens == 0 then return "step", "step" end
  end
  return "tokens", "tokens"
end

local function curves(list)
  local key, x_name = x_of(list)
  local out = {}
  local function add(title, points_of, dots)
    local series = {}
    for i, run in ipairs(list) do
      local points = points_of(run)
      for _, p in ipairs(points) do p.x = p[key] end
      series[i] = { name = ("run %d"):format(i), points = points, dots = dots, n = i }
    end
    out[#out + 1] = svg.chart(title, series, x_name)
  end
  local function plain(title, name)
    add(title, function(run) return runs.points(run, function(t) return t[name] end) end)
  end
  plain("loss", "loss")
  add("held-out loss", function(run)
    local points = runs.points(run, function(t) return t.heldout_loss end)
    local before = runs.number(run.summary.heldout_loss_before)
    if before and #points > 0 then table.insert(points, 1, { step = 0, tokens = 0, y = before }) end
    return points
  end, true)
  local metrics, seen = {}, {}
  for _, run in ipairs(list) do
    for _, name in ipairs(run.metrics) do
      if not seen[name] then metrics[#metrics + 1], seen[name] = name, true end
    end
  end
  for _, name in ipairs(metrics) do plain(name, name) end
  local function ledger(which, title)
    local ledgers = {}
    for _, run in ipairs(list) do
      for _, t in ipairs(run.steps) do ledgers[#ledgers + 1] = t[which] end
    end
    for _, name in ipairs(runs.entries(ledgers)) do
      add(("%s, %s%s"):format(title, runs.is_verdict(name) and "verdict " or "", run_text.entry_name(name)), function(run)
        local points = runs.ledger_points(run, which, name)
        local before = which == "heldout_ledger" and runs.heldout_ledgers(run)
        local loss = before and runs.field(before, "number", name, "loss")
        if loss and #points > 0 then table.insert(points, 1, { step = 0, tokens = 0, y = loss }) end
        return points
      end, which == "heldout_ledger")
    end
  end
  ledger("ledger", "loss")
  ledger("heldout_ledger", "held out")
  plain("learning rate", "lr")
  plain("gradient's norm", "grad_norm")
  plain("tokens a second", "tok_s")
  plain("memory, bytes", "memory")
  if #out == 0 then return "<h2>Curves</h2>\n<p>No step is logged.</p>" end
  return ("<h2>Curves</h2>\n<p class=soft>Over %s. Where many steps share a place, the line is their mean and the band "
    .. "what they span; a place that is pointed at says its values.</p>\n<div class=charts>%s</div>"):format(x_name,
    table.concat(out, "\n"))
end

-- ---- ledgers -----------------------------------------------------------------------------------

local function cell(v, how) return runs.number(v) and how:format(v) or "" end

local function ledgers(list)
  local names, columns, heads = {}, {}, { "<-log p a token" }
  local all = {}
  for i, run in ipairs(list) do
    local before, after = runs.heldout_ledgers(run)
    local mark = #list > 1 and (" %d"):format(i) or ""
    columns[#columns + 1], heads[#heads + 1] = before or {}, "before" .. mark
    columns[#columns + 1], heads[#heads + 1] = after or {}, "after" .. mark
    all[#all + 1], all[#all + 2] = before or {}, after or {}
  end
  names = runs.entries(all)
  if #names == 0 then return nil end
  local rows = {}
  for i, name in ipairs(names) do
    rows[i] = { run_text.entry_name(name) }
    for k, ledger in ipairs(columns) do rows[i][k + 1] = cell(runs.field(ledger, "number", name, "loss"), "%.4f") end
  end
  return "<h2>Held out, by kind of text and by verdict</h2>\n"
    .. page.table("held-out losses", heads, rows)
    .. "\n<p class=soft>Every loss here is teacher-forced: the model is given the right text before each token. That of a "
    .. "verdict says little of whether it would come to that verdict by itself.</p>"
end

-- ---- settings and data -------------------------------------------------------------------------

local function settings(list)
  local names, order, all = {}, {}, {}
  for i, run in ipairs(list) do
    all[i] = runs.settings(run)
    for name in pairs(all[i]) do
      if not names[name] then names[name], order[#order + 1] = true, name end
    end
  end
  if #order == 0 then return "<h2>Settings</h2>\n<p>The run has no record of them (run.json).</p>" end
  table.sort(order)
  local heads, rows = { "<setting" }, {}
  for i in ipairs(list) do
    local mark = #list > 1 and (" %d"):format(i) or ""
    heads[#heads + 1], heads[#heads + 2] = "<value" .. mark, "<from" .. mark
  end
  for i, name in ipairs(order) do
    rows[i] = { name }
    for _, one in ipairs(all) do
      local entry = one[name] or { value = "", from = "" }
      table.insert(rows[i], entry.value)
      table.insert(rows[i], entry.from)
    end
  end
  local out = { "<h2>Settings</h2>" }
  if #list == 2 then
    local differ = run_text.differing(list[1], list[2])
    out[#out + 1] = #differ > 0 and page.table("settings that differ", { "<differs", "<1", "<2" }, differ)
      or "<p>No setting differs.</p>"
  end
  out[#out + 1] = ("<details%s><summary>all settings, and where each is from</summary>%s</details>"):format(
    #list == 1 and " open" or "", page.table("settings", heads, rows))
  return table.concat(out, "\n")
end

local function files(run)
  local rows = {}
  for _, which in ipairs { "data", "heldout" } do
    for _, f in ipairs(runs.field(run.record, "table", which) or {}) do
      rows[#rows + 1] = { runs.field(f, "string", "path") or runs.field(f, "string", "name") or "", which,
                          cell(runs.field(f, "number", "records"), "%d"),
                          runs.field(f, "number", "bytes") and format.bytes(f.bytes) or "",
                          runs.field(f, "string", "hash") or "" }
    end
  end
  return #rows > 0 and page.table("files of the data", { "<file", "<for", "records", "bytes", "<hash" }, rows) or ""
end

local function texts_of(run)
  local out = {}
  for _, f in ipairs { { "template", "template", "text" }, { "recipe", "recipe", "text" } } do
    local text = runs.field(run.record, "string", f[2], f[3])
    if text then
      out[#out + 1] = ("<details><summary>%s</summary><pre tabindex=0>%s</pre></details>"):format(f[1], escape(text))
    end
  end
  return table.concat(out, "\n")
end

-- The data of each run.
local function data(list)
  local out, style = {}, ""
  for i, run in ipairs(list) do
    out[#out + 1] = ("<h2>Data%s</h2>"):format(#list > 1 and (" of run %d"):format(i) or "")
    out[#out + 1] = files(run)
    local ok, body, own = pcall(data_page.body, run.data or { sets = {} }, i == 1 and "a" or "b")
    if run.data and ok then
      out[#out + 1] = body
      style = style .. own
    elseif run.data then
      out[#out + 1] = "<p class=refused>data.json is not what a run of this program writes</p>"
    end
    out[#out + 1] = texts_of(run)
  end
  return table.concat(out, "\n"), style
end

--- The page.
-- @tab list one run of `cft.report.run`, or two
-- @treturn string HTML
function M.page(list)
  local names, parts = {}, {}
  for i, run in ipairs(list) do names[i] = runs.name(run) end
  local title = table.concat(names, " and ") .. ": report"
  local body, style = data(list)
  for _, html in ipairs { head(list), curves(list), ledgers(list) or "",
                          kept.samples(list), settings(list), body } do
    parts[#parts + 1] = html
  end
  return page.document(title, data_page.STYLE .. svg.STYLE .. STYLE .. kept.STYLE .. style, table.concat(parts, "\n"))
end

return M
