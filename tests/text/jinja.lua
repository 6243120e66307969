-- Chat templates in Jinja: equal to what transformers renders, and hostile ones end in a message.

local expect = require "tests.expect"
local jinja = require "cft.text.jinja"
local json = require "cft.base.json"

local golden = assert(json.read "tests/golden/jinja.json")

local function render(text, vars)
  local template, why = jinja.parse(text)
  if not template then return nil, why end
  return template:render(vars)
end

local function same(text, vars, want, what)
  local got, why = render(text, vars)
  if want == json.null then
    expect.fails("^chat template, line %d+: .", got, why)
  elseif got ~= want then
    expect.same(got or why, want, what)
  end
end

-- `text` cannot be rendered, and the message fits.
local function refuses(pattern, text, vars)
  local got, why = render(text, vars or {})
  expect.fails(pattern, got, why)
end

return {
  { "templates in the styles of published ones", function()
    local count = 0
    for _, style in ipairs(golden.styles) do
      for _, case in ipairs(style.cases) do
        same(style.template, { messages = golden.conversations[case.conversation], bos_token = golden.specials.bos_token,
          eos_token = golden.specials.eos_token, add_generation_prompt = case.add_generation_prompt }, case.text,
          ("%s: %s"):format(style.name, case.conversation))
        count = count + 1
      end
    end
    expect.same(count, 96)
  end },

  { "constructs of the language", function()
    for _, case in ipairs(golden.constructs) do same(case.template, golden.vars, case.text, case.template) end
    expect.same(#golden.constructs, 58)
  end },

  { "the template's own refusal, and the clock", function()
    refuses("^chat template, line 2: it refuses: roles must alternate$", "\n{{ raise_exception('roles must alternate') }}")
    local template = assert(jinja.parse("{{ strftime_now('%d %b %Y') }}", "t"))
    expect.same(template:render({}, { now = 86400 * 365 }), "01 Jan 1971")
  end },

  { "mistakes are one line with their place", function()
    refuses("line 3: 'a' is undefined$", "\n\n{{ a.b }}")
    refuses("line 2: no filter 'tojsn'; did you mean 'tojson'%?$", "x\n{{ 1 | tojsn }}")
    refuses("line 1: no test 'strng'; did you mean 'string'%?$", "{{ 1 is strng }}")
    refuses("line 1: a text %+ a number is not possible$", "{{ 'a' + 1 }}")
    refuses("line 2: the template ends where 'endif' was wanted$", "{% if 1 %}\nabc")
    refuses("line 1: the text ends where '}}' was wanted$", "{{ 1")
    refuses("line 1: a text in ' is not closed$", "{{ 'abc }}")
    refuses("line 1: a comment is not closed$", "{# abc")
    refuses("line 1: tag 'include' is not supported$", "{% include 'x' %}")
    refuses("line 1: tag 'frob' is not supported, or 'endif' is missing$", "{% if 1 %}{% frob %}{% endif %}")
    refuses("line 1: unexpected character '\\xff'$", "{{ \255 }}")
    refuses("line 1: 'break' outside of a loop$", "{% break %}")
    refuses("line 1: f takes 1 arguments, got 2$", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}")
    refuses("line 1: f takes no argument 'c'$", "{% macro f(a) %}{% endmacro %}{{ f(c=2) }}")
    refuses("line 1: 's.x' is set, and only a namespace has fields to set$", "{% set s = {} %}{% set s.x = 1 %}")
  end },

  { "no end, no bottom, no room", function()
    refuses("more than 1000000 steps; a loop without end%?$",
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}")
    refuses("range: 1000000000000 elements, at most 100000 are possible$", "{{ range(10 ** 12) }}")
    refuses("deeper than 300 in each other$", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}")
    for _, open in ipairs { "(", "not ", "-", "1 if 0 else " } do
      refuses("nested deeper than 200$", "{{ " .. open:rep(10000) .. "1" .. (open == "(" and (")"):rep(10000) or "") .. " }}")
    end
    refuses("nested deeper than 200$", ("{% if 1 %}"):rep(1000))
    for _, more in ipairs { " + 1", "|string", ".b" } do
      refuses("deeper than 300 in each other$", "{{ {}" .. more:rep(10000) .. " }}")
    end
    local room = "it works on more than 256 MiB of text$"
    refuses(room, "{{ 'a' * 10 ** 12 }}")
    refuses(room, "{{ [0] * 10 ** 12 }}")
    refuses(room, "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}")
    refuses(room, "{{ range(100000) | join('a' * 1000000) }}")
    refuses(room, "{{ ('a' * 1000000).replace('a', 'b' * 10000) }}")
    refuses(room, "{{ ([3, 1, 2] * 30000) | sort }}")
    refuses(room, "{% for i in range(100000) %}{{ s | length }}{% endfor %}", { s = ("a"):rep(10 ^ 7) })
    refuses("nested deeper than 100$", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns | tojson }}")
    refuses("nested deeper than 100$", "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}")
    refuses("nested deeper than 100$", "{% set a = namespace() %}{% set a.x = a %}{% set b = namespace() %}{% set b.x = b %}{{ a == b }}")
  end },

  { "texts with origins have the same limits, and stretches count", function()
    local text = jinja.value(("ab"):rep(50000), { at = function(self) return self end })
    local function stops(pattern, source)
      local got, why = assert(jinja.parse(source)):trace { s = text }
      expect.fails(pattern, got, why)
    end
    local room = "it works on more than 256 MiB of text$"
    stops(room, "{{ s * 10 ** 12 }}")
    stops(room, "{% set ns = namespace(s=s | list | join('x')) %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}")
    stops(room, "{{ s.replace('a', s) }}")
    stops(room, "{{ range(100000) | join(s) }}")
    stops("more than 1000000 steps", "{% for i in range(100000) %}{% for c in s %}{% endfor %}{% endfor %}")
    local ok, err = pcall(jinja.value, { 2 ^ 60 }, { at = function(self) return self end })
    expect.match(not ok and err.message, "beyond 2%^53, and was rounded")
  end },

  { "random cuts of templates never raise", function()
    local seed = 1
    local function draw(n)
      seed = (seed * 16807) % 2147483647
      return seed % n
    end
    local vars = { messages = golden.conversations["system, two turns"], bos_token = "<s>", eos_token = "</s>" }
    for _ = 1, 2000 do
      local text = golden.styles[draw(#golden.styles) + 1].template
      local at, count = draw(#text) + 1, draw(4)
      text = text:sub(1, at) .. ({ "", "{", "%}", "'", "(", "|", " in " })[draw(7) + 1] .. text:sub(at + count)
      local got, why = render(text, vars)
      if not got then expect.match(why, "^chat template, line %d+: .") end
    end
  end },
}
