--- measure ops and the training step at a model's shapes
--
--   cftrun bench [--model PATH|NAME] [--dtype f32,bf16] [--tokens 2048] [--length 512] [--learned 1]
--                [--against pytorch] [--device cpu] [--seconds 2] [--json]
--   cftrun bench tokenizer ...      see docs/tokenizer.md
--
-- Ratios of one run are what counts: machines differ, and so does one machine from hour to hour.

local check = require "cft.check"
local exit = require "cft.exit"
local files = require "cft.files"
local json = require "cft.json"
local log = require "cft.log"
local step = require "cft.bench.step"
local tensor = require "cft.tensor"

local M = {}

local spec = {
  model = { "string", "smollm2-135m" }, dtype = { "string", "auto" }, tokens = { "integer", 2048, min = 1 },
  length = { "integer", 512, min = 1 }, learned = { "number", 1, min = 0, max = 1 },
  against = { "string", "", one_of = { "", "pytorch" } }, device = { "string", "cpu" },
  seconds = { "number", 2, min = 0 }, json = { "boolean", false },
}

local function parse(args)
  local o, i = {}, 1
  while i <= #args do
    local name, value = args[i]:match "^%-%-([%a-]+)=?(.*)$"
    if not name or not spec[name] then
      exit.fail(exit.USAGE, "bench: unknown argument '%s'%s", args[i], check.suggestion(name or args[i], spec))
    end
    if spec[name][1] == "boolean" then
      value = true
    else
      if value == "" then
        i = i + 1
        value = args[i] or exit.fail(exit.USAGE, "bench: --%s wants a value", name)
      end
      if spec[name][1] ~= "string" then
        value = tonumber(value) or exit.fail(exit.USAGE, "bench: --%s wants a number, got '%s'", name, value)
      end
    end
    o[name] = value
    i = i + 1
  end
  return check.options("bench", o, spec)
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
  files.write_tensors(folder .. "/batch.safetensors", {
    { name = "ids", tensor = tensor.new(ids, { dtype = "i32" }) },
    { name = "cu_seqlens", tensor = tensor.new(cu, { dtype = "i32" }) },
    { name = "weights", tensor = tensor.new(w) },
  })
  files.write(folder .. "/config.json", json.encode(require("cft.models.config").write(model.config, "f32")) .. "\n")
end

local function pytorch(model, sequences, weights, dtype, o)
  local folder = os.tmpname()
  os.remove(folder)
  hand_over(model, sequences, weights, folder)
  local python = os.getenv "CFT_PYTHON" or "python3"
  local script = os.getenv "CFT_BENCH_PYTORCH" or "tests/oracle/bench_pytorch.py"
  local command = ("%s %s --model %s/config.json --batch %s/batch.safetensors --dtype %s --threads %d --mode best "
    .. "--batching best --head %s"):format(python, script, folder, folder, dtype,
    require("cft.ffi").C.cft_cpu_threads(), o.learned < 1 and "learned" or "all")
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  files.remove(folder)
  local result = json.decode(text)
  if type(result) ~= "table" then
    exit.fail(exit.MISSING, "bench: %s %s gave no result; CFT_PYTHON names a Python with torch and transformers", python, script)
  end
  return result
end

-- ---- the command -----------------------------------------------------------------------------

local function one(dtype, o, say)
  local model = assert(step.model(o.model, dtype, o.device))
  local batch, sequences, weights = step.batch(model.config.vocab, o.tokens, o.length, o.learned)
  say("%s in %s: %d tokens in %d sequences, %d learned", o.model, dtype, batch.n, batch.sequences, batch.m)
  local whole = step.step(model, batch, { seconds = o.seconds })
  local rows = step.ops(model, batch, { seconds = o.seconds / 10 })
  local floor, best = step.floor(rows)
  say("  %-20s %10s %6s  %16s  %s", "op", "ms", "times", "rate", "of the best rate")
  local in_ops = 0
  for _, r in ipairs(rows) do
    in_ops = in_ops + r.seconds * r.count
    say("  %-20s %10.3f %6.1f  %16s  %s", r.name, r.seconds * 1e3, r.count, rate(r),
        r.flops and ("%3.0f%%"):format(100 * r.flops / r.seconds / best) or "")
  end
  say("  a step: %.3f s, %.0f tok/s; ops alone %.3f s; matmuls and attention at their best %.3f s: %.0f%% of the step",
      whole.seconds, batch.n / whole.seconds, in_ops, floor, 100 * floor / whole.seconds)
  say("  peak memory %s, and %s of packed weights", log.bytes(whole.peak_bytes), log.bytes(whole.cache_bytes))
  local result = { dtype = dtype, tokens = batch.n, learned = batch.m, seconds = whole.seconds,
                   tokens_per_s = batch.n / whole.seconds, floor_seconds = floor, share_of_floor = floor / whole.seconds,
                   peak_bytes = whole.peak_bytes, loss = whole.loss, ops = rows }
  model.config.raw = nil
  local config_model = { config = model.config }
  model:release()
  if o.against == "pytorch" then
    local theirs = pytorch(config_model, sequences, weights, dtype, o)
    result.pytorch = theirs
    result.ratio = result.tokens_per_s / theirs.tokens_per_s
    say("  PyTorch %s: %.0f tok/s, peak %s; cft is %.2f times as fast", tostring(theirs.mode or ""),
        theirs.tokens_per_s, log.bytes(theirs.peak_bytes or 0), result.ratio)
  end
  return result
end

function M.run(args)
  if args[1] == "tokenizer" then
    return require("cft.bench.tokenizer").run { unpack(args, 2) }
  end
  local o = parse(args)
  local device = tensor.default_device(o.device)
  local results = { device = tensor.device_name(device), description = tensor.device_description(device),
                    model = o.model, runs = {} }
  local function say(...) if not o.json then print((...):format(select(2, ...))) end end
  say("device %s: %s", results.device, results.description)
  if o.dtype == "auto" then o.dtype = tensor.best_dtype(device) end
  for dtype in o.dtype:gmatch "[^,]+" do
    if dtype ~= "f32" and dtype ~= "bf16" then exit.fail(exit.USAGE, "bench: --dtype %s; f32 or bf16 wanted", dtype) end
    results.runs[#results.runs + 1] = one(dtype, o, say)
  end
  if o.json then print(json.encode(results, { indent = 2 })) end
end

return M
