--- Template `deepseek`: what DeepSeek-Math-Instruct's chat template gives. Roles are plain words; the
-- space behind "Assistant:" belongs to the answer, since a prompt that waits for one ends before it.
-- `space = false` leaves it out, as LLaMA-Factory's template of this name does.

local check = require "cft.base.check"
local template = require "cft.text.template"
local content = template.content

return function(opts)
  local o = check.options("template.deepseek", opts, template.with_options {
    system = { "string|boolean", false },
    space = { "boolean", true },
  })
  return template.new({
    name = "deepseek",
    prefix = { template.bos },
    system = o.system,
    system_turn = { content, "\n\n" },
    user_turn = { "User: ", content, "\n\nAssistant:" },
    answer_turn = o.space and { " ", content, template.eos } or { content, template.eos },
  }, template.common(o))
end
