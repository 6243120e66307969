--- What a repository has, and which of it is wanted. Nothing here believes what a server says.
-- @module cft.io.fetch.listing

local check = require "cft.base.check"
local exit = require "cft.base.exit"
local glob = require "cft.base.glob"
local json = require "cft.base.json"
local clean = require("cft.io.fetch.session").clean

local M = {}

local MOST_FILES = 1e6
local MOST_EMPTY = 200  -- pages on which there are folders alone

--- A path as a part of a URL.
function M.encoded(text) return (text:gsub("[^%w%-%._~/]", function(c) return ("%%%02X"):format(c:byte()) end)) end

local function is_hex(text, digits) return type(text) == "string" and #text == digits and not text:find "[^0-9a-f]" end

--- The commit that a revision is. @tparam Session s
function M.commit(s)
  local o = s.o
  if is_hex(o.revision, 40) then return o.revision end
  local revision = M.encoded(o.revision):gsub("/", "%%2F")
  local info = s:get_json(("%s/api/%ss/%s/revision/%s"):format(s.endpoint, o.type, o.name, revision))
  local sha = type(info) == "table" and info.sha
  if not is_hex(sha, 40) then
    exit.fail(exit.FAILED, "%s: the answer about %s has no commit in it", s.endpoint, o.name)
  end
  return sha
end

--- Would this path stay in a folder, and be one?
function M.stays_below(path)
  if path:find "%c" or #path > 1024 then return false end
  for part in (path .. "/"):gmatch "([^/]*)/" do
    if part == "" or part == "." or part == ".." or #part > 255 then return false end
  end
  return true
end

-- A file of the listing: { path =, bytes =, digest = }; nil for a folder; nil and what is wrong.
local function file_of(entry)
  if type(entry) ~= "table" then return nil, "an entry is no object" end
  local path = entry.path
  if type(path) ~= "string" or not M.stays_below(path) then
    return nil, ("a path is %s"):format(type(path) == "string" and "'" .. clean(path) .. "'" or "no string")
  end
  if entry.type == "directory" then return nil end
  if entry.type ~= "file" then return nil, ("%s is neither file nor directory"):format(path) end
  local lfs = type(entry.lfs) == "table" and entry.lfs
  local digest, bytes = lfs and lfs.oid or entry.oid, lfs and lfs.size or entry.size
  if not is_hex(digest, lfs and 64 or 40) then return nil, path .. " has no checksum" end
  if check.problem(bytes, { "integer", min = 0 }) then return nil, path .. " has no size" end
  return { path = path, bytes = bytes, digest = digest }
end

--- All files of a commit, page by page, by path: `path`, `bytes`, `digest`. Of the next page's URL the query is taken:
-- it goes to the same endpoint, whatever a mirror's answer says.
function M.files(s, commit)
  local o = s.o
  local base = ("%s/api/%ss/%s/tree/%s"):format(s.endpoint, o.type, o.name, commit)
  local query, files, seen, empty = "recursive=true", {}, {}, 0
  local function bad(why) exit.fail(exit.FAILED, "%s: the list of files makes no sense: %s", base, why) end
  while query do
    local page, link = s:get_json(base .. "?" .. query)
    if not json.is_array(page) then bad "it is no array" end
    local before = #files
    for _, entry in ipairs(page) do
      local file, why = file_of(entry)
      if why then bad(why) end
      if file and seen[file.path] then bad(file.path .. " comes twice") end
      if file then
        seen[file.path] = true
        files[#files + 1] = file
      end
    end
    query = link and link:match '<[^>]*%?([^>%s]*)>;%s*rel="next"'
    if query and #page == 0 then bad "an empty page, and more to come" end
    empty = #files > before and 0 or empty + 1
    if empty > MOST_EMPTY then bad(("%d pages without a file"):format(empty)) end
    if #files > MOST_FILES then bad(("more than %d files"):format(MOST_FILES)) end
  end
  table.sort(files, function(a, b) return a.path < b.path end)
  return files
end

-- ---- which of it -------------------------------------------------------------------------------

-- As `hf download` reads them: * and ? stand for / too, and "folder/" is all that is in it.
local function pattern(text) return glob.pattern((text:gsub("/$", "/*")), true) end

local function fits_any(path, patterns)
  for _, p in ipairs(patterns) do
    if path:find(p) then return true end
  end
  return false
end

local function patterns(globs)
  local list_of = {}
  for i, text in ipairs(globs) do list_of[i] = pattern(text) end
  return list_of
end

--- Those that fit `o.include` or `o.files`, and not `o.exclude`.
function M.choose(files, o)
  local names, chosen = {}, {}
  for i, file in ipairs(files) do names[i] = file.path end
  local include, exclude = patterns(o.include), patterns(o.exclude)
  for _, name in ipairs(o.files) do
    local p, found = pattern(name), false
    for _, path in ipairs(names) do found = found or path:find(p) ~= nil end
    if not found then
      exit.fail(exit.MISSING, "%s has no file %s%s", o.name, name, check.suggestion(name, names))
    end
    include[#include + 1] = p
  end
  for _, file in ipairs(files) do
    if (#include == 0 or fits_any(file.path, include)) and not fits_any(file.path, exclude) then
      chosen[#chosen + 1] = file
    end
  end
  if #chosen == 0 then
    exit.fail(exit.MISSING, "%s: none of its %d files fits%s", o.name, #files,
              #names > 0 and "; it has " .. table.concat(names, ", ", 1, math.min(#names, 8)) or "")
  end
  return chosen
end

return M
