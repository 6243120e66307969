-- Answers that their own model judges: crit@k, on a model whose verdicts are planted.

local cft = require "cft"
local critics = require "cft.eval.judge.critic"
local demo = require "cft.demo"
local expect = require "tests.expect"
local file = require "cft.eval.file"
local json = require "cft.base.json"
local maths = require "cft.eval.maths"
local process = require "tests.process"
local prompts = require "cft.eval.prompts"
local score = require "cft.eval.score"
local work = require "cft.eval.work"

local function near(a, b, by) expect.truthy(math.abs(a - b) < (by or 1e-9), ("%.12g is not %.12g"):format(a, b)) end

-- ---- numbers -------------------------------------------------------------------------------------

-- An entry of answers "TEXT!" (right ones) with critiques: numbers are P(right) of a verdict, false is one without.
local function entry(number, samples)
  local e = { bench = "b", problem = { number = number, question = "q" .. number }, samples = {} }
  for i, s in ipairs(samples) do
    local answer, right = s[1]:match "^(.-)(!?)$"
    local one = { answer = answer, verdict = right == "!" and "right" or "wrong", text = answer, finish = "stop", critiques = {} }
    for k = 2, #s do
      one.critiques[k - 1] = s[k] and { text = "c", right = s[k] > 0.5, p = s[k] } or { text = "c" }
    end
    e.samples[i] = one
  end
  return e
end

local function rows_of(entries)
  local s, by = score.of({}, entries, "symbolic"), {}
  for _, row in ipairs(s.rows) do by[row[1]] = row end
  return by, s
end

-- ---- a planted model -----------------------------------------------------------------------------

local QUESTION = "How many are there?"
local SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  -- of the template chatml

-- A Llama of one layer whose next token is a function of the current one and of two facts that its attention, which is
-- uniform, finds: is there a "Solution" to judge, and is there more of "4" than of "7" before. It answers \boxed{4} or
-- \boxed{7}, evenly, and as a critic says "right" of 4 and "wrong" of 7, nine times in ten.
local function planted()
  local said = "Conclusion: right wrong [END]x\\boxed{4}7"
  local asked = cft.critique.instruction .. "\nQuestion:\n" .. QUESTION .. "\n\nSolution:\n" .. maths.SYSTEM .. SYSTEM
  local records = { { messages = { { role = "user", content = asked },
                                   { role = "assistant", content = said } } } }
  local tok = demo.words(cft.data.list(records, { schema = "none" }))
  local vocab = tok:size()
  local d = vocab + 2 + vocab % 2
  local m = cft.models.new { arch = "llama", d = d, layers = 1, heads = 1, ffn = 2, vocab = vocab, init = 0, context = 512 }
  local function id(text)
    local ids = tok:encode(text, { parse_special = true })
    expect.same(#ids, 1, text)
    return ids[1]
  end
  local SOLUTION, FOUR = vocab, vocab + 1  -- where the two facts stand in the residual stream
  local function set(name, cells)
    for other, t in m:named() do
      if other == name then
        local host = t:to_host()
        for _, c in ipairs(cells) do host[c[1] * t:dim(1) + c[2]] = c[3] end
        t:copy_(cft.tensor.from_host(host, t:shape(), "f32"))
      end
    end
  end
  local root, units, head = math.sqrt(d), {}, {}
  for i = 0, vocab - 1 do units[#units + 1] = { i, i, 1 } end
  set("model.embed_tokens.weight", units)
  set("model.layers.0.self_attn.v_proj.weight",
      { { SOLUTION, id "Solution", 180 / root }, { FOUR, id "4", 60 / root }, { FOUR, id "7", -60 / root } })
  set("model.layers.0.self_attn.o_proj.weight", { { SOLUTION, SOLUTION, 1 }, { FOUR, FOUR, 1 } })
  local function follows(from, to, weight) head[#head + 1] = { id(to), id(from), weight / root } end
  for _, pair in ipairs { { "\\", "boxed" }, { "boxed", "{" }, { "{", "4" }, { "{", "7" }, { "4", "}" }, { "7", "}" },
                          { "}", "<|endoftext|>" }, { "Conclusion", ":" }, { ":", " right" }, { ":", " wrong" },
                          { " right", " [" }, { " wrong", " [" }, { " [", "END" }, { "END", "]" } } do
    follows(pair[1], pair[2], 150)
  end
  follows("\n", "\\", 40)
  head[#head + 1] = { id "Conclusion", SOLUTION, 30 / root }
  head[#head + 1] = { id " right", FOUR, 3.3 / root }
  head[#head + 1] = { id " wrong", FOUR, -3.3 / root }
  set("lm_head.weight", head)
  return m, tok
end

local bench = maths.new { name = "mine", about = "mine", places = {}, reference = maths.answer }
bench.max_new = 16

local function lists(n)
  local list = {}
  for i = 1, n do list[i] = { question = QUESTION, reference = "4", number = i } end
  return list
end

local function options(more)
  local o = { n = 5, critiques = 2, critique_form = "paper", critic_template = "chatml", template = "chatml", grade = "symbolic", temperature = 1,
              top_k = 0, top_p = 1, min_p = 0, penalty = 1, seed = 4, batch = 8, chunk = 64, deterministic = false, ends = true,
              critique_max_new = 16 }
  for name, value in pairs(more or {}) do o[name] = value end
  return o
end

local function entries_of(m, tok, n, o)
  local list = {}
  local counts = work.run(m, tok, work.tasks({ bench }, { mine = lists(n) }), o, 1, function(e) list[#list + 1] = e end)
  return list, counts
end

return {
  { "votes weighted by verdicts: P(right), words, abstention, by their definitions", function()
    local entries = {
      entry(1, { { "7", 0.1 }, { "7", 0.2 }, { "4!", 0.9, 0.7 } }),      -- 0.3 against 0.8
      entry(2, { { "7", 0.45 }, { "7", 0.45 }, { "4!", 0.6 } }),         -- 0.9 against 0.6; by words 0 against 1
      entry(3, { { "7", false }, { "7", false }, { "4!", false } }),     -- nothing is concluded: as maj@k
      entry(4, { { "", 0.9 }, { "4!", 0.2 }, { "", 0.9 } }),             -- no answer votes for none
    }
    local by, s = rows_of(entries)
    near(by["maj@3"][2], 1 / 4)
    near(by["crit@3"][2], 2 / 4)
    near(by["crit@3 words"][2], 3 / 4)
    -- Of the chosen only that of the first is believed: 0.8; the second's mean is 0.45, the third's 1/2, the fourth's 0.2.
    near(by["crit@3 answered"][2], 1 / 4)
    near(by["crit@3 of answered"][2], 1)
    expect.same(by["crit@3 of answered"][3], nil)
    near(by["verdicts right"][2], (1 + 1 + 0) / 3)
    expect.same(s.mute, 3)
    local mean, err = score.mean { 1, 0, 0, 1 }
    near(by["crit@3"][2], mean)
    near(by["crit@3"][3], err)
  end },
  { "without critiques there is no crit@k; with some on every answer there is, for one answer too", function()
    local one = entry(1, { { "4!", 0.9 } })
    expect.truthy(rows_of { one }["crit@1"], "one answer")
    expect.truthy(not rows_of { entry(1, { { "4!" } }), { bench = "b", problem = { number = 2 }, samples = { { verdict = "wrong", finish = "stop" } } } }["crit@1"],
                  "an answer that was not criticised")
  end },
  { "a planted critic: verdicts, P(right) and crit@k are those that were planted", function()
    local m, tok = planted()
    local entries, counts = entries_of(m, tok, 12, options())
    local sevens, fours, hits, majorities = 0, 0, 0, 0
    for _, e in ipairs(entries) do
      local four, seven = 0, 0
      for _, s in ipairs(e.samples) do
        expect.truthy(s.text == "\\boxed{4}" or s.text == "\\boxed{7}", s.text)
        local is_four = s.verdict == "right"
        four, seven = four + (is_four and 1 or 0), seven + (is_four and 0 or 1)
        expect.same(#s.critiques, 2)
        for _, c in ipairs(s.critiques) do
          expect.truthy(c.text == "Conclusion: right" or c.text == "Conclusion: wrong", c.text)
          expect.same({ c.right, c.finish }, { c.text == "Conclusion: right", "stop" })
          -- Read again by a forward pass over what the critic had before it.
          local user = cft.critique.instruction .. "\nQuestion:\n" .. QUESTION .. "\n\nSolution:\n" .. s.text
          local ids = tok:encode("<|im_start|>system\n" .. SYSTEM .. "<|im_end|>\n<|im_start|>user\n" .. user
            .. "<|im_end|>\n<|im_start|>assistant\nConclusion:", { parse_special = true })
          local logits = m:logits { ids }
          local host, row = logits:to_host(), (#ids - 1) * m.config.vocab
          local r, w = host[row + tok:encode(" right")[1]], host[row + tok:encode(" wrong")[1]]
          near(c.p, 1 / (1 + math.exp(w - r)), 1e-5)
          expect.truthy(is_four and c.p > 0.8 or not is_four and c.p < 0.2, "planted: " .. c.p)
        end
      end
      sevens, fours = sevens + seven, fours + four
      majorities = majorities + (four > seven and 1 or 0)
      hits = hits + (four > 0 and (four * 0.85 > seven * 0.15) and 1 or 0)
    end
    expect.truthy(sevens > 10 and fours > 10, ("%d of 7, %d of 4"):format(sevens, fours))
    local by = rows_of(entries)
    near(by["maj@5"][2], majorities / 12)
    near(by["crit@5"][2], hits / 12)
    expect.truthy(by["crit@5"][2] > by["maj@5"][2], "a good critic is better than a majority")
    expect.truthy(by["verdicts right"][2] > 0.75, "verdicts follow the planted probability")
    -- Of a tree common pages are read once: critiques of an answer share their prompt, readings all that stands before them.
    expect.truthy(counts.shared > counts.rows, ("%d tokens shared, %d read"):format(counts.shared, counts.rows))
    for _, more in ipairs { { batch = 1, chunk = 7 }, { batch = 64, chunk = 512 } } do
      expect.same((entries_of(m, tok, 12, options(more))), entries)
    end
    -- Those from the fifth task on are the same, whatever was before.
    local rest = {}
    work.run(m, tok, work.tasks({ bench }, { mine = lists(12) }), options(), 5, function(e) rest[#rest + 1] = e end)
    expect.same(rest, { unpack(entries, 5) })
    m:release()
  end },
  { "an answer that fills the context has no critiques, and is counted", function()
    local m, tok = planted()
    local task = work.tasks({ bench }, { mine = lists(1) })
    m.config.context = #prompts.ids(tok, bench, task[1].problem, "chatml", "test") + 8
    local got
    work.run(m, tok, task, options { n = 1 }, 1, function(e) got = e end)
    expect.same(got.samples[1].critiques, json.array())
    near(rows_of { got }["crit@1 answered"][2], 0)
    m:release()
  end },
  { "a model's own template asks for a critique, and reads its verdict, as ours does", function()
    local m, tok = planted()
    m:release()
    tok.chat_template = "{% for m in messages %}{% if loop.first %}<|im_start|>system\n" .. SYSTEM .. "<|im_end|>\n{% endif %}" ..
      "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    local own, ours = critics.new(tok, options { critic_template = "auto" }), critics.new(tok, options())
    for _, solution in ipairs { "\\boxed{4}", "" } do
      local prompt = own:prompt(QUESTION, solution, "here")
      expect.same(prompt, ours:prompt(QUESTION, solution, "here"))
      expect.same(tok:decode { unpack(prompt, #prompt - 2) }, "<|im_start|>assistant\n")
      local said = "Conclusion: wrong [END]"
      local _, first, last = own:verdict(said)
      local read = own:reading(QUESTION, solution, said, first, last, "here")
      expect.same(read, ours:reading(QUESTION, solution, said, first, last, "here"))
      expect.same({ tok:decode { read.right }, tok:decode { read.wrong } }, { " right", " wrong" })
    end
  end },
  { "cftrun eval: rows, the page, grading again, what is refused", function()
    local m, tok = planted()
    local place = process.folder()
    m:save(place .. "/planted", { tokenizer = tok })
    m:release()
    os.execute("mkdir -p " .. place .. "/gsm8k")
    local lines = {}
    for i = 1, 6 do lines[i] = json.encode { question = QUESTION .. (" "):rep(i), answer = "#### 4" } end
    process.write(place .. "/gsm8k/test.jsonl", table.concat(lines, "\n") .. "\n")
    local out = place .. "/r.jsonl"
    local function eval(...)
      return process.cftrun { "eval", place .. "/planted", "--bench", "gsm8k", "--data", place, "--dtype", "f32", "--max-new", "16", "--samples", "3",
                              "--temperature", "1", "--critic-template", "chatml", ... }
    end
    local r = eval("--critiques", "2", "--out", out, "--page", place .. "/p.html")
    expect.same(r.code, 0, r.err)
    expect.truthy(r.out:find "crit@3 [%d.]+ ± [%d.]+   crit@3 words .*crit@3 answered .*verdicts right", r.out)
    local read = file.read(out)
    expect.same({ read.head.critiques, read.head.critique_form, read.head.critic_template }, { 2, "paper", "chatml" })
    expect.truthy(process.contents(place .. "/p.html"):find("critique 2: <span class=right>right</span>", 1, true), "critiques on the page")
    local text = process.contents(out)
    os.remove(out)
    process.write(out .. ".part", text:sub(1, #text / 2))
    expect.same(eval("--critiques", "2", "--out", out).code, 0)
    expect.same(process.contents(out), text, "what was killed goes on")
    local again = process.cftrun { "eval", out, "--regrade", "paper", "--out", place .. "/again.jsonl" }
    expect.truthy(again.code == 0 and again.out:find "crit@3", again.err)
    expect.same(file.read(place .. "/again.jsonl").entries.gsm8k[1].samples[1].critiques, read.entries.gsm8k[1].samples[1].critiques)
    local function refused(pattern, ...)
      local no = eval("--out", place .. "/no.jsonl", ...)
      expect.same(no.code, 2, no.err)
      expect.truthy(no.err:find(pattern), no.err)
    end
    refused("%-%-critique%-form wants %-%-critiques", "--critique-form", "paper")
    refused("%-%-critique%-form must be one of .*did you mean 'paper'", "--critiques", "1", "--critique-form", "papr")
    local no = process.cftrun { "eval", place .. "/planted", "--bench", "gsm8k", "--data", place, "--critiques", "2" }
    expect.truthy(no.code == 2 and no.err:find "%-%-critiques 2 wants a %-%-temperature", no.err)
    no = process.cftrun { "eval", place .. "/planted", "--bench", "ifeval", "--data", place, "--critiques", "1" }
    expect.truthy(no.code == 2 and no.err:find "no two answers of ifeval are equal", no.err)
    process.write(place .. "/bad.jsonl", (text:gsub('"p":[%d.e-]+', '"p":2')))
    no = process.cftrun { "eval", place .. "/bad.jsonl" }
    expect.truthy(no.code == 1 and no.err:find "P%(right%) from 0 to 1", no.err)
  end },
}
