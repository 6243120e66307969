--- Samples as the model sees them: decoded tokens, loss tokens in colour, and counts.

local mask = require "cft.samples.mask"
local page = require "cft.report.page"
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

-- ---- token by token --------------------------------------------------------------------------

-- The text of ids[first] to ids[last]. Decoders drop a space at a text's beginning, so one token is decoded in front.
local function text_of(tok, ids, first, last)
  local before, own = {}, {}
  for i = math.max(1, first - 1), last do own[#own + 1] = ids[i] end
  if first > 1 then before[1] = ids[first - 1] end
  local front, text = tok:decode(before), tok:decode(own)
  return text:sub(1, #front) == front and text:sub(#front + 1) or tok:decode { unpack(ids, first, last) }
end

local function is_whole(text) return not text:find "\239\191\189" and page.valid(text) == text end

-- Tokens from `first` on that are text together, as far as four bytes of a character can need.
local function piece_at(tok, ids, first, edges)
  for last = first, math.min(#ids, first + 3) do
    local text = text_of(tok, ids, first, last)
    if last == first then edges.alone = text end
    if is_whole(text) then return text, last end
    if edges[last] then break end  -- another kind or weight begins
  end
  return edges.alone, first
end

--- A sample's tokens with their texts. Tokens that are text only together, as the bytes of a character, are one entry.
-- @param samples of `cft.samples` @int k
-- @int[opt] most tokens that stand by themselves; behind them a span is one entry
-- @treturn table a list of `{ text =, ids =, kind =, weight = }`; weights that are functions are those of step 1
function M.tokens(samples, k, most)
  local spans, ids, edges, owner = samples:show(k), {}, {}, {}
  for _, span in ipairs(spans) do
    for _, id in ipairs(span.ids) do ids[#ids + 1], owner[#owner + 1] = id, span end
    edges[#ids] = true
  end
  local list, i = {}, 1
  while i <= math.min(#ids, most or #ids) do
    local text, last = piece_at(samples.tok, ids, i, edges)
    list[#list + 1] = { text = text, ids = { unpack(ids, i, last) }, kind = owner[i].kind, weight = owner[i].weight }
    i = last + 1
  end
  while i <= #ids do
    local own, span = {}, owner[i]
    while owner[i] == span do own[#own + 1], i = ids[i], i + 1 end
    list[#list + 1] = { text = samples.tok:decode(own), ids = own, kind = span.kind, weight = span.weight }
  end
  return list
end

return M
