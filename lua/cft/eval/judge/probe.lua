--- The verdict probe: does a model judge rightly? One forward pass over a critique as it is in the data reads
-- the probability of "right" against that of "wrong" where its verdict stands, and where those of its steps
-- do, at a small part of what writing it would cost.
-- @module cft.eval.judge.probe

local autograd = require "cft.engine.autograd"
local fork = require "cft.eval.judge.fork"
local ranks = require "cft.ranks"
local slots = require "cft.eval.judge.slots"
local tensor = require "cft.engine.tensor"

local M = {}

-- Of one forward pass, at most, where one record has no more: tokens, and logits.
local TOKENS, LOGITS = 8192, 2 ^ 24

--- What of a record is read: its ids, and of each verdict where the token before it stands and which two may
-- follow.
-- @tab record a conversation whose last answer is a critique
-- @tparam Template chat @tparam Tokenizer tok
-- @string[opt] steps of `cft.eval.judge.slots`
-- @treturn ?table `ids`; `places`, a list of { `row` (from 0), `right`, `wrong` (ids), `truth`, `step` }; nil
-- where it has none
function M.question(record, chat, tok, steps)
  local places, found = {}, nil
  found, record = slots.of(record, steps)
  if #found == 0 then return nil end
  local ids = fork.ids(record, chat, tok)
  for _, slot in ipairs(found) do
    local other = fork.ids(slot.flipped(), chat, tok)
    local at = fork.of(slot.truth and ids or other, slot.truth and other or ids)
    if at then
      places[#places + 1] = { row = #at.prompt - 1, right = at.right, wrong = at.wrong, truth = slot.truth,
                              step = slot.step }
    end
  end
  return #places > 0 and { ids = ids, places = places } or nil
end

-- Questions as lists that fit one forward pass.
local function passes(questions, vocab)
  local list, tokens, logits = {}, math.huge, 0
  for _, q in ipairs(questions) do
    if tokens + #q.ids > TOKENS or logits + #q.places * vocab > LOGITS then
      list[#list + 1], tokens, logits = {}, 0, 0
    end
    table.insert(list[#list], q)
    tokens, logits = tokens + #q.ids, logits + #q.places * vocab
  end
  return list
end

-- Read the places of some questions in one forward pass.
local function read_pass(model, questions, list)
  local sequences, rows, at = {}, {}, 0
  for i, q in ipairs(questions) do
    sequences[i] = q.ids
    for _, place in ipairs(q.places) do rows[#rows + 1] = at + place.row end
    at = at + #q.ids
  end
  local vocab, row = model.config.vocab, 0
  local logits = tensor.cast(model:logits(sequences, rows), "f32"):to_host()  -- (places, V)
  for _, q in ipairs(questions) do
    for _, place in ipairs(q.places) do
      list[#list + 1] = { p = fork.share(logits[row + place.right], logits[row + place.wrong]),
                          truth = place.truth, step = place.step, record = q.number }
      row = row + vocab
    end
  end
end

--- Ask a model for its verdicts.
-- @tparam Model model @tparam Tokenizer tok @tparam Template chat
-- @tab records conversations; those without a verdict, or longer than the model's context, are left out
-- @string[opt] steps a Lua pattern of lines that judge a step, with one capture, its verdict: "^Step %d+: .*,
-- (%a+)%.$"; for critiques that are texts
-- @treturn table a list of { `p`, P(right) of P(right) + P(wrong); `truth`, whether right is the truth;
-- `step`, from 1, nil for the verdict of the whole; `record`, its number in the list }
-- @treturn int how many records were left out
function M.read(model, tok, chat, records, steps)
  local questions, list = {}, {}
  steps = steps and slots.steps(steps)
  for i, record in ipairs(records) do
    local q = M.question(record, chat, tok, steps)
    if q and #q.ids <= model.config.context then
      q.number, questions[#questions + 1] = i, q
    end
  end
  local all = passes(questions, model.config.vocab)
  for i, pass in ipairs(all) do
    ranks.here():at(("probe, %d of %d"):format(i, #all))
    autograd.no_grad(function() tensor.scope(read_pass, model, pass, list) end)
  end
  return list, #records - #questions
end

-- ---- numbers -------------------------------------------------------------------------------------

-- The share of pairs of a right and a wrong one that are in order, equal ones half: by ranks.
local function auroc(list)
  local sorted, positives, sum = { unpack(list) }, 0, 0
  table.sort(sorted, function(a, b) return a.p < b.p end)
  local i = 1
  while i <= #sorted do
    local j = i
    while sorted[j + 1] and sorted[j + 1].p == sorted[i].p do j = j + 1 end
    for k = i, j do
      if sorted[k].truth then positives, sum = positives + 1, sum + (i + j) / 2 end
    end
    i = j + 1
  end
  local negatives = #sorted - positives
  if positives == 0 or negatives == 0 then return nil end
  return (sum - positives * (positives + 1) / 2) / (positives * negatives)
end

--- Numbers of a probe: `n`; `accuracy`, at P(right) above one half; `auroc`, nil where only one verdict is
-- the truth;
-- `brier`, the mean square of P(right) - truth; `ece`, the mean distance of P(right) from the share that is
-- right, in ten bins.
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

-- Whether the first step that is held to be wrong is the first wrong one, in each record that has steps; by
-- whether there is one.
local function first_wrong(list)
  local by_record, order, hits = {}, {}, { [true] = { 0, 0 }, [false] = { 0, 0 } }
  for _, one in ipairs(list) do
    local r = by_record[one.record]
    if one.step and not r then
      r = { said = nil, truth = nil }
      by_record[one.record], order[#order + 1] = r, r
    end
    if one.step and one.p <= 0.5 then r.said = r.said or one.step end
    if one.step and not one.truth then r.truth = r.truth or one.step end
  end
  for _, r in ipairs(order) do
    local h = hits[r.truth ~= nil]
    h[1], h[2] = h[1] + (r.said == r.truth and 1 or 0), h[2] + 1
  end
  local wrong, right = hits[true], hits[false]
  if wrong[2] == 0 or right[2] == 0 then return nil end
  local a, b = wrong[1] / wrong[2], right[1] / right[2]
  return a + b > 0 and 2 * a * b / (a + b) or 0
end

--- Numbers of the verdicts of steps: those of `numbers` over all; `f1`, ProcessBench's, of the first step
-- that is held to be wrong, which is nil where no record has a wrong step, or all have; and `by_step`, the
-- numbers of the first steps, of the second ones, and so on.
-- @tab list of `read`
-- @treturn ?table nil where no step has a verdict
function M.steps(list)
  local all, by_step, most = {}, {}, 0
  for _, one in ipairs(list) do
    if one.step then
      all[#all + 1] = one
      by_step[one.step], most = by_step[one.step] or {}, math.max(most, one.step)
      table.insert(by_step[one.step], one)
    end
  end
  local out = M.numbers(all)
  if not out then return nil end
  out.f1, out.by_step = first_wrong(list), {}
  for i = 1, most do out.by_step[i] = M.numbers(by_step[i] or {}) or false end
  return out
end

--- Those of the verdicts of the whole. @tab list of `read` @treturn table
function M.whole(list)
  local out = {}
  for _, one in ipairs(list) do
    if not one.step then out[#out + 1] = one end
  end
  return out
end

return M
