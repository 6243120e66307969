--- Problems are answered, criticised and graded, in their order, many at once.
-- @module cft.eval.work

local critics = require "cft.eval.judge.critic"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local fork = require "cft.eval.judge.fork"
local generate = require "cft.generate"
local json = require "cft.base.json"
local prompts = require "cft.eval.prompts"
local ranks = require "cft.ranks"
local texts = require "cft.generate.text"

local M = {}

--- All problems of several benchmarks as one list of tasks, each with its `number` in it, by which its noise is drawn.
-- @tab benches @tab problems name → list
function M.tasks(benches, problems)
  local list = {}
  for _, bench in ipairs(benches) do
    for _, problem in ipairs(problems[bench.name]) do list[#list + 1] = { bench = bench, problem = problem, number = #list + 1 } end
  end
  return list
end

-- ---- calls ---------------------------------------------------------------------------------------

-- How a problem is answered: the benchmark's stop strings and bound, where no others were asked for.
local function answering(task, o)
  local call = {}
  for name in pairs(generate.sampling) do call[name] = o[name] end
  call.stop = call.stop or task.bench.stop
  call.max_new = call.max_new or task.bench.max_new
  return call
end

-- How an answer is criticised: drawn as answers are, several times.
local function criticising(o)
  local call = {}
  for name in pairs(generate.sampling) do call[name] = o[name] end
  call.n, call.max_new, call.stop = o.critiques, o.critique_max_new or critics.MAX_NEW, critics.STOP
  return call
end

local TOP = 64  -- how many of the likeliest tokens are looked at where a verdict is read

-- How a verdict is read: the likeliest tokens that may follow, by the model as it is, whatever temperature
-- critiques have.
local function reading(model)
  return { n = 1, max_new = 1, ends = false, logprobs = math.min(TOP, model.config.vocab), temperature = 0,
           top_k = 0, top_p = 1, min_p = 0, penalty = 1, seed = 0 }
end

-- Noise is a function of a sequence's number: that of an answer is its place among all, and those of
-- critiques stand behind all that answers may have.
local CRITIQUES = 2 ^ 40

-- ---- one task ------------------------------------------------------------------------------------

-- White space at both ends is no part of an answer, as in the authors' evaluation.
local function trimmed(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

--- One answer graded. @tab bench @tab problem @string text @string mode
function M.graded(bench, problem, text, mode)
  local v = bench.grade(problem, text, mode)
  return { verdict = v.verdict, reason = v.reason, answer = texts.valid(v.answer or ""), parts = v.parts }
end

-- Where a task's prompt stands, for messages.
local function where_of(task) return ("eval: %s, problem %d"):format(task.bench.name, task.problem.number) end

-- The probability of the first of two tokens against the second; one that is not among the likeliest has at
-- most the last one's.
local function share_of(top, question)
  local found, least = {}, 0
  for _, entry in ipairs(top) do found[entry.id], least = entry.logprob, entry.logprob end
  return fork.share(found[question.right] or least, found[question.wrong] or least)
end

local function written(seq, call)
  local s = generate.sample(seq, call)
  return { text = trimmed(texts.valid(s.text)), finish = s.finish, tokens = #s.ids }
end

-- The way of a task through the engine. `ask(prompt, call, sequence, first)` gives the sequences of a
-- request, or nil where the prompt fills the model's context; `wait()` returns when all that was asked is
-- finished.
local function answer(self, task, number, ask, wait)
  local o, problem, samples = self.o, task.problem, {}
  local call = answering(task, o)
  local group = ask(prompts.ids(self.tok, task.bench, problem, o.template, where_of(task)), call, (number - 1) * o.n)
  wait()
  for i, seq in ipairs(group) do
    samples[i] = written(seq, call)
    for name, value in pairs(M.graded(task.bench, problem, samples[i].text, o.grade)) do samples[i][name] = value end
  end
  local entry = { bench = task.bench.name, problem = problem, samples = samples }
  if not self.critic then return entry end

  local how, groups = criticising(o), {}
  for i, s in ipairs(samples) do
    local ids = self.critic:prompt(problem.question, s.text, where_of(task))
    groups[i] = ask(ids, how, CRITIQUES + ((number - 1) * o.n + i - 1) * o.critiques, true)
  end
  wait()
  local readings = {}
  for i, s in ipairs(samples) do
    s.critiques = json.array()
    for k, seq in ipairs(groups[i] or {}) do
      local c = written(seq, how)
      local right, first, last = self.critic:verdict(c.text)
      local q = first and self.critic:reading(problem.question, s.text, c.text, first, last, where_of(task))
      local read = q and ask(q.prompt, self.reading, 0, true)
      if read then readings[#readings + 1] = { critique = c, question = q, seq = read[1] } end
      c.right, s.critiques[k] = right, c
    end
  end
  wait()
  for _, r in ipairs(readings) do
    r.critique.p = share_of(generate.sample(r.seq, self.reading).top[1], r.question)
  end
  return entry
end

-- ---- all tasks -----------------------------------------------------------------------------------

local function finished(group)
  for _, seq in ipairs(group) do
    if not seq.finish then return false end
  end
  return true
end

-- A task under way: a coroutine that is gone on with when the groups that it waits for are finished.
local function begin(self, task, number)
  local one = { groups = {}, tokens = 0, seqs = {} }
  local function ask(ids, call, sequence, first)
    if #ids >= self.model.config.context and first then return nil end
    local request = generate.request(self.model, self.tok, ids, call, sequence, nil, where_of(task))
    request.first = first  -- before answers of other tasks: what it begins with is still in the cache
    local group = self.engine:add(request)
    one.groups[#one.groups + 1] = group
    for _, seq in ipairs(group) do one.seqs[#one.seqs + 1] = seq end
    return group
  end
  one.thread = coroutine.create(function() return answer(self, task, number, ask, coroutine.yield) end)
  return one
end

-- Go on with a task as far as it comes.
local function advance(one)
  while not one.entry do
    while one.groups[1] and finished(one.groups[1]) do table.remove(one.groups, 1) end
    if one.groups[1] then return end
    local ok, result = coroutine.resume(one.thread)
    if not ok then error(result, 0) end
    if coroutine.status(one.thread) == "dead" then one.entry = result end
  end
end

local function tokens_of(one)
  local n = 0
  for _, seq in ipairs(one.seqs) do n = n + #seq.ids - seq.prompt end
  return n
end

-- How many tasks of those under way are done, in parts: by the tokens that they have, of as many as the
-- others took.
local function ahead_of(under_way, first, last, mean)
  local sum = 0
  for i = first, last do
    local one = under_way[i]
    sum = sum + (one.entry and 1 or mean > 0 and math.min(0.95, tokens_of(one) / mean) or 0)
  end
  return sum
end

-- The engine is kept busy with tasks from `first` on; each is put when those before it are.
local function drive(self, tasks, first, put)
  local here = ranks.here()
  local o, added, done, under_way, tokens = self.o, first - 1, first - 1, {}, 0
  local room = math.max(1, math.floor(4 * o.batch / o.n))  -- tasks at once, so that no sequence of the batch is idle
  while done < #tasks do
    while added < #tasks and added - done < room do
      added = added + 1
      under_way[added] = begin(self, tasks[added], tasks[added].number)
      advance(under_way[added])
    end
    here:at "writing answers"  -- what takes long is made of short parts: the others wait for this rank
    self.engine:step()
    for i = done + 1, added do advance(under_way[i]) end
    while under_way[done + 1] and under_way[done + 1].entry do
      done = done + 1
      tokens = tokens + tokens_of(under_way[done])
      local entry = under_way[done].entry
      under_way[done] = nil
      put(entry, done, ahead_of(under_way, done + 1, added, tokens / (done - first + 1)))
    end
  end
end

-- The longest requests that tasks may make, for the engine's memory.
local function sizes_of(self, tasks, first)
  local o, sizes = self.o, {}
  local how = self.critic and criticising(o)
  local empty = self.critic and #self.critic:prompt("", "", "eval")
  for i = first, #tasks do
    local call = answering(tasks[i], o)
    local ids = prompts.ids(self.tok, tasks[i].bench, tasks[i].problem, o.template, where_of(tasks[i]))
    if #ids >= self.model.config.context then
      exit.fail(exit.USAGE, "%s: a prompt of %d tokens, but the model's context is %d", where_of(tasks[i]), #ids,
                self.model.config.context)
    end
    sizes[#sizes + 1] = { prompt = ids, n = o.n, max_new = call.max_new }
    -- A critic reads the question and the answer, of which each token may come back as three where it was no
    -- UTF-8.
    if how then
      sizes[#sizes + 1] = { prompt = ids, n = o.n * o.critiques,
                            max_new = 3 * call.max_new + empty + how.max_new }
    end
  end
  return sizes
end

--- Answer and grade tasks.
-- @tparam Model model @tparam Tokenizer tok @tab tasks of `M.tasks`
-- @tab o of `cft.generate.sampling` and `cft.generate.engine`; `template`, of `cft.eval.prompts`; `grade`, a
-- mode; where answers are criticised `critiques`, how many of each, `critique_form` and `critic_template` of
-- `cft.eval.judge.critic`, and `critique_max_new`
-- @int first the first task that is wanted, from 1
-- @func put called with each entry, in order, its number, and how many further tasks are done by then, in
-- parts:
-- `bench`, `problem`, and `samples`, a list of `text`, `finish`, `tokens`, `verdict`, `answer`, `reason`, and
-- `critiques`, a list of
-- `text`, `finish`, `tokens`, `right` (nil where it does not conclude) and `p`, P(right) at the verdict.
-- Noise is a function of a task's number, so entries do not depend on `first`
-- @treturn ?table what the engine counted; nil where nothing was left to do
function M.run(model, tok, tasks, o, first, put)
  if first > #tasks then return end
  local self = { model = model, tok = tok, o = o, reading = reading(model) }
  if (o.critiques or 0) > 0 then self.critic = critics.new(tok, o) end
  self.engine = generate.engine_for(model, sizes_of(self, tasks, first), o, "eval")
  finally(function() self.engine:release() end, drive, self, tasks, first, put)
  return self.engine.counts
end

return M
