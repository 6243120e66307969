--- The fields of records and messages: which are known, which are refused and why, and which say nothing.
-- @module cft.data.fields

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local json = require "cft.base.json"

local M = {}

--- The set of the words of a text.
-- @string names
function M.set(names)
  local found = {}
  for name in names:gmatch "%S+" do found[name] = true end
  return found
end

--- The value of a field; null is how JSON says that it is not there.
-- @tab record
-- @string name
function M.field(record, name)
  local value = record[name]
  if value ~= json.null then return value end
end

--- Does a value say nothing? LLaMA-Factory writes `tools` as a text of JSON.
-- @param value
-- @treturn bool
function M.is_nothing(value)
  if value == json.null or value == "" or value == "[]" or value == "{}" then return true end
  if type(value) ~= "table" then return false end
  for _, inner in pairs(value) do
    if not M.is_nothing(inner) then return false end
  end
  return true
end

--- Why a record or a message is refused, in the words of the message.
M.TOOLS = "calls of tools are known as OpenAI's 'tool_calls' and the role 'tool'; `fields` can bring them into that form"
M.MEDIA = "only text can be trained on"
local WEIGHTS = "weights inside a message are those of its parts: content = { { text =, learn = }, ... }"
M.PAIR = "of a preference pair one answer can be trained on: `fields` gives it as 'output'"

-- Fields that change what is trained on and that nothing here can say: the record is refused.
local refused = {
  record = { functions = M.TOOLS, images = M.MEDIA, image = M.MEDIA, videos = M.MEDIA, video = M.MEDIA,
    audios = M.MEDIA, audio = M.MEDIA, rejected_response = M.PAIR, rejected_messages = M.PAIR, kto_tag = M.PAIR },
  message = { function_call = M.TOOLS, loss_scale = WEIGHTS, train_detail = WEIGHTS,
    training_detail = WEIGHTS, images = M.MEDIA, audio = M.MEDIA },
}
local has = { record = "the record has ", message = "has " }  -- a message's number stands before it

--- What a record or a message has that nothing here can say; nil where there is nothing.
-- @tab of @string kind "record" or "message"
-- @treturn ?string
function M.refusal(of, kind)
  local first  -- of two, the same one is always named
  for name in pairs(refused[kind]) do
    local value = of[name]
    if value and not M.is_nothing(value) and not (first and first < name) then first = name end
  end
  return first and ("%s'%s': %s"):format(has[kind], first, refused[kind][first])
end

--- All names that are known, for hints: of a record, a message, a part.
M.known = {
  record = M.set "messages conversations prompt completion instruction input output system history raw tools",
  message = M.set("role content from value name weight train training loss learn tool_calls tool_call_id "
    .. "reasoning_content reasoning thinking"),
  part = M.set "type text kind learn verdict",
}
for kind, names in pairs(refused) do
  for name in pairs(names) do M.known[kind][name] = true end
end

--- A table that a function made is held to its names, but for those that it was given.
-- @tab made @string kind "record", "message" or "part" @tab by `name` of the function, and what it made it `from`
function M.check_names(made, kind, by)
  if type(made) ~= "table" then return end
  for name in pairs(made) do
    if type(name) == "string" and not M.known[kind][name] and name ~= "unused" and by.from[name] == nil then
      local meant = check.closest(name, M.known[kind])
      if meant then blame("%s gave a %s with '%s'; did you mean '%s'?", by.name, kind, name, meant) end
    end
  end
end

--- Note the fields that nothing reads.
-- @tab of @tab used a set @tab unused the set that they are added to @string prefix of their names there
function M.note_unused(of, used, unused, prefix)
  for name, value in pairs(of) do
    if not used[name] and not M.is_nothing(value) then unused[prefix .. tostring(name)] = true end
  end
end

return M
