--- No stray globals: a misspelt name is an error where it stands, not a nil an hour later.
-- @module cft.base.strict

local check = require "cft.base.check"

local Strict = {}

function Strict.__index(globals, name)
  local hint = type(name) == "string" and check.suggestion(name, globals) or ""
  error(("undeclared variable '%s'%s"):format(tostring(name), hint), 2)
end

function Strict.__newindex(_, name)
  error(("assignment to undeclared variable '%s'; say 'local %s'"):format(name, name), 2)
end

--- From here on reading or assigning an undeclared global is an error. `rawset(_G, name, value)`
-- declares one.
return function()
  setmetatable(_G, Strict)
end
