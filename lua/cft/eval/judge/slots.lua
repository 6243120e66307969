--- The places of a critique where a verdict stands: that of the whole, and those of its steps.
--
-- A part of a message with `verdict = true` or `false` is such a place (`cft.text.critique` makes them); of a
-- text, the word behind its last "Conclusion", and where a pattern says how steps are judged, a word in each
-- line that fits it. The last place is the verdict of the whole, those before it are of steps.
-- @module cft.eval.judge.slots

local blame = require "cft.base.blame"
local conversation = require "cft.data.conversation"
local template = require "cft.text.template"

local M = {}

-- The words of verdicts, the longer of two that share letters first: what they say, and their opposite.
local WORDS = { { "incorrect", false, "correct" }, { "correct", true, "incorrect" }, { "wrong", false, "right" },
                { "right", true, "wrong" } }

-- A word as another is written: "Wrong" for "Right", "WRONG" for "RIGHT".
local function like(word, other)
  if other == other:upper() then return word:upper() end
  if other:find "^%u" then return word:sub(1, 1):upper() .. word:sub(2) end
  return word
end

-- The first word of a verdict in a text, behind a byte: where it begins and ends, what it says, and its
-- opposite.
local function word_in(text, from)
  local lower, best = text:lower(), nil
  for _, w in ipairs(WORDS) do
    local first, last = lower:find(w[1], from, true)
    if first and (not best or first < best.first) then
      best = { first = first, last = last, says = w[2], other = like(w[3], text:sub(first, last)) }
    end
  end
  return best
end

local function replaced(text, w) return text:sub(1, w.first - 1) .. w.other .. text:sub(w.last + 1) end

-- The record with another content of its last message.
local function with_content(record, content)
  local messages, last = { unpack(record.messages) }, {}
  for name, value in pairs(messages[#messages]) do last[name] = value end
  last.content, messages[#messages] = content, last
  local copy = {}
  for name, value in pairs(record) do copy[name] = value end
  copy.messages = messages
  return copy
end

local function of_parts(record, parts)
  local list = {}
  for i, part in ipairs(parts) do
    local w = part.verdict ~= nil and word_in(part.text, 1)
    if w and w.says == part.verdict then
      list[#list + 1] = { truth = part.verdict, flipped = function()
        local changed, own = { unpack(parts) }, {}
        for name, value in pairs(part) do own[name] = value end
        own.text, own.verdict, changed[i] = replaced(part.text, w), not part.verdict, own
        return with_content(record, changed)
      end }
    end
  end
  return list
end

--- A pattern of steps, checked: a Lua pattern for one line, whose only capture is the word of the verdict.
-- @string pattern such as "^Step %d+: .*, (%a+)%.$"
-- @treturn string the same, that also captures where the word begins
function M.steps(pattern)
  local marked, count = ("\0" .. pattern):gsub("([^%%])%(", "%1()("):sub(2), 0
  for _ in ("\0" .. pattern):gmatch "[^%%]%(" do count = count + 1 end
  local ok, why = pcall(string.find, "", marked)
  if not ok or count ~= 1 then
    blame("probe: steps is a Lua pattern with one capture, the word of a step's verdict; got '%s'%s", pattern,
          ok and "" or ": " .. tostring(why))
  end
  return marked
end

local function of_text(record, text, steps)
  local list, at = {}, 1
  local function add(w, truth)
    if not w or w.says ~= truth then return false end
    list[#list + 1] = { truth = truth, flipped = function() return with_content(record, replaced(text, w)) end }
    return true
  end
  local conclusion = text:match "^.*()Conclusion" or #text + 1
  while steps and at <= #text and at < conclusion do
    local stop = text:find("\n", at, true) or #text + 1
    local place = text:sub(at, stop - 1):match(steps)
    local w = place and word_in(text, at + place - 1)
    if w and w.first == at + place - 1 then add(w, w.says) end
    at = stop + 1
  end
  local truth = template.verdict(text)
  return list, truth ~= nil and add(word_in(text, conclusion), truth)
end

--- The places of a record.
-- @tab record a conversation
-- @string[opt] steps of `M.steps`, for texts
-- @treturn table a list of { `truth`, whether it says right; `step`, its number from 1, nil for the verdict
-- of the whole;
-- `flipped()`, the record with the opposite there }
-- @treturn table the record that they are of: where parts have no verdicts, it is their text that is looked
-- at
function M.of(record, steps)
  if not record.messages then return {}, record end
  local content = record.messages[#record.messages].content
  local list, concludes = type(content) == "table" and of_parts(record, content) or {}, true
  if #list == 0 then
    if type(content) == "table" then record = with_content(record, conversation.text(content)) end
    list, concludes = of_text(record, record.messages[#record.messages].content, steps)
  end
  for i, slot in ipairs(list) do
    if i < #list or not concludes then slot.step = i end
  end
  return list, record
end

return M
