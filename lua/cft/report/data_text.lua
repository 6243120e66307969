--- What `cft.report.data` measured, in a terminal.
-- @module cft.report.data_text

local dataview = require "cft.report.data"
local histogram = require "cft.report.histogram"
local preview = require "cft.report.samples"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local function percent(part, whole) return whole > 0 and 100 * part / whole or 0 end

local function print_rows(title, rows)
  print("\n  " .. term.paint("bold", title))
  print(histogram.draw_rows(rows, term.width()))
end

local function print_set(set)
  print(term.paint("bold", set.name) .. ": " .. dataview.counts(set))
  print(("  %s"):format(set.samples.chat:describe(set.samples.tok)))
  print(("  half have at most %d tokens, 95%% at most %d; longest %d"):format(set.half, set.most,
    set.report.longest))
  local v = set.verdicts
  print(("  verdicts: %d right, %d wrong, %d without"):format(v.right, v.wrong, v.none))
  local findings = dataview.findings(set)
  for _, line in ipairs(findings) do print("  " .. term.paint("yellow", texts.printable(line))) end
  if #findings == 0 then print("  nothing odd: no duplicates, nothing dropped, cut or refused") end
  print "\n  kind              tokens   share  loss tokens"
  for _, kind in ipairs(set.kinds) do
    print(("  %-12s %11d  %5.1f%%  %11d"):format(kind.name, kind.tokens, percent(kind.tokens, set.report.tokens),
      kind.learned))
  end
  for _, h in ipairs(dataview.histograms(set)) do print_rows(h[1], histogram.rows(h[2])) end
  print_rows("tokens by weight", dataview.weight_rows(set.weights))
  print("\n  " .. term.paint("bold", "longest"))
  for _, k in ipairs(set.longest) do
    print(("  %8d tokens  %s"):format(set.samples:length(k), texts.printable(set.samples:where(k))))
  end
  for _, k in ipairs(set.shown) do
    print ""
    preview.one(set.samples, set.samples.tok, k)
  end
  print ""
end

-- Sources beside each other.
local function print_comparison(sets)
  if #sets < 2 then return end
  print(("%9s %11s %11s %7s %7s %8s %7s %7s %7s  %s"):format("samples", "tokens", "loss tokens", "half", "95%", "longest",
    "right", "wrong", "passes", "source"))
  for _, set in ipairs(sets) do
    local r, v = set.report, set.verdicts
    print(("%9d %11d %10.1f%% %7d %7d %8d %7d %7d %7s  %s"):format(r.samples, r.tokens, percent(r.learned, r.tokens),
      set.half, set.most, r.longest, v.right, v.wrong, set.passes and ("%.2f"):format(set.passes) or "",
      texts.printable(set.name)))
  end
  print ""
end

--- Print it all.
-- @tab view of `cft.report.data.gather`
function M.print(view)
  print(dataview.plan(view) .. "\n")
  if view.run.samples.parts then print(texts.printable(view.run.samples:table()) .. "\n") end
  if dataview.unlooked(view) then print(dataview.unlooked(view) .. "\n") end
  if view.run.template_report then print(term.paint("yellow", texts.printable(view.run.template_report)) .. "\n") end
  for _, note in ipairs(view.run.chat:notes(view.run.tokenizer)) do
    print(term.paint("yellow", texts.printable(note)) .. "\n")
  end
  for _, set in ipairs(view.sets) do print_set(set) end
  print_comparison(view.sets)
  for _, found in ipairs(view.contaminated) do print(texts.printable(found:describe())) end
  for _, line in ipairs(view.refusals) do
    print(term.paint("bold red", "training would refuse: ") .. texts.printable(line))
  end
end

return M
