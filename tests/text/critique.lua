-- Critique templates: what is asked, what has loss weight, and of what kind it is.

local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local critique = require "cft.text.critique"
local data = require "cft.data.open"
local json = require "cft.base.json"
local mask = require "cft.samples.mask"
local template = require "cft.text.template"

local tok = fake { "<eos>", eos = "<eos>" }
local R = { question = "2 + 3?", solution = "{question} 6", critique = "The sum is 5.", right = false, correction = "5" }

-- A message as text, its kinds in front.
local function shown(message)
  local out = {}
  for i, part in ipairs(message.content) do out[i] = ("[%s]%s"):format(part.kind, part.text) end
  return table.concat(out)
end

local function with(changes)
  local r = {}
  for name, value in pairs(R) do r[name] = value end
  for name, value in pairs(changes) do r[name] = value end
  return r
end

local function text_of(message)
  local out = {}
  for i, part in ipairs(message.content) do out[i] = part.text end
  return table.concat(out)
end

local function encoded(record) return assert(mask.encode(assert(data.conversation(record)), template.plain(), tok)) end

return {
  { "a critique loses the white space behind it, in time in proportion", function()
    local blank = (" "):rep(2e6)
    local record = critique.paper()(with { critique = "Critique: a" .. blank .. "b" .. blank .. "\nConclusion: wrong" })
    expect.match(text_of(record.messages[2]):gsub(blank, "_"), "^Critique:\na_b\n\nConclusion: wrong %[END%]$")
    record = critique.paper()(with { critique = blank })
    expect.match(text_of(record.messages[2]), "^Critique:\n\n\nConclusion: wrong")
  end },

  { "the paper's: ids, weights and kinds of its own schema", function()
    local record = critique.paper()(R)
    expect.same(shown(record.messages[1]), "[query]" .. critique.instruction .. "\nQuestion:\n2 + 3?\n\nSolution:\n[response]{question} 6")
    expect.same(shown(record.messages[2]), "[critique]Critique:\nThe sum is 5.\n\n[verdict]Conclusion: wrong [END]")
    local alpaca = { instruction = critique.instruction, input = "Question:\n2 + 3?\n\nSolution:\n{question} 6",
      output = "Critique:\nThe sum is 5.\n\nConclusion: wrong [END]" }
    local a, b = encoded(record), encoded(alpaca)
    expect.same({ a.n, a.span_count, a.verdict }, { b.n, b.span_count, false })
    for i = 0, a.n - 1 do expect.same(a.ids[i], b.ids[i]) end
    for i = 0, a.span_count - 1 do
      expect.same({ tonumber(a.spans[i].count), a.spans[i].kind, a.spans[i].weight },
        { tonumber(b.spans[i].count), b.spans[i].kind, b.spans[i].weight })
    end
  end },

  { "a critique that has the paper's frame is not framed twice", function()
    local framed = with { critique = "Critique:\nThe sum is 5.\n\nConclusion: wrong [END]", right = json.null }
    expect.same(critique.paper()(framed), critique.paper()(R))
  end },

  { "with a corrected solution", function()
    local make = critique.corrected()
    expect.same(shown(make(R).messages[2]), "[critique]Critique:\nThe sum is 5.\n\n[correction]Corrected solution:\n5\n\n"
      .. "[verdict]Conclusion: wrong [END]")
    expect.same(shown(make(with { right = true, correction = json.null }).messages[2]),
      "[critique]Critique:\nThe sum is 5.\n\n[verdict]Conclusion: right [END]")
    expect.match(make(R).messages[1].content[1].text, "^" .. critique.instruction:gsub("%.", "%%.") .. " If it is not, correct it%.\n")
    expect.fails("there is no 'correction'", make(with { correction = json.null }))
  end },

  { "with the verdict first: read as such, whatever the critique says", function()
    local make, verdict = critique.verdict_first()
    local record = make(with { right = true, critique = "It is not wrong." })
    expect.same(shown(record.messages[2]), "[verdict]Conclusion: right\n\n[critique]Critique:\nIt is not wrong. [END]")
    expect.same(encoded(record).verdict, true)
    expect.same(verdict(text_of(record.messages[2])), true)
    expect.same(verdict(text_of(make(R).messages[2])), false)
    expect.same(verdict "I do not know", nil)
    expect.same(select(2, critique.paper()) "Conclusion: right\nno.\n\nConclusion: wrong [END]", false)
  end },

  { "one's own", function()
    local mine, verdict = critique.new {
      user = { { "query", "{question}|" }, { "response", "{solution}" } },
      answer = { { "verdict", "Verdict: {verdict}." }, { "critique", " {critique}" } },
      right = "correct", wrong = "incorrect", fields = { question = "problem", right = "label" },
    }
    local record = mine(with { problem = "p", label = "Correct" })
    expect.same({ shown(record.messages[1]), shown(record.messages[2]) },
      { "[query]p|[response]{question} 6", "[verdict]Verdict: correct.[critique] The sum is 5." })
    expect.same(encoded(record).verdict, true)
    expect.same({ verdict "Verdict: correct. x" }, { true, 10, 16 })
    expect.same({ verdict "Verdict: incorrect. x" }, { false, 10, 18 })
    local source = data.list({ with { problem = "p", label = 0 == 1 } }, { fields = mine })
    expect.same(#source:get(0).messages, 2)
  end },

  { "what a critic is asked: the question's parts, without a verdict", function()
    local _, _, ask = critique.paper()
    local parts = ask { question = "2 + 3?", solution = "{question} 6" }
    expect.same(shown { content = parts }, shown(critique.paper()(R).messages[1]))
    expect.fails("'solution' is no text but a nil", ask { question = "q" })
    local _, _, leaks = critique.new { user = { { "query", "{question} {verdict}" } }, answer = { { "verdict", "{verdict}" } } }
    expect.fails("cannot be asked: its question has {verdict}", leaks { question = "q", solution = "s" })
  end },

  { "step by step: a verdict a step up to the first wrong one, and that of the whole", function()
    local make = critique.steps()
    local steps = { "2 + 3 = 5", "5 + 1 = 7", "so 7" }
    local record = make { problem = "2 + 3 + 1?", steps = steps, label = 1, critiques = { "Yes.", "It is 6." } }
    expect.same({ shown(record.messages[1]), shown(record.messages[2]) }, {
      "[query]" .. critique.step_instruction .. "\nQuestion:\n2 + 3 + 1?\n\nSolution:\n[response]Step 1: 2 + 3 = 5\nStep 2: 5 + 1 = 7\nStep 3: so 7",
      "[critique]Yes.\n[verdict]Step 1: right\n[critique]It is 6.\n[verdict]Step 2: wrong\n[verdict]\nConclusion: wrong [END]" })
    expect.same(encoded(record).verdict, false)
    record = make { question = "q", steps = steps, label = -1 }
    expect.same(shown(record.messages[2]), "[verdict]Step 1: right\n[verdict]Step 2: right\n[verdict]Step 3: right\n[verdict]\nConclusion: right [END]")
    expect.same(encoded(record).verdict, true)
    expect.fails("'label' is the first wrong step, from 0 to 2, or %-1; got 3", make { problem = "p", steps = steps, label = 3 })
    expect.fails("'steps' is no list of texts", make { problem = "p", label = 0 })
    expect.fails("'steps' has a number where texts are wanted", make { problem = "p", steps = { 1 }, label = 0 })
    expect.fails("there is no 'question' or 'problem'", make { steps = steps, label = 0 })
    expect.raises("fields has 'stps'; did you mean 'steps'", critique.steps, { stps = "s" })
  end },

  { "mistakes", function()
    local make = critique.paper()
    expect.fails("there is no 'question'", make(with { question = json.null }))
    expect.fails("'solution' is no text but a number", make(with { solution = 5 }))
    expect.fails("'right' does not say whether the solution is right", make(with { right = json.null }))
    expect.fails("'right' does not say whether", make(with { right = "perhaps" }))
    local part = { { "query", "x" } }
    expect.raises("part 1 of 'user' has {questoin}; did you mean 'question'", critique.new,
      { user = { { "query", "{questoin}" } }, answer = part })
    expect.raises("part 1 of 'answer' is no { kind, text }", critique.new, { user = part, answer = { "x" } })
    expect.raises("'when' of part 1 of 'answer' is 'right' or 'wrong', got no", critique.new,
      { user = part, answer = { { "a", "b", when = "no" } } })
    expect.raises("'answer' has no parts", critique.new, { user = part, answer = {} })
    expect.raises("fields has 'qestion'; did you mean 'question'", critique.paper, { qestion = "q" })
  end },
}
