--- What a run says: lines on the screen, one JSON object a step in log.jsonl.

local blame = require "cft.base.blame"
local format = require "cft.base.format"
local json = require "cft.base.json"
local host = require "cft.host"
local texts = require "cft.base.text"

local M = {}
local Log = {}
Log.__index = Log

--- @string[opt] folder where log.jsonl goes; nil: screen only
-- @tab[opt] o `append` (a resumed run), `quiet`; `write`, from path and text to a file that appears whole, for `go_on`
function M.open(folder, o)
  o = o or {}
  local self = setmetatable({ quiet = o.quiet, write = o.write, started = host.now() }, Log)
  if folder then
    local made, why = host.make_folders(folder)
    self.path, self.fresh = folder .. "/log.jsonl", not o.append
    -- A log that is there already lasts until this run has something to say.
    if made then self.file, why = io.open(self.path, "a") end
    if not self.file then blame("log: %s", why) end
  end
  return self
end

--- This run goes on after a step: what an earlier one wrote of later steps goes, and what is no whole line, as soon
-- as there is something to write in its place.
-- @int step
function Log:go_on(step) self.kept = step end

-- Cut the file back to that step; it is replaced whole or not at all, and only where that changes it.
local function cut(self)
  local file = assert(io.open(self.path, "rb"))
  local text, lines = file:read "*a", {}
  file:close()
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    local t = json.decode(line)
    local later = type(t) == "table" and type(t.step) == "number" and t.step > self.kept
    if type(t) == "table" and not later then lines[#lines + 1] = line .. "\n" end
  end
  local kept = table.concat(lines)
  if kept ~= text then self.write(self.path, kept) end
end

--- A line for the person at the screen; what it quotes of data cannot steer the terminal.
function Log:say(line, ...)
  if not self.quiet then print(texts.printable(select("#", ...) > 0 and line:format(...) or line)) end
  io.stdout:flush()
end

-- JSON has no NaN.
local function finite(v)
  if type(v) == "number" and (v ~= v or v == math.huge or v == -math.huge) then return tostring(v) end
  return v
end

--- One object of log.jsonl, there at once for whoever reads along. @tab t its fields
function Log:record(t)
  if not self.file then return end
  local copy = {}
  for k, v in pairs(t) do copy[k] = finite(v) end
  if self.fresh or self.kept then
    self.file:close()
    if self.kept then cut(self) end
    self.file = assert(io.open(self.path, self.fresh and "w" or "a"))
    self.fresh, self.kept = false, nil
  end
  local ok, why = self.file:write(json.encode(copy), "\n")
  if ok then ok, why = self.file:flush() end
  if not ok and not self.failed then
    self.failed = true
    self:close_line()
    io.stderr:write(("cftrun: %s: %s; the run goes on without it\n"):format(self.path, why))
  end
end

--- A step's line: on a terminal it replaces the one before; in a file, one in ten is written.
-- @tab t its numbers; `notes`, what there was to say meanwhile, comes before it; without `seconds_a_step` no ETA
-- @int steps of the run
function Log:progress(t, steps)
  self:record(t)
  if self.quiet then return end
  for _, note in ipairs(t.notes or {}) do
    self:close_line()
    self:say("%s", note)
  end
  local line = ("step %d/%d  loss %.4f  lr %.2e  norm %.2f  %s tok/s"):format(
    t.step, steps, t.loss, t.lr, t.grad_norm, format.count(t.tokens_per_s))
  if t.seconds_a_step then line = line .. "  ETA " .. format.duration((steps - t.step) * t.seconds_a_step) end
  if t.heldout_loss then line = line .. ("  held out %.4f"):format(t.heldout_loss) end
  if host.isatty and host.isatty(1) and not t.heldout_loss then
    io.stdout:write("\r\27[K", line)
    self.open_line = true
    if t.step == steps then self:close_line() end
  elseif steps <= 50 or t.step == 1 or t.step % math.max(1, math.floor(steps / 20)) == 0
         or t.step == steps or t.heldout_loss then
    self:close_line()
    print(line)
  end
  io.stdout:flush()
end

--- End a line that was being replaced.
function Log:close_line()
  if self.open_line then
    io.stdout:write "\n"
    self.open_line = false
  end
end

--- Close log.jsonl.
function Log:close()
  self:close_line()
  if self.file then self.file:close() end
  self.file = nil
end

return M
