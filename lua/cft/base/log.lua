--- What a run says: lines on the screen, one JSON object a step in log.jsonl.

local blame = require "cft.base.blame"
local exit = require "cft.base.exit"
local json = require "cft.base.json"
local host = require "cft.host"
local progress = require "cft.base.progress"
local texts = require "cft.base.text"

local M = {}
local Log = {}
Log.__index = Log

-- ---- a line of the file ------------------------------------------------------------------------

-- What a line has, in this order: its key, that of the step's numbers, and whether it was measured (six digits are
-- kept then; counts and times are whole).
local columns = {
  { "step", "step" }, { "time", "time" }, { "tokens", "tokens_so_far" }, { "loss", "loss", true }, { "lr", "lr", true },
  { "grad_norm", "grad_norm", true }, { "tok_s", "tokens_per_s", true }, { "epoch", "epoch", true },
  { "seconds", "seconds", true }, { "memory", "memory" }, { "step_tokens", "tokens" }, { "step_learned_tokens", "learned_tokens" },
  { "step_shared_tokens", "shared_tokens" }, { "ledger", "ledger", true }, { "heldout_loss", "heldout_loss", true },
  { "heldout_ledger", "heldout_ledger", true }, { "notes", "notes" }, { "spike", "spike" },
  { "save_wait", "save_wait", true }, { "ranks", "ranks", true },
}
local keys = {}
for i, column in ipairs(columns) do keys[i] = column[1] end

--- Names that a metric of a recipe's own cannot have: those of a line, and of a step's numbers.
M.taken = {}
for _, name in ipairs { "seconds_a_step", "own", "log", "run", "best", "since_best", "is_best", "evaluated" } do
  M.taken[name] = true
end
for _, column in ipairs(columns) do M.taken[column[1]], M.taken[column[2]] = true, true end

-- A value as JSON has it; what was measured, with six digits.
local function sane(v, measured)
  v = json.sayable(v)
  if not measured then return v end
  if type(v) == "table" then
    for k, e in pairs(v) do v[k] = sane(e, measured) end  -- a copy already
    return v
  end
  return type(v) == "number" and v % 1 ~= 0 and tonumber(("%.6g"):format(v)) or v
end

-- The step's numbers as a line; metrics of a recipe's own, `own`, stand at its end.
local function line_of(t)
  local line, order = {}, { unpack(keys) }
  for _, column in ipairs(columns) do line[column[1]] = sane(t[column[2]], column[3]) end
  line.time = math.floor(1000 * host.time() + 0.5) / 1000
  for name, value in pairs(t.own or {}) do line[json.sayable(name)] = sane(value, true) end
  return json.encode(line, { order = order })
end

-- ---- a log -------------------------------------------------------------------------------------

--- @string[opt] folder where log.jsonl goes, when there is something to say; nil: screen only
-- @tab[opt] o `quiet`; `write`, from path and text to a file that appears whole, for `go_on`
-- @usage local log = cft.log.open(folder, { quiet = true })  -- a folder that is there, or none
-- log:of("3f2a", "2026-01-01T00:00:00Z")
-- log:say("%d records", 3)
-- log:close()
function M.open(folder, o)
  o = o or {}
  return setmetatable({ screen = progress.new(), quiet = o.quiet, write = o.write, path = folder and folder .. "/log.jsonl", fresh = true }, Log)
end

--- Whose log this is: what its first line says.
-- @string run id of the run @string started when it began, ISO 8601
function Log:of(run, started)
  self.header = json.encode({ log = 1, run = run, started = started }, { order = { "log", "run", "started" } }) .. "\n"
end

--- This run goes on after a step: what an earlier one wrote of later steps goes, and what is no whole line, as soon
-- as there is something to write in its place.
-- @int step
-- @usage local log = cft.log.open(nil, { quiet = true })
-- log:go_on(10)
function Log:go_on(step) self.kept, self.fresh = step, false end

-- Cut the file back to that step; it is replaced whole or not at all, and only where that changes it. A last line without
-- its end is what a crash leaves; other lines that are no step's, or not in order, somebody has put there: they go, and are named.
local function cut(self)
  local file = io.open(self.path, "rb")
  local text, lines, odd, last, number = file and file:read "*a" or "", {}, {}, -math.huge, 0
  if file then file:close() end
  for line, ending in text:gmatch "([^\n]*)(\n?)" do
    number = number + 1
    local t = json.decode(line)
    local step = type(t) == "table" and t.step
    local header = type(t) == "table" and t.log ~= nil and not lines[1]
    if header or type(step) == "number" and step > last and step <= self.kept then
      lines[#lines + 1] = line .. "\n"
      last = step or last
    elseif ending ~= "" and not (type(step) == "number" and step > self.kept) then
      odd[#odd + 1] = number
    end
  end
  local first = lines[1] and json.decode(lines[1])
  if self.header and not (first and first.log) then table.insert(lines, 1, self.header) end
  local kept = table.concat(lines)
  if kept ~= text then self.write(self.path, kept) end
  if odd[1] then
    self:say("%s: %d %s no step's, or %s not in order, and %s gone: %s %s%s", self.path, #odd, #odd == 1 and "line is" or "lines are",
      #odd == 1 and "is" or "are", #odd == 1 and "is" or "are", #odd == 1 and "line" or "lines", table.concat(odd, ", ", 1, math.min(#odd, 5)),
      #odd > 5 and ", ..." or "")
  end
end

-- The file, open for the next line.
local function begin(self)
  if self.kept then cut(self) end
  local file, why = io.open(self.path, self.fresh and "wb" or "ab")
  if not file then blame("log: %s", why) end
  self.file = file
  if self.fresh and self.header then file:write(self.header) end
  self.fresh, self.kept = false, nil
end

--- A line for the person at the screen; what it quotes of data cannot steer the terminal.
function Log:say(line, ...)
  self:close_line()
  if not self.quiet then print(texts.printable(select("#", ...) > 0 and line:format(...) or line)) end
  io.stdout:flush()
end

--- One line of log.jsonl, there at once for whoever reads along.
-- @tab t the numbers of a step, with `own`, metrics of the recipe's
function Log:record(t)
  if not self.path then return end
  if not self.file then begin(self) end
  local ok, why = self.file:write(line_of(t), "\n")
  if ok then ok, why = self.file:flush() end
  local folder = self.path:match "^(.*)/[^/]*$"
  if folder and not host.kind(folder) then
    exit.fail(exit.FAILED, "%s: the folder of this run was removed while it runs", folder)
  end
  if not ok and not self.failed then
    self.failed = true
    self:close_line()
    io.stderr:write(("cftrun: %s: %s; the run goes on without it\n"):format(self.path, why))
  end
end

--- A step's line, here and in log.jsonl.
-- @tab t its numbers; `notes`, what there was to say meanwhile, comes before it
-- @int steps of the run
-- @usage local log = cft.log.open(nil, { quiet = true })
-- log:progress({ step = 1, loss = 2.5, lr = 1e-3, grad_norm = 1, tokens_per_s = 900 }, 10)
-- log:record { step = 2, loss = 2.25, lr = 1e-3, grad_norm = 1, tokens_per_s = 900 }
-- log:life("step 2", "backward")
-- log:close_line()
-- log:losses()
function Log:progress(t, steps)
  self:record(t)
  if self.quiet then return end
  for _, note in ipairs(t.notes or {}) do self:say("%s", note) end
  self.screen:step(t, steps)
end

--- A sign of life inside of a long step, see `cft.base.progress`. @string what @string where
function Log:life(what, where)
  if not self.quiet then self.screen:life(what, where) end
end

--- The losses so far, for a curve: of a long run, means of some steps each.
-- @treturn table a list of numbers
function Log:losses() return self.screen.losses end

--- End a line that was being replaced.
function Log:close_line() self.screen:close() end

--- Close log.jsonl.
function Log:close()
  self:close_line()
  if self.file then self.file:close() end
  self.file = nil
end

return M
