--- Who may ask: the key, and what a browser's request says of where it comes from.
--
-- A page of any site can have a browser send requests to this machine. Their `Origin` names the site, and where the
-- site's name is made to stand for 127.0.0.1 (DNS rebinding) their `Host` does. Both are refused unless asked for.

local door = require "cft.serve.door"

local M = {}

local local_hosts = { localhost = true, ["127.0.0.1"] = true, ["[::1]"] = true }

-- A Host header without its port, lower-case; nil where it is not one.
local function host_of(header)
  local name = header:match "^(%[[%x:.]+%]):?%d*$" or header:match "^([%w._-]+):?%d*$"
  return name and name:lower()
end

local function key_of(server, id)
  local scheme, key = (server:header(id, "Authorization") or ""):match "^(%a+) +(%S+)%s*$"
  return scheme and scheme:lower() == "bearer" and key or ""
end

--- Why a request is refused.
-- @tparam Server server @tab request @tab o `key` (or none), `origins` (a set), `hosts` (a set, beside the local names)
-- @treturn ?int a status of HTTP; nil if it may ask
-- @treturn ?string why
function M.refusal(server, request, o)
  local origin = server:header(request.id, "Origin")
  if origin and not (o.origins[origin] or o.origins["*"]) then
    return 403, "requests of web pages are refused; `cftrun serve --origin` allows those of a site"
  end
  if server.is_local then
    local host = server:header(request.id, "Host")
    local name = host and host_of(host)
    if not name then return 400, "a request has a header Host, a name with or without a port" end
    if not (local_hosts[name] or o.hosts[name]) then
      return 403, "the header Host names another machine; `cftrun serve --allow-host` allows a name"
    end
  end
  local open = request.path == "/health" or request.method == "OPTIONS"
  if o.key and not open and not door.same_secret(key_of(server, request.id), o.key) then
    return 401, "a key is wanted: Authorization: Bearer KEY"
  end
end

--- Headers by which a browser lets a page of an allowed site read the answer. @treturn ?table
function M.cors(server, request, o)
  local origin = server:header(request.id, "Origin")
  if not origin then return nil end
  return { ["Access-Control-Allow-Origin"] = origin, Vary = "Origin",
           ["Access-Control-Allow-Headers"] = "Authorization, Content-Type",
           ["Access-Control-Allow-Methods"] = "GET, POST" }
end

return M
