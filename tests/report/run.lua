-- A run's folder, read and shown: `cftrun log`, `cftrun report`.

local curve = require "cft.report.curve"
local expect = require "tests.expect"
local folders = require "tests.report.folder"
local host = require "cft.host"
local json = require "cft.base.json"
local page = require "cft.report.page"
local process = require "tests.process"
local run_page = require "cft.report.run_page"
local run_text = require "cft.report.run_text"
local runs = require "cft.report.run"

local contents = process.contents

-- What a page consists of besides texts: its tags, with the names of their attributes.
local function skeleton(html)
  local list = {}
  for tag in html:gsub("<style>.-</style>", ""):gmatch "<[^>]*>" do
    local names = tag:gsub("'[^']*'", "Q"):gsub('"[^"]*"', "Q"):gsub("=[%w.%-]+", "=V")
    list[#list + 1] = names
  end
  return list
end

-- What cannot be drawn or opened as a picture of anything.
local hostile = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>' onload='alert(1)\" onload=\"alert(1) "
  .. "\226\128\168\226\128\169 \27[2J &amp; -->"

local function lines_of(text)
  local list = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do list[#list + 1] = line end
  return list
end

local function longest(text)
  local most = 0
  for _, line in ipairs(lines_of(text)) do most = math.max(most, #line:gsub("[\128-\191]", "")) end
  return most
end

return {
  { "curves: points made few keep their ends, means and bounds", function()
    local points = {}
    for i = 1, 1000 do points[i] = { x = i, y = i % 2 } end
    local thin = curve.thin(points, 10)
    expect.same(#thin, 10)
    for _, p in ipairs(thin) do expect.same({ p.low, p.high }, { 0, 1 }) end
    expect.same(thin[10].last.x, 1000)
    expect.same(#curve.thin({ { x = 5, y = 1 }, { x = 5, y = 3 } }, 1), 1)
    expect.same(curve.thin({ { x = 1, y = 2 } }, 5)[1].y, 2)
    expect.same(curve.thin({}, 5), {})
  end },
  { "curves: ticks are round, cover the range, and are few whatever it is", function()
    expect.same(curve.ticks(0.3, 5.9), { 0, 2, 4, 6 })
    expect.same(curve.ticks(0, 0), { -1, -0.5, 0, 0.5, 1 })
    for _, r in ipairs { { 1e15, 1e15 + 0.1 }, { -1e299, 1e299 }, { 1e-300, 2e-300 }, { 7, 7 }, { -3, -2.999 } } do
      local ticks = curve.ticks(r[1], r[2])
      expect.truthy(#ticks >= 2 and #ticks <= 12 and ticks[1] <= r[1] and ticks[#ticks] >= r[2], json.encode(ticks))
    end
    expect.same({ curve.label(0), curve.label(0.25), curve.label(68123), curve.label(2e-5), curve.label(1.5e9) },
      { "0", "0.25", "68123", "2e-5", "1.5e9" })
  end },
  { "curves: three lines of plain characters", function()
    expect.same(curve.draw({ 9, 8, 7, 6, 5, 4, 3, 2, 1 }, 40),
      { "9 '-_", "     '-_", "        '-_ 1" })
    expect.same(curve.draw({ 1 }, 40), {})
    expect.same(curve.draw({ 2, 2 }, 40), { "", "", "2 __ 2" })
    local values = {}
    for i = 1, 500 do values[i] = 1 / i end
    for _, line in ipairs(curve.draw(values, 60)) do expect.truthy(#line <= 60 and not line:find "[\128-\255]", line) end
  end },

  { "a folder, read", function()
    local run = runs.read(folders.run())
    expect.same({ #run.steps, run.steps[20].tokens, run.broken, #run.kept, runs.id(run), runs.seconds(run) },
      { 20, 20000, 0, 2, "abctext", 40 })
    expect.same(run.metrics, { "metric text" })
    expect.same(runs.entries { run.steps[1].ledger }, { "critique", "verdict", "text", "right" })
    expect.same(runs.settings(run).learn, { value = '[1,"text"]', from = "recipe" })
    expect.same(#runs.points(run, function(t) return t.heldout_loss end), 4)
  end },
  { "a folder of an earlier program: tokens of a step become those so far", function()
    local folder = process.folder()
    process.write(folder .. "/log.jsonl", '{"step":1,"loss":2,"tokens":10,"grad_norm":3,"tokens_per_s":5}\n{"step":2,"loss":1,"tokens":30}\n')
    local run = runs.read(folder)
    expect.same({ run.steps[2].tokens, run.steps[2].step_tokens, run.steps[1].grad_norm, run.steps[1].tok_s }, { 40, 30, 3, 5 })
    expect.same(run.metrics, {})
  end },
  { "a folder that somebody spoiled: what is of another type is not there, and broken lines are counted", function()
    local folder = folders.run { steps = 2 }
    local text = contents(folder .. "/log.jsonl")
    process.write(folder .. "/log.jsonl", text .. 'nonsense\n[1]\n{"step":"x","loss":1}\n'
      .. '{"step":3,"loss":"nan","tokens":[1],"ledger":7,"lr":1e308,"heldout_ledger":{"critique":[1]}}\n{"step":4,"lo')
    process.write(folder .. "/run.json", '{"recipe":3,"settings":[1,2],"model":null,"command":{"a":1},"data":[[1]],"resumed":"x"}')
    process.write(folder .. "/summary.json", "[]")
    process.write(folder .. "/samples.jsonl", '{"record":"r","tokens":{"a":1}}\n{"record":"r","tokens":[1,["x","y"],[3,4]],"step":"s"}\n{"record":4}\n')
    process.write(folder .. "/data.json", '{"sets":[{"name":5}]}')
    local run = runs.read(folder)
    expect.same({ #run.steps, run.broken }, { 3, 2 })
    local html = run_page.page { run }
    expect.match(html, "2 lines of log%.jsonl are no JSON")
    expect.match(html, "data%.json is not what a run of this program writes")
    for _, name in ipairs { "run.json", "samples.jsonl", "data.json" } do
      process.write(folder .. "/" .. name, ("[" ):rep(100000))
      expect.match(run_page.page { runs.read(folder) }, "</html>\n$")
    end
  end },

  { "cftrun log: a table that does not wrap, its curve, and the ledger with its name", function()
    local folder = folders.run { steps = 300 }
    local r = process.cftrun { "log", folder, "--rows", "12" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "^recipe text: runningtext, started [^\n]*, 10m00s, text, step 300 of 300\n\nstep +time +tokens +loss  held out ")
    expect.match(r.out, "\n +1 +2s +1000  4%.5000 ")
    expect.match(r.out, "\n +300 +10m00s +300%.0k  0%.5133 +0%.6133 ")
    expect.match(r.out, "\nheld out\n%-log p a token +before +after +change +tokens\ncritique +5%.0000  0%.6133  %-4%.3867 +30\n$")
    local rows = select(2, r.out:gsub("\n +%d+ +[%dms]+ ", ""))
    expect.same(rows, 12)
    expect.truthy(longest(r.out) <= 100, "no wider than where there is no terminal")
    local all = process.cftrun { "log", folder, "--rows=0" }
    expect.same(select(2, all.out:gsub("\n +%d+ +[%dms]+ +%d", "")), 300)
  end },
  { "tables fit whatever the width is, and say what they leave out", function()
    local before = { critique = { loss = 5.1, tokens = 4932 }, verdict = { loss = 5, tokens = 10 }, right = { loss = 3, tokens = 1 } }
    for _, columns in ipairs { 40, 80, 120 } do
      local text = run_text.ledger_table(before, { critique = { loss = 1, tokens = 9 }, verdict = { loss = 0.5, tokens = 2 } }, columns)
      expect.match(text, "verdict %(teacher%-forced%)  5%.0000")
      for i, line in ipairs(lines_of(text)) do
        expect.truthy(#line <= columns or line:find "^not shown", ("line %d: %s"):format(i, line))
      end
    end
    expect.same(run_text.table({ "<name", "a", "b" }, { { "x\27[2J\ny", "1", "22" } }, 40), "name        a   b\nx\\x1b[2J y  1  22")
    expect.match(run_text.table({ "<name", "a", "b" }, { { "x", "1", "22" } }, 8), "^name  a\nx     1\nnot shown, since the terminal is narrow: b$")
  end },
  { "cftrun log: two runs over the same tokens", function()
    local a, b = folders.run { steps = 40, lr = 1e-3 }, folders.run { steps = 30, lr = 2e-3 }
    local r = process.cftrun { "log", a .. "/", b, "--rows", "4" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\ntokens  step 1  loss 1  step 2  loss 2    2 %- 1  held out 1")
    expect.match(r.out, "\n +1000 +1  4%.5000 +1  4%.5000  %+0%.0000\n")
    expect.match(r.out, "\n *40%.0k +40  0%.6000 +0%.7000\n")  -- where the second has ended, it has no number
    expect.match(r.out, "\nsetting +1 +2\nlr +0%.001 +0%.002\n$")
    expect.truthy(longest(r.out:match "\n\n.*") <= 100, "no wider than where there is no terminal")
  end },

  { "cftrun report: a page with the run's curves, samples, settings and data", function()
    local folder = folders.run()
    local r = process.cftrun { "report", folder }
    expect.same({ r.code, r.out, r.err }, { 0, "written: " .. folder .. "/report.html\n", "" })
    local html = contents(folder .. "/report.html")
    expect.match(html, "<figcaption>loss: 0%.7</figcaption>")
    expect.match(html, "aria%-label='loss: 4%.5 at 1000 tokens, 0%.7 at 20k, lowest 0%.7'")
    for _, title in ipairs { "held%-out loss: 0%.8", "metric text: 10", "loss, verdict %(teacher%-forced%): 0%.07778", "learning rate: 0%.001",
                             "loss, verdict right: 0%.7", "held out, critique: 0%.8", "gradient&#39;s norm: 0%.05", "tokens a second: 500" } do
      expect.match(html, "<figcaption>" .. title .. "</figcaption>")
    end
    expect.match(html, "before, step 0; 7%.0000 a token</h4>\n<pre tabindex=0><span class='weighed l5' title='%-log p 5'>text</span><span class=context>b</span>")
    expect.match(html, "after, step 20; 4%.6000 a token</h4>\n<pre tabindex=0><span class='weighed l1'")
    expect.match(html, "<td class=text>lr</td><td class=text>0%.001</td><td class=text>command line</td>")
    expect.match(html, "critique</td><td>5%.0000</td><td>0%.8000</td>")
    expect.match(html, "tokens by weight")
    expect.truthy(not html:find "href=" and not html:find "src=" and not html:find "@import" and not html:find "url%(", "nothing from elsewhere")
    local two = process.folder() .. "/two.html"
    r = process.cftrun { "report", folder, folders.run { lr = 2e-3 }, "--html", two }
    expect.same({ r.code, r.err }, { 0, "" })
    html = contents(two)
    expect.match(html, "<figcaption>loss: 0%.7 / 0%.7</figcaption>")
    expect.match(html, "<td class=text>lr</td><td class=text>0%.001</td><td class=text>0%.002</td>")
    expect.match(html, "run 2, after, step 20")
    local seen = {}
    for id in html:gmatch " id=([%w]+)" do
      expect.truthy(not seen[id], id .. " is one of the page")
      seen[id] = true
    end
    expect.truthy(seen.av1 and seen.bv1, "each run has its choices")
  end },
  { "no text of a run can write into its page, wherever it stands", function()
    local plain, planted = folders.run { say = "word" }, folders.run { say = hostile }
    local harmless, html = run_page.page { runs.read(plain) }, run_page.page { runs.read(planted) }
    expect.same(skeleton(html), skeleton(harmless))
    expect.truthy(#skeleton(html) > 300, "tags were found")
    for _, what in ipairs { "<script", "<img", "\226\128\168", "\226\128\169", "\27" } do
      expect.truthy(not html:find(what, 1, true), "no " .. what)
    end
    expect.same(html:match "<style>(.-)</style>", harmless:match "<style>(.-)</style>")
    expect.match(html, "\\u2028\\u2029")
    expect.match(html, '<meta http%-equiv="Content%-Security%-Policy" content="' .. page.POLICY:gsub("%p", "%%%0") .. '">\n.*<style>')
    expect.truthy(select(2, html:gsub("alert", "")) > 60, "the text stands in many places")
  end },
  { "a run that has just begun has a page", function()
    local folder = process.folder()
    process.write(folder .. "/log.jsonl", "")
    local html = run_page.page { runs.read(folder) }
    expect.match(html, "No step is logged")
    expect.match(process.cftrun { "log", folder }.out, "no step is logged yet")
  end },

  { "cftrun log and report: what they refuse", function()
    local folder = process.folder()
    local function refuses(code, message, ...)
      local r = process.cftrun { ... }
      expect.same({ r.code, r.out }, { code, "" })
      expect.match(r.err, message)
    end
    for _, name in ipairs { "log", "report" } do
      refuses(2, name .. ": one folder of a run is wanted, or two: cftrun " .. name .. " RUN %[RUN2%]", name)
      refuses(2, "/none is not the folder of a run: it is not there", name, folder .. "/none")
      refuses(1, "holds no run: neither run.json nor log.jsonl is there", name, folder)
      refuses(2, "unknown argument '%-%-htlm'", name, folder, "--htlm")
      local r = process.cftrun { name, "--help" }
      expect.same({ r.code, r.err }, { 0, "" })
      expect.match(r.out, "\n  cftrun " .. name .. " RUN %[RUN2%]")
    end
    refuses(2, "%-%-rows wants a number, got 'few'", "log", folder, "--rows", "few")
    refuses(2, "%-%-html wants a value", "report", folder, "--html")
    refuses(2, "%-%-rows 0 is for one run", "log", folders.run(), folders.run(), "--rows", "0")
    expect.same(host.kind(folder .. "/report.html"), nil)
  end },
}
