--- Conversations: records that can be trained on, of either of the paper's schemas, and their texts.
--
-- `{ messages = { { role, content }, ... }, raw = record }`. A content is a text, or a list of parts
-- `{ text =, kind =, learn = }`. docs/data.md tells the rest.
-- @module cft.data.conversation
-- @usage local conversation = require "cft.data.conversation"
-- local record = conversation.of { instruction = "Add.", input = "2 + 3", output = "5. Conclusion: right" }
-- print(conversation.answer(record), conversation.verdict(record))   --> 5. Conclusion: right   true

local json = require "cft.base.json"
local template = require "cft.text.template"

local M = {}

-- ---- schemas ---------------------------------------------------------------------------------

-- null is how JSON says that a field is not there.
local function field(record, name)
  local value = record[name]
  if value ~= json.null then return value end
end

local function content_problem(content)
  if type(content) == "string" then return nil end
  if type(content) ~= "table" or #content == 0 then return "is no text" end
  for _, part in ipairs(content) do
    if type(part) ~= "table" or type(part.text) ~= "string" then return "has a part without text" end
  end
end

local function is_empty(content)
  if type(content) == "string" then return content == "" end
  for _, part in ipairs(content) do
    if part.text ~= "" then return false end
  end
  return true
end

local function from_messages(record, allow_empty)
  local came = field(record, "messages")
  if type(came) ~= "table" or #came == 0 then return nil, "'messages' is no list of messages" end
  local messages, wanted = {}, "user"
  for i, message in ipairs(came) do
    if type(message) ~= "table" then return nil, ("message %d is no object"):format(i) end
    local role, content = message.role, message.content
    local problem = content_problem(content)
    if problem then return nil, ("the content of message %d %s"):format(i, problem) end
    if role == "system" and i == 1 then
      messages[1] = { role = role, content = content }
    elseif role ~= wanted then
      return nil, ("message %d has the role %s where '%s' was wanted"):format(i,
        type(role) == "string" and "'" .. role .. "'" or "of type " .. type(role), wanted)
    else
      if is_empty(content) and not allow_empty then return nil, ("message %d is empty"):format(i) end
      messages[#messages + 1] = { role = role, content = content }
      wanted = role == "user" and "assistant" or "user"
    end
  end
  if wanted ~= "user" or #messages < 2 then return nil, "the last message is not the assistant's" end
  return messages
end

-- The question is `instruction` and `input`, joined by one line break where both are there.
local function from_instruction(record, allow_empty)
  local text = {}
  for _, name in ipairs { "instruction", "input", "output", "system" } do
    local value = field(record, name)
    if value ~= nil and type(value) ~= "string" then
      return nil, ("'%s' is no text but a %s"):format(name, type(value))
    end
    text[name] = value
  end
  if not text.output then return nil, "there is no 'output'" end
  if not text.instruction and not text.input then return nil, "there is no 'instruction'" end
  local question = {}
  for _, name in ipairs { "instruction", "input" } do
    if text[name] and text[name] ~= "" then question[#question + 1] = text[name] end
  end
  if not allow_empty then
    if #question == 0 then return nil, "'instruction' and 'input' are empty" end
    if text.output == "" then return nil, "'output' is empty" end
  end
  local messages = {
    { role = "user", content = table.concat(question, "\n") },
    { role = "assistant", content = text.output },
  }
  if text.system and text.system ~= "" then
    table.insert(messages, 1, { role = "system", content = text.system })
  end
  return messages
end

--- A record of one of the known schemas as a conversation.
-- `{ instruction, input, output }`, all texts; `input` may be absent, empty or null, `system` may be
-- there. Or `{ messages = { { role, content }, ... } }`: a system message first if any, then user and
-- assistant in turns, the assistant last. A content is a text, or a list of parts
-- `{ text =, kind =, learn = }` (see `cft.template`).
-- @tab record
-- @bool[opt=false] allow_empty take an empty question or answer
-- @treturn ?table `{ messages =, raw = record }`; or nil and the reason
function M.of(record, allow_empty)
  if type(record) ~= "table" or json.is_array(record) then return nil, "the record is no object" end
  local messages, reason
  if field(record, "messages") ~= nil then
    messages, reason = from_messages(record, allow_empty)
  elseif record.instruction ~= nil or record.output ~= nil then
    messages, reason = from_instruction(record, allow_empty)
  else
    local names = {}
    for name in pairs(record) do names[#names + 1] = tostring(name) end
    table.sort(names)
    reason = ("neither 'messages' nor 'instruction' and 'output'; its fields are: %s")
      :format(#names > 0 and table.concat(names, ", ") or "none")
  end
  if not messages then return nil, reason end
  return { messages = messages, raw = record.raw or record }
end

-- ---- texts -----------------------------------------------------------------------------------

-- Append the texts of a content.
local function add_texts(list, content)
  if type(content) == "string" then
    list[#list + 1] = content
  else
    for _, part in ipairs(content) do list[#list + 1] = part.text end
  end
  return list
end

--- The text of a content.
-- @param content a text, or a list of parts
function M.text(content) return type(content) == "string" and content or table.concat(add_texts({}, content)) end

--- All that stands before the answer: two records with equal prompts ask the same.
-- @tab record a conversation
-- @treturn string
function M.prompt(record)
  local texts = {}
  for k = 1, #record.messages - 1 do
    local message = record.messages[k]
    texts[k] = message.role .. "\0" .. M.text(message.content)
  end
  return table.concat(texts, "\0")
end

--- The last message's text.
-- @tab record a conversation
function M.answer(record) return M.text(record.messages[#record.messages].content) end

--- All texts, a line break between any two.
-- @tab record a conversation
function M.whole(record)
  local texts = {}
  for _, message in ipairs(record.messages) do add_texts(texts, message.content) end
  return table.concat(texts, "\n")
end

--- Whether the answer judges a solution right: what its parts say, else `cft.template.verdict` of its text.
-- @tab record a conversation, or a record of another kind, which has none
-- @treturn ?bool
function M.verdict(record)
  if not record.messages then return nil end
  local content = record.messages[#record.messages].content
  for _, part in ipairs(type(content) == "table" and content or {}) do
    if part.verdict ~= nil then return part.verdict end  -- who made the parts knows it
  end
  return template.verdict(M.text(content))
end

return M
