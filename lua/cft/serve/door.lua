--- The server of HTTP as Lua sees it: requests in whole, answers whole or in pieces. runtime/cft_serve.h has the rules.

local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"

local C, ffi = door.C, door.ffi

local M = {}
local Server = {}
Server.__index = Server

--- Listen, or end with a message: code 2 for an address that cannot be, 3 without libevent, 1 otherwise.
-- @tab o `host`, `port`, `anywhere`, and the limits `header_bytes`, `body_bytes`, `connections`, `idle_ms`, `unsent_bytes`
-- @treturn Server `port`, and `is_local`: whether only this machine reaches it
function M.new(o)
  local c, out = ffi.new "cft_server_options", ffi.new "cft_server *[1]"
  for name, value in pairs(o) do c[name] = value end
  local status = C.cft_server_new(out, c)
  if status ~= C.CFT_OK then
    local code = status == C.CFT_E_UNSUPPORTED and exit.DEVICE or status == C.CFT_E_ARG and exit.USAGE or exit.FAILED
    exit.fail(code, "%s", ffi.string(C.cft_last_error()))
  end
  local handle = ffi.gc(out[0], C.cft_server_release)
  return setmetatable({ handle = handle, port = C.cft_server_port(handle), is_local = C.cft_server_is_local(handle),
                        request = ffi.new "cft_server_request", view = ffi.new "cft_server_view" }, Server)
end

function Server:release()
  if self.handle then C.cft_server_release(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

--- Let things happen. @int ms how long to wait for something, at most
function Server:poll(ms) door.check(C.cft_server_poll(self.handle, ms)) end

--- Listen no longer.
function Server:stop() C.cft_server_stop(self.handle) end

--- The next request.
-- @treturn ?table `id`, `method`, `path`, `body`; `fault`, why it could be taken for another one and is to be refused
function Server:next()
  local r = self.request
  if not C.cft_server_next(self.handle, r) then return nil end
  local request = { id = tonumber(r.id), method = ffi.string(r.method), path = ffi.string(r.path),
                    body = ffi.string(r.body, r.bytes), fault = r.fault ~= nil and ffi.string(r.fault) or nil }
  C.cft_server_drop_body(self.handle, r.id)
  return request
end

--- A header of a request that is not answered yet. @treturn ?string
function Server:header(id, name)
  local value = C.cft_server_header(self.handle, id, name)
  return value ~= nil and ffi.string(value) or nil
end

--- The id of a request whose client has left; each once. @treturn ?int
function Server:left()
  local id = tonumber(C.cft_server_left(self.handle))
  return id > 0 and id or nil
end

local function put(self, id, headers)
  for name, value in pairs(headers or {}) do door.check(C.cft_server_put(self.handle, id, name, value)) end
end

--- Answer. @int id @int status of HTTP @string body @tab[opt] headers name → value
function Server:reply(id, status, body, headers)
  put(self, id, headers)
  door.check(C.cft_server_reply(self.handle, id, status, body, #body))
end

--- Begin an answer in pieces.
function Server:begin(id, status, headers)
  put(self, id, headers)
  door.check(C.cft_server_begin(self.handle, id, status))
end

--- A piece of it.
function Server:send(id, piece) door.check(C.cft_server_send(self.handle, id, piece, #piece)) end

--- The end of it.
function Server:finish(id) door.check(C.cft_server_end(self.handle, id)) end

--- @treturn table `connections` that are open, `requests` that are not answered, `unsent` bytes
function Server:look()
  C.cft_server_look(self.handle, self.view)
  return { connections = self.view.connections, requests = self.view.requests, unsent = tonumber(self.view.unsent) }
end

--- Whether two texts are equal, in a time that says nothing of `wanted` but its length.
function M.same_secret(came, wanted) return C.cft_same_secret(came, wanted) end

return M
