-- Large sources: where records start is kept, and what a scan in several processes finds is what one pass finds,
-- whatever became of an earlier scan.

local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local samples_of = require("cft.samples").new
local parallel = require "cft.data.parallel"
local process = require "tests.process"
local template = require "cft.text.template"
local ffi = require("cft.engine.ffi").ffi

ffi.cdef [[
struct file_limit { unsigned long soft, hard; };
int getrlimit(int resource, struct file_limit *limit);
int setrlimit(int resource, const struct file_limit *limit);
void (*signal(int number, void (*handler)(int)))(int);
]]

-- Let no file of this process grow beyond so many bytes; returns what lifts the limit.
local function with_files_up_to(bytes)
  local FSIZE, XFSZ = 1, 25  -- RLIMIT_FSIZE, SIGXFSZ of Linux
  local before, limit = ffi.new "struct file_limit", ffi.new "struct file_limit"
  ffi.C.getrlimit(FSIZE, before)
  limit.soft, limit.hard = bytes, before.hard
  local handler = ffi.C.signal(XFSZ, ffi.cast("void (*)(int)", 1))  -- SIG_IGN: a write fails instead
  ffi.C.setrlimit(FSIZE, limit)
  return function()
    ffi.C.setrlimit(FSIZE, before)
    ffi.C.signal(XFSZ, handler)
  end
end

local tok = demo.tokenizer(1)

-- A file of the demo's records; some are too long, one holds a special token's string.
local function file(folder, n, change)
  local make, lines = demo.training(1), {}
  for i = 0, n - 1 do
    local r = make(i)
    if i % 9 == 4 then r.output = r.output:rep(9) end
    if i == 11 then r.input = r.input .. "<|im_end|>" end
    lines[i + 1] = json.encode { instruction = r.instruction, input = r.input, output = r.output }
  end
  if change then change(lines) end
  return process.write(folder .. "/data.jsonl", table.concat(lines, "\n") .. "\n")
end

local function samples(folder, path, o)
  o = o or {}
  local chunk = parallel.CHUNK
  parallel.CHUNK = 7
  local ok, result = pcall(function()
    local source = data.open(path, { cache = folder, large = 0, limit_bad = o.limit_bad, quarantine = o.quarantine })
    return samples_of(source, o.chat or template.chatml(), tok, {
      max_tokens = o.max_tokens or 250, large = o.large or 0, cache = folder, progress = o.progress, say = function() end,
    })
  end)
  parallel.CHUNK = chunk
  if not ok then error(result, 0) end
  return result
end

-- All that a run sees of samples.
local function seen(s)
  local r = s.report
  local list = { r.records, r.samples, r.tokens, r.learned, r.longest, r.dropped.n, r.dropped[1], r.specials,
                 r.with_specials.n, s.source:bad().n or #s.source:bad() }
  for k = 0, s:size() - 1 do
    list[#list + 1] = { s:number(k), s:length(k), s:weight(k), s:show(k) }
  end
  return list
end

-- One pass in this process, nothing kept.
local function plainly(path, o)
  local source = data.open(path, { limit_bad = o and o.limit_bad })
  return samples_of(source, o and o.chat or template.chatml(), tok, { max_tokens = 250 })
end

local function text_of(s) return s:describe() end

local function only(folder, what)
  local names = host.list(folder .. "/" .. what)
  local found = {}
  for _, name in ipairs(names) do
    if not name:match "%.lock$" then found[#found + 1] = folder .. "/" .. what .. "/" .. name end
  end
  expect.same(#found, 1, "files in " .. what)
  return found[1]
end

local function contents(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "*a"
  f:close()
  return text
end

return {
  { "fields that nothing reads are counted by name, in several processes as in one", function()
    local folder = process.folder()
    local path = file(folder, 60, function(lines)
      for i, line in ipairs(lines) do
        if i % 5 == 0 then lines[i] = line:gsub("}$", ', "source": "web", "n": 4, "id": null}') end
      end
    end)
    local wanted = plainly(path)
    expect.same(wanted.report.unused, { source = wanted.report.unused.n, n = wanted.report.unused.n })
    expect.truthy(wanted.report.unused.n > 5)
    local says = ("  fields that are not used: n %%(%d%%), source %%(%d%%)"):format(wanted.report.unused.n, wanted.report.unused.n)
    expect.match(text_of(wanted), says)
    expect.match(text_of(samples(folder, path)), says)
    expect.match(text_of(samples(folder, path)), says)  -- of what was kept
    expect.same(samples(folder, path).report.unused, wanted.report.unused)
  end },

  { "a scan in several processes finds what one pass finds, and is kept", function()
    local folder = process.folder()
    local path = file(folder, 60)
    local wanted = seen(plainly(path))
    local first = samples(folder, path)
    expect.same(seen(first), wanted)
    expect.match(text_of(first), "scanned 60 records in .* processes?: .* records/s")
    expect.match(text_of(first), "scan kept in ")
    local again = samples(folder, path)
    expect.same(seen(again), wanted)
    expect.match(text_of(again), "scan taken from ")
    expect.same(again.found.scanned, nil)
  end },
  { "another template, another length and other bytes are other scans", function()
    local folder = process.folder()
    local path = file(folder, 30)
    samples(folder, path)
    expect.truthy(samples(folder, path, { chat = template.chatml { learn = { verdict = 2 } } }).found.scanned)
    expect.truthy(samples(folder, path, { max_tokens = 240 }).found.scanned)
    file(folder, 30, function(lines) lines[3] = lines[4] end)
    local s = samples(folder, path)
    expect.truthy(s.found.scanned)
    expect.same(seen(s), seen(plainly(path)))
  end },
  { "a scan that died goes on where it was", function()
    local folder = process.folder()
    local path = file(folder, 60)
    local wanted = seen(plainly(path))
    expect.raises("the power went", samples, folder, path, {
      progress = function(done) if done >= 21 then error("the power went", 0) end end,
    })
    local journal
    for _, name in ipairs(host.list(folder .. "/scans")) do
      if name:match "%.part$" then journal = folder .. "/scans/" .. name end
    end
    local text = contents(journal)
    process.write(journal, text .. text:sub(1, 50))  -- and one more was being written
    collectgarbage()
    collectgarbage()
    local s = samples(folder, path)
    expect.same(seen(s), wanted)
    expect.same(s.found.scanned.records, 60 - 21)
    expect.match(text_of(s), "%(21 were scanned before%)")
  end },
  { "a damaged result is left out, and said", function()
    local folder = process.folder()
    local path = file(folder, 30)
    local wanted = seen(samples(folder, path))
    local result = only(folder, "scans")
    local text = contents(result)
    for _, at in ipairs { 5, 60, #text - 3 } do
      process.write(result, text:sub(1, at - 1) .. string.char((text:byte(at) + 1) % 256) .. text:sub(at + 1))
      local s = samples(folder, path)
      expect.same(seen(s), wanted)
      expect.match(text_of(s), "left out: .*/scans/%x+: ")
    end
    process.write(result, text:sub(1, 20))
    expect.match(text_of(samples(folder, path)), "left out: ")
    expect.truthy(not samples(folder, path).found.scanned, "mended")
  end },
  { "broken records are counted, named and collected as in one pass", function()
    local folder = process.folder()
    local path = file(folder, 40, function(lines) lines[9], lines[30] = "{ broken", '{"instruction":1}' end)
    expect.raises("data%.jsonl: record 8, line 9, byte", samples, folder, path)
    for _ = 1, 2 do  -- scanned, then taken
      local quarantine = folder .. "/bad.jsonl"
      local s = samples(folder, path, { limit_bad = 2, quarantine = quarantine })
      expect.same(seen(s), seen(plainly(path, { limit_bad = 2 })))
      expect.match(contents(quarantine), '^{[^\n]*"raw":"{ broken"[^\n]*}\n{[^\n]*"record":29}\n$')
      os.remove(quarantine)
    end
  end },
  { "an index is kept, and left out when its file changes", function()
    local folder = process.folder()
    local path = file(folder, 20)
    local function open() return data.open(path, { cache = folder, large = 0 }) end
    local texts = {}
    for i, r in open():records() do texts[i] = r.raw.output end
    local again = open()
    for i, r in again:records() do expect.same(r.raw.output, texts[i]) end
    expect.same(again.notes, {})
    expect.same(again:hash(), data.open(path):hash())
    file(folder, 20, function(lines) lines[2] = lines[3] end)
    local changed = open()
    expect.match(changed.notes[1], "/index/%x+%.index: left out: its file ")
    expect.same(changed:get(1).raw.output, texts[2])
    local index = only(folder, "index")
    process.write(index, contents(index):sub(1, -2))
    expect.match(open().notes[1], "left out: its bytes are not those that were written")
    process.write(index, "something else")
    expect.match(open().notes[1], "left out: is no index")
    expect.same(open().notes, {})
  end },
  { "a folder that cannot be written costs time alone", function()
    local folder = process.folder()
    local path = file(folder, 20)
    process.write(folder .. "/scans", "in the way")
    local s = samples(folder, path)
    expect.same(seen(s), seen(plainly(path)))
    expect.match(text_of(s), "scan not kept: ")
  end },
  { "a disk that is full leaves nothing half written, and nothing of the dead in the way", function()
    local folder = process.folder()
    local path = file(folder, 30)
    local wanted = seen(samples(folder, path))
    local result = only(folder, "scans")
    os.remove(result)
    local undo
    local ok, s = pcall(samples, folder, path, { progress = function(done)
      if done == 30 then undo = with_files_up_to(100) end  -- the journal is written, the result is not
    end })
    undo()
    expect.truthy(ok, s)
    expect.same(seen(s), wanted)
    expect.match(text_of(s), "scan not kept: [^\n]*/scans/%x+[^\n]*File too large")
    for _, name in ipairs(host.list(folder .. "/scans")) do expect.match(name, "%.lock$") end
    local half = result:gsub("([^/]*)$", ".%1.cft-tmp-a1b2c3")
    process.write(half, ("half of a result"):rep(9999))  -- its process was killed
    expect.match(text_of(samples(folder, path)), "scan kept in ")
    expect.same(only(folder, "scans"), result)
    expect.truthy(not samples(folder, path).found.scanned, "a good one")
  end },
  { "functions have no name, and what they make is not kept", function()
    local folder = process.folder()
    local path = file(folder, 20)
    local s = samples_of(data.open(path, { large = 0, cache = folder, fields = function(r) return r end }),
      template.chatml(), tok, { max_tokens = 250, large = 0, cache = folder })
    expect.same(seen(s), seen(plainly(path)))
    expect.match(text_of(s), "scan not kept: fields is a function")
  end },
}
