-- Masks: weights follow segments; length policies; what is refused, dropped, cut and reported.

local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local data = require "cft.data.open"
local mask = require "cft.samples.mask"
local samples_of = require("cft.samples").new
local process = require "tests.process"
local template = require "cft.text.template"

local tok = fake { "<eos>", "<bos>", "<|im_start|>", "<|im_end|>", eos = "<eos>", bos = "<bos>" }

local function conversation(...)
  local roles, messages = { "user", "assistant" }, {}
  for i, content in ipairs { ... } do messages[i] = { role = roles[(i - 1) % 2 + 1], content = content } end
  return { messages = messages }
end

-- The text of n ids in C memory.
local function text_of(ids, n)
  local list = {}
  for i = 1, n do list[i] = ids[i - 1] end
  return tok:decode(list)
end

-- A sample as text, with the weight of each span behind it.
local function shown(sample)
  local out, at = {}, 0
  for i = 0, sample.span_count - 1 do
    local n = tonumber(sample.spans[i].count)
    out[#out + 1] = ("%s[%g %s]"):format(text_of(sample.ids + at, n), sample.spans[i].weight,
      mask.kind_name(sample.spans[i].kind))
    at = at + n
  end
  expect.same(at, sample.n)
  return table.concat(out)
end

local function pairs_of(list)
  local records = {}
  for i, pair in ipairs(list) do records[i] = { instruction = pair[1], output = pair[2] } end
  return data.list(records)
end

return {
  { "the weight of a token is its segment's", function()
    local record = conversation("q\n\nSolution:\ns", "c. Conclusion: right")
    local chat = template.plain { learn = { verdict = 3, response = 0.25 } }
    expect.same(shown(mask.encode(record, chat, tok)), "q\n\nSolution:\n[0 query]s[0.25 response]\n\n[0 template]" ..
      "c. [1 critique]Conclusion: right[3 verdict]<eos>[1 end]")
    expect.same(mask.encode(record, chat, tok).verdict, true)
  end },

  { "a token belongs to the segment of its first byte", function()
    local pairwise = setmetatable({  -- two bytes a token
      encode_spans = function(_, text)
        local ids, spans, n = {}, {}, 0
        for at = 1, #text, 2 do
          ids[n], spans[n] = text:byte(at), { start = at - 1 }
          n = n + 1
        end
        return { n = n, ids = ids, spans = spans }
      end,
    }, { __index = tok })
    local record = conversation("xy", { { text = "abc", kind = "critique" }, { text = "d", kind = "note" },
      { text = "efg", kind = "verdict" } })
    local s = mask.encode(record, template.plain { separator = "!", learn = { verdict = 2 } }, pairwise)
    -- "xy!" is context: xy ! ; "abcdefg" is ab cd ef g: c is of the critique, so cd is; d has no token
    expect.same(s.n, 2 + 4 + 1)
    local spans = {}
    for i = 0, s.span_count - 1 do
      spans[#spans + 1] = ("%s %d %g"):format(mask.kind_name(s.spans[i].kind), tonumber(s.spans[i].count), s.spans[i].weight)
    end
    expect.same(spans, { "query 1 0", "template 1 0", "critique 2 1", "verdict 2 2", "end 1 1" })
  end },

  { "strings of special tokens in data", function()
    local record = conversation("a<|im_end|>b", "c<eos>")
    local s = mask.encode(record, template.plain(), tok)
    expect.same(s.n, #"a<|im_end|>b\n\nc<eos>" + 1)
    s = mask.encode(record, template.plain { specials = "llamafactory" }, tok)
    expect.same(s.n, #"ab\n\nc" + 3)
    expect.same(s.ids[1], tok:id "<|im_end|>")
    s = mask.encode(conversation("{{idx}} {{idx}}", "x", "{{idx}}", "{{idx}}"), template.plain { specials = "llamafactory" }, tok)
    expect.same(shown(s), "0 {{idx}}[0 query]\n\n[0 template]x[1 critique]<eos>[1 end]\n\n[0 template]1[0 query]\n\n[0 template]" ..
      "{{idx}}[1 critique]<eos>[1 end]")
  end },

  { "too long: dropped", function()
    local record = conversation("question", "answer")
    expect.fails("^17 tokens, more than 16$", mask.encode(record, template.plain(), tok, { max_tokens = 16 }))
    expect.same(mask.encode(record, template.plain(), tok, { max_tokens = 17 }).n, 17)
  end },

  { "too long: context is cut, from either side", function()
    local record = conversation("question\n\nSolution:\nsolution", "answer")
    table.insert(record.messages, 1, { role = "system", content = "sys" })
    local chat = template.plain { separator = "|" }
    local n = mask.encode(record, chat, tok).n
    local function cut(by, opts)
      opts.length, opts.max_tokens = "cut_context", n - by
      local s, why = mask.encode(record, chat, tok, opts)
      if not s then return why end
      expect.same({ s.n, s.cut, s.ends }, { n - by, by, true })
      return text_of(s.ids, s.n)
    end
    expect.same(cut(3, { cut_side = "right" }), "sys|question\n\nSolution:\nsolut|answer<eos>")
    expect.same(cut(9, {}), "sys|question\n\nSolution:|answer<eos>")
    expect.same(cut(3, { cut_side = "left" }), "sys|stion\n\nSolution:\nsolution|answer<eos>")
    expect.same(cut(4, { cut_side = "left", cut_kinds = { "response" } }), "sys|question\n\nSolution:\ntion|answer<eos>")
    expect.same(cut(2, { cut_side = "left", cut_kinds = { "system" } }), "s|question\n\nSolution:\nsolution|answer<eos>")
    expect.match(cut(28, {}), "40 tokens, 28 of them context that may be cut; 12 fit")
    expect.match(cut(8, { cut_kinds = { "response" } }), "8 of them context")
  end },

  { "a cut never leaves half a character", function()
    local chat = template.plain { separator = "|" }
    for _, side in ipairs { "left", "right" } do
      local s = mask.encode(conversation("äöü€", "a"), chat, tok,  -- 2 + 2 + 2 + 3 bytes
        { length = "cut_context", cut_side = side, max_tokens = 11 })  -- one too many
      expect.same(text_of(s.ids, s.n), side == "left" and "öü€|a<eos>" or "äöü|a<eos>")
    end
  end },

  { "context with loss weight is not cut", function()
    local record = conversation("question", "answer")
    expect.fails("0 of them context", mask.encode(record, template.plain { learn = { query = 0.1 } }, tok,
      { length = "cut_context", max_tokens = 14 }))
  end },

  { "llamafactory: both sides lose their ends", function()
    local function ids(source, target, max, opts)  -- tokens of either side; <eos> is one of target's
      local chat = template.plain(opts)
      local s = mask.encode(conversation(("s"):rep(source - 2), ("t"):rep(target - 1)), chat, tok,
        { length = "llamafactory", max_tokens = max })
      return text_of(s.ids, s.n), s
    end
    expect.same(ids(20, 4, 10), "ssssss" .. "ttt<eos>")      -- 2t < C: the source gets C - t
    expect.same(ids(4, 20, 10), "ss\n\n" .. "tttttt")        -- else 2s < C: the target gets C - s
    expect.same(ids(20, 12, 10), "sssssss" .. "ttt")         -- else int(C t / (s + t)) of the target
    local _, s = ids(20, 12, 10)
    expect.same({ s.ends, s.cut, s.whole }, { false, 22, 32 })
    expect.same(ids(3, 3, 6), "s\n\ntt<eos>")
  end },

  { "llamafactory: turns get what is left, in order or from the last", function()
    local record = conversation("aaaa", "b", "cccc", "dddd")
    local function cut(max, opts)
      local s = mask.encode(record, template.plain(opts), tok, { length = "llamafactory", max_tokens = max })
      return shown(s)
    end
    local whole = "aaaa[0 query]\n\n[0 template]b[1 critique]<eos>[1 end]\n\n[0 template]cccc[0 query]\n\n[0 template]dddd[1 critique]<eos>[1 end]"
    expect.same(cut(21), whole)
    expect.same(cut(8), "aaaa[0 query]\n\n[0 template]b[1 critique]<eos>[1 end]")
    -- 6 are left for 8 + 5: neither side is short, so int(6 * 5 / 13) = 2 and 4
    expect.same(cut(14), "aaaa[0 query]\n\n[0 template]b[1 critique]<eos>[1 end]\n\n[0 template]cc[0 query]dd[1 critique]")
    -- the last turn first: 13 of it fit; 1 is left for 6 + 2, of which the target gets int(1 * 2 / 8) = 0
    expect.same(cut(14, { turns = "last" }), "a[0 query]\n\n[0 template]cccc[0 query]\n\n[0 template]dddd[1 critique]<eos>[1 end]")
  end },

  { "a source becomes samples, and the report counts", function()
    local source = pairs_of { { "q1", "a1" }, { "a long question", "a2" }, { "q3 <|im_end|><|im_end|>", "a3" },
      { "q4", "a4" } }
    local seen = {}
    local samples = samples_of(source, template.plain(), tok,
      { max_tokens = 30, progress = function(done, all) seen[#seen + 1] = done .. "/" .. all end })
    expect.same(samples:size(), 4)
    samples = samples_of(source, template.plain(), tok, { max_tokens = 15, progress = function() end })
    expect.same(samples:size(), 2)
    expect.same(seen, { "1/4", "2/4", "3/4", "4/4" })
    expect.same(samples:get(1).record, 3)
    expect.same(samples:where(1), "list: record 3")
    expect.same(samples:show(1), { { text = "q4", weight = 0, kind = "query", ids = { 113, 52 } },
      { text = "\n\n", weight = 0, kind = "template", ids = { 10, 10 } },
      { text = "a4", weight = 1, kind = "critique", ids = { 97, 52 } },
      { text = "<eos>", weight = 1, kind = "end", ids = { 256 } } })
    local r = samples.report
    expect.same({ r.records, r.samples, r.tokens, r.learned, r.longest }, { 4, 2, 14, 6, 7 })
    expect.same({ r.dropped.n, r.dropped[1].record, r.dropped[1].reason }, { 2, 1, "20 tokens, more than 15" })
    local text = samples:describe()
    expect.match(text, "^list: 2 samples of 4 records; 14 tokens, 6 loss tokens %(42.9%%%), longest 7\n  template plain: answers end in <eos>")
    expect.match(text, "\n  2 dropped, 20 tokens, more than 15: records 1, 2$")
    samples = samples_of(source, template.plain(), tok)
    expect.match(samples:describe(), "1 hold strings of special tokens, taken as plain text: <|im_end|> %(2%): records 2")
    samples = samples_of(source, template.plain(), tok, { max_tokens = 15, length = "cut_context" })
    expect.match(samples:describe(), "2 cut %(cut_context%), 18 tokens in all: records 1, 2")
    samples = samples_of(source, template.plain(), tok, { max_tokens = 7, length = "llamafactory" })
    expect.match(samples:describe(), "2 cut %(llamafactory%)")
    samples = samples_of(pairs_of { { "q", "a long answer" } }, template.plain(), tok, { max_tokens = 8, length = "llamafactory" })
    expect.match(samples:describe(), "1 do not end in an end token with loss weight: records 0")
  end },

  { "an answer with weight 0 is context, fields that are not used are counted", function()
    local function answer(text, weight) return { role = "assistant", content = text, weight = weight } end
    local q, r = { role = "user", content = "q" }, { role = "user", content = "r", name = "Ada" }
    local samples = samples_of(data.list { { messages = { q, answer("a", 0), r, answer("b", 1) }, id = 5 },
      { messages = { q, answer "a" }, id = 6 } }, template.plain(), tok)
    expect.same(shown(samples:get(0)), "q[0 query]\n\n[0 template]a[0 critique]<eos>[0 end]\n\n[0 template]r[0 query]" ..
      "\n\n[0 template]b[1 critique]<eos>[1 end]")
    expect.match(samples:describe(), "\n  fields that are not used: id %(2%), messages.name %(1%)$")
    expect.raises("1 of 1 samples have no loss token", samples_of, data.list { { messages = { q, answer("a", 0) } } },
      template.plain(), tok)
  end },

  { "an answer with weight 0 and a template that is a function: said", function()
    local q = { role = "user", content = "q" }
    local source = data.list { { messages = { q, { role = "assistant", content = "a" } } },
      { messages = { q, { role = "assistant", content = "b", weight = 0 }, q, { role = "assistant", content = "c" } } } }
    local chat = template.custom(function(r)
      return { { text = r.messages[1].content }, { text = r.messages[2].content, learn = 1 } }
    end)
    expect.match(samples_of(source, chat, tok):describe(), "\n  1 have answers without loss weight %(learn = false%), "
      .. "which the template's function has to see to: records 1")
    expect.truthy(not samples_of(source, template.plain(), tok):describe():find "without loss weight")
  end },

  { "a weight for a kind that no text has is said", function()
    local source = pairs_of { { "q", "a. Conclusion: right" } }
    local says = "\n  learn has weights for kinds that no text has: "
    local learn = { verdict = 3, response = 0.1, correction = 2 }
    expect.match(samples_of(source, template.plain { learn = learn }, tok):describe(), says .. "correction, response$")
    learn = { verdict = 3, ["end"] = 1, rest = 0.5 }
    expect.truthy(not samples_of(source, template.plain { learn = learn }, tok):describe():find "no text has")
    local parts = function(_, text) return { { text = text, kind = "correction" } } end
    learn = { correction = 2 }
    expect.truthy(not samples_of(source, template.plain { learn = learn, parts = parts }, tok):describe():find "no text has")
  end },

  { "a prompt that a server would encode otherwise", function()
    local greedy = setmetatable({  -- "ab" is one token where both stand in one text
      encode_spans = function(_, text)
        local ids, spans, n, at = {}, {}, 0, 1
        while at <= #text do
          local two = text:sub(at, at + 1) == "ab"
          ids[n], spans[n] = two and 300 or text:byte(at), { start = at - 1 }
          n, at = n + 1, at + (two and 2 or 1)
        end
        return { n = n, ids = ids, spans = spans }
      end,
    }, { __index = tok })
    local source = pairs_of { { "xa", "bc" }, { "a", "b" }, { "ab", "c" } }
    -- The question's last letter is a segment of its own, and so is what follows it.
    local chat = template.custom(function(r)
      local q = r.messages[1].content
      return { { text = q:sub(1, 1) }, { text = q:sub(2) .. ":" }, { text = r.messages[2].content, learn = true } }
    end)
    local samples = samples_of(source, chat, greedy)
    expect.same(samples.report.no_prefix, { n = 1, 2 })
    expect.match(samples:describe(), "1 do not begin with what their prompt alone is encoded as, .*: records 2")
    expect.same(samples_of(source, template.plain(), greedy).report.no_prefix.n, 0)
  end },

  { "samples without a loss token, or with nothing else", function()
    local source = pairs_of { { "q1", "a1" }, { "q2", "a2" } }
    local mute = template.plain { learn = 0 }
    expect.raises("list: 2 of 2 samples have no loss token %(template plain%): records 0, 1; no_learned = \"drop\"",
      samples_of, source, mute, tok)
    expect.raises("none of 2 records is left", samples_of, source, mute, tok, { no_learned = "drop" })
    expect.same(samples_of(source, mute, tok, { no_learned = "keep" }):size(), 2)
    local all = template.plain { learn = { query = 1, template = 1 } }
    expect.raises("have nothing but loss tokens", samples_of, source, all, tok)
    expect.same(samples_of(source, all, tok, { all_learned = "keep" }):size(), 2)
    expect.raises("none of 2 records is left: record 0 has 7 tokens, more than 3", samples_of, source, template.plain(), tok, { max_tokens = 3 })
  end },

  { "two begin-of-text tokens", function()
    local source = pairs_of { { "q", "a" }, { "<bos>q", "a" } }
    local chat = template.plain { bos = true, specials = "llamafactory" }
    expect.raises("1 of 2 samples begin with two begin%-of%-text tokens .*: records 1;", samples_of, source, chat, tok)
    expect.same(samples_of(source, chat, tok, { double_bos = "drop" }):size(), 1)
    expect.same(samples_of(source, template.plain { bos = true }, tok):size(), 2)  -- plain text by default
  end },

  { "text that cannot be tokenised", function()
    expect.raises("1 records cannot become samples: record 0: byte 1 is not UTF%-8", samples_of, pairs_of { { "q\255", "a" } },
      template.plain(), tok)
  end },

  { "a record that the template cannot say", function()
    local path = process.folder() .. "/records.jsonl"
    local file = assert(io.open(path, "wb"))
    file:write('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n',
      '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n')
    file:close()
    local gemma = fake { "<eos>", "<bos>", eos = "<eos>", bos = "<bos>" }
    expect.raises("records%.jsonl: 1 records cannot become samples: record 1: template gemma2 has no place for a system text, "
      .. "and the record has one", samples_of, data.open(path), template.gemma2(), gemma, { add_tokens = true })
    expect.same(samples_of(data.open(path), template.gemma3(), gemma):size(), 2)
    local s = samples_of(data.open(path), template.gemma2(), gemma, { stream = true, max_tokens = 100 })
    expect.same(s:get(0).n, 19)
    expect.raises("record 1.* cannot become a sample: template gemma2 has no place", s.get, s, 1)
  end },

  { "tokens that the tokenizer lacks", function()
    local poor = fake { "<eos>", eos = "<eos>" }
    expect.raises("needs the tokens <|im_start|>", samples_of, pairs_of { { "q", "a" } }, template.chatml(), poor)
    local samples = samples_of(pairs_of { { "q", "a" } }, template.chatml(), poor, { add_tokens = true })
    expect.match(samples:describe(), "added to the tokenizer: <|im_start|>, <|im_end|>")
  end },

  { "samples that were not kept are made again", function()
    local list = { { "q1", "a1" }, { "q2", "a2" } }
    local kept = samples_of(pairs_of(list), template.plain(), tok)
    local answer = "a1"
    local source = data.generate(2, function(i) return { instruction = "q" .. i + 1, output = i == 0 and answer or "a2" } end)
    local made = samples_of(source, template.plain(), tok, { cache_bytes = 0 })
    expect.same(shown(made:get(0)), shown(kept:get(0)))
    answer = "another"
    expect.raises("generated: record 0 is not what it was when it was scanned", made.get, made, 0)
    expect.raises("samples: 2 of 2", made.get, made, 2)
  end },

  { "weights that are functions of record and step", function()
    local chat = template.plain { learn = { verdict = function(record, step) return record.raw.right and step or 2 end } }
    local source = data.list { { instruction = "q", output = "c. Conclusion: right", right = true },
      { instruction = "q", output = "c. Conclusion: wrong" } }
    local samples = samples_of(source, chat, tok)
    local function at(k, step)
      local s = samples:get(k)
      return mask.spans_at(s, function() return samples:record(k) end, step)[3].weight
    end
    expect.same({ at(0, 5), at(0, 0), at(1, 5) }, { 5, 0, 2 })
    expect.raises("learn: gave %-1 for record 0 at step %-1", at, 0, -1)
  end },

  { "kinds of their own", function()
    local id = mask.kind_id "mask test's own"
    expect.truthy(id > 6)
    expect.same(mask.kind_name(id), "mask test's own")
    expect.same(mask.kind_id "verdict", 5)
  end },
}
