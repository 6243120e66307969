--- Problems are answered and graded, in their order, many at once.
-- @module cft.eval.work

local finally = require "cft.base.finally"
local generate = require "cft.generate"
local prompts = require "cft.eval.prompts"
local texts = require "cft.generate.text"

local M = {}

--- All problems of several benchmarks as one list of tasks.
-- @tab benches @tab problems name → list
function M.tasks(benches, problems)
  local list = {}
  for _, bench in ipairs(benches) do
    for _, problem in ipairs(problems[bench.name]) do list[#list + 1] = { bench = bench, problem = problem } end
  end
  return list
end

-- The call's options for a problem: the benchmark's stop strings and bound, where no others were asked for.
local function options_for(task, o)
  local call = {}
  for name in pairs(generate.sampling) do call[name] = o[name] end
  call.stop = call.stop or task.bench.stop
  call.max_new = call.max_new or task.bench.max_new
  return call
end

-- White space at both ends is no part of an answer, as in the authors' evaluation.
local function trimmed(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

--- One answer graded. @tab bench @tab problem @string text @string mode
function M.graded(bench, problem, text, mode)
  local v = bench.grade(problem, text, mode)
  return { verdict = v.verdict, reason = v.reason, answer = texts.valid(v.answer or ""), parts = v.parts }
end

local function entry_of(task, group, o)
  local samples = {}
  for i, seq in ipairs(group) do
    local s = generate.sample(seq, o)
    local text = trimmed(texts.valid(s.text))
    local one = M.graded(task.bench, task.problem, text, o.grade)
    one.text, one.finish, one.tokens = text, s.finish, #s.ids
    samples[i] = one
  end
  return { bench = task.bench.name, problem = task.problem, samples = samples }
end

local function finished(group)
  for _, seq in ipairs(group) do
    if not seq.finish then return false end
  end
  return true
end

-- Where a task's prompt stands, for messages.
local function where_of(task) return ("eval: %s, problem %d"):format(task.bench.name, task.problem.number) end

-- The engine is kept busy with tasks from `first` on; each is put when those before it are.
local function drive(engine, model, tok, tasks, o, first, put)
  local added, done, waiting = first - 1, first - 1, {}
  while done < #tasks do
    while added < #tasks and added - done < 4 * o.batch do
      added = added + 1
      local task = tasks[added]
      local call = options_for(task, o)
      local ids = prompts.ids(tok, task.bench, task.problem, o.template, where_of(task))
      local request = generate.request(model, tok, ids, call, (added - 1) * o.n, nil, where_of(task))
      waiting[added] = engine:add(request)
    end
    engine:step()
    while waiting[done + 1] and finished(waiting[done + 1]) do
      done = done + 1
      put(entry_of(tasks[done], waiting[done], o), done)
      waiting[done] = nil
    end
  end
end

--- Answer and grade tasks.
-- @tparam Model model @tparam Tokenizer tok @tab tasks of `M.tasks`
-- @tab o of `cft.generate.sampling` and `cft.generate.engine`; `template`, of `cft.eval.prompts`; `grade`, a mode
-- @int first the first task that is wanted, from 1
-- @func put called with each entry, in order, and its number: `bench`, `problem`, and `samples`, a list of `text`, `finish`,
-- `tokens`, `verdict`, `answer`, `reason`. Noise is a function of a task's number, so entries do not depend on `first`
function M.run(model, tok, tasks, o, first, put)
  if first > #tasks then return end
  local sizes = {}
  for i = first, #tasks do
    local call = options_for(tasks[i], o)
    local ids = prompts.ids(tok, tasks[i].bench, tasks[i].problem, o.template, where_of(tasks[i]))
    sizes[#sizes + 1] = { prompt = ids, n = o.n, max_new = call.max_new }
  end
  local engine = generate.engine_for(model, sizes, o, "eval")
  sizes = nil
  finally(function() engine:release() end, drive, engine, model, tok, tasks, o, first, put)
end

return M
