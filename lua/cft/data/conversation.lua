--- Conversations: records that can be trained on, of the shapes that are known, and their texts.
--
-- `{ messages = { { role, content }, ... }, raw = record }`. What a record says beside that is used, refused by name,
-- or named in `unused`. A content is a text, or a list of parts
-- `{ text =, kind =, learn = }`. docs/data.md tells the rest.
-- @module cft.data.conversation
-- @usage local conversation = require "cft.data.conversation"
-- local record = conversation.of { instruction = "Add.", input = "2 + 3", output = "5. Conclusion: right" }
-- print(conversation.answer(record), conversation.verdict(record))   --> 5. Conclusion: right   true

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local json = require "cft.base.json"
local template = require "cft.text.template"
local texts = require "cft.base.text"

local M = {}

-- ---- fields ----------------------------------------------------------------------------------

local function set(names)
  local found = {}
  for name in names:gmatch "%S+" do found[name] = true end
  return found
end

-- null is how JSON says that a field is not there.
local function field(record, name)
  local value = record[name]
  if value ~= json.null then return value end
end

-- Does a value say nothing? LLaMA-Factory writes `tools` as a text of JSON.
local function is_nothing(value)
  if value == json.null or value == "" or value == "[]" or value == "{}" then return true end
  if type(value) ~= "table" then return false end
  for _, inner in pairs(value) do
    if not is_nothing(inner) then return false end
  end
  return true
end

local TOOLS = "calls of tools are known as OpenAI's 'tool_calls' and the role 'tool'; `fields` can bring them into that form"
local MEDIA = "only text can be trained on"
local WEIGHTS = "weights inside a message are those of its parts: content = { { text =, learn = }, ... }"
local PAIR = "of a preference pair one answer can be trained on: `fields` gives it as 'output'"

-- Fields that change what is trained on and that nothing here can say: the record is refused.
local refused = {
  record = { functions = TOOLS, images = MEDIA, image = MEDIA, videos = MEDIA, video = MEDIA,
    audios = MEDIA, audio = MEDIA, rejected_response = PAIR, rejected_messages = PAIR, kto_tag = PAIR },
  message = { function_call = TOOLS, loss_scale = WEIGHTS, train_detail = WEIGHTS,
    training_detail = WEIGHTS, images = MEDIA, audio = MEDIA },
}
local tool_roles = set "function ipython observation function_call tool_call tool_response"

-- Fields of messages that presets have no words for, and the model's own chat template may have. `name` goes along.
local own_fields = { "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking", "name" }

local function refusal(of, kind)
  local first  -- of two, the same one is always named
  for name in pairs(refused[kind]) do
    local value = of[name]
    if value and not is_nothing(value) and not (first and first < name) then first = name end
  end
  return first and ("'%s': %s"):format(first, refused[kind][first])
end

-- All names that are known, for hints.
local known = {
  record = set "messages conversations prompt completion instruction input output system history raw tools",
  message = set("role content from value name weight train training loss learn tool_calls tool_call_id "
    .. "reasoning_content reasoning thinking"),
  part = set "type text kind learn verdict",
}
for kind, names in pairs(refused) do
  for name in pairs(names) do known[kind][name] = true end
end

-- A table that a function made is held to its names, but for those that it was given.
local function check_names(made, kind, by)
  if type(made) ~= "table" then return end
  for name in pairs(made) do
    if type(name) == "string" and not known[kind][name] and name ~= "unused" and by.from[name] == nil then
      local meant = check.closest(name, known[kind])
      if meant then blame("%s gave a %s with '%s'; did you mean '%s'?", by.name, kind, name, meant) end
    end
  end
end

-- Note the fields that nothing reads.
local function note_unused(of, used, unused, prefix)
  for name, value in pairs(of) do
    if not used[name] and not is_nothing(value) then unused[prefix .. tostring(name)] = true end
  end
end

-- ---- messages --------------------------------------------------------------------------------

local function part_problem(part)
  if type(part) ~= "table" then return "has a part without text" end
  for name in pairs(part) do
    local meant = not known.part[name] and check.closest(tostring(name), known.part)
    if meant then return ("has a part with '%s'; did you mean '%s'?"):format(tostring(name), meant) end
  end
  local form, kind = field(part, "type"), field(part, "kind")
  local learn, verdict = field(part, "learn"), field(part, "verdict")
  if form ~= nil and form ~= "text" then return ("has a part of the type '%s'; %s"):format(tostring(form), MEDIA) end
  if type(part.text) ~= "string" then return "has a part without text" end
  if kind ~= nil and type(kind) ~= "string" then return "has a part whose kind is no text" end
  if verdict ~= nil and type(verdict) ~= "boolean" then return "has a part whose verdict is not true or false" end
  local is_weight = type(learn) == "number" and learn >= 0 and learn < math.huge
  if learn ~= nil and type(learn) ~= "function" and not is_weight then
    return "has a part whose learn is no number from 0 and no function"
  end
end

-- A content as it is kept: a text, or a list of parts where any says more than its text. nil and what is wrong.
local function content_of(content, unused, list_name)
  if type(content) == "string" then return content end
  if type(content) ~= "table" or #content == 0 then return nil, "is no text" end
  local parts, says_more = {}, false
  for i, part in ipairs(content) do
    local problem = part_problem(part)
    if problem then return nil, problem end
    note_unused(part, known.part, unused, list_name .. ".content.")
    local kind, learn, verdict = field(part, "kind"), field(part, "learn"), field(part, "verdict")
    parts[i] = { text = part.text, kind = kind, learn = learn, verdict = verdict }
    says_more = says_more or kind ~= nil or learn ~= nil or verdict ~= nil
  end
  return says_more and parts or M.text(parts)
end

-- Why a content can be neither a question nor an answer; nil where it can. White space alone is what a template that
-- trims makes empty.
local function emptiness(content)
  local text = M.text(content)
  return text == "" and "is empty" or texts.trim_left(text) == "" and "is white space alone" or nil
end

-- OpenAI's and Mistral's, axolotl's two, ms-swift's, and ours.
local flags = { "weight", "train", "training", "loss", "learn" }
local says = { [0] = false, [1] = true, [true] = true, [false] = false }

-- Has an answer loss weight? nil where its message does not say; nil and what is wrong with what it says.
local function learned_of(message, role)
  local learned, by
  for _, name in ipairs(flags) do
    local value = field(message, name)
    if value ~= nil and value ~= "" then
      local this = says[value]
      if this == nil then return nil, ("has %s = %s; 0, 1, false and true are known"):format(name, tostring(value)) end
      if this and role ~= "assistant" and name ~= "weight" then
        return nil, ("has %s = %s and the role '%s'; only answers can have loss weight"):format(name, tostring(value),
          role)
      end
      if by and this ~= learned then return nil, ("has %s and %s, and they disagree"):format(by, name) end
      learned, by = this, name
    end
  end
  return learned
end

local share_gpt = { human = "user", gpt = "assistant" }
local message_fields = set("role content from value weight train training loss learn tool_calls tool_call_id "
  .. "reasoning_content reasoning thinking")
local made_fields = set "role content own list name learn"

-- What is wrong with the calls of a message; nil where nothing is.
local function calls_problem(calls)
  if type(calls) ~= "table" or #calls == 0 then return "has 'tool_calls' that are no list of calls" end
  for k, call in ipairs(calls) do
    local called = type(call) == "table" and call["function"]
    if type(called) ~= "table" or type(called.name) ~= "string" then
      return ("has tool_calls[%d] without a function and its name"):format(k - 1)
    end
    local arguments = field(called, "arguments")
    if type(arguments) == "string" then
      local object, why = json.decode(arguments)
      if type(object) ~= "table" then
        return ("has tool_calls[%d].function.arguments that are no JSON object: %s"):format(k - 1, why or arguments)
      end
    elseif arguments ~= nil and type(arguments) ~= "table" then
      return ("has tool_calls[%d].function.arguments of the type %s; an object is wanted"):format(k - 1, type(arguments))
    end
  end
end

-- Reasoning has three names. Two in one message must say the same.
local function reasoning_problem(own)
  local first
  for _, name in ipairs { "reasoning_content", "thinking", "reasoning" } do
    local value = own and own[name]
    if value and first and own[first] ~= value then return ("has '%s' and '%s', and they disagree"):format(first, name) end
    first = first or value and name
  end
end

-- What the model's own chat template alone can say of a message; nil where there is nothing; nil and what is wrong. `kept`
-- is what a conversation that a function changed has of it.
local function own_of(came, role, kept)
  local own
  for _, name in ipairs(own_fields) do
    local value = field(came, name)
    if value == nil and kept then value = kept[name] end
    if value ~= nil and not is_nothing(value) then
      if name == "tool_calls" then
        if role ~= "assistant" then return nil, ("has 'tool_calls' and the role '%s'"):format(tostring(role)) end
        local problem = calls_problem(value)
        if problem then return nil, problem end
      elseif type(value) ~= "string" then
        if name ~= "name" then return nil, ("has '%s', which is no text but a %s"):format(name, type(value)) end
        value = nil
      end
      own = own or {}
      own[name] = value
    end
  end
  local problem = reasoning_problem(own)
  if problem then return nil, problem end
  return own
end

-- The message of one of the lists: `{ role, content, learn = false }`; nil and what is wrong. `learn` is false for an
-- answer that is context.
local function message_of(came, unused, list_name, made)
  if type(came) ~= "table" then return nil, "is no object" end
  local problem = refusal(came, "message")
  if problem then return nil, "has " .. problem end
  local role, content = field(came, "role"), field(came, "content")
  if role == nil then
    role = field(came, "from")
    role = share_gpt[role] or role
  end
  if content == nil then content = field(came, "value") end
  if tool_roles[role] then return nil, ("has the role '%s': %s"):format(role, TOOLS) end
  local own
  local kept = made and type(came.own) == "table" and came.own or nil
  own, problem = own_of(came, role, kept)
  if problem then return nil, problem end
  local no_content = (content == nil or kept and kept.no_content) and own and own.tool_calls
  if no_content then content = content or "" end
  content, problem = content_of(content, unused, list_name)
  if not content then return nil, problem, true end
  local learned, why = learned_of(came, tostring(role))
  if why then return nil, why end
  note_unused(came, kept and made_fields or message_fields, unused, list_name .. ".")
  local message = { role = role, content = content }
  if own then
    own.no_content = no_content and content == "" or nil
    message.own, message.list = own, kept and came.list or list_name
  end
  if role == "assistant" and learned == false then message.learn = false end
  return message
end

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
  if tools == nil or is_nothing(tools) then return nil end
  local why
  if type(tools) == "string" then
    tools, why = json.decode(tools, nil, "")
    if tools ~= nil and is_nothing(tools) then return nil end
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
    if by then check_names(one, "message", by) end
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
  if type(record.label) == "boolean" then return nil, "the record has 'label': " .. PAIR end
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
    fields = set "messages system" },
  { fits = function(r) return field(r, "conversations") ~= nil end, make = of_list "conversations",
    fields = set "conversations system" },
  { fits = function(r)
      return field(r, "prompt") ~= nil and field(r, "completion") ~= nil and field(r, "output") == nil
    end,
    make = of_completion, fields = set "prompt completion system" },
  { fits = function(r) return r.instruction ~= nil or r.output ~= nil end, make = of_instruction,
    fields = set "instruction input output system history" },
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
local passed_on = set "raw unused tools needs"

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
  if by then check_names(record, "record", by) end
  local problem = refusal(record, "record")
  if problem then return nil, "the record has " .. problem end
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
    return nil, chosen and rejected and "the record has 'chosen' and 'rejected': " .. PAIR or reason
  end
  local made = type(record.raw) == "table" and record.raw  -- a conversation that a function changed
  for name, value in pairs(record) do
    local ours = shape.fields[name] or name == "tools" or made and passed_on[name]
    if not ours and not is_nothing(value) then unused[tostring(name)] = true end
  end
  for name in pairs(made and type(record.unused) == "table" and record.unused or {}) do unused[name] = true end
  return { messages = messages, tools = tools, needs = needs_of(messages, tools), raw = made or record,
    unused = next(unused) and unused or nil }
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
