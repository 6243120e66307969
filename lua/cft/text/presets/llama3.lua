--- Template `llama3`: what Llama-3.2-Instruct's chat template gives. There is always a system turn,
-- and it begins with two dates. Meta's template puts the current day there; ours keeps the day that
-- theirs falls back to, so that a run can be repeated: `date` sets another, `dates = false` leaves the
-- two lines out, as Llama 3 did.

local check = require "cft.base.check"
local template = require "cft.text.template"
local special, content = template.special, template.content

local open, close, stop = special "<|start_header_id|>", special "<|end_header_id|>", special "<|eot_id|>"

return function(opts)
  local o = check.options("template.llama3", opts, template.with_options {
    system = { "string|boolean", "" },
    dates = { "boolean", true },
    knowledge = { "string", "December 2023" },
    date = { "string", "26 Jul 2024" },
  })
  local dates = o.dates
    and ("Cutting Knowledge Date: %s\nToday Date: %s\n\n"):format(o.knowledge, o.date) or ""
  return template.new({
    name = "llama3",
    prefix = { template.bos },
    system = o.system,
    system_turn = { open, "system", close, "\n\n" .. dates, content, stop },
    user_turn = { open, "user", close, "\n\n", content, stop, open, "assistant", close, "\n\n" },
    answer_turn = { content, stop },
    trim = true,
  }, template.common(o))
end
