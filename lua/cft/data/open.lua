--- Sources of records: files, lists, generators, and views of them.
--
-- A source knows how many records it has and gives any of them at once: `source:get(i)`, i from 0.
-- Files stay on disk; in memory are eight bytes a record. A record that cannot be used is a *bad*
-- one: it is left out, its place and the reason are kept, and too many of them are an error.
--
-- A record that can be trained on is a conversation: `{ messages = { { role, content }, ... } }`,
-- made of either of the paper's schemas by `cft.data.conversation`. docs/data.md tells the rest.
-- @module cft.data.open
-- @usage local data = require "cft.data.open"
-- local source = data.list { { instruction = "Add.", input = "2 + 3", output = "5" } }
-- print(source:size(), source:get(0).messages[1].content)   --> 1   Add.\n2 + 3

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local canonical = require "cft.base.canonical"
local check = require "cft.base.check"
local conversation = require "cft.data.conversation"
local exit = require "cft.base.exit"
local glob = require "cft.base.glob"
local hash = require "cft.io.hash"
local hub = require "cft.io.hub"
local json = require "cft.base.json"
local sources = require "cft.data.source"
local splits = require "cft.io.splits"
local ffi, C = door.ffi, door.C

local M = {}

-- What tools take is written with its keys in order: records that hold this keep it.
local ORDERED = '"tool'

--- What its parts do, by the names that users of this module know: see `cft.data.source` and `cft.data.conversation`.
M.is, M.describe, M.conversation, M.prompt = sources.is, sources.describe, conversation.of, conversation.prompt

--- From so many bytes on a file is large: where its records start is kept, see `open`.
M.LARGE = 64 * 1024 * 1024

local path_room = ffi.new "char[4096]"

--- The folder for what is kept of large files: `CFT_CACHE` (none where it is empty), else `cft` in
-- `XDG_CACHE_HOME` or `~/.cache`.
-- @treturn ?string
-- @usage cft.data.cache_folder()   -- "/home/me/.cache/cft"
function M.cache_folder()
  local n = C.cft_cache_folder(path_room, ffi.sizeof(path_room))
  return n > 0 and ffi.string(path_room, n) or nil
end

--- The path of a file without links and dots, by which two names of one file are told; the path itself where there is
-- no such folder.
-- @string path the file need not be there, its folder must
-- @treturn string
-- @usage cft.data.real "/tmp/../tmp/a.jsonl"   --> "/tmp/a.jsonl"
function M.real(path)
  if C.realpath(path, path_room) ~= nil then return ffi.string(path_room) end
  local folder, name = path:match "^(.*/)([^/]+)$"
  if C.realpath(folder or ".", path_room) == nil then return path end
  return ffi.string(path_room) .. "/" .. (name or path)
end

-- ---- sources ---------------------------------------------------------------------------------

-- Record i of the file that holds it, and that file.
local function file_of(files, i)
  local low, high = 1, #files
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if files[middle].first <= i then low = middle else high = middle - 1 end
  end
  return files[low], i - files[low].first
end

-- What the files hold, as 32 hexadecimal digits.
local function hash_of(files)
  local texts, digest = {}, ffi.new "uint8_t[16]"
  for k, file in ipairs(files) do
    C.cft_records_hash(file.handle, digest)
    texts[k] = ffi.string(digest, 16)
  end
  return hash.hex(#texts == 1 and texts[1] or hash.digest(table.concat(texts)))
end

-- Each of the files, for the record of a run.
local function list_of(files)
  local list, digest = {}, ffi.new "uint8_t[16]"
  for k, file in ipairs(files) do
    C.cft_records_hash(file.handle, digest)
    list[k] = { path = file.path, bytes = tonumber(C.cft_records_bytes(file.handle)), hash = hash.hex(ffi.string(digest, 16)),
                records = tonumber(C.cft_records_count(file.handle)) }
  end
  return list
end

local function open_file(path, format, folder, large)
  local out = ffi.new "cft_records *[1]"
  door.check(C.cft_records_open_kept(out, path, format, folder and folder .. "/index" or nil, large))
  return ffi.gc(out[0], C.cft_records_release)
end

local formats = {
  auto = C.CFT_RECORDS_AUTO, jsonl = C.CFT_RECORDS_JSONL, json = C.CFT_RECORDS_JSON,
  csv = C.CFT_RECORDS_CSV, parquet = C.CFT_RECORDS_PARQUET,
}

-- A decoded record as the source gives it: by the user's function, then by the schema. `made_by` names the function
-- that makes the records themselves, if one does.
local function reader_of(options, made_by)
  local fields, schema, allow_empty = options.fields, options.schema, options.allow_empty
  local made = made_by and { name = made_by, from = {} }
  return function(record)
    local by = made
    if fields then
      by = { name = "fields", from = type(record) == "table" and record or {} }
      local ok, result, reason = pcall(fields, record)
      if not ok then
        if exit.is_interrupt(result) then error(result, 0) end  -- no fault of the record
        return nil, "fields: " .. (type(result) == "string" and result or ("an error that is a %s, not a message"):format(type(result)))
      end
      if result == nil then return nil, reason or "fields gave nothing for it" end
      record = result
    end
    if schema == "none" then return record end
    return M.conversation(record, allow_empty, by)
  end
end

-- What `map` makes of a record of the source is held to its schema, and may be empty.
local function accept_of(options) return reader_of({ schema = options.schema, allow_empty = true }, "map") end

-- How records are read, as a text. @treturn ?string nil and why there is none
local function read_as(o, exact)
  return canonical.join("%s %s %s", { o.schema or "chat" }, { tostring(o.allow_empty or false) },
    { canonical.text(o.fields, { what = "fields", exact = exact }) })
end

local open_options = {
  format = { "string", "auto", one_of = { "auto", "jsonl", "json", "csv", "parquet" } },
  fields = { "function", optional = true },
  schema = { "string", "chat", one_of = { "chat", "none" } },
  limit_bad = { "integer", 0, min = 0 },
  quarantine = { "string", optional = true },
  allow_empty = { "boolean", false },
  name = { "string", optional = true },
  cache = { "string", optional = true },
  large = { "integer", M.LARGE, min = 0 },
}

--- Open files of records.
-- @param path a file, a folder, a pattern such as `"data/*.jsonl.zst"`, the name of a data set in the
-- Hub's cache (`"Org/Name"`, `"Org/Name:config:split"`), or a list of these: JSON arrays, JSONL or CSV,
-- as they are or compressed by gzip or zstd, and Parquet. Files of a pattern or folder are taken in
-- the order of their names.
-- @tab[opt] opts
-- @string[opt="auto"] opts.format `jsonl` for a record a line, `json` for one array, `csv`, `parquet`
-- @func[opt] opts.fields for other field names: gets the decoded record, returns one of a known
-- schema; or nil and a reason, which makes it a bad record
-- @string[opt="chat"] opts.schema `none` gives records as they are
-- @int[opt=0] opts.limit_bad so many bad records are left out before it is an error
-- @string[opt] opts.quarantine a file that receives bad records with their reasons, one JSON object
-- a line
-- @bool[opt=false] opts.allow_empty take empty questions and answers
-- @string[opt] opts.name what the source is called in tables and messages
-- @int[opt=64 MiB] opts.large of plain files from so many bytes on an index is kept, so that they open at once
-- @string[opt] opts.cache the folder for it; that of `cache_folder` if absent
-- @treturn Source with `notes`, a list of what is to be said of indices, and of files without records
-- @usage cft.files.write(path, '{"question": "2 + 3?", "answer": "5"}\n')
-- cft.data.open(path, {
--   fields = function(r) return { instruction = r.question, output = r.answer } end,
--   limit_bad = 10,
-- }):get(0).messages[2].content   --> "5"
function M.open(path, opts)
  local o = check.options("data.open", opts, open_options)
  local files, notes, n, bytes = {}, {}, 0, 0
  local folder = o.cache or M.cache_folder()
  for _, name in ipairs(M.paths(path)) do
    local handle = open_file(name, formats[o.format], folder, o.large)
    files[#files + 1] = { path = name, handle = handle, first = n }
    n, bytes = n + tonumber(C.cft_records_count(handle)), bytes + tonumber(C.cft_records_bytes(handle))
    if C.cft_records_count(handle) == 0 then notes[#notes + 1] = name .. ": no records in it" end
    local note = C.cft_records_note(handle)
    if note ~= nil then notes[#notes + 1] = ffi.string(note) end
  end
  local name = o.name or (type(path) == "string" and path or ("%d files"):format(#files))
  if n == 0 then blame("%s: no records in it", name) end

  local read_record, bad = reader_of(o), sources.new_bad(name, o.limit_bad, o.quarantine)
  local one, line = ffi.new "cft_record", ffi.new "int64_t[1]"

  local function note(i, reason)
    local file, k = file_of(files, i)
    door.check(C.cft_records_get(file.handle, k, one))  -- again: `fields` may have read another one
    door.check(C.cft_records_line(file.handle, k, line))
    local entry = { path = file.path, record = i, reason = reason }
    if line[0] > 0 then entry.line, entry.byte = tonumber(line[0]), tonumber(one.byte) end
    bad:add(entry, ffi.string(one.text, one.bytes))
  end

  return sources.new {
    name = name, n = n, bad_ones = bad, accept = accept_of(o), size_in_bytes = bytes, notes = notes,
    hash_files = function() return hash_of(files) end, list_files = function() return list_of(files) end,
    identify = function(exact) return canonical.join("files %s %s", { hash_of(files) }, { read_as(o, exact) }) end,
    read = function(i)
      local file, k = file_of(files, i)
      door.check(C.cft_records_get(file.handle, k, one))
      local record, reason
      if one.reason ~= nil then
        reason = ffi.string(one.reason)
      else
        record, reason = json.decode(one.text, one.bytes, ORDERED)
        if reason == nil then record, reason = read_record(record) end
      end
      if record ~= nil then return record end
      note(i, reason)
      return nil, reason
    end,
    place = function(i)
      local file, k = file_of(files, i)
      door.check(C.cft_records_line(file.handle, k, line))
      local at_line = line[0] > 0 and (", line %d"):format(tonumber(line[0])) or ""
      return ("%s: record %d%s"):format(file.path, i, at_line)
    end,
  }
end

local generate_options = { name = { "string", "generated" } }
for _, name in ipairs { "fields", "schema", "limit_bad", "quarantine", "allow_empty" } do
  generate_options[name] = open_options[name]
end

-- Records of a function, with options that were checked; `made_by` as in `reader_of`.
local function generated(n, make, o, made_by)
  local read_record, bad = reader_of(o, made_by), sources.new_bad(o.name, o.limit_bad, o.quarantine)
  return sources.new {
    name = o.name, n = n, bad_ones = bad, accept = accept_of(o),
    identify = function(exact)
      if exact then return nil, "its records are made by a function" end
      return canonical.join("generated %s %s %s", { n }, { canonical.text(make, { what = "generate" }) },
        { read_as(o) })
    end,
    read = function(i)
      local made = make(i)
      local record, reason = read_record(made)
      if record ~= nil then return record end
      local ok, raw = pcall(json.encode, made)
      bad:add({ path = o.name, record = i, reason = reason }, ok and raw or tostring(made))
      return nil, reason
    end,
    place = function(i) return ("%s: record %d"):format(o.name, i) end,
  }
end

--- Records that are in memory.
-- @tab records a list, of a known schema or with `opts.fields`
-- @tab[opt] opts `fields`, `schema`, `limit_bad`, `quarantine`, `allow_empty`, `name` of `open`
-- @treturn Source
-- @usage cft.data.list({ { q = "2 + 3?" } }, { schema = "none" }):get(0).q   --> "2 + 3?"
function M.list(records, opts)
  check.value("data.list", "records", records, { "table" })
  if #records == 0 then blame "data.list: no records" end
  local named = { name = "list" }
  for name, value in pairs(opts or {}) do named[name] = value end
  local o = check.options("data.list", named, generate_options)
  local source = generated(#records, function(i) return records[i + 1] end, o)
  source.identify = function(exact)
    return canonical.join("list %s %s", { canonical.text(records, { what = "a record", exact = exact }) },
      { read_as(named, exact) })
  end
  return source
end

--- Records that a function makes when they are asked for.
-- @int n how many
-- @func make gets i from 0, returns the record; always the same for the same i
-- @tab[opt] opts as in `list`
-- @treturn Source
-- @usage local function problem(i) return { instruction = i .. " + 1?", output = tostring(i + 1) } end
-- local sums = cft.data.generate(100, problem)
-- sums:get(7).messages[2].content   --> "8"
function M.generate(n, make, opts)
  check.value("data.generate", "n", n, { "integer", min = 1 })
  check.value("data.generate", "make", make, { "function" })
  return generated(n, make, check.options("data.generate", opts, generate_options), "generate")
end

-- ---- paths -----------------------------------------------------------------------------------

local extensions = { ".json", ".jsonl", ".ndjson", ".csv", ".parquet" }

local function is_data_file(name)
  if splits.no_data[name] then return false end
  name = name:gsub("%.gz$", ""):gsub("%.zst$", "")
  for _, extension in ipairs(extensions) do
    if name:sub(-#extension) == extension and name:sub(1, 1) ~= "." then return true end
  end
  return false
end

local function look(path)
  local kind = C.cft_path_look(path, nil)
  return kind == C.CFT_PATH_FOLDER and "folder" or kind == C.CFT_PATH_FILE and "file" or kind == C.CFT_PATH_OTHER and "other" or nil
end

local function names_in(folder)
  local out = ffi.new "cft_names *[1]"
  if C.cft_folder_list(out, folder) ~= C.CFT_OK then return {} end
  local list = ffi.gc(out[0], C.cft_names_release)
  local names = {}
  for i = 1, tonumber(C.cft_names_count(list)) do names[i] = ffi.string(C.cft_names_at(list, i - 1)) end
  return names
end

-- Every path that a pattern stands for, a folder level at a time.
local function expand(pattern)
  local found = { pattern:sub(1, 1) == "/" and "/" or "" }
  for part in pattern:gmatch "[^/]+" do
    local deeper = {}
    for _, base in ipairs(found) do
      if glob.is(part) then
        local matches = glob.pattern(part)
        for _, name in ipairs(names_in(base == "" and "." or base)) do
          if name:find(matches) and (name:sub(1, 1) ~= "." or part:sub(1, 1) == ".") then
            deeper[#deeper + 1] = base .. name .. "/"
          end
        end
      elseif look(base .. part) then
        deeper[#deeper + 1] = base .. part .. "/"
      end
    end
    found = deeper
  end
  local files = {}
  for _, path in ipairs(found) do
    path = path:sub(1, -2)
    if look(path) == "file" then files[#files + 1] = path end
  end
  return files
end

--- Look for what a path stands for, as `paths` does.
-- @string path
-- @treturn ?table files; nil where there is none
-- @treturn ?string then: what was looked for, and where
-- @usage cft.files.write(path, "{}\n")
-- #cft.data.find(path), cft.data.find "nowhere/*.jsonl"   --> 1 nil "nowhere/*.jsonl: no file has such a name"
function M.find(path)
  local kind = look(path)
  if kind == "file" then return { path } end
  if kind == "other" then return nil, path .. ": is a pipe or a device; a file or a folder is wanted" end
  local files, problem = {}, nil
  if kind == "folder" then
    for _, name in ipairs(names_in(path)) do
      local file = path:gsub("/+$", "") .. "/" .. name
      if is_data_file(name) and look(file) == "file" then files[#files + 1] = file end
    end
    problem = ("%s: no file in this folder ends in %s (or these and .gz, .zst)"):format(path,
      table.concat(extensions, ", "))
  elseif glob.is(path) then
    files, problem = expand(path), path .. ": no file has such a name"
  else
    local found, why = hub.dataset(path, is_data_file)
    files, problem = found or {}, path .. ": no such file" .. (why and ", and " .. why or "")
  end
  if #files > 0 then return files end
  return nil, problem
end

--- The files that a path stands for; an error with exit code 4 where there is none.
-- @param path a file, a folder (its `.json`, `.jsonl`, `.ndjson`, `.csv`, also `.gz` and `.zst`, and
-- `.parquet`), a pattern with `*`, `?` or `[...]`, a data set in the Hub's cache (see
-- `cft.hub.dataset`), or a list of these
-- @treturn table sorted by name within each of them
-- @usage cft.files.write(path, "{}\n")
-- #cft.data.paths(path)   --> 1
function M.paths(path)
  if type(path) == "table" then
    local all = {}
    for _, one in ipairs(path) do
      for _, file in ipairs(M.paths(one)) do all[#all + 1] = file end
    end
    return all
  end
  check.value("data.open", "path", path, { "string|table" })
  local files, problem = M.find(path)
  if not files then exit.fail(exit.MISSING, "%s", problem) end
  return files
end

return M
