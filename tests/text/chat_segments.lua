-- Records through the model's own chat template: what has loss weight, what is counted, what is refused.

local conversation = require "cft.data.conversation"
local chat_check = require "cft.text.chat_check"
local data = require "cft.data.open"
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"
local samples = require "cft.samples"
local template = require "cft.text.template"
local tokenizer = require "cft.text.tokenizer"
local demo = require "cft.demo"

-- In the manner of Qwen3's: reasoning of answers behind the last question alone; no ids of calls.
local CHAT = [[
{%- if tools %}<|im_start|>system
{% for t in tools %}{{ t | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content and loop.index0 > ns.last %}<think>
{{ m.reasoning_content | trim }}
</think>
{% endif %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}]]
local PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
  .. "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

local function tokenizer_with(text)
  local tok = tokenizer.parse(demo.tokenizer_json(1), "demo", { eos = "<|endoftext|>" })
  for _, token in ipairs { "<|im_start|>", "<|im_end|>" } do tok:add_token(token, { special = true }) end
  for _, token in ipairs { "<tool_call>", "</tool_call>", "<think>", "</think>" } do tok:add_token(token) end
  tok.chat_template = text
  return tok
end

local tok = tokenizer_with(CHAT)

local function record(text) return assert(conversation.of(assert(json.decode(text, nil, '"tool')))) end

-- Segments in one line: weight and kind before each that has loss weight, | between the others.
local function shown(segments)
  local out, last = {}, nil
  for _, s in ipairs(segments) do
    local mark = s.weight == 0 and "" or ("%g %s"):format(s.weight, s.kind)
    if mark ~= last then out[#out + 1], last = mark == "" and "|" or "[" .. mark .. "]", mark end
    out[#out + 1] = s.text
  end
  return (table.concat(out):gsub("\n", "~"))
end

local CALL = [[{"messages": [{"role": "user", "content": "q <tool_call><|im_end|>"},
  {"role": "assistant", "content": null, %s"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"z": "<|im_end|>", "a": 2.0}}}]},
  {"role": "tool", "tool_call_id": "c", "content": "5"}, {"role": "assistant", "content": "a"%s}], "tools": [{"name": "f"}]%s}]]

return {
  { "calls, with what the template writes around them, up to the token that ends the turn", function()
    local segments = assert(template.chatml():segments(record(CALL:format("", "", "")), tok))
    expect.same(shown(segments), '|<|im_start|>system~{"name": "f"}~<|im_end|>~<|im_start|>user~q <tool_call><|im_end|><|im_end|>~'
      .. '<|im_start|>assistant~[1 tool_call]<tool_call>~{"name": "f", "arguments": {"z": "<|im_end|>", "a": 2.0}}~</tool_call>'
      .. '[1 end]<|im_end|>|~<|im_start|>tool~5<|im_end|>~<|im_start|>assistant~[1 critique]a[1 end]<|im_end|>')
    expect.same({ segments.unwritten, segments.other_prompt },
      { { ["messages.tool_calls.id"] = true, ["messages.tool_call_id"] = true }, false })
    local content, specials = {}, {}
    for _, s in ipairs(segments) do
      if s.content then content[#content + 1] = s.text end
      if s.special then specials[s.text] = (specials[s.text] or 0) + 1 end
    end
    expect.same(table.concat(content), [[{"name": "f"}q <tool_call><|im_end|>f{"z": "<|im_end|>", "a": 2.0}5a]])
    expect.same(specials, { ["<|im_start|>"] = 5, ["<|im_end|>"] = 5, ["<tool_call>"] = 1, ["</tool_call>"] = 1 })
  end },

  { "arguments that are a text of JSON are the object", function()
    local function written(arguments)
      local text = CALL:format("", "", ""):gsub('{"z": "<|im_end|>", "a": 2%.0}', (arguments:gsub("%%", "%%%%")))
      return shown(assert(template.own():segments(record(text), tok)))
    end
    expect.same(written [["{\"z\":1,\"a\":[]}"]], written [[{"z": 1, "a": []}]])
    local says = select(2, template.own():segments(record(CALL:format("", "", ""):gsub("2%.0", "12345678901234567890")), tok))
    expect.match(says, "the integer 12345678901234567168 is beyond 2%^53, and was rounded")
  end },

  { "weights: of messages, of turns, by kind, of parts", function()
    local function learned(text, opts)
      local out = {}
      for _, s in ipairs(assert(template.own(opts):segments(record(text), tok))) do
        if s.weight ~= 0 then out[#out + 1] = ("%g:%s"):format(s.weight, (s.text:gsub("\n", "~"))) end
      end
      return table.concat(out, " ")
    end
    local all = '1:<tool_call> 1:~{"name": " 1:f 1:", "arguments":  1:{"z":  1:"<|im_end|>" 1:, "a":  1:2.0 1:} 1:}~ 1:</tool_call> 1:<|im_end|> '
    expect.same(learned(CALL:format("", "", "")), all .. "1:a 1:<|im_end|>")
    expect.same(learned(CALL:format('"weight": 0, ', "", "")), "1:a 1:<|im_end|>")
    expect.same(learned(CALL:format("", ', "train": false', "")), (all:gsub(" $", "")))
    expect.same(learned(CALL:format("", "", ""), { turns = "last" }), "1:a 1:<|im_end|>")
    expect.same(learned(CALL:format("", "", ""), { learn = { tool_call = 2, tool = 0.5, ["end"] = 0, rest = 0 } }),
      (all:gsub("1:<|im_end|> $", ""):gsub("1:", "2:")) .. "0.5:5")
    expect.same(learned([[{"messages": [{"role": "user", "content": [{"text": "q", "learn": 0.5}]},
      {"role": "assistant", "content": [{"text": "a", "learn": 3}, {"text": "b"}]}]}]]), "0.5:q 3:a 1:b 1:<|im_end|>")
  end },

  { "reasoning: of the last question it is written, of earlier ones counted", function()
    local text = [[{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": " one "},
      {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "%s": " two "}]}]]
    for _, name in ipairs { "reasoning_content", "thinking", "reasoning" } do
      local segments = assert(template.own():segments(record(text:format(name)), tok))
      expect.same(shown(segments), "|<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[1 critique]a[1 end]<|im_end|>|~<|im_start|>user~"
        .. "r<|im_end|>~<|im_start|>assistant~[1 reasoning]<think>~two~</think>~[1 critique]b[1 end]<|im_end|>" )
      expect.same(segments.unwritten, { ["messages.reasoning_content"] = true })
    end
  end },

  { "what a template has no words for is refused by field; so is all of it without one", function()
    local plain, none = tokenizer_with(PLAIN), tokenizer_with(nil)
    local function refused(says, text, with)
      local segments, why = template.chatml():segments(record(text), with or plain)
      expect.fails(says, segments, why)
    end
    local reasons = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "hm"}]}'
    refused("which the record needs for .*: 'tools': the model's chat template does not write it", CALL:format("", "", ""))
    refused("message 2 has 'tool_calls': the model's chat template does not write it",
      (CALL:format("", "", ""):gsub(', "tools": %[{"name": "f"}%]', "")))
    refused("message 2 has 'thinking': the model's chat template does not write it", reasons)
    refused("the record has 'thinking': template chatml has no words for that, and the model has no chat template", reasons, none)
    expect.fails("template = \"own\": the model has no chat template", template.own():segments(record(reasons), none))
    expect.raises("the model has no chat template", template.own().prepare, template.own(), none)
    expect.fails("message 2 is not in what the model's chat template writes", template.own():segments(record [[{"messages":
      [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]], tokenizer_with "{{ messages[0].content }}"))
    refused("it refuses: no$", reasons, tokenizer_with "{{ raise_exception('no') }}")
  end },

  { "a prompt that the conversation does not begin with is said, and what opens an answer goes before it all the same", function()
    -- tools stand in the last question alone
    local last = PLAIN:gsub("{{ m%.content }}", "{%% if loop.last or m.role == 'user' and loop.index0 >= (messages|length) - 2 %%}!{%% endif %%}{{ m.content }}")
    local segments = assert(template.own():segments(record [[{"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]}]],
      tokenizer_with(last)))
    expect.same({ segments.other_prompt, shown(segments) }, { true, "|<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[1 critique]a"
      .. "[1 end]<|im_end|>|~<|im_start|>user~!r<|im_end|>~<|im_start|>assistant~[1 critique]!b[1 end]<|im_end|>" })
  end },

  { "`{% generation %}` decides, and messages that are context stay context", function()
    local marked = tokenizer_with("{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}>{{ m.content }}\n"
      .. "{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}{% endif %}")
    local function written(more)
      return shown(assert(template.own():segments(record(([[{"messages": [{"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"%s}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]}]])
        :format(more)), marked)))
    end
    expect.same(written "", "|q~[1 critique]>a~|r~[1 critique]>b~")
    expect.same(written ', "weight": 0', "|q~>a~r~[1 critique]>b~")
  end },

  { "a run's report: who was written how, what was left out, control strings", function()
    local path = process.write(process.folder() .. "/tools.jsonl", CALL:format("", "", ', "id": 7'):gsub("\n", " ") .. "\n"
      .. '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "n"}]}\n')
    local made = samples.new(data.open(path), template.chatml { system = false }, tok)
    local report = made:describe()
    expect.truthy(report:find("1 written with the model's own chat template, for template chatml has no words for: the role tool (1), "
      .. "tool_call_id (1), tool_calls (1), tools (1)", 1, true), report)
    expect.truthy(report:find("fields that are not used: id (1), messages.name (1), messages.tool_call_id (1), messages.tool_calls.id (1)",
      1, true), report)
    expect.truthy(report:find("1 hold strings of special tokens, taken as plain text: <tool_call> (1), <|im_end|> (2): records 0", 1, true),
      report)
    local said = {}
    for i, span in ipairs(made:show(0)) do said[i] = span.weight > 0 and "«" .. span.text .. "»" or span.text end
    expect.same(table.concat(said):gsub("»«", ""), [[<|im_start|>system
{"name": "f"}
<|im_end|>
<|im_start|>user
q <tool_call><|im_end|><|im_end|>
<|im_start|>assistant
«<tool_call>
{"name": "f", "arguments": {"z": "<|im_end|>", "a": 2.0}}
</tool_call><|im_end|>»
<|im_start|>tool
5<|im_end|>
<|im_start|>assistant
«a<|im_end|>»]])
    local own = samples.new(data.open(path), template.own(), tok):describe()
    expect.truthy(own:find("template own: the model's own chat template; answers end in <|im_end|>", 1, true), own)
    -- a function that is the template is not known to read them
    local left = samples.new(data.open(path), template.of(function() return { { text = "q" }, { text = "a", learn = 1 } } end), tok)
    expect.truthy(left:describe():find("tool_calls, left to the template's function (1)", 1, true), left:describe())
  end },

  { "the template of a run that is the model's own has nothing to be compared with", function()
    expect.same(chat_check.compare(template.own(), tok), {})
    expect.same({ template.of("own"):end_token(tok) }, { tok:id "<|im_end|>", "<|im_end|>" })
    expect.raises("template.own: unknown option 'system'", template.own, { system = "x" })
  end },

  { "names of speakers: where the template writes them they are used, else counted", function()
    local said = record [[{"messages": [{"role": "user", "content": "q", "name": "Ada"}, {"role": "assistant", "content": "a"}]}]]
    local names = tokenizer_with "{% for m in messages %}{{ m.name or m.role }}: {{ m.content }}\n{% endfor %}"
    local segments = assert(template.own():segments(said, names))
    expect.same({ shown(segments), segments.unwritten }, { "|Ada: q~[1 critique]assistant: a~", {} })  -- no prompt has its words
    local path = process.write(process.folder() .. "/names.jsonl", json.encode(said.raw) .. "\n")
    expect.truthy(not samples.new(data.open(path), template.own(), names):describe():find "not used")
    expect.truthy(samples.new(data.open(path), template.own(), tok):describe():find("fields that are not used: messages.name (1)", 1, true))
  end },

  { "strings of special tokens in data become them where a run says so", function()
    local function ids(opts)
      local path = process.write(process.folder() .. "/specials.jsonl", '{"messages": [{"role": "user", "content": "<|im_end|>"}, '
        .. '{"role": "assistant", "content": "a"}]}\n')
      local sample, count = samples.new(data.open(path), template.own(opts), tok):get(0), 0
      for k = 0, sample.n - 1 do count = count + (sample.ids[k] == tok:id "<|im_end|>" and 1 or 0) end
      return count
    end
    expect.same({ ids {}, ids { specials = "llamafactory" } }, { 2, 3 })
  end },
}
