--- Token ids kept between runs.
--
-- What a record becomes is kept under a hash of its text, in a folder named by a hash of all else that it
-- depends on: template, tokenizer, length policy, program. So nothing in it can be out of date: what
-- changed has another name. A folder has blocks; a block is a file named by the hash of its bytes, written
-- once, whole or not at all. A run that dies loses its last block, and processes may share a folder.
--
-- A block is a line that says whose it is, entries, a list of them, and a footer with a hash of that list. It is
-- mapped, and of it only the list is read, and checked, before somebody asks for an entry; that is checked when
-- it is taken. In memory is one table of all blocks' entries, 8 bytes a slot; keys are compared where they lie.
-- @module cft.samples.tokencache

local door = require "cft.engine.ffi"
local files = require "cft.io.files"
local host = require "cft.host"
local identity = require "cft.samples.identity"
local json = require "cft.base.json"
local template = require "cft.text.template"

local C, ffi = door.C, door.ffi

local M = {}
local Cache = {}
Cache.__index = Cache

M.BLOCKS = 32768  -- that are mapped: a process may have twice as many maps in all, and needs others

local BLOCK_BYTES = 8 * 1024 * 1024
local KINDS = 6      -- kinds of text up to this number mean the same in every process
local PROBES = 1024  -- slots that are looked at for a key
local LOAD = 0.75    -- of the slots are taken at most

-- ---- names -----------------------------------------------------------------------------------

-- A value as a text, equal for equal values; nil if it holds a function, which has no name.
local function spelled(value)
  if value == template.content then return "content" end
  if value == template.system then return "system" end
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

-- ---- entries ---------------------------------------------------------------------------------
-- Eight bytes of the hash of what follows, a head, the spans, the ids, a text of JSON for what is rare, and
-- zeros up to a multiple of eight bytes.

local Head = ffi.typeof "struct { uint32_t n, spans, rest, whole, cut, flags; }"
local head_at = ffi.typeof("const $ *", Head)
local spans_at, ids_at = ffi.typeof "const cft_batch_span *", ffi.typeof "const int32_t *"
local DIGEST, HEAD, SPAN = 8, ffi.sizeof(Head), ffi.sizeof "cft_batch_span"
local NO_SAMPLE, ENDS, PREFIX, JUDGED, RIGHT = 1, 2, 4, 8, 16  -- flags
local function has(flags, flag) return bit.band(flags, flag) ~= 0 end

local digest = ffi.new "uint8_t[16]"

-- Are these the bytes that were written?
local function is_whole(entry, bytes)
  C.cft_bytes_hash(digest, entry + DIGEST, bytes - DIGEST)
  return ffi.string(digest, DIGEST) == ffi.string(entry, DIGEST)
end

-- The sample of an entry; or nil, the reason and its class; or nil alone where the bytes are of no entry.
local function read_entry(entry, bytes)
  local head = ffi.cast(head_at, entry + DIGEST)
  local n, count, flags = head.n, head.spans, head.flags
  local spans = ffi.cast(spans_at, entry + DIGEST + HEAD)
  local used = DIGEST + HEAD + SPAN * count + 4 * n + head.rest
  if used + -used % 8 ~= bytes then return nil end
  local rest = head.rest > 0 and json.decode(entry + (used - head.rest), head.rest) or {}
  if type(rest) ~= "table" or rest.class ~= nil and rest.class ~= "dropped" then return nil end
  if has(flags, NO_SAMPLE) then return nil, rest.why, rest.class end
  local sample = { n = n, ids = ffi.new("int32_t[?]", n), spans = ffi.new("cft_batch_span[?]", count),
    span_count = count, whole = head.whole, cut = head.cut, ends = has(flags, ENDS), prefix = has(flags, PREFIX),
    verdict = rest.verdict, specials = rest.specials }
  if has(flags, JUDGED) then sample.verdict = has(flags, RIGHT) end
  ffi.copy(sample.spans, spans, SPAN * count)
  ffi.copy(sample.ids, ffi.cast(ids_at, spans + count), 4 * n)
  local tokens = 0
  for i = 0, count - 1 do
    local of_span = tonumber(spans[i].count)
    if of_span < 1 or spans[i].kind > KINDS then return nil end
    tokens = tokens + of_span
  end
  return tokens == n and sample or nil
end

-- ---- blocks ----------------------------------------------------------------------------------

local Place = ffi.typeof "struct { uint32_t key[4]; uint64_t at, bytes; }"  -- what the list has of an entry
local Footer = ffi.typeof "struct { uint64_t list, count; uint8_t hash[16]; }"
local place_at, places = ffi.typeof("const $ *", Place), ffi.typeof("$[?]", Place)
local PLACE, FOOTER = ffi.sizeof(Place), ffi.sizeof(Footer)
local footer, key_words = Footer(), ffi.new "uint32_t[4]"
local map_out = ffi.new "cft_map *[1]"

local function header_of(name) return ("cft tokens 2 %-34s\n"):format(name) end

-- Do all entries of the list lie between the header and the list?
local function places_fit(list, count, first, stop)
  for i = 0, count - 1 do
    local at, bytes = tonumber(list[i].at), tonumber(list[i].bytes)
    if at < first or at % 8 ~= 0 or bytes < DIGEST + HEAD or at + bytes > stop then return false end
  end
  return true
end

-- Map a block. @treturn ?table nil and why it is left out
local function open_block(header, path)
  if C.cft_map_open(map_out, path) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  local map = ffi.gc(map_out[0], C.cft_map_release)
  local bytes, data = tonumber(C.cft_map_bytes(map)), ffi.cast("const uint8_t *", C.cft_map_data(map))
  local damaged = ("%s: its %d bytes are not those that were written"):format(path, bytes)
  if bytes < #header + FOOTER then return nil, damaged end
  if ffi.string(data, #header) ~= header then
    return nil, path .. ": was made with another template, tokenizer, policy or program"
  end
  ffi.copy(footer, data + (bytes - FOOTER), FOOTER)
  local at, count = tonumber(footer.list), tonumber(footer.count)
  if at < #header or at % 8 ~= 0 or at + PLACE * count + FOOTER ~= bytes then return nil, damaged end
  C.cft_bytes_hash(digest, data + at, bytes - 16 - at)
  if ffi.string(digest, 16) ~= ffi.string(footer.hash, 16) then return nil, damaged end
  local list = ffi.cast(place_at, data + at)
  if not places_fit(list, count, #header, at) then return nil, damaged end
  return { path = path, map = map, data = data, list = list, count = count }
end

-- ---- the table -------------------------------------------------------------------------------
-- Entries are numbered through all blocks. A key is looked for from a slot on that its first word tells; a slot
-- has its second word, and the number of an entry plus 1. The same key may be there several times, since processes
-- that know nothing of each other add it, and since what is damaged is made again.

local Slots = ffi.typeof "struct { uint32_t tag, number; }[?]"

local function enter(slots, mask, block)
  local list, number = block.list, block.first
  for i = 0, block.count - 1 do
    local slot = bit.band(list[i].key[0], mask)
    for _ = 1, PROBES do  -- beyond that it is as if it was not there, and is made again
      if slots[slot].number == 0 then
        slots[slot].tag, slots[slot].number = list[i].key[1], number + i + 1
        break
      end
      slot = bit.band(slot + 1, mask)
    end
  end
end

-- Add blocks, and make the table larger where it would be too full.
local function add_blocks(self, blocks)
  local known = #self.blocks
  for _, block in ipairs(blocks) do
    block.first = self.found
    self.blocks[#self.blocks + 1], self.found = block, self.found + block.count
  end
  if self.found > LOAD * self.slot_count then
    while self.found > LOAD * self.slot_count do self.slot_count = 2 * self.slot_count end
    self.slots, known = Slots(self.slot_count), 0
  end
  for k = known + 1, #self.blocks do enter(self.slots, self.slot_count - 1, self.blocks[k]) end
end

-- The block that has the entry of a number.
local function block_of(self, number)
  local blocks, low, high = self.blocks, 1, #self.blocks
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if blocks[middle].first <= number then low = middle else high = middle - 1 end
  end
  return blocks[low]
end

-- The first whole entry of a key.
local function find(self, key)
  ffi.copy(key_words, key, 16)
  local slots, mask = self.slots, self.slot_count - 1
  local slot, tag = bit.band(key_words[0], mask), key_words[1]
  for _ = 1, PROBES do
    local number = slots[slot].number
    if number == 0 then return nil end
    if slots[slot].tag == tag then
      local block = block_of(self, number - 1)
      local place = block.list[number - 1 - block.first]
      local words = place.key
      if words[0] == key_words[0] and words[1] == tag and words[2] == key_words[2] and words[3] == key_words[3] then
        local entry, bytes = block.data + tonumber(place.at), tonumber(place.bytes)
        if is_whole(entry, bytes) then
          local sample, why, class = read_entry(entry, bytes)
          if sample or class then return sample, why, class end
        end
        self:leave_out(block.path, ("%s: the entry at byte %d is not what was written; it and others like it"
          .. " are made again"):format(block.path, tonumber(place.at)))
      end
    end
    slot = bit.band(slot + 1, mask)
  end
end

--- Note what is wrong with a block. It is said once, whoever finds it.
-- @string path @string why
function Cache:leave_out(path, why)
  if self.wrong[path] then return end
  self.broken[#self.broken + 1] = why
  self.wrong[path] = #self.broken
end

--- What was left out after the first `count`: why, by path.
-- @int count
-- @treturn table
function Cache:left_out_after(count)
  local list = {}
  for path, k in pairs(self.wrong) do
    if k > count then list[path] = self.broken[k] end
  end
  return list
end

-- Remove what processes left that died while they wrote a block: whoever writes one holds the lock too.
local function sweep(folder, names)
  local lock = host.lock(folder .. "/.lock")
  if not lock then return end
  for _, name in ipairs(names) do os.remove(folder .. "/" .. name) end
  lock:release()
end

--- Find out what is there, if nobody has yet. Whoever makes processes that share this cache does it first.
-- @treturn Cache
function Cache:load()
  if self.loaded then return self end
  self.loaded = true
  local blocks, seen, litter = {}, 0, {}
  for _, name in ipairs(host.list(self.folder) or {}) do
    local path = self.folder .. "/" .. name
    if name:match "^%x+%.tokens$" then
      seen = seen + 1
      local block, why
      if #blocks < M.BLOCKS then block, why = open_block(self.header, path) end
      if why then self:leave_out(path, why) end
      blocks[#blocks + 1] = block
    elseif name:match "%.tokens%.cft%-tmp%-%w+$" then
      litter[#litter + 1] = name
    end
  end
  if seen > M.BLOCKS then
    self:leave_out(self.folder .. "/*", ("%s: of %d blocks those after the first %d; without the folder fewer are made"):format(
      self.folder, seen, M.BLOCKS))
  end
  if #litter > 0 then sweep(self.folder, litter) end
  add_blocks(self, blocks)
  return self
end

--- Write what has been gathered and let go of what is mapped: no record has a name any more, nothing is found and
-- nothing added. What was counted and left out stays to be said.
function Cache:close()
  if self.closed then return end
  self:flush()
  self.closed, self.shut = true, true
  self.blocks, self.slots, self.buffer, self.listed, self.young = nil, nil, nil, nil, nil
end

-- ---- the block that is gathered --------------------------------------------------------------

local function start_block(self)
  if not self.buffer or self.room > BLOCK_BYTES then  -- that was for one entry
    self.room, self.listed_room = 65536, 1024
    self.buffer, self.listed = ffi.new("uint8_t[?]", self.room), places(self.listed_room)
    ffi.copy(self.buffer, self.header)
  end
  self.used, self.count, self.young = #self.header, 0, {}
end

-- Make room for an entry.
local function reserve(self, bytes)
  local function needed() return self.used + bytes + PLACE * (self.count + 1) + FOOTER end
  if self.count > 0 and needed() > BLOCK_BYTES then self:flush() end
  if needed() > self.room then
    local room = math.max(needed(), math.min(2 * self.room, BLOCK_BYTES))
    local buffer = ffi.new("uint8_t[?]", room)
    ffi.copy(buffer, self.buffer, self.used)
    self.buffer, self.room = buffer, room
  end
  if self.count == self.listed_room then
    local listed = places(2 * self.count)
    ffi.copy(listed, self.listed, PLACE * self.count)
    self.listed, self.listed_room = listed, 2 * self.count
  end
end

-- The lock of those who write, which any number may hold; nil on a file system without locks.
local function writers_lock(folder)
  while true do
    local lock, why = host.lock(folder .. "/.lock", true)
    if lock or why ~= "busy" then return lock end
    host.sleep(0.001)
  end
end

--- Write what has been gathered since the last block. Where that cannot be, nothing more is added.
function Cache:flush()
  if self.count == 0 or self.shut then return end
  local buffer, used, bytes = self.buffer, self.used, self.used + PLACE * self.count + FOOTER
  ffi.copy(buffer + used, self.listed, PLACE * self.count)
  footer.list, footer.count = used, self.count
  ffi.copy(buffer + (bytes - FOOTER), footer, FOOTER)
  C.cft_bytes_hash(buffer + (bytes - 16), buffer + used, bytes - 16 - used)
  local name = files.hex(files.digest(buffer, bytes))
  local path = ("%s/%s.tokens"):format(self.folder, name)
  host.make_folders(self.folder)
  local lock = writers_lock(self.folder)
  local failed = C.cft_file_write(nil, path, buffer, bytes) ~= C.CFT_OK
  if lock then lock:release() end
  if failed then
    self.shut, self.added = true, self.added - self.count
    self:leave_out(self.folder, ("%s; nothing more is added"):format(ffi.string(C.cft_last_error())))
  elseif self.loaded and #self.blocks < M.BLOCKS then
    local block, why = open_block(self.header, path)
    if block then add_blocks(self, { block }) else self:leave_out(path, why) end
  end
  start_block(self)
end

-- ---- a cache ---------------------------------------------------------------------------------

--- A name for all that a sample depends on besides its record.
-- @tparam Template chat @param tok @tab policy
-- @treturn ?string nil and why where there can be none
function M.name(chat, tok, policy)
  local name, why = identity.of(chat, tok, policy, true)
  if not name then return nil, why end
  return files.hash(identity.program() .. name)
end

--- Open the cache for these settings. Nothing of it is read before an entry is asked for.
-- @string folder of all caches
-- @tparam Template chat @param tok
-- @tab policy numbers, strings and tables of these: what a sample depends on besides
-- @treturn ?Cache the number of entries it has `found`; what is left out, as a list, `broken`; `wrong` has the number there by path;
-- who uses it counts what it has `taken`. Or nil and why there can be none
function M.open(folder, chat, tok, policy)
  local name, why = M.name(chat, tok, policy)
  if not name then return nil, why end
  local self = setmetatable({ folder = folder .. "/" .. name, header = header_of(name), taken = 0, added = 0,
    found = 0, blocks = {}, slot_count = 1024, slots = Slots(1024), broken = {}, wrong = {}, loaded = false,
    shut = false, closed = false }, Cache)
  start_block(self)
  return self
end

--- The name of a record; nil for one that cannot be kept.
function Cache:key(record) return not self.closed and key_of(record) or nil end

--- What is kept under a name.
-- @string key
-- @treturn ?table the sample; nil where there is none, with the reason and class of a record that makes none
function Cache:get(key)
  if self.closed then return nil end
  local young = self.young[key]
  if young then
    local place = self.listed[young]
    return read_entry(self.buffer + tonumber(place.at), tonumber(place.bytes))
  end
  return find(self:load(), key)
end

--- Keep a sample, or why there is none.
-- @string key
-- @tab[opt] sample with `specials` and `prefix` as `cft.samples` found them
-- @string[opt] why @string[opt] class
function Cache:put(key, sample, why, class)
  if self.shut or self.young[key] then return end
  local head, rest = Head(), nil
  if sample then
    for i = 0, sample.span_count - 1 do
      if sample.spans[i].kind > KINDS then return end
    end
    local judged = type(sample.verdict) == "boolean"
    head.n, head.spans, head.whole, head.cut = sample.n, sample.span_count, sample.whole, sample.cut
    head.flags = (sample.ends and ENDS or 0) + (sample.prefix and PREFIX or 0) + (judged and JUDGED or 0)
      + (judged and sample.verdict and RIGHT or 0)
    if sample.specials or not judged and sample.verdict ~= nil then
      rest = { specials = sample.specials, verdict = not judged and sample.verdict or nil }
    end
  else
    head.flags, rest = NO_SAMPLE, { why = why, class = class }
  end
  local text = rest and json.encode(rest) or ""
  head.rest = #text
  local used = DIGEST + HEAD + SPAN * head.spans + 4 * head.n + #text
  local bytes = used + -used % 8
  reserve(self, bytes)

  local entry, at = self.buffer + self.used, DIGEST
  local function write(from, length)
    ffi.copy(entry + at, from, length)
    at = at + length
  end
  write(head, HEAD)
  if sample then
    write(sample.spans, SPAN * head.spans)
    write(sample.ids, 4 * head.n)
  end
  write(text, #text)
  ffi.fill(entry + at, bytes - at)
  C.cft_bytes_hash(digest, entry + DIGEST, bytes - DIGEST)
  ffi.copy(entry, digest, DIGEST)

  local place = self.listed[self.count]
  ffi.copy(place.key, key, 16)
  place.at, place.bytes = self.used, bytes
  self.young[key] = self.count
  self.used, self.count, self.added = self.used + bytes, self.count + 1, self.added + 1
end

--- What it gave and got, a line each.
-- @treturn string
function Cache:describe()
  local lines = { ("token cache %s: %d records taken, %d added"):format(self.folder, self.taken, self.added) }
  for _, why in ipairs(self.broken) do lines[#lines + 1] = "  left out: " .. why end
  return table.concat(lines, "\n")
end

return M
