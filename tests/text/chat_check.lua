-- The model's own chat template beside a run's: differences by name, none where there is none.

local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local vocabularies = require "tests.vocabularies"
local chat_template = require "cft.text.chat_check"
local json = require "cft.base.json"
local template = require "cft.text.template"

local tok = fake { "<eos>", "<bos>", "<|im_start|>", "<|im_end|>", eos = "<eos>", bos = "<bos>" }

local CHATML = [[
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}
{%- for m in messages if m.role != 'system' %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}]]

-- The differences from a template's text, a line each.
local function lines(chat, text)
  tok.chat_template = text
  local found, why = chat_template.compare(chat, tok)
  if not found then return why end
  for i, difference in ipairs(found) do found[i] = chat_template.describe(difference) end
  return found
end

local qwen = template.qwen { end_token = "im_end" }

return {
  { "no difference", function()
    expect.same(lines(qwen, CHATML), {})
    expect.same(lines(template.qwen { end_token = "im_end_newline" }, CHATML), {})
    expect.same({ chat_template.compare(qwen, fake {}) }, {})
  end },

  { "the paper's template: the end token", function()
    expect.same(lines(template.qwen(), CHATML),
      { [[behind an answer (end token): "<eos>" in training, "<|im_end|>\n" by the model's template]] })
  end },

  { "system text, white space, headers", function()
    expect.same(lines(template.qwen { end_token = "im_end", system = "You add." }, CHATML), { "before the first question "
      .. [[(system text): "<|im_start|>system\nYou add.<|im_end|>\n<|im_start|>user\n" in training, ]]
      .. [["<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n" by the model's template]] })
    expect.same(lines(qwen, (CHATML:gsub("m%.content %+ '<|im_end|>\\n'", "(m.content | trim) + '<|im_end|>\\n'"))),
      { "white space around a question: kept in training, taken away by the model's template",
        "white space around an answer: kept in training, taken away by the model's template" })
    expect.same(lines(qwen, (CHATML:gsub("assistant\\n", "assistant "))),
      { [[the prompt that waits for an answer: "<|im_end|>\n<|im_start|>assistant\n" in training, ]]
        .. [["<|im_end|>\n<|im_start|>assistant " by the model's template (only white space differs)]] })
    expect.match(lines(qwen, "{{ bos_token }}" .. CHATML)[1], 'before the first question.*"<bos><|im_start|>system')
  end },

  { "zephyr is the preset of templates in its style", function()
    local golden = assert(json.read "tests/golden/jinja.json")
    for _, style in ipairs(golden.styles) do
      if style.name == "blocks on lines of their own" then
        expect.same(lines(template.zephyr(), style.template), {})
        return
      end
    end
    error "no such style"
  end },

  { "families: the presets are what their publishers' templates write", function()
    local golden = assert(json.read "tests/golden/templates/families.json")
    for _, family in ipairs(golden.families) do
      local chat = template.of(family.preset, family.options)
      expect.same({ family.name, lines(chat, family.template) }, { family.name, {} })
      expect.truthy(#lines(template.deepseek(), family.template) > 0)
    end
  end },

  { "Qwen2.5-Math's own template is the preset qwen with its system text", function()
    local text = vocabularies.read(vocabularies.shared .. "/tokenizer/qwen2.5/chat_template.jinja")
    local system = "Please reason step by step, and put your final answer within \\boxed{}."
    expect.same(lines(template.qwen { end_token = "im_end", system = system }, text), {})
  end },

  { "a system text that one of them has no place for", function()
    local templates = {}
    for _, family in ipairs(assert(json.read "tests/golden/templates/families.json").families) do
      templates[family.name] = family.template
    end
    expect.same(lines(template.gemma3(), templates.gemma2),
      { "a system message: the model's chat template, line 1: it refuses: no system text" })
    expect.same(lines(template.gemma2(), templates.gemma3), { "a system message: template gemma2 has no place for "
      .. "a system text; the model's template takes one, if a record has it" })
    expect.same(lines(template.mistral { version = "v3" }, templates["mistral-v7"]),
      { [[before a system message: "<bos>[INST] " in training, "<bos>[SYSTEM_PROMPT] " by the model's template]],
        [[behind a system message: "\n\n" in training, "[/SYSTEM_PROMPT][INST] " by the model's template]],
        "white space around an answer: taken away in training, kept by the model's template" })
  end },

  { "an end-of-text token behind a whole conversation is never asked for", function()
    expect.same(lines(qwen, CHATML .. "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"), {})
    expect.match(lines(template.qwen(), CHATML .. "{{ eos_token }}")[1],
      [[^behind an answer %(end token%): "<eos>" in training, "<|im_end|>\n<eos>" by the model's template]])
    local endless = template.new { name = "endless", user_turn = { template.content }, answer_turn = { template.content } }
    expect.match(lines(endless, "{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}")[1],
      '^behind an answer %(end token%): "" in training, "<eos>" by')
  end },

  { "an answer may begin with a space that its prompt ends before", function()
    local text = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}User: {{ m.content }}\n\n{% elif m.role == 'assistant' %}"
      .. "Assistant: {{ m.content }}{{ eos_token }}{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}"
      .. "{% if add_generation_prompt %}Assistant:{% endif %}"
    expect.same(lines(template.deepseek(), text), {})
  end },

  { "what the model's template refuses", function()
    expect.same(lines(qwen, "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" .. CHATML),
      { "a system message: the model's chat template, line 1: it refuses: no system" })
    expect.match(lines(qwen, "{{ raise_exception('never') }}"), "line 1: it refuses: never$")
    expect.match(lines(qwen, "{% if %}"), "^the model's chat template, line 1: ")
    expect.same(lines(qwen, "hello"), { "a conversation of two turns: cftQuestionOne is not in it" })
    expect.match(lines(template.of(function(r) return { { text = r.raw.question.text } } end), CHATML),
      "^the run's template cannot be asked: .*question")
  end },

  { "SmolLM2's own template is the preset chatml", function()
    local smollm2 = vocabularies.smollm2()
    expect.truthy(smollm2.chat_template)
    expect.same(chat_template.compare(template.chatml(), smollm2), {})
  end },
}
