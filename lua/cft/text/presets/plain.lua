--- Template `plain`: the prompt, a separator, the answer and the tokenizer's end token. For models that
-- were never told of turns.

local check = require "cft.base.check"
local template = require "cft.text.template"
local content = template.content

return function(opts)
  local o = check.options("template.plain", opts, template.with_options {
    system = { "string|boolean", false },
    separator = { "string", "\n\n" },
    bos = { "boolean", false },
  })
  return template.new({
    name = "plain",
    prefix = o.bos and { template.bos } or {},
    system = o.system,
    system_turn = { content, o.separator },
    user_turn = { content, o.separator },
    answer_turn = { content, template.eos },
    between = { o.separator },
  }, template.common(o))
end
