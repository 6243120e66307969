-- Real weights: SmolLM2-135M-Instruct writes what transformers writes (tests/oracle/generate.py).

local cached = require "tests.cached"
local engines = require "cft.generate.engine"
local expect = require "tests.expect"
local generate = require "cft.generate"
local json = require "cft.base.json"
local models = require "cft.models"

local function prompts_of(golden)
  local list = {}
  for i, p in ipairs(golden.prompts) do list[i] = p.prompt or p.messages end
  return list
end

local function run(pages, batch)
  return function()
    local m = assert(models.load(cached.path "smollm2", { dtype = "f32" }))
    local golden = assert(json.read "tests/golden/smollm2/generate.json")
    local results = generate(m, prompts_of(golden), { max_new = 24, raw = true, batch = batch, chunk = 200,
                                                      memory = pages and pages * engines.page_bytes(m) })
    for i, p in ipairs(golden.prompts) do
      expect.same(#results[i].prompt, p.tokens, ("prompt %d: its tokens"):format(i))
      expect.same(results[i].ids, p.written, ("prompt %d"):format(i))
    end
    m:release()
    return results.counts
  end
end

return {
  { "SmolLM2: 50 greedy answers, one at a time", run(nil, 1) },
  { "SmolLM2: 50 greedy answers, seven at a time, in memory for four", function()
    expect.truthy(run(12, 7)().preempted > 0, "nobody was preempted")
  end },
  { "SmolLM2: 50 greedy answers, all at once, in memory for ten", function()
    expect.truthy(run(34, 64)().preempted > 0, "nobody was preempted")
  end },
}
