-- Decontamination: what makes a pair, its rank, what a run reports and drops.

local decontaminate = require "cft.data.decontaminate"
local data = require "cft.data.open"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

local FRAME = "Please critique whether the following solution to the question is correct.\n\nQuestion:\n%s\n\nSolution:\n%s"

local function critique(question, solution, output)
  return { instruction = FRAME:format(question, solution or "It is 4."), output = output or "Conclusion: right" }
end

-- A text of the words w1, w2, ...
local function words(from, to)
  local list = {}
  for k = from, to do list[#list + 1] = "w" .. k end
  return table.concat(list, " ")
end

local function benchmark(...)
  local lines = {}
  for i, problem in ipairs { ... } do lines[i] = json.encode(problem) end
  return process.write(process.folder() .. "/bench.jsonl", table.concat(lines, "\n") .. "\n")
end

local function search(records, ...) return decontaminate.search(data.list(records), benchmark(...)) end

-- The pairs as text: record, shared runs, the same question, the same answer.
local function shown(found)
  local list = {}
  for i, p in ipairs(found.pairs) do
    expect.same(p.rank, i)
    list[i] = ("%d %d %s %s"):format(p.record, p.shared, p.equal and "equal" or "-", p.answer and "answer" or "-")
  end
  return table.concat(list, ", ")
end

return {
  { "13 words in a row make a pair, 12 do not", function()
    local problem = { problem = words(1, 40), answer = "7" }
    expect.same(shown(search({ critique("So: " .. words(5, 16) .. " end") }, problem)), "")
    local found = search({ critique("Well?"), critique("So: " .. words(5, 17) .. " end") }, problem)
    expect.same(shown(found), "1 1 - -")
    expect.same(found.pairs[1].passage, words(5, 17))
    expect.match(found.pairs[1].where, "record 1$")
    expect.match(found.pairs[1].benchmark, "bench%.jsonl: record 0, line 1$")
  end },

  { "runs that follow each other are one passage", function()
    local found = search({ critique("x " .. words(3, 22) .. " y") }, { question = words(1, 40) })
    expect.same(shown(found), "0 8 - -")
    expect.same(found.pairs[1].passage, words(3, 22))
  end },

  { "what is judged is not what is asked", function()
    expect.same(shown(search({ critique("Well?", words(1, 40)) }, { problem = words(1, 40) })), "")
  end },

  { "case, white space and punctuation do not count", function()
    local found = search({ critique("what is $2+3$?"), critique("What is 2 + 4?"), { instruction = "WHAT  is 2, 3", output = "5" } },
      { problem = "What is\n2 + 3 ?" })
    expect.same(shown(found), "0 0 equal -, 2 0 equal -")
    expect.same(decontaminate.normal "Où est\tLE (chat)?", "où est le chat")
  end },

  -- With a pattern that backtracks the first of these takes hours.
  { "long runs of white space take time in proportion", function()
    local blank = (" "):rep(2e6)
    expect.same(shown(search({ critique("Really" .. blank .. "so?"), critique("Really so?", blank .. "x" .. blank) },
      { problem = "really so" })), "0 0 equal -, 1 0 equal -")
    local r = { instruction = "Question:\nReally so?" .. blank .. "\n Solution:" .. blank, output = "Yes." }
    expect.same(shown(search({ r }, { problem = "really so" })), "0 0 equal -")
  end },

  { "a question in a field of the record counts", function()
    local r = critique "Rewritten."
    r.question = "What is 2 + 3?"
    expect.same(shown(search({ r }, { problem = "what is 2+3" })), "0 0 equal -")
  end },

  { "an equal answer raises the rank, and makes no pair", function()
    local problem = { problem = words(1, 40), answer = 4 }
    expect.same(shown(search({ critique("Well?", "so \\boxed{4}") }, problem)), "")
    local found = search({
      critique(words(1, 15)),
      critique(words(1, 14), "so \\boxed{ 4 }"),
      critique(words(1, 40)),
    }, problem)
    expect.same(shown(found), "2 28 equal -, 1 2 - answer, 0 3 - -")
  end },

  { "a benchmark that is one record twice gives two pairs", function()
    expect.same(shown(search({ critique "Really so?" }, { problem = "Really so?" }, { question = "really so" })),
      "0 0 equal -, 0 0 equal -")
  end },

  { "a benchmark without problems is refused", function()
    expect.raises("bench%.jsonl: record 0, line 1: neither 'problem' nor 'question'", decontaminate.index, benchmark { text = "?" })
  end },

  { "dropping leaves out the records of pairs, no others", function()
    local source = data.list { critique "One?", critique "Really so?", critique "Two?" }
    local path = benchmark { problem = "Really so?" }
    local said = {}
    local function say(text) said[#said + 1] = text end
    local kept = decontaminate.apply(source, { files = path, say = say })
    expect.same(kept:size(), 3)
    expect.match(said[1], "1 of 3 records ask what one of 1 benchmark problems asks\n  1%. list: record 1 = .*the same question")
    expect.match(said[2], "kept; decontaminate_drop = true leaves them out")
    local folder = process.folder()
    kept = decontaminate.apply(source, { files = path, drop = true, say = say, out = folder })
    expect.same(kept:size(), 2)
    expect.match(kept:get(1).messages[1].content, "Two%?")
    expect.match(said[4], "dropped: 1$")
    local pair = json.read(folder .. "/decontamination.jsonl")
    expect.same({ pair.rank, pair.record, pair.equal, pair.answer, pair.shared }, { 1, 1, true, false, 0 })
  end },

  { "a mixture is looked at source by source", function()
    local mix = require "cft.data.mix"
    local source = mix.new { { data.list { critique "One?", critique "Really so?" } }, { data.list { critique "Two?" } } }
    local kept, all = decontaminate.apply(source, { files = benchmark { problem = "Two?" }, say = function() end })
    expect.same({ kept:size(), #all, #all[2].records }, { 3, 2, 1 })
  end },
}
