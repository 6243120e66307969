-- Communicators without a GPU: options, and what the CPU answers. tests/ranks and tests/cuda_emu/collectives.lua have ranks.
local comm = require "cft.engine.comm"
local expect = require "tests.expect"
local tensor = require "cft.engine.tensor"

local id = ("x"):rep(128)

local function refuses(message, options)
  return { "open refuses: " .. message, function() expect.raises(message, comm.open, options) end }
end

return {
  { "one rank: sums and parts are what there is", function()
    local c = comm.open { id = comm.id "cpu", rank = 0, size = 1, device = "cpu" }
    tensor.scope(function()
      local x, y = tensor.full({ 5 }, 3, { dtype = "bf16" }), tensor.zeros({ 5 }, { dtype = "bf16" })
      expect.same(c:all_reduce(x):to_table(), { 3, 3, 3, 3, 3 })
      expect.same(c:reduce_scatter(y, x):to_table(), { 3, 3, 3, 3, 3 })
      expect.same(c:all_gather(tensor.zeros({ 5 }, { dtype = "bf16" }), y):to_table(), { 3, 3, 3, 3, 3 })
      c:beside(function() c:all_reduce(x) end)
      c:wait()
      expect.raises("reduce_scatter: the whole is %(5%) and a part %(4%); 1 ranks have 1 of these", c.reduce_scatter, c,
        tensor.zeros({ 4 }, { dtype = "bf16" }), x)
      expect.raises("all_gather: the whole is f32 and the part bf16", c.all_gather, c, tensor.zeros { 5 }, y)
      expect.raises("all_reduce: the tensor %(2%) is u8; f32, bf16, f64 or i32 wanted", c.all_reduce, c,
        tensor.zeros({ 2 }, { dtype = "u8" }))
    end)
    expect.same(c:gather_texts "mine", { "mine" })
    local long = ("x"):rep(10000)
    expect.same(c:gather_texts(long), { long })
    c:close()
    expect.raises("this communicator was closed", c.gather_texts, c, "mine")
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
