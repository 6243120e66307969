-- Passes through a source: what comes of them is the same for one process and for several, bad records are met once
-- and in order, and what goes wrong in a process is one message here. And what they keep numbers and digests in.

local data = require "cft.data.open"
local decontaminate = require "cft.data.decontaminate"
local dedup = require "cft.data.dedup"
local digests = require "cft.data.util.digest_table"
local exit = require "cft.base.exit"
local expect = require "tests.expect"
local files = require "cft.io.files"
local json = require "cft.base.json"
local mix = require "cft.data.mix"
local numbers = require "cft.data.util.int_array"
local parallel = require "cft.data.parallel"
local process = require "tests.process"
local ffi = require("cft.engine.ffi").ffi

ffi.cdef "void _exit(int status);"

local function in_jobs_of(records, work)
  local chunk = parallel.CHUNK
  parallel.CHUNK = records
  local ok, err = pcall(work)
  parallel.CHUNK = chunk
  if not ok then error(err, 0) end
end

local function sentence(k, n)
  local list = {}
  for w = 1, n do list[w] = "w" .. (k * 31 + w * w * (k % 7 + 1)) % 997 end
  return list
end

-- 90 records: some questions are asked again, some records are there twice, some nearly; every 11th is bad.
local function lines_of()
  local lines = {}
  for i = 0, 89 do
    local words = sentence(i % 40, 60)
    if i >= 60 then words[30] = "other" .. i end
    local record = { instruction = "q" .. i % 20 .. " " .. table.concat(sentence(i % 20, 20), " "), output = table.concat(words, " ") }
    lines[#lines + 1] = i % 11 == 5 and '{"instruction": ' .. i or json.encode(record)
  end
  return lines
end

local function file(lines) return process.write(process.folder() .. "/data.jsonl", table.concat(lines, "\n") .. "\n") end

local function open(path, o)
  return data.open(path, { limit_bad = o and o.limit_bad or 20, quarantine = o and o.quarantine, fields = o and o.fields })
end

local function texts(source)
  local list = {}
  for i, record in source:records() do list[#list + 1] = source:where(i) .. record.messages[1].content end
  return list
end

-- What `make` gives for one process and for three, in jobs of seven records.
local function both(make)
  local path, results = file(lines_of()), {}
  in_jobs_of(7, function()
    for k, count in ipairs { 1, 3 } do results[k] = make(open(path), count) end
  end)
  expect.same(results[2], results[1])
  return results[1]
end

return {
  { "a split, a filter, duplicates and pairs are those of one process", function()
    local found = both(function(source, count)
      local train, heldout = source:split { heldout = 12, seed = 5, processes = count }
      return { texts(train), texts(heldout), train:identity(), heldout:identity() }
    end)
    expect.truthy(#found[2] > 6 and #found[2] <= 12)
    expect.same(#found[1] + #found[2], 82)
    found = both(function(source, count)
      return texts(source:filter(function(_, i) return i % 4 == 1 end, { processes = count }))
    end)
    expect.same(#found, 21)
    for _, near in ipairs { false, 0.6, 0.8 } do
      found = both(function(source, count)
        local seen = dedup.new { near = near or nil, processes = count }
        return { texts(seen:keep(source:range(0, 50))), texts(seen:keep(source:range(50))), seen:describe(), seen.duplicates }
      end)
      expect.truthy(#found[4] > 10)
    end
    local bench = process.write(process.folder() .. "/bench.jsonl", json.encode { problem = table.concat(sentence(3, 20), " ") }
      .. "\n" .. json.encode { question = table.concat(sentence(9, 15), " ") } .. "\n")
    found = both(function(source, count)
      local seen = decontaminate.search(source, bench, { processes = count })
      return { seen.records, seen.pairs, seen:describe(), texts(seen:drop(source)) }
    end)
    expect.same({ #found[1], #found[2], #found[4] }, { 9, 9, 73 })
    found = both(function(source, count)
      local m = mix.new { { source:range(0, 45) }, { source:range(30) }, dedup = "exact", processes = count }
      return { m:size(), m:describe() }
    end)
    expect.match(found[2], "%d+ of %d+ records are duplicates")
  end },

  { "bad records are met once, in order, and kept by one process", function()
    local path, kept = file(lines_of()), {}
    in_jobs_of(7, function()
      for k, count in ipairs { 1, 3 } do
        local quarantine = process.folder() .. "/bad.jsonl"
        local source = open(path, { quarantine = quarantine })
        source:split { heldout = 5, processes = count }
        source:filter(function() return true end, { processes = count })
        kept[k] = { {}, {} }
        for _, entry in ipairs(source:bad()) do table.insert(kept[k][1], data.describe(entry)) end
        for line in io.lines(quarantine) do table.insert(kept[k][2], json.decode(line).record) end
      end
    end)
    expect.same(kept[1][2], { 5, 16, 27, 38, 49, 60, 71, 82 })
    expect.same(kept[2], kept[1])
  end },

  { "too many of them are the same error, at the same one", function()
    local lines = {}
    for i = 1, 400 do lines[i] = i % 2 == 0 and "{" or '{"instruction": "q", "output": "a"}' end
    local path, messages = file(lines), {}
    in_jobs_of(64, function()
      for k, count in ipairs { 1, 3 } do
        messages[k] = expect.raises("105 bad records, limit_bad = 4 allows no more", function()
          open(path, { limit_bad = 4 }):split { heldout = 5, processes = count }
        end)
      end
    end)
    expect.same(messages[2], messages[1])
  end },

  { "what a function of the user's raises comes with its message and exit code", function()
    local path = file(lines_of())
    in_jobs_of(7, function()
      local function split(by) return function() open(path):split { heldout = 5, by = by, processes = 3 } end end
      expect.raises("parallel%.lua:%d+: split: by gave a table for .*data%.jsonl: record 31, line 32; a string or number is wanted$",
        split(function(_, i) return i == 31 and {} or "k" .. i end))
      expect.raises("^[^\n]*parallel%.lua:%d+: no key at 40$", split(function(_, i)
        if i >= 40 then error("no key at " .. i) end  -- all three meet one; that of the first record counts
        return i
      end))
      local ok, err = pcall(split(function() exit.fail(exit.MISSING, "no table of keys") end))
      expect.same({ ok, exit.code(err), tostring(err) }, { false, exit.MISSING, "no table of keys" })
      expect.raises("a worker ended early with code 7", split(function()
        ffi.C._exit(7)  -- os.exit would have a sanitizer look for leaks in a fork
      end))
    end)
  end },

  { "a function that is not the same in every process is named", function()
    local source = open(file(lines_of()), { fields = function(r) return not parallel.inside and r or nil end })
    in_jobs_of(7, function()
      expect.raises("record 0, line 1: is a bad record in one process and a good one in another", source.split, source,
        { heldout = 5, processes = 3 })
    end)
  end },

  { "few records, and those in memory, need no other process", function()
    local source = open(file(lines_of()))
    expect.same(parallel.processes(source), 1)
    local small = parallel.SMALL
    parallel.SMALL = 10
    local many, list = parallel.processes(source), parallel.processes(data.generate(1e6, function() return {} end))
    local inside
    parallel.each(source:range(0, 1), { processes = 2, of = function() return tostring(parallel.inside) end,
                                      take = function(_, at, bytes) inside = require("ffi").string(at, bytes) end })
    local mixture = parallel.processes(mix.new { { source } })
    parallel.SMALL = small
    expect.same({ many, list, inside, mixture }, { parallel.cores(), 1, "false", 1 })
  end },

  { "a mixture is gone through by one process, whatever is asked for", function()
    local path, found = file(lines_of()), {}
    local bench = process.write(process.folder() .. "/bench.jsonl", json.encode { problem = table.concat(sentence(3, 20), " ") })
    in_jobs_of(7, function()
      for count = 1, 2 do
        local mixture, passed = mix.new { { open(path) }, { open(path) } }, {}
        parallel.each(mixture, { processes = count, of = function(_, i) return tostring(i) end,
                               take = function(i) passed[#passed + 1] = i end })
        local seen = decontaminate.search(mixture, bench, { processes = count })
        found[count] = { #passed, passed[#passed], seen.count, seen.records, seen:describe() }
      end
    end)
    expect.same(found[2], found[1])
    expect.same({ unpack(found[2], 1, 3) }, { 164, 179, 10 })
  end },

  { "a field to compare that is no text is named by its record", function()
    local path = file(lines_of())
    in_jobs_of(7, function()
      for _, count in ipairs { 1, 3 } do
        local seen = dedup.new { near = 0.8, processes = count, by = function(_, i) return i ~= 31 and "k" .. i or nil end }
        expect.raises("^[^\n]*: dedup: by gave a nil for [^\n]*data%.jsonl: record 31, line 32; a text is wanted$",
          seen.keep, seen, open(path))
      end
    end)
    local calls = 0  -- a text at first, none when it is read again to be counted
    local seen = dedup.new { near = 0.5, by = function()
      calls = calls + 1
      return calls <= 2 and "one two three four five six seven eight nine ten eleven twelve " .. calls or {}
    end }
    expect.raises("dedup: by gave a table for list: record 1; a text is wanted", seen.keep, seen, data.list {
      { instruction = "q", output = "a" }, { instruction = "r", output = "b" } })
  end },

  { "lists of what was found are bounded, counts are not", function()
    local path, kept_pairs, kept_duplicates = file(lines_of()), decontaminate.KEPT, dedup.KEPT
    decontaminate.KEPT, dedup.KEPT = 3, 4
    local ok, err = pcall(function()
      local bench = process.write(process.folder() .. "/bench.jsonl", json.encode { problem = table.concat(sentence(3, 20), " ") })
      local all = decontaminate.search(open(path), bench)
      expect.same({ all.count, #all.records, #all.pairs, all.pairs[1].rank, all.pairs[1].record }, { 5, 5, 3, 1, 3 })
      expect.match(all:describe(2), "  and 3 more pairs, of which those beyond 3 are only counted$")
      local seen = dedup.new {}
      local clean = seen:keep(mix.new({ { open(path) } }).parts[1].source)
      local again = seen:keep(open(path))
      expect.same({ clean:size(), again:size(), #seen.duplicates, seen.count }, { 65, 0, 4, 99 })
      expect.match(seen:describe(), "99 of 164 records.*\n  and 95 more$")
    end)
    decontaminate.KEPT, dedup.KEPT = kept_pairs, kept_duplicates
    if not ok then error(err, 0) end
  end },

  { "of records that are all alike the likeliest are compared, and the report says so", function()
    local list, template = {}, table.concat(sentence(2, 60), " ")
    for i = 0, 299 do  -- two in three of their words are everyone's; the last 100 are the first with one word changed
      local own = sentence(i % 200 + 50, 40)
      for w = 1, 40 do own[w] = own[w] .. "x" .. (i % 200) * 40 + w end
      if i >= 200 then own[40] = "else" end
      list[i + 1] = { instruction = template, output = table.concat(own, " ") }
    end
    local seen = dedup.new { near = 0.9 }
    expect.same(seen:keep(data.list(list)):size(), 200)
    for k, d in ipairs(seen.duplicates) do
      expect.same({ d.record, d.of, d.equal }, { 199 + k, "list: record " .. k - 1, false })
    end
    expect.truthy(seen.bounded > 20 and seen.bounded <= 200, seen.bounded)
    expect.match(seen:describe(), seen.bounded .. " records were compared with the likeliest of those like them only")
    seen = dedup.new { near = 0.9 }
    seen:keep(data.list(list):range(0, 20))
    expect.same({ seen.bounded, seen:describe():match "compared" }, { 0, nil })
  end },

  { "digests have the numbers that a table would give them", function()
    local seen, table_of, n = digests.new(), {}, 0
    for i = 0, 4999 do
      local text = files.digest("text " .. i % 3000)
      local id, fresh = seen:add(text)
      expect.same(fresh, table_of[text] == nil)
      if not table_of[text] then table_of[text], n = n, n + 1 end
      if id ~= table_of[text] then expect.same(id, table_of[text], text) end
    end
    expect.same({ seen.n, seen:find(files.digest "text 2999"), seen:find(files.digest "text 3000") }, { 3000, 2999, nil })
    seen:release()
  end },

  { "numbers, also those that four bytes do not hold", function()
    local list, wide = numbers.new(5000), numbers.new(2 ^ 40)
    for i = 0, 4999 do list:add(4999 - i) end
    wide:add(2 ^ 40 - 1)
    expect.same({ list.n, list:at(0), list:at(4999), wide:at(0), list.bytes, wide.bytes }, { 5000, 4999, 0, 2 ^ 40 - 1, 4, 8 })
    local source = data.generate(9, function(i) return { instruction = "q" .. i, output = "a" } end)
    local gone = numbers.new(9)
    for _, i in ipairs { 0, 3, 8 } do gone:add(i) end
    expect.same(texts(source:without(gone)), texts(source:without { 0, 3, 8 }))
    expect.same(texts(source:without { 0, 3, 8 }), texts(source:select { 1, 2, 4, 5, 6, 7 }))
    expect.same(source:without({}):size(), 9)
    expect.same(source:select({}):identity(true), nil)
  end },
}
