"""Chat templates in the manner of those that models come with, each with the preset of cft that says the same of
plain conversations. `{% generation %}` stands around what an assistant writes."""

TOOLS = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}# Tools

You may call one or more functions.
<tools>
{%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{%- endfor %}{{ '\\n' }}</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}"""

# As Qwen's: tools, calls and results of tools, and reasoning, of the answers behind the last question alone.
QWEN = TOOLS + """{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{% generation %}
{%- if message.reasoning_content and loop.index0 > ns.last %}<think>
{{ message.reasoning_content.strip('\\n') }}
</think>

{% endif %}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{%- if (loop.first and message.content) or not loop.first %}{{ '\\n' }}{% endif %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {% if call.function.arguments is string %}{{ call.function.arguments }}{% else %}{{ call.function.arguments | tojson }}{% endif %}}
</tool_call>
{%- endfor %}<|im_end|>{% endgeneration %}{{ '\\n' }}{% elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}{{ '\\n' }}<tool_response>
{{ message.content }}
</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# Names of speakers are written, nothing of tools is.
NAMED = """{%- for message in messages %}<|im_start|>{{ message.role }}{% if message.name %} name={{ message.name }}{% endif %}{{ '\\n' }}{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}{% else %}{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

ZEPHYR = """{% for message in messages %}
{%- if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + eos_token + '\\n' }}
{%- elif message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + eos_token + '\\n' }}
{%- elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

# As Llama 3.1's: contents are trimmed, tools stand in the first question, results of tools are of the role ipython.
LLAMA3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
{%- if message.role == 'user' %}<|start_header_id|>user<|end_header_id|>

{% if loop.first and tools %}Given the following functions:

{% for t in tools %}{{ t | tojson(indent=4) + '\\n\\n' }}{% endfor %}{% endif %}{{ message.content | trim }}<|eot_id|>
{%- elif message.role == 'assistant' %}<|start_header_id|>assistant<|end_header_id|>

{% generation %}{% if message.tool_calls %}{% for call in message.tool_calls %}{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}{% endfor %}{% else %}{{ message.content | trim }}{% endif %}<|eot_id|>{% endgeneration %}
{%- elif message.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>

{{ message.content | tojson }}<|eot_id|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

TEMPLATES = {
    "qwen": {"jinja": QWEN, "preset": "chatml", "options": {"system": False}, "eos": "<|im_end|>", "bos": None},
    "named": {"jinja": NAMED, "preset": "chatml", "options": {"system": False}, "eos": "<|im_end|>", "bos": None},
    "zephyr": {"jinja": ZEPHYR, "preset": "zephyr", "options": {}, "eos": "<|endoftext|>", "bos": None},
    "llama3": {
        "jinja": LLAMA3,
        "preset": "llama3",
        "options": {"dates": False},
        "eos": "<|eot_id|>",
        "bos": "<|begin_of_text|>",
    },
}
SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]


def unmarked(jinja):
    """The same template without its generation blocks, as most models have it."""
    out = jinja.replace("{% generation %}\n{%- ", "{% ")  # no dash: the line break before it stays
    for tag in ("{% generation %}", "{% endgeneration %}"):
        out = out.replace(tag, "")
    return out


def render(name, messages, tools=None, jinja=None):
    """The text, and where in it each assistant's message is, its end token included."""
    from transformers.utils.chat_template_utils import render_jinja_template

    spec = TEMPLATES[name]
    texts, spans = render_jinja_template(
        conversations=[messages],
        tools=tools,
        chat_template=jinja or spec["jinja"],
        return_assistant_tokens_mask=True,
        bos_token=spec["bos"] or "",
        eos_token=spec["eos"],
    )
    return texts[0], spans[0]
