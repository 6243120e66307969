-- Scores while a run trains: `select`, `retain`, the verdict probe.

local cft = require "cft"
local expect = require "tests.expect"
local json = require "cft.base.json"
local probe = require "cft.eval.probe"
local process = require "tests.process"

local function near(a, b) expect.truthy(math.abs(a - b) < 1e-9, ("%.12g is not %.12g"):format(a, b)) end

local SCRIPT = [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "chatml", batch = 4, tokens = 1024, steps = 6,
                         heldout = 12, lr = 1e-3, device = "cpu", dtype = "f32" }
cft.recipe.run(cfg, { name = "scored", fields = cft.critique.paper(), tokenizer = cft.demo.words, model = cft.demo.tiny, %s })
]]

-- Run it with a small benchmark. @treturn table as process.cftrun @treturn table lines of log.jsonl by step @treturn table summary
local function run(options)
  local folder = process.folder()
  os.execute("mkdir -p " .. folder .. "/gsm8k")
  local lines = {}
  for i = 1, 5 do lines[i] = json.encode { question = ("What is %d + 1?"):format(i), answer = "#### " .. i + 1 } end
  process.write(folder .. "/gsm8k/test.jsonl", table.concat(lines, "\n") .. "\n")
  local path = process.write(folder .. "/scored.lua", SCRIPT:format((options:gsub("DATA", ("%q"):format(folder)))))
  local r = process.cftrun { path, "out=" .. folder .. "/out" }
  local steps = {}
  if r.code == 0 then
    for line in io.lines(folder .. "/out/log.jsonl") do
      local t = json.decode(line)
      if t.step then steps[t.step] = t end
    end
  end
  return r, steps, json.read(folder .. "/out/summary.json")
end

return {
  { "numbers of a probe, by their definitions", function()
    local list = { { p = 0.9, truth = true }, { p = 0.8, truth = false }, { p = 0.3, truth = true }, { p = 0.1, truth = false } }
    local n = probe.numbers(list)
    near(n.accuracy, 0.5)
    near(n.auroc, 3 / 4)
    near(n.brier, (0.01 + 0.64 + 0.49 + 0.01) / 4)
    near(n.ece, (0.1 + 0.8 + 0.7 + 0.1) / 4)
    expect.same(probe.numbers { { p = 0.5, truth = true }, { p = 0.5, truth = false } }.auroc, 0.5)
    expect.same(probe.numbers { { p = 0.5, truth = true } }.auroc, nil)
    expect.same(probe.numbers {}, nil)
  end },
  { "P(right) is that of the model's own forward pass", function()
    local tok = cft.tokenizer.parse(cft.demo.tokenizer_json(1), "demo", { eos = "<|endoftext|>" })
    local chat = cft.template.chatml()
    local m = cft.models.new { arch = "llama", d = 32, layers = 2, heads = 2, ffn = 48, vocab = tok:size(), tied = true, seed = 3, init = 0.5 }
    local record = { messages = { { role = "user", content = "Is 2+3 5?" }, { role = "assistant", content = "Yes.\n\nConclusion: right [END]" } } }
    local q = probe.question(record, chat, tok)
    expect.same(q.truth, true)
    expect.truthy(q.right ~= q.wrong and #q.prompt > 5, "two tokens behind a prompt")
    local one = probe.read(m, tok, chat, { record, { messages = { record.messages[1], { role = "assistant", content = "no verdict" } } } })
    expect.same({ #one, one[1].truth }, { 1, true })
    local top = cft.generate(m, { q.prompt }, { max_new = 1, logprobs = 64, ends = false, tokenizer = tok })[1].samples[1].top[1]
    local by, least = {}, 0
    for _, e in ipairs(top) do by[e.id], least = math.exp(e.logprob), math.exp(e.logprob) end
    local r, w = by[q.right] or least, by[q.wrong] or least
    expect.truthy(math.abs(one[1].p - r / (r + w)) < 1e-6, "the share")
    m:release()
  end },
  { "select scores as it is told, follows the best, names the set; retain measures before and after; the probe reads", function()
    local r, steps, summary = run [[select = { bench = "gsm8k", data = DATA, every = 2, max_new = 4, share = 1 },
      retain = { bench = "gsm8k", data = DATA, limit = 3, max_new = 4 }, probe = { every = 3 }]]
    expect.same(r.code, 0, r.err)
    for step, t in ipairs(steps) do expect.same(t["gsm8k_pass@1"] ~= nil, step % 2 == 0, "step " .. step) end
    expect.truthy(steps[3].probe_accuracy and steps[6].probe_brier and not steps[4].probe_accuracy, "the probe")
    expect.truthy(steps[6].gsm8k_before and steps[6].gsm8k_after, "retain")
    expect.truthy(r.out:find "select gsm8k: pass@1 [%d.]+ ± [%d.]+ at step 2; %d+%% of the time", r.out)
    expect.truthy(r.out:find "at step 4, %+0.0 %(%+0.0 to %+0.0%) to the best before", r.out)
    expect.truthy(r.out:find "retain gsm8k: .* before, .* after", r.out)
    expect.truthy(r.out:find "chosen by gsm8k, so its score on gsm8k says too much", r.out)
    expect.same({ summary.selected_by, summary.best.metric }, { "gsm8k", "gsm8k_pass@1" })
  end },
  { "a share of the time that is nothing leaves scores out, and says so", function()
    local r, steps = run [[select = { bench = "gsm8k", data = DATA, every = 1, max_new = 4, share = 0 }]]
    expect.same(r.code, 0, r.err)
    expect.truthy(steps[1]["gsm8k_pass@1"] and steps[6]["gsm8k_pass@1"] and not steps[3]["gsm8k_pass@1"], "the first and the last")
    expect.truthy(r.out:find "4 scores were left out to keep to 0%% of the time", r.out)
  end },
  { "what is refused", function()
    local function refused(pattern, options)
      local r = run(options)
      expect.truthy(r.code ~= 0 and r.err:find(pattern), r.err .. r.out)
    end
    refused("select: 'every' is required", [[select = { bench = "gsm8k", data = DATA }]])
    refused("no benchmark 'gsm9k'", [[select = { bench = "gsm9k", every = 1 }]])
    refused("unknown option 'evry'; did you mean 'every'", [[probe = { evry = 1 }]])
    refused("no number 'maj@4' is made; there are pass@1", [[select = { bench = "gsm8k", data = DATA, every = 1, metric = "maj@4", max_new = 2 }]])
  end },
}
