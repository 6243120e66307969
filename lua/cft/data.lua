--- Sources of records: files, lists, generators, and views of them.
--
-- A source knows how many records it has and gives any of them at once: `source:get(i)`, i from 0.
-- Files stay on disk; in memory are eight bytes a record. A record that cannot be used is a *bad*
-- one: it is left out, its place and the reason are kept, and too many of them are an error.
--
-- A record that can be trained on is a conversation: `{ messages = { { role, content }, ... } }`,
-- made of either of the paper's schemas by `cft.data.conversation`. docs/data.md tells the rest.
-- @module cft.data
-- @usage local data = require "cft.data"
-- local source = data.list { { instruction = "Add.", input = "2 + 3", output = "5" } }
-- print(source:size(), source:get(0).messages[1].content)   --> 1   Add.\n2 + 3

local door = require "cft.ffi"
local blame = require "cft.blame"
local check = require "cft.check"
local exit = require "cft.exit"
local digest = require("cft.files").digest
local glob = require "cft.glob"
local hub = require "cft.hub"
local json = require "cft.json"
local ffi, C = door.ffi, door.C

local M = {}
local Source = {}
Source.__index = Source

--- From so many bytes on a file is large: where its records start is kept, see `open`.
M.LARGE = 64 * 1024 * 1024

--- The folder for what is kept of large files: `CFT_CACHE` (none where it is empty), else `cft` in
-- `XDG_CACHE_HOME` or `~/.cache`.
-- @treturn ?string
function M.cache_folder()
  local folder = os.getenv "CFT_CACHE"
  if folder then return folder ~= "" and folder or nil end
  local caches, home = os.getenv "XDG_CACHE_HOME", os.getenv "HOME"
  if caches and caches ~= "" then return caches .. "/cft" end
  return home and home ~= "" and home .. "/.cache/cft" or nil
end

-- ---- schemas ---------------------------------------------------------------------------------

-- null is how JSON says that a field is not there.
local function field(record, name)
  local value = record[name]
  if value ~= json.null then return value end
end

local function content_problem(content)
  if type(content) == "string" then return nil end
  if type(content) ~= "table" or #content == 0 then return "is no text" end
  for _, part in ipairs(content) do
    if type(part) ~= "table" or type(part.text) ~= "string" then return "has a part without text" end
  end
end

local function is_empty(content)
  if type(content) == "string" then return content == "" end
  for _, part in ipairs(content) do
    if part.text ~= "" then return false end
  end
  return true
end

local function from_messages(record, allow_empty)
  local came = field(record, "messages")
  if type(came) ~= "table" or #came == 0 then return nil, "'messages' is no list of messages" end
  local messages, wanted = {}, "user"
  for i, message in ipairs(came) do
    if type(message) ~= "table" then return nil, ("message %d is no object"):format(i) end
    local role, content = message.role, message.content
    local problem = content_problem(content)
    if problem then return nil, ("the content of message %d %s"):format(i, problem) end
    if role == "system" and i == 1 then
      messages[1] = { role = role, content = content }
    elseif role ~= wanted then
      return nil, ("message %d has the role %s where '%s' was wanted"):format(i,
        type(role) == "string" and "'" .. role .. "'" or "of type " .. type(role), wanted)
    else
      if is_empty(content) and not allow_empty then return nil, ("message %d is empty"):format(i) end
      messages[#messages + 1] = { role = role, content = content }
      wanted = role == "user" and "assistant" or "user"
    end
  end
  if wanted ~= "user" or #messages < 2 then return nil, "the last message is not the assistant's" end
  return messages
end

-- The question is `instruction` and `input`, joined by one line break where both are there.
local function from_instruction(record, allow_empty)
  local text = {}
  for _, name in ipairs { "instruction", "input", "output", "system" } do
    local value = field(record, name)
    if value ~= nil and type(value) ~= "string" then
      return nil, ("'%s' is no text but a %s"):format(name, type(value))
    end
    text[name] = value
  end
  if not text.output then return nil, "there is no 'output'" end
  if not text.instruction and not text.input then return nil, "there is no 'instruction'" end
  local question = {}
  for _, name in ipairs { "instruction", "input" } do
    if text[name] and text[name] ~= "" then question[#question + 1] = text[name] end
  end
  if not allow_empty then
    if #question == 0 then return nil, "'instruction' and 'input' are empty" end
    if text.output == "" then return nil, "'output' is empty" end
  end
  local messages = {
    { role = "user", content = table.concat(question, "\n") },
    { role = "assistant", content = text.output },
  }
  if text.system and text.system ~= "" then
    table.insert(messages, 1, { role = "system", content = text.system })
  end
  return messages
end

--- A record of one of the known schemas as a conversation.
-- `{ instruction, input, output }`, all texts; `input` may be absent, empty or null, `system` may be
-- there. Or `{ messages = { { role, content }, ... } }`: a system message first if any, then user and
-- assistant in turns, the assistant last. A content is a text, or a list of parts
-- `{ text =, kind =, learn = }` (see `cft.template`).
-- @tab record
-- @bool[opt=false] allow_empty take an empty question or answer
-- @treturn ?table `{ messages =, raw = record }`; or nil and the reason
function M.conversation(record, allow_empty)
  if type(record) ~= "table" or json.is_array(record) then return nil, "the record is no object" end
  local messages, reason
  if field(record, "messages") ~= nil then
    messages, reason = from_messages(record, allow_empty)
  elseif record.instruction ~= nil or record.output ~= nil then
    messages, reason = from_instruction(record, allow_empty)
  else
    local names = {}
    for name in pairs(record) do names[#names + 1] = tostring(name) end
    table.sort(names)
    reason = ("neither 'messages' nor 'instruction' and 'output'; its fields are: %s")
      :format(#names > 0 and table.concat(names, ", ") or "none")
  end
  if not messages then return nil, reason end
  return { messages = messages, raw = record.raw or record }
end

-- ---- bad records -----------------------------------------------------------------------------

local LISTED = 5            -- bad records that a message names
local PATIENCE = 100        -- bad ones beyond the limit after which nobody waits for the end
local RAW_BYTES = 1024 * 1024  -- of a bad record that are written to a quarantine file

local Bad = {}
Bad.__index = Bad

local function new_bad(name, limit, quarantine)
  return setmetatable({ name = name, limit = limit, quarantine = quarantine, seen = {} }, Bad)
end

local begun = {}  -- quarantine files of this process: the first record replaces what was there

-- One line of JSON; bytes that are not UTF-8 are written in hexadecimal.
local function quarantine(path, entry, raw)
  local line = { path = entry.path, record = entry.record, line = entry.line, byte = entry.byte,
    reason = entry.reason, bytes = #raw }
  raw = raw:sub(1, RAW_BYTES)
  local ok = pcall(json.encode, raw)
  if ok then
    line.raw = raw
  else
    line.raw_hex = raw:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  end
  local ok_reason = pcall(json.encode, line.reason)
  if not ok_reason then line.reason = "see raw_hex" end
  local file, why = io.open(path, begun[path] and "ab" or "wb")
  if not file then blame("quarantine: %s", why) end
  begun[path] = true
  file:write(json.encode(line), "\n")
  local closed, problem = file:close()
  if not closed then blame("quarantine: %s: %s", path, problem) end
end

function Bad:add(entry, raw)
  if self.seen[entry.record] then return end
  self.seen[entry.record] = true
  self[#self + 1] = entry
  if self.quarantine then quarantine(self.quarantine, entry, raw) end
end

function Bad:enforce()
  if #self <= self.limit then return end
  local lines = { ("%s: %d bad record%s, limit_bad = %d allows %s:"):format(self.name, #self,
    #self == 1 and "" or "s", self.limit, self.limit == 0 and "none" or "no more") }
  for i = 1, math.min(#self, LISTED) do lines[#lines + 1] = "  " .. M.describe(self[i]) end
  if #self > LISTED then lines[#lines + 1] = ("  and %d more"):format(#self - LISTED) end
  if self.quarantine then lines[#lines + 1] = "  they are kept in " .. self.quarantine end
  blame("%s", table.concat(lines, "\n"))
end

--- A bad record in one line.
-- @tab entry of `source:bad()`
-- @treturn string
function M.describe(entry)
  local place = entry.line and (", line %d, byte %d"):format(entry.line, entry.byte) or ""
  return ("%s: record %d%s: %s"):format(entry.path, entry.record, place, entry.reason)
end

-- ---- sources ---------------------------------------------------------------------------------

-- What every source has: name, n, read(i) → record or nil, where(i) → text, bad, schema, bytes, and
-- identify() → what names its records, or nil and why they have no name.
local function new_source(fields) return setmetatable(fields, Source) end

--- Is this a source?
function M.is(value) return getmetatable(value) == Source end

--- How many records there are, bad ones included.
-- @treturn int
function Source:size() return self.n end

--- How many bytes its records have in their files, about; 0 for records that are no files'.
-- @treturn number
function Source:bytes() return self.size_in_bytes or 0 end

--- A name for its records, equal for equal ones: of files by their contents, of views by what they show.
-- @treturn ?string nil where a function is in the way, which has no name; then
-- @treturn ?string which
function Source:identity() return self.identify() end

--- One record.
-- @int i from 0
-- @treturn ?table nil and the reason if it is a bad one
function Source:get(i)
  if type(i) ~= "number" or i < 0 or i >= self.n or i % 1 ~= 0 then
    blame("data: record %s of %d in %s", tostring(i), self.n, self.name)
  end
  return self.read(i)
end

--- Where a record comes from, for messages.
-- @int i
-- @treturn string such as `train.jsonl: record 12, line 13`
function Source:where(i) return self.place(i) end

--- The bad records that were met so far: `{ path, record, line, byte, reason }` each.
-- @treturn table a list
function Source:bad() return self.bad_ones end

--- Raise if more bad records were met than `limit_bad` allows.
function Source:enforce() self.bad_ones:enforce() end

--- Go through the good records in order; at the end, or when hope is lost, `enforce`.
-- @return an iterator of i and record
-- @usage for i, record in source:records() do print(i, record.messages[1].content) end
function Source:records()
  local i, bad = -1, self.bad_ones
  return function()
    while true do
      i = i + 1
      if i >= self.n or #bad > bad.limit + PATIENCE then
        bad:enforce()
        return nil
      end
      local record = self.read(i)
      if record ~= nil then return i, record end
    end
  end
end

--- Read everything once, so that nothing bad is left to find.
-- @treturn Source itself
function Source:check()
  for _ in self:records() do end
  return self
end

-- Record i of the file that holds it, and that file.
local function file_of(files, i)
  local low, high = 1, #files
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if files[middle].first <= i then low = middle else high = middle - 1 end
  end
  return files[low], i - files[low].first
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

-- A decoded record as the source gives it: by the user's function, then by the schema.
local function reader_of(options)
  local fields, schema, allow_empty = options.fields, options.schema, options.allow_empty
  return function(record)
    if fields then
      local ok, result, reason = pcall(fields, record)
      if not ok then return nil, "fields: " .. tostring(result) end
      if result == nil then return nil, reason or "fields gave nothing for it" end
      record = result
    end
    if schema == "none" then return record end
    return M.conversation(record, allow_empty)
  end
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
-- @treturn Source with `notes`, a list of what is to be said of indices
-- @usage local source = data.open("problems/*.jsonl.gz", {
--   fields = function(r) return { instruction = r.question, output = r.answer } end,
--   limit_bad = 10, quarantine = "bad.jsonl",
-- })
function M.open(path, opts)
  local o = check.options("data.open", opts, open_options)
  local files, notes, n, bytes = {}, {}, 0, 0
  local folder = o.cache or M.cache_folder()
  for _, name in ipairs(M.paths(path)) do
    local handle = open_file(name, formats[o.format], folder, o.large)
    files[#files + 1] = { path = name, handle = handle, first = n }
    n, bytes = n + tonumber(C.cft_records_count(handle)), bytes + tonumber(C.cft_records_bytes(handle))
    local note = C.cft_records_note(handle)
    if note ~= nil then notes[#notes + 1] = ffi.string(note) end
  end
  local name = o.name or (type(path) == "string" and path or ("%d files"):format(#files))
  if n == 0 then blame("%s: no records in it", name) end

  local read_record, bad = reader_of(o), new_bad(name, o.limit_bad, o.quarantine)
  local one, line = ffi.new "cft_record", ffi.new "int64_t[1]"

  local function note(i, reason)
    local file, k = file_of(files, i)
    door.check(C.cft_records_get(file.handle, k, one))  -- again: `fields` may have read another one
    door.check(C.cft_records_line(file.handle, k, line))
    local entry = { path = file.path, record = i, reason = reason }
    if line[0] > 0 then entry.line, entry.byte = tonumber(line[0]), tonumber(one.byte) end
    bad:add(entry, ffi.string(one.text, one.bytes))
  end

  local source
  source = new_source {
    name = name, n = n, files = files, bad_ones = bad, schema = o.schema, size_in_bytes = bytes, notes = notes,
    identify = function()
      if o.fields then return nil, "fields is a function, and a function has no name" end
      return ("files %s %s %s"):format(source:hash(), o.schema, tostring(o.allow_empty))
    end,
    read = function(i)
      local file, k = file_of(files, i)
      door.check(C.cft_records_get(file.handle, k, one))
      local record, reason
      if one.reason ~= nil then
        reason = ffi.string(one.reason)
      else
        record, reason = json.decode(one.text, one.bytes)
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
  return source
end

--- Records that are in memory.
-- @tab records a list, of a known schema or with `opts.fields`
-- @tab[opt] opts `fields`, `schema`, `limit_bad`, `quarantine`, `allow_empty`, `name` of `open`
-- @treturn Source
function M.list(records, opts)
  check.value("data.list", "records", records, { "table" })
  if #records == 0 then blame "data.list: no records" end
  local named = { name = "list" }
  for name, value in pairs(opts or {}) do named[name] = value end
  return M.generate(#records, function(i) return records[i + 1] end, named)
end

local generate_options = {
  fields = open_options.fields, schema = open_options.schema, limit_bad = open_options.limit_bad,
  quarantine = open_options.quarantine, allow_empty = open_options.allow_empty,
  name = { "string", "generated" },
}

--- Records that a function makes when they are asked for.
-- @int n how many
-- @func make gets i from 0, returns the record; always the same for the same i
-- @tab[opt] opts as in `list`
-- @treturn Source
function M.generate(n, make, opts)
  check.value("data.generate", "n", n, { "integer", min = 1 })
  check.value("data.generate", "make", make, { "function" })
  local o = check.options("data.generate", opts, generate_options)
  local read_record, bad = reader_of(o), new_bad(o.name, o.limit_bad, o.quarantine)
  return new_source {
    name = o.name, n = n, bad_ones = bad, schema = o.schema,
    identify = function() return nil, "its records are made by a function" end,
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

-- ---- views -----------------------------------------------------------------------------------

local hash = ffi.new "uint8_t[16]"
local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- A view of another source: its record i is record index(i) there. `shows` says which, as a text.
local function view(parent, n, index, name, shows)
  return new_source {
    name = name or parent.name, n = n, bad_ones = parent.bad_ones, schema = parent.schema,
    size_in_bytes = parent:bytes() * n / math.max(parent.n, 1), notes = parent.notes,
    identify = function()
      local whole, why = parent:identity()
      if not whole then return nil, why end
      return whole .. "\n" .. shows()
    end,
    read = function(i) return parent.read(index(i)) end,
    place = function(i) return parent.place(index(i)) end,
  }
end

--- The records of these numbers, in this order.
-- @tab numbers a list of integers from 0
-- @string[opt] name
-- @treturn Source
function Source:select(numbers, name)
  local n = #numbers
  local kept = ffi.new("int64_t[?]", math.max(n, 1))
  for k = 1, n do
    local i = numbers[k]
    if type(i) ~= "number" or i < 0 or i >= self.n or i % 1 ~= 0 then
      blame("select: record %s of %d in %s", tostring(i), self.n, self.name)
    end
    kept[k - 1] = i
  end
  return view(self, n, function(i) return tonumber(kept[i]) end, name, function()
    return ("select %d %s"):format(n, hex(digest(kept, 8 * n)))
  end)
end

--- `count` records from `first` on.
-- @int first from 0
-- @int[opt] count all that follow if absent
-- @treturn Source
function Source:range(first, count)
  count = count or self.n - first
  if first < 0 or count < 0 or first + count > self.n then
    blame("range: %d records from %d, of %d in %s", count, first, self.n, self.name)
  end
  return view(self, count, function(i) return first + i end, nil,
    function() return ("range %d %d"):format(first, count) end)
end

--- The records for which `keep(record, i)` is true. Reads all of them once.
-- @func keep
-- @treturn Source
function Source:filter(keep)
  local numbers = {}
  for i, record in self:records() do
    if keep(record, i) then numbers[#numbers + 1] = i end
  end
  return self:select(numbers)
end

--- Another record for each one, made when it is asked for.
-- @func make gets record and number, returns a record of the same schema
-- @treturn Source
function Source:map(make)
  local parent = self
  local read_record = reader_of { schema = self.schema, allow_empty = true }
  local mapped = view(self, self.n, function(i) return i end)
  mapped.identify = function() return nil, "map is a function, and a function has no name" end
  mapped.read = function(i)
    local record, reason = parent.read(i)
    if record == nil then return nil, reason end
    local made, why = make(record, i)
    if made ~= nil then made, why = read_record(made) end
    if made == nil then blame("map: %s: %s", parent.place(i), why or "nothing came for it") end
    return made
  end
  return mapped
end

--- All that stands before the answer: two records with equal prompts ask the same.
-- @tab record a conversation
-- @treturn string
function M.prompt(record)
  local texts = {}
  for k = 1, #record.messages - 1 do
    local message = record.messages[k]
    local content = message.content
    if type(content) == "table" then
      local parts = {}
      for i, part in ipairs(content) do parts[i] = part.text end
      content = table.concat(parts)
    end
    texts[#texts + 1] = message.role .. "\0" .. content
  end
  return table.concat(texts, "\0")
end

--- Two sources of one: some records are held out, and nothing of them is left in the other.
-- Records are grouped by a key, by default their prompt, and a group goes to one side whole. Groups
-- are taken in an order drawn by `seed` as long as they fit.
-- @tab opts
-- @number opts.heldout how many records to hold out; below 1 a share of all
-- @func[opt] opts.by record → key (a string or number)
-- @int[opt=0] opts.seed
-- @treturn Source the rest
-- @treturn Source what is held out: at most `heldout` records
-- @usage local train, heldout = source:split { heldout = 60 }
function Source:split(opts)
  local o = check.options("split", opts, {
    heldout = { "number", min = 0 }, by = { "function", M.prompt }, seed = { "integer", 0, min = 0 },
  })
  local groups, group_of, good = {}, {}, 0
  for i, record in self:records() do
    local key = o.by(record, i)
    if type(key) ~= "string" and type(key) ~= "number" then
      blame("split: by gave a %s for %s; a string or number is wanted", type(key), self.place(i))
    end
    key = digest(tostring(key))  -- prompts are long, and there may be many
    local group = group_of[key]
    if not group then
      group = {}
      group_of[key] = group
      groups[#groups + 1] = group
    end
    group[#group + 1] = i
    good = good + 1
  end
  local wanted = o.heldout < 1 and math.floor(o.heldout * good + 0.5) or math.floor(o.heldout)
  local held, count = {}, 0
  for k = 0, #groups - 1 do
    local group = groups[tonumber(C.cft_order_at(o.seed, 0, k, #groups)) + 1]
    if count + #group <= wanted then
      for _, i in ipairs(group) do held[i] = true end
      count = count + #group
    end
  end
  local train, heldout = {}, {}
  for _, group in ipairs(groups) do
    for _, i in ipairs(group) do
      local side = held[i] and heldout or train
      side[#side + 1] = i
    end
  end
  if #train == 0 or (wanted > 0 and #heldout == 0) then
    blame("split: %d of %d records in %d groups cannot be held out of %s", wanted, good, #groups,
      self.name)
  end
  table.sort(train)
  table.sort(heldout)
  return self:select(train), self:select(heldout, self.name .. " (held out)")
end

--- What the files hold, as 32 hexadecimal digits: equal contents, equal digits. For sources of
-- files; nil for others.
-- @treturn ?string
function Source:hash()
  if not self.files then return nil end
  local texts = {}
  for k, file in ipairs(self.files) do
    C.cft_records_hash(file.handle, hash)
    texts[k] = ffi.string(hash, 16)
  end
  return hex(#texts == 1 and texts[1] or digest(table.concat(texts)))
end

-- ---- paths -----------------------------------------------------------------------------------

local extensions = { ".json", ".jsonl", ".ndjson", ".csv", ".parquet" }

local function is_data_file(name)
  name = name:gsub("%.gz$", ""):gsub("%.zst$", "")
  for _, extension in ipairs(extensions) do
    if name:sub(-#extension) == extension and name:sub(1, 1) ~= "." then return true end
  end
  return false
end

local function look(path)
  local kind = C.cft_path_look(path, nil)
  return kind == C.CFT_PATH_FOLDER and "folder" or kind == C.CFT_PATH_FILE and "file" or nil
end

local function names_in(folder)
  local out = ffi.new "cft_names *[1]"
  if C.cft_folder_list(out, folder) ~= C.CFT_OK then return {} end
  local list = ffi.gc(out[0], C.cft_names_release)
  local names = {}
  for i = 0, tonumber(C.cft_names_count(list)) - 1 do
    names[#names + 1] = ffi.string(C.cft_names_at(list, i))
  end
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
function M.find(path)
  local kind = look(path)
  if kind == "file" then return { path } end
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
