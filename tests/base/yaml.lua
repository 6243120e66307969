-- YAML as heads of cards are written in it.

local expect = require "tests.expect"
local yaml = require "cft.base.yaml"

local function refused(text, why)
  local value, got = yaml.parse(text)
  expect.same(value, nil)
  expect.match(got, why)
end

return {
  { "block and flow style, quotes and comments", function()
    expect.same(yaml.parse "a: 1\n# no\nb:\n- x  # yes\n- 'it''s # no'\nc:\n  d: \"e\\\"\\n\"\n  f: true\n  g: ~\n",
      { a = "1", b = { "x", "it's # no" }, c = { d = 'e"\n', f = true } })
    expect.same(yaml.parse "-   a: b\n    c:\n    -   d: e\n        f:\n          - g\n-\n  h: i\r\n",
      { { a = "b", c = { { d = "e", f = { "g" } } } }, { h = "i" } })
    expect.same(yaml.parse "a: {b: [c, 'd, e',\n   f g], h: {}, i: false}  # x\nj: k\n  l",
      { a = { b = { "c", "d, e", "f g" }, h = {}, i = false }, j = "k l" })
    expect.same(yaml.parse "{a: [\n  b, # x\n  c:d]}", { a = { "b", "c:d" } })
    expect.same(yaml.parse "- - a\n  - b\n- c", { { "a", "b" }, "c" })
    expect.same({ yaml.parse "# nothing\n" }, {})
  end },
  { "what is not understood is refused, with its line", function()
    refused("a: b\nc: *d", "^line 2: not understood$")
    refused("a: |\n  b", "^line 1: not understood$")
    refused("a: b: c", "^line 1: not understood$")
    refused("a:\n  b: 1\n    c: 2", "^line 2: not understood$")
    refused("a: [b\nc: d", "^line 1: a %[ or { is not closed$")
    refused("a: 'b", "^line 1: a quote is not closed$")
    refused('a: "\\q"', "^line 1: an escape that is not known here$")
    refused("a: {b}", "^line 1: a key without a value$")
    refused("a: [b] c", "^line 1: text behind a value$")
    refused("a: 1\na: 2", "^line 2: a key twice$")
    refused("a: 1\nb", "^line 2: no key$")
    refused("  a: 1\nb: 2", "^line 2: a line too far out$")
    refused("- a: 1\n   b: 2\n  c: 3", "^line %d: ")
    refused("a: " .. ("["):rep(100000), "too deep")
  end },
}
