--- What a text is for, and what it weighs: the kinds of a conversation's texts and the loss weights that `learn` gives them.
-- @module cft.text.kinds

local blame = require "cft.base.blame"
local check = require "cft.base.check"

local M = {}

--- Whether a critique judges the solution right: the authors' rule. What follows the last
-- `Conclusion` decides: "wrong" or "incorrect" in it, else "right" or "correct".
-- @string text
-- @treturn ?bool nil where there is no verdict
-- @usage cft.template.verdict "The sum is 6.\n\nConclusion: wrong [END]"   --> false
-- cft.template.verdict "No word of it."   --> nil
function M.verdict(text)
  local tail = text:match "^.*Conclusion(.*)$"
  if not tail then return nil end
  tail = tail:lower()
  if tail:find("wrong", 1, true) or tail:find("incorrect", 1, true) then return false end
  if tail:find("right", 1, true) or tail:find("correct", 1, true) then return true end
  return nil
end

-- Two parts of a text, cut at byte `at`; none of them empty.
local function cut(text, at, first_kind, second_kind)
  if not at or at > #text then return { { text = text, kind = first_kind } } end
  if at == 1 then return { { text = text, kind = second_kind } } end
  return { { text = text:sub(1, at - 1), kind = first_kind },
    { text = text:sub(at), kind = second_kind } }
end

--- The parts of a message by what they are: `system`; `query` and the `response` that is judged,
-- which begins behind the first "Solution:" on a line of its own; `critique` and `verdict`, which
-- begins at the last "Conclusion". Texts are cut, never changed.
-- @string role
-- @string text
-- @treturn table a list of `{ text =, kind = }`
-- @usage local parts = cft.template.parts("assistant", "It is 6.\nConclusion: wrong")
-- parts[1].kind, parts[1].text, parts[2].kind   --> "critique" "It is 6.\n" "verdict"
function M.parts(role, text)
  if role == "user" then
    local _, stop = text:find("\n\nSolution:\n", 1, true)
    if not stop then _, stop = text:find("\nSolution:\n", 1, true) end
    return cut(text, stop and stop + 1, "query", "response")
  elseif role == "assistant" then
    local before = text:match "^(.*)Conclusion"
    return cut(text, before and #before + 1, "critique", "verdict")
  end
  return { { text = text, kind = role } }
end

-- ---- weights ---------------------------------------------------------------------------------

--- A loss weight as the user gave it: a number from 0, or a function of record and step.
-- @string name of what it is for, for the message
-- @param value
-- @treturn number|function
function M.check_weight(name, value)
  if type(value) == "function" then return value end
  if type(value) == "number" and value >= 0 and value < math.huge then return value end
  blame("template: the weight of '%s' must be a number from 0 or a function, got %s", name,
    type(value) == "number" and tostring(value) or "a " .. type(value))
end

-- Kinds that texts have without a function of the user's, who may make up others.
local kinds = { system = true, query = true, response = true, critique = true, verdict = true, ["end"] = true,
  template = true, rest = true, user = true, assistant = true, tool_call = true, reasoning = true, tool = true,
  tools = true, name = true }

-- A name that is not in `known`, and near one that is, is a slip.
local function slip(where, name, known)
  local meant = not known[name] and check.closest(tostring(name), known)
  if meant then blame("template: %s has '%s'; did you mean '%s'?", where, tostring(name), meant) end
end

--- `learn` as a table of kinds, with a weight for the rest of what has loss weight.
-- @param learn a number, a function, or a table of them by kind
-- @treturn table kind → weight
-- @treturn number|function the weight of other kinds
function M.weights_of(learn)
  if type(learn) ~= "table" then return {}, M.check_weight("learn", learn) end
  local by_kind, rest = {}, 1
  for kind, weight in pairs(learn) do
    slip("learn", kind, kinds)
    if kind == "rest" then rest = M.check_weight(kind, weight) else by_kind[kind] = M.check_weight(kind, weight) end
  end
  return by_kind, rest
end

return M
