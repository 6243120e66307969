-- What `cftrun data` measures and shows: counts, histograms, duplicates, samples; a page of the same.

local data = require "cft.data.open"
local dataview = require "cft.report.data"
local demo = require "cft.demo"
local expect = require "tests.expect"
local histogram = require "cft.report.histogram"
local html = require "cft.report.html"
local preview = require "cft.report.samples"
local process = require "tests.process"
local recipe = require "cft.recipe"

local contents = process.contents

-- The view of a run over these records, some of them held out.
local function view_of(records, heldout, samples, made_of)
  local folder = process.folder()
  process.write(folder .. "/config.json", "{}")
  process.write(folder .. "/tokenizer.json", demo.tokenizer_json(1))
  process.write(folder .. "/tokenizer_config.json", '{"eos_token": "<|endoftext|>"}')
  local cfg = require("cft.config").read({ model = folder, data = folder, batch = 2, tokens = 400, device = "cpu" }, {})
  cfg.dry_run = true
  local run = recipe.stages(cfg, {
    name = "view", load = function() return (made_of or data.list)(records), heldout and data.list(heldout) end,
  }, true)
  return dataview.gather(run, { samples = samples or 0 })
end

local function critique(i, change)
  local r = demo.training(1)(i)
  local copy = { instruction = r.instruction, input = r.input, output = r.output }
  for k, v in pairs(change or {}) do copy[k] = v end
  return copy
end

return {
  { "histograms have round bins and lose nothing", function()
    expect.same(histogram.count { 0, 3, 15 }, { width = 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 })
    expect.same(histogram.count { 5, 16 }, { width = 2, 0, 0, 1, 0, 0, 0, 0, 0, 1 })
    expect.same(histogram.count { 0 }, { width = 1, 1 })
    local h = histogram.count { 1, 2047, 1024 }
    expect.same({ h.width, #h }, { 200, 11 })
    expect.same(histogram.count({ 0.05, 0.35, 1 }, 0.1, 10), { width = 0.1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1 })
  end },

  { "a histogram drawn", function()
    expect.same(histogram.draw({ width = 10, 4, 0, 2, 1 }, 29), ("    0-9  4  %s\n  10-19  0\n  20-29  2  %s\n  30-39  1  %s")
      :format(("█"):rep(17), ("█"):rep(8) .. "▌", ("█"):rep(4) .. "▎"))
    expect.match(histogram.draw({ width = 1, 1000000, 1 }, 40), "1        1  ▏$")
  end },

  { "empty bins beside each other are one row", function()
    expect.same(histogram.rows { width = 10, 4, 0, 0, 0, 2, 0, 1, 0, 0 },
      { { "0-9", 4 }, { "10-39", 0 }, { "40-49", 2 }, { "50-59", 0 }, { "60-69", 1 }, { "70-89", 0 } })
    expect.same(histogram.rows(histogram.count({ 0.05, 1 }, 0.1, 10)), { { "0-10%", 1 }, { "10-100%", 0 }, { "100%", 1 } })
  end },

  { "counts are those of the samples", function()
    local set = view_of({ critique(0), critique(1), critique(2) }).sets[1]
    local tokens, learned = 0, 0
    for _, kind in ipairs(set.kinds) do tokens, learned = tokens + kind.tokens, learned + kind.learned end
    expect.same({ tokens, learned }, { set.report.tokens, set.report.learned })
    local right, wrong = 0, 0
    for i = 0, 2 do
      if demo.training(1)(i).right then right = right + 1 else wrong = wrong + 1 end
    end
    expect.same(set.verdicts, { right = right, wrong = wrong, none = 0 })
    expect.same(set.samples:length(set.longest[1]), set.report.longest)
    expect.same(dataview.findings(set), {})
    set = view_of({ critique(0, { id = 3 }), critique(1, { id = 4, source = "web" }), critique(2, { source = "" }) }).sets[1]
    expect.same(dataview.findings(set), { "fields that are not used: id (2), source (1)" })
    set.samples.chat.by_kind = { correction = 2 }
    set.report.left_to_function = { n = 1, 2 }
    expect.match(dataview.findings(set)[1], "^1 have answers without loss weight .*: records 2$")
    expect.match(dataview.findings(set)[3], "^learn has weights for kinds that no text has: correction$")
  end },

  { "duplicates: whole records, prompts, and prompts on both sides of the split", function()
    local view = view_of({ critique(0), critique(1), critique(0), critique(1, { output = "Another. Conclusion: right [END]" }) },
      { critique(5), critique(1) })
    expect.same(dataview.findings(view.sets[1]), {
      "1 are there before, word for word: records 2", "1 ask what another one asks, with another answer" })
    expect.same(dataview.findings(view.sets[2]), { "1 ask what a training record asks: records 1" })
  end },

  { "near duplicates: what a mixture found, or that nobody looked", function()
    local function mixture(dedup)
      return function(records)
        return require("cft.data.mix").new { { data.list(records, { name = "a" }) }, { data.list { critique(7) } }, dedup = dedup }
      end
    end
    local records = { critique(0), critique(1), critique(0, { output = critique(0).output .. " So it is." }) }
    for _, dedup in ipairs { "no", "exact" } do
      local view = view_of(records, nil, nil, mixture(dedup))
      expect.match(dataview.unlooked(view), "^near duplicates were not looked for here; a mixture with dedup = \"near\"")
      expect.match(html.page(view), "<p>near duplicates were not looked for here")
    end
    local view = view_of(records, nil, nil, mixture "near")
    expect.same(dataview.unlooked(view), nil)
    expect.match(view.run.samples:table(), "1 of 4 records are duplicates: 5 words in a row, 80%% of them shared\n  a: record 2 = a: record 0 %(%d+%%%)")
    expect.truthy(not html.page(view):find "not looked for")
  end },

  { "packs and how full they are", function()
    local view = view_of { critique(0), critique(1), critique(2), critique(3) }
    local tokens = view.sets[1].report.tokens
    expect.close(view.packs.fill, tokens / (view.packs.micros * 400), 1e-12)
    expect.match(dataview.plan(view), "^2 steps of 2 samples, 2 an epoch; packs of 400 tokens are filled to %d+%.%d%% %(2 packs")
  end },

  { "control characters of the data do not reach the terminal", function()
    local foreign = "a\27[31mb\r\n\tc\0\194\155d\226\128\174e"  -- CSI in one character, and a line turned around
    local shown = "a\\x1b[31mb\\x0d\n\tc\\x00\\xc2\\x9bd\\xe2\\x80\\xaee"
    local sample = { span_count = 1, spans = { [0] = { count = 1, weight = 0 } }, ids = { [0] = 7 } }
    expect.same(preview.sample({ decode = function() return foreign end }, sample), shown)
    expect.same(html.escape(foreign), shown)
  end },

  { "the page needs nothing else, and no record can write into it", function()
    local page = html.page(view_of({ critique(0, { output = "<script>alert(1)</script> & 'x' \195\169 Conclusion: right" }) }, nil, 1))
    expect.match(page, "^<!doctype html>\n.*</html>\n$")
    expect.match(page:gsub("</?span[^>]*>", ""), "&lt;script&gt;alert%(1%)&lt;/script&gt; &amp; &#39;x&#39; \195\169")
    for _, what in ipairs { "<script", "http:", "https", "src=", "<link", "@import", "url%(" } do
      expect.truthy(not page:find(what), "no " .. what)
    end
    expect.match(page, "<span class='learned critique' title='critique, %d+ tokens, weight 1'><span class=t title='ids? %d")
    expect.match(page, "<span class='context query'")
    expect.match(page, '<meta http%-equiv="Content%-Security%-Policy" content="default%-src \'none\'; style%-src')
  end },

  { "tokens of a sample are its text, each with its id; bytes of one character stand together", function()
    local set = view_of { critique(0, { output = "\226\130\172 is 3 \240\159\152\128. Conclusion: right [END]" }) }.sets[1]
    for _, most in ipairs { 10000, 5 } do
      local text, ids, whole = {}, {}, {}
      for i, token in ipairs(preview.tokens(set.samples, 0, most)) do
        text[i] = token.text
        for _, id in ipairs(token.ids) do ids[#ids + 1] = id end
        if token.text == "\226\130\172" then whole[#whole + 1] = #token.ids end
      end
      local sample, same = set.samples:get(0), {}
      for i = 1, tonumber(sample.n) do same[i] = sample.ids[i - 1] end
      expect.same(ids, same)
      expect.same(table.concat(text), set.samples.tok:decode(same))
      if most > 5 then expect.same(whole, { 3 }) end
    end
  end },

  { "which samples are shown: by verdict, kind, length, source", function()
    local records, right = {}, 0
    for i = 0, 9 do
      records[i + 1] = critique(i)
      if demo.training(1)(i).right then right = right + 1 end
    end
    local view = view_of(records, nil, 100)
    local function shown(where)
      return dataview.gather(view.run, { samples = 100, where = where }).sets[1].shown
    end
    expect.same(#shown {}, 10)
    expect.same({ #shown { verdict = "right" }, #shown { verdict = "wrong" }, #shown { verdict = "none" } }, { right, 10 - right, 0 })
    expect.same({ #shown { kind = "critique" }, #shown { kind = "no such" } }, { 10, 0 })
    local longest = view.sets[1].samples:length(view.sets[1].longest[1])
    for _, k in ipairs(shown { from = longest }) do expect.same(view.sets[1].samples:length(k), longest) end
    expect.same({ #shown { to = longest }, #shown { from = longest + 1 } }, { 10, 0 })
    expect.same({ #shown { source = view.sets[1].name }, #shown { source = "another" } }, { 10, 0 })
    dataview.show(view, 3)
    expect.same(view.sets[1].shown, { 0, 3, 6 })
  end },

  { "the page has a choice by each of these, without a script; names of the data cannot write into its style", function()
    local page = html.page(view_of({ critique(0), critique(1), critique(2) }, nil, 3, function(records)
      return data.list(records, { name = "</style><b>{}" })
    end))
    expect.match(page, "body:has%(#v1:checked%) %.sample:not%(%.v1%) { display: none; }")
    expect.match(page, "<label><input type=radio name=s id=s1> &lt;/style&gt;&lt;b&gt;{}</label>")
    expect.match(page, "<div class='sample v%d n%d s1 k%d[ k%d]*'>")
    expect.same(select(2, page:gsub("</style>", "")), 1)
    expect.truthy(page:match "<style>(.-)</style>":find "b>{}" == nil, "no name in the style")
  end },

  { "tokens by weight, and how often a source is gone through", function()
    local view = view_of { critique(0), critique(1) }
    local rows, tokens = dataview.weight_rows(view.sets[1].weights), 0
    for _, row in ipairs(rows) do tokens = tokens + row[2] end
    expect.same({ rows[1][1], rows[2][1], tokens }, { "0", "1", view.sets[1].report.tokens })
    expect.same(dataview.weight_rows { [2] = 5, ["function"] = 1, [0.5] = 3 }, { { "0.5", 3 }, { "2", 5 }, { "a function", 1 } })
    expect.same(view.sets[1].passes, 1)
    view.run.last_step = 16
    local set = dataview.gather(view.run, { samples = 0 }).sets[1]
    expect.same(set.passes, 16)
    local findings = dataview.findings(set)
    expect.same(findings[#findings], "gone through 16.0 times in this run")
    local mixed = view_of({ critique(0), critique(1) }, nil, nil, function(records)
      return require("cft.data.mix").new { { data.list(records, { name = "a" }), weight = 3 },
        { data.list { critique(7), critique(8), critique(9), critique(10), critique(11), critique(12) }, weight = 1 } }
    end)
    expect.same({ mixed.sets[1].passes, mixed.sets[2].passes }, { 3, 2 / 6 })
    expect.match(html.page(mixed), "Sources beside each other")
  end },

  { "what was gathered is JSON", function()
    local json = require "cft.base.json"
    local plain = dataview.plain(view_of({ critique(0), critique(1) }, { critique(5) }, 2))
    expect.same(json.decode(json.encode(plain)).sets[1].shown[1].about, plain.sets[1].shown[1].about)
    expect.match((html.body(json.decode(json.encode(plain)))), "tokens by weight")
  end },

  { "half a character is not a character in the page", function()
    expect.same(html.escape "a\226\130", "a\239\191\189\239\191\189")
    expect.same(html.escape "\226\130\172 \240\159\152\128 \255", "\226\130\172 \240\159\152\128 \239\191\189")
  end },

  { "cftrun data: the demo, its page, and no checkpoint", function()
    local folder = process.folder()
    local r = process.cftrun { "data", "--demo", "recipes/webinstruct.lua", "steps=2", "out=" .. folder .. "/out",
                               "--samples=1", "--html", folder .. "/page.html" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "^2 steps of 32 samples, 2 an epoch")
    expect.match(r.out, "\n\nnear duplicates were not looked for here; [^\n]*\n\n")
    expect.match(r.out, "word problems: 64 samples of 64 records; %d+ tokens, %d+ loss tokens %(3%d%.%d%%%)")
    expect.match(r.out, "\n%-%-%- sample 0 .*⟦Critique:")
    expect.match(contents(folder .. "/page.html"), "word problems held out")
    expect.same(require("cft.host").kind(folder .. "/out"), nil)
  end },

  { "cftrun data: a recipe whose settings are a plain table is not trained either", function()
    local folder = process.folder()
    local path = process.write(folder .. "/plain.lua", ([[
      require("cft").recipe.run({ demo = true, steps = 2, batch = 4, tokens = 512, device = "cpu", out = %q }, { name = "plain" })
    ]]):format(folder .. "/out"))
    local r = process.cftrun { "data", path, "--samples=0" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "word problems: 8 samples of 8 records")
    expect.same(require("cft.host").kind(folder .. "/out"), nil)
  end },

  { "cftrun data: a recipe that catches errors has shown its data all the same", function()
    local path = process.write(process.folder() .. "/caught.lua", [[
      local cft = require "cft"
      pcall(cft.recipe.run, cft.config { steps = 2, batch = 4, tokens = 512, device = "cpu" }, { name = "caught" })
    ]])
    local r = process.cftrun { "data", path, "--demo", "--samples=0" }
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "word problems: %d+ samples of %d+ records")
  end },

  { "cftrun data: the reason where every record is bad", function()
    local path = process.write(process.folder() .. "/bad.jsonl", '{"instruction": 1}\n{"no": 2}\n')
    local recipe_path = process.write(process.folder() .. "/r.lua", [[local cft = require "cft"
      cft.recipe.run(cft.config { template = "chatml", device = "cpu" },
        { name = "bad", model = cft.demo.tiny, tokenizer = cft.demo.tokenizer(1) })]])
    local r = process.cftrun { "data", recipe_path, "data=" .. path }
    expect.same({ r.code, r.out }, { 1, "" })
    expect.match(r.err, "none of 2 records is left: 2 are bad; the first is [^\n]*bad%.jsonl: record 0, line 1, byte 0: ")
  end },

  { "cftrun data: what it refuses", function()
    local function refuses(code, message, ...)
      local r = process.cftrun { "data", ... }
      expect.same({ r.code, r.out }, { code, "" })
      expect.match(r.err, message)
    end
    refuses(2, "a recipe is wanted: cftrun data RECIPE")
    refuses(2, "no recipe nowhere%.lua", "nowhere.lua")
    refuses(2, "%-%-samples", "recipes/webinstruct.lua", "--samples", "few")
    refuses(2, "%-%-verdict must be one of 'right', 'wrong', 'none', got 'left'", "recipes/webinstruct.lua", "--verdict", "left")
    refuses(2, "%-%-length wants tokens as 100%-500, 100%- or %-500, got 'long'", "recipes/webinstruct.lua", "--length=long")
    refuses(2, "%-%-source word problem: there are word problems, word problems held out; did you mean 'word problems'%?",
      "recipes/webinstruct.lua", "--demo", "steps=1", "--source", "word problem")
    refuses(2, "%-%-html wants a value", "recipes/webinstruct.lua", "--html")
    refuses(2, "unknown key 'stepz'", "recipes/webinstruct.lua", "--demo", "stepz=1")
    local none = process.write(process.folder() .. "/none.lua", "")
    refuses(1, "never called cft%.recipe%.run", none)
  end },
}
