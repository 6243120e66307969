-- IFEval's checks: the reference's verdicts, and what its scores are made of.

local benchmarks = require "cft.eval.benchmarks"
local expect = require "tests.expect"
local ifeval = require "cft.eval.ifeval"
local json = require "cft.base.json"
local language = require "cft.eval.ifeval.language"
local letters = require "cft.eval.ifeval.letters"
local mersenne = require "cft.eval.ifeval.mersenne"
local tokens = require "cft.eval.ifeval.tokens"

-- Kinds that ask which language a text is in: as the reference tells it where langdetect's profiles are there, else by another
-- detector, and not at all where its library is missing too.
local of_language = { ["language:response_language"] = true, ["change_case:english_lowercase"] = true, ["change_case:english_capital"] = true }

return {
  { "verdicts of the reference: all kinds but those of languages and sentences are equal", function()
    local kinds, others, differ = {}, 0, 0
    local lines = io.lines "tests/golden/ifeval/verdicts.jsonl"
    lines()
    for line in lines do
      local row = assert(json.decode(line))
      local got = ifeval.check(letters.strip(row.text), { row })[1]
      kinds[row.kind] = true
      if of_language[row.kind] and language.detector() ~= "langdetect" or row.kind == "length_constraints:number_sentences" then
        others = others + 1
        if got.strict ~= nil and (got.strict ~= row.strict or got.loose ~= row.loose) then differ = differ + 1 end
      else
        expect.same({ got.strict, got.loose }, { row.strict, row.loose }, line)
      end
    end
    for kind in pairs(ifeval.rules) do expect.truthy(kinds[kind], kind .. " has verdicts") end
    expect.truthy(differ <= 0.2 * others or others < 10 and differ <= 1, ("%d of %d"):format(differ, others))
  end },
  { "a text is told from others by the library, or said to be unchecked", function()
    local there, why = language.detector()
    local part = ifeval.check("This is a sentence in English, and nothing else is.", {
      { kind = "language:response_language", arguments = { language = "de" } } })[1]
    if not there then
      expect.same({ part.strict, part.why }, { nil, why })
      skip(why)
    end
    expect.same({ part.strict, part.loose }, { false, false })
    expect.same({ language.is("Dies ist ein Satz auf Deutsch, und sonst nichts.", "de") }, { true })
    expect.same({ language.is("यह हिन्दी में लिखा हुआ एक वाक्य है", "hi"), language.is("यह हिन्दी में लिखा हुआ एक वाक्य है", "en") }, { true, false })
    expect.same({ (language.is("", "de")), (language.is("12 + 3 = ?", "de")) }, { true, true })  -- nothing tells
  end },
  { "Python's random numbers from seed 0", function()
    local r = mersenne.new(0)
    local function near(a, b) expect.truthy(math.abs(a - b) < 1e-15, ("%.17g is not %.17g"):format(a, b)) end
    near(r:uniform(), 0.8444218515250481)  -- python3 -c "import random; random.seed(0); print(random.random())", and so on
    near(r:gauss(), 0.05219198828260849)
    near(r:gauss(), -1.0434089742005737)
    expect.same({ r:below(10), r:below(1000) }, { 4, 988 })
    for _ = 1, 2000 do expect.truthy(r:below(3) < 3) end  -- over the end of the state, which is twisted
  end },
  { "words, letters, white space as Python has them", function()
    expect.same(letters.words "a-b c_d 12 \195\169t\195\169 \228\184\173\230\150\135", 6)
    expect.same(letters.lower "\195\137T\195\137 \208\144\208\159", "\195\169t\195\169 \208\176\208\191")
    expect.same(letters.strip "\194\160 \227\128\128x\226\128\168\n", "x")
    expect.same({ letters.all_upper "A1!", letters.all_upper "1!", letters.all_upper "Ab", letters.all_lower "\195\169!" }, { true, false, false, true })
    expect.same({ letters.is_word "", letters.words "" }, { false, 0 })
    expect.same(table.concat(tokens.of 'He said, "DON\'T go (now)!"', "|"), "He|said|,|``|DO|N'T|go|(|now|)|!|''")
    expect.same(tokens.sentences "Mr. Smith came. He left! Did he? \"Yes.\" 3.5 is a number", 5)
    expect.same({ tokens.sentences "", tokens.sentences "one", tokens.sentences "One. " }, { 0, 1, 1 })
  end },
  { "a prompt is right where all instructions are followed; shares of prompts and instructions", function()
    local bench = benchmarks.get "ifeval"
    local p = bench.problem { prompt = "p", key = 1, instruction_id_list = { "punctuation:no_comma", "startend:quotation" },
                              kwargs = { {}, { language = json.null } } }
    local right, wrong = bench.grade(p, '"no comma"'), bench.grade(p, 'first, "line"\n"rest"')
    expect.same({ right.verdict, wrong.verdict }, { "right", "wrong" })
    expect.same(wrong.reason, "not followed: punctuation:no_comma (followed loosely), startend:quotation (followed loosely)")
    local rows, by = bench.summary { { samples = { right } }, { samples = { wrong } } }, {}
    for _, row in ipairs(rows) do by[row[1]] = row[2] end
    expect.same(by, { ["strict instructions"] = 0.5, loose = 1, ["loose instructions"] = 1 })
    expect.same({ bench.problem { prompt = "p", instruction_id_list = { "no:such" }, kwargs = { {} } } }, { nil, "its instruction 'no:such' has no check" })
    expect.same(bench.grade(p, "").verdict, "wrong")
  end },
}
