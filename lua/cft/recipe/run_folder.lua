--- The folder of a run: who may write into it, and what a run writes there. docs/run-folder.md says it in words.

local data = require "cft.data.open"
local exit = require "cft.base.exit"
local host = require "cft.host"
local json = require "cft.base.json"
local save = require "cft.io.save"
local texts = require "cft.base.text"

local M = {}

--- What a run writes, by the names of docs/run-folder.md: `pattern`, of a name; `run`, this says that a run is here;
-- `stays`, --overwrite leaves it alone.
M.files = {
  { name = ".lock", pattern = "^%.lock$", stays = true },
  { name = "run.json", pattern = "^run%.json$", run = true },
  { name = "log.jsonl", pattern = "^log%.jsonl$", run = true },
  { name = "journal.msgpack", pattern = "^journal%.msgpack$", run = true },
  { name = "step-NNNNNN/", pattern = "^step%-%d+$", run = true },
  { name = ".step-NNNNNN.leaving/", pattern = require("cft.train.retention").LEAVING },
  { name = "attached.jsonl", pattern = "^attached%.jsonl$" },
  { name = "summary.json", pattern = "^summary%.json$", run = true },
  { name = "decontamination.jsonl", pattern = "^decontamination%.jsonl$", stays = true },  -- this run has written it
  { name = "data.json", pattern = "^data%.json$" },
  { name = "samples.jsonl", pattern = "^samples%.jsonl$" },
  { name = "report.html", pattern = "^report%.html$" },
  { name = "events.out.tfevents.*", pattern = "^events%.out%.tfevents%." },
}

local function file_of(name)
  for _, file in ipairs(M.files) do
    if name:find(file.pattern) then return file end
  end
end

--- Is a name in the folder a file that a run writes?
function M.is_file(name) return file_of(name) ~= nil end

--- End the program where a file that somebody asks for is one that the run itself writes into its folder.
-- @tparam ?string folder out=
-- @string who asks, such as "--trace"
-- @string path
function M.refuse_own(folder, who, path)
  local above, name = path:match "^(.*)/([^/]*)$"
  above, name = above or ".", name or path
  if folder and file_of(name) and data.real(above ~= "" and above or "/") == data.real(folder) then
    exit.fail(exit.USAGE, "%s %s: the run writes its own %s there; name another file", who, path, name)
  end
end

-- A checkpoint belongs to the run that saved it, which may remove it: nobody else's folder is in there.
local function refuse_inside(folder)
  local path = data.real(folder)
  for parent in path:gmatch "()/%.?step%-%d+%f[^%w]" do
    local owner = path:sub(1, parent - 1)
    if M.look(owner) then
      exit.fail(exit.USAGE, "out '%s': is in a checkpoint of the run in '%s', which may remove it; give another out=",
        folder, owner)
    end
  end
end

-- What a run would write may be a pipe or a device, which waits for ever or keeps nothing; or a folder.
local function refuse_special(folder)
  for _, name in ipairs(host.list(folder) or {}) do
    local file = file_of(name)
    local kind = file and host.kind(folder .. "/" .. name)
    if kind == "other" or kind == "folder" and not file.name:find "/$" then
      exit.fail(exit.FAILED, "out '%s': %s is %s", folder, name, kind == "folder" and "a folder; the run writes a file there"
        or "no regular file")
    end
  end
end

--- The folder that a run writes into, one run at a time.
-- @string folder is made if it is not there
-- @return a lock, which lasts as long as it is kept
function M.take(folder)
  if host.kind(folder) and host.kind(folder) ~= "folder" then
    exit.fail(exit.FAILED, "out '%s': is a file; a folder is wanted", folder)
  end
  refuse_inside(folder)
  refuse_special(folder)
  local made, why_not = host.make_folders(folder)
  if not made and why_not:find "File exists" then why_not = "is a link to nothing; a folder is wanted" end
  if not made then exit.fail(exit.FAILED, "out '%s': %s", folder, why_not) end
  local lock, why, who = host.lock(folder .. "/.lock")
  if why == "busy" then  -- perhaps by a run of this process that is over, and not yet collected
    collectgarbage()
    collectgarbage()
    lock, why, who = host.lock(folder .. "/.lock")
  end
  if not lock then
    exit.fail(exit.FAILED, "%s: %s", folder, why == "busy" and ("another run is writing into this folder%s; "
              .. "give this one another out="):format(who ~= "" and ", " .. who or "") or why)
  end
  return lock
end

--- The run that a folder holds.
-- @string folder
-- @treturn ?table nil where there is none; `id`, `recipe`, `started`, `status`, of its run.json as far as that can be
-- read, `record`, all of it, and `newest`, the name of its last checkpoint
function M.look(folder)
  local found
  for _, name in ipairs(host.list(folder) or {}) do
    local file, path = file_of(name), folder .. "/" .. name
    if file and file.run and (host.kind(path) == "folder" or (save.size(path) or 0) > 0) then
      found = found or {}
      if name:find "^step%-" and (not found.newest or tonumber(name:match "%d+") > tonumber(found.newest:match "%d+")) then
        found.newest = name
      end
    end
  end
  local record = found and json.read(folder .. "/run.json")
  if type(record) == "table" then
    found.record = record
    for _, field in ipairs { "id", "started", "status" } do
      if type(record[field]) == "string" then found[field] = record[field] end
    end
    found.recipe = type(record.recipe) == "table" and type(record.recipe.path) == "string" and record.recipe.path or nil
  end
  return found
end

--- An error with code 2 where a folder holds a run, and nobody said what is to become of it.
-- @string folder
-- @tab found of `look`
function M.refuse(folder, found)
  local what = {}
  for _, field in ipairs { "recipe", "started", "status", "newest" } do what[#what + 1] = found[field] end
  local text = #what > 0 and " (" .. texts.printable(table.concat(what, ", ")) .. ")" or ""
  exit.fail(exit.USAGE, "out '%s' holds a run already%s, and a folder belongs to one run: go on with it by --resume, "
    .. "remove it and begin anew by --overwrite, or give this run another out=", folder, text)
end

--- Remove what was being written when an earlier process of the run was killed. Whoever calls has the folder's lock, so that
-- nobody else writes there.
-- @string folder
function M.tidy(folder)
  for _, name in ipairs(host.list(folder) or {}) do
    if name:find "%.cft%-tmp%-%w%w%w%w%w%w$" then save.remove(folder .. "/" .. name) end
  end
end

--- Remove the run that a folder holds; what is no run's stays.
-- @string folder
function M.clear(folder)
  for _, name in ipairs(host.list(folder) or {}) do
    local file = file_of(name)
    if file and not file.stays then save.remove(folder .. "/" .. name) end
  end
end

local digits = "%02x"

--- A new id: 128 random bits in hexadecimal digits.
-- @treturn string
function M.new_id()
  local file = assert(io.open("/dev/urandom", "rb"))
  local bytes = file:read(16)
  file:close()
  return (bytes:gsub(".", function(c) return digits:format(c:byte()) end))
end

return M
