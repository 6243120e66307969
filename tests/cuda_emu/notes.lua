--- What the CUDA device has to say waits for whoever asks:  cftrun tests/cuda_emu/notes.lua
-- A plan of cuDNN's that is compiled is told once, in words that a run's log takes; nothing is printed.

local ffi = require "ffi"
local models = require "cft.models"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
local folder = os.tmpname()
os.remove(folder)
ffi.C.setenv("CFT_CACHE", folder, 1)  -- no plan is kept there
local passed, failed = 0, 0

local function check(ok, what, got)
  print((ok and "ok    " or "FAIL  ") .. what .. (ok and "" or ": " .. table.concat(got, "; ")))
  if ok then passed = passed + 1 else failed = failed + 1 end
end

local model = models.new { arch = "llama", d = 64, layers = 1, heads = 2, kv_heads = 1, ffn = 96, vocab = 67,
                           theta = 1000, dtype = "bf16", device = "cuda", seed = 3 }
local batch = step.batch(67, 50, 0.4, { 31, 7, 12 })

local function notes_of_a_loss()
  tensor.scope(function() model:loss(batch) end)
  return tensor.notes()
end

tensor.notes()
local first = notes_of_a_loss()
check(#first == 1 and first[1]:find "^cuda:0: compiled cudnn%-[^%c]+%.json$", "a plan that is compiled is noted", first)
local again = notes_of_a_loss()
check(#again == 0, "one that is there already is not", again)
os.execute(("rm -rf '%s'"):format(folder))
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
