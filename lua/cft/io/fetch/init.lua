--- Models and data sets of the Hub, into its cache.
--
-- The cache is laid out as Hugging Face's own libraries lay it out, with their locks, so that they and
-- cft find what either has fetched. A snapshot and its ref appear when all that was asked for is there.
-- @module cft.io.fetch
-- @usage local folder = cft.fetch.repo { name = "Qwen/Qwen2.5-0.5B", include = { "*.json" } }

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local host = require "cft.host"
local hub = require "cft.io.hub"
local listing = require "cft.io.fetch.listing"
local format = require "cft.base.format"
local save = require "cft.io.save"
local session = require "cft.io.fetch.session"

local S = session.states

local M = {}

local GAIN = 2 ^ 20  -- bytes of headway after which failed tries are counted anew

-- ---- what is here already ----------------------------------------------------------------------

-- One for each content: files of equal content share it.
local function blobs_of(s, folder, files)
  local blobs, by_digest = {}, {}
  for _, file in ipairs(files) do
    local blob = by_digest[file.digest]
    if not blob then
      blob = { path = folder .. "/blobs/" .. file.digest, name = file.path, bytes = file.bytes, digest = file.digest,
               tries = 0, due = 0 }
      blob.url = ("%s/%s%s/resolve/%s/%s"):format(s.endpoint, s.o.type == "dataset" and "datasets/" or "", s.o.name,
                                                 s.commit, listing.encoded(file.path))
      blob.here = save.size(blob.path) == blob.bytes
      blob.begun = blob.here and blob.bytes or math.min(session.begun(blob.path), blob.bytes)
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

-- 1 → "1 file". @int n @treturn string
function M.count(n) return n == 1 and "1 file" or n .. " files" end

local function make_folder(path)
  local made, why = host.make_folders(path)
  if not made then blame(why) end
end

local function make_room(folder, needed)
  local room = session.room(folder)
  if needed > room then
    exit.fail(exit.FAILED, "%s has room for %s, %s are to come; HF_HOME names another place", folder,
              format.bytes(room), format.bytes(needed))
  end
end

-- ---- getting it --------------------------------------------------------------------------------

local function begin(s, blob, locks)
  blob.now, blob.most, blob.received = blob.now or blob.begun, blob.most or blob.begun, 0
  blob.transfer = s:download(blob, locks .. "/" .. blob.digest .. ".lock")
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
      format.bytes(state.done), format.bytes(state.total))
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
      if not s.progress.terminal then s.progress:say("%s  %s", blob.name, format.bytes(blob.bytes)) end
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

-- Links from the snapshot to the blobs, and then the ref.
local function publish(s, folder, files)
  local snapshot = folder .. "/snapshots/" .. s.commit
  save.sync(folder .. "/blobs")
  for _, file in ipairs(files) do
    local path = snapshot .. "/" .. file.path
    if host.kind(path) ~= "file" then
      make_folder(path:match "^(.*)/")
      local _, depth = file.path:gsub("/", "")
      save.link(("../"):rep(depth + 2) .. "blobs/" .. file.digest, path)
    end
  end
  local ref = folder .. "/refs/" .. s.o.revision
  if s.o.revision ~= s.commit and hub.first_line(ref) ~= s.commit then save.write(ref, s.commit) end
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
  local progress = require "cft.io.fetch.progress" ()
  progress:say("HF_HUB_OFFLINE is set: nothing was asked, this is what the cache has of %s", o.name)
  return path
end

local function run(s)
  local o = s.o
  local folder = hub.folder(o.type, o.name)
  s.commit = listing.commit(s)
  local files = listing.choose(listing.files(s, s.commit), o)
  local blobs = blobs_of(s, folder, files)
  local total, begun = sum(blobs, "bytes"), sum(blobs, "begun")
  if o.dry_run then return { files = files, commit = s.commit, bytes = total, left = total - begun } end

  local locks = hub.cache() .. "/.locks/" .. folder:match "[^/]+$"
  make_folder(folder .. "/blobs")
  make_folder(locks)
  make_room(folder, total - begun)
  s.progress:say("%s at %s: %s, %s%s", o.name, s.commit:sub(1, 8), M.count(#files), format.bytes(total),
                 begun == total and ", all here" or begun > 0 and ("; %s are here"):format(format.bytes(begun)) or "")
  local received = download(s, blobs, locks)
  local seconds = host.now() - s.progress.start
  if received > 0 then
    s.progress:say("%s in %.1f s, %s/s", format.bytes(received), seconds, format.bytes(math.floor(received / seconds)))
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
  if not o.revision:find "^[%w%._%-/]+$" or not listing.stays_below(o.revision) then
    exit.fail(exit.USAGE, "'%s' is no revision", session.clean(o.revision))
  end
  if session.offline() then return offline(o, hub.folder(o.type, o.name)) end
  local s = session.new(o)
  return finally(function() s:close() end, run, s)
end

return M
