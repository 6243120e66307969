--- Template `gemma2`: what the chat templates of Gemma and Gemma-2 give: `gemma3` without a system text. They refuse
-- one, and so do we.

local template = require "cft.text.template"
local special, content = template.special, template.content

local start, stop = special "<start_of_turn>", special "<end_of_turn>"

return function(opts)
  return template.new({
    name = "gemma2",
    prefix = { template.bos },
    system_turn = false,
    user_turn = { start, "user\n", content, stop, "\n", start, "model\n" },
    answer_turn = { content, stop },
    between = { "\n" },
    trim = { user = "both", assistant = "both" },
  }, opts)
end
