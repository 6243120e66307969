--- What a model is asked: texts, conversations and ids become the ids of a prompt; and what ends an answer.

local blame = require "cft.base.blame"
local host = require "cft.host"
local jinja = require "cft.text.jinja"
local json = require "cft.base.json"
local tokenizer = require "cft.text.tokenizer"

local M = {}

--- The tokenizer that came with a model, loaded once.
-- @tparam Model model
-- @treturn ?Tokenizer nil where there is none
function M.tokenizer_of(model)
  local path = model.path
  if not model.tokenizer and path and (path:match "%.gguf$" or host.kind(path .. "/tokenizer.json")) then
    model.tokenizer = tokenizer.load(path)
  end
  return model.tokenizer
end

--- The ids that end an answer: those of generation_config.json, or of config.json, and the tokenizer's `eos`.
-- @tparam Model model @tparam ?Tokenizer tok
-- @treturn table id → true
function M.ends(model, tok)
  local set, folder = {}, model.path and host.kind(model.path) == "folder" and model.path
  local function add(ids)
    for _, id in ipairs(type(ids) == "table" and ids or { ids }) do
      if type(id) == "number" then set[id] = true end
    end
  end
  local c = folder and json.read(folder .. "/generation_config.json")
  add(type(c) == "table" and c.eos_token_id or nil)
  if next(set) == nil and model.config.raw then add(model.config.raw.eos_token_id) end
  add(tok and tok.eos)
  return set
end

local roles = { system = true, user = true, assistant = true, tool = true }

local function check_messages(messages, where)
  for i, m in ipairs(messages) do
    if type(m) ~= "table" or type(m.content) ~= "string" or not roles[m.role] then
      blame("%s: message %d must have a role (system, user, assistant or tool) and a content, a text", where, i)
    end
  end
  return messages
end

--- The text of a conversation that waits for an answer, by the chat template that came with the model.
-- @tparam Tokenizer tok @tab messages a list of { role =, content = } @string where for messages
function M.render(tok, messages, where)
  check_messages(messages, where)
  if not tok.chat_template then
    blame("%s: this model came without a chat template, so it has no form for a conversation; " ..
          "give a text, which it goes on from", where)
  end
  tok.parsed_template = tok.parsed_template or assert(jinja.parse(tok.chat_template, "the model's chat template"))
  local function own(id) return id and tok:token(id) or "" end
  local text, why = tok.parsed_template:render { messages = messages, add_generation_prompt = true,
                                                 bos_token = own(tok.bos), eos_token = own(tok.eos) }
  return text or blame("%s: %s", where, why)
end

local function encoded(tok, text, opts, where)
  local ids, why = tok:encode(text, opts)
  return ids or blame("%s: %s", where, why)
end

--- The ids of a prompt.
-- @param prompt a text; a list of messages; or a list of ids
-- @tparam ?Tokenizer tok wanted for all but ids
-- @tab o `raw`: a text is gone on from, in place of being asked by the chat template; `system`, a message in front
-- @string where for messages
-- @treturn table
function M.ids(prompt, tok, o, where)
  if type(prompt) == "table" and type(prompt[1]) == "number" then
    for i, id in ipairs(prompt) do
      if type(id) ~= "number" or id % 1 ~= 0 then blame("%s: id %d of a prompt is %s", where, i, tostring(id)) end
    end
    if o.system then blame("%s: a system message stands in front of texts and conversations, and this prompt is ids", where) end
    return prompt
  end
  if type(prompt) ~= "string" and (type(prompt) ~= "table" or #prompt == 0) then
    blame("%s: a prompt is a text, a list of messages, or a list of ids; got %s", where,
          type(prompt) == "table" and "an empty table" or tostring(prompt))
  end
  if not tok then blame("%s: the model came without a tokenizer; give ids, or tokenizer =", where) end
  if type(prompt) == "string" and (o.raw or not tok.chat_template) then
    if o.system then blame("%s: a system message needs a chat template, and this prompt is plain text", where) end
    return encoded(tok, prompt, { add_special = true }, where)
  end
  local messages = type(prompt) == "string" and { { role = "user", content = prompt } } or prompt
  if o.system then messages = { { role = "system", content = o.system }, unpack(messages) } end
  return encoded(tok, M.render(tok, messages, where), { parse_special = true }, where)
end

return M
