--- The benchmarks by their names. Each is a Lua file of this folder, or one of a user's.
--
-- A benchmark is a table:
--
--   name, about       the name, and a line for people
--   places            where its records lie below a data folder: files, the first that is there
--   records(limit)    in place of places and hub: a source that is made and not read, and whatever records it has
--   all_places        true where each of the places is a part of it
--   hub               the data set in the Hub's cache, as `cft.data.open` names it; a list where it has several parts
--   problem(record, number, file)   what is asked: a table that JSON can hold, with `question` and `reference` and
--                     whatever grading needs; or nil and why the record cannot be used
--   messages(problem) the system text (may be nil) and what the user says
--   stop, max_new     strings that end an answer, and how many tokens it may have
--   grade(problem, text, mode)      `verdict`, `answer`, `reason`
--   judged(record)    where its problems are solutions whose steps are labelled: `problem`, `steps`, `label`, as `cft.critique.steps` has them
--   checks()          what its checks depend on beside the records, as a text for the head of a file of results
--   summary(entries)  more numbers than the share of right answers: a list of { name, value, error }
--   metric            the name of its number, where that is not pass@1: what `select` and `retain` follow
--   rules             modes of its own in place of the grader's, if it has but one way to grade
--   no_votes          true where no two answers can be equal: nothing is voted on, and nothing criticised
-- @module cft.eval.benchmarks

local blame = require "cft.base.blame"
local check = require "cft.base.check"

local M = {}

--- The names, in the order in which they are shown.
M.names = { "gsm8k", "math-500", "math", "math-validation", "minerva-math", "olympiadbench", "aime24", "aime25", "amc23",
            "theoremqa", "mmlu-pro", "gpqa", "ifeval", "processbench", "mr-gsm8k",
            "demo" }

local known, own = {}, {}
for _, name in ipairs(M.names) do known[name] = true end

local function checked(bench, where)
  for field, kind in pairs { name = "string", about = "string", problem = "function", messages = "function",
                             grade = "function", max_new = "number", stop = "table" } do
    if type(bench) ~= "table" or type(bench[field]) ~= kind then
      blame("%s: a benchmark returns a table with `%s`, a %s", where, field, kind)
    end
  end
  return bench
end

-- A benchmark of a user's: a Lua file that returns the table.
local function from_file(path)
  local chunk, why = loadfile(path)
  if not chunk then blame("eval: no benchmark in %s: %s", path, why) end
  local bench = checked(chunk(), path)
  if known[bench.name] then blame("%s: '%s' is the name of a benchmark of cft; take another", path, bench.name) end
  own[bench.name] = bench
  return bench
end

--- Whether a name is a benchmark's, or the path of one.
-- @string name
function M.known(name) return known[name] or own[name] ~= nil or name:find "%.lua$" ~= nil end

--- A benchmark.
-- @string name one of `names`, of a file that was loaded before, or the path of a Lua file
-- @bool[opt] here no path: nothing is loaded that others, as a file of results, have named
-- @treturn table
function M.get(name, here)
  if own[name] then return own[name] end
  if name:find "%.lua$" and not here then return from_file(name) end
  if not known[name] then
    blame("eval: no benchmark '%s'%s; there are %s, or the path of a Lua file", name, check.suggestion(name, M.names),
          table.concat(M.names, ", "))
  end
  return checked(require("cft.eval.benchmarks." .. name:gsub("-", "_")), name)
end

return M
