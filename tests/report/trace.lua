-- `--trace FILE`: which steps, which file, and what is in it. docs/trace.md has the format.
local cft = require "cft"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local step = require "cft.cli.bench.step"
local tables = require "cft.report.trace.table"
local tensor = require "cft.engine.tensor"
local trace = require "cft.engine.trace"
local traces = require "cft.report.trace"

-- A run of three steps; FAILS names one after which the recipe raises, STOPS one that it makes the last.
local SCRIPT = process.write(process.folder() .. "/r.lua", [[
local cft = require "cft"
local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024, steps = 3,
                         lr = 1e-3, heldout = 8, device = "cpu", dtype = "f32" }
local function is(t, name) return t.step == tonumber(os.getenv(name) or 0) end
cft.recipe.run(cfg, { name = "r", tokenizer = cft.demo.words, model = cft.demo.tiny,
  fields = function(r) return { instruction = r.question, output = r.answer } end,
  after_step = function(_, t) if is(t, "FAILS") then error "that is it" end end, stop = function(t) return is(t, "STOPS") end })
]])

local function run_with(env, ...) return process.cftrun { SCRIPT, env = env, ... } end
local function run(...) return run_with({}, ...) end

-- An event of the Trace Event Format as Perfetto reads it: the fields that each kind must have, of the right type.
local function check_event(e)
  expect.truthy(type(e.name) == "string" and #e.name > 0 and e.pid == 1 and type(e.tid) == "number", e.name)
  if e.ph == "M" then
    local field = e.name:match "_name$" and "name" or "sort_index"
    return expect.truthy(e.args[field] ~= nil, e.name)
  end
  expect.same(e.ph, "X")
  expect.truthy(type(e.ts) == "number" and type(e.dur) == "number" and e.dur >= 0 and type(e.cat) == "string", e.name)
end

-- A file's events by track, each track's in order: they hold each other or follow each other.
local function read(path)
  local file = assert(json.decode(process.contents(path)))
  local tracks, names = {}, {}
  for _, e in ipairs(file.traceEvents) do
    check_event(e)
    if e.name == "thread_name" then names[e.tid] = e.args.name end
    if e.ph == "X" then
      tracks[e.tid] = tracks[e.tid] or {}
      table.insert(tracks[e.tid], e)
    end
  end
  for tid, list in pairs(tracks) do
    expect.truthy(names[tid], "track " .. tid .. " has a name")
    table.sort(list, function(a, b)
      if a.ts ~= b.ts then return a.ts < b.ts end
      return a.dur > b.dur
    end)
    local open = {}
    for _, e in ipairs(list) do
      while open[1] and e.ts >= open[#open] - 0.002 do table.remove(open) end
      expect.truthy(not open[1] or e.ts + e.dur <= open[#open] + 0.002, e.name .. " ends in what it began in")
      open[#open + 1] = e.ts + e.dur
    end
  end
  return tracks, names, file
end

local function spans(list)
  local seen = {}
  for _, e in ipairs(list) do seen[e.name] = (seen[e.name] or 0) + 1 end
  return seen
end

return {
  { "a run's steps, with their spans and every op; its table comes at the end", function()
    local folder = process.folder()
    local path = folder .. "/new folder/t.json"
    local r = run("out=" .. folder .. "/run", "--trace", path)
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nheld%-out.*\ntrace: steps 2 to 3 on cpu\n  op  +shape .*\n  matmul f32 .*%d nt  .*%%\n.*"
      .. "  %d+ calls of ops: %d%.%d+ s of %d%.%d+ s, [%d.]+%%; at the floor .*\n  floor: a large copy [%d.]+ GB/s; .*\n"
      .. "trace: " .. path:gsub("%p", "%%%0") .. " is for ui%.perfetto%.dev")
    local tracks, names, file = read(path)
    expect.same(names, { "run", [3] = "cpu" })
    local seen = spans(tracks[1])
    expect.same({ seen["step 1"], seen["step 2"], seen["step 3"], seen.forward, seen.backward, seen.optimizer, seen["held out"] },
                { nil, 1, 1, 2, 2, 2, 1 })
    expect.same({ seen.save, seen["wait for the device, and read losses"], seen["step closed: measures, log, save"] }, { 1, 2, 2 })
    expect.truthy(seen.samples >= 1)
    local ops = spans(tracks[3])
    for _, name in ipairs { "matmul", "attention_fwd", "attention_bwd", "rmsnorm_bwd", "adamw", "cross_entropy" } do
      expect.truthy(ops[name] and ops[name] >= 2, name)
    end
    expect.truthy(file.otherData.copy_bytes_per_s > 0 and file.otherData.calls_not_noted == 0)
  end },
  { "the steps that are asked for; refused where the run has none such", function()
    local folder = process.folder()
    local r = run("out=" .. folder .. "/run", "--trace", folder .. "/t.json", "--trace-steps", "1")
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\ntrace: step 1 on cpu\n")
    expect.same(spans(read(folder .. "/t.json")[1])["step 1"], 1)
    local function refused(message, ...)
      local x = run(...)
      expect.same({ x.code, (x.err:gsub("^cftrun: ", "")) }, { 2, message .. "\n" })
    end
    refused("--trace-steps wants steps such as 3-5 or 12, from 1, got '3-2'", "--trace", "x", "--trace-steps", "3-2")
    refused("--trace-steps wants steps such as 3-5 or 12, from 1, got '0'", "--trace", "x", "--trace-steps", "0")
    local one = run("out=" .. folder .. "/a", "--trace", folder .. "/none.json", "--trace-steps", "2-4")
    expect.same({ one.code, host.kind(folder .. "/none.json") }, { 2, nil })
    expect.match(one.err, "^cftrun: .*%-%-trace%-steps 2%-4: this run makes steps 1 to 3\n$")
    expect.same(host.kind(folder .. "/a/run.json"), nil)
    local alone = run("out=" .. folder .. "/b", "--trace-steps", "2")
    expect.same(alone.code, 2)
    expect.match(alone.err, "%-%-trace%-steps: nothing reads it: %-%-trace FILE says where to\n$")
    local preview = run("--preview", "1", "--trace", "x")
    expect.same(preview.code, 2)
    expect.match(preview.err, "%-%-trace is of steps, and %-%-preview makes none\n$")
  end },
  { "a file that cannot be written is said before the run", function()
    local folder = process.folder()
    process.write(folder .. "/there", "mine")
    local function refused(code, message, path)
      local r = run("out=" .. folder .. "/run", "--trace", path)
      expect.same(r.code, code)
      expect.match(r.err, message)
      expect.same({ host.kind(folder .. "/run/run.json"), r.out:find "step 1/3" }, {})
    end
    refused(2, "%-%-trace: .*/there is there already; remove it, or name another file\n$", folder .. "/there")
    refused(2, "is there already", folder)
    refused(1, "%-%-trace: make folder .*/there: File exists\n$", folder .. "/there/t.json")
    refused(1, "%-%-trace: write '.*/': this names no file", folder .. "/no/")
    expect.same(process.contents(folder .. "/there"), "mine")
  end },
  { "a run that ends before, or in between, has what there is; a run's own file is not overwritten", function()
    local folder = process.folder()
    local out = "out=" .. folder .. "/run"
    local r = run_with({ STOPS = "2" }, out, "--trace", folder .. "/a.json", "--trace-steps", "2-3")
    expect.match(r.out, "\ntrace: step 2 on cpu\n")
    expect.same(spans(read(folder .. "/a.json")[1])["step 2"], 1)
    r = run_with({ STOPS = "2" }, out, "--overwrite", "--trace", folder .. "/b.json", "--trace-steps", "3")
    expect.same(r.code, 0)
    expect.match(r.out, "\ntrace: none, the run ended before step 3\n")
    expect.same(host.kind(folder .. "/b.json"), nil)
    r = run_with({ FAILS = "2" }, out, "--overwrite", "--trace", folder .. "/c.json")
    expect.same(r.code, 1)
    expect.match(r.out, "\ntrace: step 2, which did not end, on cpu\n")
    read(folder .. "/c.json")
    r = run_with({}, out, "--overwrite", "--trace", folder .. "/run/../run/summary.json")
    expect.same(r.code, 2)
    expect.match(r.err, "%-%-trace .*summary%.json: the run writes its own summary%.json there; name another file\n$")
  end },
  { "rows are calls of one op and shape; shares are of the whole time, and of what the device reaches", function()
    trace.start(tensor.device "cpu")
    local x = cft.ones { 1000 }
    for _ = 1, 3 do x:fill_(2) end
    cft.ones({ 8, 8 }):matmul(cft.ones { 8, 8 })
    local t = trace.stop()
    expect.same(tables.dtypes(t), { "f32" })
    local rows = tables.rows(t, { copy = 1e6, flops = { f32 = 1e3 } })
    local by, sum, calls = {}, 0, 0
    for _, row in ipairs(rows) do
      by[row.op .. " " .. row.shape], sum, calls = row, sum + row.seconds, calls + row.calls
      expect.close(row.share, row.seconds / rows.whole, 1e-9)
    end
    expect.close(sum, rows.seconds, 1e-9)
    expect.same(calls, t.count)
    expect.same({ by["fill 1000"].calls, by["fill 1000"].bytes }, { 4, 16000 })
    expect.close(by["fill 1000"].of_floor, 16000 / 1e6 / by["fill 1000"].seconds, 1e-9)
    local m = by["matmul 8 x 8 x 8 nn"]
    expect.close(m.of_floor, 1024 / 1e3 / m.seconds, 1e-9)
    for i = 2, #rows do expect.truthy(rows[i - 1].seconds >= rows[i].seconds) end
    for _, row in ipairs(tables.rows(t)) do expect.same(row.of_floor, nil) end
    local text = {}
    tables.say(tables.rows(t), nil, function(...) text[#text + 1] = (...):format(select(2, ...)) end)
    expect.match(table.concat(text, "\n"), "\n  fill f32  +1000  +4  .*\n  %d+ calls of ops: [%d.]+ s of [%d.]+ s, [%d.]+%%$")
  end },
  { "cftrun bench traces steps of one dtype", function()
    local path = process.folder() .. "/t.json"
    local function bench(...)
      return process.cftrun { "bench", "--model", "demo", "--tokens", "64", "--length", "32", "--seconds", "0", "--trace", path, ... }
    end
    local r = bench("--dtype", "f32", "--json")
    expect.same({ r.code, r.err }, { 0, "" })
    local made = json.decode(r.out).runs[1].trace
    local tracks = read(path)
    local seen, calls, flops = spans(tracks[1]), 0, 0
    expect.same({ seen["step 1"], seen["step 3"], seen["step 4"], seen.forward, seen.backward, seen.optimizer }, { 1, 1, nil, 3, 3, 3 })
    for _, row in ipairs(made.rows) do calls, flops = calls + row.calls, flops + row.flops end
    expect.same({ calls, made.not_noted, made.path }, { #tracks[3], 0, path })
    local model = step.model("demo", "f32", "cpu")
    expect.close(flops, 3 * step.arithmetic(model.config, step.batch(model.config.vocab, 64, 1, { 32 }), true), 1e-3)
    model:release()
    r = bench("--dtype", "f32")
    expect.same(r.code, 2)
    expect.match(r.err, "is there already")
    for _, more in ipairs { { "--dtype", "f32,bf16" }, { "--keep", path .. ".k" } } do
      r = bench(unpack(more))
      expect.same(r.code, 2)
    end
  end },
  { "which steps a text means", function()
    for text, want in pairs { ["3"] = { 3, 3 }, ["2-5"] = { 2, 5 }, ["5-5"] = { 5, 5 } } do
      expect.same({ traces.steps(text) }, want)
    end
    for _, text in ipairs { "", "0", "5-2", "-3", "1-", "a", "1-2-3", "1.5", ("9"):rep(30) } do
      expect.same({ traces.steps(text) }, {}, text)
    end
  end },
}
