--- Models and data sets of the Hub, into its cache.
--
-- The cache is laid out as Hugging Face's own libraries lay it out, with their locks, so that they and
-- cft find what either has fetched. A snapshot and its ref appear when all that was asked for is there.
-- @module cft.fetch
-- @usage local folder = cft.fetch.repo { name = "Qwen/Qwen2.5-0.5B", include = { "*.json" } }

local check = require "cft.check"
local door = require "cft.ffi"
local exit = require "cft.exit"
local host = require "cft.host"
local hub = require "cft.hub"
local json = require "cft.json"
local log = require "cft.log"
local term = require "cft.term"

local C, ffi = door.C, door.ffi

local M = {}

local MOST_LISTED = 64 * 2 ^ 20  -- bytes of one answer of the API; the Hub's pages have half a MB
local MOST_FILES = 1e6
local MOST_WAIT = 300            -- seconds that a server may ask for between two tries
local GAIN = 2 ^ 20              -- bytes of headway after which failed tries are counted anew

-- ---- what the environment says -----------------------------------------------------------------

local function set(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function is_true(name)
  local value = (os.getenv(name) or ""):upper()
  return value == "1" or value == "ON" or value == "YES" or value == "TRUE"
end

local function endpoint() return (set "HF_ENDPOINT" or "https://huggingface.co"):gsub("/+$", "") end

-- The token, and where it was found.
local function token()
  for _, name in ipairs { "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN" } do
    local value = (set(name) or ""):match "^%s*(.-)%s*$"
    if value ~= "" then return value, name end
  end
  local path = set "HF_TOKEN_PATH" or hub.home() .. "/token"
  local file = io.open(path)
  local value = file and file:read "*l"
  if file then file:close() end
  value = (value or ""):match "^%s*(.-)%s*$"
  if value ~= "" then return value, path end
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

-- ---- what is said meanwhile --------------------------------------------------------------------

-- Nothing that a server says reaches a terminal as it is.
local function clean(text) return (text:sub(1, 300):gsub("%c", "?")) end

local Progress = {}
Progress.__index = Progress

local function new_progress()
  return setmetatable({ drawn = 0, start = host.now(), window = {}, terminal = term.is_terminal(io.stderr) },
                      Progress)
end

function Progress:wipe()
  if self.open then io.stderr:write "\r\27[K" end
  self.open = false
end

function Progress:say(text, ...)
  self:wipe()
  io.stderr:write(select("#", ...) > 0 and text:format(...) or text, "\n")
end

-- Bytes a second, over the last seconds.
function Progress:rate(received)
  local now, w = host.now(), self.window
  w[#w + 1] = { now, received }
  while #w > 2 and now - w[1][1] > 5 do table.remove(w, 1) end
  local seconds = now - w[1][1]
  return seconds > 0 and (received - w[1][2]) / seconds or 0
end

local function left(bytes, rate) return rate > 0 and "  " .. log.duration(bytes / rate) .. " left" or "" end

-- s: done, total, received (bytes), files, of (files), note (a text)
function Progress:draw(s)
  local now = host.now()
  if now - self.drawn < (self.terminal and 0.2 or 30) then return end
  local first = self.drawn == 0
  self.drawn = now
  local rate = self:rate(s.received)
  local text = ("%3d%%  %s of %s  %s/s%s  %d/%d files%s"):format(
    math.floor(100 * s.done / math.max(s.total, 1)), log.bytes(s.done), log.bytes(s.total), log.bytes(math.floor(rate)),
    left(s.total - s.done, rate), s.files, s.of, s.note)
  if not self.terminal then
    if not first then self:say(text) end
    return
  end
  local width = math.min(term.width(io.stderr) - #text - 4, 28)
  if width >= 8 then
    local n = math.floor(width * s.done / math.max(s.total, 1))
    text = ("[%s%s] %s"):format(("="):rep(n), (" "):rep(width - n), text)
  end
  io.stderr:write("\r\27[K", text:sub(1, term.width(io.stderr) - 1))
  self.open = true
end

-- ---- one request, and whether it is worth another ----------------------------------------------

local S = {}
for _, name in ipairs { "LOCKED", "DONE", "REFUSED", "UNREACHED", "LOST", "CORRUPT", "WRONG", "FAILED" } do
  S[name] = tonumber(C["CFT_TRANSFER_" .. name])
end

local for_a_while = { [408] = true, [429] = true, [500] = true, [502] = true, [503] = true, [504] = true }

local Session = {}
Session.__index = Session

local function new_session(o)
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
  return setmetatable({ net = ffi.gc(out[0], C.cft_net_release), endpoint = at, token_from = from, o = o,
                        progress = new_progress(), view = ffi.new "cft_transfer_view", open = {},
                        interrupted = function() return "interrupted" end }, Session)
end

function Session:start(status, out)
  door.check(status)
  local t = ffi.gc(out[0], C.cft_transfer_release)
  self.open[#self.open + 1] = t
  return t
end

function Session:drop(t)
  for i, one in ipairs(self.open) do
    if one == t then table.remove(self.open, i) break end
  end
  C.cft_transfer_release(ffi.gc(t, nil))
end

function Session:close()
  self.progress:wipe()
  while #self.open > 0 do self:drop(self.open[#self.open]) end
  C.cft_net_release(ffi.gc(self.net, nil))
  C.cft_interrupts_clear()
end

-- Let things happen for a moment, which ends when the next try is due.
function Session:wait(due)
  local ms = due and math.max(0, math.ceil(1000 * (due - host.now()))) or 100
  door.check(C.cft_net_wait(self.net, math.min(ms, 100)))
  if host.interrupts() > 0 then exit.fail(exit.INTERRUPTED, self.interrupted()) end
end

function Session:look(t)
  C.cft_transfer_look(t, self.view)
  local v = self.view
  local state = tonumber(v.state)
  if v.http ~= 0 then self.answered = true end
  return { state = state, ended = state >= S.DONE, http = v.http, retry_after = tonumber(v.retry_after),
           bytes = tonumber(v.bytes), received = tonumber(v.received), message = ffi.string(v.message) }
end

-- What a status other than success means: an exit code and a message.
function Session:refused(t, v)
  local o = self.o
  local function header(name)
    local value = C.cft_transfer_header(t, name)
    return value ~= nil and clean(ffi.string(value)) or ""
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

-- The end of it: an error.
function Session:fail(t, v, tries)
  local message = v.state == S.REFUSED and self:refused(t, v) or v.message
  if tries > 1 then message = ("%s (tried %d times)"):format(message, tries) end
  local wrong = v.state == S.WRONG or v.state == S.CORRUPT or v.state == S.FAILED
  exit.fail(wrong and exit.FAILED or exit.MISSING, "%s", message)
end

-- Seconds to wait before the next try; nil if this failure is for good. A checksum may be wrong once.
function Session:pause(v, tries, corrupt_before)
  if tries > self.o.retries then return nil end
  local again = v.state == S.LOST or v.state == S.REFUSED and for_a_while[v.http]
    or v.state == S.UNREACHED and self.answered  -- at first: a wrong name, or no network at all
    or v.state == S.CORRUPT and not corrupt_before
  if not again or v.retry_after > MOST_WAIT then return nil end
  return math.max(v.retry_after, math.min(self.o.wait * 2 ^ (tries - 1), 30))
end

function Session:say_again(what, v, pause)
  self.progress:say("%s%s; again in %s", what, clean(v.message), pause < 1 and "a moment" or log.duration(pause))
end

-- Get what is at a URL. @treturn string @treturn ?string its Link header
function Session:get(url)
  local out, tries = ffi.new "cft_transfer *[1]", 0
  while true do
    local t = self:start(C.cft_net_get(out, self.net, url, MOST_LISTED), out)
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

function Session:get_json(url)
  local text, link = self:get(url)
  local value, why = json.decode(text)
  if value == nil then
    exit.fail(exit.FAILED, "%s: the answer is no JSON: %s", url:gsub("%?.*$", ""), clean(why))
  end
  return value, link
end

-- ---- what there is -----------------------------------------------------------------------------

local function encoded(text) return (text:gsub("[^%w%-%._~/]", function(c) return ("%%%02X"):format(c:byte()) end)) end

local function is_commit(text) return type(text) == "string" and #text == 40 and not text:find "[^0-9a-f]" end

local function commit_of(s)
  local o = s.o
  if is_commit(o.revision) then return o.revision end
  local revision = encoded(o.revision):gsub("/", "%%2F")
  local info = s:get_json(("%s/api/%ss/%s/revision/%s"):format(s.endpoint, o.type, o.name, revision))
  local sha = type(info) == "table" and info.sha
  if not is_commit(sha) then
    exit.fail(exit.FAILED, "%s: the answer about %s has no commit in it", s.endpoint, o.name)
  end
  return sha
end

-- Would this path stay in a folder, and be one?
local function stays_below(path)
  if path:find "%c" or #path > 1024 then return false end
  for part in (path .. "/"):gmatch "([^/]*)/" do
    if part == "" or part == "." or part == ".." or #part > 255 then return false end
  end
  return true
end

local function is_hex(text, digits) return type(text) == "string" and #text == digits and not text:find "[^0-9a-f]" end

-- A file of the listing: { path =, bytes =, digest = }; nil for a folder; nil and what is wrong.
local function file_of(entry)
  if type(entry) ~= "table" then return nil, "an entry is no object" end
  local path = entry.path
  if type(path) ~= "string" or not stays_below(path) then
    return nil, ("a path is %s"):format(type(path) == "string" and "'" .. clean(path) .. "'" or "no string")
  end
  if entry.type == "directory" then return nil end
  if entry.type ~= "file" then return nil, ("%s is neither file nor directory"):format(path) end
  local lfs = type(entry.lfs) == "table" and entry.lfs
  local digest, bytes = lfs and lfs.oid or entry.oid, lfs and lfs.size or entry.size
  if not is_hex(digest, lfs and 64 or 40) then return nil, path .. " has no checksum" end
  if check.problem(bytes, { "integer", min = 0 }) then return nil, path .. " has no size" end
  return { path = path, bytes = bytes, digest = digest }
end

-- All files of a commit, page by page. Of the next page's URL the query is taken: it goes to the same
-- endpoint, whatever a mirror's answer says.
local function list(s, commit)
  local o = s.o
  local base = ("%s/api/%ss/%s/tree/%s"):format(s.endpoint, o.type, o.name, commit)
  local query, files, seen = "recursive=true", {}, {}
  local function bad(why) exit.fail(exit.FAILED, "%s: the list of files makes no sense: %s", base, why) end
  while query do
    local page, link = s:get_json(base .. "?" .. query)
    if not json.is_array(page) then bad "it is no array" end
    for _, entry in ipairs(page) do
      local file, why = file_of(entry)
      if why then bad(why) end
      if file and seen[file.path] then bad(file.path .. " comes twice") end
      if file then
        seen[file.path] = true
        files[#files + 1] = file
      end
    end
    query = link and link:match '<[^>]*%?([^>%s]*)>;%s*rel="next"'
    if query and #page == 0 then bad "an empty page, and more to come" end
    if #files > MOST_FILES then bad(("more than %d files"):format(MOST_FILES)) end
  end
  table.sort(files, function(a, b) return a.path < b.path end)
  return files
end

-- ---- which of it -------------------------------------------------------------------------------

-- As `hf download` reads them: * and ? stand for / too, and "folder/" is all that is in it.
local function pattern(glob)
  if glob:sub(-1) == "/" then glob = glob .. "*" end
  local out, i = {}, 1
  while i <= #glob do
    local negated, members, after = glob:match("^%[(!?)(%]?[^%]]*)%]()", i)
    if after and members ~= "" then
      out[#out + 1] = ("[%s%s]"):format(negated == "!" and "^" or "", (members:gsub("[%%%]%^]", "%%%0")))
    else
      local c = glob:sub(i, i)
      out[#out + 1] = c == "*" and ".*" or c == "?" and "." or c:gsub("%p", "%%%0")
      after = i + 1
    end
    i = after
  end
  return "^" .. table.concat(out) .. "$"
end

local function fits_any(path, patterns)
  for _, p in ipairs(patterns) do
    if path:find(p) then return true end
  end
  return false
end

local function patterns(globs)
  local list_of = {}
  for i, glob in ipairs(globs) do list_of[i] = pattern(glob) end
  return list_of
end

local function choose(files, o)
  local names, chosen = {}, {}
  for i, file in ipairs(files) do names[i] = file.path end
  local include, exclude = patterns(o.include), patterns(o.exclude)
  for _, name in ipairs(o.files) do
    local p, found = pattern(name), false
    for _, path in ipairs(names) do found = found or path:find(p) ~= nil end
    if not found then
      exit.fail(exit.MISSING, "%s has no file %s%s", o.name, name, check.suggestion(name, names))
    end
    include[#include + 1] = p
  end
  for _, file in ipairs(files) do
    if (#include == 0 or fits_any(file.path, include)) and not fits_any(file.path, exclude) then
      chosen[#chosen + 1] = file
    end
  end
  if #chosen == 0 then
    exit.fail(exit.MISSING, "%s: none of its %d files fits%s", o.name, #files,
              #names > 0 and "; it has " .. table.concat(names, ", ", 1, math.min(#names, 8)) or "")
  end
  return chosen
end

-- ---- what is here already ----------------------------------------------------------------------

local bytes_out = ffi.new "int64_t[1]"

local function size_of(path)
  return C.cft_path_look(path, bytes_out) == C.CFT_PATH_FILE and tonumber(bytes_out[0]) or nil
end

-- One for each content: files of equal content share it.
local function blobs_of(s, folder, files)
  local blobs, by_digest = {}, {}
  for _, file in ipairs(files) do
    local blob = by_digest[file.digest]
    if not blob then
      blob = { path = folder .. "/blobs/" .. file.digest, name = file.path, bytes = file.bytes, digest = file.digest,
               tries = 0, due = 0 }
      blob.url = ("%s/%s%s/resolve/%s/%s"):format(s.endpoint, s.o.type == "dataset" and "datasets/" or "", s.o.name,
                                                 s.commit, encoded(file.path))
      blob.here = size_of(blob.path) == blob.bytes
      blob.begun = blob.here and blob.bytes or math.min(tonumber(C.cft_download_begun(blob.path)), blob.bytes)
      by_digest[file.digest] = blob
      blobs[#blobs + 1] = blob
    end
    file.blob = blob
  end
  return blobs
end

local function sum(blobs, key)
  local total = 0
  for _, blob in ipairs(blobs) do total = total + blob[key] end
  return total
end

--- 1 → "1 file". @int n @treturn string
function M.count(n) return n == 1 and "1 file" or n .. " files" end

local function make_folder(path) door.check(C.cft_folder_make(path)) end

local function make_room(folder, needed)
  door.check(C.cft_folder_room(bytes_out, folder))
  local room = tonumber(bytes_out[0])
  if needed > room then
    exit.fail(exit.FAILED, "%s has room for %s, %s are to come; HF_HOME names another place", folder, log.bytes(room),
              log.bytes(needed))
  end
end

-- ---- getting it --------------------------------------------------------------------------------

local function begin(s, blob, locks)
  local what = ffi.new "cft_download"
  local lock = locks .. "/" .. blob.digest .. ".lock"
  what.url, what.path, what.lock, what.digest, what.bytes = blob.url, blob.path, lock, blob.digest, blob.bytes
  blob.now, blob.most, blob.received = blob.now or blob.begun, blob.most or blob.begun, 0
  local out = ffi.new "cft_transfer *[1]"
  blob.transfer = s:start(C.cft_net_download(out, s.net, what), out)
end

-- What one of them has come to: "under way", "here", or "again" when it is to be tried once more.
local function step(s, blob, state)
  local v = s:look(blob.transfer)
  state.done = state.done + v.bytes - blob.now
  state.received = state.received + v.received - blob.received
  blob.now, blob.received, blob.locked = v.bytes, v.received, v.state == S.LOCKED
  if not v.ended then return "under way" end
  if v.state ~= S.DONE then
    if v.bytes - blob.most >= GAIN then blob.most, blob.tries = v.bytes, 0 end
    blob.tries = blob.tries + 1
    local pause = s:pause(v, blob.tries, blob.corrupt)
    if not pause then s:fail(blob.transfer, v, blob.tries) end
    s:say_again(blob.name .. ": ", v, pause)
    blob.corrupt = blob.corrupt or v.state == S.CORRUPT
    blob.busy = v.state == S.REFUSED
    blob.due = host.now() + pause
  end
  s:drop(blob.transfer)
  blob.transfer, blob.received = nil, 0
  return v.state == S.DONE and "here" or "again"
end

-- Those that nobody has begun with, the next one last: the longest goes first, so that none is left
-- alone at the end.
local function in_order(blobs)
  local list = {}
  for _, blob in ipairs(blobs) do
    if not blob.here then list[#list + 1] = blob end
  end
  table.sort(list, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes < b.bytes end
    return a.name > b.name
  end)
  return list
end

local function download(s, blobs, locks)
  local fresh, again, running = in_order(blobs), {}, {}
  local hold = 0  -- until then the server does not want to be asked
  local state = { total = sum(blobs, "bytes"), done = sum(blobs, "begun"), received = 0, files = #blobs - #fresh,
                  of = #blobs }
  s.interrupted = function()
    return ("interrupted; %s of %s are here, and the same command goes on from there"):format(
      log.bytes(state.done), log.bytes(state.total))
  end

  local function next_of()
    local now = host.now()
    for i, blob in ipairs(again) do
      if blob.due <= now then return table.remove(again, i) end
    end
    return hold <= now and table.remove(fresh) or nil
  end
  local function due()
    local first = #fresh > 0 and hold or math.huge
    for _, blob in ipairs(again) do first = math.min(first, blob.due) end
    return first
  end
  local function settle(blob, outcome)
    if outcome == "here" then
      state.files = state.files + 1
      if not s.progress.terminal then s.progress:say("%s  %s", blob.name, log.bytes(blob.bytes)) end
      return
    end
    again[#again + 1] = blob
    if blob.busy then
      hold = math.max(hold, blob.due)
      for _, other in ipairs(again) do other.due = math.max(other.due, hold) end
    end
  end

  while #fresh + #again + #running > 0 do
    while #running < s.o.jobs do
      local blob = next_of()
      if not blob then break end
      begin(s, blob, locks)
      running[#running + 1] = blob
    end
    s:wait(#running < s.o.jobs and due() or nil)
    state.note = ""
    for i = #running, 1, -1 do
      local blob = running[i]
      local outcome = step(s, blob, state)
      if outcome ~= "under way" then settle(table.remove(running, i), outcome) end
      if blob.locked then state.note = "  another process has " .. blob.name end
    end
    s.progress:draw(state)
  end
  return state.received
end

-- ---- the snapshot ------------------------------------------------------------------------------

local function first_line(path)
  local file = io.open(path)
  local line = file and file:read "*l"
  if file then file:close() end
  return line
end

-- Links from the snapshot to the blobs, and then the ref.
local function publish(s, folder, files)
  local snapshot = folder .. "/snapshots/" .. s.commit
  door.check(C.cft_folder_sync(folder .. "/blobs"))
  for _, file in ipairs(files) do
    local path = snapshot .. "/" .. file.path
    if host.kind(path) ~= "file" then
      make_folder(path:match "^(.*)/")
      local _, depth = file.path:gsub("/", "")
      door.check(C.cft_link_replace(("../"):rep(depth + 2) .. "blobs/" .. file.digest, path))
    end
  end
  local ref = folder .. "/refs/" .. s.o.revision
  if s.o.revision ~= s.commit and first_line(ref) ~= s.commit then
    door.check(C.cft_file_write(nil, ref, s.commit, #s.commit))
  end
  return snapshot
end

-- ---- the whole of it ---------------------------------------------------------------------------

local specs = {
  name = { "string" }, type = { "string", "model", one_of = { "model", "dataset" } },
  revision = { "string", optional = true },
  include = { "table", {} }, exclude = { "table", {} }, files = { "table", {} },
  jobs = { "integer", 8, min = 1, max = 64 }, retries = { "integer", 5, min = 0 }, wait = { "number", 1, min = 0 },
  dry_run = { "boolean", false },
}

-- HF_HUB_OFFLINE: what the cache has, as far as that can be told.
local function offline(o, folder)
  local path, why = hub.snapshot(folder, o.revision)
  if not path then exit.fail(exit.MISSING, "HF_HUB_OFFLINE is set, and the Hub cache has no %s", why) end
  new_progress():say("HF_HUB_OFFLINE is set: nothing was asked, this is what the cache has of %s", o.name)
  return path
end

local function run(s)
  local o = s.o
  local folder = hub.folder(o.type, o.name)
  s.commit = commit_of(s)
  local files = choose(list(s, s.commit), o)
  local blobs = blobs_of(s, folder, files)
  local total, begun = sum(blobs, "bytes"), sum(blobs, "begun")
  if o.dry_run then return { files = files, commit = s.commit, bytes = total, left = total - begun } end

  local locks = hub.cache() .. "/.locks/" .. folder:match "[^/]+$"
  make_folder(folder .. "/blobs")
  make_folder(locks)
  make_room(folder, total - begun)
  s.progress:say("%s at %s: %s, %s%s", o.name, s.commit:sub(1, 8), M.count(#files), log.bytes(total),
                 begun == total and ", all here" or begun > 0 and ("; %s are here"):format(log.bytes(begun)) or "")
  local received = download(s, blobs, locks)
  local seconds = host.now() - s.progress.start
  if received > 0 then
    s.progress:say("%s in %.1f s, %s/s", log.bytes(received), seconds, log.bytes(math.floor(received / seconds)))
  end
  return publish(s, folder, files)
end

--- Fetch a repository, or some of its files, into the cache (`cft.hub.cache`).
-- What is here already is not fetched again; what was begun is gone on with. An error has an exit code
-- (`cft.exit`): MISSING where it cannot be had, FAILED where the server's answers make no sense, the
-- disk is full, or a checksum is wrong.
-- @tab opts
-- @string opts.name `"Org/Name"`
-- @string[opt="model"] opts.type or `"dataset"`
-- @string[opt="main"] opts.revision a branch, a tag or a commit
-- @tab[opt] opts.include patterns, one of which a path must fit; `*` stands for slashes too
-- @tab[opt] opts.exclude patterns, none of which it may fit
-- @tab[opt] opts.files paths that must be there; as `include` otherwise
-- @int[opt=8] opts.jobs files at a time
-- @int[opt=5] opts.retries tries more for a file that makes no headway
-- @number[opt=1] opts.wait seconds before the first of them; doubled each time, unless the server says
-- @bool[opt=false] opts.dry_run fetch nothing
-- @treturn string the folder of the snapshot; with `dry_run` a table: `files` (`path`, `bytes`,
-- `blob.begun`), `commit`, `bytes` (of all), `left` (to come)
function M.repo(opts)
  local o = check.options("fetch.repo", opts, specs)
  local problem = hub.problem(o.name)
  if problem then exit.fail(exit.USAGE, "%s", problem) end
  o.revision = o.revision or "main"
  if not o.revision:find "^[%w%._%-/]+$" or not stays_below(o.revision) then
    exit.fail(exit.USAGE, "'%s' is no revision", clean(o.revision))
  end
  if is_true "HF_HUB_OFFLINE" or is_true "TRANSFORMERS_OFFLINE" then
    return offline(o, hub.folder(o.type, o.name))
  end
  local s = new_session(o)
  local ok, result = pcall(run, s)
  s:close()
  if not ok then error(result, 0) end
  return result
end

return M
