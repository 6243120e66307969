--- Samples as the model sees them: decoded tokens, learned ones in colour, and counts.

local mask = require "cft.samples.mask"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local function text_of(tok, sample, from, count)
  local ids = {}
  for i = from, from + count - 1 do ids[#ids + 1] = sample.ids[i] end
  return texts.printable(tok:decode(ids))
end

--- One sample as text. Learned spans are green, and where there is no colour, between ⟦ and ⟧;
-- weights other than 1 are named.
function M.sample(tok, sample)
  local parts, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local span = sample.spans[i]
    local count, weight = tonumber(span.count), span.weight
    local dynamic = sample.learn and sample.learn[i]
    local text = text_of(tok, sample, at, count)
    if weight ~= 0 or dynamic then
      local mark = dynamic and "f" or weight ~= 1 and ("%g"):format(weight) or ""
      if term.in_colour() then
        text = term.paint("green", text) .. (mark ~= "" and term.paint("yellow", "[" .. mark .. "]") or "")
      else
        text = "⟦" .. text .. "⟧" .. mark
      end
    end
    parts[#parts + 1] = text
    at = at + count
  end
  return table.concat(parts)
end

--- What stands above a sample: its place and counts.
-- @param samples of `cft.samples` @int k
function M.describe(samples, k)
  local s = samples:get(k)
  local learned, by_kind = 0, {}
  for i = 0, s.span_count - 1 do
    local count = tonumber(s.spans[i].count)
    if s.spans[i].weight ~= 0 or s.learn and s.learn[i] then learned = learned + count end
    local kind = mask.kind_name(s.spans[i].kind)
    if not by_kind[kind] then by_kind[#by_kind + 1] = kind end
    by_kind[kind] = (by_kind[kind] or 0) + count
  end
  for i, kind in ipairs(by_kind) do by_kind[i] = ("%s %d"):format(kind, by_kind[kind]) end
  return ("sample %d (%s): %d tokens, %d learned; %s"):format(k, samples:where(k), s.n, learned,
                                                             table.concat(by_kind, ", "))
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
