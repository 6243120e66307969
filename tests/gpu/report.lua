--- Write docs/gpu-report.md from what tests/gpu/check.sh left:  cftrun tests/gpu/report.lua FOLDER FILE
-- FOLDER has correct.log, info.json, bench.json, first.json (matmuls with the heuristic's first
-- algorithm), steps.json, pytorch.json; what is missing is said to be missing. No number stands in the
-- report that was not measured.

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
  return text and text ~= "" and json.decode(text) or nil
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
local bench, first = data "bench.json", data "first.json"
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

say "## Training steps"
say ""
local steps, theirs = data "steps.json", data "pytorch.json"
if steps and #steps > 0 then
  say "| model | tokens | length | loss tokens | tok/s | TFLOP/s | of the matmul ceiling | peak GiB |"
  say "|---|---|---|---|---|---|---|---|"
  for _, r in ipairs(steps) do
    say("| %s | %d | %d | %.0f%% | %.0f | %.1f | %s | %.1f |", r.model, r.tokens, r.length, 100 * r.learned,
        r.tokens_per_s, r.flops_per_s / 1e12,
        ceiling > 0 and ("%.0f%%"):format(100 * r.flops_per_s / ceiling) or "", r.peak_bytes / 2 ^ 30)
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

local f = assert(io.open(out, "w"))
f:write(table.concat(lines, "\n"), "\n")
f:close()
print("written: " .. out)
