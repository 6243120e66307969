--- Template `zephyr`: what Zephyr's and TinyLlama-Chat's chat templates give. Roles are plain words between bars, every
-- turn ends in the tokenizer's own end token, and the line break that follows it is not learned.

local check = require "cft.base.check"
local template = require "cft.text.template"
local content, eos = template.content, template.eos

return function(opts)
  local o = check.options("template.zephyr", opts, template.with_options {
    system = { "string|boolean", false },
  })
  return template.new({
    name = "zephyr",
    system = o.system,
    system_turn = { "<|system|>\n", content, eos, "\n" },
    user_turn = { "<|user|>\n", content, eos, "\n<|assistant|>\n" },
    answer_turn = { content, eos },
    between = { "\n" },
  }, template.common(o))
end
