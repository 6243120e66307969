--- Template `gemma3`: what Gemma-3's chat template gives. Answers are turns of `model`, the system text stands in the
-- first question, and questions and answers are trimmed. The line break behind the end token is not learned.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local start, stop = special "<start_of_turn>", special "<end_of_turn>"

return function(opts)
  local o = check.options("template.gemma3", opts, template.with_options {
    system = { "string|boolean", false },
  })
  return template.new({
    name = "gemma3",
    prefix = { template.bos },
    system = o.system,
    system_turn = { content, "\n\n" },
    user_turn = { start, "user\n", template.system, content, stop, "\n", start, "model\n" },
    answer_turn = { content, stop },
    between = { "\n" },
    trim = { user = "both", assistant = "both" },
  }, template.common(o))
end
