--- `cft.files`: files of weights and of a run's state, and what writes them whole or not at all, by one name each.
-- @module cft.io.files
-- @usage local w = cft.files.folder(folder)  -- as Hugging Face has it
-- print(w.config.model_type, #w:names(), w:tensor(w:names()[1]))
-- w:release()

local hash = require "cft.io.hash"
local safetensors = require "cft.io.safetensors"
local save = require "cft.io.save"
local state = require "cft.io.state"

return {
  safetensors = safetensors.open, folder = safetensors.folder,
  write_tensors = function(path, entries, opts) safetensors.write(path, entries, opts) end,
  write_state = function(path, value) state.write(path, value) end,
  read_state = state.read,
  save = save.begin, verify = save.verify, write = save.write, replace = save.replace, remove = save.remove,
  hash = hash.text, hash_file = hash.file, digest = hash.digest, hex = hash.hex,
}
