--- score a model on benchmarks, compare two, grade again

local arguments = require "cft.cli.arguments"
local benchmarks = require "cft.eval.benchmarks"
local check = require "cft.base.check"
local critics = require "cft.eval.judge.critic"
local data = require "cft.data.open"
local eval = require "cft.eval"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local generate = require "cft.generate"
local grade = require "cft.grade"
local host = require "cft.host"
local load_model = require "cft.cli.model"
local prompts = require "cft.generate.prompt"
local show = require "cft.eval.show"
local templates = require "cft.eval.prompts"
local texts = require "cft.base.text"

local M = {}

local HELP = [[
Usage: cftrun eval MODEL --bench NAME[,NAME ...] [option ...]
       cftrun eval RESULTS.jsonl [--regrade MODE] [--page FILE]
       cftrun eval FIRST.jsonl SECOND.jsonl [--page FILE]

  The first form answers the problems of benchmarks, grades them and writes a file of results; what was interrupted goes
  on with the same command. The second shows such a file, the third compares two on the same problems.

  --bench NAMES        %s,
                       or the path of a Lua file that returns one (docs/eval.md); of results: these alone
  --data DIR           where the data are: DIR/gsm8k, DIR/bench/math-500, or DIR itself; absent, the Hub's cache
  --limit N            the first N problems of each
  --out FILE           the results, JSONL; MODEL's name and -eval.jsonl
  --grade MODE         %s; symbolic
  --regrade MODE       of results: grade their answers again; with --out also written
  --page FILE          an HTML page with each problem, answer and verdict

  --samples K          answers to each problem; 1. More than one wants --temperature
  --template NAME      %s (docs/eval.md)
  --max-new N          tokens of an answer, at most; the benchmark's, mostly 2048
  --stop TEXT          in place of the benchmark's stop strings; may come several times
  --critiques N        the model's own critiques of each answer; 0. Their verdicts weigh its votes: crit@K
  --critique-form NAME    %s
  --critic-template NAME  the conversation of a critique, as it was trained: %s
  --critique-max-new N    tokens of a critique, at most; %d
  --temperature T      0, the likeliest token; 1 draws as the model says
  --top-k K, --top-p P, --min-p P, --penalty X, --seed N    as in cftrun generate

  --dtype TYPE         auto, f32 or bf16
  --device NAME        cpu, cuda, cuda:1 or auto; cpu
  --batch N            sequences at once; 64
  --chunk N            tokens of prompts that are read in a step; 512
  --memory SIZE        for keys and values, as 2GiB; half of what is free
  --deterministic      no answer depends on what else is answered; on a GPU by kernels of its own, slower

  Exit codes: 2, what was asked cannot be; 4, a model or data are not here; 130, interrupted. docs/eval.md says more.]]

local specs = {
  model = { "string", optional = true }, second = { "string", optional = true },
  bench = { "string", optional = true }, data = { "string", optional = true },
  limit = { "integer", optional = true, min = 1 }, out = { "string", optional = true },
  grade = { "string", "symbolic", one_of = grade.modes }, regrade = { "string", optional = true, one_of = grade.modes },
  page = { "string", optional = true }, samples = { "integer", 1, min = 1, max = 4096 },
  template = { "string", "auto", one_of = templates.names },
  critiques = { "integer", 0, min = 0, max = 4096 }, critique_form = { "string", "paper", one_of = critics.forms },
  critic_template = { "string", "auto", one_of = critics.templates }, critique_max_new = { "integer", optional = true, min = 1 },
  stop = { "string", optional = true, list = true, fits = function(v) if v == "" then return "a text that is not empty" end end },
  max_new = { "integer", optional = true, min = 1 },
  dtype = { "string", "auto", one_of = { "auto", "f32", "bf16" } }, device = { "string", "cpu", fits = check.device },
  memory = { "string", optional = true, fits = function(v) if not format.size(v) then return "a size, as 2GiB" end end },
  help = { "boolean", false },
}
for _, name in ipairs { "temperature", "top_k", "top_p", "min_p", "penalty", "seed" } do specs[name] = generate.sampling[name] end
for name, spec in pairs(generate.engine) do specs[name] = specs[name] or spec end

local function refuse(...) exit.fail(exit.USAGE, "eval: " .. (...), select(2, ...)) end

-- Options that were said, by how they are written.
local function said(args)
  local set = {}
  for _, a in ipairs(args) do
    local name = a:match "^%-%-([%a-]+)"
    if name then set[name] = true end
  end
  return set
end

-- Of these options only some are heard with results; others would do nothing.
local function only(set, form, allowed)
  for name in pairs(set) do
    if not allowed[name] then refuse("--%s is not for %s", name, form) end
  end
end

local function parse(args)
  local o, set = arguments("eval", args, specs, { "model", "second" }), said(args)
  if not o.model then refuse "a model is wanted: cftrun eval MODEL --bench gsm8k, or a file of results" end
  o.results = o.model:find "%.jsonl$" ~= nil or o.model:find "%.jsonl%.part$" ~= nil
  if o.results and o.second then
    only(set, "a comparison", { page = true, regrade = true, bench = true, seed = true })
  elseif o.results then
    only(set, "a file of results", { page = true, regrade = true, out = true, bench = true })
    if o.out and not o.regrade then refuse "--out wants --regrade, or there is nothing new to write" end
  else
    if o.second then refuse("unknown argument '%s'", o.second) end
    if o.regrade then refuse "--regrade is for a file of results; --grade chooses how a model's answers are graded" end
    if not o.bench then refuse("--bench is wanted: one or more of %s", table.concat(benchmarks.names, ", ")) end
    if o.samples > 1 and o.temperature == 0 then
      refuse("--samples %d wants a --temperature above 0: at 0 all of them are the same", o.samples)
    end
    if o.critiques > 1 and o.temperature == 0 then
      refuse("--critiques %d wants a --temperature above 0: at 0 all of them are the same", o.critiques)
    end
    for _, name in ipairs { "critique-form", "critic-template", "critique-max-new" } do
      if set[name] and o.critiques == 0 then refuse("--%s wants --critiques", name) end
    end
  end
  o.memory = o.memory and format.size(o.memory)
  return o
end

local function benches_of(text, critiques)
  local list, seen = {}, {}
  for name in text:gmatch "[^,]+" do
    if not benchmarks.known(name) then
      refuse("no benchmark '%s'%s; there are %s, or the path of a Lua file", name, check.suggestion(name, benchmarks.names),
             table.concat(benchmarks.names, ", "))
    end
    if name:find "%.lua$" and host.kind(name) ~= "file" then refuse("--bench %s: there is no such file", name) end
    local bench = benchmarks.get(name)
    if critiques > 0 and bench.no_votes then
      refuse("--critiques weigh equal answers, and no two answers of %s are equal; leave it out", bench.name)
    end
    if seen[bench.name] then refuse("--bench names %s twice", bench.name) end
    seen[bench.name], list[#list + 1] = true, bench
  end
  if #list == 0 then refuse "--bench names no benchmark" end
  return list
end

-- A page takes the place of an older page, and of nothing else: what cannot be is said before anything is done.
local function check_page(path, out)
  if out and data.real(path) == data.real(out) then refuse "--page and --out are the same file" end
  if host.kind(path) == "folder" then refuse("--page %s is a folder; a file is wanted", path) end
  local file = io.open(path, "rb")
  local head = file and file:read(15) or ""
  if file then file:close() end
  if head ~= "" and head:lower() ~= "<!doctype html>" then
    refuse("--page %s is there already, and is no page; name another file", path)
  end
end

local function load(o)
  local model = load_model("eval", o)
  local tok = prompts.tokenizer_of(model)
  if not tok then refuse "the model came without a tokenizer, and problems are texts" end
  return model, tok
end

local function name_of(path) return (path:gsub("/+$", ""):match "([^/]+)$":gsub("%.gguf$", "")) end

local function measure(o)
  local benches = benches_of(o.bench, o.critiques)
  o.out = o.out or name_of(o.model) .. "-eval.jsonl"
  o.n = o.samples
  if o.page then check_page(o.page, o.out) end
  local problems = eval.problems(benches, o)  -- before the model is loaded: what is missing is said at once
  local model, tok = load(o)
  local result = eval.to_file(model, tok, benches, problems, o, show.progress(benches, problems))
  show.scores(result)
  print(("results: %s"):format(texts.printable(o.out)))
  if o.page then eval.page(o.page, { result }) end
end

-- Leave only these benchmarks in a file's results.
local function keep(result, benches)
  local names, kept, told = {}, {}, {}
  for i, bench in ipairs(benches) do
    if not result.entries[bench.name] then
      refuse("%s has no results of %s; it has %s", result.path, bench.name, table.concat(result.names, ", "))
    end
    names[i], kept[bench.name] = bench.name, result.entries[bench.name]
    told[bench.name] = type(result.head.benches) == "table" and result.head.benches[bench.name] or nil
  end
  result.names, result.entries, result.head.benches = names, kept, told
end

local function results(o)
  local benches = o.bench and benches_of(o.bench, 0)
  if o.page then check_page(o.page, o.out) end
  local list = { eval.read(o.model), o.second and eval.read(o.second) or nil }
  for _, result in ipairs(list) do
    if benches then keep(result, benches) end
    if o.regrade then eval.regrade(result, o.regrade) end
    show.scores(result)
  end
  if o.second then show.comparison(list[1], list[2], o.seed) end
  if o.out then eval.write(list[1], o.out) end
  if o.page then eval.page(o.page, list) end
end

--- @tab args
function M.run(args)
  for _, a in ipairs(args) do
    if a == "--help" or a == "-h" then
      local function line(list) return table.concat(list, ", ") end
      return print(HELP:format(line(benchmarks.names):gsub("theoremqa, ", "theoremqa,\n                       "), line(grade.modes),
                               line(templates.names), line(critics.forms), line(critics.templates), critics.MAX_NEW))
    end
  end
  local o = parse(args)
  if o.results then return results(o) end
  measure(o)
end

return M
