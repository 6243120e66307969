--- IFEval's checks, one by one: is an instruction followed? (Zhou et al. 2023, arXiv 2311.07911)
--
-- A check gets the answer and the instruction's arguments, and gives true or false; nil and a reason where this
-- machine cannot check it. What its words say and what the reference does are not always the same; these do what it does.
-- @module cft.eval.ifeval.rules

local json = require "cft.base.json"
local language = require "cft.eval.ifeval.language"
local letters = require "cft.eval.ifeval.letters"
local texts = require "cft.base.text"
local tokens = require "cft.eval.ifeval.tokens"

local M = {}

local strip = letters.strip

-- "less than" or "at least".
local function compared(count, relation, wanted)
  if relation == "less than" then return count < wanted end
  return count >= wanted
end

-- The parts of a text between a separator.
local function split(text, separator)
  local list, at = {}, 1
  while true do
    local first, last = text:find(separator, at, true)
    list[#list + 1] = text:sub(at, (first or 0) - 1)
    if not first then return list end
    at = last + 1
  end
end

M["punctuation:no_comma"] = function(text) return not text:find(",", 1, true) end

M["length_constraints:number_words"] = function(text, o) return compared(letters.words(text), o.relation, o.num_words) end

M["length_constraints:number_sentences"] = function(text, o)
  return compared(tokens.sentences(text), o.relation, o.num_sentences)
end

-- A word that stands alone, case aside.
local function has_word(folded, word)
  local at = 1
  while true do
    local first, last = folded:find(word, at, true)
    if not first then return false end
    local function edge(a, b) return letters.is_word(a) ~= letters.is_word(b) end
    if edge(letters.before(folded, first), letters.at(folded, first))
       and edge(letters.before(folded, last + 1), letters.at(folded, last + 1)) then
      return true
    end
    at = first + 1
  end
end

M["keywords:forbidden_words"] = function(text, o)
  local folded = letters.folded(text)
  for _, word in ipairs(o.forbidden_words) do
    if has_word(folded, letters.folded(word)) then return false end
  end
  return true
end

M["keywords:existence"] = function(text, o)
  local folded = letters.folded(text)
  for _, word in ipairs(o.keywords) do
    if not folded:find(letters.folded(word), 1, true) then return false end
  end
  return true
end

M["keywords:frequency"] = function(text, o)
  return compared(texts.count(letters.folded(text), letters.folded(strip(o.keyword))), o.relation, o.frequency)
end

-- The reference draws a letter where another sign than a to z is asked for; here that sign is counted.
M["keywords:letter_frequency"] = function(text, o)
  return compared(texts.count(letters.lower(text), letters.lower(strip(o.letter))), o.let_relation, o.let_frequency)
end

M["detectable_format:number_highlighted_sections"] = function(text, o)
  local n = 0
  for inner in text:gmatch "%*([^\n*]*)%*" do n = n + (strip(inner) ~= "" and 1 or 0) end
  for inner in text:gmatch "%*%*([^\n*]*)%*%*" do n = n + (strip(inner) ~= "" and 1 or 0) end
  return n >= o.num_highlights
end

M["combination:repeat_prompt"] = function(text, o)
  local prompt = letters.lower(strip(o.prompt_to_repeat))
  return letters.lower(strip(text)):sub(1, #prompt) == prompt
end

M["startend:quotation"] = function(text)
  text = strip(text)
  return #text > 1 and text:sub(1, 1) == '"' and text:sub(-1) == '"'
end

M["startend:end_checker"] = function(text, o)
  local phrase = letters.lower(strip(o.end_phrase))
  text = letters.lower(strip(text):gsub('^"+', ""):gsub('"+$', ""))
  return phrase == "" or text:sub(-#phrase) == phrase
end

M["language:response_language"] = function(text, o) return language.is(text, o.language) end

M["change_case:english_lowercase"] = function(text)
  if not letters.all_lower(text) then return false end
  return language.is(text, "en")
end

M["change_case:english_capital"] = function(text)
  if not letters.all_upper(text) then return false end
  return language.is(text, "en")
end

M["change_case:capital_word_frequency"] = function(text, o)
  local n = 0
  for _, token in ipairs(tokens.of(text)) do n = n + (letters.all_upper(token) and 1 or 0) end
  return compared(n, o.capital_relation, o.capital_frequency)
end

M["detectable_format:title"] = function(text)
  for title in text:gmatch "<<[^\n]+>>" do
    if strip(title:gsub("^<+", ""):gsub(">+$", "")) ~= "" then return true end
  end
  return false
end

-- Lines that begin, blanks aside, as `matches(text, at)` says, which gives the byte where its match ends. Blanks may go over lines.
local function lines_that(text, matches)
  local n, at = 0, 1
  while at <= #text + 1 do
    local stop = matches(text, text:match("^%s*()", at))
    if stop then n = n + 1 end
    local line_end = text:find("\n", math.max(stop or at, 1), true)
    if not line_end then return n end
    at = line_end + 1
  end
  return n
end

M["detectable_format:number_bullet_lists"] = function(text, o)
  text = letters.plain_spaces(text)
  local stars = lines_that(text, function(t, at) return t:match("^%*[^*][^\n]*()", at) end)
  local dashes = lines_that(text, function(t, at) return t:match("^%-[^\n]*()", at) end)
  return stars + dashes == o.num_bullets
end

M["length_constraints:number_paragraphs"] = function(text, o)
  local parts = split(text, "***")
  local n = #parts
  for i, part in ipairs(parts) do
    if strip(part) == "" then
      if i ~= 1 and i ~= #parts then return false end
      n = n - 1
    end
  end
  return n == o.num_paragraphs
end

M["detectable_content:number_placeholders"] = function(text, o)
  return select(2, text:gsub("%[[^\n]-%]", "")) >= o.num_placeholders
end

M["detectable_content:postscript"] = function(text, o)
  local marker = strip(o.postscript_marker)
  text = letters.plain_spaces(letters.lower(text))
  if marker == "P.P.S" then return text:find "p%.%s?p%.%s?s" ~= nil end
  if marker == "P.S." then return text:find "p%.%s?s%." ~= nil end
  return text:find(letters.lower(marker), 1, true) ~= nil
end

M["combination:two_responses"] = function(text)
  local list, parts = {}, split(text, "******")
  for i, part in ipairs(parts) do
    if strip(part) ~= "" then list[#list + 1] = strip(part)
    elseif i ~= 1 and i ~= #parts then return false end
  end
  return #list == 2 and list[1] ~= list[2]
end

M["detectable_format:json_format"] = function(text)
  text = strip(text)
  for _, tick in ipairs { "```json", "```Json", "```JSON", "```" } do
    if text:sub(1, #tick) == tick then text = text:sub(#tick + 1) end
  end
  text = strip(text:gsub("```$", ""))
  if json.decode(text) ~= nil then return true end
  -- Python's reader takes three words more for numbers.
  return json.decode((text:gsub("%-?%f[%w]NaN%f[%W]", "0"):gsub("%-?%f[%w]Infinity%f[%W]", "0"))) ~= nil
end

M["detectable_format:multiple_sections"] = function(text, o)
  local splitter, n, at = strip(o.section_spliter), 0, 1
  text = letters.plain_spaces(text)
  while true do
    local first, last = text:find(splitter, at, true)
    if not first then return n >= o.num_sections end
    local stop = text:match("^%s?%d+()", last + 1)
    if stop then n = n + 1 end
    at = stop or first + 1
  end
end

M["length_constraints:nth_paragraph_first_word"] = function(text, o)
  local parts = split(text, "\n\n")
  local n = #parts
  for _, part in ipairs(parts) do n = n - (strip(part) == "" and 1 or 0) end
  local paragraph = o.nth_paragraph <= n and strip(parts[o.nth_paragraph]) or ""
  if paragraph == "" then return false end
  local word = letters.plain_spaces(paragraph):match "^%S+":gsub("^'+", ""):gsub('^"+', "")
  return n == o.num_paragraphs and letters.lower(word:match "^[^.,?!'\"]*") == letters.lower(o.first_word)
end

M["detectable_format:constrained_response"] = function(text)
  for _, answer in ipairs { "My answer is yes.", "My answer is no.", "My answer is maybe." } do
    if text:find(answer, 1, true) then return true end
  end
  return false
end

return M
