-- What a record says is used, refused by name or named as not used; and the texts of a conversation, whether its
-- contents are texts or lists of parts.

local conversation = require "cft.data.conversation"
local data = require "cft.data.open"
local expect = require "tests.expect"
local json = require "cft.base.json"

local function record(user, answer)
  return { messages = { { role = "system", content = "Judge." }, { role = "user", content = user },
    { role = "assistant", content = answer } } }
end

local plain = record("2 + 3?", "It is 5. Conclusion: right")
local parts = record({ { text = "2 " }, { text = "+ 3?" } }, { { text = "It is 5. " }, { text = "Conclusion: right" } })

-- The messages of a record that JSON text says, a line each: role, content, and "context" for an answer without loss weight.
local function read(text)
  local made, why = conversation.of(json.decode(text))
  if not made then return nil, why end
  local lines = {}
  for i, m in ipairs(made.messages) do
    lines[i] = m.role .. ": " .. conversation.text(m.content) .. (m.learn == false and " (context)" or "")
  end
  return table.concat(lines, "\n"), made.unused
end

-- A chat of two messages, with more in the answer's and in the record.
local function chat(in_answer, in_record)
  return ('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"%s}]%s}'):format(
    in_answer or "", in_record or "")
end

return {
  { "history is earlier turns, and system the system text", function()
    expect.same((read [=[{"system": "Be brief.", "instruction": "And by boat?", "input": "", "output": "An hour.",
      "history": [["How far is it?", "Ten miles."], ["By bus?", "Half an hour."]]}]=]),
      "system: Be brief.\nuser: How far is it?\nassistant: Ten miles.\nuser: By bus?\nassistant: Half an hour.\n"
        .. "user: And by boat?\nassistant: An hour.")
    for _, none in ipairs { "[]", "null", '""' } do
      expect.same((read('{"instruction": "q", "output": "a", "history": ' .. none .. "}")), "user: q\nassistant: a")
    end
    expect.fails("turn 2 of 'history' is no list of a question and an answer",
      read '{"instruction": "q", "output": "a", "history": [["b", "c"], ["d"]]}')
    expect.fails("'history' is no list but a string", read '{"instruction": "q", "output": "a", "history": "b"}')
    expect.fails("message 2 is empty", read '{"instruction": "q", "output": "a", "history": [["b", ""]]}')
    expect.fails("'system' is no text but a number", read '{"instruction": "q", "output": "a", "system": 1}')
    expect.same((read(chat("", ', "system": "s"'))), "system: s\nuser: q\nassistant: a")
    expect.fails("a 'system' and a system message, and they disagree", read [[{"system": "s", "messages":
      [{"role": "system", "content": "t"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]])
  end },

  { "weight, train, training and loss of a message say whether it has loss weight", function()
    for _, off in ipairs { '"weight": 0', '"weight": 0.0', '"train": false', '"training": false', '"loss": false', '"loss": 0',
      '"weight": 0, "train": false' } do
      expect.same((read(chat(", " .. off))), "user: q\nassistant: a (context)", off)
    end
    for _, on in ipairs { '"weight": 1', '"weight": null', '"train": true', '"loss": true', '"loss": 1' } do
      local text, unused = read(chat(", " .. on))
      expect.same({ text, unused }, { "user: q\nassistant: a" }, on)
    end
    expect.fails("message 2 has weight = 0.5; 0, 1, false and true are known", read(chat ', "weight": 0.5'))
    expect.fails("message 2 has weight and loss, and they disagree", read(chat ', "weight": 1, "loss": false'))
    expect.same((read [[{"messages": [{"role": "user", "content": "q", "weight": 0}, {"role": "assistant", "content": "a"}]}]]),
      "user: q\nassistant: a")
    expect.fails("message 1 has train = true and the role 'user'; only answers can have loss weight",
      read [[{"messages": [{"role": "user", "content": "q", "train": true}, {"role": "assistant", "content": "a"}]}]])
    local made = conversation.of(json.decode(chat ', "weight": 0'))
    expect.same(conversation.of(made).messages[2].learn, false)  -- and again, as a function's record is
  end },

  { "ShareGPT's conversations, and TRL's prompts with completions", function()
    expect.same((read [[{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"},
      {"from": "gpt", "value": "a", "train": false}, {"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}]}]]),
      "system: s\nuser: q\nassistant: a (context)\nuser: r\nassistant: b")
    expect.fails("message 2 has the role 'observation': calls of tools",
      read [[{"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "x"}]}]])
    expect.fails("'conversations' is no list of messages", read '{"conversations": []}')
    expect.same((read '{"prompt": "q", "completion": "a", "system": "s"}'), "system: s\nuser: q\nassistant: a")
    expect.same((read [[{"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
      {"role": "user", "content": "r"}], "completion": [{"role": "assistant", "content": "b"}]}]]),
      "user: q\nassistant: a (context)\nuser: r\nassistant: b")
    expect.fails("'prompt' is no list of messages", read '{"prompt": 5, "completion": "a"}')
    expect.fails("message 1 is empty", read '{"prompt": "", "completion": "a"}')
  end },

  { "what no template here says is refused by its field", function()
    local call = '[{"id": "c1", "type": "function", "function": {"name": "area_of", "arguments": "{}"}}]'
    expect.fails("message 2 has 'function_call': calls of tools are known as OpenAI's 'tool_calls' and the role 'tool'",
      read(chat ', "function_call": {"name": "f"}'))
    expect.fails("the record has 'functions': calls of tools", read(chat("", ', "functions": ' .. call)))
    expect.fails("message 2 has 'training_detail': weights inside a message are those of its parts",
      read(chat ', "training_detail": [{"begin_offset": 0, "end_offset": 1, "train": false}]'))
    expect.fails("message 3 has the role 'tool' where 'user' was wanted", read [[{"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}, {"role": "tool", "content": "5"}, {"role": "assistant", "content": "b"}]}]])
    expect.fails("message 3 has the role 'ipython': calls of tools", read [[{"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}, {"role": "ipython", "content": "5"}, {"role": "assistant", "content": "b"}]}]])
    expect.fails("the record has 'images': only text can be trained on", read(chat("", ', "images": ["a.png"]')))
    expect.fails("content of message 1 has a part of the type 'image_url'; only text",
      read [[{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": "a"}]}]])
  end },

  { "what the model's own chat template may say is kept, and what it needs is named", function()
    local function conv(text) return conversation.of(assert(json.decode(text, nil, '"tool'))) end
    local call = '{"id": "c1", "type": "function", "function": {"name": "f", "arguments": %s}}'
    local asks = '{"role": "assistant", "content": null, "tool_calls": [' .. call .. ']}'
    local function turns(arguments, more)
      return ('{"messages": [{"role": "user", "content": "q"}, %s, {"role": "tool", "tool_call_id": "c1", "name": "f", '
        .. '"content": ""}, {"role": "assistant", "content": "a"}]%s}'):format(asks:format(arguments), more or "")
    end
    local record = assert(conv(turns('"{\\"a\\": 1}"', ', "tools": "[{\\"name\\": \\"f\\"}]"')))
    expect.same(record.needs, { tools = true, tool_calls = true, tool_call_id = true, ["the role tool"] = true })
    expect.same(record.tools, { { name = "f" } })
    expect.same(record.messages[2].content, "")
    expect.same(record.messages[2].own.tool_calls[1]["function"].arguments, '{"a": 1}')
    expect.same(record.messages[3].own, { tool_call_id = "c1", name = "f" })
    expect.same(assert(conv(chat ', "thinking": "hm"')).needs, { thinking = true })
    expect.same(assert(conv(chat(', "name": "Ada"', ', "tools": "[]"'))).needs, nil)
    -- a function that hands the conversation on, as it is or changed, loses none of it
    for _ = 1, 2 do
      local again = assert(conversation.of(record))
      expect.same({ again.messages, again.tools, again.needs, again.unused },
        { record.messages, record.tools, record.needs, { ["messages.name"] = true } })
      record = again
    end
    -- two calls alike but for what they ask for are two answers
    local one, two = assert(conv(turns '{"a": 1}')), assert(conv(turns '{"a": 2}'))
    expect.truthy(conversation.prompt(one) ~= conversation.prompt(two))
    expect.truthy(conversation.whole(one) ~= conversation.whole(two))
    for arguments, says in pairs {
      ['"{"'] = "message 2 has tool_calls%[0%]%.function%.arguments that are no JSON object: not JSON at byte",
      ['"5"'] = "that are no JSON object: 5", ["5"] = "arguments of the type number; an object is wanted" } do
      expect.fails(says, conv(turns(arguments)))
    end
    expect.fails("message 2 has 'tool_calls' that are no list of calls", read(chat ', "tool_calls": {"name": "f"}'))
    expect.fails("message 2 has tool_calls%[0%] without a function and its name", read(chat ', "tool_calls": [{"name": "f"}]'))
    expect.fails("message 1 has 'tool_calls' and the role 'user'", read(([[{"messages": [{"role": "user", "content": "q",
      "tool_calls": [%s]}, {"role": "assistant", "content": "a"}]}]]):format(call:format "{}")))
    expect.fails("message 2 has 'reasoning_content', which is no text but a table", read(chat ', "reasoning_content": ["x"]'))
    expect.fails("message 2 has 'reasoning_content' and 'thinking', and they disagree",
      read(chat ', "reasoning_content": "a", "thinking": "b"'))
    expect.fails("'tools' is no list of tools", read(chat("", ', "tools": {"a": 1}')))
    expect.fails("'tools' is no list of tools: not JSON", read(chat("", ', "tools": "f(x)"')))
    expect.fails("message 3 has the role 'user' where 'tool' was wanted", read(('{"messages": [{"role": "user", "content": "q"}, '
      .. '%s, {"role": "user", "content": "r"}, {"role": "assistant", "content": "a"}]}'):format(asks:format "{}")))
  end },

  { "a preference pair is refused as one", function()
    local says = "of a preference pair one answer can be trained on: `fields` gives it as 'output'"
    expect.fails("the record has 'chosen' and 'rejected': " .. says, read '{"prompt": "q", "chosen": "a", "rejected": "b"}')
    expect.fails("the record has 'chosen' and 'rejected': " .. says, read [[{"instruction": "q", "input": "",
      "chosen": "a", "rejected": "b"}]])
    expect.fails("the record has 'chosen' and 'rejected': " .. says, read [[{"conversations": [{"from": "human", "value": "q"}],
      "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}]])
    expect.fails("the record has 'rejected_response': " .. says, read(chat("", ', "rejected_response": "b"')))
    expect.fails("the record has 'kto_tag': " .. says, read(chat("", ', "kto_tag": true')))
    expect.fails("the record has 'label': " .. says, read '{"prompt": "q", "completion": "a", "label": false}')
    -- with an answer of its own besides
    expect.same({ read(chat("", ', "chosen": "a", "rejected": "b"')) },
      { "user: q\nassistant: a", { chosen = true, rejected = true } })
  end },

  { "other fields are named; null, empty and neutral ones are absent", function()
    expect.same({ read(chat(', "name": "Ada", "id": 3', ', "source": "web", "meta": {"score": 1}')) },
      { "user: q\nassistant: a", { ["messages.name"] = true, ["messages.id"] = true, source = true, meta = true } })
    expect.same({ read(chat([[, "name": "", "tool_calls": [], "tool_call_id": null, "reasoning_content": "", "weight": 1,
      "function_call": {"name": null, "arguments": null}]], [[, "tools": "[]", "images": [], "source": "", "meta": {},
      "chosen": null]])) }, { "user: q\nassistant: a" })
    expect.same({ read '{"instruction": "q", "output": "a", "id": 0, "answer": false, "inptu": "lost"}' },
      { "user: q\nassistant: a", { id = true, answer = true, inptu = true } })
  end },

  { "parts of text alone are that text; others are checked", function()
    local function content(list)
      local made, why = conversation.of { messages = { { role = "user", content = list }, { role = "assistant", content = "a" } } }
      if not made then return nil, why end
      return made.messages[1].content, made.unused
    end
    expect.same(content { { type = "text", text = "2 " }, { type = "text", text = "+ 3", kind = json.null } }, "2 + 3")
    expect.same((content { { text = "2 ", kind = "query" }, { text = "+ 3" } }), { { text = "2 ", kind = "query" }, { text = "+ 3" } })
    expect.same((content { { text = "2", learn = 0 } }), { { text = "2", learn = 0 } })
    expect.same((content { { text = "2", verdict = false } }), { { text = "2", verdict = false } })
    expect.same({ content { { type = "text", text = "2", cache_control = { type = "ephemeral" } } } },
      { "2", { ["messages.content.cache_control"] = true } })
    expect.fails("content of message 1 has a part with 'lern'; did you mean 'learn'%?", content { { text = "2", lern = 0 } })
    expect.fails("content of message 1 has a part with 'txt'; did you mean 'text'%?", content { { txt = "2" } })
    expect.fails("a part whose learn is no number from 0", content { { text = "2", learn = -1 } })
    expect.fails("a part whose kind is no text", content { { text = "2", kind = 3 } })
    expect.fails("a part whose verdict is not true or false", content { { text = "2", verdict = "wrong" } })
  end },

  { "white space alone is refused as nothing is", function()
    for _, blank in ipairs { [[ \n\t]], [[\u00a0]], [[\u3000 \u2028]], [[\u0085\u001f]] } do
      expect.fails("'output' is white space alone", read('{"instruction": "q", "output": "' .. blank .. '"}'))
      expect.fails("message 2 is white space alone", read('{"prompt": "q", "completion": "' .. blank .. '"}'))
      expect.fails("the question is white space alone", read('{"instruction": "' .. blank .. '", "output": "a"}'))
    end
    expect.fails("message 3 is white space alone", conversation.of(record("q", { { text = " " }, { text = "\n", kind = "verdict" } })))
    expect.truthy(conversation.of({ instruction = "q", output = " " }, true))
    expect.truthy(read [[{"instruction": "q", "output": "\u200b"}]])  -- no white space of Unicode's
  end },

  { "parts say what one text says", function()
    for _, name in ipairs { "prompt", "answer", "verdict" } do
      expect.same(conversation[name](parts), conversation[name](plain), name)
    end
    expect.same(conversation.prompt(plain), "system\0Judge.\0user\0" .. "2 + 3?")
    expect.same(conversation.answer(plain), "It is 5. Conclusion: right")
    expect.same(conversation.whole(parts), "Judge.\n2 \n+ 3?\nIt is 5. \nConclusion: right")
    expect.same({ conversation.text "a", conversation.text { { text = "a" }, { text = "b" } } }, { "a", "ab" })
    expect.same(data.prompt(parts), conversation.prompt(plain))
  end },

  { "a verdict is that of the parts, else of the text", function()
    expect.same(conversation.verdict(plain), true)
    expect.same(conversation.verdict(record("q", { { text = "Conclusion: right", verdict = false } })), false)
    expect.same(conversation.verdict(record("q", "Conclusion: wrong")), false)
    expect.same(conversation.verdict(record("q", "no more")), nil)
    expect.same(conversation.verdict { question = "q" }, nil)
  end },
}
