--- A trace: what a device did while somebody looked, and what the program was about meanwhile.
--
-- C notes the calls of the device (`cft_trace.h`), this file the spans that hold them: `begin "forward"` and `done` around
-- a stretch of a step. Where no trace is on, both return at once.
-- @module cft.engine.trace

local door = require "cft.engine.ffi"
local host = require "cft.host"
local tensor = require "cft.engine.tensor"
local C, ffi = door.C, door.ffi

local M = {}

--- How many calls one trace has room for: 104 bytes each in memory, some 250 in a file.
M.MOST = 2 ^ 18
local MOST_SPANS = 2 ^ 16

local on  -- the trace that is on: `device`, `started`, `spans`, `open`

--- Begin a trace.
-- @param device of `tensor.device`
-- @int[opt=M.MOST] most calls that are noted; further ones are counted
-- @raise one is on already; the device has failed
function M.start(device, most)
  door.check(C.cft_trace_start(device, most or M.MOST))
  on = { device = device, started = host.now(), spans = {}, open = {} }
end

--- Is a trace on?
function M.is_on() return on ~= nil end

--- Begin a span: it lasts until `done`, and holds those that begin meanwhile.
-- @string name
-- @treturn ?table for `done`; nil where no trace is on
function M.begin(name)
  if not on or #on.spans == MOST_SPANS then return nil end
  local span = { name = name, begun = host.now(), depth = #on.open }
  on.spans[#on.spans + 1], on.open[#on.open + 1] = span, span
  return span
end

--- End a span, and those within it that an error has left open.
-- @tab[opt] span what `begin` gave
function M.done(span)
  if not span or not on then return end
  local now = host.now()
  for i = #on.open, span.depth + 1, -1 do
    on.open[i].ended = now
    on.open[i] = nil
  end
end

--- Wait for the device, which then says when its work began and ended. Between two steps; how many events it
-- keeps is bounded by that.
function M.sync() door.check(C.cft_trace_sync()) end

local names = {}  -- op's number → its name
for op = 0, math.huge do
  local name = C.cft_trace_op(op)
  if name == nil then break end
  names[op] = ffi.string(name)
end

--- A trace that is over.
-- @type Traced
local Traced = {}
Traced.__index = Traced

--- What was noted, oldest first, until another trace begins: `for op, dtype, shape, c in t:each() do`; `c` has the numbers
-- `flops`, `bytes`, the host's `queued` and `returned`, the device's `begun` and `ended`.
-- @treturn function iterator
function Traced:each()
  local i = -1
  return function()
    i = i + 1
    if i >= self.count then return nil end
    local c = self.list[i]
    return names[c.op], door.dtype_names[c.dtype], ffi.string(c.shape), c
  end
end

--- End the trace.
-- @treturn Traced `device`, its name; `queues`, whether its work is done later than it is asked for; `started`, `ended`;
-- `count` of calls; `spans`, in the order of their beginnings: `name`, `begun`, `ended`, `depth`; `lost`, calls that were
-- not noted; `failed`, what the device said if it did. Times are seconds of `host.now`.
function M.stop()
  if not on then return nil end
  local status = C.cft_trace_stop()
  local failed = status ~= C.CFT_OK and ffi.string(C.cft_last_error()) or nil
  if on.open[1] then M.done(on.open[1]) end
  local list, lost = ffi.new "const cft_traced *[1]", ffi.new "int64_t[1]"
  local count = tonumber(C.cft_trace_calls(list, lost))
  local made = setmetatable({
    device = tensor.device_name(on.device), queues = on.device.moment ~= nil, started = on.started, ended = host.now(),
    list = list[0], count = count, spans = on.spans, lost = tonumber(lost[0]), failed = failed,
  }, Traced)
  on = nil
  return made
end

return M
