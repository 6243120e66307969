-- Sources: both formats, compressed or not, by name, folder and pattern; bad records; views; splits.

local expect = require "tests.expect"
local process = require "tests.process"
local data = require "cft.data.open"
local door = require "cft.engine.ffi"
local json = require "cft.base.json"

local here = debug.getinfo(1, "S").source:match "^@(.*)data/open%.lua$" .. "fixtures/"

local function prompts(source)
  local texts = {}
  for i, record in source:records() do
    texts[#texts + 1] = ("%d %s"):format(i, record.messages[1].content:match "Question:\n(.-)\n")
  end
  return texts
end

local function questions(n)
  local records = {}
  for i = 1, n do records[i] = { instruction = "q" .. i, output = "a" .. i } end
  return records
end

local function temporary(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local function first_lines(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = json.decode(line) end
  return lines
end

local broken_reasons = {
  "not JSON at byte 30 %(line 1%): .*", "'instruction' is no text but a number",
  "neither 'messages', 'conversations' nor 'instruction' and 'output', 'prompt' and 'completion'; its fields are: answer, question",
  "the record is no object", "'output' is empty", "the last message is not the assistant's",
  "message 2 has the role 'tool' where 'assistant' was wanted", "not JSON at byte 21 %(line 1%): unable to decode byte 0xff.*",
}

return {
  { "a list of nothing", function() expect.raises("data.list: no records", data.list, {}) end },

  { "a file is the same in every form", function()
    local want = prompts(data.open(here .. "critiques.json"))
    expect.same(#want, 6)
    expect.same(want[4], "3 Wie viele Gäste bleiben, wenn von 12 Gästen 5 gehen?")
    for _, name in ipairs { "critiques.jsonl", "critiques.jsonl.gz", "critiques.json.zst" } do
      local source = data.open(here .. name)
      expect.same(source:size(), 6, name)
      expect.same(prompts(source), want, name)
      expect.same(source:get(5).messages[2].role, "assistant")
    end
    expect.same(data.open(here .. "critiques.jsonl"):hash(), data.open(here .. "critiques.jsonl.gz"):hash())
    expect.truthy(data.open(here .. "critiques.json"):hash() ~= data.open(here .. "critiques.jsonl"):hash())
  end },

  { "a list of files, a pattern, a folder", function()
    local both = data.open { here .. "critiques.json", here .. "critiques.jsonl.gz" }
    expect.same(both:size(), 12)
    expect.same(both:get(7).messages, both:get(1).messages)
    expect.match(both:where(7), "critiques%.jsonl%.gz: record 7, line 2$")
    expect.same(data.open(here .. "critiques.jsonl*"):size(), 12)
    expect.same(data.open(here .. "[a-c]r?tiques.json"):size(), 6)
    expect.same(data.paths(here .. "[!b]*.js*"), { here .. "critiques.json", here .. "critiques.json.zst",
      here .. "critiques.jsonl", here .. "critiques.jsonl.gz" })
    expect.same(data.paths(here:gsub("fixtures/$", "f*") .. "/critiques.json"), { here .. "critiques.json" })
    expect.same(#data.paths(here), 5)
  end },

  { "what is not there", function()
    expect.raises("nowhere%.json: no such file", data.open, "nowhere.json")
    expect.raises("no file has such a name", data.open, here .. "x*.json")
    expect.raises("no file in this folder ends in %.json", data.open, here .. "../c")
    expect.raises("unknown option 'limit'", data.open, here .. "critiques.json", { limit = 1 })
    expect.raises("'path' must be", data.open, 7)
    local path = temporary "\n\n"
    expect.raises("no records in it", data.open, path)
    os.remove(path)
  end },

  { "bad records are counted, described and kept", function()
    local kept = os.tmpname()
    local source = data.open(here .. "broken.jsonl", { limit_bad = 8, quarantine = kept })
    local good = {}
    for i in source:records() do good[#good + 1] = i end
    expect.same(good, { 0, 2, 7 })
    local bad = source:bad()
    expect.same(#bad, 8)
    for k, pattern in ipairs(broken_reasons) do expect.match(bad[k].reason, "^" .. pattern .. "$") end
    expect.same({ bad[2].record, bad[2].line, bad[2].byte }, { 3, 5, 569 })
    expect.match(data.describe(bad[2]), "broken%.jsonl: record 3, line 5, byte 569: 'instruction' is no text")

    for i in source:records() do assert(i) end  -- met again, they are not counted again
    expect.same(#source:bad(), 8)
    local lines = first_lines(kept)
    expect.same(#lines, 8)
    expect.same(lines[1].raw, '{"instruction": "x", "output":')
    expect.match(lines[8].raw_hex, "ff20627974")
    os.remove(kept)
  end },

  { "too many of them are one error that names the first", function()
    local source = data.open(here .. "broken.jsonl", { limit_bad = 7 })
    local err = expect.raises("8 bad records, limit_bad = 7 allows no more:\n.*record 1, line 2, byte 222: not JSON",
      source.check, source)
    expect.match(err, "line 7, byte 649: the record is no object\n.*and 3 more$")
    expect.raises("8 bad records, limit_bad = 0 allows none", function() data.open(here .. "broken.jsonl"):check() end)
  end },

  { "broken arrays: what is whole is read", function()
    local path = temporary('[{"instruction": "a", "output": "b"},\n\n{"instruction": "c", "output": "d",\n' ..
      '{"instruction": "e", "output": "f"}]')  -- a brace is missing
    local source = data.open(path, { limit_bad = 2 }):check()
    expect.same(source:get(0).messages[2].content, "b")
    expect.same({ source:bad()[1].line, source:bad()[2].line }, { 3, 4 })
    expect.match(source:bad()[1].reason, "not JSON")
    expect.match(source:bad()[2].reason, "no %] closes the array")
    os.remove(path)
  end },

  { "the instruction schema", function()
    local function of(record, allow_empty) return data.conversation(record, allow_empty) end
    local r = of { instruction = "a", input = "b", output = "c" }
    expect.same(r.messages, { { role = "user", content = "a\nb" }, { role = "assistant", content = "c" } })
    expect.same(r.raw.input, "b")
    for _, empty in ipairs { "", json.null } do
      expect.same(of({ instruction = "a", input = empty, output = "c" }).messages[1].content, "a")
      expect.same(of({ instruction = empty, input = "b", output = "c" }).messages[1].content, "b")
    end
    r = of { system = "s", instruction = "a", output = "c" }
    expect.same(r.messages[1], { role = "system", content = "s" })
    expect.fails("there is no 'output'", of { instruction = "a" })
    expect.fails("there is no 'instruction'", of { output = "a" })
    expect.fails("'input' is no text but a boolean", of { instruction = "a", input = true, output = "x" })
    expect.fails("'instruction' and 'input' are empty", of { instruction = "", output = "x" })
    expect.same(of({ instruction = "", output = "" }, true).messages[2].content, "")
  end },

  { "the messages schema", function()
    local function of(...) return data.conversation { messages = { ... } } end
    local function m(role, content) return { role = role, content = content } end
    expect.same(#of(m("system", "s"), m("user", "a"), m("assistant", "b")).messages, 3)
    expect.same(#of(m("user", "a"), m("assistant", "b"), m("user", "c"), m("assistant", "d")).messages, 4)
    expect.same(of(m("user", { { text = "a", kind = "query" } }), m("assistant", "b")).messages[1].content[1].text, "a")
    expect.fails("no list of messages", of())
    expect.fails("no list of messages", data.conversation { messages = "x" })
    expect.fails("message 1 is no object", of("x"))
    expect.fails("message 1 has the role 'assistant' where 'user'", of(m("assistant", "b")))
    expect.fails("message 2 has the role 'system' where", of(m("user", "a"), m("system", "b")))
    expect.fails("message 2 has the role of type nil", of(m("user", "a"), m(nil, "b")))
    expect.fails("content of message 2 is no text", of(m("user", "a"), m("assistant", 5)))
    expect.fails("content of message 1 has a part without text", of(m("user", { { kind = "x" } })))
    expect.fails("message 2 is empty", of(m("user", "a"), m("assistant", "")))
    expect.fails("the last message is not", of(m("system", "a")))
  end },

  { "a misspelt field of a record that a function made is an error with a hint", function()
    local given = { q = "1+1", a = "2", inptu = "x", chat = { { role = "user", content = "a", context = 1 },
      { role = "assistant", content = "b" } } }
    local function slip(pattern, give)
      expect.raises(pattern, function() data.list({ given }, { fields = give }):get(0) end)
    end
    slip("fields gave a record with 'imput'; did you mean 'input'%?",
      function(r) return { instruction = r.q, imput = "Solution: 3", output = r.a } end)
    slip("fields gave a record with 'sytem'; did you mean 'system'%?",
      function(r) return { instruction = r.q, sytem = "s", output = r.a } end)
    slip("fields gave a message with 'wieght'; did you mean 'weight'%?", function(r)
      return { messages = { { role = "user", content = r.q }, { role = "assistant", content = r.a, wieght = 0 } } }
    end)
    expect.raises("generate gave a record with 'ouput'; did you mean 'output'", function()
      data.generate(1, function() return { instruction = "a", ouput = "b" } end):get(0)
    end)
    expect.raises("map gave a record with 'mesages'; did you mean 'messages'", function()
      data.list({ { instruction = "a", output = "b" } }):map(function(r) return { mesages = r.messages } end):get(0)
    end)
    -- What the file itself holds is no slip of the function's, however it is spelt.
    local kept = data.list({ given }, { fields = function(r)
      return { instruction = r.q, inptu = r.inptu, output = r.a, difficulty = 3 }
    end }):get(0)
    expect.same(kept.unused, { inptu = true, difficulty = true })
    kept = data.list({ given }, { fields = function(r) return { messages = r.chat } end }):get(0)
    expect.same(kept.unused, { ["messages.context"] = true })
    local source = data.list { { instruction = "a", output = "b", id = 7 } }
    expect.same(source:map(function(r) return r end):get(0).unused, { id = true })
  end },

  { "other fields through a function", function()
    local source = data.list({ { q = "1+1", a = "2" }, { q = "x" }, { q = "skip" } }, {
      limit_bad = 2,
      fields = function(r)
        if r.q == "skip" then return nil, "not wanted" end
        return { instruction = r.q, output = r.a:upper() }
      end,
    })
    expect.same(source:get(0).messages[1].content, "1+1")
    expect.fails("^fields: .*attempt to index", source:get(1))
    expect.fails("^not wanted$", source:get(2))
    expect.same(#source:bad(), 2)
    expect.match(data.describe(source:bad()[1]), "^list: record 1: fields: ")
  end },

  { "records as they are", function()
    local source = data.open(here .. "critiques.json", { schema = "none" })
    expect.same(source:get(0).input, "Question:\nWhat is 2+3?\n\nSolution:\n2+3=6")
    expect.raises("record 6 of 6", source.get, source, 6)
    expect.raises("record 0.5 of 6", source.get, source, 0.5)
  end },

  { "views", function()
    local source = data.list(questions(10))
    local function texts(s)
      local out = {}
      for _, r in s:records() do out[#out + 1] = r.messages[1].content end
      return table.concat(out, " ")
    end
    expect.same(texts(source:range(7)), "q8 q9 q10")
    expect.same(texts(source:range(2, 3):select { 2, 0 }), "q5 q3")
    expect.same(texts(source:filter(function(r) return r.messages[1].content:find "1" end)), "q1 q10")
    local mapped = source:range(0, 2):map(function(r)
      return { instruction = r.messages[1].content .. "?", output = r.messages[2].content }
    end)
    expect.same(texts(mapped), "q1? q2?")
    expect.same(source:range(7):where(1), "list: record 8")
    expect.raises("select: record 10 of 10", source.select, source, { 10 })
    expect.raises("range: 5 records from 8", source.range, source, 8, 5)
    expect.raises("map: list: record 0: there is no 'output'", function()
      source:map(function() return { instruction = "x" } end):get(0)
    end)
  end },

  { "no prompt is on both sides of a split", function()
    local records = {}
    for i = 0, 99 do records[i + 1] = { instruction = "q" .. math.floor(i / 6), output = "a" .. i } end
    local source = data.list(records)
    local seen_sizes = {}
    for seed = 0, 4 do
      local train, heldout = source:split { heldout = 20, seed = seed }
      expect.same(heldout:size() <= 20 and heldout:size() > 14, true)
      expect.same(train:size() + heldout:size(), 100)
      local side = {}
      for _, r in train:records() do side[r.messages[1].content] = "train" end
      for _, r in heldout:records() do
        expect.same(side[r.messages[1].content], nil)
        seen_sizes[r.messages[1].content] = true
      end
    end
    local groups = 0
    for _ in pairs(seen_sizes) do groups = groups + 1 end
    expect.truthy(groups > 5, "the seed draws")
    local train, heldout = source:split { heldout = 0.1, by = function(_, i) return i end }
    expect.same({ train:size(), heldout:size() }, { 90, 10 })
    train, heldout = source:split { heldout = 0 }
    expect.same({ train:size(), heldout:size() }, { 100, 0 })
    expect.raises("cannot be held out", source.split, source, { heldout = 100 })
    expect.raises("cannot be held out", source.split, source, { heldout = 2 })
    expect.raises("by gave a table", source.split, source, { heldout = 2, by = function() return {} end })
  end },

  { "generated records", function()
    local source = data.generate(3, function(i) return { instruction = "q" .. i, output = "a" } end)
    expect.same(source:get(2).messages[1].content, "q2")
    expect.same(source:hash(), nil)
    expect.raises("'n' must be 1 or more", data.generate, 0, print)
  end },

  { "a file that is changed in place while it is used is noticed, whatever its length", function()
    local function changing(name, text)
      local path = process.write(process.folder() .. name, text)
      return path, data.open(path, { schema = "none" })
    end
    local text = '{"a": "right"}\n{"a": "right"}\n'
    local path, source = changing("/r.jsonl", text)
    expect.same(source:get(0).a, "right")
    local function write(bytes)
      local file = assert(io.open(path, "r+b"))
      file:write(bytes)
      file:close()
    end
    write(text)  -- the same bytes once more are no change, nor is chmod
    os.execute(("chmod 600 '%s'"):format(path))
    expect.same(source:get(1).a, "right")
    write((text:gsub("right", "wrong")))
    expect.raises("r.jsonl: was changed while it is in use", source.get, source, 1)
    path, source = changing("/r.csv", "a\nright\nright\n")
    expect.same(source:get(1).a, "right")
    write "a\nright\nwrong\n"
    expect.raises("r.csv: was changed while it is in use", source.get, source, 0)
    path, source = changing("/p.parquet", process.contents "tests/golden/parquet/small.parquet")
    source:get(0)
    local bytes = process.contents(path)
    write(bytes:sub(1, 40) .. string.char((bytes:byte(41) + 1) % 256) .. bytes:sub(42))
    expect.raises("p.parquet: ", source.get, source, 0)
  end },

  { "a pointer of Git LFS in the place of a file is named", function()
    local pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" .. ("0"):rep(64) .. "\nsize 12345\n"
    local folder = process.folder()
    for _, name in ipairs { "d.jsonl", "d.parquet", "tokenizer.json", "model.safetensors" } do
      process.write(folder .. "/" .. name, pointer)
    end
    local named = ": is a pointer of Git LFS in the place of the file; `git lfs pull` fetches it"
    expect.raises("d.jsonl" .. named, data.open, folder .. "/d.jsonl")
    expect.raises("d.parquet" .. named, data.open, folder .. "/d.parquet")
    expect.raises("tokenizer.json" .. named, require("cft.text.tokenizer").load, folder)
    expect.raises("model.safetensors" .. named, require("cft.io.safetensors").open, folder .. "/model.safetensors")
  end },

  { "nothing stays open", function()
    local function open_files()
      local out = door.ffi.new "cft_names *[1]"
      door.check(door.C.cft_folder_list(out, "/proc/self/fd"))
      local n = tonumber(door.C.cft_names_count(out[0]))
      door.C.cft_names_release(out[0])
      return n
    end
    local before = open_files()
    for _ = 1, 50 do data.open(here .. "critiques.json") end
    collectgarbage()
    collectgarbage()
    expect.same(open_files(), before)
  end },
}
