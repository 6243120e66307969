--- A trace as a file that Perfetto and chrome://tracing open: JSON in the Trace Event Format.
--
-- One process, and a thread a track: the spans of the run, the host's calls, the work of the device. Times are microseconds
-- since the trace began.

local json = require "cft.base.json"
local save = require "cft.io.save"

local M = {}

local RUN, HOST, DEVICE = 1, 2, 3  -- tracks

-- An event that lasts. `rest` is JSON behind it.
local function lasting(t, track, name, begun, ended, rest)
  return ('{"ph":"X","pid":1,"tid":%d,"name":%s,"ts":%.3f,"dur":%.3f%s}'):format(track, json.encode(name),
    1e6 * (begun - t.started), 1e6 * math.max(ended - begun, 0), rest)
end

local function named(kind, track, name, place)
  return ('{"ph":"M","pid":1,"tid":%d,"name":"thread_%s","args":{"%s":%s}}'):format(track, kind, kind,
    place or json.encode(name))
end

local function argument(name, value)
  return value ~= 0 and (',"%s":%.0f'):format(name, value) or ""
end

-- Every event of a trace, by `put(text)`.
local function each_event(t, put)
  local tracks = { { RUN, "run" }, { DEVICE, t.device .. (t.queues and ", its queue" or "") } }
  if t.queues then table.insert(tracks, 2, { HOST, "calls of the host" }) end
  put(('{"ph":"M","pid":1,"tid":0,"name":"process_name","args":{"name":%s}}'):format(json.encode("cftrun, " .. t.device)))
  for i, track in ipairs(tracks) do
    put(named("name", track[1], track[2]))
    put(named("sort_index", track[1], nil, tostring(i)))
  end
  for _, s in ipairs(t.spans) do put(lasting(t, RUN, s.name, s.begun, s.ended, ',"cat":"span"')) end
  for op, dtype, shape, c in t:each() do
    local arguments = (',"args":{"shape":%s,"dtype":"%s"%s%s}'):format(json.encode(shape), dtype,
      argument("bytes", c.bytes), argument("flops", c.flops))
    put(lasting(t, DEVICE, op, c.begun, c.ended, ',"cat":"op"' .. arguments))
    if t.queues then put(lasting(t, HOST, op, c.queued, c.returned, ',"cat":"call"')) end
  end
end

--- Write a trace, whole or not at all.
-- @string path
-- @tab t of `cft.engine.trace`
-- @tab[opt] rates of `cft.engine.rates`, which stand in the file as well
function M.write(path, t, rates)
  local file = save.writer(path)
  local written, why = pcall(function()
    local other = { calls_not_noted = t.lost, device_failed = t.failed }
    if rates then
      other.copy_bytes_per_s = rates.copy
      for dtype, rate in pairs(rates.flops) do other["flops_per_s_" .. dtype] = rate end
    end
    file:put(('{"displayTimeUnit":"ms","otherData":%s,"traceEvents":['):format(json.encode(other)))
    local comma = "\n"
    each_event(t, function(text)
      file:put(comma .. text)
      comma = ",\n"
    end)
    file:put "\n]}\n"
    file:commit()
  end)
  if not written then
    file:discard()
    error(why, 0)
  end
end

return M
