--- cuDNN's attention where nobody has tried it:  cftrun tests/cuda_emu/probe.lua
-- On a card that is not of sm_90 each kind of call is compared with our kernel on a small problem when it first comes.
-- A stand-in that is wrong is named in one line a kind, once, and our kernel has the call: what comes out stays the CPU's.

local models = require "cft.models"
local ops = require "cft.engine.ops"
local process = require "tests.process"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local SHAPE = { arch = "llama", d = 64, layers = 1, heads = 4, kv_heads = 2, ffn = 96, vocab = 67, theta = 1000,
                dtype = "bf16", seed = 3 }

-- Attention over three sequences and its gradient, twice: both as lists of numbers, and what was noted each time.
local function attention(device, deterministic)
  local shape = { device = device }
  for name, value in pairs(SHAPE) do shape[name] = value end
  local model = models.new(shape)
  model.options.deterministic = deterministic
  local at, notes, y, dx = model:put(step.batch(67, 50, 1, { 31, 7, 12 })), {}, nil, nil
  for i = 1, 2 do
    tensor.scope(function()
      local function random(width, counter)
        return tensor.randn({ 50, width }, { dtype = "bf16", device = device, seed = 1, counter = counter })
      end
      local x = random(128, 1)
      x.requires_grad = true
      local made = ops.attention(ops.contiguous(x), nil, at.of_all)
      made:backward(random(64, 2))
      y, dx = made:cast("f32"):to_host(), x.grad:cast("f32"):to_host()
    end)
    notes[i] = table.concat(tensor.notes(), "\n")
  end
  return y, dx, notes
end

-- |a - b| / |b| of n numbers.
local function apart(a, b, n)
  local sum, norm = 0, 0
  for i = 0, n - 1 do sum, norm = sum + (a[i] - b[i]) ^ 2, norm + b[i] ^ 2 end
  return math.sqrt(sum / norm)
end

if arg[1] == "one" then
  local deterministic = arg[2] == "deterministic"
  local y, dx, notes = attention("cuda", deterministic)
  local cpu_y, cpu_dx = attention("cpu", deterministic)
  print(apart(y, cpu_y, 50 * 64), apart(dx, cpu_dx, 50 * 128))
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

local module = os.getenv "CFT_CUDA_MODULE"
local function case(arch, wrong, kind)
  local r = process.cftrun { "tests/cuda_emu/probe.lua", "one", kind or "ordinary", env = {
    CUDA_EMU_ARCH = tostring(arch), CUDA_EMU_CUDNN_WRONG = wrong and "1" or false, CFT_CUDA_MODULE = module,
    CFT_CACHE = "" } }
  local what = ("sm_%d, cuDNN %s%s"):format(arch, wrong and "wrong" or "right", kind and ", " .. kind or "")
  local y, dx, first, second = r.out:match "^(%S+)%s+(%S+)\n(.*)\n%-%-\n(.*)$"
  if not y then return check(false, what, r.out .. r.err) end
  local differs = count(first, "is wrong here: attention")
  local compiled = count(first, "compiled cudnn")
  if wrong and arch ~= 90 then
    check(differs == 2 and count(first, "cft's own has it") == 2, what .. ": forward and backward are named", first)
  elseif not wrong then
    check(differs == 0 and compiled == (arch == 90 and 2 or 4), what .. ": a plan each, and one more each to try it", first)
  end
  check(second:match "^%s*$" ~= nil, what .. ": nothing more is said", second)
  local near = tonumber(y) < 0.01 and tonumber(dx) < 0.01
  check(near == (arch ~= 90 or not wrong), what .. (near and ": it is the CPU's" or ": it is not the CPU's, untried"),
        ("apart by %s and %s"):format(y, dx))
end

for _, arch in ipairs { 80, 89, 100, 120 } do case(arch, true) end
case(80, true, "deterministic")
case(80, false)
case(120, false, "deterministic")
case(90, false)
case(90, true)  -- taken as it is: so the stand-in is wrong indeed
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
