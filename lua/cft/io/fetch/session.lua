--- A talk with the Hub: what the environment says of it, one request after the other, and which failures
-- are worth another try.
-- @module cft.io.fetch.session

local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local host = require "cft.host"
local hub = require "cft.io.hub"
local json = require "cft.base.json"
local format = require "cft.base.format"
local texts = require "cft.base.text"
local new_progress = require "cft.io.fetch.progress"

local C, ffi = door.C, door.ffi

local M = {}

local MOST_LISTED = 64 * 2 ^ 20  -- bytes of one answer of the API; the Hub's pages have half a MB
local MOST_WAIT = 300            -- seconds that a server may ask for between two tries

-- ---- what the environment says -----------------------------------------------------------------

local set = hub.set

local function is_true(name)
  local value = (os.getenv(name) or ""):upper()
  return value == "1" or value == "ON" or value == "YES" or value == "TRUE"
end

--- Is nobody to be asked? @treturn bool
function M.offline() return is_true "HF_HUB_OFFLINE" or is_true "TRANSFORMERS_OFFLINE" end

local function endpoint() return (set "HF_ENDPOINT" or "https://huggingface.co"):gsub("/+$", "") end

-- The token, and where it was found.
local function token()
  for _, name in ipairs { "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN" } do
    local value = (set(name) or ""):match "^%s*(%S.-)%s*$"
    if value then return value, name end
  end
  local path = set "HF_TOKEN_PATH" or hub.home() .. "/token"
  return hub.first_line(path), path
end

-- Seconds without a byte after which a connection counts as lost.
local function stall()
  local given = set "HF_HUB_DOWNLOAD_TIMEOUT"
  if not given then return 30 end
  local seconds = tonumber(given)
  local problem = check.problem(seconds, { "integer", min = 1, max = 86400 })
  if problem then exit.fail(exit.USAGE, "HF_HUB_DOWNLOAD_TIMEOUT=%s: %s", given, problem) end
  return seconds
end

-- ---- one request, and whether it is worth another ----------------------------------------------

--- Nothing that a server says reaches a terminal as it is.
function M.clean(text) return texts.one_line(text, 300) end

-- The states of a transfer (cft_net.h), by name.
local S = {}
for _, name in ipairs { "LOCKED", "DONE", "REFUSED", "UNREACHED", "LOST", "CORRUPT", "WRONG", "FAILED" } do
  S[name] = tonumber(C["CFT_TRANSFER_" .. name])
end

local for_a_while = { [408] = true, [429] = true, [500] = true, [502] = true, [503] = true, [504] = true }

local Session = {}
Session.__index = Session

--- Prepare to talk to the Hub that the environment names.
-- @tab o what `cft.fetch.repo` was asked for
-- @treturn Session
function M.new(o)
  local value, from = token()
  local at = endpoint()
  local out = ffi.new "cft_net *[1]"
  local status = C.cft_net_new(out, at, value, stall())
  if status ~= C.CFT_OK then
    local code = status == C.CFT_E_UNSUPPORTED and exit.DEVICE or status == C.CFT_E_ARG and exit.USAGE or exit.FAILED
    local message = ffi.string(C.cft_last_error())
    if message:find "^the token" then message = from .. ": " .. message
    elseif code == exit.USAGE then message = "HF_ENDPOINT: " .. message end
    exit.fail(code, "%s", message)
  end
  return setmetatable({ net = ffi.gc(out[0], C.cft_net_release), endpoint = at, token_from = value and from, o = o,
                        progress = new_progress(), view = ffi.new "cft_transfer_view", open = {},
                        interrupted = function() return "interrupted" end }, Session)
end

-- Keep a transfer that a call has begun, until `drop` or `close`.
local function start(self, status, out)
  door.check(status)
  local t = ffi.gc(out[0], C.cft_transfer_release)
  self.open[#self.open + 1] = t
  return t
end

--- How many bytes of a download are here. @string path of the whole file
function M.begun(path) return tonumber(C.cft_download_begun(path)) end

--- Bytes that a folder has room for.
function M.room(folder)
  local out = ffi.new "int64_t[1]"
  door.check(C.cft_folder_room(out, folder))
  return tonumber(out[0])
end

--- Begin to download. @tab blob `url`, `path`, `digest`, `bytes` @string lock path of a lock that other processes know
-- @return a transfer
function Session:download(blob, lock)
  local what, out = ffi.new "cft_download", ffi.new "cft_transfer *[1]"
  what.url, what.path, what.lock, what.digest, what.bytes = blob.url, blob.path, lock, blob.digest, blob.bytes
  return start(self, C.cft_net_download(out, self.net, what), out)
end

function Session:drop(t)
  for i, one in ipairs(self.open) do
    if one == t then table.remove(self.open, i) break end
  end
  C.cft_transfer_release(ffi.gc(t, nil))
end

--- Let go of everything; what came of files stays.
function Session:close()
  self.progress:wipe()
  while #self.open > 0 do self:drop(self.open[#self.open]) end
  C.cft_net_release(ffi.gc(self.net, nil))
  host.interrupts(true)
end

--- Let things happen for a moment, which ends when the next try is due.
function Session:wait(due)
  local ms = due and math.max(0, math.ceil(1000 * (due - host.now()))) or 100
  door.check(C.cft_net_wait(self.net, math.min(ms, 100)))
  if host.interrupts() > 0 then exit.fail(exit.INTERRUPTED, self.interrupted()) end
end

-- Seconds that an answer asks to wait: by Retry-After, or until the Hub counts requests anew
-- (`RateLimit: "resolvers";r=0;t=55`).
local function asked_to_wait(t, v)
  local limit = v.http == 429 and C.cft_transfer_header(t, "RateLimit") or nil
  local window = limit ~= nil and ffi.string(limit):match ";%s*t%s*=%s*(%d+)"
  return math.max(tonumber(v.retry_after), tonumber(window or 0))
end

--- How a transfer fares.
function Session:look(t)
  C.cft_transfer_look(t, self.view)
  local v = self.view
  local state = tonumber(v.state)
  if v.http ~= 0 then self.answered = true end
  return { state = state, ended = state >= S.DONE, http = v.http, wait = asked_to_wait(t, v),
           bytes = tonumber(v.bytes), received = tonumber(v.received), message = ffi.string(v.message) }
end

-- What a status other than success means: an exit code and a message.
function Session:refused(t, v)
  local o = self.o
  local function header(name)
    local value = C.cft_transfer_header(t, name)
    return value ~= nil and M.clean(ffi.string(value)) or ""
  end
  local code, said = header "X-Error-Code", header "X-Error-Message"
  local page = ("%s/%s%s"):format(self.endpoint, o.type == "dataset" and "datasets/" or "", o.name)
  if code == "GatedRepo" then
    return ("%s is gated: ask for access at %s, then set HF_TOKEN to a token of that account"):format(o.name, page)
  elseif code == "RevisionNotFound" then
    return ("%s has no revision '%s'"):format(o.name, o.revision)
  elseif v.http == 401 and self.token_from and said:find "credentials" then
    return ("%s does not accept the token in %s"):format(self.endpoint, self.token_from)
  elseif code == "RepoNotFound" or v.http == 401 or v.http == 404 and code ~= "EntryNotFound" then
    return ("there is no %s %s, or it is private and %s"):format(o.type, page,
      self.token_from and "the token in " .. self.token_from .. " may not read it" or "HF_TOKEN is not set")
  end
  return v.message .. (said ~= "" and ": " .. said or "")
end

--- The end of it: an error.
function Session:fail(t, v, tries)
  local message = v.state == S.REFUSED and self:refused(t, v) or v.message
  if v.wait > MOST_WAIT then message = ("%s; it asks to wait for %s"):format(message, format.duration(v.wait)) end
  if tries > 1 then message = ("%s (tried %d times)"):format(message, tries) end
  local wrong = v.state == S.WRONG or v.state == S.CORRUPT or v.state == S.FAILED
  exit.fail(wrong and exit.FAILED or exit.MISSING, "%s", message)
end

--- Seconds to wait before the next try; nil if this failure is for good. A checksum may be wrong once.
function Session:pause(v, tries, corrupt_before)
  if tries > self.o.retries then return nil end
  local again = v.state == S.LOST or v.state == S.REFUSED and for_a_while[v.http]
    or v.state == S.UNREACHED and self.answered  -- at first: a wrong name, or no network at all
    or v.state == S.CORRUPT and not corrupt_before
  if not again or v.wait > MOST_WAIT then return nil end
  return math.max(v.wait, math.min(self.o.wait * 2 ^ (tries - 1), 30))
end

function Session:say_again(what, v, pause)
  self.progress:say("%s%s; again in %s", what, M.clean(v.message), pause < 1 and "a moment" or format.duration(pause))
end

--- Get what is at a URL. @treturn string @treturn ?string its Link header
function Session:get(url)
  local out, tries = ffi.new "cft_transfer *[1]", 0
  while true do
    local t = start(self, C.cft_net_get(out, self.net, url, MOST_LISTED), out)
    local v
    repeat
      self:wait()
      v = self:look(t)
    until v.ended
    if v.state == S.DONE then
      local text, link = ffi.string(self.view.body, v.bytes), C.cft_transfer_header(t, "Link")
      link = link ~= nil and ffi.string(link) or nil
      self:drop(t)
      return text, link
    end
    tries = tries + 1
    local pause = self:pause(v, tries)
    if not pause then self:fail(t, v, tries) end
    self:drop(t)
    self:say_again("", v, pause)
    local due = host.now() + pause
    repeat self:wait(due) until host.now() >= due
  end
end

--- The same as a value of JSON.
function Session:get_json(url)
  local text, link = self:get(url)
  local value, why = json.decode(text)
  if value == nil then
    exit.fail(exit.FAILED, "%s: the answer is no JSON: %s", url:gsub("%?.*$", ""), M.clean(why))
  end
  return value, link
end

M.states = S

return M
