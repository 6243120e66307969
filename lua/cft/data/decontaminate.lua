--- Decontamination: which training records ask what a benchmark asks.
--
-- A record is paired with a benchmark problem if its question shares 13 words in a row with it, or is
-- the same once case, white space and punctuation are gone. Pairs are ranked: the same question before
-- shared words, an equal answer before another one, many shared words before few. docs/data.md tells
-- the rest.
-- @module cft.data.decontaminate
-- @usage cft.files.write(path, '{"problem": "2 + 3?", "answer": "5"}\n')
-- local mine = cft.data.list { { instruction = "2+3", output = "5" }, { instruction = "2 + 3 ?", output = "5" } }
-- local found = cft.decontaminate.search(mine, { path })
-- print(found:describe())
-- found.count, found:drop(mine):size()   --> 2 0

local bit = require "bit"
local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local conversation = require "cft.data.conversation"
local data = require "cft.data.open"
local json = require "cft.base.json"
local parallel = require "cft.data.parallel"
local save = require "cft.io.save"
local template = require "cft.text.template"
local words = require "cft.data.util.word_hash"
local ffi = door.ffi
local bxor, rol = bit.bxor, bit.rol

local M = {}

--- Words in a row that make a pair: what GPT-3's authors took (arXiv 2005.14165, appendix C).
M.words = 13

-- ---- words -----------------------------------------------------------------------------------

-- The hash of 13 words, from that of the 13 which end a word earlier.
local function roll(h, k)
  h = bxor(rol(h, 1), words.hashes[k])
  if k >= M.words then h = bxor(h, rol(words.hashes[k - M.words], M.words)) end
  return h
end

-- Words `from` to `to` of the text in hand, in lower case, a space between them.
local function plain(text, from, to)
  local list = {}
  for k = from, to do list[#list + 1] = text:sub(words.starts[k] + 1, words.stops[k]):lower() end
  return table.concat(list, " ")
end

--- A text without what does not count: words in lower case, one space between them.
-- @string text
-- @usage cft.decontaminate.normal "What is  2+3, Tom?"   --> "what is 2 3 tom"
function M.normal(text) return plain(text, 0, words.find(text) - 1) end

-- ---- questions and answers -------------------------------------------------------------------

-- What the user asks, the solutions that are to be judged left out.
local function questions_of(record)
  local texts = {}
  for _, message in ipairs(record.messages) do
    if message.role == "user" then
      local parts = message.content
      if type(parts) == "string" then parts = template.parts("user", parts) end
      local asked = {}
      for _, part in ipairs(parts) do
        if part.kind ~= "response" then asked[#asked + 1] = part.text end
      end
      texts[#texts + 1] = table.concat(asked)
    end
  end
  return texts
end

-- The text of the last question: before an answer there may be calls of tools.
local function last_question(record)
  for k = #record.messages - 1, 1, -1 do
    if record.messages[k].role == "user" then return conversation.text(record.messages[k].content) end
  end
  return ""
end

-- The question alone, out of the frame that critique data puts around it.
local function bare(text)
  text = text:match "^.-Question:%s(.*)$" or text
  -- From the end: a pattern that looks for the white space before it tries each place of a long run.
  local framed = (text:match "^.*%S" or ""):match "^(.*)%sSolution:$"
  return framed and (framed:match "^.*%S" or "") or text
end

local function strings(t, names)
  local list = {}
  for _, name in ipairs(names) do
    local value = type(t) == "table" and t[name]
    if type(value) == "table" then value = value[1] end
    if type(value) == "number" then value = ("%.14g"):format(value) end
    if type(value) == "string" and value ~= "" then list[#list + 1] = value end
  end
  return list
end

-- The text in the last \boxed{...}.
local function boxed(text)
  local inner = text:match "^.*\\boxed(%b{})"
  return inner and inner:sub(2, -2)
end

local ANSWERS = { "answer", "final_answer", "gt_answer", "ground_truth" }

-- Answers, without white space and dollars: enough to say that two are the same.
local function answers_of(t, text)
  local list = strings(t, ANSWERS)
  list[#list + 1] = boxed(text)
  for i, answer in ipairs(list) do list[i] = answer:gsub("[%s%$]", ""):lower() end
  return list
end

local function shares(a, b)
  for _, x in ipairs(a) do
    for _, y in ipairs(b) do
      if x == y then return true end
    end
  end
  return false
end

-- ---- the benchmark problems ------------------------------------------------------------------

local Index = {}
Index.__index = Index

-- Note that 13 words of problem `number` begin at its word `first`.
local function add_gram(self, hash, number, first)
  if self.grams == self.capacity then
    self.capacity = math.max(2 * self.capacity, 4096)
    for _, name in ipairs { "hash", "number", "first" } do
      self[name] = door.resized(self[name], "int32_t", self.capacity)
    end
  end
  local k = self.grams
  self.hash[k], self.number[k], self.first[k] = hash, number, first
  self.grams = k + 1
end

-- Chains of equal low bits: `heads[h & mask]`, then `next`; -1 ends one.
local function chain(self)
  local slots = 1024
  while slots < 2 * self.grams do slots = 2 * slots end
  self.mask = slots - 1
  self.heads, self.next = ffi.new("int32_t[?]", slots), ffi.new("int32_t[?]", math.max(self.grams, 1))
  ffi.fill(self.heads, 4 * slots, 0xff)
  for k = self.grams - 1, 0, -1 do
    local slot = bit.band(self.hash[k], self.mask)
    self.next[k], self.heads[slot] = self.heads[slot], k
  end
end

-- The question of a benchmark's record, and what may hold its answer.
local function read_problem(record)
  local text = strings(record, { "problem", "question" })[1]
  if text then return text, strings(record, { "solution" })[1] or "" end
  local asked = conversation.of(record)
  if not asked then return nil end
  return questions_of(asked)[1], conversation.answer(asked)
end

--- Read benchmarks.
-- @param paths what `data.open` takes; records have `problem` or `question`, or are conversations
-- @treturn Index `problems`: a list of `{ number, text, where, answers }`
-- @usage cft.files.write(path, '{"problem": "2 + 3?", "answer": "5"}\n')
-- local index = cft.decontaminate.index { path }
-- index:look(cft.data.conversation { instruction = "2 + 3 ?", output = "5" })[1].equal   --> true
function M.index(paths)
  local self = setmetatable({ problems = {}, whole = {}, grams = 0, capacity = 0 }, Index)
  for _, path in ipairs(data.paths(paths)) do
    local source = data.open(path, { schema = "none" })
    for i, record in source:records() do
      local text, solution = read_problem(record)
      if not text then
        blame("decontaminate: %s: neither 'problem' nor 'question'", source:where(i))
      end
      local number = #self.problems + 1
      self.problems[number] = { number = number, text = text, where = source:where(i),
        answers = answers_of(record, solution) }
      local n, h = words.find(text), 0
      for k = 0, n - 1 do
        h = roll(h, k)
        if k >= M.words - 1 then add_gram(self, h, number, k - M.words + 1) end
      end
      local normal = plain(text, 0, n - 1)
      if normal ~= "" then
        self.whole[normal] = self.whole[normal] or {}
        table.insert(self.whole[normal], number)
      end
    end
  end
  chain(self)
  return self
end

-- 13 words of a problem, as `plain` writes them, without a change to the words of the text in hand.
local function gram_of(problem, first)
  if not problem.words then  -- few problems are asked for, and those again and again
    problem.words = {}
    for word in problem.text:gmatch "[%w\128-\255]+" do table.insert(problem.words, word:lower()) end
  end
  return table.concat(problem.words, " ", first + 1, first + M.words)
end

-- Pairs of one text by number of problem: how many runs of 13 words they share, and the words of the
-- first passage, [from, to].
local function look_for_grams(self, text, found)
  local n, h = words.find(text), 0
  for k = 0, n - 1 do
    h = roll(h, k)
    local g = k >= M.words - 1 and self.heads[bit.band(h, self.mask)] or -1
    while g >= 0 do
      if self.hash[g] == h then
        local number, from = self.number[g], k - M.words + 1
        if gram_of(self.problems[number], self.first[g]) == plain(text, from, k) then
          local pair = found[number] or { shared = 0, from = from, to = k, text = text }
          if pair.text == text and k == pair.to + 1 then pair.to = k end
          found[number], pair.shared = pair, pair.shared + 1
        end
      end
      g = self.next[g]
    end
  end
  for _, pair in pairs(found) do
    if pair.text == text and not pair.passage then
      pair.passage = text:sub(words.starts[pair.from] + 1, words.stops[pair.to])
    end
  end
end

--- The pairs of one record.
-- @tab record a conversation
-- @treturn table a list of `{ problem, shared, passage, equal, answer }`: the problem of `problems`, how
-- many runs of 13 words it shares, the first passage; whether the questions are the same, and the answers
function Index:look(record)
  local questions, found = questions_of(record), {}
  for _, text in ipairs(questions) do look_for_grams(self, text, found) end
  for _, name in ipairs { "problem", "question" } do
    questions[#questions + 1] = strings(record.raw, { name })[1]
  end
  for _, text in ipairs(questions) do
    for _, candidate in ipairs { text, bare(text) } do
      for _, number in ipairs(self.whole[M.normal(candidate)] or {}) do
        found[number] = found[number] or { shared = 0, passage = candidate }
        found[number].equal = true
      end
    end
  end
  local list, answers = {}, nil
  for number, pair in pairs(found) do
    answers = answers or answers_of(record.raw, last_question(record))
    list[#list + 1] = { problem = self.problems[number], shared = pair.shared, passage = pair.passage,
      equal = pair.equal or false, answer = shares(answers, self.problems[number].answers) }
  end
  return list
end

-- ---- a training set --------------------------------------------------------------------------

local Found = {}
Found.__index = Found

--- Pairs that are kept: those of the highest ranks. The others are counted, and their records too are in `records`.
M.KEPT = 10000

local function before(a, b)
  if a.equal ~= b.equal then return a.equal end
  if a.answer ~= b.answer then return a.answer end
  if a.shared ~= b.shared then return a.shared > b.shared end
  if a.record ~= b.record then return a.record < b.record end
  return a.problem < b.problem
end

local function keep_best(pairs)
  table.sort(pairs, before)
  for k = #pairs, M.KEPT + 1, -1 do pairs[k] = nil end
end

-- The pairs of a record as a text, from one process to another, and back. A passage holds what it likes.
local function write_list(list)
  local texts = {}
  for k, pair in ipairs(list) do
    texts[k] = ("%d %d %d %d %d\n%s"):format(pair.problem.number, pair.shared, pair.equal and 1 or 0,
      pair.answer and 1 or 0, #pair.passage, pair.passage)
  end
  return table.concat(texts)
end

local function read_list(text)
  local list, at = {}, 1
  while at <= #text do
    local _, stop, problem, shared, equal, answer, bytes = text:find("^(%d+) (%d+) ([01]) ([01]) (%d+)\n", at)
    at = stop + 1 + tonumber(bytes)
    list[#list + 1] = { problem = tonumber(problem), shared = tonumber(shared), equal = equal == "1",
      answer = answer == "1", passage = text:sub(stop + 1, at - 1) }
  end
  return list
end

--- Look at every record of a source.
-- @param source of `cft.data`
-- @param benchmarks paths, or an Index
-- @tab[opt] opts `processes`: as `cft.data.parallel` chooses if absent; the result is the same for any number
-- @treturn Found `count` pairs; `pairs`: the highest ranks, at most `KEPT`, each `{ rank, record, where, benchmark,
-- shared, equal, answer, passage }`; `records`: the numbers of the records that are in a pair, in order
function M.search(source, benchmarks, opts)
  local o = check.options("decontaminate.search", opts, { processes = parallel.option })
  local index = getmetatable(benchmarks) == Index and benchmarks or M.index(benchmarks)
  local self = setmetatable({ name = source.name, size = source:size(), problems = #index.problems, pairs = {},
    count = 0, records = {} }, Found)
  parallel.each(source, {
    processes = o.processes,
    of = function(record)
      local list = index:look(record)
      return #list > 0 and write_list(list) or nil
    end,
    take = function(i, at, bytes)
      self.records[#self.records + 1] = i
      for _, pair in ipairs(read_list(ffi.string(at, bytes))) do
        pair.record = i
        self.pairs[#self.pairs + 1], self.count = pair, self.count + 1
      end
      if #self.pairs > 2 * M.KEPT then keep_best(self.pairs) end
    end,
  })
  keep_best(self.pairs)
  for rank, pair in ipairs(self.pairs) do
    pair.rank, pair.where, pair.benchmark = rank, source:where(pair.record), index.problems[pair.problem].where
    pair.problem = nil
  end
  return self
end

--- The source without the records that are in a pair.
-- @param source the one that was searched
-- @treturn Source
function Found:drop(source) return source:without(self.records) end

local function shortened(text)
  text = text:gsub("%s+", " ")
  if #text <= 100 then return text end
  return text:sub(1, 97):gsub("[\128-\255]*$", "") .. "..."
end

--- A pair in two lines.
-- @usage cft.files.write(path, '{"problem": "2 + 3?", "answer": "5"}\n')
-- local found = cft.decontaminate.search(cft.data.list { { instruction = "2 + 3 ?", output = "5" } }, { path })
-- print(cft.decontaminate.describe(found.pairs[1]))   -->   1. list: record 0 = ...: record 0, line 1: the same question      "2 + 3 ?"
function M.describe(pair)
  local why = pair.equal and "the same question" or ("%d runs of %d words shared"):format(pair.shared, M.words)
  return ("  %d. %s = %s: %s%s\n     %q"):format(pair.rank, pair.where, pair.benchmark, why,
    pair.answer and ", equal answers" or "", shortened(pair.passage))
end

local LISTED = 20

--- What was found, the highest ranks first.
-- @int[opt=20] most pairs that are listed
-- @treturn string
function Found:describe(most)
  most = most or LISTED
  local lines = { ("decontamination of %s: %d of %d records ask what one of %d benchmark problems asks"):format(
    self.name, #self.records, self.size, self.problems) }
  for k = 1, math.min(#self.pairs, most) do lines[#lines + 1] = M.describe(self.pairs[k]) end
  if self.count > most then
    lines[#lines + 1] = ("  and %d more pairs%s"):format(self.count - most,
      self.count > #self.pairs and (", of which those beyond %d are only counted"):format(#self.pairs) or "")
  end
  return table.concat(lines, "\n")
end

-- ---- in a run --------------------------------------------------------------------------------

--- Look at records one by one, as they come: for a stream.
-- @tab opts `files`, `drop` and `say` of `apply`
-- @treturn func of a record and where it is from: why it is to be left out, or nil. A pair is said once
-- @usage cft.files.write(path, '{"problem": "2 + 3?", "answer": "5"}\n')
-- local why = cft.decontaminate.watch { files = { path }, drop = true, say = print }
-- why(cft.data.conversation { instruction = "2 + 3 ?", output = "5" }, "mine: record 0")   --> decontamination:   1. mine: ...the same question      "2 + 3 ?" "asks what a benchmark asks"
function M.watch(opts)
  local o = check.options("decontaminate", opts, {
    files = { "string|table" }, drop = { "boolean", false }, say = { "function" },
  })
  local index, told, rank = M.index(o.files), {}, 0
  return function(record, where)
    local list = index:look(record)
    if #list == 0 then return nil end
    for _, pair in ipairs(told[where] and {} or list) do
      rank = rank + 1
      o.say("decontamination: " .. M.describe { rank = rank, where = where, benchmark = pair.problem.where,
        shared = pair.shared, equal = pair.equal, answer = pair.answer, passage = pair.passage })
    end
    told[where] = true
    return o.drop and "asks what a benchmark asks" or nil
  end
end

local function write_pairs(path, all)
  local lines = {}
  for _, found in ipairs(all) do
    for _, pair in ipairs(found.pairs) do lines[#lines + 1] = json.encode(pair) end
  end
  save.write(path, #lines > 0 and table.concat(lines, "\n") .. "\n" or "")
end

--- Report, and drop where that is wanted.
-- @param source of `cft.data`, or a mixture
-- @tab opts
-- @param opts.files benchmarks, as `index` takes them
-- @bool[opt=false] opts.drop leave the records out
-- @func opts.say gets the report as a text
-- @string[opt] opts.out folder that receives the pairs that are kept, in decontamination.jsonl
-- @int[opt] opts.processes as in `search`
-- @treturn Source or mixture: what to train on
-- @treturn table a list of Found, one a source
-- @usage cft.files.write(path, '{"problem": "2 + 3?", "answer": "5"}\n')
-- cft.decontaminate.apply(source, { files = { path }, say = print }):size()   --> decontamination of generated: 0 of 3 records ask what one of 1 benchmark problems asks 3
function M.apply(source, opts)
  local o = check.options("decontaminate", opts, {
    files = { "string|table" }, drop = { "boolean", false }, say = { "function" },
    out = { "string", optional = true }, processes = parallel.option,
  })
  local index, all = M.index(o.files), {}
  local function one(part)
    local found = M.search(part, index, { processes = o.processes })
    all[#all + 1] = found
    o.say(found:describe())
    if #found.records == 0 then return part end
    o.say(o.drop and ("  dropped: %d"):format(#found.records)
          or "  kept; decontaminate_drop = true leaves them out")
    return o.drop and found:drop(part) or part
  end
  local clean = source.parts and source:map(one) or one(source)
  if o.out then write_pairs(o.out .. "/decontamination.jsonl", all) end
  return clean, all
end

return M
