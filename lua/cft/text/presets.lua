--- The pieces that turns are made of, and the presets of `cft.template`, a family of models an entry.
--
-- An entry has its `name`, its `options` besides those of every template, as specs for `check.options`, and `turns`, a
-- function of the options that gives what `template.new` takes; its system text is the option of that name.
-- @module cft.text.presets

local M = {}

-- ---- what turns are made of ------------------------------------------------------------------

--- In a turn: where the message's text goes.
M.content = setmetatable({}, { __tostring = function() return "content" end })

--- In a user's turn, before its content: where the system text goes, for families that have no turn of its own for it.
M.system = setmetatable({}, { __tostring = function() return "system" end })

--- In a turn: a special token by its string.
-- @string text such as `<|im_start|>`
-- @usage local t = cft.template
-- local mine = t.new { name = "mine", user_turn = { t.content, t.special "<|sep|>" }, answer_turn = { t.content, t.eos } }
-- mine:missing(tok)   --> { "<|sep|>" }
function M.special(text) return { special = text } end

--- In a turn: the tokenizer's own tokens for the beginning and the end of a text.
M.bos = { own = "bos" }
M.eos = { own = "eos" }

--- In a turn: the token that the tokenizer's post-processor puts before every text; nothing where it puts none.
M.first = { own = "first" }

-- ---- the presets -----------------------------------------------------------------------------

local content, special, bos, eos, first = M.content, M.special, M.bos, M.eos, M.first
local NO_SYSTEM = { "string|boolean", false }

local function preset(name, options, turns) M[#M + 1] = { name = name, options = options, turns = turns } end

local im_start, im_end = special "<|im_start|>", special "<|im_end|>"

-- Ids and mask of LLaMA-Factory's template of this name.
--
-- By default as at commit 552816e04 of December 2024, with which the paper's models were trained: an answer ends in the
-- tokenizer's own end token, which for Qwen2.5's base models is <|endoftext|>, not the <|im_end|> that ends the other
-- turns. Later and earlier versions by option:
--
--   LLaMA-Factory              end_token         system
--   before 2024-12-17          "im_end"
--   2024-12-17 to 2025-01-09   "eos" (default)
--   from 2025-01-09            "im_end_newline"
--   by May 2025                "im_end_newline"  "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
--
-- Equal to the last token for data that contain strings of special tokens with `specials = "llamafactory"`;
-- docs/templates.md.
preset("qwen", {
  end_token = { "string", "eos", one_of = { "eos", "im_end", "im_end_newline" } },
  system = { "string|boolean", "You are a helpful assistant." },
}, function(o)
  local answers = { eos = { content, eos }, im_end = { content, im_end }, im_end_newline = { content, im_end, "\n" } }
  return {
    empty_system_is_default = true,
    system_turn = { im_start, "system\n", content, im_end, "\n" },
    user_turn = { im_start, "user\n", content, im_end, "\n", im_start, "assistant\n" },
    answer_turn = answers[o.end_token],
    between = o.end_token ~= "im_end_newline" and { "\n" } or {},
  }
end)

-- What SmolLM2-Instruct's chat template gives, its system text included; other models that were trained on ChatML take
-- another `system`. Answers end in <|im_end|>, and the line break that follows it between turns has no loss weight.
preset("chatml", {
  system = { "string|boolean", "You are a helpful AI assistant named SmolLM, trained by Hugging Face" },
}, function()
  return {
    system_turn = { im_start, "system\n", content, im_end, "\n" },
    user_turn = { im_start, "user\n", content, im_end, "\n", im_start, "assistant\n" },
    answer_turn = { content, im_end },
    between = { "\n" },
  }
end)

-- What Llama-3.2-Instruct's chat template gives. There is always a system turn, and it begins with two dates. Meta's
-- template puts the current day there; ours keeps the day that theirs falls back to, so that a run can be repeated:
-- `date` sets another, `dates = false` leaves the two lines out, as Llama 3 did.
preset("llama3", {
  system = { "string|boolean", "" },
  dates = { "boolean", true },
  knowledge = { "string", "December 2023" },
  date = { "string", "26 Jul 2024" },
}, function(o)
  local open, close, stop = special "<|start_header_id|>", special "<|end_header_id|>", special "<|eot_id|>"
  local dates = ("Cutting Knowledge Date: %s\nToday Date: %s\n\n"):format(o.knowledge, o.date)
  return {
    prefix = { bos },
    system_turn = { open, "system", close, "\n\n" .. (o.dates and dates or ""), content, stop },
    user_turn = { open, "user", close, "\n\n", content, stop, open, "assistant", close, "\n\n" },
    answer_turn = { content, stop },
    trim = true,
  }
end)

-- What Llama-2-Chat's chat template gives. Every question begins with the begin-of-text token, the system text stands
-- in the first one, and an answer has a space before it and one before its end token, both with loss weight.
-- Questions and answers are trimmed; a question behind a system text keeps the white space at its left, since the two are trimmed as
-- one text.
preset("llama2", { system = NO_SYSTEM }, function()
  return {
    system_turn = { "<<SYS>>\n", content, "\n<</SYS>>\n\n" },
    user_turn = { bos, "[INST] ", M.system, content, " [/INST]" },
    answer_turn = { " ", content, " ", eos },
    trim = { user = "joined", assistant = "both" },
  }
end)

-- What the chat templates of Mistral's Instruct models give, by the version of their tokenizer, as Mistral names them:
--
--   version       compared with   by Mistral's naming, not compared
--   "v3"          Large 2407      7B v0.3       a space before every text; answers are trimmed
--   "v3-tekken"   Nemo            Ministral 8B  no spaces
--   "v7"          Large 2411                    spaces, and a system turn of its own
--   "v7-tekken"   Small 3.1       Small 3       no spaces, a system turn of its own; the default
--
-- v3 writes the system text into the question that waits for an answer, and nowhere else: a conversation of several
-- questions that has one is taken with `turns = "last"` only. Small 3's templates write a text of their own, with the
-- day's date, where a conversation has none: `system` is for that.
preset("mistral", {
  system = NO_SYSTEM,
  version = { "string", "v7-tekken", one_of = { "v3", "v3-tekken", "v7", "v7-tekken" } },
}, function(o)
  local open, close = special "[INST]", special "[/INST]"
  local open_system, close_system = special "[SYSTEM_PROMPT]", special "[/SYSTEM_PROMPT]"
  local space = o.version:find "tekken" and "" or " "
  local inside = o.version:find "^v3" ~= nil
  return {
    prefix = { bos },
    system_turn = inside and { content, "\n\n" } or { open_system, space, content, close_system },
    system_in = inside and "last" or nil,
    user_turn = inside and { open, space, M.system, content, close } or { open, space, content, close },
    answer_turn = { space, content, eos },
    trim = o.version == "v3" and { assistant = "both" } or nil,
  }
end)

local start_of_turn, end_of_turn = special "<start_of_turn>", special "<end_of_turn>"

local function gemma()
  return {
    prefix = { bos },
    system_turn = false,
    user_turn = { start_of_turn, "user\n", content, end_of_turn, "\n", start_of_turn, "model\n" },
    answer_turn = { content, end_of_turn },
    between = { "\n" },
    trim = { user = "both", assistant = "both" },
  }
end

-- What Gemma-3's chat template gives. Answers are turns of `model`, the system text stands in the first question, and
-- questions and answers are trimmed. The line break behind the end token has no loss weight.
preset("gemma3", { system = NO_SYSTEM }, function()
  local spec = gemma()
  spec.system_turn = { content, "\n\n" }
  table.insert(spec.user_turn, 3, M.system)
  return spec
end)

-- What the chat templates of Gemma and Gemma-2 give: `gemma3` without a system text. They refuse one, and so do we.
preset("gemma2", {}, gemma)

-- What Phi-4's chat template gives: ChatML with a token in place of its line breaks.
preset("phi4", { system = NO_SYSTEM }, function()
  local sep = special "<|im_sep|>"
  return {
    system_turn = { im_start, "system", sep, content, im_end },
    user_turn = { im_start, "user", sep, content, im_end, im_start, "assistant", sep },
    answer_turn = { content, im_end },
  }
end)

-- What Phi-3.5's chat template gives, which leaves out an empty system text; with `breaks = false` what Phi-4-mini's
-- gives. Answers end in <|end|>, where servers stop. The line break behind it has no loss weight, nor the end-of-text
-- token that these templates write behind a whole conversation.
preset("phi3", { system = NO_SYSTEM, breaks = { "boolean", true } }, function(o)
  local user, assistant, stop = special "<|user|>", special "<|assistant|>", special "<|end|>"
  local line = o.breaks and "\n" or ""
  return {
    empty_system_is_default = o.breaks,
    system_turn = { special "<|system|>", line, content, stop, line },
    user_turn = { user, line, content, stop, line, assistant, line },
    answer_turn = { content, stop },
    between = { line },
  }
end)

-- What AllenAI's chat template of this name gives, Tulu 3's; `bos = true` puts the begin-of-text token before it, as
-- OLMo 2 has it. Roles are plain words between bars, only answers end in a token, and the line break that follows it is
-- without loss weight.
preset("tulu", { system = NO_SYSTEM, bos = { "boolean", false } }, function(o)
  return {
    prefix = o.bos and { bos } or {},
    system_turn = { "<|system|>\n", content, "\n" },
    user_turn = { "<|user|>\n", content, "\n<|assistant|>\n" },
    answer_turn = { content, eos },
    between = { "\n" },
  }
end)

-- What DeepSeek-Math-Instruct's chat template gives. Roles are plain words; the space behind "Assistant:" belongs to
-- the answer, since a prompt that waits for one ends before it. `space = false` leaves it out, as LLaMA-Factory's
-- template of this name does.
preset("deepseek", { system = NO_SYSTEM, space = { "boolean", true } }, function(o)
  return {
    prefix = { bos },
    system_turn = { content, "\n\n" },
    user_turn = { "User: ", content, "\n\nAssistant:" },
    answer_turn = o.space and { " ", content, eos } or { content, eos },
  }
end)

-- What Zephyr's and TinyLlama-Chat's chat templates give. Roles are plain words between bars, every turn ends in the
-- tokenizer's own end token, and the line break that follows it has no loss weight.
preset("zephyr", { system = NO_SYSTEM }, function()
  return {
    system_turn = { "<|system|>\n", content, eos, "\n" },
    user_turn = { "<|user|>\n", content, eos, "\n<|assistant|>\n" },
    answer_turn = { content, eos },
    between = { "\n" },
  }
end)

-- The prompt, a separator, the answer and the tokenizer's end token. For models that were never told of turns. In front
-- stands what the tokenizer puts before every text, which servers send; `bos` says otherwise.
preset("plain", { system = NO_SYSTEM, separator = { "string", "\n\n" }, bos = { "boolean", optional = true } }, function(o)
  return {
    prefix = o.bos == nil and { first } or o.bos and { bos } or {},
    system_turn = { content, o.separator },
    user_turn = { content, o.separator },
    answer_turn = { content, eos },
    between = { o.separator },
  }
end)

return M
