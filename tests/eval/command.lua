-- `cftrun eval` as its users meet it, with a tiny model and small data.

local demo = require "cft.demo"
local expect = require "tests.expect"
local file = require "cft.eval.file"
local host = require "cft.host"
local json = require "cft.base.json"
local models = require "cft.models"
local process = require "tests.process"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local folder, data

-- A model of random weights, with a tokenizer; and two benchmarks' data.
local function model()
  if folder then return folder end
  folder = process.folder() .. "/tiny"
  local tok = demo.tokenizer(1)
  local m = models.new { arch = "llama", d = 32, layers = 2, heads = 2, ffn = 48, vocab = tok:size(), tied = true, seed = 2,
                         init = 0.5, context = 512 }
  m:save(folder, { tokenizer = tok })
  m:release()
  data = process.folder()
  os.execute(("mkdir -p %s/gsm8k %s/bench/amc23"):format(data, data))
  local lines = {}
  for i = 1, 9 do lines[i] = json.encode { question = ("What is %d + 1?"):format(i), answer = ("So.\n#### %d"):format(i + 1) } end
  process.write(data .. "/gsm8k/test.jsonl", table.concat(lines, "\n") .. "\n")
  process.write(data .. "/bench/amc23/test.jsonl", '{"question":"How many?","answer":27.0}\n{"question":"Is it?","answer":"True"}\n')
  return folder
end

local function run(...) return process.cftrun { "eval", ... } end

local settings = { "--dtype", "f32", "--max-new", "12", "--samples", "2", "--temperature", "1", "--seed", "3" }

local function measured(out, bench, ...)
  local args = { model(), "--bench", bench, "--data", data, "--out", out, unpack(settings) }
  for _, a in ipairs { ... } do args[#args + 1] = a end
  return run(unpack(args))
end

test("two benchmarks in one file, whatever the batch", function()
  model()
  local out = process.folder() .. "/r.jsonl"
  local r = measured(out, "gsm8k,amc23")
  expect.same(r.code, 0, r.err)
  expect.truthy(r.out:find "gsm8k .*pass@1 .*avg@2 .*maj@2 .*pass@2 .*9 problems", r.out)
  expect.truthy(r.out:find "amc23 .*2 problems", r.out)
  expect.truthy(r.err:find "amc23 2/2  right", r.err)
  local result = file.read(out)
  expect.same(result.names, { "gsm8k", "amc23" })
  expect.same(result.head.template, "chatml")
  local first = result.entries.gsm8k[1]
  expect.same({ first.problem.question, first.problem.reference, #first.samples }, { "What is 1 + 1?", "2", 2 })
  expect.same(result.entries.amc23[1].problem.reference, "27")
  expect.same(result.entries.amc23[2].problem.question, "Is it? (True or False)")
  local other = process.folder() .. "/other.jsonl"
  expect.same(measured(other, "gsm8k,amc23", "--batch", "2", "--chunk", "5").code, 0)
  expect.same(process.contents(other), process.contents(out))
  local again = measured(out, "gsm8k,amc23")
  expect.same(again.code, 2)
  expect.truthy(again.err:find "is there already", again.err)
end)

test("what was killed goes on: the same file", function()
  local place = (model() and process.folder())
  local whole, out = place .. "/whole.jsonl", place .. "/cut.jsonl"
  expect.same(measured(whole, "gsm8k").code, 0)
  local text = process.contents(whole)
  for _, at in ipairs { 10, 500, #text / 2, #text - 3, #text } do
    os.remove(out)
    process.write(out .. ".part", text:sub(1, at))
    local r = measured(out, "gsm8k")
    expect.same(r.code, 0, r.err)
    expect.same(process.contents(out), text, at)
  end
  process.write(out .. ".part", text:sub(1, 900))
  os.remove(out)
  local r = measured(out, "gsm8k", "--limit", "3")
  expect.same(r.code, 2)
  expect.truthy(r.err:find "was begun with another benches", r.err)
end)

test("graded again, shown, compared", function()
  local place = (model() and process.folder())
  local a, b = place .. "/a.jsonl", place .. "/b.jsonl"
  measured(a, "gsm8k")
  measured(b, "gsm8k", "--limit", "5")
  local r = run(a, "--regrade", "paper", "--out", place .. "/paper.jsonl")
  expect.same({ r.code, r.err }, { 0, "" })
  local again = file.read(place .. "/paper.jsonl")
  expect.same(again.head.grade, "paper")
  local before = file.read(a)
  for i, entry in ipairs(again.entries.gsm8k) do
    expect.same(entry.samples[1].text, before.entries.gsm8k[i].samples[1].text)
  end
  r = run(place .. "/paper.jsonl", "--regrade", "symbolic", "--out", place .. "/back.jsonl")
  expect.same(process.contents(place .. "/back.jsonl"), process.contents(a))
  r = run(a, b)
  expect.same(r.code, 0, r.err)
  expect.truthy(r.out:find "gsm8k: Both answer every problem alike" and r.out:find "4 are in one file only", r.out)
end)

test("a benchmark of one's own; data in the folder itself", function()
  local place = (model() and process.folder())
  process.write(place .. "/mine.lua", [[
    local maths = require "cft.eval.maths"
    local bench = maths.new { name = "mine", about = "mine", places = { "mine.jsonl" }, reference = maths.answer }
    bench.max_new = 3
    return bench]])
  process.write(place .. "/test.jsonl", '{"problem":"One?","answer":1}\n')
  local r = run(model(), "--bench", place .. "/mine.lua", "--data", place, "--out", place .. "/r.jsonl")
  expect.same(r.code, 0, r.err)
  expect.truthy(r.out:find "mine .*1 problem", r.out)
  r = run(place .. "/r.jsonl", "--bench", place .. "/mine.lua", "--regrade", "strict")
  expect.same(r.code, 0, r.err)
  r = run(place .. "/r.jsonl")
  expect.truthy(r.code ~= 0 and r.err:find "no benchmark 'mine'", r.err)
  local text = process.contents(place .. "/r.jsonl")
  process.write(place .. "/r.jsonl", (text:gsub('"bench":"mine"', '"bench":"' .. place .. '/mine.lua"')))
  r = run(place .. "/r.jsonl")
  expect.truthy(r.code ~= 0 and r.err:find "no benchmark '/.*mine.lua'", "what results name is not run: " .. r.err)
end)

test("of a file of results what is asked for; two files that are not alike", function()
  local place = (model() and process.folder())
  local a, b, page = place .. "/a.jsonl", place .. "/b.jsonl", place .. "/p.html"
  expect.same(measured(a, "gsm8k,amc23", "--page", page).code, 0)
  local r = run(a, "--bench", "amc23", "--regrade", "paper", "--out", b, "--page", page)
  expect.same(r.code, 0, r.err)
  expect.truthy(r.out:find "amc23" and not r.out:find "gsm8k", r.out)
  expect.truthy(not process.contents(page):find "gsm8k", "the page has these alone")
  local read = file.read(b)
  expect.same({ read.names, read.head.benches.gsm8k, read.head.benches.amc23.problems }, { { "amc23" }, nil, 2 })
  r = run(b, "--bench", "gsm8k")
  expect.truthy(r.code == 2 and r.err:find "has no results of gsm8k; it has amc23", r.err)
  r = run(a, b, "--bench", "amc23")
  expect.truthy(r.code == 0 and r.out:find 'not alike in the two files: grade "symbolic" and "paper"\n', r.out .. r.err)
end)

test("what is there is not written over, nor by two at once", function()
  local place = (model() and process.folder())
  local out = place .. "/r.jsonl"
  expect.same(measured(out, "gsm8k").code, 0)
  local text = process.contents(out)
  for _, case in ipairs { { "is there already, and is no page", out, "--page", out }, { "is a folder", out, "--page", place },
                          { "are the same file", out, "--regrade", "paper", "--page", place .. "/./q", "--out", place .. "/q" } } do
    local r = run(unpack(case, 2))
    expect.truthy(r.code == 2 and r.err:find(case[1], 1, true), r.err)
  end
  expect.same(process.contents(out), text)
  local other = place .. "/other.jsonl"
  local lock = host.lock(other .. ".part.lock")
  local r = measured(other, "gsm8k")
  expect.truthy(r.code == 2 and r.err:find "other.jsonl.part is being written by process %d+ on ", r.err)
  lock:release()
  expect.same(measured(other, "gsm8k").code, 0)
  expect.same({ process.contents(other), host.kind(other .. ".part.lock") }, { text, nil })
end)

test("what is refused, with words and a code", function()
  local place = (model() and process.folder())
  local function refused(pattern, code, ...)
    local r = run(...)
    expect.same(r.code, code, r.err)
    expect.truthy(r.err:find(pattern), r.err)
  end
  refused("a model is wanted", 2)
  refused("%-%-bench is wanted: one or more of gsm8k", 2, model())
  refused("no benchmark 'gsm9k'; did you mean 'gsm8k'", 2, model(), "--bench", "gsm9k")
  refused("%-%-bench none.lua: there is no such file", 2, model(), "--bench", "none.lua")
  refused("names gsm8k twice", 2, model(), "--bench", "gsm8k,gsm8k")
  refused("did you mean 'samples'", 2, model(), "--bench", "gsm8k", "--sampels", "2")
  refused("wants a %-%-temperature above 0", 2, model(), "--bench", "gsm8k", "--samples", "2")
  refused("%-%-grade must be one of .*did you mean 'paper'", 2, model(), "--bench", "gsm8k", "--grade", "papr")
  refused("%-%-limit must be", 2, model(), "--bench", "gsm8k", "--limit", "0")
  refused("there is no folder /no/such", 4, model(), "--bench", "gsm8k", "--data", "/no/such")
  refused("has no data of math%-500; looked for math%-500/test.jsonl", 4, model(), "--bench", "math-500", "--data", data)
  refused("is in no data set of the Hub", 4, model(), "--bench", "math-validation")
  refused("no folder or file /nowhere/x", 4, "/nowhere/x", "--bench", "gsm8k", "--data", data)
  refused("%-%-regrade is for a file of results", 2, model(), "--bench", "gsm8k", "--regrade", "paper")
  refused("%-%-limit is said twice: 1 and 2", 2, model(), "--bench", "gsm8k", "--limit", "1", "--limit=2")
  refused("%-%-deterministic takes no value", 2, model(), "--bench", "gsm8k", "--deterministic=no")
  refused("%-%-stop must be a text that is not empty", 2, model(), "--bench", "gsm8k", "--stop", "")
  process.write(place .. "/long.jsonl", json.encode { question = ("word "):rep(600), answer = "#### 4" } .. "\n")
  refused("gsm8k, problem 1: a prompt of %d+ tokens, but the model's context is 512", 2, model(), "--bench", "gsm8k", "--data",
          place .. "/long.jsonl", "--out", place .. "/long-eval.jsonl")
  process.write(place .. "/x.jsonl", '{"a":1}\n')
  refused("is no file of results", 1, place .. "/x.jsonl")
  refused("there is no file", 4, place .. "/none.jsonl")
  refused("%-%-limit is not for a file of results", 2, place .. "/x.jsonl", "--limit", "2")
  refused("%-%-out wants %-%-regrade", 2, place .. "/x.jsonl", "--out", "y")
  refused("%-%-out is not for a comparison", 2, place .. "/x.jsonl", place .. "/x.jsonl", "--out", "y")
end)

return tests
