--- Runs the tests in Lua:  cftrun tests/run.lua [FILTER ...]
--
-- A file in one of the folders below, which are those of lua/cft, returns a list of cases, { name, function }. A case
-- runs when a filter occurs in "tests/base/check.lua: its name"; a filter may also be the path of a
-- file elsewhere. A case fails by raising, or by leaving a tensor alive. One that lacks something
-- outside of the repository calls skip(reason); under CI=true only a missing GPU is accepted as one.
-- The last line is "N passed, N failed, N skipped".

local exit = require "cft.base.exit"
local host = require "cft.host"
local term = require "cft.base.term"

local in_ci = os.getenv "CI" == "true"
local traceback = os.getenv "CFT_TRACEBACK" == "1"

local rooms = { "house", "base", "ops", "engine", "grade", "data", "text", "samples", "io", "models", "generate", "report", "plan",
                "eval", "serve", "prompt", "cli", "recipe", "ranks", "train" }

-- ---- which ------------------------------------------------------------------------------------

local function files()
  local list, seen = {}, {}
  local function add(path)
    if not seen[path] then list[#list + 1], seen[path] = path, true end
  end
  for _, room in ipairs(rooms) do
    for _, name in ipairs(host.list("tests/" .. room) or {}) do
      if name:find "%.lua$" then add("tests/" .. room .. "/" .. name) end
    end
  end
  for _, filter in ipairs(arg) do
    if filter:find "%.lua$" and host.kind(filter) == "file" then add(filter) end
  end
  return list
end

local function wanted(path, name)
  for _, filter in ipairs(arg) do
    if (path .. ": " .. name):find(filter, 1, true) then return true end
  end
  return #arg == 0
end

-- Loading costs time: a filter with a slash names files, and leaves the others alone.
local function worth_loading(path)
  for _, filter in ipairs(arg) do
    local names_files = filter:find("/", 1, true)
    if not names_files or path:find(filter, 1, true) or filter:sub(1, #path) == path then return true end
  end
  return #arg == 0
end

-- ---- one case ---------------------------------------------------------------------------------

local Skip = {}
rawset(_G, "skip", function(reason) error(setmetatable({ reason = reason }, Skip), 0) end)

local C = require("cft.engine.ffi").C

local function alive()
  jit.flush()  -- compiled code holds on to the tables it was specialised to
  collectgarbage()
  collectgarbage()  -- the first one only calls the finalizers of what holds finalizers itself
  return tonumber(C.cft_tensor_alive())
end

local function handler(err)
  if getmetatable(err) == Skip then return err end
  return traceback and debug.traceback(tostring(err), 2) or tostring(err)
end

-- "passed", "failed" or "skipped", and why
local function outcome_of(case)
  local before = alive()
  local ok, err = xpcall(case, handler)
  local left = alive() - before
  if not ok and getmetatable(err) ~= Skip then
    if err:find "interrupted$" and host.interrupts() > 0 then exit.fail(exit.INTERRUPTED, err) end
    return "failed", err
  end
  if left > 0 then return "failed", ("tensors still alive: %d"):format(left) end
  if ok then return "passed" end
  if in_ci and not err.reason:find "GPU" then return "failed", "skipped under CI: " .. err.reason end
  return "skipped", err.reason
end

-- ---- all of them ------------------------------------------------------------------------------

local styles = { passed = "green", failed = "bold red", skipped = "yellow" }
local total = { passed = 0, failed = 0, skipped = 0 }

local function cases_of(path)
  local chunk, message = loadfile(path)
  local ok, cases = chunk ~= nil, message
  if ok then ok, cases = xpcall(chunk, handler) end
  if ok and type(cases) ~= "table" then ok, cases = false, path .. " returns no list of cases" end
  return ok and cases or { { "loads", function() error(cases, 0) end } }
end

local function run_file(path)
  local start, count = host.now(), { passed = 0, failed = 0, skipped = 0 }
  for _, case in ipairs(cases_of(path)) do
    local name, body = case[1], case[2]
    if name == "loads" or wanted(path, name) then
      local outcome, why = outcome_of(body)
      count[outcome] = count[outcome] + 1
      if why then
        print(("%s %s: %s\n  %s"):format(term.paint(styles[outcome], outcome), path, name,
                                         (why:gsub("\n", "\n  "))))
      end
    end
  end
  local parts = {}
  for _, outcome in ipairs { "passed", "failed", "skipped" } do
    total[outcome] = total[outcome] + count[outcome]
    if count[outcome] > 0 then parts[#parts + 1] = ("%d %s"):format(count[outcome], outcome) end
  end
  if #parts > 0 then
    print(("%-40s %7.2f s  %s"):format(path, host.now() - start, table.concat(parts, ", ")))
  end
end

local start = host.now()
for _, path in ipairs(files()) do
  if worth_loading(path) then run_file(path) end
end
if total.passed + total.failed + total.skipped == 0 then
  exit.fail(exit.USAGE, "no test fits %s", table.concat(arg, " "))
end
print(("%-40s %7.2f s"):format("all", host.now() - start))
print(("%d passed, %d failed, %d skipped"):format(total.passed, total.failed, total.skipped))
if total.failed > 0 then exit.leave(exit.FAILED) end
