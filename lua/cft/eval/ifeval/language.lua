--- Is a text in a language? As the reference decides it where langdetect's profiles are there, else by
-- Debian's libcld2 (`libcld2-0`); both are opened when the first text is asked about.
-- @module cft.eval.ifeval.language

local ffi = require "ffi"
local langdetect = require "cft.eval.ifeval.langdetect"
local letters = require "cft.eval.ifeval.letters"

local M = {}

-- CLD2 has a C++ interface: int DetectLanguage(const char *, int, bool plain, bool *reliable), const char
-- *LanguageCode(int).
ffi.cdef [[
int _ZN4CLD214DetectLanguageEPKcibPb(const char *text, int bytes, bool plain, bool *reliable);
const char *_ZN4CLD212LanguageCodeENS_8LanguageE(int language);
]]

local library, missing

local function open()
  if library or missing then return library end
  local ok, found = pcall(ffi.load, "libcld2.so.0")
  if ok then library = found else missing = "libcld2.so.0 cannot be opened; in Debian it is libcld2-0" end
  return library
end

--- What tells languages apart here.
-- @treturn ?string "langdetect" or "cld2"; nil where neither is there
-- @treturn ?string what is missing
function M.detector()
  local profiles, why = langdetect.available()
  if profiles then return "langdetect" end
  if open() then return "cld2" end
  return nil, why .. "; and " .. missing
end

local MOST = 2 ^ 20  -- bytes that are looked at

-- The language by libcld2: two letters, as a rule; "un" where it cannot be told.
local function by_cld2(text)
  local lib = open()
  local reliable = ffi.new "bool[1]"
  local language = lib._ZN4CLD214DetectLanguageEPKcibPb(text, math.min(#text, MOST), true, reliable)
  return ffi.string(lib._ZN4CLD212LanguageCodeENS_8LanguageE(language))
end

local CHINESE = { ["zh-cn"] = "zh", ["zh-tw"] = "zh-Hant" }

--- Is it? What cannot be told is taken as followed, as in the reference.
-- @string text UTF-8 @string code as IFEval's prompts have it
-- @treturn ?bool nil where neither detector is there
-- @treturn ?string what is missing then
function M.is(text, code)
  local detector, why = M.detector()
  if detector == "langdetect" then
    local found = langdetect.of(text)
    return found == nil or found == code
  elseif detector then
    local found = by_cld2(letters.lower(text))  -- case tells it nothing, and confuses
    return found == (CHINESE[code] or code) or found == "un"
  end
  return nil, why
end

return M
