--- The recipe's keys `autotune` and `deterministic`:  cftrun tests/cuda_emu/autotune.lua
-- After a recipe has prepared a run on the GPU, a matmul of a kind that is new leaves a line in the file
-- of choices, or none.

local cft = require "cft"
local ffi = require "ffi"
local tensor = require "cft.engine.tensor"

ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
local folder = os.tmpname()
os.remove(folder)
local passed, failed, count = 0, 0, 0

-- How many algorithms are kept below a folder. That of an empty file name reads as none.
local function kept(at)
  local list = io.popen(("cat '%s'/cuda/matmul-* 2>/dev/null | wc -l"):format(at))
  local n = tonumber(list:read "*a")
  list:close()
  return n
end

local function case(wanted, ...)
  count = count + 1
  local at = folder .. "/" .. count
  ffi.C.setenv("CFT_CACHE", at, 1)
  local cfg = cft.config.read({}, { "--demo", "--dry-run", "device=cuda", ... })
  tensor.set_autotune(cfg.device, cfg.deterministic or not cfg.autotune)  -- the opposite: the recipe has to say
  cft.recipe.stages(cfg, { name = "autotune" }, true)
  local a = tensor.zeros({ 16 * count, 16 * count }, { device = "cuda" })
  tensor.scope(function() cft.ops.matmul(a, a) end)
  local n, what = kept(at), #{ ... } > 0 and table.concat({ ... }, " ") or "the default"
  local ok = n == wanted
  print(("%s  %s: %d algorithms are kept%s"):format(ok and "ok  " or "FAIL", what, n, ok and "" or ", wanted " .. wanted))
  if ok then passed = passed + 1 else failed = failed + 1 end
end

case(1)
case(0, "autotune=false")
case(0, "deterministic=true")
case(0, "deterministic=true", "autotune=true")
os.execute(("rm -rf '%s'"):format(folder))
print(("%d passed, %d failed, 0 skipped"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
