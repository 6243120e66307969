--- download a model or data set of the Hub into its cache
--
--   cftrun fetch REPO [FILE ...] [--revision REV] [--type model|dataset] [--include GLOB] ...
--
-- docs/fetch.md says more. The last line of stdout is the folder of the snapshot.

local check = require "cft.base.check"
local exit = require "cft.base.exit"
local fetch = require "cft.io.fetch"
local format = require "cft.base.format"

local M = {}

local HELP = [[
Usage: cftrun fetch REPO [FILE ...] [option ...]

  REPO is Org/Name or Org/Name@REVISION. With FILEs only these are fetched; a name that ends in / is a folder.

  --type TYPE               model (or, if absent, this) or dataset
  --revision REV            a branch, a tag or a commit; main
  --include GLOB            only files that fit; may come several times. * stands for slashes too
  --exclude GLOB            no files that fit; may come several times
  --jobs N                  files at a time; 8
  --dry-run                 list what would be fetched

  What is here already is not fetched again; what was begun (Ctrl-C, a lost connection) is gone on with.

  HF_HUB_CACHE, HF_HOME     where the cache is; ~/.cache/huggingface
  HF_TOKEN                  for private and gated repositories; else HF_HOME/token, HF_TOKEN_PATH
  HF_ENDPOINT               another Hub than https://huggingface.co
  HF_HUB_OFFLINE=1          ask nobody: what the cache has
  HF_HUB_DOWNLOAD_TIMEOUT   seconds without a byte after which a connection is lost; 30
  SSL_CERT_FILE, http_proxy, https_proxy, no_proxy   as elsewhere]]

local options = {
  type = { "string", one_of = { "model", "dataset" } }, jobs = { "integer", min = 1, max = 64 },
  revision = { "string" }, include = { "string" }, exclude = { "string" },
}
local lists = { include = true, exclude = true }

local function known()
  local names = { "--dry-run", "--help" }
  for name in pairs(options) do names[#names + 1] = "--" .. name end
  return names
end

local function parse(args)
  local o, i = { files = {}, include = {}, exclude = {} }, 1
  while i <= #args do
    local a = args[i]
    local name, value = a:match "^%-%-([%w%-]+)=(.*)$"
    name = name or a:match "^%-%-(.*)$" or ""
    if options[name] then
      if not value then
        i = i + 1
        value = args[i] or exit.fail(exit.USAGE, "fetch: %s wants a value", a)
      end
      if name == "jobs" then value = tonumber(value) or value end
      local problem = check.problem(value, options[name])
      if problem then exit.fail(exit.USAGE, "fetch: --%s %s", name, problem) end
      if lists[name] then table.insert(o[name], value) else o[name] = value end
    elseif a == "--dry-run" then
      o.dry_run = true
    elseif a == "--help" or a == "-h" then
      o.help = true
    elseif a:sub(1, 1) == "-" then
      local hint = a:find "^%-%-repo%-type" and "; did you mean '--type'?" or check.suggestion(a, known())
      exit.fail(exit.USAGE, "fetch: unknown option '%s'%s", a, hint)
    elseif not o.name then
      o.name = a
    else
      table.insert(o.files, a)
    end
    i = i + 1
  end
  return o
end

local function checked(o)
  if not o.name then exit.fail(exit.USAGE, "fetch: a repository is wanted: cftrun fetch Org/Name") end
  local name, revision = o.name:match "^([^@]*)@(.*)$"
  if name and o.revision then
    exit.fail(exit.USAGE, "fetch: two revisions, @%s and --revision %s", revision, o.revision)
  end
  if name then o.name, o.revision = name, revision end
  return o
end

local function show(plan)
  for _, file in ipairs(plan.files) do
    local blob = file.blob
    local state = blob.here and "here" or blob.begun > 0 and ("%d%% here"):format(100 * blob.begun / blob.bytes) or ""
    print(("%10s  %-9s %s"):format(format.bytes(file.bytes), state, file.path))
  end
  print(("%s, %s; %s to fetch"):format(fetch.count(#plan.files), format.bytes(plan.bytes), format.bytes(plan.left)))
end

--- @tab args
function M.run(args)
  local o = parse(args)
  if o.help then return print(HELP) end
  checked(o)
  o.help = nil
  local result = fetch.repo(o)
  if type(result) == "table" then show(result) else print(result) end
end

return M
