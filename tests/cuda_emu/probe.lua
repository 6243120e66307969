--- cuDNN's attention where nobody has tried it:  cftrun tests/cuda_emu/probe.lua
-- On a card that is not of sm_90 each kind of call is compared with our kernel on a small problem when it is first asked for.
-- A stand-in that is wrong is named in one line a kind, once, and our kernel has the call: loss and gradients stay the CPU's.

local ffi = require "ffi"
local models = require "cft.models"
local process = require "tests.process"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local SHAPE = { arch = "llama", d = 64, layers = 1, heads = 4, kv_heads = 2, ffn = 96, vocab = 67, theta = 1000, dtype = "bf16",
                seed = 3 }

-- Loss, norm of the gradients and notes, of two steps, on a device.
local function steps(device, deterministic)
  local shape = { device = device }
  for name, value in pairs(SHAPE) do shape[name] = value end
  local model = models.new(shape)
  model.options.deterministic = deterministic
  local batch, notes = step.batch(67, 50, 1, { 31, 7, 12 }), {}
  local loss, norm
  for i = 1, 2 do
    tensor.scope(function()
      model:zero_grad()
      local l = model:loss(batch)
      l:backward()
      loss, norm = l:item(), 0
      for _, g in ipairs(model.groups) do norm = norm + g.grad:cast("f32"):mul(g.grad:cast "f32"):sum():item() end
    end)
    notes[i] = table.concat(tensor.notes(), "\n")
  end
  return loss, math.sqrt(norm), notes
end

if arg[1] == "one" then
  local loss, norm, notes = steps("cuda", arg[2] == "deterministic")
  print(loss, norm)
  print(notes[1])
  print "--"
  print(notes[2])
  return
end

local passed, failed = 0, 0
local function check(ok, what, got)
  print((ok and "ok    " or "FAIL  ") .. what .. (ok and "" or ": " .. got))
  if ok then passed = passed + 1 else failed = failed + 1 end
end

local function count(text, part) return select(2, text:gsub(part, "")) end

local cpu_loss, cpu_norm = steps("cpu", false)
local module = os.getenv "CFT_CUDA_MODULE"
local function case(arch, wrong, kind)
  local r = process.cftrun { "tests/cuda_emu/probe.lua", "one", kind or "ordinary", env = {
    CUDA_EMU_ARCH = tostring(arch), CUDA_EMU_CUDNN_WRONG = wrong and "1" or false, CFT_CUDA_MODULE = module,
    CFT_CACHE = "" } }
  local what = ("sm_%d, cuDNN %s%s"):format(arch, wrong and "wrong" or "right", kind and ", " .. kind or "")
  local loss, norm, first, second = r.out:match "^(%S+)%s+(%S+)\n(.*)\n%-%-\n(.*)$"
  if not loss then return check(false, what, r.out .. r.err) end
  loss, norm = tonumber(loss), tonumber(norm)
  local differs = count(first, "is wrong here: attention")
  local compiled = count(first, "compiled cudnn")
  if wrong and arch ~= 90 then
    check(differs == 2 and count(first, "cft's own has it") == 2, what .. ": forward and backward are named", first)
  elseif not wrong then
    check(differs == 0 and compiled == (arch == 90 and 2 or 4), what .. ": a plan each, and one more each to try it", first)
  end
  check(second:match "^%s*$" ~= nil, what .. ": nothing more is said", second)
  local near = math.abs(loss - cpu_loss) < 0.01 * cpu_loss and math.abs(norm - cpu_norm) < 0.03 * cpu_norm
  check(near == (arch ~= 90 or not wrong), what .. (near and ": loss and gradients are the CPU's" or ": they are not, untried"),
        ("%g and %g, wanted %g and %g"):format(loss, norm, cpu_loss, cpu_norm))
end

for _, arch in ipairs { 80, 89, 100, 120 } do case(arch, true) end
case(80, true, "deterministic")
case(80, false)
case(120, false, "deterministic")
case(90, false)
case(90, true)  -- taken as it is: so the stand-in is wrong indeed
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
