-- The verdict probe: P(right) against P(wrong) where a verdict stands, of the whole and of each step, against direct computation.

local cft = require "cft"
local expect = require "tests.expect"
local host = require "cft.host"
local probe = require "cft.eval.judge.probe"
local slots = require "cft.eval.judge.slots"

local function near(a, b, by) expect.truthy(math.abs(a - b) < (by or 1e-9), ("%.12g is not %.12g"):format(a, b)) end

local tok = cft.demo.tokenizer(1)
local chat = cft.template.chatml()

local function model()
  return cft.models.new { arch = "llama", d = 32, layers = 2, heads = 2, ffn = 48, vocab = tok:size(), tied = true, seed = 3, init = 0.5 }
end

local function record(content) return { messages = { { role = "user", content = "Is 2+3 5?" }, { role = "assistant", content = content } } } end

-- P(right) behind a text of the assistant's, by the model's own logits.
local function direct(m, before, right, wrong)
  local system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
  local ids = tok:encode("<|im_start|>system\n" .. system .. "<|im_end|>\n<|im_start|>user\nIs 2+3 5?<|im_end|>\n<|im_start|>assistant\n" .. before,
                         { parse_special = true })
  local logits = m:logits { ids }
  local host_, row = logits:to_host(), (#ids - 1) * m.config.vocab
  local a, b = tok:encode(right)[1], tok:encode(wrong)[1]
  return 1 / (1 + math.exp(host_[row + b] - host_[row + a]))
end

-- The verdicts of a record: where each stands, and what it says.
local function shown(one, steps)
  local out = {}
  for i, slot in ipairs((slots.of(one, steps and slots.steps(steps)))) do
    out[i] = ("%s %s"):format(slot.step or "whole", tostring(slot.truth))
  end
  return out
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
    local m = model()
    local list, left_out = probe.read(m, tok, chat, { record "Yes.\n\nConclusion: right [END]", record "no verdict", record "Conclusion: Incorrect [END]" })
    expect.same({ #list, left_out, list[1].truth, list[1].record, list[1].step, list[2].truth, list[2].record }, { 2, 1, true, 1, nil, false, 3 })
    near(list[1].p, direct(m, "Yes.\n\nConclusion:", " right", " wrong"), 1e-5)
    local a, b = tok:encode " Correct", tok:encode " Incorrect"  -- bytes: they part at the first letter that differs
    expect.truthy(a[1] == b[1] and a[2] ~= b[2], "the space is common")
    local ids = tok:encode("Conclusion: ")
    expect.truthy(list[2].p > 0 and list[2].p < 1 and #ids > 0, "an incorrect one")
    m:release()
  end },
  { "each step's verdict: parts of a conversation, and lines of a text, in one pass", function()
    local m = model()
    local parts = { { text = "Step 1: right\n", kind = "verdict", verdict = true }, { text = "Well.\n", kind = "critique" },
                    { text = "Step 2: wrong\n", kind = "verdict", verdict = false },
                    { text = "\nConclusion: wrong [END]", kind = "verdict", verdict = false } }
    local text = "Step 1: 2 + 3 = 5, right.\nStep 2: 5 + 1 = 6, wrong.\n\nConclusion: wrong [END]"
    local list = probe.read(m, tok, chat, { record(parts), record(text) }, "^Step %d+: .*, (%a+)%.$")
    local got = {}
    for i, one in ipairs(list) do got[i] = ("%d %s %s"):format(one.record, one.step or "whole", tostring(one.truth)) end
    expect.same(got, { "1 1 true", "1 2 false", "1 whole false", "2 1 true", "2 2 false", "2 whole false" })
    near(list[4].p, direct(m, "Step 1: 2 + 3 = 5,", " right", " wrong"), 1e-5)
    near(list[5].p, direct(m, "Step 1: 2 + 3 = 5, right.\nStep 2: 5 + 1 = 6,", " right", " wrong"), 1e-5)
    near(list[6].p, direct(m, "Step 1: 2 + 3 = 5, right.\nStep 2: 5 + 1 = 6, wrong.\n\nConclusion:", " right", " wrong"), 1e-5)
    near(list[1].p, direct(m, "Step 1:", " right", " wrong"), 1e-5)
    near(list[2].p, direct(m, "Step 1: right\nWell.\nStep 2:", " right", " wrong"), 1e-5)
    near(list[3].p, direct(m, "Step 1: right\nWell.\nStep 2: wrong\n\nConclusion:", " right", " wrong"), 1e-5)
    -- Records apart, and many: nothing changes.
    local many = {}
    for i = 1, 300 do many[i] = record(i % 2 == 0 and parts or text) end
    local all = probe.read(m, tok, chat, many, "^Step %d+: .*, (%a+)%.$")
    expect.same(#all, 900)
    for i, one in ipairs(all) do near(one.p, list[(i - 1) % 6 < 3 and (i - 1) % 6 + 4 or (i - 1) % 6 - 2].p, 1e-5) end
    m:release()
  end },
  { "which words are verdicts, and which are not", function()
    expect.same(shown(record "Conclusion: right"), { "whole true" })
    expect.same(shown(record "So right. No conclusion"), {})
    expect.same(shown(record "Conclusion: not right but wrong"), {})      -- the word does not say what the text says
    expect.same(shown(record { { text = "Verdict: sound", verdict = true } }), {})
    expect.same(shown(record { { text = "Step 1: right", verdict = false } }), {})
    expect.same(shown(record "a: right\nb: maybe\nc: wrong", "^%a: (%a+)$"), { "1 true", "2 false" })
    expect.same(shown({ instruction = "no conversation" }), {})
    expect.raises("one capture, the word of a step's verdict; got 'Step'", slots.steps, "Step")
    expect.raises("one capture", slots.steps, "(%a+) (%a+)")
    expect.raises("got '%[%(%%a': malformed", slots.steps, "[(%a")
  end },
  { "numbers of steps, by their definitions", function()
    local function one(r, step, p, truth) return { record = r, step = step, p = p, truth = truth } end
    local list = {
      one(1, 1, 0.9, true), one(1, 2, 0.2, false), one(1, nil, 0.1, false),  -- the first wrong step is found
      one(2, 1, 0.8, true), one(2, 2, 0.6, false),                          -- and here it is not
      one(3, 1, 0.9, true), one(3, 2, 0.7, true), one(3, nil, 0.9, true),    -- none is wrong, and none is said to be
      one(4, 1, 0.4, true), one(4, 2, 0.9, true),                           -- one is said to be
    }
    local n = probe.steps(list)
    near(n.accuracy, 6 / 8)
    near(n.f1, 0.5)
    near(n.auroc, (6 + 5) / 12)  -- pairs in order: 0.2 is below all six, 0.6 below five
    expect.same({ n.n, #n.by_step, n.by_step[1].n, n.by_step[2].n }, { 8, 2, 4, 4 })
    near(n.by_step[1].accuracy, 3 / 4)
    near(n.by_step[2].accuracy, 3 / 4)
    expect.same(#probe.whole(list), 2)
    expect.same(probe.steps { one(1, nil, 0.5, true) }, nil)
    expect.same(probe.steps { one(1, 1, 0.9, true) }.f1, nil)
  end },
  { "solutions of ProcessBench as critiques step by step", function()
    local folder = os.getenv "CFT_SHARED_DATA" or "../shared/data"
    if host.kind(folder) ~= "folder" then skip(folder .. " is not there (CFT_SHARED_DATA): no benchmark files") end
    local follow = require "cft.eval.judge.follow"
    for _, name in ipairs { "processbench", "mr-gsm8k" } do
      local self = follow.new { every = 1, bench = name, data = folder, limit = 20 }
      expect.truthy(#self.records >= 20, name)
      for _, r in ipairs(self.records) do
        local list = slots.of(r)
        for i, slot in ipairs(list) do expect.same(slot.step, i < #list and i or nil) end
        for i = 1, #list - 2 do expect.same(list[i].truth, true) end
        expect.same(list[#list].truth, list[#list - 1].truth)
      end
    end
    expect.raises("the benchmark 'gsm8k' has no steps that are labelled", follow.new, { every = 1, bench = "gsm8k", data = folder })
    expect.raises("'data' is where a benchmark's data are", follow.new, { every = 1, data = folder })
  end },
}
