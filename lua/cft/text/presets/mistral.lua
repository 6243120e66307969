--- Template `mistral`: what the chat templates of Mistral's Instruct models give, by the version of their tokenizer,
-- as Mistral names them:
--
--   version       compared with   by Mistral's naming, not compared
--   "v3"          Large 2407      7B v0.3       a space before every text; answers are trimmed
--   "v3-tekken"   Nemo            Ministral 8B  no spaces
--   "v7"          Large 2411                    spaces, and a system turn of its own
--   "v7-tekken"   Small 3.1       Small 3       no spaces, a system turn of its own; the default
--
-- v3 writes the system text into the question that waits for an answer, and nowhere else: a conversation of several
-- questions that has one is taken with `turns = "last"` only. Small 3's templates write a text of their own, with
-- the day's date, where a conversation has none: `system` is for that.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local open, close = special "[INST]", special "[/INST]"
local open_system, close_system = special "[SYSTEM_PROMPT]", special "[/SYSTEM_PROMPT]"

return function(opts)
  local o = check.options("template.mistral", opts, template.with_options {
    system = { "string|boolean", false },
    version = { "string", "v7-tekken", one_of = { "v3", "v3-tekken", "v7", "v7-tekken" } },
  })
  local space = o.version:find "tekken" and "" or " "
  local inside = o.version:find "^v3" ~= nil
  return template.new({
    name = "mistral",
    prefix = { template.bos },
    system = o.system,
    system_turn = inside and { content, "\n\n" } or { open_system, space, content, close_system },
    system_in = inside and "last" or nil,
    user_turn = inside and { open, space, template.system, content, close } or { open, space, content, close },
    answer_turn = { space, content, template.eos },
    trim = o.version == "v3" and { assistant = "both" } or nil,
  }, template.common(o))
end
