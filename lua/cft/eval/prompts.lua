--- How a problem is put to a model.
-- @module cft.eval.prompts

local blame = require "cft.base.blame"
local prompts = require "cft.generate.prompt"

local M = {}

--- What `template` may be: `chatml` and `deepseek` are the two of the authors' evaluation, `chat` is the template that came
-- with the model, `plain` is text alone.
M.names = { "auto", "chatml", "deepseek", "chat", "plain" }

--- The template for a model: ChatML where its tokenizer has the token for it, as the authors' evaluation of Qwen2.5; else
-- the model's own; else that of DeepSeek-Math.
-- @tparam Tokenizer tok
function M.choose(tok)
  if tok:id "<|im_start|>" then return "chatml" end
  return tok.chat_template and "chat" or "deepseek"
end

local function joined(system, user) return user .. (system and "\n" .. system or "") end

local forms = {}

function forms.chatml(bench, problem)
  local system, user = bench.messages(problem)
  return (system and "<|im_start|>system\n" .. system .. "<|im_end|>\n" or "") .. "<|im_start|>user\n" .. user
    .. "<|im_end|>\n<|im_start|>assistant\n"
end

function forms.deepseek(bench, problem) return "User: " .. joined(bench.messages(problem)) .. "\n\nAssistant:" end

function forms.plain(bench, problem) return joined(bench.messages(problem)) .. "\n" end

--- The ids of a prompt.
-- @tparam Tokenizer tok @tab bench @tab problem
-- @string template one of `names`, not auto
-- @string where for messages
-- @treturn table ids @treturn string the text
function M.ids(tok, bench, problem, template, where)
  local text
  if template == "chat" then
    local system, user = bench.messages(problem)
    local messages = { { role = "user", content = user } }
    if system then table.insert(messages, 1, { role = "system", content = system }) end
    text = prompts.render(tok, messages, where)
  else
    text = forms[template](bench, problem)
  end
  -- Strings of special tokens in a problem become these tokens, as they do in the evaluations that scores are compared with.
  local ids, why = tok:encode(text, { parse_special = true, add_special = template ~= "chat" })
  return ids or blame("%s: %s", where, why), text
end

return M
