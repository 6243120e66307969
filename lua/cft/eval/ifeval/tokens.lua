--- Tokens and sentences of English text, as the toolkit splits them that IFEval's checks call (NLTK: its word tokenizer, and
-- Punkt). Tokens follow its rules one by one. Sentences follow Punkt's, without what its model has learned of 20,000
-- words: which abbreviations there are is a short list of ours, and a capital behind one begins a sentence only where the
-- word is one that often does.
-- @module cft.eval.ifeval.tokens

local letters = require "cft.eval.ifeval.letters"

local M = {}

-- ---- tokens --------------------------------------------------------------------------------------

local function spaced(text, pattern) return (text:gsub(pattern, " %0 ")) end

-- An apostrophe in front of a word, but not of 're, 've and their like, stands alone.
local endings = { re = true, ve = true, ll = true, m = true, t = true, s = true, d = true, n = true }
local function leading_apostrophes(text)
  return (text:gsub("()'()", function(at, after)
    if letters.is_word(letters.before(text, at) .. "") and at > 1 then return nil end
    if not letters.is_word(letters.at(text, after)) then return nil end
    local word = text:match("^[%w_\128-\255]+", after) or ""
    return not endings[word:lower()] and "' " or nil
  end))
end

-- An apostrophe and what belongs to it at the end of a word, which a blank follows.
local function ending(text, pattern)
  return (text:gsub("([^' ])(" .. pattern .. ") ", "%1 %2 "))
end

local ENDINGS = { "'ll", "'LL", "'re", "'RE", "'ve", "'VE", "n't", "N'T" }

local CONTRACTIONS = { { "can", "not" }, { "d", "'ye" }, { "gim", "me" }, { "gon", "na" }, { "got", "ta" }, { "lem", "me" },
                       { "more", "'n" }, { "wan", "na" } }

local function any_case(word) return (word:gsub("%a", function(c) return "[" .. c:lower() .. c:upper() .. "]" end)) end

local function contracted(text)
  for _, pair in ipairs(CONTRACTIONS) do
    text = text:gsub("%f[%w_](" .. any_case(pair[1]) .. ")(" .. any_case(pair[2]) .. ")%f[^%w_]", " %1 %2 ")
  end
  return (text:gsub("( '[tT])([iI][sS])%f[^%w_]", " %1 %2 "):gsub("( '[tT])([wW][aA][sS])%f[^%w_]", " %1 %2 "))
end

--- The tokens of a text. @string text @treturn table
function M.of(text)
  text = letters.plain_spaces(text)
  for _, quote in ipairs { "\194\171", "\226\128\156", "\226\128\152", "\226\128\158", "`+" } do text = spaced(text, quote) end
  text = text:gsub('^"', " `` "):gsub('([ %(%[{<])"', "%1 `` "):gsub("([ %(%[{<])''", "%1 `` ")
  text = leading_apostrophes(text)
  text = text:gsub("([^%.])(%.)([%]%)}>\"']*)%s*$", "%1 %2 %3 "):gsub("([:,])([^%d])", " %1 %2"):gsub("([:,])$", " %1 ")
  text = spaced(spaced(text, "%.%.+"), "[;@#$%%&]")
  text = spaced(text, "\226\128[\146-\149]")
  text = spaced(text, "[?!]"):gsub("([^'])' ", "%1 ' ")
  text = spaced(spaced(spaced(text, "%*"), "[%]%[%(%){}<>]"), "%-%-")
  text = " " .. text .. " "
  for _, quote in ipairs { "\194\187", "\226\128\157", "\226\128\153", "''" } do text = spaced(text, quote) end
  text = text:gsub('"', " '' ")
  text = ending(text:gsub("%s+", " "), "'[sSmMdD]?")
  for _, part in ipairs(ENDINGS) do text = ending(text, part) end
  local list = {}
  for token in contracted(text):gmatch "%S+" do list[#list + 1] = token end
  return list
end

-- ---- sentences -----------------------------------------------------------------------------------

local function set(text)
  local found = {}
  for word in text:gmatch "%S+" do found[word] = true end
  return found
end

local ABBREVIATIONS = set [[
  mr mrs ms dr prof gen gov sen rep messrs maj col lt sgt jr sr st ave co corp inc ltd bros vs ph.d a.m p.m u.s u.k u.n
  u.s.a a.d b.c d.c l.a n.y n.j jan feb aug sept oct nov dec mon tues wed thurs fri]]

-- Words that often begin a sentence.
local STARTERS = set [[
  the a an this that these those it he she they we you i there here when while if although though because since however
  but and so some many most both in on at for as after before to what why how who where his her their our my its no not
  another one even despite instead meanwhile moreover finally then also]]

local CLOSERS = "[\"')%]}]"

-- Does a token that ends in a full stop end a sentence, before the token `following`?
local function stops(token, following)
  local word = token:gsub("^[\"'%(%[{`*_]+", ""):gsub("%.$", ""):lower()
  local capital, small = following:match "^[\"'%(%[{`*_]*%u" ~= nil, following:match "^[\"'%(%[{`*_]*%l" ~= nil
  local starter = capital and STARTERS[following:lower():match "[%a']+" or ""] == true
  if word:find "%.%.$" then return starter or capital end
  if ABBREVIATIONS[word] or ABBREVIATIONS[word:match "%-([^%-]+)$" or ""] then return starter end
  if word:find "^%a$" then return not small and (word == "i" or starter) end
  if word:find "^%d+$" then return not small end
  return true
end

-- Where the sentences of a text end: bytes behind which another begins.
local function boundaries(text)
  local list, at = {}, 1
  while true do
    local first, last = text:find("%S+", at)
    if not first then return list end
    local following = text:match("%S+", last + 1)
    local chunk, stop = text:sub(first, last), nil
    -- The last mark of the token that is followed by white space and more, or by a sign.
    for k = #chunk, 1, -1 do
      if chunk:sub(k, k):find "[.?!]" and (k == #chunk and following or chunk:sub(k + 1, k + 1):find "[)\";}%]*:@'({%[!?]") then
        stop = k
        break
      end
    end
    if stop then
      local rest = chunk:sub(stop + 1)
      local ends = chunk:sub(stop, stop) ~= "." or stops(chunk:sub(1, stop), rest ~= "" and rest or following or "")
      -- Quotes and brackets that close stay with the sentence.
      local behind = rest == "" and 0 or (rest:find("^" .. CLOSERS .. "+$") and #rest or 0)
      if ends and (following or behind < #rest) then list[#list + 1] = first + stop - 1 + behind end
    end
    at = last + 1
  end
end

--- How many sentences a text has. @string text @treturn int
function M.sentences(text)
  text = letters.strip(text)
  if text == "" then return 0 end
  return #boundaries(letters.plain_spaces(text)) + 1
end

return M
