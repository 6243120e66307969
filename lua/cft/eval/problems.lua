--- The problems of a benchmark: where its records are, and what is asked.
--
-- Records come from a data folder (each benchmark knows the places of its files in one, and in its folder `bench`), from a
-- file that is named, or from the Hub's cache. Nothing is downloaded, and no benchmark's data come with cft.
-- @module cft.eval.problems

local data = require "cft.data.open"
local exit = require "cft.base.exit"
local hash = require "cft.io.hash"
local host = require "cft.host"
local json = require "cft.base.json"

local M = {}

-- Of the places of a benchmark those that are below one of the folders, as paths; all places where it has several parts.
local function below(bench, folders)
  for _, folder in ipairs(folders) do
    local found = {}
    for _, place in ipairs(bench.places or {}) do
      local path = folder .. "/" .. place
      if host.kind(path) == "file" then found[#found + 1] = path end
    end
    if #found > 0 then return bench.all_places and found or { found[1] } end
  end
end

-- Names of files that stand for a benchmark in a folder that is given for it alone.
local function alone(bench, folder)
  for _, ending in ipairs { ".jsonl", ".json", ".csv", ".parquet" } do
    for _, stem in ipairs { bench.name, (bench.name:gsub("-", "_")), "test" } do
      local path = folder .. "/" .. stem .. ending
      if host.kind(path) == "file" then return { path } end
    end
  end
end

--- Where the records of a benchmark are.
-- @tab bench
-- @string[opt] given a folder of data, or a file; absent, the Hub's cache
-- @bool[opt] only there is no other benchmark, so that the folder may be its own
-- @return a path, a list of them, or a name for `cft.data.open`; a message and code 4 where there is none
function M.find(bench, given, only)
  if not given then
    if not bench.hub then
      exit.fail(exit.MISSING, "eval: %s is in no data set of the Hub that is known; give the folder of its file by --data DIR, " ..
                "as DIR/%s", bench.name, bench.places[1])
    end
    return bench.hub
  end
  local kind = host.kind(given)
  if kind == "file" and only then return { given } end
  if kind ~= "folder" then
    exit.fail(exit.MISSING, kind and "eval: --data %s is a file, and %s is not the only benchmark; give a folder" or
              "eval: there is no folder %s", given, bench.name)
  end
  local found = below(bench, { given, given .. "/bench" }) or only and alone(bench, given) or alone(bench, given .. "/" .. bench.name)
  if found then return found end
  exit.fail(exit.MISSING, "eval: %s has no data of %s; looked for %s and bench/%s in it%s", given, bench.name, bench.places[1],
            bench.places[1], bench.hub and ("; without --data it is looked for in the Hub's cache, where cftrun fetch --type " ..
            "dataset " .. (type(bench.hub) == "table" and bench.hub[1] or bench.hub):match "^[^:]+" .. " puts it") or "")
end

-- Python writes numbers that are none into what it calls JSON; they become null.
local function without_nan(text) return (text:gsub(': NaN([,}])', ": null%1")) end

local function lines_with_nan(path)
  local records = {}
  for line in io.lines(path) do
    local record, why = json.decode(without_nan(line))
    if record == nil then exit.fail(exit.FAILED, "%s: %s", path, why) end
    records[#records + 1] = record
  end
  return data.list(records, { schema = "none", name = path })
end

local function add(list, problem_of, source, file, limit)
  local n = math.min(source:size(), limit or math.huge)
  for i = 0, n - 1 do
    local record, why = source:get(i)
    local problem = record
    if record then problem, why = problem_of(record, i, file) end
    if not problem then exit.fail(exit.FAILED, "eval: %s: %s", source:where(i), why) end
    list[#list + 1] = problem
    problem.number = #list
  end
end

--- The problems of a benchmark.
-- @tab bench @string[opt] given as in `find` @bool[opt] only
-- @int[opt] limit at most so many; of each part, where it has several
-- @func[opt] problem_of in place of the benchmark's own `problem`
-- @treturn table a list of problems, each with its `number`
-- @treturn string what the records are, as hexadecimal digits
function M.read(bench, given, only, limit, problem_of)
  local list, hashes = {}, {}
  if bench.records then
    local source = bench.records()
    add(list, problem_of or bench.problem, source, bench.name, limit)
    return list, source:hash() or bench.name
  end
  local found = M.find(bench, given, only)
  for k, path in ipairs(type(found) == "table" and found or { found }) do
    local source = bench.with_nan and path:find "%.jsonl$" and lines_with_nan(path) or data.open(path, { schema = "none" })
    add(list, problem_of or bench.problem, source, path:match "[^/:]+$", limit)
    source:enforce()
    hashes[k] = source:hash() or hash.file(path)
  end
  return list, #hashes == 1 and hashes[1] or hash.text(table.concat(hashes))
end

return M
