--- Work of a device that is recorded once and then queued again by one call: CUDA graphs. `kernels/device.h` says what a
-- recording takes, and where its memory is.

local door = require "cft.engine.ffi"
local C, ffi = door.C, door.ffi

local M = {}
local Graph = {}
Graph.__index = Graph

local made = ffi.new "cft_graph *[1]"

-- Whether a device has graphs, now: none while it is traced. @param device of `tensor.device`
function M.possible(device) return C.cft_device_has_graphs(device) ~= 0 end

-- Do what is to be recorded later, and learn what memory that takes. @param device @func fn @return what fn returns
function M.rehearse(device, fn)
  door.check(C.cft_graph_begin(device, 0))
  local ok, result = pcall(fn)
  door.check(C.cft_graph_end(device, made))
  if not ok then error(result, 0) end
  return result
end

-- Record what `fn` asks of a device, which does none of it.
-- @param device @func fn
-- @return the graph and the tensor that fn returned; or nil and why it could not be recorded
function M.record(device, fn)
  if C.cft_graph_begin(device, 1) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  local ok, result = pcall(fn)
  local status = C.cft_graph_end(device, made)
  if status ~= C.CFT_OK then
    local why = ffi.string(C.cft_last_error())
    if ok then result:release() end
    return nil, why
  end
  local graph = setmetatable({ c = made[0], device = device }, Graph)
  if ok then return graph, result end
  graph:release()
  error(result, 0)
end

-- Queue it once more.
function Graph:launch() door.check(C.cft_graph_launch(self.device, self.c)) end

-- No more of it. What was made while it was recorded is released before.
function Graph:release()
  C.cft_graph_free(self.device, self.c)
  self.c = nil
end

-- Give back the memory of graphs, if there are none left.
function M.trim(device) C.cft_graph_free(device, nil) end

return M
