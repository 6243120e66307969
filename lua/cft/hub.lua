--- Where a model is on this machine: a folder, a GGUF file, or the local cache of the Hub.
-- Nothing is downloaded.
-- @module cft.hub
-- @usage local path, why = cft.hub.find "Qwen/Qwen2.5-0.5B"
-- print(path or why)

local host = require "cft.host"

local M = {}

local function set(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function expand(path)
  local home = set "HOME"
  return home and path:gsub("^~%f[/%z]", (home:gsub("%%", "%%%%"))) or path
end

--- The folder of the Hub's cache, as Hugging Face's libraries find it: HF_HUB_CACHE,
-- HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
-- @treturn string
function M.cache()
  local given = set "HF_HUB_CACHE" or set "HUGGINGFACE_HUB_CACHE"
  if given then return expand(given) end
  local home = set "HF_HOME" or (set "XDG_CACHE_HOME" or "~/.cache") .. "/huggingface"
  return expand(home) .. "/hub"
end

local function first_line(path)
  local file = io.open(path, "r")
  local line = file and file:read "*l"
  if file then file:close() end
  return line and line:match "^%s*(%S+)"
end

-- The snapshot of a revision: a branch or tag by its ref, a commit by itself.
local function snapshot(repo, revision)
  local commit = first_line(repo .. "/refs/" .. revision) or revision
  local path = repo .. "/snapshots/" .. commit
  if not commit:find "/" and host.kind(path) == "folder" then return path end
  return nil, path
end

-- What of a snapshot is the model: the folder, or the one GGUF file in it.
local function model_in(folder)
  if host.kind(folder .. "/config.json") then return folder end
  local found = {}
  for _, name in ipairs(host.list(folder) or {}) do
    if name:match "%.gguf$" then found[#found + 1] = name end
  end
  if #found == 1 then return folder .. "/" .. found[1] end
  if #found > 1 then
    return nil, ("%s has %d GGUF files; name one: %s"):format(folder, #found, table.concat(found, ", "))
  end
  return nil, folder .. " has no config.json: its download was not finished, or it is no model"
end

-- "Org/Name", "Name", each with "@revision" or without.
local function in_cache(name)
  local repo, revision = name:match "^([^@]+)@([%w%._%-/]+)$"
  repo, revision = repo or name, revision or "main"
  if not repo:find "^[%w%._%-]+/[%w%._%-]+$" and not repo:find "^[%w%._%-]+$" then return nil end
  local folder = M.cache() .. "/models--" .. repo:gsub("/", "--")
  if host.kind(folder) ~= "folder" then
    return nil, ("and the Hub cache has no %s"):format(folder)
  end
  local path, missing = snapshot(folder, revision)
  if not path then return nil, ("and the Hub cache has no %s"):format(missing) end
  return model_in(path)
end

--- Find a model.
-- @string name a folder, a .gguf file, or "Org/Name" (with "@revision" for another than main)
-- @treturn ?string the path of a folder or a GGUF file; nil where there is none
-- @treturn ?string then: what was looked for, and where
function M.find(name)
  if type(name) ~= "string" or name == "" then return nil, "no model was named" end
  local path = expand(name)
  local kind = host.kind(path)
  if kind == "folder" then return path end
  if kind == "file" then
    if path:match "%.gguf$" then return path end
    return nil, ("%s is a file, but no .gguf; a model is a folder, a .gguf file or a name in the Hub cache")
      :format(path)
  end
  local found, why = in_cache(name)
  if found then return found end
  return nil, ("there is no folder or file %s%s"):format(path, why and ", " .. why or "")
end

return M
