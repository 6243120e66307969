--- An error at the user's line.
-- The innermost frame outside of the library is found by its source, not by counting levels: a
-- tail call drops its frame, and a helper of a helper would name the helper's line.
-- @module cft.base.blame

local here = debug.getinfo(1, "S").source:match "^(@.*)base/blame%.lua$"
local edited = os.getenv "CFT_LUA_PATH"  -- some files may come from there and the rest be built in
edited = edited and edited ~= "" and "@" .. edited .. "/cft/"

local function of_library(source)
  return source:sub(1, #here) == here or edited and source:sub(1, #edited) == edited
end

--- Raise `message` at the innermost line that is not the library's own.
-- @string message
-- @param ... with more arguments, `message` is a format and these are what it wants
return function(message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  local level = 2
  while true do
    local f = debug.getinfo(level, "Sl")
    if not f then error(message, 0) end
    if f.currentline > 0 and not of_library(f.source) then
      error(("%s:%d: %s"):format(f.short_src, f.currentline, message), 0)
    end
    level = level + 1
  end
end
