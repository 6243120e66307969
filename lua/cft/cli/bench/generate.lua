--- measure generation: prompts that are read, and tokens a second of one sequence and of many
--
--   cftrun bench generate [--model PATH|NAME] [--dtype f32,bf16] [--batch 1,32] [--prompt 512] [--new 24] [--rounds 5]
--                         [--device cpu] [--json]
--   cftrun bench generate --job 64 [--memory GIB] [--model PATH|NAME] [--dtype bf16] [--device cpu] [--json]
--
-- Decoding: a round is a batch of sequences of 16 tokens that each write `--new`; a step writes a token of each. Reading: a
-- round reads one prompt. Best and median are of the steps, or the prompts, of all rounds, after one to warm up. Beside a
-- step stand the bytes of weights, keys and values that it must read, against a large copy of the same minute, and its
-- multiply-adds against the burst. A job: that many sequences at once, 100 to 1,024 tokens read and as many written at
-- temperature 0.6, keys and values in `--memory` (1 GiB); tokens a second of each ten seconds. docs/performance.md has what other engines make of the same.

local arguments = require "cft.cli.arguments"
local autograd = require "cft.engine.autograd"
local check = require "cft.base.check"
local engines = require "cft.generate.engine"
local exit = require "cft.base.exit"
local host = require "cft.host"
local json = require "cft.base.json"
local rates = require "cft.engine.rates"
local shares = require "cft.cli.bench.shares"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local NAME = ...  -- of this module: its first comment is the help

local M = {}

local SHORT = 16  -- tokens of a prompt where decoding is measured

local spec = {
  model = { "string", "smollm2-135m" }, dtype = { "string", "auto" }, batch = { "string", "1,32" },
  prompt = { "integer", 512, min = 1 }, new = { "integer", 24, min = 2 }, rounds = { "integer", 5, min = 1 },
  device = { "string", "cpu", fits = check.device }, json = { "boolean", false },
  job = { "integer", 0, min = 0, max = 4096 }, memory = { "number", 1, min = 0.01 },
}

local function request(vocab, length, new, number)
  local prompt = {}
  for i = 1, length do prompt[i] = (i * 37 + number * 101) % vocab end
  return { prompt = prompt, n = 1, max_new = new, stop = {}, top = 0, temperature = 0, top_k = 0, top_p = 1, min_p = 0,
           penalty = 1, seed = 0, sequence = number }
end

-- Seconds of each step that writes a token of each of `batch` sequences; of the step that reads, where new is 1.
local function round(model, batch, length, new)
  local engine = engines.new(model, { pages = batch * math.ceil((length + new) / 32 + 1), batch = batch,
                                      chunk = batch * length })
  local seconds = {}
  for b = 1, batch do engine:add(request(model.config.vocab, length, new, b)) end
  while engine:busy() do
    local began = host.now()
    engine:step()
    if #seconds > 0 or new == 1 or engine.counts.steps > 1 then seconds[#seconds + 1] = host.now() - began end
  end
  engine:release()
  return seconds
end

local function measured(model, batch, length, new, rounds)
  local all = {}
  round(model, batch, length, new)
  for _ = 1, rounds do
    for _, s in ipairs(round(model, batch, length, new)) do all[#all + 1] = s end
  end
  return math.min(unpack(all)), step.median(all)
end

-- What one step must read and compute at least: all matrices once, keys and values of each sequence.
local function needs(model, batch, length)
  local c, weights = model.config, 0
  for _, g in ipairs(model.groups) do
    for _, e in ipairs(g.entries) do
      -- an embedding that is no head is read by the row
      if #e.dims == 2 and (e.key ~= "table" or c.tied) then weights = weights + e.dims[1] * e.dims[2] end
    end
  end
  local size = model.dtype == "bf16" and 2 or 4
  local cache = batch * length * 2 * c.kv_heads * c.head_dim * c.layers
  return (weights + cache) * size, 2 * batch * weights + 4 * batch * length * c.heads * c.head_dim * c.layers
end

local function one(dtype, o, say)
  local model = step.model(o.model, dtype, tensor.default_device())
  local copy, burst = shares.copy(), rates.burst(dtype)
  local run = { dtype = dtype, copy = copy, burst = burst, decode = {} }
  say("%s in %s: a copy %.1f GB/s, a burst %.0f GFLOP/s", o.model, dtype, copy / 1e9, burst / 1e9)
  for _, batch in ipairs(o.batches) do
    local best, median = measured(model, batch, SHORT, o.new, o.rounds)
    local bytes, flops = needs(model, batch, SHORT + o.new / 2)
    table.insert(run.decode, { batch = batch, best = best, median = median, bytes = bytes, flops = flops })
    say("  decode, batch %3d: best %7.2f ms a step, %7.1f tok/s (median %.2f ms); %5.1f GB/s read, %3.0f%% of the copy; "
        .. "%5.1f GFLOP/s, %3.0f%% of the burst", batch, best * 1e3, batch / best, median * 1e3, bytes / best / 1e9,
        100 * bytes / best / copy, flops / best / 1e9, 100 * flops / best / burst)
  end
  local best, median = measured(model, 1, o.prompt, 1, o.rounds)
  local _, flops = needs(model, o.prompt, o.prompt / 2)
  local head = model.config.vocab * model.config.d
  flops = flops - 2 * (o.prompt - 1) * head  -- one row reaches the head
  run.prefill = { tokens = o.prompt, best = best, median = median, flops = flops }
  say("  read %d tokens: best %.1f ms, %.0f tok/s (median %.1f ms); %.0f GFLOP/s, %.0f%% of the burst", o.prompt, best * 1e3,
      o.prompt / best, median * 1e3, flops / best / 1e9, 100 * flops / best / burst)
  model:release()
  return run
end

local SLICE = 10  -- seconds that a line of a job sums up

-- Lengths of a job's sequence `i` of `n`: spread over 100 to 1,024, those read in another order than those written.
local function lengths(i, n)
  local function spread(k) return 100 + math.floor(924 * (k % n) / math.max(n - 1, 1)) end
  return spread(i * 7), spread(i * 11 + 3)
end

local function job(dtype, o, say)
  local model = step.model(o.model, dtype, tensor.default_device())
  local pages = math.floor(o.memory * 2 ^ 30 / engines.page_bytes(model))
  local engine = engines.new(model, { pages = pages, batch = o.job, chunk = 512 })
  local run = { dtype = dtype, sequences = o.job, pages = pages, slices = {} }
  local written, read = 0, 0
  for i = 1, o.job do
    local prompt, new = lengths(i, o.job)
    local r = request(model.config.vocab, prompt, new, i)
    r.temperature, r.token = 0.6, function(_, id) if id then written = written + 1 end end
    engine:add(r)
    read = read + prompt
  end
  say("%d sequences in %s, %d tokens read and then each 100 to 1,024 written, %d pages (%.2f GiB)", o.job, dtype, read, pages,
      o.memory)
  local began, since, before = host.now(), host.now(), 0
  local function slice()
    local now = host.now()
    table.insert(run.slices, { seconds = now - began, rate = (written - before) / (now - since), running = #engine.running })
    say("  at %5.1f s: %6.0f tok/s written, %d sequences", now - began, run.slices[#run.slices].rate, #engine.running)
    since, before = now, written
  end
  while engine:busy() do
    engine:step()
    if host.now() - since >= SLICE then slice() end
  end
  run.seconds, run.read, run.written = host.now() - began, read, written
  run.preempted, run.steps = engine.counts.preempted, engine.counts.steps
  say("  all: %.1f s, %d tokens written, %.0f tok/s (%.0f with those read), %d steps, %d preempted", run.seconds, written,
      written / run.seconds, (read + written) / run.seconds, run.steps, run.preempted)
  engine:release()
  model:release()
  return run
end

local function help()
  for line in host.source(NAME):gmatch "[^\n]*" do
    local text = line:match "^%-%-%-?%s?(.*)$"
    if text then print(text) elseif line ~= "" then break end
  end
end

--- @tab args
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then return help() end
  local o = arguments("bench generate", args, spec)
  o.batches = {}
  for word in (o.batch .. ","):gmatch "(.-)," do
    local n = tonumber(word)
    local problem = check.problem(n or word, { "integer", min = 1, max = 4096 })
    if problem then exit.fail(exit.USAGE, "bench generate: --batch %s", problem) end
    o.batches[#o.batches + 1] = n
  end
  local device = tensor.default_device(o.device)
  local results = { device = tensor.device_name(device), description = tensor.device_description(device), model = o.model,
                    runs = {} }
  local function say(...) if not o.json then print((...):format(select(2, ...))) end end
  say("device %s: %s", results.device, results.description)
  if o.dtype == "auto" then o.dtype = tensor.best_dtype(device) end
  for dtype in o.dtype:gmatch "[^,]+" do
    if dtype ~= "f32" and dtype ~= "bf16" then exit.fail(exit.USAGE, "bench generate: --dtype %s; f32 or bf16 wanted", dtype) end
    results.runs[#results.runs + 1] = autograd.no_grad(o.job > 0 and job or one, dtype, o, say)
  end
  if o.json then print(json.encode(results, { indent = 2 })) end
end

return M
