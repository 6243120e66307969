--- measure ops and the training step at a model's shapes
--
--   cftrun bench [--model PATH|NAME] [--dtype f32,bf16] [--tokens 2048] [--length 512 | --lengths 1099,517,...]
--                [--learned 1] [--against pytorch] [--device cpu] [--seconds 2] [--json]
--   cftrun bench [...] --trace FILE   make three steps more, and show each op of them: a table, and FILE for Perfetto
--   cftrun bench [...] --keep FILE    measure each op's share of the burst, or of a copy, and write it to FILE
--   cftrun bench [...] --check FILE   measure again and name the ops that lost more than a tenth of it: exit code 1
--                                     then, 0 otherwise; 2 for a FILE of another machine, instruction set or shape
--   cftrun bench tokenizer ...        see docs/tokenizer.md
--   cftrun bench generate ...         prompts read and tokens written a second
--
-- Ratios of one run are what counts: machines differ, and so does one machine from hour to hour. Matmuls are
-- compared with oneDNN's where cft was built beside libdnnl-dev. docs/performance.md says how to read it all.

local arguments = require "cft.cli.arguments"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local host = require "cft.host"
local json = require "cft.base.json"
local format = require "cft.base.format"
local onednn = require "cft.cli.bench.onednn"
local rates = require "cft.engine.rates"
local shares = require "cft.cli.bench.shares"
local save = require "cft.io.save"
local safetensors = require "cft.io.safetensors"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"
local texts = require "cft.base.text"
local traces = require "cft.report.trace"

local NAME = ...  -- of this module: its first comment is the help

local M = {}

local TRACED = 3  -- steps

local spec = {
  model = { "string", "smollm2-135m" }, dtype = { "string", "auto" }, tokens = { "integer", 2048, min = 1 },
  length = { "integer", 512, min = 1 }, lengths = { "string", "" }, learned = { "number", 1, min = 0, max = 1 },
  against = { "string", "", one_of = { "", "pytorch" } }, device = { "string", "cpu", fits = check.device },
  seconds = { "number", 2, min = 0 }, json = { "boolean", false },
  trace = { "string", optional = true }, keep = { "string", optional = true }, check = { "string", optional = true },
}

local function parse(args)
  local o = arguments("bench", args, spec)
  if o.lengths == "" then o.lengths = tostring(o.length) end
  local lengths = {}
  for word in (o.lengths .. ","):gmatch "(.-)," do
    local n = tonumber(word)
    local problem = check.problem(n or word, { "integer", min = 1 })
    if problem then exit.fail(exit.USAGE, "bench: --lengths %s", problem) end
    lengths[#lengths + 1] = n
  end
  o.lengths = lengths
  local name = o.check and "check" or o.keep and "keep"
  if name and o.device ~= "cpu" then
    exit.fail(exit.USAGE, "bench: --%s wants --device cpu: there is no burst of '%s' to hold ops against", name,
              o.device)
  elseif name and o.against ~= "" then
    exit.fail(exit.USAGE, "bench: --%s measures ops alone, --against whole steps; one of the two", name)
  elseif name and o.trace then
    exit.fail(exit.USAGE, "bench: --%s measures ops alone, --trace is of whole steps; one of the two", name)
  elseif o.trace and o.dtype:find "," then
    exit.fail(exit.USAGE, "bench: --trace FILE is of one dtype, got %s", o.dtype)
  end
  if o.trace then traces.refuse(o.trace) end
  return o
end

local function rate(r)
  if r.flops then return ("%8.1f GFLOP/s"):format(r.flops / r.seconds / 1e9) end
  return ("%8.1f GB/s"):format(r.bytes / r.seconds / 1e9)
end

-- ---- the same step in PyTorch ----------------------------------------------------------------

-- What PyTorch reads: the batch as safetensors, the model's config.
local function hand_over(model, sequences, weights, folder)
  local ids, w, cu, n = {}, {}, { 0 }, 0
  for s, list in ipairs(sequences) do
    for j, id in ipairs(list) do
      n = n + 1
      ids[n], w[n] = id, j == 1 and 0 or weights[s][j]
    end
    cu[#cu + 1] = n
  end
  safetensors.write(folder .. "/batch.safetensors", {
    { name = "ids", tensor = tensor.new(ids, { dtype = "i32" }) },
    { name = "cu_seqlens", tensor = tensor.new(cu, { dtype = "i32" }) },
    { name = "weights", tensor = tensor.new(w) },
  })
  save.write(folder .. "/config.json", json.encode(require("cft.models.config").write(model.config, "f32")) .. "\n")
end

local function pytorch(model, sequences, weights, dtype, o)
  local folder = assert(host.temporary_folder())
  hand_over(model, sequences, weights, folder)
  local python = os.getenv "CFT_PYTHON" or "python3"
  local script = os.getenv "CFT_BENCH_PYTORCH" or "tests/oracle/bench_pytorch.py"
  local command = ("%s %s --model %s/config.json --batch %s/batch.safetensors --dtype %s --threads %d --mode best "
    .. "--batching best --head %s"):format(python, script, folder, folder, dtype,
    rates.threads(), o.learned < 1 and "learned" or "all")
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  save.remove(folder)
  local result = json.decode(text)
  if type(result) ~= "table" then
    exit.fail(exit.MISSING, "bench: %s %s gave no result; CFT_PYTHON names a Python with torch and transformers",
              python, script)
  end
  return result
end

-- ---- the command -----------------------------------------------------------------------------

local function percent(part, whole) return ("%3.0f%%"):format(100 * part / whole) end

-- The table of ops; seconds of all.
local function print_ops(rows, burst, o, say)
  say("  %-22s %9s %6s  %16s  %s", "op", "ms", "times", "rate",
      burst and "of the burst" .. (o.onednn and ", of oneDNN's rate" or "") or "")
  local sum = 0
  for _, r in ipairs(rows) do
    sum = sum + r.seconds * r.count
    local shares = {}
    if r.flops and burst then shares[1] = percent(r.flops / r.seconds, burst) end
    if r.onednn then shares[2] = percent(r.onednn, r.seconds) end
    say("  %-22s %9.3f %6.1f  %16s  %s", r.name, r.seconds * 1e3, r.count, rate(r), table.concat(shares, "  "))
  end
  return sum
end

-- What skipping the tokens that have no loss weight brings, against what the arithmetic says.
local function compare_learned(model, batch, whole, o, say)
  local full = step.batch(model.config.vocab, o.tokens, 1, o.lengths)
  local all = step.step(model, full, { seconds = o.seconds })
  local wanted = step.arithmetic(model.config, full, true) / step.arithmetic(model.config, batch, true)
  say("  loss on every token: %.3f s; skipping the rest is %.2f times as fast, %.2f by the arithmetic",
      all.seconds, all.seconds / whole.seconds, wanted)
  return { seconds = all.seconds, ratio = all.seconds / whole.seconds, arithmetic = wanted }
end

local function model_of(dtype, o)
  local model, why = step.model(o.model, dtype, o.device)
  if not model then exit.fail(exit.MISSING, "bench: %s", why) end
  return model
end

local function one(dtype, o, say)
  local model = model_of(dtype, o)
  local batch, sequences, weights = step.batch(model.config.vocab, o.tokens, o.learned, o.lengths)
  say("%s in %s: %d tokens in %d sequences, %d loss tokens", o.model, dtype, batch.n, batch.sequences, batch.m)
  local whole = step.step(model, batch, { seconds = o.seconds, traced = o.trace and TRACED })
  local traced = o.trace and traces.finish(o.trace, model.device)
  local burst = o.device == "cpu" and rates.burst(dtype) or nil
  local rows = step.ops(model, batch, { seconds = o.seconds / 10, onednn = o.onednn })
  local floor = step.floor(rows)
  local in_ops = print_ops(rows, burst, o, say)
  say("  a step: %.3f s, %.0f tok/s; the ops above alone %.3f s", whole.seconds, batch.n / whole.seconds, in_ops)
  say("  floor: %.1f GFLOP of matmuls and attention at %.0f GFLOP/s by %s: %.3f s, %s of the step",
      floor.flops / 1e9, floor.rate / 1e9, floor.by, floor.seconds, percent(floor.seconds, whole.seconds))
  if burst then
    say("  burst of multiply-adds: %.0f GFLOP/s; the floor's rate is %s of it%s", burst / 1e9,
        percent(floor.rate, burst), floor.rate < 0.75 * burst and ", under 75%: that floor is too easy" or "")
  end
  local bound, kept = step.memory_bound(model, batch, whole.held_bytes)
  say("  peak memory %s, of which %s weights, gradients and optimizer state; %d bytes a token and block, "
      .. "and a fifth, would be %s in all", format.bytes(whole.peak_bytes), format.bytes(whole.held_bytes), kept,
      format.bytes(bound))
  local result = { dtype = dtype, tokens = batch.n, learned = batch.m, seconds = whole.seconds,
                   tokens_per_s = batch.n / whole.seconds, floor = floor,
                   share_of_floor = floor.seconds / whole.seconds, burst_flops = burst,
                   peak_bytes = whole.peak_bytes, held_bytes = whole.held_bytes, bound_bytes = bound,
                   loss = whole.loss, ops = rows }
  if o.learned < 1 then result.all_learned = compare_learned(model, batch, whole, o, say) end
  model.config.raw = nil
  local config_model = { config = model.config }
  model:release()
  if o.against == "pytorch" then
    local theirs = pytorch(config_model, sequences, weights, dtype, o)
    result.pytorch = theirs
    result.ratio = result.tokens_per_s / theirs.tokens_per_s
    say("  PyTorch %s, %s: %.0f tok/s, peak %s; cft is %.2f times as fast", tostring(theirs.mode),
        tostring(theirs.batching), theirs.tokens_per_s, format.bytes(theirs.peak_rss_bytes or 0), result.ratio)
  end
  if traced then
    traces.say(traced, ("%d steps in %s"):format(TRACED, dtype), say)
    result.trace = { rows = json.array { unpack(traced.rows) }, seconds = traced.rows.whole, in_ops = traced.rows.seconds,
                     floor = traced.rows.floor, not_noted = traced.rows.lost, path = traced.path or nil }
    if not traced.path then exit.fail(exit.FAILED, "bench: --trace: %s", table.concat(traced.failed, "; ")) end
  end
  return result
end

-- The shares of a dtype, beside those kept.
local function shares_of(dtype, o, kept, say)
  local model = model_of(dtype, o)
  local batch = step.batch(model.config.vocab, o.tokens, o.learned, o.lengths)
  say("%s in %s: %d tokens in %d sequences, %d loss tokens", o.model, dtype, batch.n, batch.sequences, batch.m)
  local list = shares.measure(model, batch, { seconds = o.seconds / 10 }, kept)
  model:release()
  say("  %-22s %9s  %s", "op", "ms", o.check and "share, kept" or "share")
  local by_name = {}
  for _, op in ipairs(list) do
    by_name[op.name] = op.share
    local before = kept[op.name] and percent(kept[op.name], 1) or ""
    say("  %-22s %9.3f  %s of the %-5s %s", op.name, op.seconds * 1e3, percent(op.share, 1), op.of, before)
  end
  local result = shares.compare(kept, list)
  result.dtype, result.shares = dtype, list
  if not o.check then return result, by_name end
  for _, op in ipairs(result.lost) do
    say("  %s in %s lost %.0f%%: %.3f, kept is %.3f", op.name, dtype, 100 * (1 - op.share / op.kept), op.share, op.kept)
  end
  for _, name in ipairs(result.missing) do  -- a foreign file's words
    say("  %s is in %s, but no op of this bench", texts.one_line(name, 80), o.check)
  end
  for _, name in ipairs(result.new) do say("  %s is not in %s", name, o.check) end
  return result, by_name
end

-- Shares of all dtypes: those of a file compared with, these written to one.
local function check_and_keep(dtypes, results, o, say)
  local setting = shares.setting(o)
  local kept, now, lost = o.check and shares.read(o.check, setting, dtypes) or {}, {}, 0
  for i, dtype in ipairs(dtypes) do
    results.runs[i], now[dtype] = shares_of(dtype, o, kept[dtype] or {}, say)
    lost = lost + #results.runs[i].lost
  end
  if o.keep then shares.write(o.keep, setting, now, o.command) end
  if o.json then print(json.encode(results, { indent = 2 })) end
  if not o.check then return say("kept in %s", o.keep) end
  say(lost == 0 and "no op lost more than a tenth of its share"
      or "%d op%s lost more than a tenth of the share in %s", lost, lost == 1 and "" or "s", o.check)
  if lost > 0 then exit.leave(exit.FAILED) end
end

local function help()
  for line in host.source(NAME):gmatch "[^\n]*" do
    local text = line:match "^%-%-%-?%s?(.*)$"
    if text then print(text) elseif line ~= "" then break end
  end
end

function M.run(args)
  if args[1] == "tokenizer" then
    return require("cft.cli.bench.tokenizer").run { unpack(args, 2) }
  elseif args[1] == "generate" then
    return require("cft.cli.bench.generate").run { unpack(args, 2) }
  elseif args[1] == "--help" or args[1] == "-h" then
    return help()
  end
  local o = parse(args)
  o.command = "cftrun bench " .. table.concat(args, " ")
  local device = tensor.default_device(o.device)
  local results = { device = tensor.device_name(device), description = tensor.device_description(device),
                    model = o.model, runs = {} }
  local function say(...) if not o.json then print((...):format(select(2, ...))) end end
  say("device %s: %s", results.device, results.description)
  if o.dtype == "auto" then o.dtype = tensor.best_dtype(device) end
  local dtypes = {}
  for dtype in o.dtype:gmatch "[^,]+" do
    if dtype ~= "f32" and dtype ~= "bf16" then exit.fail(exit.USAGE, "bench: --dtype %s; f32 or bf16 wanted", dtype) end
    dtypes[#dtypes + 1] = dtype
  end
  if o.check or o.keep then return check_and_keep(dtypes, results, o, say) end
  if o.device == "cpu" then
    o.onednn, results.without_onednn = onednn.open()
    if not o.onednn then say("no column of oneDNN: %s", results.without_onednn) end
  end
  for i, dtype in ipairs(dtypes) do results.runs[i] = one(dtype, o, say) end
  if o.json then print(json.encode(results, { indent = 2 })) end
end

return M
