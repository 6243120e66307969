--- Files of results: a line that says what was measured, then a line a problem.
--
-- Lines are appended to OUT.part, and OUT appears when all are there; a run that was killed goes on behind
-- the last whole line of OUT.part. Nothing in the file depends on when, or in how many runs, it was made.
-- @module cft.eval.file

local benchmarks = require "cft.eval.benchmarks"
local exit = require "cft.base.exit"
local files = require "cft.io.files"
local finally = require "cft.base.finally"
local grade = require "cft.grade"
local host = require "cft.host"
local json = require "cft.base.json"
local part = require "cft.io.part"
local work = require "cft.eval.work"

local M = {}

--- The head of a file: a field of this name, and the version of what follows.
M.HEAD, M.VERSION = "cft eval", 1

-- The lines of a text that are whole, and their bytes.
local function whole(text)
  local list, at = {}, 1
  while true do
    local stop = text:find("\n", at, true)
    if not stop then return list, at - 1 end
    list[#list + 1], at = text:sub(at, stop - 1), stop + 1
  end
end

local function contents(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

-- What differs between two heads, by its name.
local function difference(a, b)
  local names = {}
  for _, t in ipairs { a, b } do
    for name in pairs(t) do names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    if json.encode { a[name] } ~= json.encode { b[name] } then return name end
  end
end

-- The entries that OUT.part has already, which must belong to `head`; what of it is torn is taken away.
local function begun(out, head)
  if host.kind(out) then
    exit.fail(exit.USAGE, "eval: %s is there already; remove it, or write to another file by --out", out)
  end
  local part, text = out .. ".part", contents(out .. ".part")
  local lines, bytes = whole(text or "")
  if #lines == 0 then
    files.write(part, json.encode(head) .. "\n")
    return {}
  end
  local theirs = json.decode(lines[1])
  local differs = type(theirs) ~= "table" and "form" or difference(theirs, json.decode(json.encode(head)))
  if differs then
    exit.fail(exit.USAGE, "eval: %s was begun with another %s; say the same again, or remove it", part, differs)
  end
  if bytes < #text then files.write(part, text:sub(1, bytes)) end
  local entries = {}
  for i = 2, #lines do
    local entry, why = json.decode(lines[i])
    if entry == nil then exit.fail(exit.FAILED, "eval: %s, line %d: %s", part, i, why) end
    entries[i - 1] = entry
  end
  return entries
end

local function answer(model, tok, tasks, o, out, head, progress)
  local entries = begun(out, head)
  if #entries > #tasks then exit.fail(exit.USAGE, "eval: %s.part has %d problems, and %d are asked", out, #entries, #tasks) end
  for i, entry in ipairs(entries) do progress(entry, i, true) end
  local file, why = io.open(out .. ".part", "ab")
  if not file then exit.fail(exit.FAILED, "eval: %s", why) end
  finally(function() file:close() end, work.run, model, tok, tasks, o, #entries + 1, function(entry, number, ahead)
    if not (file:write(json.encode(entry), "\n") and file:flush()) then
      exit.fail(exit.FAILED, "eval: %s.part cannot be written", out)
    end
    entries[number] = entry
    progress(entry, number, false, ahead)
  end)
  files.replace(out .. ".part", out)
  return entries
end

--- Answer tasks into a file.
-- @tparam Model model @tparam Tokenizer tok @tab tasks @tab o as in `cft.eval.work`
-- @string out @tab head what was asked, for those who read the file and to know it again
-- @func progress called with an entry, its number, whether it was in the file already, and how many further
-- ones are done, in parts
-- @treturn table the entries
function M.run(model, tok, tasks, o, out, head, progress)
  head[M.HEAD] = M.VERSION
  return part.alone("eval", out, function() return answer(model, tok, tasks, o, out, head, progress) end)
end

local function check_head(head, path)
  if type(head) ~= "table" or head[M.HEAD] ~= M.VERSION then
    exit.fail(exit.FAILED, "eval: %s is no file of results: its first line has no \"%s\": %d", path, M.HEAD, M.VERSION)
  end
  local known = false
  for _, mode in ipairs(grade.modes) do known = known or head.grade == mode end
  if not known then
    exit.fail(exit.FAILED, "eval: %s, line 1: 'grade' is not one of %s", path, table.concat(grade.modes, ", "))
  end
  return head
end

local function is_critique(c)
  local says = type(c) == "table" and (c.right == nil or type(c.right) == "boolean")
  return says and type(c.text) == "string" and (c.p == nil or type(c.p) == "number" and c.p >= 0 and c.p <= 1)
end

local VERDICTS = { right = true, wrong = true, unknown = true }

local function is_sample(s)
  if type(s) ~= "table" or type(s.text) ~= "string" or not VERDICTS[s.verdict] then return false end
  for _, name in ipairs { "answer", "reason", "finish" } do
    if s[name] ~= nil and type(s[name]) ~= "string" then return false end
  end
  if s.critiques ~= nil and type(s.critiques) ~= "table" then return false end
  for _, c in ipairs(s.critiques or {}) do
    if not is_critique(c) then return false end
  end
  return true
end

local function check_entry(entry, where)
  local ok = type(entry) == "table" and type(entry.bench) == "string" and type(entry.problem) == "table"
    and type(entry.problem.question) == "string" and type(entry.problem.number) == "number"
    and entry.problem.number % 1 == 0 and math.abs(entry.problem.number) < 2 ^ 53
    and type(entry.samples) == "table" and #entry.samples > 0
  for _, s in ipairs(ok and entry.samples or {}) do ok = ok and is_sample(s) end
  if not ok then
    exit.fail(exit.FAILED, "eval: %s: a line has a bench, a problem, and samples with text and verdict and, where they have critiques, " ..
              "a text and P(right) from 0 to 1 of each", where)
  end
  return entry
end

--- Read a file of results; one that is not whole yet as well, by the name of its `.part`.
-- @string path
-- @treturn table `head`; `names`, benchmarks in their order; `entries`, name → list
function M.read(path)
  local text = contents(path)
  if not text then exit.fail(exit.MISSING, "eval: there is no file %s", path) end
  local lines, result = whole(text), { names = {}, entries = {}, path = path }
  for i, line in ipairs(lines) do
    local where = ("%s, line %d"):format(path, i)
    local value, why = json.decode(line)
    if value == nil then exit.fail(exit.FAILED, "eval: %s: %s", where, why) end
    if i == 1 then
      result.head = check_head(value, path)
    else
      local entry = check_entry(value, where)
      if not result.entries[entry.bench] then
        result.names[#result.names + 1], result.entries[entry.bench] = entry.bench, {}
      end
      table.insert(result.entries[entry.bench], entry)
    end
  end
  if #result.names == 0 then exit.fail(exit.FAILED, "eval: %s has no results", path) end
  return result
end

--- Grade the answers of a file again.
-- @tab result of `read`; changed
-- @string mode
function M.regrade(result, mode)
  for _, name in ipairs(result.names) do
    local bench = benchmarks.get(name, true)
    for _, entry in ipairs(result.entries[name]) do
      for i, s in ipairs(entry.samples) do
        local ok, again = pcall(work.graded, bench, entry.problem, s.text, mode)
        if not ok then
          exit.fail(exit.FAILED, "eval: %s: %s, problem %d: %s", result.path, name, entry.problem.number, tostring(again))
        end
        again.text, again.finish, again.tokens, again.critiques = s.text, s.finish, s.tokens, s.critiques
        entry.samples[i] = again
      end
    end
  end
  result.head.grade = mode
  return result
end

--- Write results. @tab result @string out a file that is not there yet
function M.write(result, out)
  if host.kind(out) then exit.fail(exit.USAGE, "eval: %s is there already; remove it, or name another file", out) end
  local lines = { json.encode(result.head) }
  for _, name in ipairs(result.names) do
    for _, entry in ipairs(result.entries[name]) do lines[#lines + 1] = json.encode(entry) end
  end
  files.write(out, table.concat(lines, "\n") .. "\n")
end

return M
