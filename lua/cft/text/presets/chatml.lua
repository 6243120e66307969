--- Template `chatml`: what SmolLM2-Instruct's chat template gives, its system text included; other
-- models that were trained on ChatML take another `system`. Answers end in <|im_end|>, and the line
-- break that follows it between turns is not learned.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local start, stop = special "<|im_start|>", special "<|im_end|>"

return function(opts)
  local o = check.options("template.chatml", opts, template.with_options {
    system = { "string|boolean",
      "You are a helpful AI assistant named SmolLM, trained by Hugging Face" },
  })
  return template.new({
    name = "chatml",
    system = o.system,
    system_turn = { start, "system\n", content, stop, "\n" },
    user_turn = { start, "user\n", content, stop, "\n", start, "assistant\n" },
    answer_turn = { content, stop },
    between = { "\n" },
  }, template.common(o))
end
