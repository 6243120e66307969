--- The scan of a large source: every record is made into its sample once, before anything is trained,
-- in all processors, and what came of it is kept.
--
-- The result has a name: a hash of the source's bytes, the template, the tokenizer, the length policy and
-- the program. So it cannot be out of date; what changed has another name. While it is made it is a
-- journal that only grows: a scan that dies goes on from there. Several ranks share one; the first to
-- come makes it. What is left on the disk is read in place: numbers, lengths and weights of the samples
-- need no memory but pages of a file.
-- @module cft.samples.index

local blame = require "cft.base.blame"
local data = require "cft.data.open"
local door = require "cft.engine.ffi"
local files = require "cft.io.files"
local host = require "cft.host"
local identity = require "cft.samples.identity"
local json = require "cft.base.json"
local listed = require "cft.data.util.sampled_list"
local format = require "cft.base.format"
local parallel = require "cft.data.parallel"
local C, ffi = door.C, door.ffi

local M = {}

M.CHUNK = 2048       -- records of a job
local SAY_EVERY = 10  -- seconds
local MAGIC = "cft scan 1\n"

-- ---- reports -----------------------------------------------------------------------------------
-- A report has counts (which add up), the longest sample, lists of records, and counts by text.

--- Add the report of later records to that of earlier ones.
function M.add(into, from)
  for name, value in pairs(from) do
    if name == "longest" then
      into.longest = math.max(into.longest, value)
    elseif type(value) == "number" then
      into[name] = into[name] + value
    elseif value.n then
      listed.append(into[name], value)
    else
      for text, count in pairs(value) do into[name][text] = (into[name][text] or 0) + count end
    end
  end
end

-- Lists are written with their counts in front, since JSON has no table that is both.
local function encode_report(report)
  local out = {}
  for name, value in pairs(report) do
    if type(value) == "table" and value.n then
      local entries = {}
      for i, e in ipairs(value) do entries[i] = type(e) == "table" and json.array { e.record, e.reason or json.null } or e end
      out[name] = { n = value.n, entries = json.array(entries) }
    else
      out[name] = value
    end
  end
  return out
end

local function decode_report(out)
  for name, value in pairs(out) do
    if type(value) == "table" and value.n then
      local entries = { n = value.n }
      for i, e in ipairs(value.entries) do
        entries[i] = type(e) == "table" and { record = e[1], reason = e[2] ~= json.null and e[2] or nil } or e
      end
      out[name] = entries
    end
  end
  return out
end

-- ---- a job: some records of a source -------------------------------------------------------------

-- What a job sends: a line of JSON, then numbers, lengths and weights of its samples.
local function scan_chunk(self, hooks, chunk)
  local source = self.source
  local first = chunk * M.CHUNK
  local last = math.min(first + M.CHUNK, source:size())
  local numbers, lengths, weights = {}, {}, {}
  local report, bad = hooks.new_report(), {}
  for i = first, last - 1 do
    local record = source.read(i)
    if record == nil then
      bad[#bad + 1] = i
    else
      local sample = hooks.book(self, report, i, record)
      if sample then
        local k = #numbers + 1
        numbers[k], lengths[k], weights[k] = i, sample.n, hooks.weight_of(sample.spans, sample.span_count)
      end
    end
  end
  local n = #numbers
  report.samples = n
  local head = json.encode {
    n = n, report = encode_report(report), bad = json.array(bad), dynamic = self.dynamic,
  }
  local function bytes(ctype, list) return n > 0 and ffi.string(ffi.new(ctype .. "[?]", n, list), 8 * n) or "" end
  return table.concat { head, "\n", bytes("int64_t", numbers), bytes("int64_t", lengths), bytes("double", weights) }
end

local function read_chunk(text)
  local stop = text:find("\n", 1, true)
  local head = stop and json.decode(text:sub(1, stop - 1))
  if not head or #text ~= stop + 24 * head.n then return nil end
  return head, stop
end

-- ---- the journal ---------------------------------------------------------------------------------

local Journal = {}
Journal.__index = Journal

local frame = ffi.new "uint64_t[2]"  -- number of the chunk, bytes
local FRAME = 32                     -- these and a hash of what follows

-- Open one; what an earlier scan left in it is taken up to the first frame that is not whole.
local function open_journal(path, take)
  local self = setmetatable({ path = path, chunks = 0, places = {} }, Journal)
  self.file = path and (io.open(path, "r+b") or io.open(path, "w+b")) or not path and io.tmpfile()
  if not self.file then return nil, ("%s: cannot be written"):format(path or "a temporary file") end
  local at = 0
  while true do
    local head = self.file:read(FRAME)
    if not head or #head < FRAME then break end
    ffi.copy(frame, head, 16)
    local chunk, bytes = tonumber(frame[0]), tonumber(frame[1])
    local text = chunk == self.chunks and bytes < 2 ^ 31 and self.file:read(bytes)
    if not text or #text < bytes or head:sub(17) ~= files.digest(text) or not read_chunk(text) then break end
    if take(chunk, text) then break end
    self.places[chunk], self.chunks, at = at + FRAME, chunk + 1, at + FRAME + bytes
  end
  self.at = at
  self.file:seek("set", at)
  return self
end

function Journal:append(chunk, text)
  frame[0], frame[1] = chunk, #text
  local ok, why = self.file:write(ffi.string(frame, 16), files.digest(text), text)
  if ok then ok, why = self.file:flush() end
  if not ok then blame("scan: %s: %s", self.path or "a temporary file", why) end
  self.places[chunk], self.chunks = self.at + FRAME, chunk + 1
  self.at = self.at + FRAME + #text
end

-- The texts of all chunks again.
function Journal:texts()
  local chunk = -1
  return function()
    chunk = chunk + 1
    if chunk == self.chunks then return nil end
    local stop = chunk + 1 < self.chunks and self.places[chunk + 1] - FRAME or self.at
    self.file:seek("set", self.places[chunk])
    return chunk, assert(self.file:read(stop - self.places[chunk]))
  end
end

function Journal:close()
  self.file:close()
  if self.path then os.remove(self.path) end
end

-- ---- the result ----------------------------------------------------------------------------------

-- Kept as: a line of magic, a line with the hash of the rest, a line of JSON filled up with spaces to a
-- multiple of 8 bytes, numbers, lengths, weights. The hash is that of the hashes of the rest's blocks, so
-- that nobody needs all of it in memory.
local BLOCK = 1048576

local function write_columns(file, name, self, bad, journal)
  local digests, pieces, bytes = {}, {}, 0
  local function put(text, last)
    pieces[#pieces + 1], bytes = text, bytes + #text
    if bytes < BLOCK and not last then return end
    local whole, at = table.concat(pieces), 1
    while at <= #whole and (last or #whole - at + 1 >= BLOCK) do
      local block = whole:sub(at, at + BLOCK - 1)
      digests[#digests + 1] = files.digest(block)
      assert(file:write(block))
      at = at + #block
    end
    pieces, bytes = { whole:sub(at) }, #whole - at + 1
  end
  local head = json.encode { name = name, n = self.n, report = encode_report(self.kept_report), bad = json.array(bad) }
  assert(file:write(MAGIC, (" "):rep(32), "\n"))
  put(head .. (" "):rep(-(#MAGIC + 33 + #head + 1) % 8) .. "\n")
  for column = 0, 2 do
    for _, text in journal:texts() do
      local chunk, stop = read_chunk(text)
      put(text:sub(stop + 1 + 8 * chunk.n * column, stop + 8 * chunk.n * (column + 1)))
    end
  end
  put("", true)
  assert(file:seek("set", #MAGIC))
  assert(file:write(files.hash(table.concat(digests))))
end

-- Whoever writes has the lock of `path`, so the temporary file is his, and one that a dead process left is
-- written over.
local function write_result(path, ...)
  local temporary = path .. ".new"
  local file = assert(io.open(temporary, "wb"))
  local ok, why = pcall(write_columns, file, ...)
  local closed, problem = file:close()
  if ok and closed then ok, why = os.rename(temporary, path) end
  if ok and closed then return end
  os.remove(temporary)
  error(why or problem, 0)
end

-- Map a result. nil where there is none, with why where there is one that is not taken.
local function map_result(path, name)
  if not host.kind(path) then return nil end
  local out = ffi.new "cft_map *[1]"
  if C.cft_map_open(out, path) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  local map = ffi.gc(out[0], C.cft_map_release)
  local bytes, text = tonumber(C.cft_map_bytes(map)), ffi.cast("const char *", C.cft_map_data(map))
  local start = #MAGIC + 33
  if bytes < start or ffi.string(text, #MAGIC) ~= MAGIC then return nil, path .. ": is no result of a scan" end
  local digests = {}
  for at = start, bytes - 1, BLOCK do
    digests[#digests + 1] = files.digest(text + at, math.min(BLOCK, bytes - at))
  end
  if files.hash(table.concat(digests)) ~= ffi.string(text + #MAGIC, 32) then
    return nil, path .. ": its bytes are not those that were written"
  end
  local stop = start
  while text[stop] ~= 10 do stop = stop + 1 end
  local head = json.decode(ffi.string(text + start, stop - start))
  if head.name ~= name then
    return nil, path .. ": was made of other data, or with another template, tokenizer, policy or program"
  end
  return { map = map, n = head.n, report = decode_report(head.report), bad = head.bad, arrays = text + stop + 1 }
end

-- Arrays of a journal that is not kept.
local function read_arrays(self, journal)
  local n = math.max(self.n, 1)
  self.numbers, self.lengths, self.weights =
    ffi.new("int64_t[?]", n), ffi.new("int64_t[?]", n), ffi.new("double[?]", n)
  local at = 0
  for _, text in journal:texts() do
    local chunk, stop = read_chunk(text)
    local from = ffi.cast("const char *", text) + stop
    for column, array in ipairs { self.numbers, self.lengths, self.weights } do
      ffi.copy(array + at, from + 8 * chunk.n * (column - 1), 8 * chunk.n)
    end
    at = at + chunk.n
  end
end

local function adopt(self, result)
  local n, at = result.n, result.arrays
  self.kept, self.n = result.map, n
  self.numbers = ffi.cast("const int64_t *", at)
  self.lengths = ffi.cast("const int64_t *", at + 8 * n)
  self.weights = ffi.cast("const double *", at + 16 * n)
  M.add(self.report, result.report)
end

-- Meet the bad records again, in this process: their reasons, the quarantine, the limit.
local function meet(source, bad)
  local known = source:bad()
  for _, i in ipairs(bad) do
    if known:hopeless() then break end
    if source.read(i) ~= nil then return false end
  end
  return true
end

-- ---- a scan --------------------------------------------------------------------------------------

--- What names the result of scanning for these samples: nil and why where it has no name.
function M.name(self)
  local source, why = self.source:identity(true)
  if not source then return nil, why end
  local o, policy = self.o, {}
  for _, name in ipairs { "max_tokens", "length", "cut_side", "cut_kinds" } do policy[name] = o[name] end
  for _, name in ipairs { "no_learned", "all_learned", "double_bos" } do policy[name] = o[name] == "keep" end
  local rest, reason = identity.of(self.chat, self.tok, policy, true)
  if not rest then return nil, reason end
  return files.hash(table.concat({ source, rest, identity.program() }, "\n"))
end

-- Wait for the right to make the result at `path`, or for whoever has it to have made it.
local function take_lock(path, say)
  local told = false
  while true do
    local lock, why = host.lock(path .. ".lock")
    if lock then return lock end
    if why ~= "busy" then return nil end  -- a folder that cannot be written: the scan is for this process
    if not told then say "another process scans these records; waiting for its result" end
    told = true
    host.sleep(0.2)
  end
end

-- Fill self with what the chunks say, in order. @treturn table numbers of bad records
local function run(self, hooks, journal_path, o)
  local source, bad, say = self.source, {}, self.o.say or function() end
  local chunks = math.ceil(source:size() / M.CHUNK)
  local report = hooks.new_report()
  self.n, self.kept_report = 0, report
  local known = source:bad()
  local function take(_, text)
    local head = read_chunk(text)
    M.add(report, decode_report(head.report))
    self.n, self.dynamic = self.n + head.n, self.dynamic or head.dynamic
    for _, i in ipairs(head.bad) do bad[#bad + 1] = i end
    meet(source, head.bad)
    return known:hopeless()
  end

  local journal, why = open_journal(journal_path, take)
  if not journal then
    say(why)
    journal = assert(open_journal(nil, take))
  end
  local start, said, first = host.now(), host.now(), journal.chunks
  parallel.jobs {
    count = chunks, first = first, processes = o.processes,
    work = function(chunk)
      if parallel.inside then known.quarantine = nil end  -- the process that asked writes it, in order
      return scan_chunk(self, hooks, chunk)
    end,
    take = function(chunk, text)
      journal:append(chunk, text)
      local ends = take(chunk, text)
      local now, done = host.now(), math.min((chunk + 1) * M.CHUNK, source:size())
      if o.progress then o.progress(done, source:size()) end
      if now - said > SAY_EVERY then
        local rate = (done - first * M.CHUNK) / (now - start)
        say(("  scanned %d of %d records, %s left"):format(done, source:size(),
            format.duration((source:size() - done) / rate)))
        said = now
      end
      return ends
    end,
  }
  self.scanned = { seconds = host.now() - start, processes = o.processes, bytes = source:bytes(),
    records = source:size() - math.min(first * M.CHUNK, source:size()), all = source:size() }
  return bad, journal
end

-- Go through the records, and keep what comes of it at `path`, if there is one.
local function make(self, hooks, path, o)
  local bad, journal = run(self, hooks, path and path .. ".part" or nil, o)
  self.source:enforce()
  local kept, problem
  if path then kept, problem = pcall(write_result, path, o.name, self, bad, journal) end
  local result = kept and map_result(path, o.name)
  if result then
    adopt(self, result)
    self.scan_kept = path
  else
    read_arrays(self, journal)
    M.add(self.report, self.kept_report)
    if path then self.not_kept = tostring(problem) end
  end
  journal:close()
end

-- Take an earlier scan's result. @treturn bool whether there was a good one
local function recall(self, path, name)
  local result, problem = map_result(path, name)
  if result and not meet(self.source, result.bad) then
    result, problem = nil, path .. ": lists bad records that are not bad"
  end
  self.scan_left_out = problem
  if not result then return false end
  adopt(self, result)
  self.scan_taken = path
  self.source:enforce()
  return true
end

--- Scan the records of samples that are being made, or take what an earlier scan found.
-- @tparam Samples self
-- @tab hooks of cft.samples: `new_report`, `book`, `weight_of`
-- @tab[opt] o `processes`, one a processor if absent; `progress`
function M.samples(self, hooks, o)
  o = o or {}
  o.processes = o.processes or parallel.cores()
  local why = "there is no folder for it (CFT_CACHE, HOME)"
  local folder = self.o.cache or data.cache_folder()
  if folder then o.name, why = M.name(self) end
  if not o.name then
    self.not_kept = why
    return make(self, hooks, nil, o)
  end
  local path = ("%s/scans/%s"):format(folder, o.name)
  if recall(self, path, o.name) then return end
  local left_out = self.scan_left_out
  pcall(host.make_folders, folder .. "/scans")
  local lock = take_lock(path, self.o.say or function() end)
  if not lock then self.not_kept = folder .. "/scans cannot be written" end
  local ok, err = pcall(function()
    if left_out or not recall(self, path, o.name) then make(self, hooks, lock and path, o) end  -- or somebody has made it
  end)
  if lock then lock:release() end
  if not ok then error(err, 0) end
end

--- What there is to say of where the numbers come from, as lines.
function M.describe(self)
  local lines, s = {}, self.scanned
  if s then
    local share = s.all > 0 and s.records / s.all or 0
    lines[1] = ("scanned %d records%s in %.1f s by %d process%s: %s records/s, %.1f MB/s"):format(s.records,
      s.records < s.all and (" (%d were scanned before)"):format(s.all - s.records) or "", s.seconds, s.processes,
      s.processes == 1 and "" or "es", format.count(s.records / s.seconds), share * s.bytes / s.seconds / 1e6)
  end
  if self.scan_left_out then lines[#lines + 1] = "left out: " .. self.scan_left_out end
  if self.scan_taken then lines[#lines + 1] = "scan taken from " .. self.scan_taken end
  if self.scan_kept then lines[#lines + 1] = "scan kept in " .. self.scan_kept end
  if self.not_kept then lines[#lines + 1] = "scan not kept: " .. self.not_kept end
  return lines
end

return M
