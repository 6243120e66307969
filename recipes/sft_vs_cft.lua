-- Supervised fine-tuning against Critique Fine-Tuning (arXiv 2501.17703) with one budget of tokens: the same problems, and
-- either right answers to imitate or critiques of noisy ones. With it: a template of its own, loss weights by kind of text, a
-- mixture whose weights follow the run, a schedule, a metric of what the model writes, an early stop, and the best checkpoint.
--
--   cftrun recipes/sft_vs_cft.lua mode=sft out=sft
--   cftrun recipes/sft_vs_cft.lua mode=cft out=cft
--   cftrun report sft cft                            one page of both, over tokens
local cft = require "cft"
local t = cft.template

local cfg = cft.config {
  mode = cft.config.key { "string", "cft", one_of = { "sft", "cft" }, help = "right answers, or critiques" },
  data = "recipes/data/problems.jsonl",
  verdict = 2, patience = 60, graded = 20,   -- loss weight of a verdict; steps without a better grade; problems that are graded
  heldout = 20, budget_tokens = 4e5, eval_every = 20, batch = 16, tokens = 4096, lr = 2e-3,
  schedule = function(step, steps)            -- warm-up, stable, and down to 0 in the last fifth
    return math.min(1, step / 20, 5 * (steps - step) / steps)
  end,
}

-- A record of the file as a question and what is to be written for it.
local fields = cfg.mode == "cft" and cft.critique.paper() or function(r)
  return { instruction = r.question, output = r.answer }
end

cfg.template = t.new({
  name = "worked",
  system_turn = { t.content, "\n" },
  user_turn = { "### Problem\n", t.content, "\n### Work\n" },
  answer_turn = { t.content, t.eos },
  between = { "\n" },
}, { learn = { verdict = cfg.mode == "cft" and cfg.verdict or nil, rest = 1 } })

-- Of a conversation what is asked and what is answered, as texts: a content may be a list of parts.
local function texts_of(record)
  local list = {}
  for i, message in ipairs(record.messages) do
    local parts = type(message.content) == "table" and message.content or { { text = message.content } }
    for k, part in ipairs(parts) do list[i] = (k > 1 and list[i] or "") .. part.text end
  end
  return list[1], list[#list]
end

-- Problems of one step and of more, 3 to 1 at first and 1 to 3 at the end.
local function load(path)
  local source, heldout = cft.data.open(path, { fields = fields }):split { heldout = cfg.heldout, seed = cfg.seed }
  local function is_long(record) return table.concat({ texts_of(record) }):find "Step 2" ~= nil end
  return cft.mix.new {
    { source:filter(function(r) return not is_long(r) end), weight = function(progress) return 3 - 2 * progress end },
    { source:filter(is_long), weight = function(progress) return 1 + 2 * progress end },
  }, heldout
end

-- What the model writes about problems that it has not seen: the share that ends as it should.
local function evaluate(run)
  local asked, good = {}, 0
  for i, record in run.heldout_source:records() do
    if i < cfg.graded then asked[#asked + 1] = record end
  end
  local function ending(text) return text:match "Conclusion: (%a+)" or text:match "Answer: (%d+)" end
  for i, text in ipairs(cft.generate.answers(run, asked, { max_new = 48 })) do
    local _, answer = texts_of(asked[i])
    if ending(text) == ending(answer) then good = good + 1 end
  end
  return { good = good / #asked }
end

cft.recipe.run(cfg, {
  name = "sft_vs_cft_" .. cfg.mode,
  tokenizer = cft.demo.words, model = cft.demo.tiny,  -- where model= names no other
  load = load,
  evaluate = evaluate,
  best = { "good", "max" }, keep = { newest = 1, best = 1, state = "newest" },
  stop = function(s)
    return s.since_best and s.since_best >= cfg.patience and ("no better for %d steps"):format(cfg.patience)
  end,
})
