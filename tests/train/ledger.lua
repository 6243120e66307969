-- The ledger: the losses by kind of text and by verdict are the loss, taken apart.

local batch = require "cft.samples.batch"
local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local ledgers = require "cft.train.ledger"
local samples_of = require("cft.samples").new
local models = require "cft.models"
local optim = require "cft.train.optim"
local template = require "cft.text.template"
local train = require "cft.train"
local zero = require "cft.ranks.zero"

local STEPS = 21

-- Train a small random model: what its optimizer steps said, and its summary.
local function run(opts)
  local tok = demo.tokenizer(1)
  local chat = template.chatml { learn = opts.learn }
  local source = data.generate(24, opts.records or demo.training(1))
  local samples = samples_of(source, chat, tok)
  local model = models.new { arch = "qwen2", d = 16, layers = 2, heads = 2, ffn = 24, vocab = tok:size(), tied = true,
                             init = 0.2, seed = 2 }
  model.options.skip = opts.skip ~= false
  local log, seen = { progress = function() end, close_line = function() end, say = function() end }, {}
  local held = opts.heldout and batch.new(samples, { batch = 6, tokens = opts.heldout, shuffle = false })
  local trainer = train.new {
    heldout = held, context = opts.context, eval_every = 2,
    model = model, optim = optim.adamw(model, { beta1 = 0.9, beta2 = 0.999 }), steps = opts.steps or STEPS, log = log,
    batches = batch.new(samples, { batch = 6, tokens = 200, packing = opts.packing ~= false, rows = 2 }),
    lr = function() return 1e-3 end,
    after_step = function(_, t) seen[#seen + 1] = t end,
  }
  local summary = trainer:run()
  model:release()
  return seen, summary
end

local KINDS = { "critique", "verdict", "end" }

-- Sum and count of some entries of a ledger.
local function total(ledger, names)
  local sum, tokens = 0, 0
  for _, name in ipairs(names) do
    local e = ledger[name]
    if e then sum, tokens = sum + e.loss * e.tokens, tokens + e.tokens end
  end
  return sum, tokens
end

local tests = {}

for _, case in ipairs {
  { "packed", {} },
  { "in rows", { packing = false } },
  { "with every row computed", { skip = false } },
} do
  table.insert(tests, { "kinds sum to the loss, and so do verdicts: " .. case[1], function()
    local opts = { steps = 4 }
    for k, v in pairs(case[2]) do opts[k] = v end
    for _, t in ipairs(run(opts)) do
      for _, names in ipairs { KINDS, { "right", "wrong" } } do
        local sum, tokens = total(t.ledger, names)
        expect.same(tokens, t.learned_tokens)
        expect.close(sum / tokens, t.loss, 1e-5)
      end
      for _, name in ipairs(KINDS) do expect.truthy(t.ledger[name], name) end
    end
  end })
end

table.insert(tests, { "a sample without a verdict is in no class", function()
  local make = demo.training(1)
  local seen = run { steps = 1, records = function(i)
    local r = make(i)
    r.output = r.output:gsub("Conclusion.*", "")
    return r
  end }
  expect.same({ seen[1].ledger.right, seen[1].ledger.wrong, seen[1].ledger.verdict }, {})
end })

table.insert(tests, { "kinds of weight 0 are not in it, and weights do not change its means", function()
  local plain, weighted = run { steps = 1 }, run { steps = 1, learn = { verdict = 3, ["end"] = 0 } }
  expect.same(weighted[1].ledger["end"], nil)
  for _, name in ipairs { "critique", "verdict" } do
    expect.same(weighted[1].ledger[name].tokens, plain[1].ledger[name].tokens, name)
    expect.close(weighted[1].ledger[name].loss, plain[1].ledger[name].loss, 1e-5, name)
  end
end })

table.insert(tests, { "a run compares its first and its last tenth", function()
  local seen, summary = run {}
  local function mean(from, to, name)
    local sum, tokens = 0, 0
    for i = from, to do
      local s, n = total(seen[i].ledger, { name })
      sum, tokens = sum + s, tokens + n
    end
    return { sum / tokens, tokens }
  end
  for name in pairs(summary.ledger_last) do
    local first, last = summary.ledger_first[name], summary.ledger_last[name]
    expect.close({ first.loss, first.tokens }, mean(1, 2, name), 1e-9, name)
    expect.close({ last.loss, last.tokens }, mean(STEPS - 1, STEPS, name), 1e-9, name)
  end
  local lines = ledgers.table { { "first tenth", summary.ledger_first }, { "last tenth", summary.ledger_last } }
  expect.match(lines[1], "^  %-log p a token +first tenth +last tenth$")
  for i, name in ipairs { "critique", "verdict %(teacher%-forced%)", "end", "right", "wrong" } do
    expect.match(lines[i + 1], "^  " .. name .. " +%d+%.%d%d%d%d +%d+%.%d%d%d%d$")
    expect.truthy(#lines[i + 1] <= 80, "it fits a terminal")
  end
  expect.same(#lines, 6)
end })

table.insert(tests, { "what is held out has a ledger, and with it that of its context", function()
  local plain, summary = run { steps = 2, heldout = 2000 }
  local _, all = run { steps = 2, heldout = 2000, context = true }
  local sum, tokens = total(summary.heldout_ledger_after, KINDS)
  expect.close(sum / tokens, summary.heldout_loss_after, 1e-5)
  expect.close(plain[2].heldout_ledger, summary.heldout_ledger_after, 0)
  expect.same(plain[1].heldout_ledger, nil)
  expect.close(all.heldout_loss_after, summary.heldout_loss_after, 1e-6)
  for name, e in pairs(summary.heldout_ledger_before) do
    expect.same(all.heldout_ledger_before[name].tokens, e.tokens, name)
    expect.close(all.heldout_ledger_before[name].loss, e.loss, 1e-5, name)
  end
  expect.same({ summary.heldout_ledger_after.query, summary.heldout_ledger_after.response }, {})
  local query = all.heldout_ledger_after.query
  expect.truthy(query.tokens > 24, "tokens of queries")
  expect.truthy(query.loss > 0 and all.heldout_ledger_after.response.loss > 0)
end })

table.insert(tests, { "of a shared prefix, each token is in the ledger once", function()
  local make = demo.training(1)
  local function twins(i)  -- two critiques of each solution
    local r = make(math.floor(i / 2))
    if i % 2 == 1 then r.output = "Look again. " .. r.output end
    return r
  end
  local function measured(share)
    local tok = demo.tokenizer(1)
    local samples = samples_of(data.generate(8, twins), template.chatml(), tok)
    local model = models.new { arch = "qwen2", d = 16, layers = 2, heads = 2, ffn = 24, vocab = tok:size(), tied = true,
                               init = 0.2, seed = 2 }
    local batches = batch.new(samples, { batch = 8, tokens = 4000, shuffle = false, share_prefix = share })
    local loss, ledger = train.Trainer.evaluate({ model = model, context = true, zero = zero.new({}, 0) }, batches)
    model:release()
    return loss, ledger
  end
  local loss, apart = measured(false)
  local same, shared = measured(true)
  expect.close(same, loss, 1e-5)
  for _, name in ipairs(KINDS) do expect.close(shared[name].loss, apart[name].loss, 1e-5, name) end
  for _, name in ipairs { "query", "response" } do
    expect.truthy(apart[name].tokens > shared[name].tokens, name)
    expect.close(shared[name].loss, apart[name].loss, 1e-5, name)
  end
end })

return tests
