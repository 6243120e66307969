--- What `cftrun log` prints: tables of a run, or of two beside each other.
-- @module cft.report.run_text

local curve = require "cft.report.curve"
local format = require "cft.base.format"
local ledgers = require "cft.train.ledger"
local runs = require "cft.report.run"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

-- ---- a table -----------------------------------------------------------------------------------

-- How many characters a text has on the screen.
local function width_of(text) return #text:gsub("[\128-\191]", "") end

local function cut(text, columns)
  if width_of(text) <= columns then return text end
  local kept, n = {}, 0
  for c in text:gmatch "[%z\1-\127\194-\244][\128-\191]*" do
    if n == columns - 3 then break end
    kept[#kept + 1], n = c, n + 1
  end
  return table.concat(kept) .. "..."
end

--- A table as lines of text, none longer than `columns`: what does not fit on the right is left out, and said.
-- @tab head names of columns; in front of one that begins at the left, a `<`
-- @tab rows lists of texts
-- @int columns
function M.table(head, rows, columns)
  local widths, total, shown = {}, 0, 0
  for i, name in ipairs(head) do
    widths[i] = width_of((name:gsub("^<", "")))
    for _, row in ipairs(rows) do widths[i] = math.max(widths[i], width_of(texts.printable(row[i] or ""))) end
  end
  for i = 1, #head do
    if i > 1 and total + widths[i] + 2 > columns then break end
    widths[i] = math.min(widths[i], columns)
    total, shown = total + widths[i] + (i > 1 and 2 or 0), i
  end
  local lines = {}
  local function add(row)
    local cells = {}
    for i = 1, shown do
      local text = cut(texts.printable((row[i] or ""):gsub("[\n\t]", " ")), widths[i])
      local space = (" "):rep(widths[i] - width_of(text))
      cells[i] = head[i]:sub(1, 1) == "<" and text .. space or space .. text
    end
    lines[#lines + 1] = table.concat(cells, "  "):match "^(.-)%s*$"
  end
  local names = {}
  for i, name in ipairs(head) do names[i] = name:gsub("^<", "") end
  add(names)
  for _, row in ipairs(rows) do add(row) end
  if shown < #head then
    lines[#lines + 1] = "not shown, since the terminal is narrow: " .. table.concat(names, ", ", shown + 1)
  end
  return table.concat(lines, "\n")
end

-- ---- numbers -----------------------------------------------------------------------------------

local function number(v, how) return runs.number(v) and how:format(v) or "" end

-- A metric of anybody's: of a size that nobody knows.
local function metric(v) return runs.number(v) and curve.label(v) or "" end

local function loss_of(entry) return runs.field(entry, "number", "loss") end

-- ---- steps -------------------------------------------------------------------------------------

-- Steps that are shown: the first, the last, those with a held-out loss while there is room, and others evenly between.
local function chosen(steps, most)
  local take, count = {}, 0
  most = math.min(most, #steps)
  local function add(i)
    if i >= 1 and i <= #steps and not take[i] and count < most then take[i], count = true, count + 1 end
  end
  add(#steps)
  add(1)
  local measured = {}
  for i, t in ipairs(steps) do
    if runs.number(t.heldout_loss) then measured[#measured + 1] = i end
  end
  local keep = math.min(#measured, math.floor(most / 2))
  for k = 1, keep do add(measured[math.ceil(k * #measured / keep)]) end
  for k = 1, most do add(math.floor(1 + (k - 1) * (#steps - 1) / math.max(1, most - 1) + 0.5)) end
  local list = {}
  for i = 1, #steps do
    if take[i] then list[#list + 1] = steps[i] end
  end
  return list
end

-- Columns of steps: a head, and what a step has there.
local function columns_of(run)
  local first = run.steps[1]
  local begin = first and runs.number(first.time) and first.time - (runs.number(first.seconds) or 0)
  local list = {
    { "step", function(t) return number(t.step, "%d") end },
    { "tokens", function(t) return runs.number(t.tokens) and format.count(t.tokens) or "" end },
    { "loss", function(t) return number(t.loss, "%.4f") end },
    { "held out", function(t) return number(t.heldout_loss, "%.4f") end },
    { "lr", function(t) return number(t.lr, "%.2e") end },
    { "norm", function(t) return number(t.grad_norm, "%.3g") end },
    { "tok/s", function(t) return runs.number(t.tok_s) and format.count(t.tok_s) or "" end },
    { "epoch", function(t) return number(t.epoch, "%.2f") end },
  }
  if begin then
    table.insert(list, 2, { "time", function(t)
      return runs.number(t.time) and t.time >= begin and format.duration(t.time - begin) or ""
    end })
  end
  for _, name in ipairs(run.metrics) do list[#list + 1] = { name, function(t) return metric(t[name]) end } end
  for i = #list, 2, -1 do  -- a column that no step fills is none
    local any = false
    for _, t in ipairs(run.steps) do any = any or list[i][2](t) ~= "" end
    if not any then table.remove(list, i) end
  end
  return list
end

local function steps_table(run, rows, columns)
  local list, head, cells = columns_of(run), {}, {}
  for i, column in ipairs(list) do head[i] = column[1] end
  for _, t in ipairs(chosen(run.steps, rows)) do
    local row = {}
    for i, column in ipairs(list) do row[i] = column[2](t) end
    cells[#cells + 1] = row
  end
  return M.table(head, cells, columns)
end

-- ---- ledgers -----------------------------------------------------------------------------------

--- What entries of a ledger are called where it is printed.
M.entry_name = ledgers.label

--- A ledger before and after, as a table.
-- @tab before a ledger, or nil @tab after @int columns
function M.ledger_table(before, after, columns)
  local rows = {}
  for i, name in ipairs(runs.entries { before or {}, after or {} }) do
    local a, b = loss_of(before and before[name]), loss_of(after and after[name])
    rows[i] = { M.entry_name(name), number(a, "%.4f"), number(b, "%.4f"), a and b and ("%+.4f"):format(b - a) or "",
                number(runs.field(after, "number", name, "tokens"), "%d") }
  end
  return #rows > 0 and M.table({ "<-log p a token", "before", "after", "change", "tokens" }, rows, columns) or nil
end

-- ---- one run -----------------------------------------------------------------------------------

-- What a run is, in a line or two.
local function about(run)
  local r, parts = run.record, {}
  parts[#parts + 1] = runs.text(r.status)
  parts[#parts + 1] = runs.text(r.started) and "started " .. r.started or nil
  local seconds = runs.seconds(run)
  if seconds then parts[#parts + 1] = format.duration(seconds) end
  parts[#parts + 1] = runs.text(r.device) or runs.text(run.summary.device)
  local last = run.steps[#run.steps]
  local steps = runs.number(r.steps) or runs.number(run.summary.steps)
  parts[#parts + 1] = ("step %d%s"):format(last and last.step or 0, steps and (" of %d"):format(steps) or "")
  if r.changed_by_hand == true then parts[#parts + 1] = "changed by hand (attached.jsonl)" end
  return texts.printable(("%s: %s"):format(runs.name(run), table.concat(parts, ", ")))
end

local function warn(run)
  if run.broken > 0 then
    print(term.paint("yellow", texts.printable(("%s/log.jsonl: %d lines are no JSON and are left out"):format(run.folder,
      run.broken))))
  end
end

local function values_of(run, name)
  local list = {}
  for _, p in ipairs(runs.points(run, function(t) return t[name] end)) do list[#list + 1] = p.y end
  return list
end

--- Print one run.
-- @tab run of `cft.report.run` @tab o `rows` of steps, `columns`
function M.print(run, o)
  print(term.paint("bold", about(run)))
  warn(run)
  if #run.steps == 0 then return print "no step is logged yet" end
  for _, line in ipairs { { "best", runs.best(run) }, { "chosen by", runs.chooser(run) } } do
    if line[2] then print(texts.printable(line[1] .. " " .. line[2])) end
  end
  print("\n" .. steps_table(run, o.rows, o.columns))
  local lines = curve.draw(values_of(run, "loss"), o.columns)
  if #lines > 0 then print("\nloss\n" .. table.concat(lines, "\n")) end
  local before, after = runs.heldout_ledgers(run)
  local held = M.ledger_table(before, after, o.columns)
  if held then return print("\nheld out\n" .. held) end
  local trained = M.ledger_table(run.steps[1].ledger, run.steps[#run.steps].ledger, o.columns)
  if trained then print("\nof the first and the last step\n" .. trained) end
end

-- ---- two runs ----------------------------------------------------------------------------------

-- The last step with at most so many tokens, and the last held-out loss behind `since`; nothing behind a run's end.
local function at_tokens(run, tokens, since)
  local found, held
  if run.steps[#run.steps].tokens < tokens then return {} end
  for _, t in ipairs(run.steps) do
    if t.tokens > tokens then break end
    found, held = t, t.tokens > since and runs.number(t.heldout_loss) or held
  end
  return found or {}, held
end

-- Over the same tokens: places evenly spread up to the run that has fewer, and then the ends of both.
local function places(a, b, rows)
  local function last(run) return run.steps[#run.steps] and run.steps[#run.steps].tokens or 0 end
  local first, shorter, longer = 0, math.min(last(a), last(b)), math.max(last(a), last(b))
  for _, run in ipairs { a, b } do first = math.max(first, run.steps[1] and run.steps[1].tokens or 0) end
  local list = {}
  for i = 0, rows - 1 do
    local tokens = math.floor(first + (shorter - first) * i / math.max(1, rows - 1) + 0.5)
    if tokens > (list[#list] or -1) then list[#list + 1] = tokens end
  end
  if longer > shorter then list[#list + 1] = longer end
  return list
end

local function difference(x, y) return x and y and ("%+.4f"):format(y - x) or "" end

local function side_by_side(a, b, o)
  local rows, since = {}, -1
  for i, tokens in ipairs(places(a, b, o.rows)) do
    local x, held_x = at_tokens(a, tokens, since)
    local y, held_y = at_tokens(b, tokens, since)
    since = tokens
    local loss_x, loss_y = runs.number(x.loss), runs.number(y.loss)
    rows[i] = { format.count(tokens), number(x.step, "%d"), number(loss_x, "%.4f"), number(y.step, "%d"),
                number(loss_y, "%.4f"), difference(loss_x, loss_y), number(held_x, "%.4f"), number(held_y, "%.4f"),
                difference(held_x, held_y) }
  end
  return M.table({ "tokens", "step 1", "loss 1", "step 2", "loss 2", "2 - 1", "held out 1", "held out 2", "2 - 1" }, rows,
    o.columns)
end

local function two_ledgers(a, b, columns)
  local rows = {}
  local before_a, after_a = runs.heldout_ledgers(a)
  local before_b, after_b = runs.heldout_ledgers(b)
  for i, name in ipairs(runs.entries { before_a or {}, after_a or {}, before_b or {}, after_b or {} }) do
    local x, y = loss_of(after_a and after_a[name]), loss_of(after_b and after_b[name])
    rows[i] = { M.entry_name(name), number(loss_of(before_a and before_a[name]), "%.4f"), number(x, "%.4f"),
                number(loss_of(before_b and before_b[name]), "%.4f"), number(y, "%.4f"), difference(x, y) }
  end
  return #rows > 0 and M.table({ "<-log p a token", "before 1", "after 1", "before 2", "after 2", "2 - 1" }, rows, columns)
end

--- Settings that two runs do not share: a list of `{ name, value of the first, of the second }`.
function M.differing(a, b)
  local x, y, names, list = runs.settings(a), runs.settings(b), {}, {}
  for _, settings in ipairs { x, y } do
    for name in pairs(settings) do names[name] = true end
  end
  for name in pairs(names) do
    local one, two = x[name] and x[name].value or "", y[name] and y[name].value or ""
    if one ~= two then list[#list + 1] = { name, one, two } end
  end
  table.sort(list, function(p, q) return p[1] < q[1] end)
  return list
end

--- Print two runs beside each other, over tokens.
-- @tab a @tab b @tab o `rows`, `columns`
function M.print_two(a, b, o)
  for i, run in ipairs { a, b } do
    print(term.paint("bold", ("%d  %s"):format(i, about(run))) .. "  " .. texts.printable(run.folder))
    warn(run)
  end
  if #a.steps == 0 or #b.steps == 0 then return print "one of them has no step in its log yet" end
  print("\n" .. side_by_side(a, b, o))
  local ledgers = two_ledgers(a, b, o.columns)
  if ledgers then print("\nheld out\n" .. ledgers) end
  local differ = M.differing(a, b)
  if #differ > 0 then print("\n" .. M.table({ "<setting", "<1", "<2" }, differ, o.columns)) end
end

return M
