--- Template `llama2`: what Llama-2-Chat's chat template gives. Every question begins with the begin-of-text
-- token, the system text stands in the first one, and an answer has a space before it and one before its end
-- token, both learned. Questions and answers are trimmed; a question behind a system text keeps the white space at
-- its left, since the two are trimmed as one text.

local check = require "cft.base.check"
local template = require "cft.text.template"
local content, bos, eos = template.content, template.bos, template.eos

return function(opts)
  local o = check.options("template.llama2", opts, template.with_options {
    system = { "string|boolean", false },
  })
  return template.new({
    name = "llama2",
    system = o.system,
    system_turn = { "<<SYS>>\n", content, "\n<</SYS>>\n\n" },
    user_turn = { bos, "[INST] ", template.system, content, " [/INST]" },
    answer_turn = { " ", content, " ", eos },
    trim = { user = "joined", assistant = "both" },
  }, template.common(o))
end
