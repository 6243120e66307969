--- Template `phi3`: what Phi-3.5's chat template gives, which leaves out an empty system text; with `breaks = false`
-- what Phi-4-mini's gives. Answers end in <|end|>, where servers stop. The line break behind it is not learned, nor
-- the end-of-text token that these templates write behind a whole conversation.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local system, user, assistant = special "<|system|>", special "<|user|>", special "<|assistant|>"
local stop = special "<|end|>"

return function(opts)
  local o = check.options("template.phi3", opts, template.with_options {
    system = { "string|boolean", false },
    breaks = { "boolean", true },
  })
  local line = o.breaks and "\n" or ""
  return template.new({
    name = "phi3",
    system = o.system,
    empty_system_is_default = o.breaks,
    system_turn = { system, line, content, stop, line },
    user_turn = { user, line, content, stop, line, assistant, line },
    answer_turn = { content, stop },
    between = { line },
  }, template.common(o))
end
