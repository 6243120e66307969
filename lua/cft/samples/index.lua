--- The index of a large source: which records are samples, how long they are, what they weigh. Every record is made
-- into its sample once, before anything is trained, in all processors, and what came of it is kept.
--
-- What is kept has a name: a hash of the source's bytes, the template, the tokenizer, the length policy and
-- the program. So it cannot be out of date; what changed has another name. While it is made it is a
-- journal that only grows: a scan that dies goes on from there. Several ranks share one; the first to
-- come makes it. What is left on the disk is read in place: numbers, lengths and weights of the samples
-- need no memory but pages of a file.
-- @module cft.samples.index

local blame = require "cft.base.blame"
local canonical = require "cft.base.canonical"
local data = require "cft.data.open"
local door = require "cft.engine.ffi"
local hash = require "cft.io.hash"
local host = require "cft.host"
local identity = require "cft.samples.identity"
local json = require "cft.base.json"
local format = require "cft.base.format"
local mask = require "cft.samples.mask"
local parallel = require "cft.data.parallel"
local reports = require "cft.samples.report"
local C, ffi = door.C, door.ffi

local M = {}

local SAY_EVERY = 10  -- seconds
local MAGIC = "cft scan 2\n"

-- ---- a job: some records of a source -------------------------------------------------------------

-- What a job sends: a line of JSON, then numbers, lengths and weights of its samples.
local function scan_chunk(self, first, last)
  local numbers, lengths, weights = {}, {}, {}
  local report, bad = reports.new(), {}
  for i = first, last - 1 do
    local record = self.source.read(i)
    if record == nil then
      bad[#bad + 1] = i
    else
      local sample, why, class, unwanted = self.build:sample(record)
      reports.enter(report, i, sample, why, class, unwanted)
      if sample then
        local k = #numbers + 1
        numbers[k], lengths[k], weights[k] = i, sample.n, mask.weight_of(sample.spans, sample.span_count)
      end
    end
  end
  local n = #numbers
  local head = json.encode { n = n, report = reports.encode(report), bad = json.array(bad) }
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
    if not text or #text < bytes or head:sub(17) ~= hash.digest(text) or not read_chunk(text) then break end
    if take(chunk, text) then break end
    self.places[chunk], self.chunks, at = at + FRAME, chunk + 1, at + FRAME + bytes
  end
  self.at = at
  self.file:seek("set", at)
  return self
end

function Journal:append(chunk, text)
  frame[0], frame[1] = chunk, #text
  local ok, why = self.file:write(ffi.string(frame, 16), hash.digest(text), text)
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

-- Kept as: a line of magic, a line of JSON filled up with spaces to a multiple of 8 bytes, numbers, lengths, weights,
-- and 32 digits: the hash of the hashes of all that in blocks, so that nobody needs all of it in memory.
local BLOCK = 1048576

local writer_out = ffi.new "cft_writer *[1]"

local function must(status)
  if status ~= C.CFT_OK then error(ffi.string(C.cft_last_error()), 0) end
end

local function write_columns(writer, self, journal)
  local digests, pieces, bytes = {}, {}, 0
  local function put(text, last)
    pieces[#pieces + 1], bytes = text, bytes + #text
    if bytes < BLOCK and not last then return end
    local whole, at = table.concat(pieces), 1
    while at <= #whole and (last or #whole - at + 1 >= BLOCK) do
      local block = whole:sub(at, at + BLOCK - 1)
      digests[#digests + 1] = hash.digest(block)
      must(C.cft_writer_put(writer, block, #block))
      at = at + #block
    end
    pieces, bytes = { whole:sub(at) }, #whole - at + 1
  end
  local head = json.encode { name = self.name, n = self.n, report = reports.encode(self.found),
    bad = json.array(self.bad) }
  put(MAGIC .. head .. (" "):rep(-(#MAGIC + #head + 1) % 8) .. "\n")
  for column = 0, 2 do
    for _, text in journal:texts() do
      local chunk, stop = read_chunk(text)
      put(text:sub(stop + 1 + 8 * chunk.n * column, stop + 8 * chunk.n * (column + 1)))
    end
  end
  put("", true)
  local all = hash.text(table.concat(digests))
  must(C.cft_writer_put(writer, all, #all))
end

-- Whoever writes has the lock of `path`, so what a dead process left beside it is litter.
local function write_result(path, self, journal)
  local folder, name = path:match "^(.*)/([^/]*)$"
  for _, other in ipairs(host.list(folder) or {}) do
    if other:sub(1, #name + 10) == "." .. name .. ".cft-tmp-" then os.remove(folder .. "/" .. other) end
  end
  must(C.cft_writer_new(writer_out, nil, path))
  local writer = writer_out[0]
  local ok, why = pcall(function()
    write_columns(writer, self, journal)
    must(C.cft_writer_commit(writer))
  end)
  C.cft_writer_release(writer)
  if not ok then error(why, 0) end
end

-- Map a result. nil where there is none, with why where there is one that is not taken.
local function map_result(path, name)
  if not host.kind(path) then return nil end
  local out = ffi.new "cft_map *[1]"
  if C.cft_map_open(out, path) ~= C.CFT_OK then return nil, ffi.string(C.cft_last_error()) end
  local map = ffi.gc(out[0], C.cft_map_release)
  local bytes, text = tonumber(C.cft_map_bytes(map)), ffi.cast("const char *", C.cft_map_data(map))
  local stop = bytes - 32
  if stop < #MAGIC or ffi.string(text, #MAGIC) ~= MAGIC then return nil, path .. ": is no result of a scan" end
  local digests = {}
  for at = 0, stop - 1, BLOCK do
    digests[#digests + 1] = hash.digest(text + at, math.min(BLOCK, stop - at))
  end
  if hash.text(table.concat(digests)) ~= ffi.string(text + stop, 32) then
    return nil, path .. ": its bytes are not those that were written"
  end
  stop = #MAGIC
  while text[stop] ~= 10 do stop = stop + 1 end
  local head = json.decode(ffi.string(text + #MAGIC, stop - #MAGIC))
  if head.name ~= name then
    return nil, path .. ": was made of other data, or with another template, tokenizer, policy or program"
  end
  local n, at = head.n, text + stop + 1
  return { map = map, n = n, report = reports.decode(head.report), bad = head.bad,
    numbers = ffi.cast("const int64_t *", at), lengths = ffi.cast("const int64_t *", at + 8 * n),
    weights = ffi.cast("const double *", at + 16 * n) }
end

-- The same of a journal that is not kept.
local function read_journal(self, journal)
  local n = math.max(self.n, 1)
  local result = { n = self.n, report = self.found, numbers = ffi.new("int64_t[?]", n),
    lengths = ffi.new("int64_t[?]", n), weights = ffi.new("double[?]", n) }
  local at = 0
  for _, text in journal:texts() do
    local chunk, stop = read_chunk(text)
    local from = ffi.cast("const char *", text) + stop
    for column, array in ipairs { result.numbers, result.lengths, result.weights } do
      ffi.copy(array + at, from + 8 * chunk.n * (column - 1), 8 * chunk.n)
    end
    at = at + chunk.n
  end
  return result
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

-- What names the result: nil and why where it has no name.
local function name_of(source, build)
  local o, policy = build.o, {}
  for _, name in ipairs { "max_tokens", "limit", "length", "cut_side", "cut_kinds" } do policy[name] = o[name] end
  for _, name in ipairs { "no_learned", "all_learned", "double_bos" } do policy[name] = o[name] == "keep" end
  local name, why = canonical.join("%s\n%s\n%s", { source:identity(true) },
    { identity.of(build.chat, build.tok, policy, true) }, { identity.program() })
  return name and hash.text(name), why
end

-- Wait for the right to make the result at `path`, or for whoever has it to have made it.
local function take_lock(path, say)
  local told = false
  while true do
    local lock, why, who = host.lock(path .. ".lock")
    if lock then return lock end
    if why ~= "busy" then return nil end  -- a folder that cannot be written: the scan is for this process
    if not told then
      say(("another process scans these records%s; waiting for its result"):format(who ~= "" and " (" .. who .. ")" or ""))
    end
    told = true
    host.sleep(0.2)
  end
end

-- Go through the chunks that no earlier scan has: `n`, `bad` and `found` of self become what all of them say, in order.
local function run(self, journal_path)
  local source, say, known = self.source, self.say, self.source:bad()
  self.n, self.bad, self.found = 0, {}, reports.new()
  local function take(_, text)
    local head = read_chunk(text)
    reports.add(self.found, reports.decode(head.report))
    self.n = self.n + head.n
    for _, i in ipairs(head.bad) do self.bad[#self.bad + 1] = i end
    meet(source, head.bad)
    return known:hopeless()
  end

  local journal, why = open_journal(journal_path, take)
  if not journal then
    say(why)
    journal = assert(open_journal(nil, take))
  end
  local all, start, said = source:size(), host.now(), host.now()
  local before = math.min(journal.chunks * parallel.CHUNK, all)  -- records that were scanned
  parallel.chunks(source, {
    first = journal.chunks, processes = self.processes,
    work = function(first, last) return scan_chunk(self, first, last) end,
    take = function(chunk, text, _, done)
      journal:append(chunk, text)
      local ends = take(chunk, text)
      if self.progress then self.progress(done, all) end
      local now = host.now()
      if now - said > SAY_EVERY then
        local rate = (done - before) / (now - start)
        say(("  scanned %d of %d records, %s left"):format(done, all, format.duration((all - done) / rate)))
        said = now
      end
      return ends
    end,
  })
  self.scanned = { seconds = host.now() - start, processes = self.processes, bytes = source:bytes(),
    records = all - before, all = all }
  return journal
end

-- Go through the records, and keep what comes of it at `path`, if there is one.
local function make(self, path)
  local journal = run(self, path and path .. ".part" or nil)
  self.source:enforce()
  local kept, problem
  if path then kept, problem = pcall(write_result, path, self, journal) end
  local result = kept and map_result(path, self.name)
  if result then self.kept = path elseif path then self.not_kept = tostring(problem) end
  result = result or read_journal(self, journal)
  journal:close()
  return result
end

-- An earlier scan's result, if there is a good one.
local function recall(self, path)
  local result, problem = map_result(path, self.name)
  if result and not meet(self.source, result.bad) then
    result, problem = nil, path .. ": lists bad records that are not bad"
  end
  self.left_out = problem
  if not result then return nil end
  self.taken = path
  self.source:enforce()
  return result
end

local function look(self, folder)
  local why = "there is no folder for it (CFT_CACHE, HOME)"
  if folder then self.name, why = name_of(self.source, self.build) end
  if not self.name then
    self.not_kept = why
    return make(self)
  end
  local path = ("%s/scans/%s"):format(folder, self.name)
  local result = recall(self, path)
  if result then return result end
  local left_out = self.left_out
  pcall(host.make_folders, folder .. "/scans")
  local lock = take_lock(path, self.say)
  if not lock then self.not_kept = folder .. "/scans cannot be written" end
  local ok, err = pcall(function()
    result = not left_out and recall(self, path) or make(self, lock and path)  -- or somebody has made it
  end)
  if lock then lock:release() end
  if not ok then error(err, 0) end
  return result
end

-- Where the numbers come from, as lines.
local function notes_of(self)
  local lines, s = {}, self.scanned
  if s then
    local share = s.all > 0 and s.records / s.all or 0
    lines[1] = ("scanned %d records%s in %.1f s by %d process%s: %s records/s, %.1f MB/s"):format(s.records,
      s.records < s.all and (" (%d were scanned before)"):format(s.all - s.records) or "", s.seconds, s.processes,
      s.processes == 1 and "" or "es", format.count(s.records / s.seconds), share * s.bytes / s.seconds / 1e6)
  end
  if self.left_out then lines[#lines + 1] = "left out: " .. self.left_out end
  if self.taken then lines[#lines + 1] = "scan taken from " .. self.taken end
  if self.kept then lines[#lines + 1] = "scan kept in " .. self.kept end
  if self.not_kept then lines[#lines + 1] = "scan not kept: " .. self.not_kept end
  return lines
end

--- The index of a source: what an earlier scan found, or what this one finds.
-- @param source of `cft.data`
-- @param build of `cft.samples.build`
-- @tab o `cache`, the folder for what is kept, that of `cft.data.cache_folder` if absent; `processes`, one a processor
-- if absent; `say`, gets lines meanwhile; `progress`, gets records done and all
-- @treturn table `n` samples; `numbers`, `lengths` and `weights`, arrays of as many; `report`; `notes`, lines on where
-- they come from; `scanned`, nil where nothing was
function M.scan(source, build, o)
  local self = { source = source, build = build, say = o.say or function() end, progress = o.progress,
    processes = o.processes or parallel.cores() }
  local result = look(self, o.cache or data.cache_folder())
  result.notes, result.scanned = notes_of(self), self.scanned
  return result
end

return M
