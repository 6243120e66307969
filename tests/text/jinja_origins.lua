-- Texts that know where their characters come from: what each operation of the interpreter makes of them.

local expect = require "tests.expect"
local jinja = require "cft.text.jinja"
local traced = require "cft.text.jinja.traced"

-- An origin with a letter; what stands in it has the same.
local function origin(letter)
  return { letter = letter, at = function(self) return self end }
end

local vars = {
  x = jinja.value("aX b", origin "x"), y = jinja.value(" y\n", origin "y"), t = "t",
  n = jinja.value(7, origin "n"), yes = jinja.value(true, origin "b"), none_ = jinja.value(nil, origin "o"),
  d = jinja.value({ k = "v\"", n = { 1, "w" } }, origin "d"), l = jinja.value({ "c", "a" }, origin "l"),
}

-- What comes from somewhere stands in marks with its letter.
local function shown(text)
  local out = {}
  for part, from in traced.stretches(text) do
    local generated = from and from.generated and "!" or ""
    if from and from.generated then from = from.of end
    out[#out + 1] = from and ("«%s%s:%s»"):format(from.letter, generated, part) or generated ~= "" and ("«!:%s»"):format(part) or part
  end
  return table.concat(out)
end

local function says(source, wanted)
  return { source, function()
    local text, why = assert(jinja.parse(source)):trace(vars)
    expect.same(text and shown(text) or why, wanted)
    expect.same(assert(jinja.parse(source)):render(vars), traced.bare(text))
  end }
end

return {
  says("<{{ x }}>{{ t }}", "<«x:aX b»>t"),
  says("{{ '<' ~ x ~ y ~ n }}{{ x + '>' }}", "<«x:aX b»«y: y\n»«n:7»«x:aX b»>"),
  says("{{ x[1:] }}|{{ ('-' ~ x)[:2] }}|{{ x[0] }}|{{ ('-' ~ x)[::-1] }}|{{ (x ~ '-')[-2:] }}", "«x:X b»|-«x:a»|«x:a»|«x:b Xa»-|«x:b»-"),
  says("[{{ y | trim }}{{ y.strip() }}{{ y.lstrip() }}{{ y.rstrip('\n') }}{{ (' ' ~ x ~ ' ') | trim }}{{ x.strip('ab') }}]",
    "[«y:yyy\n y»«x:aX bX »]"),
  says("{{ x | replace('X', t) }}|{{ t.replace('t', x) }}|{{ x.replace('a', y.strip(), 1) }}", "«x:a»t«x: b»|«x:aX b»|«y:y»«x:X b»"),
  says("{{ [x, t, y] | join('-') }}|{{ x.join(['1', '2']) }}|{{ l | join(n) }}", "«x:aX b»-t-«y: y\n»|1«x:aX b»2|«l:c»«n:7»«l:a»"),
  says("{{ x | tojson }}|{{ {'q': x, 'z': n} | tojson }}|{{ [y] | tojson }}", '«x:"aX b"»|{"q": «x:"aX b"», "z": «n:7»}|[«y:" y\\n"»]'),
  says("{{ ('<' ~ x) | tojson }}|{{ d | tojson }}", [["<«x:aX b»"|«d:{"k": "v\"", "n": [1, "w"]}»]]),
  says("{{ {'d': d} | tojson(indent=1) }}", "{\n \"d\": «d:{\n  \"k\": \"v\\\"\",\n  \"n\": [\n   1,\n   \"w\"\n  ]\n }»\n}"),
  says("{{ x | upper }}{{ x.lower() }}{{ ('q' ~ x) | title }}{{ x | capitalize }}{{ t | upper }}", "«x:AX Bax b»Q«x:ax BAx b»T"),
  says("{{ x.split(' ')[1] }}|{{ x.split() | join('+') }}|{{ ('q ' ~ x).rsplit(' ', 1)[0] }}|{{ y.splitlines()[0] }}",
    "«x:b»|«x:aX»+«x:b»|q «x:aX»|«y: y»"),
  says("{{ missing | default(x) }}{{ x | default('d') }}{{ x | string }}{{ n | string }}{{ (none_ or x) }}{{ x if t else '' }}",
    "«x:aX baX baX b»«n:7»«x:aX baX b»"),
  says("{% set s = x ~ '.' %}{{ s }}{% set c %}({{ x }}){% endset %}{{ c }}{% set u | upper %}q{{ x }}{% endset %}{{ u }}",
    "«x:aX b».(«x:aX b»)Q«x:AX B»"),
  says("{% macro m(v) %}<{{ v }}>{{ caller() if caller else '' }}{% endmacro %}{{ m(x) }}{% call m(t) %}{{ x }}{% endcall %}",
    "<«x:aX b»><t>«x:aX b»"),
  says("{% for c in x %}{{ c }}.{% endfor %}{% for v in l %}{{ v }}{{ loop.index }}{% endfor %}", "«x:a».«x:X».«x: ».«x:b».«l:c»1«l:a»2"),
  says("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "«d:k»=«d:v\"»;«d:n»=«d:[1, 'w']»;«d:kn»"),
  says("{% set ns = namespace(s='') %}{% for v in l %}{% set ns.s = ns.s ~ v ~ ',' %}{% endfor %}{{ ns.s }}", "«l:c»,«l:a»,"),
  says("{% filter upper %}q{{ x }}{% endfilter %}|{{ yes }}{{ none_ }}{{ yes | tojson }}{{ none_ | tojson }}",
    "Q«x:AX B»|«b:True»«o:None»«b:true»«o:null»"),
  says("{{ x * 2 }}|{{ l | sort | join }}|{{ l | first }}{{ l | last }}{{ l | reverse | join }}|{{ [x, 'q'] }}",
    "«x:aX baX b»|«l:ac»|«l:caac»|[«x:'aX b'», 'q']"),
  says("{{ ('q\n' ~ x) | indent(2) }}|{{ ('<' ~ x) | e }}|{{ x.removeprefix('a') }}{{ x.removesuffix('b') }}|{{ d | dictsort | length }}",
    "q\n  «x:aX b»|&lt;«x:aX b»|«x:X baX »|2"),
  -- what is computed is the template's: a length, a sum, an answer
  says("{{ x | length }}{{ n + 1 }}{{ -n }}{{ x == t }}{{ x.find('X') }}{{ 'X' in x }}{{ n | int }}", "48-7False1True7"),
  says("a{% generation %}b{{ x }}{% set c %}{{ x }}{% endset %}{{ c }}{% endgeneration %}{{ x }}", "a«!:b»«x!:aX baX b»«x:aX b»"),
  says("{% for i in [1, 2] %}{% generation %}{{ i }}{% endgeneration %}{% endfor %}", "«!:1»«!:2»"),
}
