--- Samples as the model sees them: decoded tokens, loss tokens in colour, and counts.

local mask = require "cft.samples.mask"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

--- One sample as text. Learned spans are green, and where there is no colour, between ⟦ and ⟧;
-- weights other than 1 are named.
function M.sample(tok, sample)
  local parts, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local weight, dynamic, ids = sample.spans[i].weight, sample.learn and sample.learn[i], {}
    for j = 1, tonumber(sample.spans[i].count) do ids[j], at = sample.ids[at], at + 1 end
    local text = texts.printable(tok:decode(ids))
    if weight ~= 0 or dynamic then
      local mark = dynamic and "f" or weight ~= 1 and ("%g"):format(weight) or ""
      if term.in_colour() then
        text = term.paint("green", text) .. (mark ~= "" and term.paint("yellow", "[" .. mark .. "]") or "")
      else
        text = "⟦" .. text .. "⟧" .. mark
      end
    end
    parts[#parts + 1] = text
  end
  return table.concat(parts)
end

--- What stands above a sample: its place and counts.
-- @param samples of `cft.samples` @int k
function M.describe(samples, k)
  local s, kinds = samples:get(k), {}
  for i, kind in ipairs(mask.kinds_of(s)) do kinds[i] = ("%s %d"):format(kind.name, kind.tokens) end
  return ("sample %d (%s): %d tokens, %d loss tokens; %s"):format(k, samples:where(k), s.n, (mask.learned_of(s)),
    table.concat(kinds, ", "))
end

--- Print one sample.
-- @param samples of `cft.samples` @param tok @int k
function M.one(samples, tok, k)
  print(term.paint("bold", "--- " .. texts.printable(M.describe(samples, k))))
  print(M.sample(tok, samples:get(k)))
end

--- Print the first `n` samples of a run.
-- @tab run of `cft.recipe` @int n
function M.show(run, n)
  for k = 0, math.min(n, run.samples:size()) - 1 do M.one(run.samples, run.tokenizer, k) end
end

return M
