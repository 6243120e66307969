--- The device and the dtype of a run.

local exit = require "cft.base.exit"
local tensor = require "cft.engine.tensor"

local M = {}

--- Open the device of these settings, and make it the default one.
-- @tab cfg settings
-- @tab log says which it is, and why where nobody chose it
-- @treturn string its name @treturn string the dtype of weights and activations
function M.open(cfg, log)
  local d = tensor.default_device(cfg.device)
  local name = tensor.device_name(d)
  local why = cfg.device == "auto" and name == "cpu" and tensor.why_cpu()
  log:say("device %s: %s%s", name, tensor.device_description(d), why and why ~= "" and (" (" .. why .. ")") or "")
  for _, note in ipairs(tensor.notes()) do log:say("%s", note) end
  -- What is fastest is for a clock to say, and two runs may hear of it differently.
  tensor.set_autotune(d, cfg.autotune and not cfg.deterministic)
  local dtype = cfg.dtype ~= "auto" and cfg.dtype or tensor.best_dtype(d)
  if cfg.gradients == "bf16" and dtype ~= "bf16" then
    exit.fail(exit.USAGE, "gradients=bf16 goes with bf16 weights, and this run's are %s; say dtype=bf16", dtype)
  end
  return name, dtype
end

return M
