--- Token ids kept between runs.
--
-- What a record becomes is kept under a hash of its text, in a folder named by a hash of all else that it
-- depends on: template, tokenizer, length policy, program. So nothing in it can be out of date: what
-- changed has another name. A folder has blocks; a block is a file named by the hash of its bytes, written
-- once, whole or not at all. A run that dies loses its last block, and ranks may share a folder.
-- @module cft.tokencache

local door = require "cft.ffi"
local files = require "cft.files"
local host = require "cft.host"
local json = require "cft.json"
local template = require "cft.template"
local ffi = door.ffi

local M = {}
local Cache = {}
Cache.__index = Cache

local BLOCK_BYTES = 8 * 1024 * 1024
local KINDS = 6  -- kinds of text up to this number mean the same in every process

-- ---- names -----------------------------------------------------------------------------------

-- A value as a text, equal for equal values; nil if it holds a function, which has no name.
local function spelled(value)
  if value == template.content then return "content" end
  if value == template.parts then return "parts" end
  if type(value) == "function" then return nil end
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" then return ("%.17g"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for k, v in pairs(value) do
    local name, text = spelled(k), spelled(v)
    if not name or not text then return nil end
    parts[#parts + 1] = ("[%s]=%s"):format(name, text)
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

-- The tokenizer as it is now, tokens that were added to it included.
local function tokenizer_hash(tok)
  local folder = os.tmpname()
  os.remove(folder)
  tok:save(folder)
  local hash = files.hash_file(folder .. "/tokenizer.json")
  files.remove(folder)
  return ("%s %s %s"):format(hash, tostring(tok.bos), tostring(tok.eos))
end

-- This program: its file, and Lua files that are taken in place of those inside it.
local function program_hash()
  local parts = { host.version, host.kind "/proc/self/exe" and files.hash_file "/proc/self/exe" or "" }
  local edited = os.getenv "CFT_LUA_PATH"
  for _, module in ipairs { "data", "template", "mask", "scan", "tokenizer", "tokencache" } do
    local path = edited and ("%s/cft/%s.lua"):format(edited, module)
    if path and host.kind(path) then parts[#parts + 1] = files.hash_file(path) end
  end
  return table.concat(parts, " ")
end

-- What names a record: all that a template of texts looks at. nil where a weight is a function.
local function key_of(record)
  local parts = {}
  for _, message in ipairs(record.messages) do
    local content = message.content
    if type(content) == "table" then content = spelled(content) end
    if not content then return nil end
    parts[#parts + 1] = ("%s %s %d\n"):format(type(message.content), message.role, #content)
    parts[#parts + 1] = content
  end
  return files.digest(table.concat(parts))
end

-- ---- blocks ----------------------------------------------------------------------------------

local function header_of(name) return ("cft tokens 1 %s\n"):format(name) end

local sizes = ffi.new "uint32_t[2]"  -- bytes of the description, number of ids

-- Note where the entries of a block are. An entry: 16 bytes of key, two sizes, description, ids.
local function index(self, path, text)
  local at, count = #self.header, 0
  while at + 24 <= #text do
    ffi.copy(sizes, ffi.cast("const char *", text) + at + 16, 8)
    local bytes, n = tonumber(sizes[0]), tonumber(sizes[1])
    self.entries[text:sub(at + 1, at + 16)] = { path = path, at = at + 24, bytes = bytes, n = n }
    at, count = at + 24 + bytes + 4 * n, count + 1
  end
  return count
end

-- The description and the ids of an entry. The file that was read last stays open, since entries are
-- mostly asked for in order.
local function read_entry(self, entry)
  if self.path ~= entry.path then
    if self.file then self.file:close() end
    self.path, self.file = entry.path, io.open(entry.path, "rb")
  end
  if not self.file then return nil end  -- removed by somebody
  self.file:seek("set", entry.at)
  local described, ids = self.file:read(entry.bytes), entry.n > 0 and self.file:read(4 * entry.n) or ""
  if described and ids and #described == entry.bytes and #ids == 4 * entry.n then return described, ids end
end

local function read_block(self, name)
  local path = self.folder .. "/" .. name .. ".tokens"
  local file, why = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  if not text then
    self.broken[#self.broken + 1] = why or path .. ": cannot be read"
  elseif files.hash(text) ~= name then
    self.broken[#self.broken + 1] = ("%s: its %d bytes are not those that were written"):format(path, #text)
  elseif text:sub(1, #self.header) ~= self.header then
    self.broken[#self.broken + 1] = path .. ": was made with another template, tokenizer, policy or program"
  else
    self.found = self.found + index(self, path, text)
  end
end

--- Write what has been gathered since the last block.
function Cache:flush()
  if #self.pending == 0 then return end
  local text = self.header .. table.concat(self.pending)
  local path = ("%s/%s.tokens"):format(self.folder, files.hash(text))
  files.write(path, text)
  index(self, path, text)
  self.pending, self.pending_bytes = {}, 0
end

-- ---- a cache ---------------------------------------------------------------------------------

--- A name for all that a sample depends on besides its record.
-- @tparam Template chat @param tok @tab policy
-- @treturn ?string nil and why where there can be none
function M.name(chat, tok, policy)
  local described = spelled(chat)
  if not described then return nil, "the template has functions of the recipe, and a function has no name" end
  return files.hash(table.concat({ program_hash(), described, tokenizer_hash(tok), spelled(policy) }, "\n"))
end

--- Open the cache for these settings.
-- @string folder of all caches
-- @tparam Template chat @param tok
-- @tab policy numbers, strings and tables of these: what a sample depends on besides
-- @treturn ?Cache `found` entries, and a list of `broken` blocks, which are left out; who uses it counts what
-- it has `taken`. Or nil and why there can be none
function M.open(folder, chat, tok, policy)
  local name, why = M.name(chat, tok, policy)
  if not name then return nil, why end
  local self = setmetatable({ folder = folder .. "/" .. name, header = header_of(name), entries = {}, found = 0,
    taken = 0, added = 0, broken = {}, pending = {}, pending_bytes = 0 }, Cache)
  host.make_folders(self.folder)
  for _, file in ipairs(host.list(self.folder) or {}) do
    local block = file:match "^(%x+)%.tokens$"
    if block then read_block(self, block) end
  end
  return self
end

--- The name of a record; nil for one that cannot be kept.
function Cache:key(record) return key_of(record) end

--- What is kept under a name.
-- @string key
-- @treturn ?table the sample; nil where there is none, with the reason and class of a record that makes none
function Cache:get(key)
  local entry = self.entries[key]
  local described, ids
  if entry then described, ids = read_entry(self, entry) end
  local sample = described and json.decode(described)
  if not sample then return nil end  -- it is made again
  if sample.class then return nil, sample.why, sample.class end
  local list, count, n = sample.spans, #sample.spans / 3, 0
  sample.spans, sample.span_count = ffi.new("cft_batch_span[?]", count), count
  for i = 0, count - 1 do
    local span = sample.spans[i]
    span.count, span.weight, span.kind = list[3 * i + 1], list[3 * i + 2], list[3 * i + 3]
    n = n + list[3 * i + 1]
  end
  if n ~= entry.n then return nil end
  sample.n, sample.ids = n, ffi.new("int32_t[?]", n)
  ffi.copy(sample.ids, ids, 4 * n)
  return sample
end

--- Keep a sample, or why there is none.
-- @string key
-- @tab[opt] sample with `specials` and `prefix` as `cft.mask` found them
-- @string[opt] why @string[opt] class
function Cache:put(key, sample, why, class)
  local kept, ids, n = { why = why, class = class }, "", 0
  if sample then
    local spans = {}
    for i = 0, sample.span_count - 1 do
      local span = sample.spans[i]
      if span.kind > KINDS then return end
      spans[3 * i + 1], spans[3 * i + 2], spans[3 * i + 3] = tonumber(span.count), span.weight, span.kind
    end
    n, ids = sample.n, ffi.string(sample.ids, 4 * sample.n)
    kept = { spans = json.array(spans), cut = sample.cut, whole = sample.whole, ends = sample.ends,
             verdict = sample.verdict, specials = sample.specials, prefix = sample.prefix }
  end
  local described = json.encode(kept)
  sizes[0], sizes[1] = #described, n
  local entry = key .. ffi.string(sizes, 8) .. described .. ids
  self.pending[#self.pending + 1] = entry
  self.pending_bytes, self.added = self.pending_bytes + #entry, self.added + 1
  if self.pending_bytes >= BLOCK_BYTES then self:flush() end
end

--- What it gave and got, a line each.
-- @treturn string
function Cache:describe()
  local lines = { ("token cache %s: %d records taken, %d added"):format(self.folder, self.taken, self.added) }
  for _, why in ipairs(self.broken) do lines[#lines + 1] = "  left out: " .. why end
  return table.concat(lines, "\n")
end

return M
