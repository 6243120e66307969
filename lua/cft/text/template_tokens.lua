--- A template beside a tokenizer: the tokens that it writes, what the tokenizer lacks of them, and what is to be said of both.
-- `methods` are those of every template (`cft.text.template`).
-- @module cft.text.template_tokens

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local pieces = require "cft.text.presets"

local M = {}
local methods = {}

-- The special pieces of all turns, each once.
local function specials_of(t)
  local list, seen = {}, {}
  for _, turn in ipairs { t.prefix, t.system_turn or {}, t.user_turn, t.answer_turn, t.between } do
    for _, piece in ipairs(turn) do
      local name = type(piece) == "table" and (piece.special or piece.own)
      if name and not seen[name] then
        seen[name] = true
        list[#list + 1] = piece
      end
    end
  end
  return list
end

--- The id of a special piece or segment.
-- @tab piece with `special` or `own`
-- @param tok
-- @treturn ?int nil if the tokenizer has none
-- @usage cft.template.id_of(cft.template.special "<|im_end|>", tok) == tok:id "<|im_end|>"   --> true
function M.id_of(piece, tok)
  if piece.own == "first" then
    local front = tok:around()
    return #front == 1 and front[1] or nil
  end
  if piece.own then return tok[piece.own] end
  return tok:id(piece.special ~= true and piece.special or piece.text)
end

--- The special tokens that a tokenizer lacks.
-- @param tok
-- @treturn table their strings; `bos` or `eos` for one that the tokenizer does not name
-- @usage cft.template.llama3():missing(tok)   --> { "bos", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>" }
function methods:missing(tok)
  local names = {}
  for _, piece in ipairs(specials_of(self)) do
    if piece ~= pieces.first and not M.id_of(piece, tok) then names[#names + 1] = piece.special or piece.own end
  end
  return names
end

--- The tokens that a template writes; of one that a function writes none are known before its samples.
-- @param tok
-- @treturn table their ids
-- @usage #chat:writes(tok), #chat:controls(tok, {})   --> 3 0
function methods:writes(tok)
  local ids = {}
  for _, piece in ipairs(specials_of(self)) do ids[#ids + 1] = M.id_of(piece, tok) end
  return ids
end

-- Of a template and a tokenizer, what `controls` found.
local found_controls = setmetatable({}, { __mode = "k" })

-- Template → the tokenizer that its samples were last made with.
local prepared_for = setmetatable({}, { __mode = "k" })

--- The tokenizer that `prepare` was last called with; nil before.
-- @tparam Template chat
-- @treturn ?Tokenizer
function M.tokenizer_of(chat) return prepared_for[chat] end

--- The tokens that a template writes and the tokenizer does not hold for special: their strings in data are plain
-- text all the same.
-- @param tok
-- @tab segments of a record: what a function of the recipe wrote is known from them alone
-- @treturn table a list of ids, with their `texts`
function methods:controls(tok, segments)
  local by_segments = self.make or segments and segments.written
  local found = not by_segments and found_controls[self]
  if found and found.tok == tok then return found end
  local ids, texts, seen = {}, {}, {}
  local function add(piece)
    local id = M.id_of(piece, tok)
    if id and not seen[id] and not tok:is_special(id) then
      seen[id], ids[#ids + 1], texts[#texts + 1] = true, id, tok:token(id)
    end
  end
  for _, piece in ipairs(by_segments and segments or specials_of(self)) do
    if not by_segments or piece.special then add(piece) end
  end
  for _, role in ipairs { "bos", "eos", "pad" } do
    if tok[role] and tok:added(tok[role]) then add { own = role } end
  end
  ids.tok, ids.texts = tok, texts
  if not by_segments then found_controls[self] = ids end
  return ids
end

-- A template writes its tokens between texts. One that is `single_word`, or that is `normalized` and which the normalizer
-- changes, is text beside letters for whoever encodes the whole; for us it would be a token.
function methods:refuse_text(tok)
  for _, piece in ipairs(specials_of(self)) do
    local id = M.id_of(piece, tok)
    local flags = id and tok:added(id)
    if flags and (flags.single_word or flags.normalized) then
      local found = false
      for _, one in ipairs(tok:encode("x" .. tok:token(id) .. "x", { parse_special = true })) do found = found or one == id end
      if not found then
        blame("template %s writes %s, which is `%s` in the tokenizer's files: beside letters it would be text, and no token, "
          .. "for all who encode the whole. Set it to false there", self.name, tok:token(id),
          flags.single_word and "single_word" or "normalized")
      end
    end
  end
end

--- Make sure that the tokenizer has all special tokens.
-- @param tok
-- @tab[opt] opts
-- @bool[opt=false] opts.add_tokens add those that are missing; the model's embedding must grow
-- @treturn table the strings that were added
-- @usage local mine = cft.template.phi4()
-- mine:prepare(tok, { add_tokens = true })   --> { "<|im_sep|>" }
-- cft.template.tokenizer_of(mine) == tok   --> true
function methods:prepare(tok, opts)
  local o = check.options("template:prepare", opts, { add_tokens = { "boolean", false } })
  prepared_for[self] = tok
  self:refuse_text(tok)
  local missing = self:missing(tok)
  if #missing == 0 then return {} end
  for _, name in ipairs(missing) do
    if name == "bos" or name == "eos" then
      blame("template %s needs the tokenizer's %s token, and it names none", self.name, name)
    end
  end
  if not o.add_tokens then
    blame("template %s needs the token%s %s, which the tokenizer lacks; add_tokens = true adds %s",
      self.name, #missing > 1 and "s" or "", table.concat(missing, ", "), #missing > 1 and "them" or "it")
  end
  for _, text in ipairs(missing) do tok:add_token(text, { special = true }) end
  return missing
end

--- What a server puts around a prompt that it has no chat template for: `tokenizer:around`. With a chat template that
-- one writes the whole, and `cft.text.chat_check` compares it.
-- @param tok
-- @treturn table ids in front
-- @treturn table ids behind
-- @usage cft.template.around(tok)   --> {} {}
function M.around(tok)
  if tok.chat_template then return {}, {} end
  return tok:around()
end

local function spelled(tok, ids)
  local list = {}
  for i, id in ipairs(ids) do list[i] = tok:token(id) end
  return table.concat(list)
end

--- What is to be said of the tokenizer before it is used, a line each.
-- @param tok
-- @treturn table
-- @usage chat:notes(tok)   --> {}
function methods:notes(tok)
  local notes = {}
  for i, note in ipairs(tok.notes or {}) do notes[i] = note end
  if self.make then return notes end  -- its samples are asked
  local front, behind = M.around(tok)
  local turn = #self.prefix > 0 and self.prefix or self.system and not self.system_inside and self.system_turn or self.user_turn
  local first = turn[1]
  local written = type(first) == "table" and (first.special or first.own) and M.id_of(first, tok)
  if front[1] and written ~= front[1] then
    notes[#notes + 1] = ("the tokenizer puts %s before every text, so servers send it, and template %s writes none; "
      .. "bos = true of plain and tulu does, as template.first in the prefix of a template of your own"):format(spelled(tok, front), self.name)
  end
  if behind[1] then
    notes[#notes + 1] = ("the tokenizer puts %s behind every text, so servers send it at the end of a prompt; samples have none there")
      :format(spelled(tok, behind))
  end
  return notes
end

--- The token that ends an answer.
-- @param tok
-- @treturn ?int its id; nil if the template ends answers with none
-- @treturn ?string its string
-- @usage chat:end_token(tok)   --> 311 "<|endoftext|>"
-- chat:describe(tok)   --> "template qwen: answers end in <|endoftext|> (id 311), loss weight 1; nothing follows it"
function methods:end_token(tok)
  for _, piece in ipairs(self.answer_turn) do
    if type(piece) == "table" and piece ~= pieces.content then
      local id = M.id_of(piece, tok)
      return id, id and tok:token(id)
    end
  end
end

--- What has loss weight at the end of an answer, in one line for the log of a run.
-- @param tok
function methods:describe(tok)
  local id, text = self:end_token(tok)
  if not id then return ("template %s: answers end in no token; the model never learns to stop"):format(self.name) end
  local weight = self.by_kind["end"] or self.rest
  local after = self.answer_turn[#self.answer_turn]
  return ("template %s: answers end in %s (id %d), %s; %s"):format(self.name, text, id,
    "loss weight " .. (type(weight) == "number" and tostring(weight) or "by a function"),
    type(after) == "string" and ("%q follows it, as text with loss weight"):format(after):gsub("\\\n", "\\n")
      or "nothing follows it")
end

M.methods = methods

return M
