--- Which language a text is in, by Debian's libcld2 (`libcld2-0`), opened when the first text is asked about.
-- @module cft.eval.ifeval.language

local ffi = require "ffi"

local M = {}

-- CLD2 has a C++ interface: int DetectLanguage(const char *, int, bool plain, bool *reliable), const char *LanguageCode(int).
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

--- Is it there? @treturn bool @treturn ?string what is missing
function M.available()
  return open() ~= nil, missing
end

local MOST = 2 ^ 20  -- bytes that are looked at

--- The language of a text: two letters, as a rule; "un" where it cannot be told; nil where the library is missing.
-- @string text UTF-8
function M.of(text)
  local lib = open()
  if not lib then return nil end
  local reliable = ffi.new "bool[1]"
  local language = lib._ZN4CLD214DetectLanguageEPKcibPb(text, math.min(#text, MOST), true, reliable)
  return ffi.string(lib._ZN4CLD212LanguageCodeENS_8LanguageE(language))
end

return M
