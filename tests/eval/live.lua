-- Scores while a run trains: `select`, `retain`, the verdict probe.

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"

local SCRIPT = [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "chatml", batch = 4, tokens = 1024, steps = 6,
                         heldout = 12, lr = 1e-3, device = "cpu", dtype = "f32" }
cft.recipe.run(cfg, { name = "scored", fields = cft.critique.paper(), tokenizer = cft.demo.words, model = cft.demo.tiny, %s })
]]

-- Run it with a small benchmark, in a new folder or another one, with further arguments.
-- @treturn table as process.cftrun @treturn table lines of log.jsonl by step @treturn table summary @treturn string the folder
local function run(options, folder, ...)
  folder = folder or process.folder()
  os.execute("mkdir -p " .. folder .. "/gsm8k")
  local lines = {}
  for i = 1, 5 do lines[i] = json.encode { question = ("What is %d + 1?"):format(i), answer = "#### " .. i + 1 } end
  process.write(folder .. "/gsm8k/test.jsonl", table.concat(lines, "\n") .. "\n")
  local path = process.write(folder .. "/scored.lua", SCRIPT:format((options:gsub("DATA", ("%q"):format(folder)))))
  local r = process.cftrun { path, "out=" .. folder .. "/out", ... }
  local steps = {}
  if r.code == 0 then
    for line in io.lines(folder .. "/out/log.jsonl") do
      local t = json.decode(line)
      if t.step then steps[t.step] = t end
    end
  end
  return r, steps, json.read(folder .. "/out/summary.json"), folder
end

-- Data of ProcessBench's form: solutions of one or two steps.
local function process_bench(folder)
  os.execute("mkdir -p " .. folder .. "/process-bench")
  local list = {}
  for i = 1, 6 do list[i] = { problem = "What is 2 + 2?", steps = { "2 + 2 = 4", "so " .. i }, label = i % 2 == 0 and 1 or -1 } end
  process.write(folder .. "/process-bench/gsm8k.json", json.encode(list))
end

return {
  { "select scores as it is told, follows the best, names the set; retain measures before and after; the probe reads", function()
    local r, steps, summary = run [[select = { bench = "gsm8k", data = DATA, every = 2, max_new = 4, share = 1 },
      retain = { bench = "gsm8k", data = DATA, limit = 3, max_new = 4 }, probe = { every = 3 }]]
    expect.same(r.code, 0, r.err)
    for step, t in ipairs(steps) do expect.same(t["gsm8k_pass@1"] ~= nil, step % 2 == 0, "step " .. step) end
    expect.truthy(steps[3].probe_accuracy and steps[6].probe_brier and not steps[4].probe_accuracy, "the probe")
    expect.truthy(steps[6].gsm8k_before and steps[6].gsm8k_after, "retain")
    expect.truthy(r.out:find "select gsm8k: pass@1 [%d.]+ ± [%d.]+ at step 2; %d+%% of the time", r.out)
    expect.truthy(r.out:find "at step 4, %+0.0 %(%+0.0 to %+0.0%) to the best before", r.out)
    expect.truthy(r.out:find "retain gsm8k: .* before, .* after", r.out)
    expect.truthy(r.out:find "chosen by gsm8k, so its score on gsm8k says too much", r.out)
    expect.same({ summary.selected_by, summary.selected_and_reported, summary.best.metric }, { "gsm8k", true, "gsm8k_pass@1" })
    expect.truthy(r.out:find "retain reports gsm8k all the same", r.out)
    expect.truthy(r.out:find "best gsm8k_pass@1 .* chosen by gsm8k, which is no benchmark to report it by", r.out)
  end },
  { "a rank that writes or reads says so again and again: the others wait for it", function()
    local r = run [[select = { bench = "gsm8k", data = DATA, every = 6, max_new = 4, share = 1 }, probe = { every = 6 },
      after_step = function(run, t)
        if t.step > 1 then return end
        rawset(_G, "said", {})
        run.ranks.at = function(_, doing) said[doing] = (said[doing] or 0) + 1 end
      end,
      finish = function() print("SAID", said["writing answers"], said["probe, 1 of 1"]) end]]
    expect.same(r.code, 0, r.err)
    local writing, reading = r.out:match "SAID%s+(%d+)%s+(%d+)"
    expect.truthy(writing and tonumber(writing) >= 4 and reading == "1", r.out)
  end },
  { "the page and the report name the benchmark that chose; so does eval of its checkpoint", function()
    local _, _, _, folder = run [[select = { bench = "gsm8k", data = DATA, every = 3, max_new = 4, share = 1 },
      retain = { bench = "gsm8k", data = DATA, limit = 3, max_new = 4 }]]
    local page = folder .. "/page.html"
    expect.same(process.cftrun({ "report", folder .. "/out", "--html", page }).code, 0)
    local report = process.cftrun { "log", folder .. "/out" }
    expect.truthy(report.code == 0 and report.out:find "chosen by gsm8k, so its score on gsm8k says too much: it is reported here all the same",
                  report.out .. report.err)
    expect.truthy(process.contents(page):find("<dt>chosen by</dt><dd>gsm8k, so its score on gsm8k says too much", 1, true), "the page")
    local again = process.cftrun { "eval", folder .. "/out/step-000006", "--bench", "gsm8k", "--data", folder, "--max-new", "4", "--dtype", "f32",
                                   "--out", folder .. "/r.jsonl", "--page", page }
    expect.truthy(again.code == 0 and again.out:find "it chose this checkpoint, so the score says too much", again.out .. again.err)
    expect.truthy(process.contents(page):find("chose this checkpoint: the score says too much", 1, true), "eval's page")
  end },
  { "a run that is resumed compares with what it had before", function()
    local options = [[select = { bench = "gsm8k", data = DATA, every = 3, max_new = 4, share = 1 },
      retain = { bench = "gsm8k", data = DATA, limit = 3, max_new = 4 }, keep = { newest = 1, best = 1 },
      after_step = function(_, t) if t.step == 4 and not cfg.resume then error "stopped here" end end]]
    local first, _, _, folder = run(options)
    expect.truthy(first.code == 1 and first.err:find "stopped here", first.err)
    local r, steps, summary = run(options, folder, "--resume")
    expect.same(r.code, 0, r.err)
    expect.truthy(r.out:find "resumed at step 4", r.out)
    expect.truthy(r.out:find "at step 6, %+0.0 %(%+0.0 to %+0.0%) to the best before", r.out)
    expect.truthy(steps[6].gsm8k_before, "what was before the first step, not before the fifth")
    expect.same({ summary.best.step, summary.best.value }, { 3, steps[3]["gsm8k_pass@1"] })
    local there = {}
    for _, name in ipairs(host.list(folder .. "/out")) do there[name] = true end
    expect.truthy(there["step-000003"] and there["step-000006"] and not there["step-000004"], "the best and the newest stay")
    -- A state without scores, or with those of another benchmark, is said.
    local other = run(options:gsub('select = { bench = "gsm8k"', 'select = { bench = "gsm8k", metric = "avg@2", samples = 2, temperature = 1'), folder,
                      "--resume=" .. folder .. "/out/step-000003")
    expect.truthy((other.out .. other.err):find "the checkpoint has no scores of gsm8k_avg@2; the next one is compared with none", other.out .. other.err)
  end },
  { "select and retain follow their benchmark's metric; the probe reads each step", function()
    local folder = process.folder()
    process_bench(folder)
    local r, steps, summary = run([[select = { bench = "processbench", data = DATA, every = 3, max_new = 4, share = 1 },
      retain = { bench = "processbench", data = DATA, max_new = 4 }, probe = { every = 3, bench = "processbench", data = DATA }]], folder)
    expect.same(r.code, 0, r.err)
    expect.same(summary.best.metric, "processbench_F1")
    expect.truthy(r.out:find "retain processbench: F1 0.0 ± 0.0 before, 0.0 ± 0.0 after", r.out)
    expect.truthy(steps[3].probe_step_accuracy and steps[3].probe_step_ece and steps[6].probe_step_f1 and steps[6].probe_accuracy, "steps")
    expect.truthy(r.out:find "probe: 6 verdicts, accuracy [%d.]+, AUROC [%d.]+, ECE [%d.]+; 12 of steps, .*, F1 of the first wrong one [%d.]+, accuracy by step [%d.]+ [%d.]+",
                  r.out)
  end },
  { "by settings of any recipe, in front of what the recipe says", function()
    local folder = process.folder()
    local r, steps, summary = run([[select = { bench = "math-validation", share = 1 }, probe = { every = 1 }]], folder, "select=gsm8k",
      "select_every=3", "retain=gsm8k", "score_data=" .. folder, "score_limit=2", "score_max_new=4", "probe_every=6")
    expect.same(r.code, 0, r.err)
    expect.truthy(steps[3]["gsm8k_pass@1"] and not steps[2]["gsm8k_pass@1"] and steps[6].gsm8k_before and steps[6].probe_accuracy
                  and not steps[3].probe_accuracy, "as the settings say")
    expect.same(summary.selected_by, "gsm8k")
    r = run("", folder, "select_every=3", "out=" .. folder .. "/other")
    expect.truthy(r.code == 2 and r.err:find "select_every: nothing reads it: no benchmark selects", r.err)
    r = run("", folder, "probe_steps=x", "out=" .. folder .. "/other")
    expect.truthy(r.code == 2 and r.err:find "probe_steps: nothing reads it: probe_every", r.err)
  end },
  { "the demo's own benchmark", function()
    local demo = require("cft.eval.benchmarks").get "demo"
    local list = require("cft.eval.problems").read(demo, nil, true, 6)
    expect.same(#list, 6)
    for i, p in ipairs(list) do
      expect.same(p.reference, i % 2 == 1 and "right" or "wrong")  -- half of them are
      expect.same(demo.grade(p, "Critique:\nso\n\nConclusion: " .. p.reference .. " [END]").verdict, "right")
      expect.same(demo.grade(p, "Conclusion: " .. (p.reference == "right" and "wrong" or "right")).verdict, "wrong")
      expect.same(demo.grade(p, p.reference).reason, "no verdict")
    end
  end },
  { "a share of the time that is nothing leaves scores out, and says so", function()
    local r, steps = run [[select = { bench = "gsm8k", data = DATA, every = 1, max_new = 4, share = 0 }]]
    expect.same(r.code, 0, r.err)
    expect.truthy(steps[1]["gsm8k_pass@1"] and steps[6]["gsm8k_pass@1"] and not steps[3]["gsm8k_pass@1"], "the first and the last")
    expect.truthy(r.out:find "4 scores were left out to keep to 0%% of the time", r.out)
  end },
  { "what is refused", function()
    local function refused(pattern, options)
      local r = run(options)
      expect.truthy(r.code ~= 0 and r.err:find(pattern), r.err .. r.out)
    end
    refused("select: unknown option 'evry'; did you mean 'every'", [[select = { bench = "gsm8k", data = DATA, evry = 2 }]])
    refused("select: critiques = 2 wants a temperature above 0", [[select = { bench = "gsm8k", data = DATA, every = 1, critiques = 2 }]])
    refused("no benchmark 'gsm9k'", [[select = { bench = "gsm9k", every = 1 }]])
    refused("unknown option 'evry'; did you mean 'every'", [[probe = { evry = 1 }]])
    refused("no number 'maj@4' is made; there are pass@1", [[select = { bench = "gsm8k", data = DATA, every = 1, metric = "maj@4", max_new = 2 }]])
  end },
}
