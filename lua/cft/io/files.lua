--- `cft.files`: files of weights and of a run's state, and what writes them whole or not at all, by one name each.
-- @module cft.io.files
-- @usage model:save(folder)
-- local w = cft.files.folder(folder)  -- as Hugging Face has it
-- w.config.model_type, #w:names(), w:tensor "model.norm.weight"   --> "llama" 12 (8) f32 on cpu {1, 1, 1, 1, 1, 1, 1, 1}
-- cft.files.write_tensors(folder .. "/norm.safetensors", { { name = "norm", tensor = w:tensor "model.norm.weight" } })
-- w:release()
-- cft.files.write_state(folder .. "/state.msgpack", { step = 10, seen = { "a" } })
-- cft.files.read_state(folder .. "/state.msgpack").seen   --> { "a" }

local hash = require "cft.io.hash"
local safetensors = require "cft.io.safetensors"
local save = require "cft.io.save"
local state = require "cft.io.state"

return {
  safetensors = safetensors.open, folder = safetensors.folder,
  --- Write a file of weights as Hugging Face does: it appears whole or not at all.
  -- @string path "model.safetensors", for shards too
  -- @tab entries a list of `{ name =, tensor = }`, or of `{ name =, dtype =, dims =, make = }`, where `make()` gives the
  -- tensor when it is its turn; it is released once it is written
  -- @tab[opt] opts `max_shard_bytes`, 5e9 if absent: above it there are shards and their index
  write_tensors = function(path, entries, opts) safetensors.write(path, entries, opts) end,
  --- Write a value, whole or not at all; `read_state` reads it.
  -- @string path
  -- @param value numbers (exact doubles), `int64_t` and `uint64_t`, strings, booleans, tensors (a copy of their contents),
  -- and tables of them: lists, or maps with string keys
  write_state = function(path, value) state.write(path, value) end,
  read_state = state.read,
  save = save.begin, verify = save.verify, write = save.write, replace = save.replace, remove = save.remove,
  hash = hash.text, hash_file = hash.file, digest = hash.digest, hex = hash.hex,
}
