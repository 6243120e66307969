--- A model as a Hugging Face folder: config.json, generation_config.json, weights, tokenizer, and the other files
-- of the folder that it came from.

local additional = require "cft.models.additional"
local configs = require "cft.models.config"
local end_tokens = require "cft.text.end_tokens"
local host = require "cft.host"
local json = require "cft.base.json"
local saves = require "cft.io.save"
local tensor = require "cft.engine.tensor"

local M = {}

-- The folder that a model was read from, or nil.
local function folder_of(model)
  local path = model.path
  return path and not path:match "%.gguf$" and host.kind(path) == "folder" and path or nil
end

-- What text generation needs to know: the end tokens, first of all the one that was trained on.
local function generation_config(model, tokenizer, end_token)
  local c, text
  if folder_of(model) then c, text = json.read(model.path .. "/generation_config.json") end
  local there = type(c) == "table"
  local spellings = there and json.spellings(text) or nil
  c = there and c or {}
  local ends, seen = {}, {}
  local function add(ids)
    for _, id in ipairs(type(ids) == "table" and ids or { ids }) do
      if type(id) == "number" and not seen[id] then seen[id], ends[#ends + 1] = true, id end
    end
  end
  add(end_token)
  add((end_tokens.of(there and c, model.config.raw)))
  if tokenizer then
    if #ends == 0 then add(tokenizer.eos) end
    c.bos_token_id = c.bos_token_id or tokenizer.bos
    c.pad_token_id = c.pad_token_id or tokenizer.pad
  end
  c.eos_token_id = #ends > 1 and ends or ends[1]
  return c, spellings
end

--- Write a model into a folder that is being saved; inside of a scope, which releases its views of the weights.
-- @tparam Save save @tparam Model model @tab o as `write`; `weights`, entries of `files.write_tensors` in place of the model's
function M.fill(save, model, o)
  local config = configs.write(model.config, model.dtype)
  local generation, spellings = generation_config(model, o.tokenizer, o.end_token)
  for _, key in ipairs { "bos_token_id", "eos_token_id", "pad_token_id" } do
    if config[key] == nil or config[key] == json.null then config[key] = generation[key] end
  end
  local how = { indent = 2, spellings = model.spellings, floats = configs.floats }
  save:write("config.json", json.encode(config, how) .. "\n")
  save:write("generation_config.json", json.encode(generation, { indent = 2, spellings = spellings }) .. "\n")
  local entries = o.weights
  if not entries then
    entries = {}  -- a tied head is the embedding, and is not written twice
    for name, t in model:named() do entries[#entries + 1] = { name = name, tensor = t } end
  end
  save:write_tensors("model.safetensors", entries, { max_shard_bytes = o.max_shard_bytes })
  if o.tokenizer then o.tokenizer:save("", save:handle()) end
  if folder_of(model) then additional.copy(save, model.path) end
end

-- The tokenizer beside the weights that a model was read from. A folder may hold weights alone.
local function tokenizer_of(model)
  local path = model.path
  if not path or not (path:match "%.gguf$" or host.kind(path .. "/tokenizer.json")) then return nil end
  return require("cft.text.tokenizer").load(path)
end

--- Write one, which appears whole or not at all, in place of a model that was there. A folder with anything else in
-- it is refused.
-- @tparam Model model @string folder
-- @tab[opt] opts `tokenizer`; `end_token`, the id that answers end in; `max_shard_bytes`
-- @usage model:save(folder, { tokenizer = tok })
-- cft.checkpoint.export(model, folder, { tokenizer = tok })  -- the same, in its place
-- cft.models.context(folder)   --> 2048 "max_position_embeddings = 2048 in config.json"
function M.write(model, folder, opts)
  local o = {}
  for name, value in pairs(opts or {}) do o[name] = value end
  o.tokenizer = o.tokenizer or tokenizer_of(model)
  additional.check(folder, folder_of(model))
  saves.whole(folder, function(save) tensor.scope(M.fill, save, model, o) end)
end

return M
