--- Locks of the program: alone, or shared.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

return {
  { "a lock is one holder's, or of several who share it", function()
    local path = process.folder() .. "/lock"
    local alone = assert(host.lock(path))
    local none, why, who = host.lock(path)
    expect.same({ none, why }, { nil, "busy" })
    expect.match(who, "^process " .. host.pid() .. " on ")
    expect.same({ host.lock(path, true) }, { nil, "busy", who })
    alone:release()
    local one, other = assert(host.lock(path, true)), assert(host.lock(path, true))
    expect.same((host.lock(path)), nil)
    one:release()
    other:release()
    assert(host.lock(path)):release()
  end },
}
