--- Prompts as a server sends them. `require`d by whatever makes samples; templates have the method `prompt` then.
-- @module cft.samples.prompt
-- @usage local chat = cft.template.chatml()
-- print(#chat:prompt({ instruction = "What is 2 + 2?" }, tok) > 0)   --> true

local blame = require "cft.base.blame"
local conversation = require "cft.data.conversation"
local template = require "cft.text.template"

local M = {}

--- The text of a prompt: all segments before the last answer, special tokens by their strings.
-- @tab segments of a record
-- @param tok
-- @treturn string
function M.text(segments, tok)
  local answer, list = #segments, {}
  while answer > 0 and not segments[answer].target do answer = answer - 1 end
  while answer > 1 and segments[answer - 1].target do answer = answer - 1 end
  for i = 1, answer - 1 do list[i] = segments[i].text or tok:token(template.id_of(segments[i], tok)) end
  return table.concat(list)
end

-- A record that may have no answer yet, as a conversation with an empty one.
local function asked(record)
  local copy = {}
  for name, value in pairs(type(record) == "table" and record or {}) do copy[name] = value end
  local messages = copy.messages
  if type(messages) == "table" and messages[#messages] and messages[#messages].role ~= "assistant" then
    copy.messages = { unpack(messages) }
    table.insert(copy.messages, { role = "assistant", content = "" })
  elseif not messages and copy.output == nil and copy.instruction ~= nil then
    copy.output = ""
  end
  local made, why = conversation.of(copy, true)
  return made or blame("chat:prompt: %s", why)
end

--- The ids of a prompt, as a server makes them: the prompt is one text, which the tokenizer encodes, and where there is no
-- chat template it puts before and behind it what it puts around every text. What a model is trained on begins so; a run
-- lists the samples that do not.
-- @tab record of a known shape; its last answer, if it has one, is left out
-- @param[opt] tok the tokenizer that samples were last made with by this template, if absent
-- @treturn table a list of ids
-- @usage tok:decode(cft.template.chatml():prompt({ instruction = "2 + 2?" }, tok)):sub(-23)   --> "\n<|im_start|>assistant\n"
function template.Template:prompt(record, tok)
  tok = tok or template.tokenizer_of(self) or blame "chat:prompt: no samples were made with this template; give the tokenizer"
  local segments, why = self:segments(asked(record), tok)
  if not segments then blame("chat:prompt: %s", why) end
  local text = M.text(segments, tok)
  local encoding, problem = tok:encode_spans(text, true)
  if not encoding then blame("chat:prompt: %s", problem) end
  local front, behind = template.around(tok)
  local ids, n = {}, tonumber(encoding.n)
  if not (n > 0 and encoding.ids[0] == front[1]) then ids = { unpack(front) } end
  for i = 0, n - 1 do ids[#ids + 1] = encoding.ids[i] end
  for _, id in ipairs(behind) do ids[#ids + 1] = id end
  return ids
end

return M
