-- A model of the demo's size and the words of some records, as a folder, in place of one of the Hub: a function of the path
-- of the records, made once each.

local cft = require "cft"
local process = require "tests.process"

local made = {}

return function(data)
  if made[data] then return made[data] end
  local folder, shape = process.folder() .. "/m", { seed = 1, device = "cpu" }
  local function fields(r) return { instruction = r.question, output = r.ground_truth } end
  local tokenizer = cft.demo.words(cft.data.open(data, data:find "gsm8k" and { fields = fields } or nil))
  for name, value in pairs(cft.demo.tiny) do shape[name] = value end
  shape.vocab = tokenizer:size()
  local m = cft.models.new(shape)
  cft.checkpoint.export(m, folder, { tokenizer = tokenizer })
  m:release()
  made[data] = folder
  return folder
end
