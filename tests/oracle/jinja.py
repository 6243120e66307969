"""Golden renderings of chat templates by transformers: tests/golden/jinja.json.

Every template here was written for this test, in the styles in which models publish theirs, or to hold one
construct of the language. `text` is what transformers' own environment renders; `null` where it refuses.

    python tests/oracle/jinja.py
"""

from transformers.utils.chat_template_utils import _compile_jinja_template

from golden import GOLDEN, provenance, save_json

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}


def chat(*contents, system=None):
    roles = ("user", "assistant")
    messages = [] if system is None else [{"role": "system", "content": system}]
    return messages + [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]


CONVERSATIONS = {
    "one turn": chat("2 + 3?", "5"),
    "question alone": chat("2 + 3?"),
    "system, two turns": chat("q1", "a1", "q2", "a2 é 三", system="You add."),
    "white space": chat(" \n q \u2003", "\u0085 a\t\n", system=" s "),
    "thought": chat("q", "<think>\nhm\n</think>\n\nyes", "r", "no"),
    "roles out of turn": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
}

STYLES = {
    "chatml, one line": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}"
                        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml, default system": """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "headers, trimmed, bos on the first": """\
{% set loop_messages = messages %}
{% for message in loop_messages %}
{% set content = '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '<|eot|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
{{ content }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\\n\\n' }}{% endif %}""",
    "brackets, roles must alternate": """\
{%- if messages[0]['role'] == 'system' %}
{%- set system_message = messages[0]['content'] | trim + '\\n\\n' %}
{%- set messages = messages[1:] %}
{%- else %}{% set system_message = '' %}{% endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate, message ' ~ loop.index) }}
    {%- endif %}
    {%- if loop.index0 == 0 %}{% set content = system_message + message['content'] %}
    {%- else %}{% set content = message['content'] %}{% endif %}
    {%- if message['role'] == 'user' %}
{{- '[INST] ' + content.strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
{{- ' ' + content + eos_token }}
    {%- endif %}
{%- endfor %}""",
    "blocks on lines of their own": """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
    "plain roles": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
                   "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content']"
                   " + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
                   "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
                   "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "thoughts of earlier turns left out": """\
{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == "user" and message.content is string %}{% set ns.last = index %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" and '</think>' in content and loop.index0 <= ns.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<' ~ message.role ~ '>' ~ content ~ '</' ~ message.role ~ '>' }}
{%- endfor %}""",
    "a macro, a set block, generation": """\
{%- macro turn(role, content, end='\\n') -%}
[{{ role | upper }}] {{ content }}{{ end }}
{%- endmacro -%}
{%- set head -%}
  {{ bos_token }} {{ messages | length }} messages
{%- endset -%}
{{ head | trim }}
{% for m in messages if m.role != 'system' %}
{%- if m.role == 'assistant' %}{% generation %}{{ turn(m.role, m.content, end=eos_token) }}{% endgeneration %}
{%- else %}{{ turn(m.role, m.content) }}{% endif %}
{%- else %}nothing{% endfor %}""",
}

VARS = {"s": "one Two three", "n": 7, "l": [3, 1, 2], "e": [], "none_": None, "yes": True,
        "d": {"a": 1, "b": [True, None, "x\"y"], "c": {"k": 0.5}},
        "m": [{"role": "user", "content": "q"}, {"role": "tool", "content": "t"}, {"role": "user", "content": ""}]}

CONSTRUCTS = [
    # white space
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc", "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\n  c", "  {{ n }}  \n  {{- n -}}  \n x",
    "a {#- comment -#} b {# c #}\nd", "{% raw %}{{ n }}{% x %}{% endraw %}\n|", "a\n{%+ if yes %}\n b{% endif +%}\n c", "x\n", "x\n\n",
    "\n  {# only #}\n  x", "{{ '}}' }}{{ '%}' }}", "a\r\nb{% if yes %}\r\nc{% endif %}",
    # values as texts
    "{{ none_ }}|{{ yes }}|{{ not yes }}|{{ 1.5 }}|{{ n }}|{{ missing }}|{{ l }}|{{ d }}|{{ ('a',) }}|{{ 'it\\'s' }}|{{ [\"it's\"] }}",
    "{{ l | tojson }} {{ d | tojson }} {{ 'é<>&\\'' | tojson }} {{ {'z': 1, 'a': [1, {}]} | tojson(indent=2) }} {{ [] | tojson }}",
    # operators
    "{{ 1 + 2 * 3 - 4 // 3 % 2 }} {{ 2 ** 3 }} {{ -n + 1 }} {{ -5 // 2 }} {{ -5 % 3 }} {{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }} {{ [1] + [2] }}",
    "{{ 1 < 2 < 3 }} {{ 1 == 1 and 2 or 3 }} {{ not 1 == 2 }} {{ 2 in l }} {{ 'b' in d }} {{ 'wo' in s }} {{ 9 not in l }}",
    "{{ 'a' if n > 5 else 'b' }}{{ 'x' if n < 5 }}|{{ (e or 'empty') }}|{{ (none_ and 1) }}|{{ 1 if 0 else 2 if 0 else 3 }}",
    "{{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }} {{ 'a' != 1 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}",
    # subscripts and slices
    "{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ s[:3] }} {{ s[-2:] }} {{ s[0] }} {{ 'é三x'[1] }} {{ d.a }} {{ d['b'][2] }}"
    " {{ d.nope is defined }} {{ l[9] is defined }} {{ m[0].role }} {{ l.0 }} {{ s[::2] }} {{ l[5:1] }}",
    # loops
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ x }};{% endfor %}",
    "{% for x in l %}{% if loop.previtem is defined %}{{ loop.previtem }}<{% endif %}{{ x }}{% if loop.nextitem is defined %}>{{ loop.nextitem }}{% endif %};{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for k, v in d | items %}{{ k }}{% endfor %}",
    "{% for x in e %}x{% else %}none{% endfor %}{% for x in missing %}x{% else %}none{% endfor %}{% for c in 'aé' %}{{ c }}.{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}{{ range(3) | list }}{{ range(5, 0, -2) | list }}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% for i in l %}{% if loop.first %}{% set y = 1 %}{% endif %}{{ y is defined }}{% endfor %}",
    "{% set ns = namespace(a=1, b=[]) %}{% for i in l %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }}{{ ns.b }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c %} block {{ a }}{% endset %}[{{ c }}]{% set d2 | trim | upper %} x {% endset %}[{{ d2 }}]",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}{% for row in [[1, 2], [3]] %}{% for x in row %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    # macros
    "{% macro f(a, b=2) %}<{{ a }},{{ b }}>{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}{{ f(1) | length }}{{ f(*[7, 8]) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro box(t) %}[{{ t }}:{{ caller() }}]{% endmacro %}{% call box('a') %}inside{% endcall %}{% filter upper %}abc{{ s }}{% endfilter %}",
    # methods
    "{{ ' a '.strip() }}|{{ '\\n\\na'.lstrip('\\n') }}|{{ 'xxaxx'.strip('x') }}|{{ 'a.'.rstrip('.') }}|{{ s.split() }}|{{ 'a,b,c'.split(',') }}|{{ 'a,b,c'.split(',', 1) }}"
    "|{{ 'a,b,c'.rsplit(',', 1) }}|{{ s.upper() }}|{{ s.title() }}|{{ s.capitalize() }}|{{ s.replace('o', '0') }}|{{ s.replace('o', '0', 1) }}",
    "{{ s.startswith('one') }}{{ s.endswith(('x', 'ee')) }}{{ s.find('Two') }}{{ s.find('x') }}{{ s.count('e') }}{{ '-'.join(['a', 'b']) }}{{ '12'.isdigit() }}{{ 'a\\nb'.splitlines() }}",
    "{{ d.get('a') }}{{ d.get('zz') }}{{ d.get('zz', 5) }}{{ d.keys() | list }}{{ d.values() | list | length }}{{ l.index(1) }}{{ l.count(3) }}",
    # filters
    "{{ ' a ' | trim }}|{{ s | length }}|{{ 'é三' | length }}|{{ l | join(', ') }}|{{ m | join('/', attribute='role') }}|{{ missing | default('d') }}|{{ '' | default('d', true) }}|{{ none_ | d('x') }}",
    "{{ s | upper | lower }}|{{ s | title }}|{{ 'aBC' | capitalize }}|{{ s | replace('one', '1') }}|{{ l | first }}{{ l | last }}{{ l | sort }}{{ l | sort(reverse=true) }}{{ l | reverse | list }}{{ [1, 1, 2] | unique | list }}",
    "{{ m | selectattr('role', 'equalto', 'user') | list | length }}{{ m | rejectattr('role', '==', 'user') | list | length if false else '' }}{{ m | selectattr('content') | list | length }}"
    "{{ m | map(attribute='role') | list }}{{ m | map(attribute='nope', default='-') | join }}{{ l | map('string') | list }}{{ l | select('odd') | list }}{{ l | reject('gt', 1) | list }}",
    "{{ '3' | int + 1 }}{{ 'x' | int(9) }}{{ 3.7 | int }}{{ '2.5' | float }}{{ -3 | abs }}{{ 2.567 | round(1) }}{{ l | sum }}{{ l | min }}{{ l | max }}{{ d | dictsort | list | length }}{{ 'a\\nb' | indent(2) }}{{ 'a\\nb' | indent(2, true) }}",
    "{{ '<a>' | e }}{{ 'x' | safe }}{{ 5 | string ~ 'x' }}{{ 'a b c' | wordcount }}{{ {'b': 1, 'a': 2} | dictsort }}{{ 'abc' | list }}{{ 'abc' | reverse }}",
    # tests
    "{{ n is defined }}{{ missing is undefined }}{{ none_ is none }}{{ s is string }}{{ n is number }}{{ d is mapping }}{{ l is iterable }}{{ s is sequence }}{{ l is not string }}{{ yes is boolean }}"
    "{{ n is odd }}{{ 4 is even }}{{ 6 is divisibleby 3 }}{{ n is eq 7 }}{{ n in l }}{{ 1 is in l }}{{ yes is true }}{{ not missing is defined }}{{ n is integer }}{{ 1.5 is float }}",
    # mistakes
    "{{ missing.x }}", "{{ missing() }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ l.nope.x }}", "{% for x in 5 %}{% endfor %}", "{{ n | nofilter }}", "{{ n is notest }}",
    "{% if %}x{% endif %}", "{% if n %}", "{% endif %}", "{{ (1 }}", "{{ 1 2 }}", "{{ 'a }}", "{% for in l %}{% endfor %}", "{{ raise_exception('no') }}", "{% set s.x = 1 %}",
]


def render(template, variables):
    try:
        return _compile_jinja_template(template).render(**variables)
    except Exception:
        return None


def main():
    styles = []
    for name, template in STYLES.items():
        cases = []
        for which, messages in CONVERSATIONS.items():
            for prompt in (False, True):
                text = render(template, dict(SPECIALS, messages=messages, add_generation_prompt=prompt))
                cases.append({"conversation": which, "add_generation_prompt": prompt, "text": text})
        styles.append({"name": name, "template": template, "cases": cases})
    constructs = [{"template": t, "text": render(t, VARS)} for t in CONSTRUCTS]
    save_json(GOLDEN / "jinja.json", {"provenance": provenance(__file__), "specials": SPECIALS, "vars": VARS,
                                      "conversations": CONVERSATIONS, "styles": styles, "constructs": constructs})


if __name__ == "__main__":
    main()
