--- Ranks that torchrun has started, or whoever else sets its variables: they meet at MASTER_ADDR, and sum by Gloo.
--
-- torchrun keeps a store of its own at MASTER_PORT, where TORCHELASTIC_USE_AGENT_STORE says so: then the first of the ports that
-- are tried is the next one.

local comm = require "cft.engine.comm"
local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local ffi, C = door.ffi, door.C

local M = {}

local SECONDS = 300  -- in which all ranks are to come
local SECRET = 100   -- bytes of CFT_RUN_SECRET, at most

local function wanted(name, text)
  if not text or text == "" then
    exit.fail(exit.USAGE, "RANK and WORLD_SIZE say that this is one of several processes, and %s is not set; torchrun sets it to "
      .. "where rank 0 is", name)
  end
  return text
end

local function is_loopback(host) return host == "localhost" or host == "::1" or host:find "^127%." ~= nil end

-- What all ranks of this run have in common, and no other run has.
local function secret_of(set, found, host, port)
  local own = set "CFT_RUN_SECRET" or ""
  if #own > SECRET then exit.fail(exit.USAGE, "CFT_RUN_SECRET has %d bytes; %d at most", #own, SECRET) end
  if own == "" and found.local_size ~= found.size and not is_loopback(host) then
    exit.fail(exit.USAGE, "torchrun has started ranks on several hosts, which show each other a secret: set CFT_RUN_SECRET, on all "
      .. "hosts, to a text that nobody else knows")
  end
  local run = (set "TORCHELASTIC_RUN_ID" or ""):sub(1, 40)
  return table.concat({ own, run, set "TORCHELASTIC_RESTART_COUNT" or "", found.size, port }, "\n")
end

--- Where the ranks meet.
-- @func set name of a variable → its text or nil
-- @tab found of `variables.read`
-- @treturn table `host`, `port` and `secret`
function M.place(set, found)
  local host, text = wanted("MASTER_ADDR", set "MASTER_ADDR"), wanted("MASTER_PORT", set "MASTER_PORT")
  local port, most = text:find "^%d+$" and tonumber(text), 65535 - C.CFT_RENDEZVOUS_PORTS
  if not port or port < 1 or port >= most then
    exit.fail(exit.USAGE, "MASTER_PORT is '%s'; a port is wanted, 1 to %d", text, most - 1)
  end
  local place = { host = host, port = port, secret = secret_of(set, found, host, port) }
  if set "TORCHELASTIC_USE_AGENT_STORE" == "True" then place.port = port + 1 end
  return place
end

--- Meet, and open the communicator of the processes. Exit code 6 where some do not come, 3 without Gloo.
-- @tab found of `variables.read`
-- @tab how of `comm.open`
-- @return a communicator
function M.open(found, how)
  local place, out = M.place(os.getenv, found), ffi.new "cft_rendezvous *[1]"
  local where = ffi.new("cft_rendezvous_how", { host = place.host, port = place.port, rank = found.rank, size = found.size,
                                                secret = place.secret, seconds = SECONDS })
  if C.cft_rendezvous_open(out, where) ~= C.CFT_OK then exit.fail(exit.LOST, "%s", ffi.string(C.cft_last_error())) end
  local met = ffi.gc(out[0], C.cft_rendezvous_close)
  how.rendezvous = met
  local opened = comm.open(how)
  C.cft_rendezvous_close(ffi.gc(met, nil))
  return opened
end

return M
