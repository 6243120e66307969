local expect = require "tests.expect"
local pages = require "cft.generate.pages"
local prompt = require "cft.generate.prompt"
local texts = require "cft.generate.text"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

-- A tokenizer whose ids are texts.
local tok = { decode = function(_, ids) return ids[1] end }

-- What is shown piece by piece, and what the text is in the end.
local function write(pieces, stops)
  local t, shown = texts.new(tok, stops or {}), {}
  for _, piece in ipairs(pieces) do
    local stop = t:add(piece)
    shown[#shown + 1] = t:news(false)
    if stop then break end
  end
  shown[#shown + 1] = t:news(true)
  return table.concat(shown, "|"), t.text
end

test("stop strings: within a token, across tokens, the first of two", function()
  expect.same({ write({ "one ", "two END", " three" }, { "END" }) }, { "one |two |", "one two " })
  expect.same({ write({ "a", "EN", "D b" }, { "END" }) }, { "a|||", "a" })
  expect.same({ write({ "a", "EN", "C" }, { "END" }) }, { "a||ENC|", "aENC" })
  expect.same({ write({ "xABCD" }, { "CD", "BC" }) }, { "xA|", "xA" })
  expect.same({ write({ "aa", "ab" }, { "aab" }) }, { "|a|", "a" })
  expect.same({ write({ "aE" }, { "END" }) }, { "a|E", "aE" })
end)

test("characters are shown whole", function()
  expect.same({ write { "\195", "\164x" } }, { "|äx|", "äx" })
  expect.same({ write { "\240\159", "\152", "\128" } }, { "||😀|", "😀" })
  expect.same({ write { "a\226\130" } }, { "a|\226\130", "a\226\130" })
end)

test("a text that is no UTF-8 becomes one", function()
  local mark = "\239\191\189"
  expect.same(texts.valid "plain ä 😀", "plain ä 😀")
  expect.same(texts.valid "\195", mark)
  expect.same(texts.valid "a\226\130b", "a" .. mark .. "b")
  expect.same(texts.valid "\240\159\152", mark)
  expect.same(texts.valid "\255\254x", mark .. mark .. "x")
  expect.same(texts.valid "\237\160\128", mark .. mark .. mark)  -- a surrogate
end)

test("pages: taken, shared, found again, evicted oldest first", function()
  local p = pages.new(3)
  local ids = {}
  for i = 1, 96 do ids[i] = i end
  local a, b = p:take(), p:take()
  local first = p:child(p.root, ids, 0, true)
  p:remember(first, a)
  local second = p:child(first, ids, 1, true)
  p:remember(second, b)
  p:share(a)
  expect.same({ p:shared(a), p:shared(b), p:available() }, { true, false, 1 })
  p:release(b) p:release(a) p:release(a)
  expect.same(p:available(), 3)
  expect.same({ p:child(p.root, ids, 0).page, p:child(first, ids, 1).page }, { a, b })
  p:take()  -- the free one
  expect.same(p:take(), b)  -- left first
  expect.same({ p:child(first, ids, 1), p:child(p.root, ids, 0).page }, { nil, a })
  p:share(a)  -- found, and no longer to be had
  expect.same({ p:available(), p:take() }, { 0 })
end)

test("prompts: what is no conversation", function()
  local with = { chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}", encode = function(_, text) return { #text } end }
  expect.same(prompt.ids("four", with, {}, "x"), { 4 })
  expect.same(prompt.ids({ { role = "user", content = "abc" } }, with, { system = "de" }, "x"), { 5 })
  expect.raises("x: message 1 must have a role", function() prompt.ids({ { role = "usr", content = "a" } }, with, {}, "x") end)
  expect.raises("x: a prompt is a text, a list of messages, or a list of ids", function() prompt.ids({}, with, {}, "x") end)
  expect.raises("x: this model came without a chat template", function()
    prompt.ids({ { role = "user", content = "a" } }, { encode = with.encode }, {}, "x")
  end)
  expect.raises("x: a system message needs a chat template", function()
    prompt.ids("a", with, { system = "b", raw = true }, "x")
  end)
end)

return tests
