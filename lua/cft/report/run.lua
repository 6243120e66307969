--- A run's folder, read: run.json, log.jsonl, summary.json, samples.jsonl, data.json. docs/run-folder.md says what they are.
--
-- The folder may be anybody's, so nothing in it is believed: what is not of its type is as if it were not there, and
-- lines that are no JSON are counted. A run that still goes on can be read; a folder of a run of an earlier program too.
-- @module cft.report.run

local exit = require "cft.base.exit"
local host = require "cft.host"
local json = require "cft.base.json"
local ledgers_of = require "cft.train.ledger"
local paces = require "cft.ranks.pace"

local M = {}

local MOST = 2 ^ 30  -- bytes of a file that is read whole

local function contents(path)
  local file = host.kind(path) == "file" and io.open(path, "rb")
  if not file then return nil end
  local bytes = file:seek "end"
  if bytes > MOST then
    file:close()
    exit.fail(exit.FAILED, "%s has %d bytes; a file of a run has at most %d", path, bytes, MOST)
  end
  file:seek "set"
  local text = file:read "*a"
  file:close()
  return text
end

local function object(value) return type(value) == "table" and not json.is_array(value) and value or nil end

-- The objects of a file, a line each, and how many lines are none. The last line may be half written.
local function lines_of(path)
  local list, broken, text = {}, 0, contents(path)
  for line in (text or ""):gmatch "([^\n]+)" do
    local value = object((json.decode(line)))
    if value then list[#list + 1] = value else broken = broken + 1 end
  end
  if broken > 0 and not text:find "\n$" then broken = broken - 1 end
  return list, broken, text ~= nil
end

local function object_of(path)
  local text = contents(path)
  return text and object((json.decode(text))) or {}
end

-- A number that can be drawn: neither nan nor near the end of what a double holds.
-- @param value of anybody's
-- @treturn ?number nil where it is not one
function M.number(value)
  return type(value) == "number" and value == value and math.abs(value) < 1e300 and value or nil
end

-- A text, or nil.
-- @param value of anybody's
-- @treturn ?string
function M.text(value) return type(value) == "string" and value or nil end

-- A field of an object, or of one in it; nil where there is none of that type.
-- @param value @string kind @param ... names
function M.field(value, kind, ...)
  for _, name in ipairs { ... } do
    if type(value) ~= "table" then return nil end
    value = value[name]
  end
  if type(value) ~= kind or value == json.null then return nil end
  return kind ~= "number" and value or M.number(value)
end

-- ---- the log -----------------------------------------------------------------------------------

-- Lines of programs before logs had a head: their names, and tokens of a step in place of those so far.
local function modern(lines)
  local tokens = 0
  for _, t in ipairs(lines) do
    tokens = tokens + (M.number(t.tokens) or 0)
    t.step_tokens, t.tokens, t.tok_s = t.tokens, tokens, t.tokens_per_s
    t.tokens_per_s, t.seconds_a_step, t.learned_tokens, t.shared_tokens = nil, nil, nil, nil
  end
end

local KNOWN = { step = true, time = true, tokens = true, loss = true, lr = true, grad_norm = true, tok_s = true, epoch = true,
                seconds = true, step_tokens = true, step_learned_tokens = true, step_shared_tokens = true, ledger = true,
                heldout_loss = true, heldout_ledger = true, notes = true, memory = true, best = true, since_best = true,
                is_best = true }

-- Names of what the recipe measured itself, in order.
local function metrics_of(steps)
  local found, list = {}, {}
  for _, t in ipairs(steps) do
    for name, value in pairs(t) do
      if not KNOWN[name] and not found[name] and M.number(value) then
        found[name], list[#list + 1] = true, name
      end
    end
  end
  table.sort(list)
  return list
end

-- Is this entry of a ledger about samples of a verdict, and not about a kind of text?
-- @string name of the entry
-- @treturn bool
function M.is_verdict(name) return name == "right" or name == "wrong" end

-- Names of the entries that ledgers have, kinds of text first.
-- @tab ledgers a list; what is no ledger is passed over
-- @treturn table a list of names
function M.entries(ledgers)
  local found, list = {}, {}
  for _, ledger in ipairs(ledgers) do
    for name, entry in pairs(object(ledger) or {}) do
      if not found[name] and M.field(entry, "number", "loss") then found[name], list[#list + 1] = true, name end
    end
  end
  return ledgers_of.sort(list)
end

--- Points of a curve.
-- @tab run @func of from a line to a number, or nil
-- @treturn table a list of `{ step =, tokens =, y = }`, where `of` gave a number
-- @usage for t in run:steps() do t.twice = 2 * t.loss end
-- local read = cft.report.read(folder)
-- #cft.report.points(read, function(line) return line.twice end)   --> 2
-- #cft.report.ledger_points(read, "ledger", "critique"), cft.report.heldout_ledgers(read).critique ~= nil   --> 2 true
function M.points(run, of)
  local list = {}
  for _, t in ipairs(run.steps) do
    local y = M.number(of(t))
    if y then list[#list + 1] = { step = t.step, tokens = t.tokens, y = y } end
  end
  return list
end

--- The points of a ledger's entry.
-- @tab run as `read` gives it @string which `ledger` or `heldout_ledger` @string name of the entry
function M.ledger_points(run, which, name)
  return M.points(run, function(t) return M.field(t[which], "number", name, "loss") end)
end

-- ---- a folder ----------------------------------------------------------------------------------

local function steps_of(lines)
  local steps, header = {}, {}
  for _, t in ipairs(lines) do
    if t.log then header = t elseif M.number(t.step) then steps[#steps + 1] = t end
  end
  if not header.log then modern(steps) end
  for _, t in ipairs(steps) do t.tokens = M.number(t.tokens) or 0 end
  return steps, header
end

--- Read a run's folder, or end with a message: code 2 where it is no folder, 1 where it holds no run.
-- @string folder
-- @treturn table `folder`; `record`, run.json; `steps`, the lines of log.jsonl from the first step on; `summary`; `kept`,
-- the lines of samples.jsonl; `data`, data.json, or nil; `metrics`, names of the recipe's own; `broken`, lines of the log
-- that are no JSON
-- @usage for t in run:steps() do t.twice = 2 * t.loss end
-- local read = cft.report.read(folder)
-- cft.report.name(read), #cft.report.id(read), cft.report.seconds(read) >= 0   --> "mine" 32 true
-- cft.report.settings(read).steps.value, cft.report.best(read), cft.report.chooser(read)   --> "2" nil nil
function M.read(folder)
  if host.kind(folder) ~= "folder" then
    exit.fail(exit.USAGE, "%s is not the folder of a run%s", folder, host.kind(folder) and "" or ": it is not there")
  end
  local run = { folder = folder, record = object_of(folder .. "/run.json"), summary = object_of(folder .. "/summary.json") }
  local lines, broken, there = lines_of(folder .. "/log.jsonl")
  if not there and not next(run.record) then
    exit.fail(exit.FAILED, "%s holds no run: neither run.json nor log.jsonl is there", folder)
  end
  run.broken, run.kept = broken, lines_of(folder .. "/samples.jsonl")
  run.steps, run.header = steps_of(lines)
  run.metrics = metrics_of(run.steps)
  local data = object_of(folder .. "/data.json")
  run.data = next(data) and data or nil
  return run
end

--- The rank that the others waited for, in words.
-- @tab run @treturn ?string nil where there was none
-- @usage cft.report.slow_rank { summary = { slow_rank = { rank = 1, host = "b", seconds = 2, others = 1, steps = 9, slowest = 9 } } }
--   --> "rank 1 on b was slower than the others in 9 of 9 steps: 2 s a step, they 1 s"
function M.slow_rank(run)
  local slow, numbers = run.summary.slow_rank, {}
  for _, name in ipairs { "rank", "slowest", "steps", "seconds", "others" } do
    numbers[name] = M.field(slow, "number", name)
    if not numbers[name] then return nil end
  end
  local host = M.text(slow.host)
  return host and paces.describe(numbers, host)
end

--- The id of a run, as far as it is known.
function M.id(run) return M.text(run.record.id) or M.text(run.header.run) end

--- A short name of a run: its recipe's, or its folder.
function M.name(run) return M.field(run.record, "string", "recipe", "name") or M.text(run.summary.recipe) or run.folder end

--- The best step by the metric that the run followed, in words; nil where it followed none. @tab run as `read` gives it
function M.best(run)
  local name, value = M.field(run.summary, "string", "best", "metric"), M.field(run.summary, "number", "best", "value")
  local step = M.field(run.summary, "number", "best", "step")
  return name and value and step and ("%s %.6g at step %d"):format(name, value, step) or nil
end

--- The benchmark that chose the checkpoint, in words, since its score says too much; nil where none did.
-- @tab run as `read` gives it
function M.chooser(run)
  local name = M.text(run.summary.selected_by)
  if not name then return nil end
  return ("%s, so its score on %s says too much%s"):format(name, name, run.summary.selected_and_reported == true
    and ": it is reported here all the same (retain)" or "")
end

--- Seconds from the first line to the last; nil where lines have no time.
-- @tab run as `read` gives it
-- @treturn ?number
function M.seconds(run)
  local first, last = run.steps[1], run.steps[#run.steps]
  local from, to = first and M.number(first.time), last and M.number(last.time)
  return from and to and math.max(0, to - from + (M.number(first.seconds) or 0)) or M.number(run.summary.seconds)
end

--- The ledgers of what is held out: before training, where it is known, and as it was measured last.
-- @tab run as `read` gives it
function M.heldout_ledgers(run)
  local last
  for _, t in ipairs(run.steps) do last = object(t.heldout_ledger) or last end
  return object(run.summary.heldout_ledger_before), last or object(run.summary.heldout_ledger_after)
end

--- Settings: name → `{ value =, from = }`, values as texts.
-- @tab run as `read` gives it
function M.settings(run)
  local list = {}
  for name, entry in pairs(object(run.record.settings) or {}) do
    entry = object(entry) or { value = entry }
    local value = entry.value
    if type(value) == "table" then value = json.encode(value) end
    list[name] = { value = (value == nil or value == json.null) and "" or tostring(value), from = M.text(entry.from) or "" }
  end
  return list
end

return M
