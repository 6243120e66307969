--- The model's own chat template beside the one that a run trains with.
--
-- A server writes prompts with the Jinja template that came with the model. Where a run's template writes
-- something else, the model is trained on texts that it will not meet. Both render the same small conversations
-- here, and what stands between their messages is compared.
-- @module cft.text.chat_check
-- @usage tok.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
-- local found = cft.chat_template.compare(chat, tok)
-- for _, difference in ipairs(found or {}) do print(cft.chat_template.describe(difference)) end

local exit = require "cft.base.exit"
local jinja = require "cft.text.jinja"
local texts = require "cft.base.text"

local M = {}

-- ---- the same conversation twice ---------------------------------------------------------------

-- Words that no template has in it.
local SYSTEM, Q1, A1, Q2, A2 = "cftSystem", "cftQuestionOne", "cftAnswerOne", "cftQuestionTwo", "cftAnswerTwo"

local function conversation(system, ...)
  local messages, roles = {}, { "user", "assistant" }
  if system then messages[1] = { role = "system", content = system } end
  for i, content in ipairs { ... } do messages[#messages + 1] = { role = roles[(i - 1) % 2 + 1], content = content } end
  return messages
end

-- One of the tokenizer's own tokens as text, empty if it names none; `first`: what it puts before every text.
local function own(tok, name)
  local id = tok[name]
  if name == "first" then id = tok:around()[1] end
  return id and tok:token(id) or ""
end

-- What the run trains on, special tokens by their strings; of a prompt only what stands before its answer.
local function ours(chat, tok, messages, prompt)
  local ok, segments, why = pcall(chat.segments, chat, { messages = messages, raw = { messages = messages } }, tok)
  if not ok then return nil, tostring(segments) end
  if not segments then return nil, why end
  local texts = {}
  for i, s in ipairs(segments) do
    if prompt and s.target then break end
    texts[i] = s.own and own(tok, s.own) or s.text
  end
  return table.concat(texts)
end

-- What the model's template writes. A date of today is no difference: where a template can do without the clock, it
-- is rendered so.
local function theirs(template, tok, messages, prompt)
  local vars = { messages = messages, add_generation_prompt = prompt or false,
                 bos_token = own(tok, "bos"), eos_token = own(tok, "eos") }
  local text = template:render(vars, { clock = false })
  if text then return text end
  return template:render(vars)
end

-- What stands before, between and behind these words in a text; nil and the word that is missing.
local function gaps(text, words)
  local list, at = {}, 1
  for i, word in ipairs(words) do
    local first, last = text:find(word, at, true)
    if not first then return nil, word end
    list[i], at = text:sub(at, first - 1), last + 1
  end
  list[#words + 1] = text:sub(at)
  return list
end

-- ---- comparing ---------------------------------------------------------------------------------

local function spaceless(text) return (text:gsub("%s+", "")) end

-- Note a difference between two gaps.
local function note(found, what, mine, model)
  if mine == model then return end
  found[#found + 1] = { what = what, run = mine, model = model, space = spaceless(mine) == spaceless(model) }
end

-- A text with `from` at its beginning replaced by `to`.
local function beginning(text, from, to)
  if text:sub(1, #from) ~= from then return text end
  return to .. text:sub(#from + 1)
end

-- Is an end the same as `tail`, but for what is never asked for, since nothing is generated behind an end token?
-- That is white space, and an end-of-text token, which some write behind a whole conversation.
local function same_end(text, tail, eos)
  text = texts.trim_right(text)
  if text == tail then return true end
  return tail ~= "" and eos ~= "" and text:sub(-#eos) == eos and texts.trim_right(text:sub(1, -#eos - 1)) == tail
end

-- Two turns: every gap by its name.
local function compare_turns(found, mine, model, eos)
  note(found, "before the first question (system text)", mine[1], model[1])
  note(found, "before the first answer", mine[2], model[2])
  local tail, their_tail = mine[5], model[5]
  if same_end(their_tail, tail, eos) then their_tail = tail end
  note(found, "behind an answer (end token)", tail, their_tail)
  -- The same end token between turns is the same difference.
  local between = tail == their_tail and mine[3] or beginning(mine[3], tail, texts.trim_right(their_tail))
  note(found, "between turns", between, model[3])
  note(found, "before a later answer", mine[4], model[4])
end

-- In a prompt: some templates write the system text only where an answer is waited for.
local function compare_system(found, chat, tok, template)
  local text, why = theirs(template, tok, conversation(SYSTEM, Q1), true)
  local mine, refusal = ours(chat, tok, conversation(SYSTEM, Q1, A1), true)
  local function refused(reason) found[#found + 1] = { what = "a system message", refused = reason } end
  if not text then return mine and refused(why) end  -- where both refuse it, they agree
  if not mine then  -- what it says of a record is about the conversation that is tried here
    refusal = refusal:gsub(", and the record has one$", "")
    return refused(refusal .. "; the model's template takes one, if a record has it")
  end
  local model, absent = gaps(text, { SYSTEM, Q1 })
  if not model then return refused(("%s is not where it was, or not there"):format(absent)) end
  mine = gaps(mine, { SYSTEM, Q1 })
  if not mine then return end
  note(found, "before a system message", mine[1], model[1])
  note(found, "behind a system message", mine[2], model[2])
end

-- Does either take white space away from the ends of texts?
local function compare_edges(found, chat, tok, template)
  local messages = conversation(nil, " \n" .. Q1 .. " \n", " \n" .. A1 .. " \n")
  local text = theirs(template, tok, messages)
  local mine, model = ours(chat, tok, messages), text and gaps(text, { Q1, A1 })
  mine = mine and gaps(mine, { Q1, A1 })
  if not mine or not model then return end
  for i, what in ipairs { "a question", "an answer" } do
    local function kept(list) return list[i]:find " \n$" ~= nil, list[i + 1]:find "^ \n" ~= nil end
    local left, right = kept(mine)
    local their_left, their_right = kept(model)
    if left ~= their_left or right ~= their_right then
      found[#found + 1] = { what = "white space around " .. what, space = true, word = true,
        run = (left or right) and "kept" or "taken away",
        model = (their_left or their_right) and "kept" or "taken away" }
    end
  end
end

-- A prompt that waits for an answer is what stands before an answer in training.
local function compare_prompt(found, chat, tok, template)
  local mine = ours(chat, tok, conversation(nil, Q1, A1), true)
  local text, why = theirs(template, tok, conversation(nil, Q1), true)
  if not text then
    found[#found + 1] = { what = "a question without an answer", refused = why }
    return
  end
  mine = mine and gaps(mine, { Q1 })
  local model = gaps(text, { Q1 })
  if mine and model then note(found, "the prompt that waits for an answer", mine[2], model[2]) end
end

--- Compare a run's template with the one that came with the model.
-- @tparam Template chat
-- @param tok with its `chat_template`
-- @treturn ?table a list of differences: `what` it is about; `run` and `model`, the texts; `space`: only white space
-- differs; or `refused`, why the model's template does not take it. nil where they cannot be compared
-- @treturn ?string then: why not, nil if the model has no chat template
function M.compare(chat, tok)
  if not tok.chat_template then return nil end
  local template, why = jinja.parse(tok.chat_template, "the model's chat template")
  if not template then return nil, why end
  local messages, found = conversation(nil, Q1, A1, Q2, A2), {}
  local mine, problem = ours(chat, tok, messages)
  if not mine then return nil, "the run's template cannot be asked: " .. problem end
  local text, refused = theirs(template, tok, messages)
  if not text then return nil, refused end
  local words = { Q1, A1, Q2, A2 }
  local our_gaps, our_missing = gaps(mine, words)
  if not our_gaps then return nil, ("the run's template leaves out %s of a small conversation"):format(our_missing) end
  local their_gaps, missing = gaps(text, words)
  if not their_gaps then
    found[1] = { what = "a conversation of two turns", refused = ("%s is not in it"):format(missing) }
    return found
  end
  compare_turns(found, our_gaps, their_gaps, own(tok, "eos"))
  compare_prompt(found, chat, tok, template)
  compare_system(found, chat, tok, template)
  compare_edges(found, chat, tok, template)
  return found
end

-- ---- in words ----------------------------------------------------------------------------------

local LONGEST = 160

local function shown(text)
  local quoted = texts.quoted(text)
  if #quoted <= LONGEST then return quoted end
  local head, tail = quoted:sub(1, 100):gsub("[\192-\255]?[\128-\191]*$", ""), quoted:sub(-50):gsub("^[\128-\191]*", "")
  return head .. " ... " .. tail
end

--- A difference in one line.
-- @tab d
function M.describe(d)
  if d.refused then return ("%s: %s"):format(d.what, d.refused) end
  if d.word then return ("%s: %s in training, %s by the model's template"):format(d.what, d.run, d.model) end
  return ("%s: %s in training, %s by the model's template%s"):format(d.what, shown(d.run), shown(d.model),
    d.space and " (only white space differs)" or "")
end

--- All of it, for a run's log.
-- @tparam Template chat
-- @tab found of `compare`
-- @treturn string
-- @usage tok.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
-- print(cft.chat_template.report(chat, cft.chat_template.compare(chat, tok)))
function M.report(chat, found)
  local lines = { ("template %s writes otherwise than the model's own chat template, which servers use, in %d place%s:")
    :format(chat.name, #found, #found == 1 and "" or "s") }
  for i, difference in ipairs(found) do lines[i + 1] = "  " .. M.describe(difference) end
  return table.concat(lines, "\n")
end

--- Compare, and do what a run's `template_check` says: what servers write with the model's own chat template
-- should be what is trained on.
-- @tparam Template chat @param tok
-- @string policy `log`, `strict`, which ends the run where they differ, or `off`
-- @treturn ?string what there is to say
-- @usage tok.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
-- cft.chat_template.enforce(chat, tok, "log"):match "[^\n]*"   --> "template qwen writes otherwise than the model's own chat template, which servers use, in 8 places:"
function M.enforce(chat, tok, policy)
  if policy == "off" then return nil end
  local found, why = M.compare(chat, tok)
  local report = why and "template " .. chat.name .. " cannot be compared: " .. why
    or found and #found > 0 and M.report(chat, found) or nil
  if report and policy == "strict" then
    exit.fail(exit.FAILED, '%s\n  template_check = "strict" allows none', report)
  end
  return report
end

return M
