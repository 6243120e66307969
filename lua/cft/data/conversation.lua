--- Conversations: records that can be trained on, of the shapes that are known, and their texts.
--
-- `{ messages = { { role, content }, ... }, raw = record }`. What a record says beside that is used, refused by name,
-- or named in `unused`. A content is a text, or a list of parts
-- `{ text =, kind =, learn = }`. docs/data.md tells the rest.
-- @module cft.data.conversation
-- @usage local conversation = require "cft.data.conversation"
-- local record = conversation.of { instruction = "Add.", input = "2 + 3", output = "5. Conclusion: right" }
-- print(conversation.answer(record), conversation.verdict(record))   --> 5. Conclusion: right   true

local fields = require "cft.data.fields"
local json = require "cft.base.json"
local message = require "cft.data.message"
local template = require "cft.text.template"

local field = fields.field
local add_texts, emptiness, message_of = message.add_texts, message.emptiness, message.of

local M = { text = message.text }

-- ---- shapes ----------------------------------------------------------------------------------
-- Each gets a record, whether it may be empty, the set of fields that nothing reads, and who made it, if a
-- function did. It gives a list of messages, or nil and the reason.

-- Put the system text of the record's own field in front.
local function add_system(record, messages)
  local system = field(record, "system")
  if system == nil or system == "" then return messages end
  if type(system) ~= "string" then return nil, ("'system' is no text but a %s"):format(type(system)) end
  local first = messages[1]
  if not first or first.role ~= "system" then
    table.insert(messages, 1, { role = "system", content = system })
  elseif M.text(first.content) ~= system then
    return nil, "there are a 'system' and a system message, and they disagree"
  end
  return messages
end

-- Who may speak behind a message: after a question the assistant, after its calls the tools, after these it again.
local function next_of(message)
  if message.role == "user" then return "assistant" end
  if message.role == "tool" then return "assistant", "tool" end
  return message.own and message.own.tool_calls and "tool" or "user"
end

-- Messages that take turns.
local function in_turns(messages, allow_empty)
  local wanted, also = "user", nil
  for i, message in ipairs(messages) do
    local role = message.role
    if role ~= "system" or i > 1 then
      if role ~= wanted and not (also and role == also) then
        return nil, ("message %d has the role %s where '%s' was wanted"):format(i,
          type(role) == "string" and "'" .. role .. "'" or "of type " .. type(role), wanted)
      end
      local may_be_empty = allow_empty or role == "tool" or message.own and message.own.tool_calls
      local empty = not may_be_empty and emptiness(message.content)
      if empty then return nil, ("message %d %s"):format(i, empty) end
      wanted, also = next_of(message)
    end
  end
  if #messages < 2 or messages[#messages].role ~= "assistant" then
    return nil, "the last message is not the assistant's"
  end
  return messages
end

-- The tools of a record: a list, or a text of JSON that is one; nil where there are none; nil and what is wrong.
local function tools_of(record)
  local tools = field(record, "tools")
  if tools == nil or fields.is_nothing(tools) then return nil end
  local why
  if type(tools) == "string" then
    tools, why = json.decode(tools, nil, "")
    if tools ~= nil and fields.is_nothing(tools) then return nil end
  end
  if type(tools) ~= "table" or #tools == 0 then return nil, "'tools' is no list of tools" .. (why and ": " .. why or "") end
  return tools
end

-- The set of fields that presets have no words for; nil where there are none.
local function needs_of(messages, tools)
  local needs = { tools = tools and true or nil }
  for _, message in ipairs(messages) do
    for name in pairs(message.own or {}) do
      if name ~= "name" and name ~= "no_content" then needs[name] = true end
    end
    if message.role == "tool" then needs["the role tool"] = true end
  end
  return next(needs) and needs or nil
end

-- Append the messages of a list.
local function add_list(messages, record, name, unused, by)
  local came = field(record, name)
  if type(came) ~= "table" or #came == 0 then return nil, ("'%s' is no list of messages"):format(name) end
  for _, given in pairs(by and by.from or {}) do
    if given == came then by = nil end  -- the file's own list
  end
  for i, one in ipairs(came) do
    if by then fields.check_names(one, "message", by) end
    local message, problem, of_content = message_of(one, unused, name, type(record.raw) == "table")
    if not message then
      return nil, ((of_content and "the content of " or "") .. "message %d %s"):format(i, problem)
    end
    messages[#messages + 1] = message
  end
  return messages
end

local function of_list(name)
  return function(record, allow_empty, unused, by)
    local messages, problem = add_list({}, record, name, unused, by)
    if messages then messages, problem = add_system(record, messages) end
    if not messages then return nil, problem end
    return in_turns(messages, allow_empty)
  end
end

-- TRL's: both are texts, or lists of messages, of which the completion has loss weight.
local function of_completion(record, allow_empty, unused, by)
  local prompt, completion, messages, problem = field(record, "prompt"), field(record, "completion"), {}, nil
  if type(record.label) == "boolean" then return nil, "the record has 'label': " .. fields.PAIR end
  if type(prompt) == "string" and type(completion) == "string" then
    messages = { { role = "user", content = prompt }, { role = "assistant", content = completion } }
  else
    messages, problem = add_list(messages, record, "prompt", unused, by)
    if not messages then return nil, problem end
    for _, message in ipairs(messages) do
      if message.role == "assistant" then message.learn = false end
    end
    messages, problem = add_list(messages, record, "completion", unused, by)
    if not messages then return nil, problem end
  end
  messages, problem = add_system(record, messages)
  if not messages then return nil, problem end
  return in_turns(messages, allow_empty)
end

-- Earlier turns of LLaMA-Factory's alpaca records, which have loss weight as the last one is.
local function add_history(messages, history)
  if type(history) ~= "table" then return nil, ("'history' is no list but a %s"):format(type(history)) end
  for i, turn in ipairs(history) do
    if type(turn) ~= "table" or #turn ~= 2 or type(turn[1]) ~= "string" or type(turn[2]) ~= "string" then
      return nil, ("turn %d of 'history' is no list of a question and an answer"):format(i)
    end
    messages[#messages + 1] = { role = "user", content = turn[1] }
    messages[#messages + 1] = { role = "assistant", content = turn[2] }
  end
  return messages
end

-- The question is `instruction` and `input`, joined by one line break where both are there.
local function of_instruction(record, allow_empty)
  local text = {}
  for _, name in ipairs { "instruction", "input", "output" } do
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
  question = table.concat(question, "\n")
  if not allow_empty then
    local asks, answers = emptiness(question), emptiness(text.output)
    if asks then return nil, asks == "is empty" and "'instruction' and 'input' are empty" or "the question " .. asks end
    if answers then return nil, "'output' " .. answers end
  end
  local history = field(record, "history")
  local messages, problem = {}, nil
  if history ~= nil and history ~= "" then messages, problem = add_history(messages, history) end
  if not messages then return nil, problem end
  messages[#messages + 1] = { role = "user", content = question }
  messages[#messages + 1] = { role = "assistant", content = text.output }
  messages, problem = add_system(record, messages)
  if not messages then return nil, problem end
  return in_turns(messages, allow_empty)
end

-- The first that fits is the record's.
local shapes = {
  { fits = function(r) return field(r, "messages") ~= nil end, make = of_list "messages",
    fields = fields.set "messages system" },
  { fits = function(r) return field(r, "conversations") ~= nil end, make = of_list "conversations",
    fields = fields.set "conversations system" },
  { fits = function(r)
      return field(r, "prompt") ~= nil and field(r, "completion") ~= nil and field(r, "output") == nil
    end,
    make = of_completion, fields = fields.set "prompt completion system" },
  { fits = function(r) return r.instruction ~= nil or r.output ~= nil end, make = of_instruction,
    fields = fields.set "instruction input output system history" },
}

local function shape_of(record)
  for _, shape in ipairs(shapes) do
    if shape.fits(record) then return shape end
  end
  local names = {}
  for name in pairs(record) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return nil, ("neither 'messages', 'conversations' nor 'instruction' and 'output', 'prompt' and 'completion'; "
    .. "its fields are: %s"):format(#names > 0 and table.concat(names, ", ") or "none")
end

-- Fields of a conversation beside its messages, which a function may hand on.
local passed_on = fields.set "raw unused tools needs"

--- A record of one of the known shapes as a conversation; docs/data.md has the shapes, and what becomes of each field.
-- Contents are texts, or lists of parts `{ text =, kind =, learn =, verdict = }` (see `cft.text.template`); a message
-- with `learn = false` is an answer that has no loss weight; `own` has what presets have no words for: `tool_calls`,
-- `tool_call_id`, `reasoning_content`, `reasoning`, `thinking`, `name`.
-- @tab record
-- @bool[opt=false] allow_empty take an empty question or answer, or one of white space alone
-- @tab[opt] by where a function made the record: its `name`, and what it made it `from`. A misspelt field is an
-- error then
-- @treturn ?table `{ messages =, raw = record, tools =, needs =, unused = }`; `needs` is the set of fields for which the
-- model's own chat template has to write it, nil where there are none; `unused` is the set of fields that say something and that
-- nothing reads, nil where there are none. Or nil and the reason
-- @usage cft.data.conversation { instruction = "2 + 3?", output = "5" }.messages[2].content   --> "5"
-- cft.data.conversation { instruction = "2 + 3?" }   --> nil "there is no 'output'"
function M.of(record, allow_empty, by)
  if type(record) ~= "table" or json.is_array(record) then return nil, "the record is no object" end
  if by then fields.check_names(record, "record", by) end
  local problem = fields.refusal(record, "record")
  if problem then return nil, problem end
  local unused, messages = {}, nil
  local shape, reason = shape_of(record)
  if shape then messages, reason = shape.make(record, allow_empty, unused, by) end
  local tools
  if messages then
    tools, reason = tools_of(record)
    if reason then messages = nil end
  end
  if not messages then
    local chosen, rejected = field(record, "chosen"), field(record, "rejected")
    return nil, chosen and rejected and "the record has 'chosen' and 'rejected': " .. fields.PAIR or reason
  end
  local made = type(record.raw) == "table" and record.raw  -- a conversation that a function changed
  for name, value in pairs(record) do
    local ours = shape.fields[name] or name == "tools" or made and passed_on[name]
    if not ours and not fields.is_nothing(value) then unused[tostring(name)] = true end
  end
  for name in pairs(made and type(record.unused) == "table" and record.unused or {}) do unused[name] = true end
  return { messages = messages, tools = tools, needs = needs_of(messages, tools), raw = made or record,
    unused = next(unused) and unused or nil }
end

-- ---- texts -----------------------------------------------------------------------------------

-- What a message says beside its content, as one text.
local function own_text(message)
  local own = message.own
  if not own then return "" end
  local copy = {}
  for name, value in pairs(own) do copy[name] = name ~= "no_content" and value or nil end
  return next(copy) and json.encode(copy) or ""
end

--- All that stands before the answer: two records with equal prompts ask the same.
-- @tab record a conversation
-- @treturn string
-- @usage cft.data.prompt(source:get(0)):sub(1, 40)   --> "user\x00Please critique whether the followi"
function M.prompt(record)
  local list = {}
  for k = 1, #record.messages - 1 do
    local message = record.messages[k]
    list[k] = message.role .. "\0" .. M.text(message.content) .. own_text(message)
  end
  return table.concat(list, "\0") .. (record.tools and "\0" .. json.encode(record.tools) or "")
end

--- The last message's text, with its calls and reasoning where it has any.
-- @tab record a conversation
function M.answer(record)
  local last = record.messages[#record.messages]
  return M.text(last.content) .. own_text(last)
end

--- All texts, a line break between any two.
-- @tab record a conversation
function M.whole(record)
  local list = {}
  for _, message in ipairs(record.messages) do
    add_texts(list, message.content)
    local more = own_text(message)
    if more ~= "" then list[#list + 1] = more end
  end
  return table.concat(list, "\n")
end

--- Whether the answer judges a solution right: what its parts say, of several the last, else `cft.template.verdict` of its text.
-- @tab record a conversation, or a record of another kind, which has none
-- @treturn ?bool
function M.verdict(record)
  if not record.messages then return nil end
  local content = record.messages[#record.messages].content
  for i = type(content) == "table" and #content or 0, 1, -1 do
    if content[i].verdict ~= nil then return content[i].verdict end  -- who made the parts knows it
  end
  return template.verdict(M.text(content))
end

return M
