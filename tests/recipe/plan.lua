-- `--dry-run`: what a run will take, said before it takes it, and nothing changed.

local config = require "cft.config"
local demo = require "cft.demo"
local expect = require "tests.expect"
local host = require "cft.host"
local memory = require "cft.train.memory_plan"
local plan = require "cft.recipe.plan"
local process = require "tests.process"
local rates = require "cft.plan.rates"
local recipe = require "cft.recipe"
local data = require "cft.data.open"

local function records(n)
  local list = {}
  for i = 1, n do
    local r = demo.training(1)(i)
    list[i] = { instruction = r.instruction, input = r.input, output = r.output:rep(i % 3 + 1) }
  end
  return list
end

local function stages(settings)
  local cfg = config.read({ device = "cpu", batch = 5, tokens = 600, steps = 7, length = "cut_context" }, settings)
  cfg.dry_run = true
  return recipe.stages(cfg, {
    name = "plan", tokenizer = demo.tokenizer(1), model = { arch = "llama", d = 16, layers = 2, heads = 2, ffn = 32 },
    load = function() return data.list(records(21), { name = "some" }) end,
  }, true)
end

-- All weights of a model, as they lie in memory.
local function weights_of(model)
  local list = {}
  for _, g in ipairs(model.groups) do
    local values = g.flat:to_host()
    for i = 0, g.flat:count() - 1 do list[#list + 1] = tonumber(values[i]) end
  end
  expect.truthy(#list > 1000, "weights were found")
  return list
end

-- What `say` would have printed.
local function said(run)
  local lines = {}
  run.log.say = function(_, line, ...) lines[#lines + 1] = select("#", ...) > 0 and line:format(...) or line end
  plan.say(run)
  return table.concat(lines, "\n")
end

return {
  { "the fullest micro-batch: no step has a larger one, and small steps have exactly that one", function()
    for _, settings in ipairs { {}, { "tokens=2000" }, { "batch=2", "tokens=2000" }, { "packing=false", "rows=2" }, { "share_prefix=false" } } do
      local run = stages(settings)
      local survey, most, tokens, at = memory.survey(run.batches, run.last_step), 0, 0, nil
      for step = 0, run.last_step - 1 do
        local per_epoch = run.batches:updates()
        for _, micro in ipairs((run.batches:update(math.floor(step / per_epoch), step % per_epoch))) do
          local n = tonumber(micro.batch.n)
          if n > most then most, at = n, step end
          tokens = tokens + n + tonumber(micro.batch.saved or 0)
        end
      end
      expect.truthy(survey.fullest >= most, table.concat(settings, " "))
      expect.same(survey.tokens, tokens)
      if settings[2] then expect.same({ survey.fullest, survey.at }, { most, at }, settings[2]) end
    end
  end },
  { "what is not known before it comes is taken as full", function()
    local run = stages {}
    expect.same(memory.survey({ tokens = 77, lengths = true, samples = { stream = true } }, 3), { fullest = 77, at = 0 })
    expect.same(memory.survey({ tokens = 77 }, 3), { fullest = 77, at = 0 })
    expect.same(memory.survey(run.batches, 0), { fullest = 600, at = 0 })
    -- Of a run of more samples than are looked at, only the bound is known.
    local long = { packing = true, tokens = 900, batch = 2 ^ 17, rows = 8, samples = {}, updates = function() return 9 end,
                   lengths = function() return { 10, 20 } end }
    expect.same(memory.survey(long, 4), { fullest = 900, at = 0, tokens = 120, pairs = 4 * (55 + 210), longest = 20 })
    long.packing = false
    expect.same(memory.survey(long, 4), { fullest = 160, at = 0, tokens = 120, pairs = 4 * (55 + 210), longest = 20 })
  end },
  { "two steps are timed, and no weight is another one, whatever the optimizer", function()
    for _, settings in ipairs { { "lr=1" }, { "lr=1", "optimizer=lion", "weight_decay=0.1" },
                                { "lr=1", "dtype=bf16", "master=false", "moments=bf16", "weight_decay=0.1" }, { "lr=1", "dtype=bf16" } } do
      local run = stages(settings)
      local before = weights_of(run:model())
      local text = said(run)
      expect.same(weights_of(run:model()), before)
      expect.match(text, "^memory: about [%d.]+ [MK]iB for the fullest micro%-batch, %d+ tokens; 0 of 2 blocks recomputed\n"
        .. "disk: nothing is saved without out=\nmeasured: [%d.]+ [MK]iB at most in two steps, that with the fullest micro%-batch among them\n"
        .. "time: about %d+s for 7 steps of %d[%d.]*k? tokens in all, at [%d.]+k? tok/s, saving and measuring left out\n"
        .. "plan: [%d.]+[kM]? tok/s were expected of this machine's products and copies, %d+%% of that were measured$")
    end
  end },
  { "the plan of several ranks: each computes its share, and what they send is paid for", function()
    local function at(size, link, zero)
      local run = stages { "zero=" .. zero }
      run.survey, run.ranks = memory.survey(run.batches, run.last_step), { size = size, comm = {} }
      local measure, measured_link = rates.measure, rates.link
      rates.measure = function() return { matmul = 1e6, attention = 1e6, copy = 1e6 } end
      rates.link = function(comm, n) expect.same({ comm, n }, { run.ranks.comm, size }); return link end
      local expected = plan.expected(run, run:model())
      rates.measure, rates.link = measure, measured_link
      return expected
    end
    local one = at(1, 0, 0)
    local two, four = at(2, 1e12, 0) / one, at(4, 1e12, 1) / one
    expect.truthy(two > 1.9 and two <= 2, two)  -- with zero=0 each makes the whole of the optimizer's step
    expect.truthy(four > 3.9 and four <= 4, four)
    expect.truthy(at(2, 1e2, 0) < one, "over a slow link two ranks are slower than one")
  end },
  { "disk: as many checkpoints as a run writes", function()
    for _, case in ipairs { { "save_every=3", "3 checkpoints" }, { "save_every=7", "1 checkpoint" }, { "save_every=8", "1 checkpoint" } } do
      local folder = process.folder() .. "/out"
      expect.match(said(stages { case[1], "out=" .. folder }), "disk: " .. case[2] .. " of [%d.]+ KiB %(weights [%d.]+ KiB, optimizer [%d.]+ KiB%), ")
      expect.same(host.kind(folder), nil)
    end
  end },
  { "disk: with keep= no more than are there at a time", function()
    local out = "out=" .. process.folder() .. "/out"
    expect.match(said(stages { "save_every=1", out, "keep=2" }), "disk: 7 checkpoints [^\n]* in all; keep=2 leaves at most 4 of them at a time, [%d.]+ KiB\n")
    expect.truthy(not said(stages { "save_every=4", out, "keep=2" }):find "keep=", "two checkpoints all stay")
  end },
  { "one step, no step", function()
    expect.match(said(stages { "steps=1" }), "measured: [^\n]* in the step\ntime: ")
    expect.match(said(stages { "steps=0" }), "disk: nothing is saved without out=$")
  end },
  { "memory= is honoured, and measured against", function()
    local run = stages { "memory=1GiB" }
    expect.truthy(not said(run):find "more than memory=", "it fits")
    local r = process.cftrun { "recipes/webinstruct.lua", "--demo", "--dry-run", "steps=4", "memory=60MiB" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nmemory: about %d+%.%d+ MiB for the fullest micro%-batch, %d+ tokens; %d of 2 blocks recomputed\n")
    expect.match(r.out, "dry run: all is there; nothing was trained\n$")
    r = process.cftrun { "recipes/webinstruct.lua", "--demo", "--dry-run", "steps=4", "memory=10MiB" }
    expect.same(r.code, 1)
    expect.match(r.err, "memory: %d+ tokens a micro%-batch need about %d+%.%d+ MiB with every block but the last recomputed, more than the budget")
  end },
}
