--- How a run ends: errors that carry an exit code. docs/cli.md has the table for users.
-- @module cft.base.exit
-- @usage local exit = require "cft.base.exit"
-- pcall(exit.fail, exit.MISSING, "no model at %s", "m")

local host = require "cft.host"

local M = {
  OK = 0,
  FAILED = 1,        -- an error in a script, bad data
  USAGE = 2,         -- an unknown option or key, no such recipe
  DEVICE = 3,        -- a device, a driver or a library is missing
  MISSING = 4,       -- a model or data are not on this machine
  NOT_FINITE = 5,    -- the loss, the gradient, a weight or a moment became NaN or infinite
  LOST = 6,          -- of several ranks one is gone or stands still; starting again from the newest checkpoint would help
  INTERRUPTED = 130, -- Ctrl-C
  TERMINATED = 143,  -- SIGTERM, SIGHUP
}

local Exit = {}
Exit.__index = Exit
function Exit:__tostring() return self.message or "" end

--- Raise an error that ends cftrun with `code`. At the prompt it ends only the line.
-- @int code one of the constants above
-- @string message what came, what was wanted, where; with more arguments a format
-- @param ... what the format wants
-- @usage local ok, err = pcall(cft.exit.fail, cft.exit.USAGE, "steps: %d is too few", 0)
-- tostring(err), cft.exit.code(err)   --> "steps: 0 is too few" 2
function M.fail(code, message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  error(setmetatable({ code = code, message = message }, Exit), 0)
end

--- Leave without a message, from any depth: what there is to say was said.
-- @int[opt=0] code
-- @usage local ok, err = pcall(cft.exit.leave, cft.exit.INTERRUPTED)
-- cft.exit.code(err)   --> 130
function M.leave(code)
  error(setmetatable({ code = code or M.OK }, Exit), 0)
end

--- The exit code of a run that a signal has ended.
-- @string[opt] signal its name: "SIGTERM"
-- @treturn int
-- @usage cft.exit.by_signal "SIGTERM"   --> 143
function M.by_signal(signal)
  if signal == "SIGTERM" or signal == "SIGHUP" then return M.TERMINATED end
  if signal == "SIGPIPE" then return M.FAILED end  -- what it prints cannot be written
  return M.INTERRUPTED
end

--- Has Ctrl-C stopped the code that raised this? Then it is no mistake of that code, and goes on up.
-- @param err what pcall returned
-- @treturn bool
-- @usage cft.exit.is_interrupt "data.jsonl: no such file"   --> false
function M.is_interrupt(err)
  return type(err) == "string" and err:find "interrupted$" ~= nil and host.end_signal() ~= nil
end

--- The exit code of anything that was raised.
-- @param err what pcall returned
-- @treturn int `FAILED` for plain errors
-- @usage cft.exit.code "any error of Lua"   --> 1
function M.code(err)
  return getmetatable(err) == Exit and err.code or M.FAILED
end

return M
