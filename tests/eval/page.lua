-- The page of an evaluation: what is in it, and that no text of a model or a data set becomes markup.

local expect = require "tests.expect"
local json = require "cft.base.json"
local page = require "cft.eval.page"
local process = require "tests.process"

local evil = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>' onclick='x\" style=\"y\226\128\168\226\128\169\27[2J\0"

local function result(model, verdicts)
  local entries = {}
  for i, v in ipairs(verdicts) do
    entries[i] = { bench = "gsm8k", problem = { number = i, question = evil .. i, reference = evil },
                   samples = { { text = evil, answer = evil, reason = evil, verdict = v, finish = evil,
                                critiques = { { text = evil, right = i % 2 == 0, p = 0.25, finish = evil }, { text = evil } } } } }
  end
  return { head = { model = model, grade = "symbolic", selected_by = "gsm8k" }, names = { "gsm8k" }, entries = { gsm8k = entries } }
end

local function checked(html)
  local without_style = html:gsub("<style>.-</style>", "")
  for tag in without_style:gmatch "<(/?%a[%w]*)" do
    expect.truthy(not tag:find "script" and not tag:find "img" and not tag:find "iframe" and not tag:find "^a$", tag)
  end
  for attributes in without_style:gmatch "<%a+([^>]*)>" do expect.truthy(not attributes:find "[%s'\"]on%a+%s*=", attributes) end
  expect.truthy(html:find("default-src 'none'", 1, true) and not html:find("script-src", 1, true), "the policy")
  expect.truthy(not html:find "\226\128[\168\169]" and not html:find "\27" and not html:find "%z", "control characters")
  return html
end

return {
  { "one model: hostile texts stay texts", function()
    local html = checked(page.html { result(evil, { "right", "wrong", "unknown", evil }) })
    expect.same(select(2, html:gsub("<article", "")), 4)
    expect.truthy(html:find("critique 2: <span class=unknown>no verdict</span>", 1, true) and html:find("P(right) 0.250", 1, true), "critiques")
    expect.truthy(html:find("gsm8k (chose this checkpoint: the score says too much)", 1, true), "the benchmark that chose")
    expect.truthy(html:find("&lt;script&gt;alert(1)", 1, true), "the text is there to read")
    expect.truthy(html:find("class='b1 v1'", 1, true) and html:find("class='b1 v3'", 1, true), "classes")
  end },
  { "a table of a hostile file is no markup, and no file of results", function()
    local one = result("m", { "right" })
    one.head.grade, one.head.model = { html = evil }, { html = evil }
    checked(page.html { one })
    local place = process.folder()
    local function refused(pattern, head, entry)
      local path = process.write(place .. "/r.jsonl", json.encode(head) .. "\n" .. json.encode(entry) .. "\n")
      local r = process.cftrun { "eval", path, "--page", place .. "/p.html" }
      expect.truthy(r.code == 1 and r.err:find(pattern), r.err)
    end
    local good = { bench = "gsm8k", problem = { number = 1, question = "q" }, samples = { { text = "t", verdict = "right" } } }
    refused("line 1: 'grade' is not one of", { ["cft eval"] = 1, model = "m", grade = { html = evil } }, good)
    for name, value in pairs { answer = { html = evil }, reason = { html = evil }, finish = 1, critiques = evil } do
      local bad = json.decode(json.encode(good))
      bad.samples[1][name] = value
      refused("a line has a bench, a problem", { ["cft eval"] = 1, model = "m", grade = "paper" }, bad)
    end
    good.problem.number = 1e300
    refused("a line has a bench, a problem", { ["cft eval"] = 1, model = "m", grade = "paper" }, good)
  end },
  { "two models: beside each other, and what is in one only", function()
    local html = checked(page.html { result("a", { "right", "right", "wrong" }), result("b", { "right", "wrong", "right", "wrong" }) })
    for _, class in ipairs { "b1 v1 p1 w1 a1", "b1 v1 p2 w2 a1", "b1 v2 p3 w1 a1" } do
      expect.truthy(html:find("class='" .. class .. "'", 1, true), class)
    end
    expect.truthy(html:find("1: not answered", 1, true), "the fourth")
    expect.truthy(html:find("<h2>Compared</h2>", 1, true), "compared")
    expect.truthy(html:find("body:has(#p2:checked) article:not(.p2)", 1, true), "a filter")
  end },
}
