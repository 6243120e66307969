-- The token cache: what is taken from it is what would have been made; what does not fit is said and left out.

local data = require "cft.data.open"
local demo = require "cft.demo"
local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local files = require "cft.io.files"
local host = require "cft.host"
local mask = require "cft.samples.mask"
local samples_of = require("cft.samples").new
local process = require "tests.process"
local template = require "cft.text.template"
local tokencache = require "cft.samples.tokencache"
local workers = require "cft.data.workers"
local ffi = door.ffi

local tok = demo.tokenizer(1)

-- Records of the demo, one with a special token's string, one that is too long.
local function records(n, change)
  local make, list = demo.training(1), {}
  for i = 0, n - 1 do
    local r = make(i)
    list[i + 1] = { instruction = r.instruction, input = r.input, output = r.output }
  end
  if n > 2 then
    list[2].input = list[2].input .. "<|im_end|>"
    list[3].output = list[3].output:rep(9)
  end
  if change then change(list) end
  return list
end

local function samples(folder, list, o)
  o = o or {}
  return samples_of(data.list(list), o.chat or template.chatml(), o.tok or tok, {
    cache = folder, max_tokens = o.max_tokens or 250, length = o.length, cache_bytes = o.cache_bytes,
  })
end

-- All that a run sees of samples.
local function seen(s)
  local list = { s.report.tokens, s.report.learned, s.report.longest, s.report.dropped, s.report.specials }
  for k = 0, s:size() - 1 do
    local one = s:get(k)
    list[#list + 1] = { s:show(k), one.record, one.ends, one.verdict, one.cut, s.weights[k] }
  end
  return list
end

local function blocks(folder)
  local paths = {}
  for _, key in ipairs(host.list(folder)) do
    for _, name in ipairs(host.list(folder .. "/" .. key)) do
      if name:match "%.tokens$" then paths[#paths + 1] = folder .. "/" .. key .. "/" .. name end
    end
  end
  return paths
end

local function counts(s) return { s.token_cache.taken, s.token_cache.added, #s.token_cache.broken } end

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- ---- blocks by hand --------------------------------------------------------------------------

local HEADER, PLACE, FOOTER = 48, 32, 32
local Place = ffi.typeof "struct { uint32_t key[4]; uint64_t at, bytes; }"
local Footer = ffi.typeof "struct { uint64_t list, count; }"

-- The bytes of a block with something changed: `place` of the list's first entry, `footer`, `entry` the first
-- entry's bytes behind its hash. All hashes are right again afterwards.
local function forged(text, change)
  local bytes = ffi.new("uint8_t[?]", #text)
  ffi.copy(bytes, text, #text)
  local footer = ffi.cast(ffi.typeof("$ *", Footer), bytes + #text - FOOTER)
  local list = tonumber(footer.list)
  local place = ffi.cast(ffi.typeof("$ *", Place), bytes + list)
  local at, length = tonumber(place.at), tonumber(place.bytes)
  if change.entry then
    change.entry(ffi.cast("uint32_t *", bytes + at + 8))
    ffi.copy(bytes + at, files.digest(bytes + at + 8, length - 8), 8)
  end
  if change.place then change.place(place) end
  if change.footer then change.footer(footer) end
  ffi.copy(bytes + #text - 16, files.digest(bytes + list, #text - 16 - list), 16)
  return ffi.string(bytes, #text)
end

-- A cache of entries that are made up; number k has as many ids as it says.
local function made_up(folder) return assert(tokencache.open(folder, template.chatml(), tok, { max_tokens = 7 })) end
local function key_of(k) return files.digest("record " .. k) end
local function sample_of(k, n)
  n = n or 1 + k % 5
  local ids, spans = ffi.new("int32_t[?]", n), ffi.new "cft_batch_span[1]"
  for i = 0, n - 1 do ids[i] = 1000 * k + i end
  spans[0].count, spans[0].weight, spans[0].kind = n, 0.5, 2
  return { n = n, ids = ids, spans = spans, span_count = 1, whole = n + k, cut = k, ends = k % 2 == 0, verdict = k % 3 == 0 }
end

-- Change a byte of entry k in a block.
local function damage(path, k)
  local text = contents(path)
  local bytes = ffi.new("uint8_t[?]", #text)
  ffi.copy(bytes, text, #text)
  local footer = ffi.cast(ffi.typeof("$ *", Footer), bytes + #text - FOOTER)
  local list = ffi.cast(ffi.typeof("$ *", Place), bytes + tonumber(footer.list))
  for i = 0, tonumber(footer.count) - 1 do
    local at = tonumber(list[i].at)
    if ffi.string(list[i].key, 16) == key_of(k) then bytes[at + 20] = bytes[at + 20] + 1 end
  end
  process.write(path, ffi.string(bytes, #text))
end

local function has(cache, k)
  local got, want = cache:get(key_of(k)), sample_of(k)
  expect.truthy(got, "entry " .. k)
  expect.same({ got.n, got.whole, got.cut, got.ends, got.verdict, got.span_count }, { want.n, want.whole, want.cut,
    want.ends, want.verdict, 1 })
  expect.same(ffi.string(got.ids, 4 * got.n), ffi.string(want.ids, 4 * got.n))
  expect.same(ffi.string(got.spans, 16), ffi.string(want.spans, 16))
end

return {
  { "what comes from it is what would have been made", function()
    for _, o in ipairs { {}, { length = "llamafactory" }, { length = "cut_context" }, { cache_bytes = 0 } } do
      local folder, list = process.folder(), records(6)
      local made = samples(nil, list, o)
      local first, again = samples(folder, list, o), samples(folder, list, o)
      expect.same(counts(first), { 0, 6, 0 })
      expect.same(counts(again), { 6, 0, 0 })
      expect.same(seen(first), seen(made))
      expect.same(seen(again), seen(made))
      expect.match(again:describe(), "token cache .*: 6 records taken, 0 added")
    end
  end },

  { "a record that changed is made again, the others are not", function()
    local folder = process.folder()
    samples(folder, records(6))
    local list = records(6, function(l) l[5].output = "Another. " .. l[5].output end)
    local s = samples(folder, list)
    expect.same(counts(s), { 5, 1, 0 })
    expect.same(seen(s), seen(samples(nil, list)))
    expect.same(counts(samples(folder, records(6))), { 6, 0, 0 })
  end },

  { "template, policy and tokenizer have caches of their own", function()
    local folder, list = process.folder(), records(2)
    samples(folder, list)
    local bigger = demo.tokenizer(1)
    bigger:add_token("Solution", { special = false })
    for _, o in ipairs {
      { chat = template.qwen() }, { chat = template.chatml { learn = { verdict = 2 } } },
      { chat = template.chatml { turns = "last" } }, { max_tokens = 251 }, { length = "cut_context" }, { tok = bigger },
    } do
      expect.same(counts(samples(folder, list, o)), { 0, 2, 0 })
      expect.same(counts(samples(folder, list, o)), { 2, 0, 0 })
    end
    expect.same(counts(samples(folder, list)), { 2, 0, 0 })
  end },

  { "a truncated block is said, left out and made again", function()
    local folder, list = process.folder(), records(6)
    samples(folder, list)
    local path = blocks(folder)[1]
    process.write(path, contents(path):sub(1, -20))
    local s = samples(folder, list)
    expect.same(counts(s), { 0, 6, 1 })
    expect.match(s:describe(), "left out: .*%.tokens: its %d+ bytes are not those that were written")
    expect.same(seen(s), seen(samples(nil, list)))
    expect.same(counts(samples(folder, list)), { 6, 0, 0 })  -- the good one has the same name
  end },

  { "a changed byte is found, wherever it is", function()
    local list = records(6)
    local wanted = seen(samples(nil, list))
    local folder = process.folder()
    samples(folder, list)
    local text, path = contents(blocks(folder)[1]), blocks(folder)[1]
    local begin = #text - FOOTER - 6 * PLACE  -- of the list of entries
    for at = 1, #text, 211 do
      os.execute("rm " .. path:match "^(.*)/" .. "/*.tokens")
      process.write(path, text:sub(1, at - 1) .. string.char((text:byte(at) + 1) % 256) .. text:sub(at + 1))
      local s = samples(folder, list)
      if at <= HEADER or at > begin then
        expect.same(counts(s), { 0, 6, 1 })
      else  -- an entry: the others are good
        expect.same(counts(s), { 5, 1, 1 })
        expect.match(s:describe(), "left out: .*%.tokens: the entry at byte %d+ is not what was written")
      end
      expect.same(seen(s), wanted)
      local again = counts(samples(folder, list))
      expect.same({ again[1], again[2] }, { 6, 0 })
    end
  end },

  { "blocks that lie are left out by name", function()
    local list = records(6)
    local wanted = seen(samples(nil, list))
    local folder = process.folder()
    samples(folder, list)
    local path = blocks(folder)[1]
    local text = contents(path)
    local function refused(what, forgery, taken)
      os.execute("rm " .. path:match "^(.*)/" .. "/*.tokens")
      process.write(path, forgery)
      local s = samples(folder, list)
      expect.same(counts(s), { taken or 0, 6 - (taken or 0), 1 }, what)
      expect.truthy(s:describe():find("left out: " .. path, 1, true), what)
      expect.same(seen(s), wanted, what)
    end
    expect.same(forged(text, {}), text, "a forgery that changes nothing")
    for _, n in ipairs { 0, 1, HEADER - 1, HEADER, HEADER + FOOTER - 1, HEADER + FOOTER, #text - 1, #text - FOOTER } do
      refused("cut at " .. n, text:sub(1, n))
    end
    refused("one byte more", text .. "\0")
    for what, change in pairs {
      ["one entry more"] = function(f) f.count = f.count + 1 end,
      ["one entry less"] = function(f) f.count = f.count - 1 end,
      ["entries beyond counting"] = function(f) f.count = 2ULL ^ 62 end,
      ["as many as make the product overflow"] = function(f) f.count = f.count + 2ULL ^ 59 end,
      ["a list in the header"] = function(f) f.list = 0 end,
      ["a list behind the end"] = function(f) f.list = f.list + 2ULL ^ 40 end,
      ["a list before the beginning"] = function(f) f.list = -8LL end,
    } do
      local bytes = ffi.new("uint8_t[?]", #text)
      ffi.copy(bytes, text, #text)
      change(ffi.cast(ffi.typeof("$ *", Footer), bytes + #text - FOOTER))
      refused(what, ffi.string(bytes, #text))
    end
    for what, change in pairs {
      ["an entry in the header"] = function(p) p.at = 40 end,
      ["an entry that is not aligned"] = function(p) p.at = p.at + 4 end,
      ["an entry behind the end"] = function(p) p.at = #text end,
      ["an entry far behind the end"] = function(p) p.at = 2ULL ^ 63 end,
      ["an entry into the list"] = function(p) p.bytes = #text - p.at end,
      ["an entry that wraps round"] = function(p) p.bytes = 0ULL - p.at end,
      ["an entry without a head"] = function(p) p.bytes = 8 end,
    } do
      refused(what, forged(text, { place = change }))
    end
    for what, change in pairs {  -- a head: ids, spans, bytes of JSON, whole, cut, flags
      ["ids that are not there"] = function(h) h[0] = 0xffffffff end,
      ["spans that are not there"] = function(h) h[1] = 0x10000000 end,
      ["spans that hold fewer tokens"] = function(h) h[6] = h[6] - 1 end,
      ["JSON that is none"] = function(h) h[0], h[2] = h[0] - 1, h[2] + 4 end,
      ["a text that is not there"] = function(h) h[2] = 0xfffffff0 end,
      ["no sample and no reason"] = function(h) h[5] = 1 end,
    } do
      refused(what, forged(text, { entry = change }), 5)
    end
  end },

  { "a key in several blocks, and a damaged one of them", function()
    local folder = process.folder()
    local one, other = made_up(folder), made_up(folder)
    for k = 1, 3 do one:put(key_of(k), sample_of(k)) end
    for k = 2, 5 do other:put(key_of(k), sample_of(k)) end
    other:put(key_of(5), sample_of(5))
    expect.same(other.added, 4)
    one:flush() other:flush()
    local both = made_up(folder):load()
    expect.same(both.found, 7)
    for k = 1, 5 do has(both, k) end
    local first, second = unpack(blocks(folder))
    damage(first, 2)
    local damaged = made_up(folder)
    for k = 1, 5 do has(damaged, k) end  -- taken from the other
    expect.same(#damaged.broken, 1)
    damage(second, 2)
    local gone = made_up(folder)
    for _ = 1, 2 do expect.same({ gone:get(key_of(2)), #gone.broken }, { nil, 2 }) end
    gone:put(key_of(2), sample_of(2))
    has(gone, 2)
    gone:flush()
    has(made_up(folder), 2)
  end },

  { "processes that add at once", function()
    local folder, list = process.folder(), {}
    for p = 0, 2 do
      list[p] = workers.start(function(send)
        local cache = made_up(folder)
        for k = 0, 59 do
          if k % 20 >= 5 * p then cache:put(key_of(k), sample_of(k)) end  -- many are added by all
          if k % 20 == p then cache:flush() end
        end
        for k = 0, 59 do
          if k % 20 >= 5 * p then has(cache, k) end
        end
        cache:flush()
        send "done"
      end)
    end
    for p = 0, 2 do
      local text, why = list[p]:read()
      expect.same(text, "done", why)
      list[p]:stop()
    end
    local cache = made_up(folder)
    for k = 0, 59 do has(cache, k) end
    expect.same({ cache:get(key_of(60)), #cache.broken }, { nil, 0 })
  end },

  { "blocks fill up, and an entry larger than a block is one", function()
    local folder = process.folder()
    local cache = made_up(folder)
    local sizes = { 1, 500000, 900000, 3000000, 7, 2000000, 100000, 2097152 }  -- ids, 4 bytes each
    for k, n in ipairs(sizes) do cache:put(key_of(k), sample_of(k, n)) end
    for k, n in ipairs(sizes) do expect.same(cache:get(key_of(k)).n, n) end
    cache:flush()
    local again = made_up(folder):load()
    expect.same({ again.found, #again.broken }, { #sizes, 0 })
    for k, n in ipairs(sizes) do
      expect.same(ffi.string(again:get(key_of(k)).ids, 4 * n), ffi.string(sample_of(k, n).ids, 4 * n))
    end
    for _, path in ipairs(blocks(folder)) do
      expect.truthy(#contents(path) <= 8 * 1024 * 1024 or contents(path):sub(-FOOTER + 8, -FOOTER + 15):byte() == 1)
    end
  end },

  { "what is found stays found while a cache grows, and equal blocks have equal names", function()
    local folder, other = process.folder(), process.folder()
    local cache = made_up(folder):load()
    for k = 1, 2000 do
      cache:put(key_of(k), sample_of(k))
      if k % 500 == 0 then cache:flush() end
    end
    for k = 1, 2000 do has(cache, k) end
    local alone = made_up(other)
    for _, c in ipairs { cache, alone } do
      c:put(key_of(2002), sample_of(2002))  -- where bytes of the block before it may lie
      c:flush()
    end
    expect.truthy(host.kind(cache.folder .. "/" .. blocks(other)[1]:match "[^/]*$"), "the same name")
  end },

  { "entries cost memory by the byte, blocks hardly any", function()
    local folder, N = process.folder(), 200000
    local cache, sample = made_up(folder), sample_of(1)
    for k = 1, N do
      cache:put(key_of(k), sample)
      if k % 5000 == 0 then cache:flush() end  -- as if short runs had been
    end
    local r = process.cftrun { "-e", ([[
      local template, tokencache = require "cft.text.template", require "cft.samples.tokencache"
      local files, tok = require "cft.io.files", require("cft.demo").tokenizer(1)
      local function anonymous()
        collectgarbage() collectgarbage()
        for line in io.lines "/proc/self/smaps_rollup" do
          local kb = line:match "^Anonymous: +(%%d+)"
          if kb then return 1024 * tonumber(kb) end
        end
      end
      local cache = tokencache.open("%s", template.chatml(), tok, { max_tokens = 7 })
      local before = anonymous()
      cache:load()
      local grown = anonymous() - before
      for k = 1, %d do assert(cache:get(files.digest("record " .. k)).n == 2) end
      print(cache.found, grown)
    ]]):format(folder, N) }
    expect.same(r.err, "")
    local found, grown = r.out:match "(%d+)%s+(%d+)"
    expect.same(tonumber(found), N)
    expect.truthy(tonumber(grown) < 40 * N, grown .. " bytes")
  end },

  { "what is closed keeps what was gathered, and neither finds nor takes more", function()
    local folder = process.folder()
    local cache = made_up(folder)
    for k = 1, 2 do cache:put(key_of(k), sample_of(k)) end
    cache:close()
    cache:close()
    expect.same({ cache:get(key_of(1)), cache:key(data.conversation(records(1)[1])) }, {})
    cache:put(key_of(3), sample_of(3))
    cache:flush()
    expect.same({ cache.added, #cache.broken, #blocks(folder) }, { 2, 0, 1 })
    local again = made_up(folder)
    for k = 1, 2 do has(again, k) end
    expect.same({ again.found, (again:get(key_of(3))) }, { 2, nil })
  end },

  { "what was left out is told once to whoever counts", function()
    local cache = made_up(process.folder())
    for k = 1, 3 do
      cache:leave_out("block " .. k, "why " .. k)
      cache:leave_out("block 1", "why again")
    end
    expect.same(cache.broken, { "why 1", "why 2", "why 3" })
    expect.same(cache:left_out_after(1), { ["block 2"] = "why 2", ["block 3"] = "why 3" })
    expect.same(cache:left_out_after(3), {})
  end },

  { "Lua files that are taken in place of those inside name another program", function()
    local folder, names = process.folder(), {}
    local function name()
      local r = process.cftrun { "-e", [[print(require("cft.samples.tokencache").name(require("cft.text.template").chatml(),
        require("cft.demo").tokenizer(1), {}))]], env = { CFT_LUA_PATH = folder } }
      expect.same(r.err, "")
      names[#names + 1] = r.out
    end
    name()
    os.execute("mkdir -p " .. folder .. "/cft/templates")
    process.write(folder .. "/cft/templates/mine.lua", "return 1")
    name()
    process.write(folder .. "/cft/made_up.lua", "return 1")
    name()
    process.write(folder .. "/cft/made_up.lua", "return 2")
    name()
    name()
    for k = 1, 3 do expect.truthy(names[k] ~= names[k + 1], "name " .. k) end
    expect.same(names[5], names[4])
  end },

  { "a folder that cannot be written costs time alone", function()
    local folder, list = process.folder(), records(6)
    process.write(folder .. "/tokens", "in the way")
    local s = samples(folder .. "/tokens", list)
    expect.same(seen(s), seen(samples(nil, list)))
    expect.same(counts(s), { 0, 0, 1 })
    expect.match(s:describe(), "left out: [^\n]*/tokens: [^\n]*; nothing more is added")
  end },

  { "more blocks than can be mapped", function()
    local folder, limit = process.folder(), tokencache.BLOCKS
    for k = 1, 5 do
      local cache = made_up(folder)
      cache:put(key_of(k), sample_of(k))
      cache:flush()
    end
    tokencache.BLOCKS = 3
    local cache = made_up(folder)
    local ok, why = pcall(cache.load, cache)
    tokencache.BLOCKS = limit
    expect.truthy(ok, why)
    expect.same({ cache.found, #cache.broken }, { 3, 1 })
    expect.match(cache:describe(), "left out: [^\n]*: of 5 blocks those after the first 3")
  end },

  { "what dead processes left is removed, what living ones write is not", function()
    local folder = process.folder()
    local cache = made_up(folder)
    cache:put(key_of(1), sample_of(1))
    cache:flush()
    local litter = process.write(cache.folder .. "/.0123.tokens.cft-tmp-a1b2c3", "half of a block")
    local writer = host.lock(cache.folder .. "/.lock", true)
    made_up(folder):load()
    expect.same(contents(litter), "half of a block")
    writer:release()
    made_up(folder):load()
    expect.same(host.kind(litter), nil)
    has(made_up(folder), 1)
  end },

  { "a block of other settings is said and left out", function()
    local folder, other, list = process.folder(), process.folder(), records(6)
    samples(folder, list)
    samples(other, list, { max_tokens = 249 })
    local stale = blocks(other)[1]
    process.write(blocks(folder)[1]:match "^(.*)/" .. "/" .. stale:match "[^/]*$", contents(stale))
    local s = samples(folder, list)
    expect.same(counts(s), { 6, 0, 1 })
    expect.match(s:describe(), "left out: .*: was made with another template, tokenizer, policy or program")
  end },

  { "a run that died leaves what it had written", function()
    local folder, list = process.folder(), records(6)
    local cache = assert(tokencache.open(folder, template.chatml(), tok, { max_tokens = 9 }))
    local record = data.conversation(list[1])
    local sample = mask.encode(record, template.chatml(), tok)
    cache:put(cache:key(record), sample)
    expect.same(blocks(folder), {})
    cache:flush()
    local next_one = tokencache.open(folder, template.chatml(), tok, { max_tokens = 9 })
    expect.same(next_one:load().found, 1)
    expect.same(next_one:get(next_one:key(record)).n, sample.n)
    expect.same(next_one:get(next_one:key(data.conversation(list[2]))), nil)
  end },

  { "blocks that are removed meanwhile are made again", function()
    local folder, list = process.folder(), records(6)
    samples(folder, list)
    local s = samples(folder, list, { cache_bytes = 0 })
    expect.same(counts(s), { 6, 0, 0 })
    s.token_cache.path = nil
    os.remove(blocks(folder)[1])
    expect.same(seen(s), seen(samples(nil, list)))
  end },

  { "weights that are functions are not cached, and it says so", function()
    local s = samples(process.folder(), records(2), { chat = template.chatml { learn = { verdict = function() return 2 end } } })
    expect.match(s:describe(), "not cached: the template has functions of the recipe")
    local custom = template.custom(function(r) return { { text = r.messages[1].content }, { text = "x", learn = true } } end)
    expect.match(samples(process.folder(), records(2), { chat = custom }):describe(), "not cached")
  end },

  { "parts of a message, and kinds that a recipe makes up", function()
    local folder = process.folder()
    local function list(weight)
      return { { messages = {
        { role = "user", content = "Why?" },
        { role = "assistant", content = { { text = "So", kind = "critique", learn = weight }, { text = " it is.", kind = "verdict" } } },
      } }, { messages = {
        { role = "user", content = { { text = "Why?", kind = "riddle" } } }, { role = "assistant", content = "So." },
      } } }
    end
    local first = samples(folder, list(2))
    expect.same(counts(first), { 0, 1, 0 })  -- a riddle's number may be another one in the next process
    expect.same(counts(samples(folder, list(2))), { 1, 0, 0 })
    expect.same(seen(samples(folder, list(2))), seen(first))
    expect.same(counts(samples(folder, list(3))), { 0, 1, 0 })
    expect.same(seen(samples(folder, list(3))), seen(samples(nil, list(3))))
  end },
}
