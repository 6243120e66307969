--- A message of a record: its role, its content, whether it has loss weight, and what presets have no words for.
-- @module cft.data.message

local check = require "cft.base.check"
local fields = require "cft.data.fields"
local json = require "cft.base.json"
local texts = require "cft.base.text"

local field = fields.field

local M = {}

-- ---- contents --------------------------------------------------------------------------------

--- Append the texts of a content to a list.
-- @tab list @param content a text, or a list of parts
-- @treturn table the list
function M.add_texts(list, content)
  if type(content) == "string" then
    list[#list + 1] = content
  else
    for _, part in ipairs(content) do list[#list + 1] = part.text end
  end
  return list
end

--- The text of a content.
-- @param content a text, or a list of parts
function M.text(content) return type(content) == "string" and content or table.concat(M.add_texts({}, content)) end

local function part_problem(part)
  if type(part) ~= "table" then return "has a part without text" end
  for name in pairs(part) do
    local meant = not fields.known.part[name] and check.closest(tostring(name), fields.known.part)
    if meant then return ("has a part with '%s'; did you mean '%s'?"):format(tostring(name), meant) end
  end
  local form, kind = field(part, "type"), field(part, "kind")
  local learn, verdict = field(part, "learn"), field(part, "verdict")
  if form ~= nil and form ~= "text" then return ("has a part of the type '%s'; %s"):format(tostring(form), fields.MEDIA) end
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
    fields.note_unused(part, fields.known.part, unused, list_name .. ".content.")
    local kind, learn, verdict = field(part, "kind"), field(part, "learn"), field(part, "verdict")
    parts[i] = { text = part.text, kind = kind, learn = learn, verdict = verdict }
    says_more = says_more or kind ~= nil or learn ~= nil or verdict ~= nil
  end
  return says_more and parts or M.text(parts)
end

--- Why a content can be neither a question nor an answer; nil where it can. White space alone is what a template that
-- trims makes empty.
-- @param content a text, or a list of parts
-- @treturn ?string
function M.emptiness(content)
  local text = M.text(content)
  return text == "" and "is empty" or texts.trim_left(text) == "" and "is white space alone" or nil
end

-- ---- messages --------------------------------------------------------------------------------

local tool_roles = fields.set "function ipython observation function_call tool_call tool_response"

-- Fields of messages that presets have no words for, and the model's own chat template may have. `name` goes along.
local own_fields = { "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking", "name" }

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
local message_fields = fields.set("role content from value weight train training loss learn tool_calls tool_call_id "
  .. "reasoning_content reasoning thinking")
local made_fields = fields.set "role content own list name learn"

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
    if value ~= nil and not fields.is_nothing(value) then
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

--- The message of one of a record's lists.
-- @param came what stands there
-- @tab unused the set of fields that nothing reads, which is added to
-- @string list_name of the list
-- @bool made a function made the record of a conversation, whose messages have `own`
-- @treturn ?table `{ role, content, learn = false, own = }`; `learn` is false for an answer that is context
-- @treturn ?string what is wrong
-- @treturn ?bool that it is the content
function M.of(came, unused, list_name, made)
  if type(came) ~= "table" then return nil, "is no object" end
  local problem = fields.refusal(came, "message")
  if problem then return nil, problem end
  local role, content = field(came, "role"), field(came, "content")
  if role == nil then
    role = field(came, "from")
    role = share_gpt[role] or role
  end
  if content == nil then content = field(came, "value") end
  if tool_roles[role] then return nil, ("has the role '%s': %s"):format(role, fields.TOOLS) end
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
  fields.note_unused(came, kept and made_fields or message_fields, unused, list_name .. ".")
  local message = { role = role, content = content }
  if own then
    own.no_content = no_content and content == "" or nil
    message.own, message.list = own, kept and came.list or list_name
  end
  if role == "assistant" and learned == false then message.learn = false end
  return message
end

return M
