--- Where text ends: the tokens at which a model's generation stops, and the tokenizer's own end token, which templates
-- write. Two facts that four files tell; docs/models.md has who wins.
-- @module cft.text.end_tokens

local json = require "cft.base.json"

local M = {}

local function ids_of(value)
  local ids = {}
  for _, id in ipairs(type(value) == "table" and value or { value }) do
    if type(id) == "number" then ids[#ids + 1] = id end
  end
  return ids
end

local function has(ids, id)
  for _, one in ipairs(ids) do
    if one == id then return true end
  end
  return false
end

--- The tokens at which generation stops, as transformers has them: generation_config.json's, and config.json's where
-- there is no such file.
-- @tparam ?table generation what generation_config.json holds
-- @tparam ?table config what config.json holds
-- @treturn table ids, in the order of the file; may be empty
-- @treturn string the file
function M.of(generation, config)
  if generation then return ids_of(generation.eos_token_id), "generation_config.json" end
  return ids_of(config and config.eos_token_id), "config.json"
end

local function shown(tok, ids)
  local words = {}
  for i, id in ipairs(ids) do words[i] = ("%d (%s)"):format(id, tok:token(id) or "no token") end
  return table.concat(words, ", ")
end

--- Where the files disagree: a line each.
-- @param tok with its `eos` and `bos`
-- @string folder
-- @func read gives a JSON file's object, nil where there is no file
-- @treturn table
function M.notes(tok, folder, read)
  local notes = {}
  local generation, config = read(folder .. "/generation_config.json"), read(folder .. "/config.json")
  local ids, from = M.of(generation, config)
  local others = ids_of(generation and config and config.eos_token_id)
  for _, id in ipairs(others) do
    if #ids > 0 and not has(ids, id) then
      notes[#notes + 1] = ("%s: eos_token_id is %s in generation_config.json and %s in config.json; generation stops at the "
        .. "former, as in transformers"):format(folder, shown(tok, ids), shown(tok, others))
      break
    end
  end
  if tok.eos and #ids > 0 and not has(ids, tok.eos) then
    notes[#notes + 1] = ("%s: the tokenizer's eos_token is %s, and generation stops at %s (%s); templates write the former"):format(
      folder, shown(tok, { tok.eos }), shown(tok, ids), from)
  end
  for _, role in ipairs { "bos", "eos" } do
    local named = ids_of(config and config[role .. "_token_id"])
    if not tok[role] and #named > 0 then
      notes[#notes + 1] = ("%s: the tokenizer has no %s_token, though config.json has %s_token_id %s; as in transformers, "
        .. "which reads a tokenizer's own tokens from tokenizer_config.json"):format(folder, role, role, shown(tok, named))
    end
  end
  return notes
end

return M
