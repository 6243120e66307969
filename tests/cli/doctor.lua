-- cftrun doctor where there is no GPU; tests/cuda_emu/doctor.lua has one.
local expect = require "tests.expect"
local process = require "tests.process"

local function doctor(env, ...) return process.cftrun { "doctor", ..., env = env } end

return {
  { "every row stands there, and without a module the code is 3", function()
    local r = doctor { CFT_CUDA_MODULE = "/nowhere/libcft_cuda.so" }
    expect.same({ r.code, r.err }, { 3, "" })
    for _, name in ipairs { "processor", "memory", "module", "MPI", "Hub cache", "this folder" } do
      expect.match(r.out, "%f[^\n%z]" .. name .. " +%S")
    end
    expect.match(r.out, "\nmodule +missing: /nowhere/libcft_cuda%.so: it was not built")
    expect.match(r.out, "\nNo GPU can be used: the row 'module' says why%. Runs take the CPU%.\n$")
  end },
  { "a file that is no module is named", function()
    local path = process.folder() .. "/x.so"
    process.write(path, "no ELF")
    expect.match(doctor({ CFT_CUDA_MODULE = path }).out, "\nmodule +missing: .*x%.so: [^\n]*file too short")
  end },
  { "a cache that is not there yet lies on a disk that is", function()
    local r = doctor { CFT_CUDA_MODULE = "/nowhere", HF_HOME = process.folder() .. "/not/yet" }
    expect.match(r.out, "\nHub cache +/[^\n]*/not/yet/hub, [%d.]+ %a+ free\n")
  end },
  { "--check is the same; arguments are refused", function()
    local env = { CFT_CUDA_MODULE = "/nowhere" }
    expect.same(process.cftrun({ "--device", "cuda", "--check", env = env }).code, 3)
    local r = doctor(env, "now")
    expect.same(r.code, 2)
    expect.match(r.err, "doctor: takes no argument, got 'now'")
    expect.match(process.cftrun({ "--check", "recipes/hello.lua", env = env }).err, "%-%-check takes no recipe")
  end },
}
