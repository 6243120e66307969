-- What several ranks do beside training: scores while they train, of which each rank makes its share, and `--dry-run`.

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local states = require "cft.io.state"

-- At rate 0 the weights are the same on any number of ranks, to the bit.
local SCRIPT = [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "chatml", batch = 4, tokens = 1024, steps = 2,
                         heldout = 6, lr = 0, device = "cpu", dtype = "f32" }
local function set(limit)
  return { bench = "gsm8k", data = %q, limit = limit, max_new = 8, samples = 3, temperature = 1, metric = "avg@3" }
end
local select = set(5)
select.every, select.share = 1, 1
cft.recipe.run(cfg, { name = "scored", fields = cft.critique.paper(), tokenizer = cft.demo.words, model = cft.demo.tiny,
                      select = select, retain = set(3), probe = { every = 1 } })
]]

local function start(n, ...)
  local folder, lines = process.folder(), {}
  os.execute("mkdir -p " .. folder .. "/gsm8k")
  for i = 1, 5 do lines[i] = json.encode { question = ("What is %d + 1?"):format(i), answer = "#### " .. i + 1 } end
  process.write(folder .. "/gsm8k/test.jsonl", table.concat(lines, "\n") .. "\n")
  local args = n > 1 and { "--ranks", tostring(n) } or {}
  for _, a in ipairs { process.write(folder .. "/scored.lua", SCRIPT:format(folder)), "out=" .. folder .. "/out", ... } do
    args[#args + 1] = a
  end
  args.env = { OMP_NUM_THREADS = "1" }
  local r = process.cftrun(args)
  if r.code == 3 and not os.getenv "CI" then skip("no ranks here: " .. r.err) end
  return r, folder .. "/out"
end

local function run(n)
  local r, out = start(n)
  expect.same(r.code, 0, r.err .. r.out)
  local steps = {}
  for line in io.lines(out .. "/log.jsonl") do
    local t = json.decode(line)
    if t.step then steps[t.step] = t end
  end
  return steps, states.read(out .. "/step-000002/state.msgpack").live, r.out
end

return {
  { "4 ranks answer, and judge, what one does", function()
    local steps, live = run(1)
    local of_four, live_of_four, said = run(4)
    for step = 1, 2 do
      for _, name in ipairs { "gsm8k_avg@3", "probe_accuracy", "probe_brier", "probe_ece" } do
        local a, b = steps[step][name], of_four[step][name]
        expect.truthy(a and b and math.abs(a - b) < 1e-6, ("%s: %s and %s"):format(name, a, b))
      end
    end
    expect.same(#live.select.best, 5)
    expect.same(#live.retain.before, 3)  -- one rank has none
    expect.same(live_of_four.select.best, live.select.best)
    expect.same(live_of_four.retain.before, live.retain.before)
    local _, times = said:gsub("retain gsm8k:", "")
    expect.same(times, 1, "one rank prints")
  end },
  { "--dry-run", function()
    local r, out = start(2, "--dry-run", "zero=3")
    expect.same(r.code, 0, r.err .. r.out)
    expect.truthy(r.out:find "measured: [%d.]+ .iB at most on a rank in two steps", r.out)
    local _, times = r.out:gsub("dry run: all is there", "")
    expect.same(times, 1, "one rank prints")
    expect.same(host.kind(out .. "/run.json"), nil)
  end },
  { "refused: scores with weights in parts", function()
    local r = start(2, "zero=3")
    expect.same(r.code, 2, r.err)
    expect.truthy(r.err:find "select has the model write or judge, for which no rank has the weights with zero=3", r.err)
  end },
}
