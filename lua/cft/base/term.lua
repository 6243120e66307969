--- The terminal: is there one, how wide, in colour?
-- @module cft.base.term

local host = require "cft.host"

local M = {}

local codes = { bold = 1, dim = 2, underline = 4, red = 31, green = 32, yellow = 33, blue = 34,
                magenta = 35, cyan = 36 }
local fds = { [io.stdout] = 1, [io.stderr] = 2 }

--- Does a person watch this stream?
-- @param[opt=io.stdout] stream
function M.is_terminal(stream) return host.isatty(fds[stream or io.stdout]) end

--- Columns of the terminal; 100 where there is none.
-- @param[opt=io.stdout] stream
-- @treturn int
function M.width(stream) return host.width(fds[stream or io.stdout]) or 100 end

--- Are colours wanted on this stream? `NO_COLOR` says no, `CLICOLOR_FORCE` yes, as elsewhere.
-- @param[opt=io.stdout] stream
function M.in_colour(stream)
  local function set(name)
    local value = os.getenv(name)
    return value ~= nil and value ~= ""
  end
  if set "NO_COLOR" then return false end
  if set "CLICOLOR_FORCE" and os.getenv "CLICOLOR_FORCE" ~= "0" then return true end
  return M.is_terminal(stream) and os.getenv "TERM" ~= "dumb"
end

--- Text in a style, where the stream shows one.
-- @string style one or more of bold, dim, underline, red, green, yellow, blue, magenta, cyan
-- @string text
-- @param[opt=io.stdout] stream
-- @usage local term = require "cft.base.term"
-- print(term.paint("bold red", "wrong"))
function M.paint(style, text, stream)
  if not M.in_colour(stream) then return text end
  local numbers = {}
  for word in style:gmatch "%S+" do numbers[#numbers + 1] = codes[word] or error("no style " .. word) end
  return ("\27[%sm%s\27[0m"):format(table.concat(numbers, ";"), text)
end

return M
