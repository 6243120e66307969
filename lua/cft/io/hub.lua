--- Where models and data sets are on this machine: folders, files, or the local cache of the Hub.
-- Nothing is downloaded; where something is missing, the message names the command that would get it
-- (`cft.fetch`).
-- @module cft.io.hub
-- @usage local found, why = cft.hub.find "Nobody/no-such-model"
-- print(found or why)   --> ...the Hub cache has no ...models--Nobody--no-such-model...

local host = require "cft.host"
local json = require "cft.base.json"
local splits = require "cft.io.splits"
local texts = require "cft.base.text"

local M = {}

-- A variable of the environment; nil where it is not set, or empty. @string name
function M.set(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local set = M.set

local function expand(path)
  local home = set "HOME"
  return home and path:gsub("^~%f[/%z]", (home:gsub("%%", "%%%%"))) or path
end

--- The folder of Hugging Face's libraries: HF_HOME, XDG_CACHE_HOME/huggingface, ~/.cache/huggingface.
-- @treturn string
-- @usage cft.hub.home()    -- "/home/me/.cache/huggingface"
-- cft.hub.cache()   -- "/home/me/.cache/huggingface/hub"
function M.home() return expand(set "HF_HOME" or (set "XDG_CACHE_HOME" or "~/.cache") .. "/huggingface") end

--- The folder of the Hub's cache, as these libraries find it: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, or
-- `hub` in their own.
-- @treturn string
function M.cache()
  local given = set "HF_HUB_CACHE" or set "HUGGINGFACE_HUB_CACHE"
  return given and expand(given) or M.home() .. "/hub"
end

-- What keeps a name from being that of a repository, by the Hub's rules.
-- @string name
-- @treturn ?string nil if it is one
function M.problem(name)
  local kind, rest = name:match "^(datasets?)/([^/]+/[^/]+)$"
  if kind then return ("'%s' is no repository; say --type dataset %s"):format(name, rest) end
  local parts = { name:match "^([%w%._%-]+)/([%w%._%-]+)$" }
  if #parts == 0 then parts = { name:match "^[%w%._%-]+$" } end
  local fits = #parts > 0 and #name <= 96
    and not name:find "%-%-" and not name:find "%.%." and not name:find "%.git$"
  for _, part in ipairs(parts) do fits = fits and not part:find "^[%.%-]" and not part:find "[%.%-]$" end
  if fits then return nil end
  return ("'%s' is no name of a repository, as in Org/Name"):format(texts.one_line(name, 200))
end

--- Where the cache keeps a repository, if it has it.
-- @string kind "model" or "dataset"
-- @string name
-- @treturn string
-- @usage cft.hub.folder("model", "Qwen/Qwen2.5-0.5B"):match "[^/]+$"   --> "models--Qwen--Qwen2.5-0.5B"
function M.folder(kind, name) return ("%s/%ss--%s"):format(M.cache(), kind, (name:gsub("/", "--"))) end

-- The first line of a file, without space around it; nil where there is none. @string path
function M.first_line(path)
  local file = io.open(path)
  local line = file and file:read "*l"
  if file then file:close() end
  return line and line:match "^%s*(%S.-)%s*$"
end

--- The snapshot of a revision: a branch or tag by its ref, a commit by itself.
-- @string folder of the repository, in the cache
-- @string revision
-- @treturn ?string the path of a folder; nil where there is none
-- @treturn string then: the path that is not there
-- @usage cft.hub.snapshot(cft.hub.folder("model", "Nobody/no-such-model"), "main")   --> nil "...models--Nobody--no-such-model"
function M.snapshot(folder, revision)
  if host.kind(folder) ~= "folder" then return nil, folder end
  local commit = M.first_line(folder .. "/refs/" .. revision) or revision
  local path = folder .. "/snapshots/" .. commit
  if not commit:find "/" and host.kind(path) == "folder" then return path end
  return nil, path
end

-- The command that gets a repository, for the end of a message.
local function fetching(kind, name)
  return ("cftrun fetch %s%s"):format(kind == "dataset" and "--type dataset " or "", name)
end

-- The name of a file rather than of a repository: train.jsonl, data/train.jsonl.
local function looks_like_a_file(name) return name:find "%.%a[%w]*$" ~= nil end

local function looks_like_a_repository(name)
  return name:find "/" and not looks_like_a_file(name) and not M.problem(name)
end

local POINTER = "version https://git-lfs.github.com/spec/"

-- Whether there is a file that only names what Git LFS has not fetched.
local function is_pointer(path)
  local file = host.kind(path) == "file" and io.open(path, "rb")
  if not file then return false end
  local head = file:read(#POINTER)
  file:close()
  return head == POINTER
end

local function pointer_problem(path)
  return ("%s is a pointer of Git LFS, not the file it stands for; to fetch that: git lfs pull"):format(path)
end

-- Why a folder is no model though it may look like one; nil where nothing says so.
local function folder_problem(folder)
  for _, name in ipairs(host.list(folder) or {}) do
    local held = name:find "%.safetensors$" or name:find "%.gguf$" or name == "tokenizer.json" or name == "config.json"
    if held and is_pointer(folder .. "/" .. name) then return pointer_problem(folder .. "/" .. name) end
  end
  if host.kind(folder .. "/config.json") then return nil end
  if host.kind(folder .. "/adapter_config.json") then
    return folder .. " is an adapter such as LoRA's (it has adapter_config.json), no whole model; merge it into its base "
      .. "model (peft's merge_and_unload) and name the folder of the result"
  end
  if host.kind(folder .. "/model_index.json") then
    return folder .. " is a pipeline of diffusers (it has model_index.json), no language model"
  end
end

-- What of a snapshot is the model: the folder, or the one GGUF file in it. Or nil, why, and whether more of it is
-- to be fetched.
local function model_in(folder)
  local problem = folder_problem(folder)
  if problem then return nil, problem end
  if host.kind(folder .. "/config.json") then return folder end
  local found = {}
  for _, name in ipairs(host.list(folder) or {}) do
    if name:match "%.gguf$" then found[#found + 1] = name end
  end
  if #found == 1 then return folder .. "/" .. found[1] end
  if #found > 1 then
    return nil, ("%s has %d GGUF files; name one: %s"):format(folder, #found, table.concat(found, ", "))
  end
  return nil, folder .. " has no config.json: its download was not finished, or it is no model", true
end

-- The snapshot of "Org/Name" or "Name", each with "@revision" or without; nil alone for other names, and for a file that
-- is not there.
local function repo_in_cache(kind, name)
  local repo, revision = name:match "^([^@]+)@([%w%._%-/]+)$"
  repo, revision = repo or name, revision or "main"
  if not repo:find "^[%w%._%-]+/[%w%._%-]+$" and not repo:find "^[%w%._%-]+$" then return nil end
  local path, missing = M.snapshot(M.folder(kind, repo), revision)
  if path then return path end
  if looks_like_a_file(repo) then return nil end
  local command = looks_like_a_repository(repo) and ("; to fetch it: %s"):format(fetching(kind, name)) or ""
  return nil, ("the Hub cache has no %s%s"):format(missing, command)
end

local function in_cache(name)
  local path, missing = repo_in_cache("model", name)
  if not path then return nil, missing and "and " .. missing end
  local found, why, unfinished = model_in(path)
  if not unfinished then return found, why end
  return nil, ("%s; to fetch the rest: %s"):format(why, fetching("model", name))
end

--- Find a model.
-- @string name a folder, a .gguf file, or "Org/Name" (with "@revision" for another than main)
-- @treturn ?string the path of a folder or a GGUF file; nil where there is none
-- @treturn ?string then: what was looked for, and where
function M.find(name)
  if type(name) ~= "string" or name == "" then return nil, "no model was named" end
  local path = expand(name)
  local kind = host.kind(path)
  if kind == "folder" then
    local problem = folder_problem(path)
    return not problem and path or nil, problem
  end
  if kind == "file" then
    if is_pointer(path) then return nil, pointer_problem(path) end
    if path:match "%.gguf$" then return path end
    return nil, ("%s is a file, but no .gguf; a model is a folder, a .gguf file or a name in the Hub cache")
      :format(path)
  end
  if kind == "other" then return nil, path .. " is a pipe or a device; a folder or a .gguf file is wanted" end
  local found, why = in_cache(name)
  if found then return found end
  return nil, ("there is no folder or file %s%s"):format(path, why and ", " .. why or "")
end

-- ---- data sets -------------------------------------------------------------------------------

-- Every file below a folder, by its path from there.
local function files_below(folder, inside, list)
  for _, name in ipairs(host.list(folder) or {}) do
    local path = inside .. name
    local kind = name:sub(1, 1) ~= "." and host.kind(folder .. "/" .. name)
    if kind == "folder" then files_below(folder .. "/" .. name, path .. "/", list) end
    if kind == "file" then list[#list + 1] = path end
  end
  return list
end

-- Shards say how many there are; one that was not fetched would be missed by nobody.
local function missing_shard(files)
  local there, counts = {}, {}
  for _, file in ipairs(files) do
    local before, k, n, after = file:match "^(.*%-)(%d+)%-of%-(%d+)(.*)$"
    if n then
      there[file] = true
      counts[before .. "%0" .. #k .. "d-of-" .. n .. after] = tonumber(n)
    end
  end
  for form, n in pairs(counts) do
    for k = 0, n - 1 do
      local before, digits, after = form:match "^(.*)%%0(%d+)d(.*)$"
      local name = before .. ("%0" .. digits .. "d"):format(k) .. after
      if not there[name] then return name end
    end
  end
end

-- Why `datasets` cannot read a folder's dataset_infos.json; nil where it can, or there is none.
local function wrong_infos(folder)
  local path = folder .. "/dataset_infos.json"
  if not host.kind(path) then return nil end
  local infos, why = json.read(path)
  if infos == nil then return why end
  local right = type(infos) == "table"
  for _, info in pairs(right and infos or {}) do right = right and type(info) == "table" end
  if not right then return path .. ": no object of configurations, as `datasets` wants it; take it away if it is something else" end
end

--- Find a data set in the Hub's cache: `datasets--Org--Name`.
-- Which files a configuration and a split are is told by the set's card (README.md) or, without one, by
-- their names, see `cft.io.splits`. All shards must be there.
-- @string name `"Org/Name"`, `"Org/Name:config"` or `"Org/Name:config:split"`, `Org/Name` with
-- "@revision" for another than main; the split is `train` where none is named
-- @func reads file name → is this a file of records?
-- @treturn ?table paths of files, sorted; nil where there is none
-- @treturn ?string then: what was looked for, and where; nil if this is no such name
-- @usage cft.hub.dataset("Nobody/no-such-data:main:test", function() return true end)   --> nil "the Hub cache has no ..."
function M.dataset(name, reads)
  local repo, config, split = name:match "^([^:]+):?([^:]*):?([^:]*)$"
  if not repo then return nil end
  config, split = config ~= "" and config or nil, split ~= "" and split or "train"
  local folder, missing = repo_in_cache("dataset", repo)
  if not folder then return nil, missing end
  local files = files_below(folder, "", {})
  table.sort(files)
  local wrong = wrong_infos(folder)
  if wrong then return nil, wrong end
  local card = io.open(folder .. "/README.md", "rb")
  local text = card and card:read "*a"
  if card then card:close() end
  local found, why = splits.choose(files, text, config, split, reads)
  if not found then return nil, ("in %s %s"):format(folder, why) end
  local shard = missing_shard(found)
  if shard then
    return nil, ("%s/%s is missing: its download was not finished; to fetch the rest: %s"):format(folder, shard,
      fetching("dataset", repo))
  end
  for k, file in ipairs(found) do found[k] = folder .. "/" .. file end
  return found
end

return M
