--- Scores of a model on benchmarks: problems answered, graded, counted; docs/eval.md.
-- @module cft.eval
-- @usage cft.files.write(path, '{"question": "2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}\n')
-- local bench = cft.eval.benchmark "gsm8k"
-- local lists = cft.eval.problems({ bench }, { data = path })
-- local o = cft.check.options("eval", { max_new = 4 }, cft.generate.options)
-- o.template, o.grade = "auto", "symbolic"
-- local entries = cft.eval.entries(model, tok, { bench }, lists, o)
-- cft.eval.score(bench, entries.gsm8k, "symbolic").problems   --> 1

local benchmarks = require "cft.eval.benchmarks"
local compare = require "cft.eval.compare"
local critics = require "cft.eval.judge.critic"
local file = require "cft.eval.file"
local host = require "cft.host"
local json = require "cft.base.json"
local problems = require "cft.eval.problems"
local prompts = require "cft.eval.prompts"
local score = require "cft.eval.score"
local states = require "cft.io.state"
local work = require "cft.eval.work"

local M = { benchmark = benchmarks.get, names = benchmarks.names, read = file.read, write = file.write, regrade = file.regrade,
            compare = compare.of, score = score.of, probe = require "cft.eval.judge.probe" }

--- The problems of benchmarks.
-- @tab benches @tab o `data`, a folder or file (absent, the Hub's cache), `limit`
-- @treturn table name → list of problems; in `hashes` what the records are
function M.problems(benches, o)
  local out = { hashes = {} }
  for _, bench in ipairs(benches) do
    out[bench.name], out.hashes[bench.name] = problems.read(bench, o.data, #benches == 1, o.limit)
  end
  return out
end

--- The benchmark by which a checkpoint was chosen, as its own state or the summary of its run says.
-- @string[opt] path folder of the model
-- @treturn ?string its name; nil where none chose it, or nobody says so
-- @usage model:save(folder)
-- cft.eval.chosen_by(folder)   --> nil
function M.chosen_by(path)
  if not path or host.kind(path) ~= "folder" then return nil end
  local state = host.kind(path .. "/state.msgpack") == "file" and states.read(path .. "/state.msgpack")
  local of_state = type(state) == "table" and type(state.live) == "table" and state.live.select
  local name = type(of_state) == "table" and of_state.bench
  if not name then
    local summary = json.read(path .. "/../summary.json")
    name = type(summary) == "table" and summary.selected_by
  end
  return type(name) == "string" and name or nil
end

-- What was asked, for the head of a file.
local function head_of(model, benches, lists, o)
  local head = { model = model.path, selected_by = M.chosen_by(model.path), dtype = model.dtype, grade = o.grade, samples = o.n, template = o.template, benches = {} }
  for _, name in ipairs { "temperature", "top_k", "top_p", "min_p", "penalty", "seed", "max_new", "stop" } do head[name] = o[name] end
  if (o.critiques or 0) > 0 then
    for _, name in ipairs { "critiques", "critique_form", "critic_template", "critique_max_new" } do head[name] = o[name] end
  end
  for _, bench in ipairs(benches) do
    head.benches[bench.name] = { problems = #lists[bench.name], data = lists.hashes[bench.name],
                                 checks = bench.checks and bench.checks() }
  end
  return head
end

local function settled(tok, o)
  if o.template == "auto" then o.template = prompts.choose(tok) end
  if o.critic_template == "auto" then o.critic_template = critics.choose(tok) end
  o.ends = true
  return o
end

--- Answer and grade problems into a file of results.
-- @tparam Model model @tparam Tokenizer tok @tab benches @tab lists of `problems`
-- @tab o as in `cft.eval.work`, and `out`
-- @func progress see `cft.eval.file`
-- @treturn table as `read` gives it
-- @usage cft.files.write(path, '{"question": "2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}\n')
-- local benches, o = { cft.eval.benchmark "gsm8k" }, cft.check.options("eval", { max_new = 4 }, cft.generate.options)
-- o.template, o.grade, o.out = "auto", "symbolic", path .. ".results"
-- cft.eval.to_file(model, tok, benches, cft.eval.problems(benches, { data = path }), o, function() end)
-- local result = cft.eval.read(o.out)
-- cft.eval.regrade(result, "strict")
-- cft.eval.write(result, path .. ".strict")
-- cft.eval.page(path .. ".html", { result })
-- #result.entries.gsm8k   --> 1
function M.to_file(model, tok, benches, lists, o, progress)
  settled(tok, o)
  file.run(model, tok, work.tasks(benches, lists), o, o.out, head_of(model, benches, lists, o), progress)
  return file.read(o.out)
end

--- Answer and grade problems in memory.
-- @tparam Model model @tparam Tokenizer tok @tab benches @tab lists of `problems`
-- @tab o as in `cft.eval.work`
-- @tparam[opt] Ranks here of which this one answers its share
-- @return name → list of entries
function M.entries(model, tok, benches, lists, o, here)
  local out, tasks = {}, work.tasks(benches, lists)
  work.run(model, tok, here and here:share(tasks) or tasks, settled(tok, o), 1, function(entry)
    out[entry.bench] = out[entry.bench] or {}
    table.insert(out[entry.bench], entry)
  end)
  return out
end

--- Write the page of one file of results, or of two. @string path @tab results
function M.page(path, results) require("cft.eval.page").write(path, results) end

return M
