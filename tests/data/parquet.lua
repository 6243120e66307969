-- Parquet as pyarrow writes it, real files of the Hub, CSV, and data sets by name from the Hub's cache.

local expect = require "tests.expect"
local data = require "cft.data.open"
local door = require "cft.engine.ffi"
local files = require "cft.io.files"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local C, ffi = door.C, door.ffi

local here = debug.getinfo(1, "S").source:match "^@(.*)data/parquet%.lua$" .. "golden/parquet/"
local shared = (os.getenv "CFT_SHARED_DATA" or "../shared/data") .. "/parquet/"

local function open(path, opts)
  local o = { schema = "none" }
  for name, value in pairs(opts or {}) do o[name] = value end
  return data.open(path, o)
end

local function lines(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = json.decode(line) end
  return list
end

-- A new file of this text, and its path; the caller removes it.
local function temporary(text, ending)
  local path = os.tmpname()
  os.remove(path)
  path = path .. ending
  files.write(path, text)
  return path
end

local function of_text(text, ending, opts)
  local path = temporary(text, ending)
  local ok, source = pcall(open, path, opts)
  os.remove(path)
  if not ok then error(source, 0) end
  return source
end

local function all(source)
  local records = {}
  for _, record in source:records() do records[#records + 1] = record end
  return records
end

local function digest(text)
  local hash = ffi.new "uint8_t[16]"
  C.cft_bytes_hash(hash, text, #text)
  return (ffi.string(hash, 16):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- A cache of the Hub with these files in the snapshot of a set; gives what names stand for in it.
local function cache_of(texts)
  local root = process.folder()
  local snapshot = root .. "/datasets--Org--Set/snapshots/abc1"
  files.write(root .. "/datasets--Org--Set/refs/main", "abc1")
  for name, text in pairs(texts) do files.write(snapshot .. "/" .. name, text) end
  return function(name, code)
    local run = process.cftrun { "-e", (code or [[
      local found, why = require("cft.data.open").find(%q)
      print(found and table.concat(found, " ") or why)]]):format(name), env = { HF_HUB_CACHE = root } }
    expect.same(run.err, "")
    return (run.out:gsub(snapshot:gsub("%p", "%%%0") .. "/", ""):gsub("\n$", ""))
  end
end

local function bytes_of(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local card = [[
---
license: apache-2.0
configs:
- config_name: small
  data_files:
  - split: train
    path: small/train-*
  - split: test
    path:
    - "small/test-*"
    - more/**/*.parquet
- config_name: all
  default: true
  data_files: everything.parquet
size_categories:
- 1K<n<10K
---
# A set
]]

local cases = {
  { "what the goldens have in them", function()
    local records = lines(here .. "types.jsonl")
    local seen = {}
    for _, record in ipairs(records) do
      for name, value in pairs(record) do
        seen[name] = seen[name] or {}
        seen[name][value == json.null and "null" or type(value)] = true
      end
    end
    expect.same(#records, 43)
    expect.truthy(seen.messages.null and seen.messages.table and seen.text.null and seen.text.string)
    expect.same({ records[4].id, records[5].id }, { 2 ^ 53, "9007199254740993" })
  end },

  { "at random, and again", function()
    local want = lines(here .. "types.jsonl")
    local source = open(here .. "types-v1-snappy.parquet")
    for k = 0, 199 do
      local i = k * 29 % source:size()
      expect.same(source:get(i), want[i + 1], "record " .. i)
    end
    expect.match(source:where(7), "types%-v1%-snappy%.parquet: record 7$")
  end },

  { "lists of two levels, rows that go on in the next page", function()
    local null = json.null
    local source = open(here .. "old.parquet")
    local want = {
      { a = { 1, 2 }, b = { { x = 1 }, { x = 2 } }, c = { 5 } }, { a = null, b = null, c = {} },
      { a = {}, b = {}, c = { 6, 7, 8 } }, { a = { 3 }, b = { { x = 3 } }, c = { 9 } },
    }
    for _, i in ipairs { 2, 3, 0, 1 } do expect.same(source:get(i), want[i + 1]) end
    expect.truthy(json.is_array(source:get(1).c))
  end },

  { "timestamps of old writers", function()
    local want = lines(here .. "types.jsonl")
    for i, record in open(here .. "types-int96.parquet"):records() do
      for _, name in ipairs { "at_ms", "at_ns" } do
        local text = want[i + 1][name]
        if text ~= json.null then text = text:gsub("%.(%d%d%d)$", ".%1000000") end
        expect.same(record[name], text, name .. " of record " .. i)
      end
    end
  end },

  { "what is refused, by name", function()
    expect.raises('refused%-delta%.parquet: column "id" is encoded by DELTA_BINARY_PACKED, which is not read',
      open, here .. "refused-delta.parquet")
    expect.raises('column "id" is encoded by BYTE_STREAM_SPLIT', open, here .. "refused-split.parquet")
    expect.raises('column "id" is compressed by BROTLI; read are SNAPPY, GZIP and ZSTD', open,
      here .. "refused-brotli.parquet")
    expect.raises("empty%.parquet: no records in it", open, here .. "empty.parquet")
    expect.raises("does not end in PAR1", open, here .. "types.jsonl", { format = "parquet" })
  end },

  { "bytes that are no text make a bad record", function()
    local source = open(here .. "not-utf8.parquet", { limit_bad = 1 })
    expect.same(all(source), { { image = "text" } })
    expect.match(data.describe(source:bad()[1]), 'not%-utf8%.parquet: record 1: "image" is not UTF%-8$')
    expect.raises('record 1: "image" is not UTF%-8', function() open(here .. "not-utf8.parquet"):check() end)
  end },

  { "a damaged file names itself and the place", function()
    local file = assert(io.open(here .. "small.parquet", "rb"))
    local text = file:read "*a"
    file:close()
    expect.raises("does not end in PAR1: cut short", of_text, text:sub(1, -9), ".parquet")
    expect.raises("8 bytes are no whole Parquet file", of_text, text:sub(1, 8), ".parquet")
    local at = text:find("one", 1, true)  -- in a page that has a checksum
    local source = of_text(text:sub(1, at - 1) .. "0" .. text:sub(at + 1), ".parquet")
    expect.raises('%.parquet: record 0: column "q", row group 0: the page at byte %d+ does not have its checksum',
      source.get, source, 0)
  end },

  { "equal bytes, equal digits", function()
    expect.truthy(#open(here .. "types-v1.parquet"):hash() == 32)
    expect.truthy(open(here .. "types-v1.parquet"):hash() ~= open(here .. "types-v2.parquet"):hash())
  end },

  { "data sets of the Hub by their card", function()
    local found = cache_of { ["README.md"] = card, ["small/train-00000-of-00002.parquet"] = "", ["more/a/b.parquet"] = "",
      ["small/train-00001-of-00002.parquet"] = "", ["small/test-0.parquet"] = "", ["everything.parquet"] = "",
      ["small/train-notes"] = "" }
    expect.same(found "Org/Set:small", "small/train-00000-of-00002.parquet small/train-00001-of-00002.parquet")
    expect.same(found "Org/Set:small:test", "small/test-0.parquet more/a/b.parquet")
    expect.same(found "Org/Set", "everything.parquet")
    expect.same(found "Org/Set@abc1:all:train", "everything.parquet")
    expect.match(found "Org/Set:large", "Org/Set:large: no such file, and in .* its configurations are: small, all$")
    expect.match(found "Org/Set:small:dev", "the splits of small are: test, train$")
    expect.match(found "Org/Other:x", "and the Hub cache has no .*/datasets%-%-Org%-%-Other; to fetch it: cftrun fetch %-%-type dataset Org/Other$")
    expect.match(found "Org/Set@v2", "and the Hub cache has no .*/snapshots/v2; to fetch it: cftrun fetch %-%-type dataset Org/Set@v2$")
    for _, file in ipairs { "no/such/file.json", "data/file.jsonl", "file.jsonl" } do
      expect.same(found(file), file .. ": no such file")
    end
  end },

  { "data sets of the Hub by the names of their files", function()
    local found = cache_of { ["main/train-00000-of-00001.parquet"] = bytes_of(here .. "small.parquet"),
      ["main/test-00000-of-00001.parquet"] = "", ["socratic/train-00000-of-00002.parquet"] = "", ["tiny.json"] = "[]" }
    expect.same(found "Org/Set:main", "main/train-00000-of-00001.parquet")
    expect.same(found "Org/Set:main:test", "main/test-00000-of-00001.parquet")
    expect.same(found "Org/Set:tiny", "tiny.json")
    expect.match(found "Org/Set:socratic", "train%-00001%-of%-00002%.parquet is missing: its download was not finished; to fetch the rest: cftrun fetch %-%-type dataset Org/Set$")
    expect.match(found "Org/Set:nothing", "no file of it is called as 'nothing' %(train%) is: it has main/test")
    expect.same(found("Org/Set:main:train", [[
      local s = require("cft.data.open").open(%q, { schema = "none" }) print(s:size(), s:get(0).q, #s:get(0).n)]]), "3\tone\t2")
  end },

  { "data sets of the Hub without a card: folders' names, then files', then all", function()
    local function sets(want, ...)
      local texts = {}
      for _, name in ipairs { ... } do texts[name] = "{}" end
      local found = cache_of(texts)
      expect.same(found "Org/Set", want)
      return found
    end
    sets("data/train-00000-of-00001.jsonl", "data/train-00000-of-00001.jsonl", "dataset_infos.json", "dataset_info.json")
    local found = sets("data/train-00000-of-00001.jsonl", "data/train-00000-of-00001.jsonl",
      "data/new-00000-of-00001.jsonl", "extra/more.jsonl")
    expect.same(found "Org/Set::new", "data/new-00000-of-00001.jsonl")
    expect.match(found "Org/Set::test", "the splits of it are: new, train$")
    sets("train.jsonl", "train.jsonl", "test.jsonl", "notes.jsonl", "constrained.jsonl")
    sets("train/a.jsonl", "train/a.jsonl", "test/b.jsonl", "other/c.jsonl", "train.jsonl", "__old/train/d.jsonl")
    sets("a.jsonl b.jsonl", "a.jsonl", "b.jsonl", "config.json", "sub/config.json")
    expect.match(sets("train.jsonl", "train.jsonl", "eval_1.jsonl") "Org/Set::test", "^eval_1.jsonl$")
    local function refused(why, ...)
      local texts = {}
      for _, name in ipairs { ... } do texts[name] = "{}" end
      expect.match(cache_of(texts) "Org/Set", why)
    end
    refused("its splits %w+ and %w+ are not files of one kind$", "train.jsonl", "test.csv")
    refused("a.txt is no file of records that can be read$", "a.txt")
    refused("'a%-b' of data/a%-b%-00000%-of%-00001.jsonl is no name of a split$", "data/a-b-00000-of-00001.jsonl")
    refused("the splits of it are: test$", "test.jsonl", "notes.jsonl")
    for _, infos in ipairs { '{"a": 1}', '["a"]', "3" } do
      local cache = cache_of { ["train.jsonl"] = "{}", ["dataset_infos.json"] = infos }
      expect.match(cache "Org/Set", "dataset_infos.json: no object of configurations, as `datasets` wants it")
    end
    expect.match(cache_of { ["train.jsonl"] = "{}", ["dataset_infos.json"] = "{" } "Org/Set", "dataset_infos.json")
    refused("it has no data$", "LICENSE")
  end },

  { "cards of data sets in any spelling of YAML, and those that are refused", function()
    local function asked(head, want, name)
      local found = cache_of { ["README.md"] = "---\n" .. head .. "\n---\nText\n", ["b.jsonl"] = "", ["more/a.jsonl"] = "",
        ["more/b.txt"] = "", ["x.csv"] = "", ["my-train.jsonl"] = "", LICENSE = "" }
      expect.match(found(name or "Org/Set"), want)
    end
    asked("configs:  # files\n-   config_name: main\n    data_files: b.jsonl\n", "^b.jsonl$")
    asked("{license: mit, configs: [{config_name: main, data_files: [{split: \"train\",\n  path: [more/a.jsonl]}]}]}",
      "^more/a.jsonl$")
    asked("'configs':\n  - data_files:\n    - path:\n      - 'b.jsonl'\n      split: train\n    config_name: main\na: |\n  b: c",
      "^b.jsonl$")
    asked("configs:\n- config_name: a\n  data_files:\n    train: b.jsonl\n    test: more/*.jsonl", "^more/a.jsonl$",
      "Org/Set:a:test")
    asked("configs:\n- config_name: a\n  data_files: '**/b.jsonl'\n", "^b.jsonl$")
    asked("configs:\n- config_name: a\n  data_dir: ./more/\n", "more/b.txt is among the files of a that are read as json$")
    asked("tags: [a]\n", "^my%-train.jsonl$")
    asked("configs:\n- config_name: &a main\n  data_files: b.jsonl", "configs of its card .README.md. are not understood: line 3: not")
    asked("configs: [{config_name: a", "not understood: line 1: a %[ or { is not closed")
    asked("configs:\n- data_files: b.jsonl", "configs of its card .README.md. are no list of config_name and data_files$")
    asked("configs:\n- config_name: a\n  data_files: [{path: b.jsonl}]", "data_files of its card are not understood$")
    asked("configs:\n- config_name: a\n  data_files: '**.jsonl'", "the pattern %*%*.jsonl of its card: %*%* stands for whole")
    asked("configs:\n- config_name: a\n  data_files: [b.jsonl, README]", "README, which is not there: its download was")
    asked("configs:\n- config_name: a\n  data_files: [b.jsonl, LICENSE]", "its card names LICENSE, whose name does not end as")
    asked("configs:\n- config_name: a\n  data_files: c.jsonl", "its card names c.jsonl, which is not there: its download was")
    asked("configs:\n- config_name: a\n  default: true\n- {config_name: b, default: true}", "its configurations are: a, b$")
    asked("configs:\n- config_name: a\n  data_files: [b.jsonl, {split: train}]", "data_files of its card are not understood$")
    asked("configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: b.jsonl\n  - {split: test, path: 'n*.jsonl'}",
      "its splits %w+ and %w+ are not files of one kind$")
  end },

  { "what describes a data set is not read as data of a folder", function()
    local folder = process.folder()
    for _, name in ipairs { "a.jsonl", "dataset_infos.json", "config.json" } do files.write(folder .. "/" .. name, "{}") end
    expect.same(require("cft.data.open").find(folder), { folder .. "/a.jsonl" })
  end },

  { "CSV", function()
    local source = of_text('\239\187\191question,answer\r\n"What, now?","say ""so""\nor not"\r\nplain,\r\n\r\n ü ,"x"', ".csv")
    expect.same(all(source), { { question = "What, now?", answer = 'say "so"\nor not' },
      { question = "plain", answer = "" }, { question = " ü ", answer = "x" } })
    expect.match(source:where(1), "record 1, line 4$")
    expect.same(all(of_text("a\n1\n\"\"\n2", ".csv")), { { a = "1" }, { a = "" }, { a = "2" } })
    expect.same(of_text("a,b\n1,2\n", ".txt", { format = "csv" }):get(0), { a = "1", b = "2" })
  end },

  { "CSV with rows that do not fit", function()
    local source = of_text('a,b\n1,2\n3\n4,5,6\nx "y" z,1\n"q" r,1\n\255,1\n7,8\n"9,', ".csv", { limit_bad = 6 })
    expect.same(all(source), { { a = "1", b = "2" }, { a = "7", b = "8" } })
    local reasons = {}
    for k, entry in ipairs(source:bad()) do reasons[k] = ("%d %d %s"):format(entry.line, entry.byte, entry.reason) end
    expect.same(reasons, { "3 8 it has 1 field where the header has 2", "4 10 it has 3 fields where the header has 2",
      "5 16 there is a quote in a field that does not begin with one", "6 26 there is text behind a closing quote",
      "7 34 byte 0 of it is not UTF-8", "9 42 the file ends inside a quoted field of it" })
    expect.raises('the header names "a" twice', of_text, "a,b,a\n1,2,3\n", ".csv")
    expect.raises("the header is broken: the file ends inside a quoted field", of_text, '"a,b', ".csv")
    expect.raises("no records in it", of_text, "a,b\n", ".csv")
    expect.raises("is UTF%-16", of_text, "\255\254a\0", ".csv")
  end },

  { "CSV whose lines end in CR alone", function()
    local source = of_text('a,b\r1,"x\ry"\r\r3,\r5\r', ".csv", { limit_bad = 1 })
    expect.same(all(source), { { a = "1", b = "x\ry" }, { a = "3", b = "" } })
    expect.same({ source:bad()[1].line, source:bad()[1].reason }, { 6, "it has 1 field where the header has 2" })
    expect.same(all(of_text('a,b\r\n"1",2\r"3",4\n', ".csv")), { { a = "1", b = "2" }, { a = "3", b = "4" } })
  end },

  { "CSV with other separators", function()
    expect.raises("the header looks separated by ';', where commas are wanted: \"question;answer\"$", of_text,
      "question;answer\nq;a, b\n", ".csv")
    expect.raises("the header looks separated by ';', where commas are wanted: ", of_text, '"a";"b"\n1;2\n', ".csv")
    expect.raises("the header looks separated by tabs, where commas are wanted: ", of_text, "a\tb\n1\t2\n", ".csv")
    expect.same(all(of_text('"a;b"\n1\n', ".csv")), { { ["a;b"] = "1" } })
    expect.same(all(of_text("a;b,c\n1,2\n", ".csv")), { { ["a;b"] = "1", c = "2" } })
  end },

  { "an array in a file named .jsonl", function()
    local want = { { a = 1 }, { a = 2 } }
    for _, text in ipairs { '[{"a":1}, {"a":2}]\n', '\n [ {"a":1},{"a":2}]', '[{"a":1},\n{"a":2}]\n',
      '[\n {\n  "a": 1\n },\n {"a": 2}\n]\n', '[{\n"a":1}, {"a":2}\n]' } do
      expect.same(all(of_text(text, ".jsonl")), want)
      expect.same(all(of_text(text, ".ndjson")), want)
    end
    local long = ("x"):rep(400000)
    expect.same(all(of_text('[{"a":"' .. long .. '"}, {"a":2}]\n', ".jsonl")), { { a = long }, { a = 2 } })
    expect.match(of_text('\n\n[{"a":1}, {"a":2}]', ".jsonl"):where(1), "record 1, line 3$")
  end },

  { "lines that are arrays", function()
    expect.same(all(of_text('[{"a":1}]\n[{"a":2}]\n', ".jsonl")), { { { a = 1 } }, { { a = 2 } } })
    expect.same(all(of_text("[1, 2]\n", ".jsonl")), { { 1, 2 } })
    expect.same(all(of_text('[{"a":1}]\n', ".jsonl", { format = "jsonl" })), { { { a = 1 } } })
  end },
}

for _, name in ipairs { "v1", "v1-snappy", "v1-gzip", "v2", "v2-zstd", "v2-gzip", "v2-snappy" } do
  cases[#cases + 1] = { "all types, " .. name, function()
    local source, want = open(here .. "types-" .. name .. ".parquet"), lines(here .. "types.jsonl")
    expect.same(source:size(), #want)
    for i, record in source:records() do expect.same(record, want[i + 1], "record " .. i) end
    expect.same(#source:bad(), 0)
  end }
end

local golden = assert(json.read(here .. "shared.json"))
for name, want in pairs(golden.files) do
  cases[#cases + 1] = { "equal to pyarrow's: " .. name, function()
    if host.kind(shared .. name) ~= "file" then skip(shared .. name .. " is missing; set CFT_SHARED_DATA") end
    local source = open(shared .. name)
    expect.same(source:size(), want.records)
    for k, wanted in ipairs(want.digests) do
      local texts, first = {}, (k - 1) * golden.block
      for i = first, math.min(first + golden.block, want.records) - 1 do
        texts[#texts + 1] = json.encode(source:get(i)) .. "\n"
      end
      expect.same(digest(table.concat(texts)), wanted, ("records from %d on"):format(first))
    end
  end }
end

return cases
