--- Where two texts part: a conversation with the verdict "right" and the same one with "wrong" have the same
-- ids up to one token, and the probabilities of the two tokens there say what a model holds to be true.
-- @module cft.eval.judge.fork

local mask = require "cft.samples.mask"

local M = {}

--- The ids of a conversation; empty where the template cannot say it.
-- @tab record @tparam Template chat @tparam Tokenizer tok
-- @treturn table
function M.ids(record, chat, tok)
  local sample = mask.encode(record, chat, tok)
  local ids = {}
  for i = 0, sample and sample.n - 1 or -1 do ids[i + 1] = sample.ids[i] end
  return ids
end

--- Where two lists of ids part.
-- @tab right @tab wrong
-- @treturn ?table `prompt`, the ids that both begin with, and the two that follow: `right`, `wrong`; nil
-- where they part at once, or one ends
function M.of(right, wrong)
  local prompt = {}
  for i = 1, math.min(#right, #wrong) do
    if right[i] ~= wrong[i] then
      return i > 1 and { prompt = prompt, right = right[i], wrong = wrong[i] } or nil
    end
    prompt[i] = right[i]
  end
end

--- P(right) of P(right) + P(wrong), by their logits or their logarithms.
-- @number right @number wrong
function M.share(right, wrong) return 1 / (1 + math.exp(wrong - right)) end

return M
