--- Template `phi4`: what Phi-4's chat template gives: ChatML with a token in place of its line breaks.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local start, sep, stop = special "<|im_start|>", special "<|im_sep|>", special "<|im_end|>"

return function(opts)
  local o = check.options("template.phi4", opts, template.with_options {
    system = { "string|boolean", false },
  })
  return template.new({
    name = "phi4",
    system = o.system,
    system_turn = { start, "system", sep, content, stop },
    user_turn = { start, "user", sep, content, stop, start, "assistant", sep },
    answer_turn = { content, stop },
  }, template.common(o))
end
