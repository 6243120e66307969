-- Templates: kinds, weights, presets as text; and ids equal to LLaMA-Factory's and transformers'.

local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local data = require "cft.data"
local mask = require "cft.mask"
local template = require "cft.template"

local function chat_of(...)
  local roles, messages = { "user", "assistant" }, {}
  for i, content in ipairs { ... } do messages[i] = { role = roles[(i - 1) % 2 + 1], content = content } end
  return { messages = messages }
end

-- Segments as text, learned ones in braces, the tokenizer's own tokens by name.
local function text_of(chat, record)
  local out, inside = {}, false
  for _, s in ipairs(chat:segments(record)) do
    local learned = s.weight ~= 0
    if learned ~= inside then out[#out + 1] = learned and "{" or "}" end
    inside = learned
    out[#out + 1] = s.own and "<" .. s.own .. ">" or s.text
  end
  return table.concat(out) .. (inside and "}" or "")
end

local tok = fake { "<eos>", "<bos>", "<|im_start|>", "<|im_end|>", eos = "<eos>", bos = "<bos>" }

return {
  { "verdicts by the authors' rule", function()
    expect.same(template.verdict "Critique:\nno.\n\nConclusion: wrong [END]", false)
    expect.same(template.verdict "Conclusion: right [END]", true)
    expect.same(template.verdict "Conclusion: right. But no.\nConclusion: Incorrect", false)
    expect.same(template.verdict "**Conclusion**: the solution is CORRECT", true)
    expect.same(template.verdict "Conclusion: right, not wrong", false)  -- theirs, not ours
    expect.same(template.verdict "It is right.", nil)
    expect.same(template.verdict "Conclusion: unsure", nil)
  end },

  { "messages are cut by kind and keep every byte", function()
    local parts = template.parts("user", "Critique this.\n\nQuestion:\nq\n\nSolution:\na\n\nSolution:\nb\n")
    expect.same(parts, { { text = "Critique this.\n\nQuestion:\nq\n\nSolution:\n", kind = "query" },
      { text = "a\n\nSolution:\nb\n", kind = "response" } })
    expect.same(template.parts("user", "q\nSolution:\na")[2], { text = "a", kind = "response" })
    expect.same(template.parts("user", "q"), { { text = "q", kind = "query" } })
    expect.same(template.parts("user", "q\n\nSolution:\n"), { { text = "q\n\nSolution:\n", kind = "query" } })
    expect.same(template.parts("assistant", "c.\n\nConclusion: x\nConclusion: right [END]"),
      { { text = "c.\n\nConclusion: x\n", kind = "critique" }, { text = "Conclusion: right [END]", kind = "verdict" } })
    expect.same(template.parts("assistant", "Conclusion: right"), { { text = "Conclusion: right", kind = "verdict" } })
    expect.same(template.parts("system", "s"), { { text = "s", kind = "system" } })
    expect.same(template.parts("assistant", ""), { { text = "", kind = "critique" } })
  end },

  { "qwen and its variants", function()
    local record = chat_of("q", "a", "r", "b")
    local head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    local function turn(q) return "<|im_start|>user\n" .. q .. "<|im_end|>\n<|im_start|>assistant\n" end
    expect.same(text_of(template.qwen(), record), head .. turn "q" .. "{a<eos>}\n" .. turn "r" .. "{b<eos>}")
    expect.same(text_of(template.qwen { end_token = "im_end" }, record),
      head .. turn "q" .. "{a<|im_end|>}\n" .. turn "r" .. "{b<|im_end|>}")
    expect.same(text_of(template.qwen { end_token = "im_end_newline", system = false }, record),
      turn "q" .. "{a<|im_end|>\n}" .. turn "r" .. "{b<|im_end|>\n}")
    expect.same(text_of(template.qwen { turns = "last" }, record), head .. turn "q" .. "a<eos>\n" .. turn "r" .. "{b<eos>}")
    table.insert(record.messages, 1, { role = "system", content = "" })
    expect.match(text_of(template.qwen(), record), "^<|im_start|>system\nYou are a helpful")
    record.messages[1].content = "S"
    expect.match(text_of(template.qwen { system = false }, record), "^<|im_start|>system\nS<|im_end|>\n")
  end },

  { "llama3: dates, trimmed contents", function()
    local chat = template.llama3()
    local text = text_of(chat, chat_of("\n q \u{2003}", "\u{85}\u{1c} a\t"))
    expect.same(text, "<bos><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n" ..
      "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>" ..
      "<|start_header_id|>assistant<|end_header_id|>\n\n{a<|eot_id|>}")
    expect.match(text_of(template.llama3 { date = "01 Jan 2025" }, chat_of("q", "a")), "Today Date: 01 Jan 2025\n\n<")
    expect.match(text_of(template.llama3 { dates = false, system = "S" }, chat_of("q", "a")), "\n\nS<|eot_id|>")
    expect.match(text_of(chat, chat_of("q", " \n ")), "\n\n{<|eot_id|>}$")
  end },

  { "deepseek, chatml, plain", function()
    local record = chat_of("q", "a", "r", "b")
    expect.same(text_of(template.deepseek(), record),
      "<bos>User: q\n\nAssistant:{ a<eos>}User: r\n\nAssistant:{ b<eos>}")
    expect.match(text_of(template.deepseek { space = false, system = "S" }, record), "^<bos>S\n\nUser: q\n\nAssistant:{a<eos>}")
    expect.match(text_of(template.chatml(), record), "named SmolLM, .*assistant\n{a<|im_end|>}\n<|im_start|>user\nr.*{b<|im_end|>}$")
    expect.same(text_of(template.plain { bos = true, separator = "\n" }, record), "<bos>q\n{a<eos>}\nr\n{b<eos>}")
  end },

  { "weights by kind, by part, by function", function()
    local record = chat_of("q\n\nSolution:\ns", "c. Conclusion: wrong")
    local function weights(opts)
      local out = {}
      for _, s in ipairs(template.plain(opts):segments(record)) do
        if s.content or s.special then out[s.kind] = s.weight end
      end
      return out
    end
    expect.same(weights(), { query = 0, response = 0, critique = 1, verdict = 1, ["end"] = 1 })
    expect.same(weights { learn = { verdict = 3, query = 0.1, rest = 0.5 } },
      { query = 0.1, response = 0, critique = 0.5, verdict = 3, ["end"] = 0.5 })
    local by_function = function() return 2 end
    expect.same(weights { learn = by_function }.critique, by_function)
    record.messages[2].content = { { text = "c", kind = "critique", learn = 0 }, { text = "v", kind = "verdict" } }
    expect.same(weights { learn = 2 }, { query = 0, response = 0, critique = 0, verdict = 2, ["end"] = 2 })
    expect.raises("weight of 'verdict' must be a number from 0 or a function, got %-1", template.plain, { learn = { verdict = -1 } })
    expect.raises("weight of 'learn' must be .* got nan", template.plain, { learn = 0 / 0 })
  end },

  { "a tokenizer that lacks a token", function()
    local poor = fake { "<eos>", eos = "<eos>" }
    local chat = template.chatml()
    expect.same(chat:missing(tok), {})
    expect.same(chat:missing(poor), { "<|im_start|>", "<|im_end|>" })
    expect.raises("template chatml needs the tokens <|im_start|>, <|im_end|>, which the tokenizer lacks; add_tokens = true adds them",
      chat.prepare, chat, poor)
    expect.same(chat:prepare(poor, { add_tokens = true }), { "<|im_start|>", "<|im_end|>" })
    expect.same(chat:missing(poor), {})
    local deepseek = template.deepseek()
    expect.same(deepseek:missing(poor), { "bos" })
    expect.raises("needs the tokenizer's bos token, and it names none", deepseek.prepare, deepseek, poor, { add_tokens = true })
  end },

  { "which end token is learned", function()
    expect.same(template.qwen():describe(tok), "template qwen: answers end in <eos> (id 256), learned; nothing follows it")
    expect.same(template.qwen { end_token = "im_end_newline" }:describe(tok),
      [[template qwen: answers end in <|im_end|> (id 259), learned; "\n" is learned after it]])
    expect.match(template.qwen { learn = { ["end"] = 0 } }:describe(tok), "not learned")
    expect.match(template.qwen { learn = 2 }:describe(tok), "learned with weight 2;")
    expect.same({ template.chatml():end_token(tok) }, { 259, "<|im_end|>" })
    local endless = template.new { name = "endless", user_turn = { template.content }, answer_turn = { template.content } }
    expect.match(endless:describe(tok), "answers end in no token; the model never learns to stop")
  end },

  { "a recipe's own function", function()
    local chat = template.of(function(r)
      return { { text = r.messages[1].content }, { text = r.messages[2].content, learn = true },
        { text = "<|im_end|>", special = true, learn = 0.5, kind = "end" } }
    end)
    local s = mask.encode(chat_of("q", "ab"), chat, tok)
    expect.same({ s.n, s.ids[0], s.ids[3] }, { 4, ("q"):byte(), 259 })
    expect.same({ s.span_count, s.spans[0].weight, s.spans[1].weight, s.spans[2].weight }, { 3, 0, 1, 0.5 })
    expect.same(s.ends, true)
    expect.raises("segment 1 has no text", mask.encode, chat_of("q", "a"), template.of(function() return { {} } end), tok)
    expect.raises("the function gave a string", mask.encode, chat_of("q", "a"), template.of(function() return "x" end), tok)
    expect.raises("must be one of 'qwen', .*did you mean 'chatml'", template.of, "chat_ml")
    expect.raises("unknown option 'end'; did you mean 'end_token'", template.of, "qwen", { ["end"] = 1 })
    expect.same(template.of(chat), chat)
    expect.same(template.of("plain").name, "plain")
  end },
}
