--- Template `tulu`: what AllenAI's chat template of this name gives, Tulu 3's; `bos = true` puts the begin-of-text
-- token before it, as OLMo 2 has it. Roles are plain words between bars, only answers end in a token, and the line
-- break that follows it is not learned.

local check = require "cft.base.check"
local template = require "cft.text.template"
local content, eos = template.content, template.eos

return function(opts)
  local o = check.options("template.tulu", opts, template.with_options {
    system = { "string|boolean", false },
    bos = { "boolean", false },
  })
  return template.new({
    name = "tulu",
    prefix = o.bos and { template.bos } or {},
    system = o.system,
    system_turn = { "<|system|>\n", content, "\n" },
    user_turn = { "<|user|>\n", content, "\n<|assistant|>\n" },
    answer_turn = { content, eos },
    between = { "\n" },
  }, template.common(o))
end
