-- The half of tests/oracle/roundtrip.sh that is cft:
--   cftrun tests/oracle/roundtrip.lua write  MODEL FOLDER f32|bf16 UPDATES   load, train, save
--   cftrun tests/oracle/roundtrip.lua logits FOLDER IDS OUT                  load, run, write logits
-- IDS has a sequence of ids on each line; OUT gets the logits of all tokens, f32, little-endian.

local cft = require "cft"
local ffi = require("cft.engine.ffi").ffi
local inputs = require "cft.nn.inputs"

local what, source, target, dtype, steps = unpack(arg)

local function sequences(path)
  local list = {}
  for line in io.lines(path) do
    local ids = {}
    for id in line:gmatch "%d+" do ids[#ids + 1] = tonumber(id) end
    list[#list + 1] = ids
  end
  return list
end

-- A few optimizer steps on ids 3, 4, 5, ...: enough that the saved weights are not those that were loaded.
local function train(model, count)
  local run, weights = {}, {}
  for i = 1, 40 do run[i], weights[i] = 2 + i, 1 end
  local batch = inputs.sequences({ run }, { weights })
  local opt = cft.optim.adamw(model)
  for i = 1, count do
    cft.scope(function()
      model:zero_grad()
      local loss = model:loss(batch)
      loss:backward()
      print(("  step %d: loss %.4f"):format(i, loss:item() / (#run - 1)))
      opt:update(1e-3, #run - 1)
    end)
  end
end

if what == "write" then
  local model = assert(cft.models.load(source, { dtype = dtype }))
  train(model, tonumber(steps))
  model:save(target)
elseif what == "logits" then
  local model = assert(cft.models.load(source, { dtype = "f32" }))
  local out = assert(io.open(dtype, "wb"))
  for _, ids in ipairs(sequences(target)) do
    cft.scope(function()
      local logits = cft.no_grad(function() return model:logits(ids) end)
      out:write(ffi.string(logits:to_host(), 4 * logits:count()))
    end)
  end
  out:close()
else
  error "write MODEL FOLDER DTYPE STEPS, or logits FOLDER IDS OUT"
end
