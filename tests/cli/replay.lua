--- cftrun replay and cftrun diff: a step made again is the step that was, and where two runs part is found.

local expect = require "tests.expect"
local journals = require "cft.train.journal"
local process = require "tests.process"

-- 90 records, of which one may be another, and a recipe over them.
local function run(out, o)
  local folder, lines = process.folder(), {}
  for i = 1, 90 do
    local sum = i == o.altered and 9 or i % 5
    lines[i] = ('{"question": "what is %d and 9?", "answer": "the sum is %d"}'):format(i % 7, sum)
  end
  process.write(folder .. "/data.jsonl", table.concat(lines, "\n") .. "\n")
  local script = process.write(folder .. "/r.lua", ([[
local cft = require "cft"
local cfg = cft.config { data = %q, heldout = 0, steps = 24, batch = 8, tokens = 200, lr = 1e-3, warmup = 2,
                         device = "cpu", dtype = "f32" }
cft.recipe.run(cfg, { name = "r", tokenizer = cft.demo.words, model = cft.demo.tiny,
  fields = function(r) return { instruction = r.question, output = r.answer } end })
]]):format(folder .. "/data.jsonl"))
  local r = process.cftrun { script, "out=" .. out, "save_every=5", unpack(o) }
  expect.same({ r.code, r.err }, { 0, "" })
end

local function steps_again()
  local out = process.folder() .. "/out"
  run(out, { "keep=3" })
  for _, step in ipairs { 1, 2, 5, 6, 9, 13, 17, 20, 21, 24 } do
    local r = process.cftrun { "replay", out, "--step", tostring(step) }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\nall %d losses are those of the journal, bit for bit\n$")
    local e, sum = (journals.read(out))[step], 0
    for _, loss in ipairs(e.losses) do sum = sum + loss end
    expect.match(r.out, ("\nsum of weights %g, loss %.9g\n"):format(e.weight, sum / e.weight):gsub("[%-%.%+]", "%%%0"))
    expect.close(sum / e.weight, e.loss, 1e-5)
  end
  local r = process.cftrun { "replay", out, "--step", "7", "--blame", "--tokens" }
  local shares = {}
  for share in r.out:gmatch "([%d.]+)%%  [^\n]*data.jsonl: record" do shares[#shares + 1] = tonumber(share) end
  expect.same(#shares, 8)
  for i = 2, 8 do expect.truthy(shares[i] <= shares[i - 1], "in order") end
  local tokens = 0
  for _ in r.out:gmatch "\n +[%d.]+ +1 +\"" do tokens = tokens + 1 end
  expect.same(tokens, (journals.read(out))[7].weight)
  for _, row in ipairs { { { out }, "say which step" }, { { out, "--step", "25" }, "the run has 24 steps" },
                         { { "nowhere", "--step", "1" }, "nowhere holds no run" }, { {}, "name a run's folder" } } do
    r = process.cftrun { "replay", unpack(row[1]) }
    expect.same(r.code, 2, r.err)
    expect.match(r.err, row[2])
  end
end

local function where_runs_part()
  local a, b, c = process.folder() .. "/a", process.folder() .. "/b", process.folder() .. "/c"
  run(a, {})
  run(b, { altered = 43 })
  run(c, { "lr=2e-3" })
  local entries, first = (journals.read(a)), nil
  for step = 1, 24 do
    for k, record in ipairs(entries[step].records) do first = first or record == 42 and { step, k } or nil end
  end
  local r = process.cftrun { "diff", a, b }
  expect.same(r.code, 1)
  expect.same(r.out, ("step %d differs: data: sample %d, record 42 (number 42), has other tokens\n"):format(unpack(first)))
  r = process.cftrun { "diff", a, c }
  expect.same(r.code, 1)
  expect.match(r.out, "^step 2 differs: rate: ")
  r = process.cftrun { "diff", a, a }
  expect.same({ r.code, r.out }, { 0, "equal in 24 steps; 24 and 24 are made\n" })
  expect.same(process.cftrun({ "diff", a }).code, 2)
  expect.same(process.cftrun({ "diff", a, "nowhere" }).code, 2)
end

return {
  { "ten steps made again have the losses of the journal, bit for bit", steps_again },
  { "two runs of which one has one altered record part at its step, and it is named", where_runs_part },
}
