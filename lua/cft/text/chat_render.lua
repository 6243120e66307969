--- A conversation through the model's own chat template, with where each character comes from.
--
-- What a template is given are the messages as transformers gives them: role, content, and of `message.own` the calls of
-- tools, results' names and reasoning; `tools` of the record; the tokenizer's special tokens by name. Each text, number
-- and key in them has an origin, see `cft.text.jinja.traced`.
-- @module cft.text.chat_render
-- @usage local render, fake = require "cft.text.chat_render", { chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}" }
-- local record = { messages = { { role = "user", content = "2 + 3?" } } }
-- local said = render.new(record, fake, function(role, text) return { { text = text, kind = role } } end)
-- for text, from in require("cft.text.jinja.traced").stretches(said:text()) do print(text, from and from:path()) end
-- --> [   false   2 + 3?   content   ]   false

local jinja = require "cft.text.jinja"
local json = require "cft.base.json"
local texts = require "cft.base.text"
local traced = require "cft.text.jinja.traced"
local values = require "cft.text.jinja.values"

local M = {}

-- ---- origins ---------------------------------------------------------------------------------

--- Where a character comes from: `message`, its number from 1, nil for the record's own fields; `field`; `kind`, that
-- of its text; `learn`, a weight that its part asks for.
local Origin = {}
Origin.__index = Origin

local function origin(message, field, kind, learn)
  return setmetatable({ message = message, field = field, kind = kind, learn = learn }, Origin)
end

--- The origin of what stands under a name, or a number from 0, in what this is the origin of.
function Origin:at(name)
  self.inside = self.inside or {}
  local child = self.inside[name]
  if not child then
    child = origin(self.message, self.field, self.kind, self.learn)
    child.name, child.above = name, self
    self.inside[name] = child
  end
  return child
end

--- The path of a field: `tool_calls[0].function.name`.
function Origin:path()
  if not self.above then return self.field end
  local name = self.name
  return self.above:path() .. (type(name) == "number" and "[" .. name .. "]" or "." .. name)
end

-- ---- what a template is given ----------------------------------------------------------------

-- A content as a traced text, each of its parts with a kind. `parts_of` cuts a text: role, text → parts.
local function content_of(content, i, role, parts_of)
  local parts, list, origins = type(content) == "table" and content or parts_of(role, content), {}, {}
  for k, part in ipairs(parts) do
    origins[k] = origin(i, "content", part.kind or role, part.learn)
    origins[k].bytes = #texts.trim(part.text):gsub("%s+", "")
    list[k] = traced.new(part.text, origins[k])
  end
  return traced.concat(list), origins
end

local own_kinds = { tool_calls = "tool_call", tool_call_id = "tool", name = "name" }
local own_fields = { "tool_calls", "tool_call_id", "name" }

--- The names of reasoning, the first that a message has is it.
M.reasoning = { "reasoning_content", "thinking", "reasoning" }

-- Templates look for it under two of the names, so that it stands under both, as in transformers 5.
local function put_reasoning(dict, own, i, origins)
  for _, name in ipairs(M.reasoning) do
    if own[name] then
      origins[name] = origin(i, name, "reasoning")
      local value = traced.new(own[name], origins[name])
      values.put(dict, "thinking", value)
      values.put(dict, "reasoning_content", value)
      return
    end
  end
end

-- What a message may be given as, in this order, until a template takes it. Arguments of calls come as JSON texts or as
-- objects: servers hand on objects, and some templates write texts. A content that a message lacks is none or empty.
local forms = {}
for _, arguments in ipairs { "object", "text" } do
  for _, empty in ipairs { "as it came", "text", "none" } do forms[#forms + 1] = { arguments = arguments, empty = empty } end
end

-- Arguments in a form, with their origin.
local function arguments_as(arguments, form, from)
  local is_text = type(arguments) == "string"
  if form == "text" then
    if is_text then return traced.new(arguments, from) end
    return values.json(values.of(arguments, from), { comma = ", ", colon = ": " }, 0)
  end
  local object = is_text and json.decode(arguments, nil, "") or arguments
  return values.of(type(object) == "table" and object or arguments, from)
end

local function calls_as(calls, form, from)
  local list = values.of(calls, from)
  for i, call in ipairs(calls) do
    local inner = call["function"]
    if type(inner) == "table" and inner.arguments ~= nil and inner.arguments ~= json.null then
      local path = from:at(i - 1):at "function":at "arguments"
      values.put(values.get(list[i], "function"), "arguments", arguments_as(inner.arguments, form, path))
    end
  end
  return list
end

local function message_of(self, i, form)
  local message, dict, origins = self.record.messages[i], values.dict(), {}
  local own = message.own or {}
  self.origins[i] = origins
  values.put(dict, "role", message.role)
  local content
  content, origins.content = content_of(message.content, i, message.role, self.parts_of)
  if content == "" and (form.empty == "none" or form.empty == "as it came" and own.no_content) then content = values.none end
  values.put(dict, "content", content)
  put_reasoning(dict, own, i, origins)
  for _, name in ipairs(own_fields) do
    if own[name] ~= nil then
      local from = origin(i, name, own_kinds[name] == "tool" and message.role or own_kinds[name])
      origins[name] = from
      values.put(dict, name, name == "tool_calls" and calls_as(own[name], form.arguments, from) or values.of(own[name], from))
    end
  end
  return dict
end

local function named(tok, role) return tok[role] and tok:token(tok[role]) or nil end

-- ---- rendering -------------------------------------------------------------------------------

--- The day that templates write which cannot do without one: that of today would make a run that cannot be repeated.
-- It is the one that Llama's templates have for this, 26 July 2024.
M.now = 1721952000

local Render = {}
Render.__index = Render

local parsed = setmetatable({}, { __mode = "k" })  -- tokenizer → text of a template → the template

--- The chat template for a record: of several, `tool_use` is that for tools, as in transformers.
-- @param tok @bool[opt=false] tools does the record have tools?
-- @treturn ?table nil where there is none, or it cannot be read; then why
function M.template(tok, tools)
  local text = tools and (tok.named_templates or {}).tool_use or tok.chat_template
  if not text then return nil, "the model has no chat template" end
  local known = parsed[tok] or {}
  parsed[tok] = known
  if known[text] == nil then
    local template, why = jinja.parse(text, "the model's chat template")
    known[text] = template or { why = why }
  end
  if known[text].why then return nil, known[text].why end
  return known[text]
end

-- The messages up to `last`, rendered; nil and why.
local function rendered(self, last, prompt)
  local list = {}
  for i = 1, last do list[i] = self.messages[i] end
  local vars = { messages = values.list(list), tools = self.tools, documents = json.null,
    add_generation_prompt = prompt or false, bos_token = named(self.tok, "bos") or "", eos_token = named(self.tok, "eos") or "",
    pad_token = named(self.tok, "pad") }
  local text, why = self.template:trace(vars, { clock = false })
  return text or self.template:trace(vars, { now = M.now }), why
end

-- A value that cannot be given, such as a rounded number, is an error of the interpreter's kind.
local function prepared(self, form)
  self.origins, self.messages = { tools = self.record.tools and origin(nil, "tools", "tools") or nil }, {}
  local ok, err = pcall(function()
    self.tools = self.record.tools and values.of(self.record.tools, self.origins.tools) or values.none
    for i = 1, #self.record.messages do self.messages[i] = message_of(self, i, form) end
  end)
  if ok then return true end
  if type(err) ~= "table" or not err.message then error(err, 0) end
  return nil, err.message
end

--- A record and a tokenizer with a chat template.
-- @tab record a conversation @param tok
-- @func parts_of role, text → the parts of a content with their kinds
-- @treturn ?table nil and why it cannot be rendered
function M.new(record, tok, parts_of)
  local template, why = M.template(tok, record.tools ~= nil)
  if not template then return nil, why end
  local self = setmetatable({ record = record, tok = tok, parts_of = parts_of, template = template }, Render)
  local first
  for _, form in ipairs(forms) do
    local ok, problem = prepared(self, form)
    local text
    if ok then text, problem = rendered(self, #record.messages) end
    if text then
      self.whole = text
      return self
    end
    first = first or problem
  end
  return nil, first
end

--- The whole conversation, a traced text.
function Render:text() return self.whole end

--- What a server writes where the first `count` messages wait for an answer, or with `prompt = false` without one.
-- @int count @bool[opt=true] prompt
-- @return a traced text; nil where the template does not take them
function Render:prompt(count, prompt) return (rendered(self, count, prompt ~= false)) end

return M
