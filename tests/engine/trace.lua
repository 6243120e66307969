-- A trace: what it notes of a device's calls, and that nothing of it stays. CFT_TEST_DEVICE names another device.
local cft = require "cft"
local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local host = require "cft.host"
local kernels = require "cft.engine.kernels"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"
local trace = require "cft.engine.trace"

local NAME = os.getenv "CFT_TEST_DEVICE" or "cpu"
local device = tensor.device(NAME)

-- Calls of `fn` under a trace: a list of { op, dtype, shape, flops, bytes }, and the trace.
local function traced(fn, most)
  trace.start(device, most)
  local ok, why = pcall(fn)
  local t = trace.stop()
  if not ok then error(why, 0) end
  expect.same(t.failed, nil)
  local list = {}
  for op, dtype, shape, c in t:each() do
    list[#list + 1] = { op = op, dtype = dtype, shape = shape, flops = c.flops, bytes = c.bytes, queued = c.queued,
                        returned = c.returned, begun = c.begun, ended = c.ended }
  end
  expect.same(#list, t.count)
  return list, t
end

-- What a table of C has in it.
local function entries()
  local list = { device.kernels, device.upload, device.download, device.copy, device.zero }
  for name in door.ffi.string(door.C.cft_cdef()):match("typedef struct cft_kernels (%b{})"):gmatch "%(%*([%w_]+)%)" do
    list[#list + 1] = device.kernels[name] ~= nil and tostring(device.kernels[name]) or "none"
  end
  return list
end

return {
  { "an op is noted with its dtype, shape, FLOPs and bytes", function()
    local o = { device = NAME, dtype = "f32" }
    local a, b = cft.ones({ 3, 4 }, o), cft.ones({ 5, 4 }, o)
    local list = traced(function() kernels.matmul(a, b, 0, 1):release() end)
    expect.same(#list, 1)
    local c = list[1]
    expect.same({ c.op, c.dtype, c.shape, c.flops, c.bytes }, { "matmul", "f32", "3 x 5 x 4 nt", 120, 4 * (12 + 20 + 15) })
    list = traced(function() a:copy_(cft.ones({ 3, 4 }, o)) end)
    c = list[#list]
    expect.same({ c.op, c.shape, c.bytes }, { "copy", "48 B", 96 })
  end },
  { "every kernel that a step calls is noted, in the order of its calls; its FLOPs are those of the arithmetic", function()
    for _, learned in ipairs { 1, 0.4 } do
      local model = step.model("demo", "f32", NAME)
      local batch = step.batch(model.config.vocab, 96, learned, { 40, 32 })
      local list, t = traced(function()
        cft.scope(function() model:loss(batch):backward() end)
      end)
      local flops, attention, last = 0, 0, 0
      for _, c in ipairs(list) do
        flops = flops + c.flops
        if c.op:find "^attention" then attention = attention + c.flops end
        expect.truthy(c.queued >= last and c.returned >= c.queued and c.ended >= c.begun, c.op)
        last = c.returned
      end
      -- The head and all behind it are of the rows with loss: exact but for attention, which the formula scales by m / n,
      -- and for a GPU's attention, whose rows go on to the end of their sequence.
      expect.close(flops, step.arithmetic(model.config, batch, true), NAME == "cpu" and (learned == 1 and 1e-3 or 1e-2) or 0.05)
      expect.truthy(attention > 0 and attention < flops / 10)
      expect.same(t.lost, 0)
      model:release()
    end
  end },
  { "a device's table is its own again, and what is called then is not noted", function()
    local before = entries()
    local list, t = traced(function() expect.truthy(device.kernels ~= before[1] and device.zero ~= before[5]) end)
    expect.same({ #list, t.count, trace.is_on() }, { 0, 0, false })
    local after = entries()
    for i = 1, #before do expect.truthy(before[i] == after[i], i) end
    -- After an error of a kernel as well.
    traced(function()
      local x = cft.ones({ 2 }, { device = NAME })
      expect.raises("no %w+ kernel for cast in u8", function() x:copy_(cft.zeros({ 2 }, { dtype = "u8" })) end)
    end)
    expect.truthy(device.kernels == before[1])
  end },
  { "what has no place is counted", function()
    local x = cft.ones({ 8 }, { device = NAME })
    local list, t = traced(function()
      for _ = 1, 7 do x:fill_(2) end
    end, 3)
    expect.same({ #list, t.lost }, { 3, 4 })
    expect.same(x:to_table(), { 2, 2, 2, 2, 2, 2, 2, 2 })
  end },
  { "one trace at a time, of one call at least", function()
    traced(function() expect.raises("trace: one of " .. NAME .. ".* is on already", trace.start, device) end)
    expect.raises("trace: room for 0 calls; one at least", trace.start, device, 0)
    expect.same(trace.stop(), nil)
  end },
  { "spans hold each other, and an error's are closed", function()
    local _, t = traced(function()
      local a = trace.begin "a"
      trace.done(trace.begin "b")
      trace.begin "left open"
      trace.done(a)
      trace.begin "to the end"
    end)
    local names = {}
    for i, s in ipairs(t.spans) do
      names[i] = s.name .. " " .. s.depth
      expect.truthy(s.ended >= s.begun and s.begun >= t.started and s.ended <= t.ended)
    end
    expect.same(names, { "a 0", "b 1", "left open 1", "to the end 0" })
    expect.same({ trace.begin "none is on", trace.done(nil) }, {})
  end },
  { "times are those of the host's clock, asked for as often as one likes", function()
    local x = cft.ones({ 1000 }, { device = NAME })
    local start = host.now()
    local list = traced(function()
      x:fill_(1)
      trace.sync()
      x:fill_(3)
      trace.sync()
      trace.sync()
      x:fill_(4)
    end)
    expect.same(#list, 3)
    for i, c in ipairs(list) do
      -- A device's clock is laid beside the host's to some microseconds.
      expect.truthy(c.begun > start - 1e-3 and c.ended < host.now() + 1e-3 and c.ended >= c.begun)
      expect.truthy(i == 1 or c.begun >= list[i - 1].ended - 1e-3)
    end
  end },
}
