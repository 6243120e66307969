--- The verdict probe: does a model judge rightly? One forward pass over a critique up to its verdict reads the probability of
-- "right" against that of "wrong" there, at a small part of what writing the critique would cost.
-- @module cft.eval.probe

local conversation = require "cft.data.conversation"
local generate = require "cft.generate"
local mask = require "cft.samples.mask"

local M = {}

local TOP = 64  -- how many of the likeliest tokens are looked at

-- A record with another verdict: what follows the last "Conclusion" says `word` where it said right or wrong.
local function with_verdict(record, word)
  local messages = { unpack(record.messages) }
  local last = messages[#messages]
  local head, tail = conversation.text(last.content):match "^(.*Conclusion)(.*)$"
  if not head then return nil end
  local at, stop
  for _, name in ipairs { "incorrect", "correct", "wrong", "right" } do
    local first, final = tail:lower():find(name, 1, true)
    if first and (not at or first < at) then at, stop = first, final end
  end
  if not at then return nil end
  local copy = {}
  for name, value in pairs(last) do copy[name] = value end
  copy.content = head .. tail:sub(1, at - 1) .. word .. tail:sub(stop + 1)
  messages[#messages] = copy
  return { messages = messages }
end

local function ids_of(record, chat, tok)
  local sample = mask.encode(record, chat, tok)
  local ids = {}
  for i = 0, sample and sample.n - 1 or -1 do ids[i + 1] = sample.ids[i] end
  return ids
end

--- What of a record is read: the ids up to its verdict, and the two tokens that may follow.
-- @tab record a conversation whose last answer is a critique with a conclusion
-- @treturn ?table `prompt`, `right`, `wrong`, `truth`; nil where it has no verdict
function M.question(record, chat, tok)
  if not record.messages then return nil end
  local truth = conversation.verdict(record)
  local yes, no = with_verdict(record, "right"), with_verdict(record, "wrong")
  if truth == nil or not yes or not no then return nil end
  local a, b, prompt = ids_of(yes, chat, tok), ids_of(no, chat, tok), {}
  for i = 1, math.min(#a, #b) do
    if a[i] ~= b[i] then return i > 1 and { prompt = prompt, right = a[i], wrong = b[i], truth = truth } or nil end
    prompt[i] = a[i]
  end
end

-- The probabilities of two tokens; one that is not among the likeliest has at most the last one's.
local function read(sample, question)
  local found, least = {}, 0
  for _, entry in ipairs(sample.top[1]) do found[entry.id], least = entry.logprob, entry.logprob end
  local r, w = found[question.right] or least, found[question.wrong] or least
  return 1 / (1 + math.exp(w - r))
end

--- Ask a model for its verdicts.
-- @tparam Model model @tparam Tokenizer tok @tparam Template chat
-- @tab records conversations; those without a verdict are passed by
-- @treturn table a list of { p =, truth = }: P(right) of P(right) + P(wrong), and whether right is the truth
function M.read(model, tok, chat, records)
  local questions, prompts, list = {}, {}, {}
  for _, record in ipairs(records) do
    local q = M.question(record, chat, tok)
    if q and #q.prompt < model.config.context then
      questions[#questions + 1], prompts[#prompts + 1] = q, q.prompt
    end
  end
  if #prompts == 0 then return list end
  local results = generate(model, prompts, { max_new = 1, logprobs = math.min(TOP, model.config.vocab), tokenizer = tok, ends = false })
  for i, q in ipairs(questions) do list[i] = { p = read(results[i].samples[1], q), truth = q.truth } end
  return list
end

-- The share of pairs of a right and a wrong one that are in order, equal ones half: by ranks.
local function auroc(list)
  local sorted, positives, ranks = { unpack(list) }, 0, 0
  table.sort(sorted, function(a, b) return a.p < b.p end)
  local i = 1
  while i <= #sorted do
    local j = i
    while sorted[j + 1] and sorted[j + 1].p == sorted[i].p do j = j + 1 end
    for k = i, j do
      if sorted[k].truth then positives, ranks = positives + 1, ranks + (i + j) / 2 end
    end
    i = j + 1
  end
  local negatives = #sorted - positives
  if positives == 0 or negatives == 0 then return nil end
  return (ranks - positives * (positives + 1) / 2) / (positives * negatives)
end

--- Numbers of a probe: `n`; `accuracy`, at P(right) above one half; `auroc`, nil where only one verdict is the truth;
-- `brier`, the mean square of P(right) - truth; `ece`, the mean distance of P(right) from the share that is right, in ten bins.
-- @tab list of `read`
-- @treturn ?table nil for an empty list
function M.numbers(list)
  if #list == 0 then return nil end
  local hits, brier, bins = 0, 0, {}
  for _, one in ipairs(list) do
    local truth = one.truth and 1 or 0
    hits, brier = hits + ((one.p > 0.5) == one.truth and 1 or 0), brier + (one.p - truth) ^ 2
    local k = math.min(9, math.floor(one.p * 10))
    bins[k] = bins[k] or { p = 0, truth = 0 }
    bins[k].p, bins[k].truth = bins[k].p + one.p, bins[k].truth + truth
  end
  local ece = 0
  for _, bin in pairs(bins) do ece = ece + math.abs(bin.p - bin.truth) / #list end
  return { n = #list, accuracy = hits / #list, brier = brier / #list, ece = ece, auroc = auroc(list) }
end

return M
