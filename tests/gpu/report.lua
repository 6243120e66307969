--- Write docs/gpu-report.md from what tests/gpu/check.sh left:  cftrun tests/gpu/report.lua FOLDER FILE
-- FOLDER has correct.log, info.json, doctor.txt, bench.jsonl, first.jsonl (matmuls with the heuristic's first
-- algorithm), steps.jsonl, trace.log, pytorch.jsonl; what is missing is said to be missing. No number stands in the report
-- that was not measured.

local json = require "cft.base.json"

local folder, out = arg[1], arg[2]

local function read(name)
  local f = io.open(folder .. "/" .. name)
  if not f then return nil end
  local text = f:read "*a"
  f:close()
  return text
end
local function data(name)
  local text = read(name)
  local ok, value = pcall(json.decode, text or "")
  return ok and value or nil
end
-- A file of an object a line; one that is torn is left out.
local function rows_of(name)
  local list = {}
  for line in (read(name) or ""):gmatch "[^\n]+" do
    local ok, row = pcall(json.decode, (line:gsub("^json ", "")))
    if ok and type(row) == "table" then list[#list + 1] = row end
  end
  return #list > 0 and list or nil
end

local lines = {}
local function say(format, ...) lines[#lines + 1] = select("#", ...) > 0 and format:format(...) or format end

local info = data "info.json" or {}
say "# What a card showed"
say ""
say("Written by `tests/gpu/check.sh`. Card: %s. Driver: %s. Date: %s. Commit: %s.", info.gpu or "unknown",
    info.driver or "unknown", info.date or "unknown", info.commit or "unknown")
if info.emulated == 1 then say "A dry run on the emulated device: no GPU was there, and the times mean nothing." end
say ""

local doctor = read "doctor.txt"
if doctor then
  say "```"
  for line in doctor:gmatch "[^\n]+" do say("%s", line) end
  say "```"
  say ""
end

say "## Correct"
say ""
local correct = read "correct.log"
if correct then
  say "| suite | result |"
  say "|---|---|"
  for suite, result in correct:gmatch "suite ([^\n]-): ([^\n]*)" do say("| %s | %s |", suite, result) end
  local failures = {}
  for line in correct:gmatch "[^\n]*FAIL[^\n]*" do failures[#failures + 1] = line end
  if #failures > 0 then
    say ""
    say "Failed:"
    say ""
    say "```"
    for i = 1, math.min(#failures, 40) do say("%s", failures[i]) end
    say "```"
  end
else
  say "Not run."
end
say ""

say "## Kernels against their floors"
say ""
local bench, first = rows_of "bench.jsonl", rows_of "first.jsonl"
local ceiling = 0  -- FLOPs a second, of the best matmul
for _, r in ipairs(bench or {}) do
  if r.section == "matmul" then ceiling = math.max(ceiling, r.flops / r.seconds) end
end
local before = {}
for _, r in ipairs(first or {}) do before[r.section .. r.name] = r.seconds end
if bench then
  say "| what | us | rate | share of the floor | heuristic's first, us |"
  say "|---|---|---|---|---|"
  for _, r in ipairs(bench) do
    local rate = r.flops > 0 and ("%.0f TFLOP/s"):format(r.flops / r.seconds / 1e12)
      or ("%.0f GB/s"):format(r.bytes / r.seconds / 1e9)
    local floor = r.section == "matmul" and r.flops / ceiling or r.floor_seconds
    local share = floor > 0 and ("%.0f%%"):format(100 * floor / r.seconds) or ""
    local was = before[r.section .. r.name]
    say("| %s | %.1f | %s | %s | %s |", r.name, r.seconds * 1e6, rate, share,
        was and r.section == "matmul" and ("%.1f"):format(was * 1e6) or "")
  end
else
  say "Not run."
end
say ""

say "## A step, op by op"
say ""
local traced = read "trace.log"
if traced then
  say "```"
  for line in traced:gmatch "[^\n]+" do say("%s", line) end
  say "```"
else
  say "Not run."
end
say ""

say "## Training steps"
say ""
local steps, theirs = rows_of "steps.jsonl", rows_of "pytorch.jsonl"
if steps and #steps > 0 then
  say "| model | tokens a step | micro-batches | length | states | loss tokens | tok/s | TFLOP/s | of the matmul ceiling | micro-batch ms | optimizer ms | peak GiB | reserved GiB |"
  say "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
  for _, r in ipairs(steps) do
    say("| %s | %d | %d | %d | %s | %.0f%% | %.0f | %.1f | %s | %.1f | %.1f | %.1f | %.1f |", r.model, r.tokens, r.accumulate,
        r.length, r.states, 100 * r.learned, r.tokens_per_s, r.flops_per_s / 1e12,
        ceiling > 0 and ("%.0f%%"):format(100 * r.flops_per_s / ceiling) or "", 1e3 * r.micro_batch_seconds,
        1e3 * r.optimizer_seconds, r.peak_bytes / 2 ^ 30, r.reserved_bytes / 2 ^ 30)
  end
else
  say "Not run."
end
say ""
if theirs then
  say "The same in PyTorch (transformers with SDPA, bf16), side by side:"
  say ""
  say "| model | tokens | tok/s |"
  say "|---|---|---|"
  for _, r in ipairs(theirs) do say("| %s | %d | %.0f |", r.model, r.tokens, r.tokens_per_s) end
else
  say "PyTorch is not installed on that machine: nothing to put beside it."
end

require "cft.io.files".write(out, table.concat(lines, "\n") .. "\n")  -- whole: it is written again after each suite
