--- grade answers against references: verdicts, reasons, rates
--
--   cftrun grade FILE [--mode MODE] [--out FILE] [--keep-units] [--reference-strips N]
--
-- FILE is JSONL, JSON, CSV or Parquet. A record has `response`, all that a model wrote, or `prediction`, an answer as it is;
-- and `reference`, or where that is absent `answer`. Where records have a `label` (true or false, 1 or 0: is it right?) the
-- agreement with the labels is printed too. MODE is symbolic (if absent), strict, paper or qwen; the last two options are
-- of paper and qwen (docs/grade.md). --out writes the records with `verdict`, `reason` and `graded`, what was compared.

local arguments = require "cft.cli.arguments"
local data = require "cft.data.open"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local grade = require "cft.grade"
local host = require "cft.host"
local json = require "cft.base.json"
local save = require "cft.io.save"
local texts = require "cft.base.text"

local M = {}

local MOST_REASONS = 8  -- of a verdict

local specs = {
  mode = { "string", "symbolic", one_of = grade.modes }, out = { "string", optional = true }, keep_units = { "boolean", false },
  reference_strips = { "integer", optional = true, min = 0, max = 3 }, file = { "string", optional = true },
}

local function usage()
  local lines = {}
  for line in host.source("cft.cli.cmd.grade"):gmatch "([^\n]*)\n" do
    if not line:find "^%-%-" then break end
    lines[#lines + 1] = line:gsub("^%-%-%-? ?", "")
  end
  print(table.concat(lines, "\n"))
end

local function text_of(value)
  if type(value) == "number" then return ("%.17g"):format(value) end
  return type(value) == "string" and value or nil
end

-- What is graded, whether as a response, and the reference; or nil and what is wrong.
local function parts(record)
  if type(record) ~= "table" then return nil, "it is no object" end
  local response, prediction = text_of(record.response), text_of(record.prediction)
  local reference = text_of(record.reference) or text_of(record.answer)
  if response and prediction then return nil, "it has both `response` and `prediction`" end
  if not response and not prediction then return nil, "it has neither a `response` nor a `prediction`" end
  if not reference then return nil, "it has neither a `reference` nor an `answer`" end
  return response or prediction, response ~= nil, reference
end

-- What a record's label says, written as text, for CSV has nothing else; nil where it says neither.
local LABELS = { ["true"] = true, ["false"] = false, ["1"] = true, ["0"] = false }
local function label_of(record) return LABELS[tostring(record.label):lower()] end

local function grade_all(o, source, each)
  local grader = grade.new { mode = o.mode, keep_units = o.keep_units, reference_strips = o.reference_strips }
  for i = 0, source:size() - 1 do
    local record, why = source:get(i)
    if record == nil then exit.fail(exit.FAILED, "%s: record %d: %s", o.file, i, why or "it is bad") end
    local given, is_response, reference = parts(record)
    if not given then exit.fail(exit.FAILED, "%s: record %d: %s", o.file, i, is_response) end
    each(record, is_response and grader:response(given, reference) or grader:answer(given, reference))
  end
end

-- { verdict → { n, reasons = { reason → n } } }, and of labels how many are given, how many say
-- true or false, how many agree, how many answers that have one are right, and how many of these are
-- labelled so.
local function counters()
  local t = { n = 0, given = 0, labels = 0, agree = 0, right_of_labelled = 0, labelled_right = 0 }
  for _, verdict in ipairs { "right", "wrong", "unknown" } do t[verdict] = { n = 0, reasons = {} } end
  return t
end

local function count(t, record, v)
  local label = label_of(record)
  local of, right = t[v.verdict], v.verdict == "right"
  t.n, of.n, of.reasons[v.reason] = t.n + 1, of.n + 1, (of.reasons[v.reason] or 0) + 1
  if record.label ~= nil then t.given = t.given + 1 end
  if label == nil then return end
  t.labels = t.labels + 1
  if label == right then t.agree = t.agree + 1 end
  if right then t.right_of_labelled = t.right_of_labelled + 1 end
  if right and label then t.labelled_right = t.labelled_right + 1 end
end

local function percent(n, of) return ("%.1f%%"):format(100 * n / math.max(of, 1)) end

local function show(o, t, seconds)
  local function say(...) print(texts.printable(string.format(...))) end
  say("%s, mode %s: %s graded", o.file, o.mode, format.count(t.n))
  for _, verdict in ipairs { "right", "wrong", "unknown" } do
    local of, list = t[verdict], {}
    say("  %-8s %8s  %6s", verdict, format.count(of.n), percent(of.n, t.n))
    for reason, n in pairs(of.reasons) do list[#list + 1] = { reason, n } end
    table.sort(list, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
    for k = 1, math.min(#list, MOST_REASONS) do say("    %8s  %s", format.count(list[k][2]), list[k][1]) end
    if #list > MOST_REASONS then say("    %d reasons more", #list - MOST_REASONS) end
  end
  if t.labels > 0 then
    say("  of %s labels %s agree; of what is said to be right %s is labelled so", format.count(t.labels),
        percent(t.agree, t.labels), percent(t.labelled_right, t.right_of_labelled))
  end
  if t.labels < t.n and (t.labels > 0 or t.given > 0) then
    say("  %s records have no label that says true or false", format.count(t.n - t.labels))
  end
  say("  %.0f a second", t.n / math.max(seconds, 1e-9))
end

--- @tab args
function M.run(args)
  for _, a in ipairs(args) do
    if a == "--help" or a == "-h" then return usage() end
  end
  local o = arguments("grade", args, specs, { "file" })
  if not o.file then exit.fail(exit.USAGE, "grade: a file is wanted: cftrun grade FILE") end
  if (o.keep_units or o.reference_strips) and o.mode ~= "paper" and o.mode ~= "qwen" then
    exit.fail(exit.USAGE, "grade: --keep-units and --reference-strips are of the modes paper and qwen")
  end
  if o.out and data.real(o.out) == data.real(o.file) then exit.fail(exit.USAGE, "grade: --out is the file that is read") end
  local t, lines, start = counters(), {}, host.now()
  grade_all(o, data.open(o.file, { schema = "none" }), function(record, v)
    count(t, record, v)
    if not o.out then return end
    record.verdict, record.reason, record.graded = v.verdict, v.reason, v.answer
    lines[#lines + 1] = json.encode(record)
  end)
  show(o, t, host.now() - start)
  if o.out then save.write(o.out, table.concat(lines, "\n") .. "\n") end
end

return M
