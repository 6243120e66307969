--- IFEval: which of a prompt's instructions an answer follows, strictly and loosely.
-- @module cft.eval.ifeval

local letters = require "cft.eval.ifeval.letters"
local rules = require "cft.eval.ifeval.rules"

local M = {}

--- The kinds of instruction that are checked: name → its check.
M.rules = rules

local function without_stars(text) return (text:gsub("%*", "")) end

-- An answer in the forms of which one has to follow an instruction, to follow it loosely: without its first line, its last,
-- both; and each without asterisks.
local function loose_forms(text)
  local first, last = text:match "^[^\n]*\n(.*)$" or "", text:match "^(.*)\n[^\n]*$" or ""
  local both = text:match "^[^\n]*\n(.*)\n[^\n]*$" or ""
  local forms = { text, without_stars(text) }
  for _, form in ipairs { first, last, both } do
    form = letters.strip(form)
    forms[#forms + 1], forms[#forms + 2] = form, without_stars(form)
  end
  return forms
end

local function followed(text, kind, arguments)
  if letters.strip(text) == "" then return false end
  return rules[kind](text, arguments)
end

local function loosely(forms, kind, arguments)
  local result, why = false, nil
  for _, form in ipairs(forms) do
    local f, reason = followed(form, kind, arguments)
    if f then return true end
    if f == nil then result, why = nil, reason end
  end
  return result, why
end

--- Check an answer.
-- @string text
-- @tab instructions a list of { kind =, arguments = }
-- @treturn table a list of { kind =, strict =, loose = }, true or false; both absent, and `why`, where it cannot be checked
function M.check(text, instructions)
  local list, forms = {}, loose_forms(text)
  for i, instruction in ipairs(instructions) do
    local strict, why = followed(text, instruction.kind, instruction.arguments)
    local loose, why_loose = loosely(forms, instruction.kind, instruction.arguments)
    if strict == nil or loose == nil then strict, loose = nil, nil end
    list[i] = { kind = instruction.kind, strict = strict, loose = loose, why = strict == nil and (why or why_loose) or nil }
  end
  return list
end

return M
