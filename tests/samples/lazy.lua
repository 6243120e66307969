-- Streams: records are checked when their turn comes, and a place of the order has its record whatever was
-- looked at before.

local batch = require "cft.samples.batch"
local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local json = require "cft.base.json"
local samples_of = require("cft.samples").new
local process = require "tests.process"
local template = require "cft.text.template"

local tok = demo.tokenizer(1)
local N = 40

-- A file of the demo's records: one broken, one without a verdict, which alone has loss weight, one too long.
local chat = template.chatml { learn = { critique = 0, ["end"] = 0 } }
local BROKEN, EMPTY, LONG = 3, 12, 25
local function file(folder, change)
  local make, lines = demo.training(1), {}
  for i = 0, N - 1 do
    local r = make(i)
    if i == LONG then r.output = r.output:rep(9) end
    lines[i + 1] = json.encode { instruction = r.instruction, input = r.input, output = r.output }
  end
  lines[BROKEN + 1] = "{ broken"
  lines[EMPTY + 1] = '{"instruction":"a","input":"b","output":"no verdict"}'
  if change then change(lines) end
  return process.write(folder .. "/data.jsonl", table.concat(lines, "\n") .. "\n")
end

-- A stream, and what it says.
local function stream(path, o)
  o = o or {}
  local said = {}
  local source = data.open(path, { limit_bad = o.limit_bad or 1 })
  local s = samples_of(source, chat, tok, {
    stream = true, max_tokens = 250, no_learned = o.no_learned, cache = o.cache,
    say = function(text) said[#said + 1] = text end, also = o.also,
  })
  return s, said
end

local function order(s, epoch, seed)
  local list = {}
  for place = 0, N - 1 do list[place] = s:at(seed or 7, epoch, place, true) end
  return list
end

local function refused_in(said)
  local refused = {}
  for _, line in ipairs(said) do
    local record = line:match "left out: .*: record (%d+)"
    if record then refused[#refused + 1] = tonumber(record) end
  end
  table.sort(refused)
  return refused
end

return {
  { "the record at a place is a function of seed, epoch and place", function()
    local path = file(process.folder())
    local a, b = stream(path, { no_learned = "drop" }), stream(path, { no_learned = "drop" })
    local first, second = order(a, 0), order(a, 1)
    local again = {}
    for place = N - 1, 0, -1 do again[place] = b:at(7, 0, place, true) end
    expect.same(again, first)
    expect.same(order(b, 1), second)
    local differ = 0
    for place = 0, N - 1 do
      if first[place] ~= second[place] then differ = differ + 1 end
      for _, bad in ipairs { BROKEN, EMPTY, LONG } do expect.truthy(first[place] ~= bad and second[place] ~= bad) end
    end
    expect.truthy(differ > N / 2)
    a:close() b:close()
  end },
  { "who takes the place of what is left out comes once more in that epoch, all others once", function()
    local s = stream(file(process.folder()), { no_learned = "drop" })
    local times, repeated = {}, 0
    local epoch = order(s, 0)
    for place = 0, N - 1 do times[epoch[place]] = (times[epoch[place]] or 0) + 1 end
    for k = 0, N - 1 do
      local left_out = k == BROKEN or k == EMPTY or k == LONG
      expect.same(times[k] == nil, left_out)
      if not left_out then repeated = repeated + times[k] - 1 end
    end
    expect.same(repeated, 3)
    s:close()
  end },
  { "what cannot be trained on is named once, before it is trained on", function()
    local s, said = stream(file(process.folder()), { no_learned = "drop" })
    order(s, 0) order(s, 1)
    expect.same(refused_in(said), { BROKEN, EMPTY, LONG })
    expect.match(table.concat(said, "\n"), "record 3, line 4.* is a bad one: .*not JSON")
    expect.match(table.concat(said, "\n"), "record 12, line 13.* has no loss token")
    expect.match(table.concat(said, "\n"), "record 25, line 26.* tokens, more than 250")
    s:close()
  end },
  { "a field that nothing reads is said once, and counted by the scan", function()
    local path = file(process.folder(), function(lines)
      for i, line in ipairs(lines) do lines[i] = line:gsub("}$", ', "source": "web", "id": ' .. i .. "}") end
      lines[EMPTY + 1] = lines[EMPTY + 1]:gsub("}$", ', "name": "Ada"}')
    end)
    local s, said = stream(path, { no_learned = "drop" })
    order(s, 0)
    local told = {}
    for _, line in ipairs(said) do told[#told + 1] = line:match "has fields that are not used: (.*)" end
    table.sort(told)
    expect.same(told, { "id, source; the scan counts them", "name; the scan counts them" })
    s:close(true)
    expect.match(table.concat(said, "\n"), "fields that are not used: id %(%d+%), name %(1%), source %(%d+%)")
  end },
  { "what a recipe calls an error is one", function()
    local s = stream(file(process.folder()))
    expect.raises("record 12, line 13.*has no loss token", order, s, 0)
    s:close()
    local path = file(process.folder(), function(lines) lines[9] = "also broken" end)
    local t = stream(path, { no_learned = "drop" })
    expect.raises("2 bad records, limit_bad = 1 allows", order, t, 0)
    t:close()
  end },
  { "samples are those of a scan, and its counts come when it is done", function()
    local folder = process.folder()
    local path = file(folder)
    local s, said = stream(path, { no_learned = "drop", cache = folder })
    local source = data.open(path, { limit_bad = 1 })
    local whole = samples_of(source, chat, tok, { max_tokens = 250, no_learned = "drop" })
    for k = 0, whole:size() - 1 do
      local one, other = whole:get(k), s:get(whole:number(k))
      expect.same(other.n, one.n)
      for i = 0, one.n - 1 do expect.same(other.ids[i], one.ids[i]) end
      expect.same(s:weight(one.record), whole:weight(k))
    end
    s:close(true)
    local text = table.concat(said, "\n")
    expect.match(text, "the scan is done:\n.*data%.jsonl: 37 samples of 39 records; " .. whole.report.tokens .. " tokens, ")
  end },
  { "a scan that fails says why, and training goes on", function()
    local s, said = stream(file(process.folder(), function(lines) lines[9] = "also broken" end))
    s:close(true)
    expect.match(table.concat(said, "\n"), "the scan stopped: .*2 bad records, limit_bad = 1 allows")
    expect.truthy(s:get(0).n > 0)
  end },
  { "steps are cut from a stream as from any samples", function()
    local path = file(process.folder())
    local s = stream(path, { no_learned = "drop" })
    local batches = batch.new(s, { batch = 8, tokens = 250, seed = 5 })
    expect.same(batches:updates(), N / 8)
    local again = batch.new(stream(path, { no_learned = "drop" }), { batch = 8, tokens = 250, seed = 5 })
    for _, index in ipairs { 4, 0, 2 } do
      local micros, weight = batches:update(1, index)
      local others, wanted = again:update(1, index)
      expect.same(weight, wanted)
      expect.same(#micros, #others)
      for m, micro in ipairs(micros) do expect.same(micro.samples, others[m].samples) end
    end
    s:close() again.samples:close()
  end },
  { "decontamination looks at each record", function()
    local also = function(_, where) return where:match "record (%d+)" % 3 == 0 and "asks what a benchmark asks" or nil end
    local s, said = stream(file(process.folder()), { no_learned = "drop", also = also })
    local seen = order(s, 0)
    for place = 0, N - 1 do expect.truthy(seen[place] % 3 ~= 0) end
    expect.match(table.concat(said, "\n"), "left out: .* asks what a benchmark asks")
    s:close()
  end },
  { "refuses what goes through all records first", function()
    local s = stream(file(process.folder()), { no_learned = "drop" })
    expect.raises("group_by goes through all samples first", batch.new, s, { batch = 4, tokens = 250, group_by = "prefix" })
    expect.raises("a stream wants max_tokens of as many or fewer, got 250", batch.new, s, { batch = 4, tokens = 100 })
    s:close()
  end },
  { "a set of which nothing can be trained on ends with its reason", function()
    local path = process.write(process.folder() .. "/data.jsonl",
      ('{"instruction":"a","input":"b","output":"none"}\n'):rep(N))
    local s = stream(path, { no_learned = "drop" })
    expect.raises("100 records were drawn for place 0 of epoch 0, and none can be trained on; .* has no loss token",
                  order, s, 0)
    s:close()
  end },
}
