--- A model as the critic of its own answers: how it is asked, what it concludes, and the probability of that
-- conclusion.
--
-- A critic is asked as it was trained to be: by a form of `cft.text.critique`, in a conversation of
-- `cft.text.template`. Critiques of one problem begin alike, those of one answer have the same prompt, and
-- what is read at a verdict begins with all of its critique: a tree, whose common pages the engine keeps
-- once.
-- @module cft.eval.judge.critic

local blame = require "cft.base.blame"
local critique = require "cft.text.critique"
local fork = require "cft.eval.judge.fork"
local mask = require "cft.samples.mask"
local template = require "cft.text.template"

local M = {}
local Critic = {}
Critic.__index = Critic

--- The forms of critiques, and the templates of conversations that they may stand in.
M.forms = { "paper", "corrected", "verdict-first" }
M.templates = { "auto", unpack(template.names) }

local FORMS = { paper = critique.paper, corrected = critique.corrected, ["verdict-first"] = critique.verdict_first }

--- Tokens of a critique at most, where nothing else is said.
M.MAX_NEW = 1024
--- Strings that end a critique beside the model's own end tokens; none may cut a verdict off.
M.STOP = { "[END]", "</s>", "<|im_end|>", "<|endoftext|>" }

--- The template for a model: its own where it came with one, else ChatML.
-- @tparam Tokenizer tok
function M.choose(tok) return tok.chat_template and "own" or "chatml" end

--- @tparam Tokenizer tok
-- @tab o `critique_form`, one of `forms`; `critic_template`, one of `templates`
-- @treturn Critic
function M.new(tok, o)
  local _, verdict, ask = FORMS[o.critique_form]()
  local chat = template.of(o.critic_template == "auto" and M.choose(tok) or o.critic_template)
  return setmetatable({ tok = tok, chat = chat, verdict_of = verdict, ask = ask }, Critic)
end

-- The conversation of a question and a solution, with what the critic says of it.
local function conversation(self, question, solution, said, where)
  local parts, why = self.ask { question = question, solution = solution }
  if not parts then blame("%s: %s", where, why) end
  return { messages = { { role = "user", content = parts }, { role = "assistant", content = said } } }
end

-- Stands for a critique that is still to be written: of a message without a text a model's own template writes nothing
-- by which one could tell where it begins.
local TO_COME = "."

--- What a critic of a solution is given to go on from.
-- @string question @string solution @string where for messages
-- @treturn table ids
function Critic:prompt(question, solution, where)
  local ids, why = mask.prompt(conversation(self, question, solution, TO_COME, where), self.chat, self.tok)
  return ids or blame("%s: %s", where, why)
end

--- What a critique concludes.
-- @string text
-- @treturn ?bool whether the solution is right; nil where it does not conclude in its form
-- @treturn ?int first @treturn ?int last byte of the verdict's word
function Critic:verdict(text) return self.verdict_of(text) end

--- Where P(right) is read: the ids up to the verdict of a critique that was written, and the tokens that may
-- follow.
-- @string question @string solution @string text of the critique @int first @int last of `verdict`
-- @treturn ?table `prompt`, `right`, `wrong`, as `cft.eval.judge.fork` gives it
function Critic:reading(question, solution, text, first, last, where)
  local function ids(word)
    local said = text:sub(1, first - 1) .. word .. text:sub(last + 1)
    return fork.ids(conversation(self, question, solution, said, where), self.chat, self.tok)
  end
  return fork.of(ids "right", ids "wrong")
end

return M
