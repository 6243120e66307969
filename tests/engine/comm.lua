-- Communicators without a GPU: options, and what the CPU answers. tests/cuda_emu/collectives.lua has ranks.
local comm = require "cft.engine.comm"
local expect = require "tests.expect"

local id = ("x"):rep(128)

local function refuses(message, options)
  return { "open refuses: " .. message, function() expect.raises(message, comm.open, options) end }
end

return {
  { "the CPU has none", function()
    local says = "comm: the device cpu has no collectives; each rank wants a GPU %(cuda, cuda:N%)"
    expect.raises(says, comm.id, "cpu")
    expect.raises(says, comm.open, { id = id, rank = 1, size = 2, device = "cpu" })
  end },
  refuses("comm.open: 'id' is required", { rank = 0, size = 1, device = "cpu" }),
  refuses("comm.open: 'id' must be what comm.id%(%) has made, 128 bytes, got 'short'",
    { id = "short", rank = 0, size = 1, device = "cpu" }),
  refuses("comm.open: rank 2 of 2; ranks are numbered from 0", { id = id, rank = 2, size = 2, device = "cpu" }),
  refuses("comm.open: 'rank' must be 0 or more, got %-1", { id = id, rank = -1, size = 2, device = "cpu" }),
  refuses("comm.open: 'size' must be from 1 to 2147483647, got 0", { id = id, rank = 0, size = 0, device = "cpu" }),
  refuses("comm.open: 'timeout' must be from 0.001 to 1000000000, got 0",
    { id = id, rank = 0, size = 1, timeout = 0, device = "cpu" }),
  refuses("comm.open: unknown option 'ranks'; did you mean 'rank'%?",
    { id = id, ranks = 0, size = 1, device = "cpu" }),
}
