--- The language of a text as the Python package langdetect tells it, which IFEval's reference asks: Nakatani
-- Shuyo's detector, a naive Bayes classifier of one, two and three letters with its profiles of 55 languages.
--
-- The rules are here, the profiles are not: they are read from where Debian's `python3-langdetect` has them,
-- or another copy of the package in the folder CFT_LANGDETECT. That detector draws letters at random, so that
-- it may judge a short text in two ways; here each text has the same draws, those of its seed 0.
-- @module cft.eval.ifeval.langdetect

local host = require "cft.host"
local json = require "cft.base.json"
local letters = require "cft.eval.ifeval.letters"
local mersenne = require "cft.eval.ifeval.mersenne"

local M = {}

local DEBIAN = "/usr/lib/python3/dist-packages/langdetect"

-- ---- profiles ------------------------------------------------------------------------------------

local loaded, missing

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

-- The texts of messages.properties, of which \uXXXX are characters.
local function messages_of(text)
  local list = {}
  for name, value in text:gmatch "([%w_%.]+)=([^\n]*)" do
    list[name] = value:gsub("\\u(%x%x%x%x)", function(hex) return letters.char(tonumber(hex, 16)) end)
  end
  return list
end

-- Characters that stand for others: of each class of Chinese characters the first.
local function classes_of(messages)
  local map = {}
  for name, class in pairs(messages) do
    if name:find "^NGram%.KANJI_" then
      local first
      for c in letters.each(class) do
        first = first or c
        map[c] = first
      end
    end
  end
  return map
end

-- Letters and the marks behind them, which Vietnamese writes as one.
local function vietnamese_of(messages)
  local map, plain, marks = {}, {}, {}
  for c in letters.each(messages.TO_NORMALIZE_VI_CHARS) do plain[#plain + 1] = c end
  for c in letters.each(messages.DMARK_CLASS) do marks[#marks + 1] = c end
  for m, name in ipairs { "0300", "0301", "0303", "0309", "0323" } do
    local i = 0
    for c in letters.each(messages["NORMALIZED_VI_CHARS_" .. name]) do
      i = i + 1
      map[plain[i] .. marks[m]] = c
    end
  end
  return map
end

-- How many characters a text of UTF-8 has.
local function length_of(text)
  local n = 0
  for _ in letters.each(text) do n = n + 1 end
  return n
end

local function load(folder)
  local names = {}
  for _, name in ipairs(host.list(folder .. "/profiles") or {}) do
    if name:sub(1, 1) ~= "." then names[#names + 1] = name end
  end
  local text = read(folder .. "/utils/messages.properties")
  if #names < 2 or not text then return nil, folder .. " has no profiles and no utils/messages.properties" end
  table.sort(names)
  local messages = messages_of(text)
  -- grams: letters → { number of a language → their share there }
  local self = { languages = {}, grams = {}, classes = classes_of(messages), vietnamese = vietnamese_of(messages), excluded = {} }
  for c in letters.each(messages["NGram.LATIN1_EXCLUDE"]) do self.excluded[c] = true end
  for k, name in ipairs(names) do
    local profile, why = json.decode(read(folder .. "/profiles/" .. name) or "")
    if type(profile) ~= "table" or type(profile.freq) ~= "table" or type(profile.n_words) ~= "table" then
      return nil, ("%s/profiles/%s is no profile: %s"):format(folder, name, why or "no freq and n_words")
    end
    self.languages[k] = profile.name
    for gram, count in pairs(profile.freq) do
      self.grams[gram] = self.grams[gram] or {}
      self.grams[gram][k] = count / profile.n_words[length_of(gram)]
    end
  end
  return self
end

--- Are the profiles there? @treturn bool @treturn ?string what is missing
function M.available()
  if loaded or missing then return loaded ~= nil, missing end
  local own = os.getenv "CFT_LANGDETECT"
  local folder = own ~= nil and own ~= "" and own or DEBIAN
  if host.kind(folder .. "/profiles") ~= "folder" then
    missing = folder .. "/profiles is not there; in Debian it is python3-langdetect's"
  else
    loaded, missing = load(folder)
  end
  return loaded ~= nil, missing
end

-- ---- letters -------------------------------------------------------------------------------------

-- A character as profiles have it: signs are blanks, and scripts whose characters tell nothing apart are one
-- each.
local function normal(self, c)
  local cp = letters.code(c)
  if cp < 0x80 then return c:find "%a" and c or " " end
  if cp < 0x100 then return self.excluded[c] and " " or c end
  if cp == 0x219 then return letters.char(0x15f) end
  if cp == 0x21b then return letters.char(0x163) end
  if cp == 0x6cc then return letters.char(0x64a) end
  if cp >= 0x1ea0 and cp <= 0x1eff then return letters.char(0x1ec3) end
  if cp >= 0x2000 and cp <= 0x206f then return " " end
  if cp >= 0x3040 and cp <= 0x309f then return letters.char(0x3042) end
  if cp >= 0x30a0 and cp <= 0x30ff then return letters.char(0x30a2) end
  if cp >= 0x3100 and cp <= 0x312f or cp >= 0x31a0 and cp <= 0x31bf then return letters.char(0x3105) end
  if cp >= 0x4e00 and cp <= 0x9fff then return self.classes[c] or c end
  if cp >= 0xac00 and cp <= 0xd7af then return letters.char(0xac00) end
  return c
end

local MOST = 10000  -- characters that are looked at

-- The characters of a text, without addresses, several blanks as one.
local function characters(self, text)
  text = text:gsub("https?://[%-_%.%?&~;%+=/#%w]+", " "):gsub("[%-_%.%w]+@[%-_%w][%-_%.%w]+", " ")
  text = text:gsub(".[\128-\191]*\204[\128-\191]", self.vietnamese)
  local list, before, n = {}, nil, 0
  for c in letters.each(text) do
    n = n + 1
    if n > MOST then break end
    if c ~= " " or before ~= " " then list[#list + 1] = c end
    before = c
  end
  return list
end

-- In a text that is not written in Latin letters those say nothing.
local function cleaned(list)
  local latin, other = 0, 0
  for _, c in ipairs(list) do
    if c:find "^[A-z]$" then latin = latin + 1 elseif letters.code(c) >= 0x300 then other = other + 1 end
  end
  if latin * 2 >= other then return list end
  local kept = {}
  for _, c in ipairs(list) do
    if not c:find "^[A-z]$" then kept[#kept + 1] = c end
  end
  return kept
end

-- The one, two and three letters that profiles know, in order; words of capitals are passed by.
local function grams_of(self, list)
  local found, window, capitals = {}, { " " }, false
  local function note(gram)
    if gram ~= " " and self.grams[gram] then found[#found + 1] = self.grams[gram] end
  end
  for _, c in ipairs(list) do
    c = normal(self, c)
    local last = window[#window]
    if last == " " then window, capitals = { " " }, false end
    if not (last == " " and c == " ") then
      if last ~= " " and #window >= 3 then table.remove(window, 1) end
      window[#window + 1] = c
      if letters.is_upper(c) then capitals = capitals or letters.is_upper(last) else capitals = false end
    end
    if not capitals then
      local n = #window
      note(window[n])
      if n >= 2 then note(window[n - 1] .. window[n]) end
      if n >= 3 then note(window[n - 2] .. window[n - 1] .. window[n]) end
    end
  end
  return found
end

-- ---- the classifier ------------------------------------------------------------------------------

local TRIALS, ALPHA, WIDTH, ROUNDS, CERTAIN, LEAST = 7, 0.5, 0.05, 1000, 0.99999, 0.1
local BASE = 10000  -- counts are taken as if of so many

-- Scale to a sum of 1. @return the largest
local function normalised(p)
  local sum, most = 0, 0
  for i = 1, #p do sum = sum + p[i] end
  for i = 1, #p do
    p[i] = p[i] / sum
    most = math.max(most, p[i])
  end
  return most
end

local function trial(random, grams, languages)
  local p, weight = {}, (ALPHA + random:gauss() * WIDTH) / BASE
  for i = 1, languages do p[i] = 1 / languages end
  for round = 0, ROUNDS do
    local gram = grams[random:below(#grams) + 1]
    for i = 1, languages do p[i] = p[i] * (weight + (gram[i] or 0)) end
    if round % 5 == 0 and normalised(p) > CERTAIN then break end
  end
  return p
end

--- The language of a text.
-- @string text UTF-8
-- @treturn ?string its code, "unknown" where none is likely; nil where the profiles are missing, or no letter
-- tells anything
-- @treturn bool are the profiles there
function M.of(text)
  if not M.available() then return nil, false end
  local grams = grams_of(loaded, cleaned(characters(loaded, text)))
  if #grams == 0 then return nil, true end
  local random, sum, n = mersenne.new(0), {}, #loaded.languages
  for i = 1, n do sum[i] = 0 end
  for _ = 1, TRIALS do
    local p = trial(random, grams, n)
    for i = 1, n do sum[i] = sum[i] + p[i] / TRIALS end
  end
  local best = 1
  for i = 2, n do
    if sum[i] > sum[best] then best = i end
  end
  return sum[best] > LEAST and loaded.languages[best] or "unknown", true
end

return M
