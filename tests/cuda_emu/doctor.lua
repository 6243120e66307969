-- cftrun doctor with the emulated device:  CFT_CUDA_MODULE=... cftrun tests/cuda_emu/doctor.lua
local process = require "tests.process"

local passed, failed = 0, 0
local function check(what, ok, out)
  print((ok and "ok    " or "FAIL  ") .. what)
  if ok then passed = passed + 1 else failed = failed + 1; print(out) end
end

local function doctor(without)
  return process.cftrun { "doctor", env = { CFT_CUDA_MODULE = os.getenv "CFT_CUDA_MODULE", CUDA_EMU_WITHOUT = without } }
end

local r = doctor()
local all = true
for _, name in ipairs { "module", "driver", "cuda:0", "cuBLASLt", "cuDNN", "NVRTC", "NCCL" } do
  all = all and r.out:find("\n" .. name .. " +%S") and not r.out:find("\n" .. name .. " +missing") and true
end
check("a GPU and its libraries: code 0", r.code == 0 and all, r.out)
r = doctor "cublasLt"
check("without cuBLASLt a GPU is of use, slowly, and what to install is said", r.code == 0
      and r.out:find "\ncuBLASLt +missing: [^\n]*slowly[^\n]*pip install nvidia%-cublas", r.out)
r = doctor "cudnn"
check("without cuDNN a GPU is of use all the same", r.code == 0 and r.out:find "\ncuDNN +missing: attention by our own", r.out)
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
