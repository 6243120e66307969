--- Held-out samples of a run, or of two, before and after, as part of its page: tokens shaded by their loss, and what the
-- model writes.
-- @module cft.report.kept_html

local curve = require "cft.report.curve"
local page = require "cft.report.page"
local runs = require "cft.report.run"

local M = {}

local escape = page.escape

M.STYLE = [[
.l1 { background: var(--l1); } .l2 { background: var(--l2); } .l3 { background: var(--l3); } .l4 { background: var(--l4); }
.l5 { background: var(--l5); } .l6 { background: var(--l6); }
.weighed { text-decoration: underline 1px; text-underline-offset: 3px; }
.beside pre { max-height: 24rem; overflow: auto; } @media print { .beside pre { max-height: none; } }
]]

local LEVELS = { 0.1, 0.5, 1, 2, 4, 7 }  -- -log p from which a shade begins

local function shade(loss)
  local level = 0
  for i, from in ipairs(LEVELS) do
    if loss >= from then level = i end
  end
  return level
end

local function tokens_html(tokens)
  local out = {}
  for i, token in ipairs(type(tokens) == "table" and tokens or {}) do
    local text = type(token) == "table" and runs.text(token[1]) or ""
    local loss = type(token) == "table" and runs.number(token[2])
    if loss then
      out[i] = ("<span class='weighed l%d' title='-log p %s'>%s</span>"):format(shade(loss), curve.label(loss), escape(text))
    else
      out[i] = ("<span class=context>%s</span>"):format(escape(text))
    end
  end
  return table.concat(out)
end

local function mean_of(tokens)
  local sum, n = 0, 0
  for _, token in ipairs(type(tokens) == "table" and tokens or {}) do
    local loss = type(token) == "table" and runs.number(token[2])
    if loss then sum, n = sum + loss, n + 1 end
  end
  return n > 0 and ("; %.4f a token"):format(sum / n) or ""
end

local function one_kept(line, label)
  return ("<div><h4>%s, step %s%s</h4>\n<pre tabindex=0>%s</pre>\n<h4>what the model writes</h4>\n<pre tabindex=0>%s</pre></div>")
    :format(escape(label), escape(runs.number(line.step) or "?"), mean_of(line.tokens), tokens_html(line.tokens),
      escape(runs.text(line.written) or ""))
end

-- Samples that the runs have kept, each with its lines in order: those of all runs of the same record stand together.
local function kept_of(list)
  local order, by_record = {}, {}
  for i, run in ipairs(list) do
    for _, line in ipairs(run.kept) do
      local record = runs.text(line.record)
      if record then
        local entry = by_record[record]
        if not entry then
          entry = { record = record, prompt = runs.text(line.prompt) or "", verdict = runs.text(line.verdict) }
          by_record[record], order[#order + 1] = entry, entry
        end
        entry[#entry + 1] = { line = line, label = (#list > 1 and ("run %d, "):format(i) or "")
                              .. (line.at == "start" and "before" or "after") }
      end
    end
  end
  return order
end

--- The samples that runs have kept.
-- @tab list of runs of `cft.report.run`
-- @treturn string HTML
function M.samples(list)
  local order = kept_of(list)
  if #order == 0 then return "<h2>Samples</h2>\n<p>No held-out samples were kept: the run had none, or report_samples=0.</p>" end
  local key = {}
  for i, from in ipairs(LEVELS) do key[i] = ("<span class='key l%d'>%g</span>"):format(i, from) end
  local out = { ("<h2>Held-out samples, before and after</h2>\n<p>Tokens with loss weight are underlined, and shaded by -log p, "
    .. "from %s on. Below them stands what the model itself writes, greedily, to the same prompt.</p>"):format(
    table.concat(key, " ")) }
  for _, entry in ipairs(order) do
    local columns = {}
    for i, one in ipairs(entry) do columns[i] = one_kept(one.line, one.label) end
    local verdict = entry.verdict and (" (%s)"):format(entry.verdict) or ""
    out[#out + 1] = ("<h3>%s%s</h3>\n<details><summary>prompt</summary><pre tabindex=0>%s</pre></details>\n<div class=beside>%s</div>")
      :format(escape(entry.record), escape(verdict), escape(entry.prompt), table.concat(columns, "\n"))
  end
  return table.concat(out, "\n")
end

return M
