--- `--trace FILE`: some steps are traced, shown as a table, and written to a file. docs/trace.md says how to read both.

local exit = require "cft.base.exit"
local files = require "cft.report.trace.file"
local host = require "cft.host"
local rates = require "cft.engine.rates"
local save = require "cft.io.save"
local tables = require "cft.report.trace.table"
local trace = require "cft.engine.trace"

local M = {}

local LONG = 3  -- steps, where nobody says which

--- Which steps, from "N-M" or "N". @string text @treturn ?int the first @treturn ?int the last; nil where it is no such text
function M.steps(text)
  local first, last = text:match "^(%d+)%-(%d+)$"
  first = tonumber(first or text:match "^%d+$")
  last = tonumber(last) or first
  if first and first >= 1 and first <= last and last < 2 ^ 53 then return first, last end
end

-- What was raised, without a line of somebody's script: it is no fault of that.
local function plain(why) return (tostring(why):gsub("^[^\n]-:%d+: ", "")) end

--- End the program where a trace cannot be written to a path: now, rather than when all is over.
-- @string path
function M.refuse(path)
  if host.kind(path) then exit.fail(exit.USAGE, "--trace: %s is there already; remove it, or name another file", path) end
  local can, why = pcall(function() save.writer(path):discard() end)
  if not can then exit.fail(exit.FAILED, "--trace: %s", plain(why)) end
end

--- End the trace that is on, and write its file.
-- @string path
-- @param device of `tensor.device`, which is measured for what it could do
-- @treturn table for `M.say`; its `failed` says what went wrong, line by line
function M.finish(path, device)
  local t, failed = trace.stop(), {}
  if t.failed then failed[1] = "it is cut short: " .. t.failed end
  local measured, reached = pcall(rates.of, device, tables.dtypes(t))
  if not measured then failed[#failed + 1] = "nothing to hold it against: " .. plain(reached) end
  reached = measured and reached or nil
  local written, why = false, path .. " is there now, and stays"
  if not host.kind(path) then written, why = pcall(files.write, path, t, reached) end
  if not written then failed[#failed + 1] = "not written: " .. plain(why) end
  return { rows = tables.rows(t, reached), rates = reached, device = t.device, path = written and path, failed = failed }
end

--- Print a trace that is over.
-- @tab made of `finish`
-- @string what was traced, "steps 2 to 4"
-- @func say takes a format and its values
function M.say(made, what, say)
  say("trace: %s on %s", what, made.device)
  tables.say(made.rows, made.rates, say)
  for _, why in ipairs(made.failed) do say("trace: %s", why) end
  if made.path then say("trace: %s is for ui.perfetto.dev or chrome://tracing", made.path) end
end

-- ---- of a run ------------------------------------------------------------------------------------

local Plan = {}
Plan.__index = Plan

--- What a run traces. The second step to the fourth, where nobody says which: the first one takes memory and warms up.
-- @tab o `path`; `steps`, a text as of `M.steps`, or nil; `done` and `all`, the run's steps; `device`; `log`
-- @treturn Plan for `cft.train`
function M.plan(o)
  M.refuse(o.path)
  local first, last
  if o.steps then
    first, last = M.steps(o.steps)
    if last > o.all or first <= o.done then
      exit.fail(exit.USAGE, "--trace-steps %s: this run makes steps %d to %d", o.steps, o.done + 1, o.all)
    end
  else
    first = math.min(o.done + 2, o.all)
    last = math.min(first + LONG - 1, o.all)
  end
  return setmetatable({ path = o.path, first = first, last = last, device = o.device, log = o.log }, Plan)
end

--- A step is about to be made. @int step from 1
function Plan:before(step)
  if self.over or step < self.first or step > self.last then return end
  if not trace.is_on() then
    local can, why = pcall(trace.start, self.device)
    if not can then
      self.over = true
      self.log:close_line()
      self.log:say("trace: none, it cannot begin: %s", plain(why))
      return
    end
    self.began = step
  end
end

-- The last step that is traced has been: the file is written. Its table comes at the end of the run.
local function close(self)
  self.over = true
  self.what = self.made == nil and ("step %d, which did not end,"):format(self.began)
    or self.began == self.made and ("step %d"):format(self.made) or ("steps %d to %d"):format(self.began, self.made)
  self.traced = M.finish(self.path, self.device)
end

--- A step is over, with all that stands around it. @int step from 1
function Plan:after(step)
  if self.over or not self.began then return end
  self.made = step
  if step >= self.last then close(self) else pcall(trace.sync) end  -- what that says is said at the end
end

--- The run is over: what there is of a trace is written and shown. Once.
function Plan:finish()
  if self.said then return end
  self.said = true
  if self.began and not self.over then close(self) end
  self.log:close_line()
  if self.traced then
    M.say(self.traced, self.what, function(...) self.log:say(...) end)
  elseif not self.over then
    self.log:say("trace: none, the run ended before step %d", self.first)
  end
end

return M
