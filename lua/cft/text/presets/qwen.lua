--- Template `qwen`: ids and mask of LLaMA-Factory's template of this name.
--
-- By default as at commit 552816e04 of December 2024, with which the paper's models were trained: an
-- answer ends in the tokenizer's own end token, which for Qwen2.5's base models is <|endoftext|>,
-- not the <|im_end|> that ends the other turns. Later and earlier versions by option:
--
--   LLaMA-Factory              end_token         system
--   before 2024-12-17          "im_end"
--   2024-12-17 to 2025-01-09   "eos" (default)
--   from 2025-01-09            "im_end_newline"
--   by May 2025                "im_end_newline"  "You are Qwen, created by Alibaba Cloud. You are a
--                                                 helpful assistant."
--
-- Equal to the last token for data that contain strings of special tokens with
-- `specials = "llamafactory"`; docs/templates.md.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local start, stop = special "<|im_start|>", special "<|im_end|>"

local answers = {
  eos = { content, template.eos },
  im_end = { content, stop },
  im_end_newline = { content, stop, "\n" },
}

return function(opts)
  local o = check.options("template.qwen", opts, template.with_options {
    end_token = { "string", "eos", one_of = { "eos", "im_end", "im_end_newline" } },
    system = { "string|boolean", "You are a helpful assistant." },
  })
  return template.new({
    name = "qwen",
    system = o.system,
    empty_system_is_default = true,
    system_turn = { start, "system\n", content, stop, "\n" },
    user_turn = { start, "user\n", content, stop, "\n", start, "assistant\n" },
    answer_turn = answers[o.end_token],
    between = o.end_token ~= "im_end_newline" and { "\n" } or {},
  }, template.common(o))
end
