--- A tokenizer for tests of what stands on tokenizers: a byte is a token, and special tokens have
-- numbers from 256 on; those of the set `plain` are added and not special. It answers to what `cft.template` and `cft.mask` ask of a real one.
-- @usage local tok = fake { "<eos>", "<|im_end|>", eos = "<eos>" }

local Fake = {}
Fake.__index = Fake

function Fake:id(text) return self.ids[text] end
function Fake:token(id) return self.texts[id] or string.char(id) end
function Fake:is_special(id) return self.texts[id] ~= nil and not self.plain[self.texts[id]] end
function Fake:around() return {}, {} end
function Fake:added(id) return self.texts[id] and { special = self:is_special(id) } or nil end

function Fake:add_token(text)
  self.texts[self.size], self.ids[text] = text, self.size
  self.size = self.size + 1
  return self.size - 1
end

-- The special token that begins at byte `at`, the longest of several.
local function special_at(self, text, at)
  local best
  for id = 256, self.size - 1 do
    local token = self.texts[id]
    if text:sub(at, at + #token - 1) == token and (not best or #token > #self.texts[best]) then best = id end
  end
  return best
end

function Fake:find_special(text)
  local found, at = {}, 1
  while at <= #text do
    local id = special_at(self, text, at)
    local length = id and #self.texts[id] or 1
    if id then found[#found + 1] = { id = id, first = at, last = at + length - 1 } end
    at = at + length
  end
  return found
end

function Fake:encode_spans(text, parse)
  if text:find "\255" then return nil, ("byte %d is not UTF-8"):format(text:find "\255" - 1) end
  local ids, spans, n, at = {}, {}, 0, 1
  while at <= #text do
    local id = parse and special_at(self, text, at)
    local length = id and #self.texts[id] or 1
    ids[n], spans[n] = id or text:byte(at), { start = at - 1 }
    n, at = n + 1, at + length
  end
  return { n = n, ids = ids, spans = spans }
end

function Fake:decode(ids)
  local texts = {}
  for i, id in ipairs(ids) do texts[i] = self:token(id) end
  return table.concat(texts)
end

return function(tokens)
  local tok = setmetatable({ ids = {}, texts = {}, size = 256, plain = tokens.plain or {} }, Fake)
  for _, text in ipairs(tokens) do tok:add_token(text) end
  tok.eos, tok.bos = tok.ids[tokens.eos], tok.ids[tokens.bos]
  return tok
end
