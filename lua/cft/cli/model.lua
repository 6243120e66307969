--- The model that a command was given: by its path or name, in the dtype that its options ask for.
-- @module cft.cli.model

local exit = require "cft.base.exit"
local models = require "cft.models"
local tensor = require "cft.engine.tensor"
local texts = require "cft.base.text"

--- Load it; what its files disagree on goes to stderr. Ends with code 4 where it is not here.
-- @string command its name, for the message
-- @tab o options: `model`; `device`; `dtype`, where "auto" is what the device is fastest in
-- @treturn Model
return function(command, o)
  local device = tensor.device(o.device)
  local dtype = o.dtype == "auto" and tensor.best_dtype(device) or o.dtype
  local model, why = models.load(o.model, { dtype = dtype, device = device })
  if not model then exit.fail(exit.MISSING, "%s: %s", command, why) end
  for _, note in ipairs(model.notes or {}) do io.stderr:write(texts.printable(note), "\n") end
  return model
end
