--- The segments of a record that the model's own chat template writes.
--
-- What comes from the record is its text, whatever it spells; what comes from the template is cut at the tokens that it
-- writes. Learned is what an assistant's message is made of, from where the prompt that a server sends for it ends, up to
-- the token that ends the turn; where the template has `{% generation %}`, what stands in it.
-- @module cft.text.chat_segments
-- @usage tok.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}" ..
--   "{% if add_generation_prompt %}assistant: {% endif %}"
-- local record = { messages = { { role = "user", content = "2 + 3?" }, { role = "assistant", content = "5" } } }
-- for _, s in ipairs(require("cft.text.chat_segments").of(record, tok, cft.template.own())) do print(s.weight, s.kind, s.text) end
-- --> 0 template user: 0 query 2 + 3? 0 template <|endoftext|> 0 template assistant: 1 critique 5 1 end <|endoftext|>

local render = require "cft.text.chat_render"
local traced = require "cft.text.jinja.traced"

local M = {}

-- ---- stretches -------------------------------------------------------------------------------

-- The stretches of a text: `{ text, first, last, from, block }`; `block` is the number of the `{% generation %}`.
local function stretches_of(text)
  local list, at = {}, 0
  for part, from in traced.stretches(text) do
    local block
    if from and from.generated then from, block = from.of, from.generated end
    list[#list + 1] = { text = part, first = at + 1, last = at + #part, from = from or nil, block = block }
    at = at + #part
  end
  return list
end

local MOST = 10000  -- texts of which the pieces are kept

-- A template's text in pieces: `{ text, special }`, cut at the tokens that the tokenizer finds in it.
local function pieces_of(self, text)
  local known = text ~= "count" and self.pieces[text]
  if known then return known end
  local tok, list, at = self.tok, {}, 1
  local encoding, why = tok:encode_spans(text, true)
  if not encoding then return nil, why end
  for k = 0, tonumber(encoding.n) - 1 do
    local id = encoding.ids[k]
    if tok:added(id) then
      local name, start = tok:token(id), tonumber(encoding.spans[k].start) + 1
      -- white space that such a token takes is its neighbour's: `cft.samples.mask` sees to it
      local first = text:find(name, start, true)
      if first and not text:find("%S", start) or first == text:find("%S", start) then
        if first > at then list[#list + 1] = { text = text:sub(at, first - 1) } end
        list[#list + 1] = { text = name, special = true, ends = tok:is_special(id) or id == tok.eos }
        at = first + #name
      end
    end
  end
  if at <= #text then list[#list + 1] = { text = text:sub(at) } end
  if self.pieces.count > MOST then self.pieces = { count = 0 } end
  self.pieces[text], self.pieces.count = list, self.pieces.count + 1
  return list
end

local function is_own(stretch, i) return stretch.from ~= nil and stretch.from.message == i end

-- ---- what is the assistant's -----------------------------------------------------------------

-- How many bytes of a text behind an answer end its turn: up to the first special token.
local function end_of_turn(self, text)
  local bytes = 0
  for _, piece in ipairs(pieces_of(self, text) or {}) do
    bytes = bytes + #piece.text
    if piece.ends then return bytes end
  end
end

-- Which stretches hold characters of message i: the first and the last.
local function own_range(stretches, i)
  local first, last
  for k, stretch in ipairs(stretches) do
    if is_own(stretch, i) then first, last = first or k, k end
  end
  return first, last
end

-- The template's words at the end of a prompt.
local function tail_of(prompt)
  local tail = ""
  for text, from in traced.stretches(prompt) do tail = from and "" or text end
  return tail
end

-- Where message i begins to be the assistant's own: the prompt that waits for it ends there. Where the conversation does
-- not begin with that prompt, the record says so, and what opens an answer in the prompt goes before it here as well; if
-- even that is other, the message begins with its first character.
local function begin_of(self, i, first)
  local stretches = self.stretches
  local before, start = first > 1 and not stretches[first - 1].from and stretches[first - 1] or nil, stretches[first].first
  local prompt = self.rendered:prompt(i - 1)
  local plain, low = prompt and traced.bare(prompt), before and before.first or start
  if plain and #plain + 1 >= low and #plain + 1 <= start and self.plain:sub(1, #plain) == plain then return #plain + 1 end
  self.other_prompt[i] = true
  local tail = prompt and tail_of(prompt) or ""
  if before and tail ~= "" and before.text:sub(1, #tail) == tail then return before.first + #tail end
  return start
end

-- Where the turn of message i ends.
local function stop_of(self, i, last)
  local stop, behind = self.stretches[last].last, self.stretches[last + 1]
  if not behind or behind.from then return stop end
  local bytes = end_of_turn(self, behind.text)
  if bytes then return stop + bytes end
  local alone = self.rendered:prompt(i, false)
  alone = alone and traced.bare(alone)  -- no token ends it: its text alone does
  if alone and #alone > stop and #alone <= behind.last and self.plain:sub(1, #alone) == alone then return #alone end
  return stop
end

-- The regions of the answers, from left to right: `{ message, first, last }` in bytes.
local function regions_of(self)
  local regions, messages = {}, self.record.messages
  for i, message in ipairs(messages) do
    if message.role == "assistant" then
      local first, last = own_range(self.stretches, i)
      if not first then return nil, ("message %d is not in what the model's chat template writes"):format(i) end
      regions[#regions + 1] = { message = i, first = begin_of(self, i, first), last = stop_of(self, i, last) }
    end
  end
  table.sort(regions, function(a, b) return a.first < b.first end)
  for k = 2, #regions do
    if regions[k].first <= regions[k - 1].last then
      return nil, ("messages %d and %d stand in each other in what the model's chat template writes"):format(
        regions[k - 1].message, regions[k].message)
    end
  end
  return regions
end

-- The same by `{% generation %}`.
local function marked_regions(self)
  local regions, by_block = {}, {}
  for _, stretch in ipairs(self.stretches) do
    if stretch.block then
      local region = by_block[stretch.block]
      if not region then
        region = { first = stretch.first, marked = true }
        by_block[stretch.block], regions[#regions + 1] = region, region
      end
      region.last = stretch.last
      if stretch.from and stretch.from.message then region.message = region.message or stretch.from.message end
    end
  end
  for _, region in ipairs(regions) do
    local i = region.message
    local prompt = i and self.rendered:prompt(i - 1)
    prompt = prompt and traced.bare(prompt)
    if i and not (prompt and self.plain:sub(1, #prompt) == prompt) then self.other_prompt[i] = true end
  end
  return regions
end

-- ---- fields that are not written ---------------------------------------------------------------

local function is_neutral(name, value) return value == "" or name == "type" and value == "function" end

-- Note the paths of texts and numbers that nothing of was written.
local function note_unwritten(self, value, from, path, name)
  if type(value) == "table" and from.written == nil then
    for key, inner in pairs(value) do
      local is_list = type(key) == "number"
      note_unwritten(self, inner, from:at(is_list and key - 1 or key), is_list and path or path .. "." .. key, key)
    end
  elseif type(value) ~= "table" and type(value) ~= "userdata" and not from.written and not is_neutral(name, value) then
    self.unwritten[path] = true
  end
end

-- How much of the parts of a content was written, white space aside.
local function content_lost(origins)
  for _, from in ipairs(origins) do
    if (from.written or 0) < from.bytes then return true end
  end
  return false
end

-- What the template leaves out, by field: `messages.reasoning_content`. nil and why where that is more than can go.
local function check_written(self)
  local origins, messages = self.rendered.origins, self.record.messages
  for i, message in ipairs(messages) do
    local own = message.own or {}
    for name, from in pairs(origins[i]) do
      if name == "content" then
        if content_lost(from) then self.unwritten[(message.list or "messages") .. ".content"] = true end
      elseif own[name] ~= nil then
        note_unwritten(self, own[name], from, (message.list or "messages") .. "." .. name)
      end
    end
  end
  if origins.tools then note_unwritten(self, self.record.tools, origins.tools, "tools") end
end

local function written_any(from)
  if not from then return true end
  if from.written then return true end
  for _, inner in pairs(from.inside or {}) do
    if written_any(inner) then return true end
  end
  return false
end

-- Calls, results and tools that the template has no words for, and reasoning of an answer where it has none: refused.
local function refusal(self)
  local origins, messages = self.rendered.origins, self.record.messages
  local function says_not(where, name) return ("%s'%s': the model's chat template does not write it"):format(where, name) end
  local function of(i) return ("message %d has "):format(i) end
  if not written_any(origins.tools) then return says_not("", "tools") end
  local reasons
  for i, message in ipairs(messages) do
    if not written_any(origins[i].tool_calls) then return says_not(of(i), "tool_calls") end
    if message.role == "user" then reasons = nil end
    if message.role == "tool" and message.content ~= "" and not own_range(self.stretches, i) then
      return ("message %d has the role 'tool': the model's chat template does not write it"):format(i)
    end
    for _, name in ipairs(render.reasoning) do
      if origins[i][name] then reasons = { i, name, written_any(origins[i][name]) or reasons and reasons[3] } end
    end
  end
  -- Templates drop the reasoning of earlier questions. If that behind the last one is not there either, they have no
  -- words for it.
  if reasons and not reasons[3] then return says_not(of(reasons[1]), reasons[2]) end
end

-- ---- segments ----------------------------------------------------------------------------------

local function count_written(stretches)
  for _, stretch in ipairs(stretches) do
    local from = stretch.from
    if from then from.written = (from.written or 0) + #stretch.text:gsub("%s+", "") end
  end
end

-- The parts of a stretch that lie in the region of an answer, and those that do not.
local function cut_at_regions(stretches, regions)
  local list, k = {}, 1
  for _, stretch in ipairs(stretches) do
    local at = stretch.first
    while at <= stretch.last do
      while regions[k] and regions[k].last < at do k = k + 1 end
      local region = regions[k]
      local inside = region ~= nil and region.first <= at
      local last = not region and stretch.last or math.min(stretch.last, inside and region.last or region.first - 1)
      list[#list + 1] = { text = stretch.text:sub(at - stretch.first + 1, last - stretch.first + 1), from = stretch.from,
        region = inside and region or nil }
      at = last + 1
    end
  end
  return list
end

-- What a template's words in an answer are part of: the text behind them; before, where none is behind, or where a
-- reasoning ends and a content begins.
local function kinds_around(list)
  local kind
  for k = #list, 1, -1 do
    local part = list[k]
    if part.from then kind = part.from.kind end
    if not part.region or list[k + 1] and list[k + 1].region ~= part.region then kind = part.from and part.from.kind end
    part.kind = part.from and part.from.kind or part.region and kind or nil
  end
  for k, part in ipairs(list) do
    local before = list[k - 1]
    if part.region and not part.from and before and before.region == part.region then
      if not part.kind then part.kind, part.behind = before.kind, true end
      if before.kind == "reasoning" and part.kind ~= "tool_call" then part.kind = "reasoning" end
    end
  end
end

-- Does a chat learn the answer of a region?
local function is_learned(chat, messages, region, last)
  local message = messages[region.message]
  if chat.turns == "last" and region ~= last then return false end
  return not message or message.learn ~= false
end

local function segments_of(self, chat, regions)
  local list, segments, slot, turn = cut_at_regions(self.stretches, regions), {}, 0, 0
  kinds_around(list)
  local last_region, last = regions[#regions], 0
  for k, part in ipairs(list) do
    if part.from or part.region then last = k end
  end
  local region
  for k = 1, last do  -- what the template writes behind the last answer is never asked for
    local part = list[k]
    if part.region ~= region then
      slot = slot + 1
      if region then turn = turn + 1 end
      region = part.region
    end
    local learned = region and is_learned(chat, self.record.messages, region, last_region)
    local function add(text, kind, special)
      local asked, weight = part.from and part.from.learn, nil
      local foreign = region and not region.marked and part.from and part.from.message ~= region.message
      if foreign or region and not learned then weight = 0
      elseif asked ~= nil then weight = asked
      else weight = chat.by_kind[kind] or (region and chat.rest or 0) end
      segments[#segments + 1] = { text = text, kind = kind, weight = weight, turn = turn, slot = slot,
        target = region ~= nil, special = special, content = part.from and true or nil,
        parse = chat.specials == "llamafactory" or nil }
    end
    if part.from then
      add(part.text, part.kind)
    else
      local pieces, why = pieces_of(self, part.text)
      if not pieces then return nil, why end
      for _, piece in ipairs(pieces) do
        add(piece.text, piece.special and part.behind and piece.ends and "end" or part.kind or "template", piece.special)
      end
    end
  end
  return segments
end

local pieces = setmetatable({}, { __mode = "k" })  -- tokenizer → text of a template → its pieces

--- The segments of a record, as `Template:segments` gives them, with `written = true`; `unwritten`, the set of its fields
-- that the template leaves out; and `other_prompt`, true where a server's prompt for a learned answer is not what the
-- conversation begins with.
-- @tab record a conversation @param tok
-- @tab chat what gives loss weight: `by_kind`, `rest`, `turns`, and `cut`, a function role, text → parts; `specials`
-- @treturn ?table nil and why the record cannot be said
function M.of(record, tok, chat)
  local rendered, why = render.new(record, tok, function(role, text) return chat:cut(role, text) end)
  if not rendered then return nil, why end
  pieces[tok] = pieces[tok] or { count = 0 }
  local text = rendered:text()
  local self = { record = record, tok = tok, rendered = rendered, stretches = stretches_of(text), plain = traced.bare(text),
    pieces = pieces[tok], unwritten = {}, other_prompt = {} }
  count_written(self.stretches)
  why = refusal(self)
  if why then return nil, why end
  check_written(self)
  local regions = marked_regions(self)
  if #regions == 0 then regions, why = regions_of(self) end
  if not regions then return nil, why end
  local segments
  segments, why = segments_of(self, chat, regions)
  if not segments then return nil, why end
  segments.written, segments.unwritten = true, self.unwritten
  segments.other_prompt = false
  for _, region in ipairs(regions) do
    if is_learned(chat, record.messages, region, regions[#regions]) and self.other_prompt[region.message or 0] then
      segments.other_prompt = true
    end
  end
  return segments
end

return M
