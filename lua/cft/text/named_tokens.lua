--- Tokens that the files beside a tokenizer.json name, as transformers 5 takes them: tokenizer_config.json, and where
-- that has no `added_tokens_decoder`, special_tokens_map.json and added_tokens.json as well.
--
-- A token that tokenizer.json lacks is added. transformers gives it the next free id, whatever the file says; where
-- the file says another, it is refused, since one of the two is not the row that the model was trained with. Flags are
-- those of the file beside. docs/models.md has the table.
-- @module cft.text.named_tokens
-- @usage local cft = require "cft"
-- local tok = cft.tokenizer.parse(cft.demo.tokenizer_json(1), "demo")
-- local named = require("cft.text.named_tokens").add(tok, ".", { pad_token = "<x>" }, {}, function() end)
-- print(named.pad, #named.notes)   --> <x>   1

local blame = require "cft.base.blame"
local json = require "cft.base.json"

local M = {}

local flags = { "special", "single_word", "lstrip", "rstrip", "normalized" }

--- The roles that a token may have, in the order in which transformers adds those that are new.
M.roles = { "bos", "eos", "unk", "sep", "pad", "cls", "mask" }

local is_role = {}
for _, role in ipairs(M.roles) do is_role[role .. "_token"] = true end

local function given(value) return value ~= nil and value ~= json.null end

-- A token's flags as a file has them, those that it leaves out as tokenizers takes them.
local function with_flags(entry, value, path)
  for _, name in ipairs(flags) do
    local flag = value[name]
    if given(flag) and type(flag) ~= "boolean" then
      blame("%s: token %s: %s is a %s, not true or false", path, entry.text, name, type(flag))
    end
    entry[name] = flag == true
  end
  if not given(value.normalized) then entry.normalized = not entry.special end
  return entry
end

-- An added token with the id that a file gives it.
local function placed(path, key, id, value)
  local number = tonumber(id)
  if not number or number < 0 or number % 1 ~= 0 then blame("%s%s: %s is no id", path, key, tostring(id)) end
  local text = type(value) == "table" and value.content
  if type(text) ~= "string" or text == "" then blame("%s%s: the token of id %d has no content", path, key, number) end
  return with_flags({ id = number, text = text, path = path }, value, path)
end

-- "<|im_end|>", or { content = "<|im_end|>", ... }; nil for what names no token. `from`: the file and its key.
local function named(value, path, key, certainly_special)
  local text = type(value) == "table" and value.content or value
  if type(text) ~= "string" or text == "" then return nil end
  local as = type(value) == "table" and value or { special = true }
  local entry = with_flags({ text = text, path = path, key = key }, as, path)
  entry.special = entry.special or certainly_special
  return entry
end

-- ---- what the files say ---------------------------------------------------------------------

-- The tokens that a file gives ids, in their order.
local function placed_tokens(folder, config, read)
  local list, decoder = {}, config.added_tokens_decoder
  if given(decoder) then
    local path = folder .. "/tokenizer_config.json"
    if type(decoder) ~= "table" then blame("%s: added_tokens_decoder is a %s, not an object", path, type(decoder)) end
    for id, value in pairs(decoder) do list[#list + 1] = placed(path, ": added_tokens_decoder", id, value) end
  else
    local path = folder .. "/added_tokens.json"
    for text, id in pairs(read(path) or {}) do list[#list + 1] = placed(path, "", id, { content = text }) end
  end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

-- The token of a role, and a line where the two files name different ones. special_tokens_map.json is read where
-- tokenizer_config.json has no added_tokens_decoder, and then its null is none.
local function role_token(folder, key, config, map, map_counts)
  local from_config = named(config[key], folder .. "/tokenizer_config.json", key)
  local from_map = named(map[key], folder .. "/special_tokens_map.json", key, true)
  local differ = map[key] ~= nil and (from_config and from_config.text) ~= (from_map and from_map.text)
  local taken = from_config
  if map_counts and map[key] ~= nil then taken = from_map end
  if not differ or (map_counts and config[key] == nil) then return taken end
  return taken, ("%s: %s is %s in tokenizer_config.json and %s in special_tokens_map.json; %s, as in transformers"):format(
    folder, key, from_config and from_config.text or "none", from_map and from_map.text or "none",
    map_counts and "the latter is taken" or "the former is taken, since it has added_tokens_decoder")
end

-- Tokens without a standard role: `extra_special_tokens`, or `additional_special_tokens` where there are none, and keys
-- that end in `_token`. Those of an object, and of such keys, are roles of their own. special_tokens_map.json adds its
-- own; its `additional_special_tokens` only where nothing else has such a key.
local function extra_tokens(folder, config, map, map_counts)
  local extra, own, path = {}, {}, folder .. "/tokenizer_config.json"
  local function take(list, value, key, where, special)
    local entry = named(value, where, key, special)
    if entry then list[#list + 1] = entry end
  end
  local key = "extra_special_tokens"
  local listed, keyed = config[key], config[key] ~= nil
  if (type(listed) ~= "table" or next(listed) == nil) and config.additional_special_tokens ~= nil then
    key, keyed = "additional_special_tokens", true
    listed = config[key]
  end
  for name, value in pairs(config) do
    if type(name) == "string" and name:find "_token$" and not is_role[name] and type(value) == "string" then
      take(own, value, name, path)
    end
  end
  table.sort(own, function(a, b) return a.key < b.key end)
  for name, value in pairs(type(listed) == "table" and listed or {}) do
    take(type(name) == "string" and own or extra, value, key, path)
  end
  local of_map = "extra_special_tokens"
  if not keyed and map[of_map] == nil then of_map = "additional_special_tokens" end
  for name, value in pairs(map_counts and type(map[of_map]) == "table" and map[of_map] or {}) do
    take(type(name) == "string" and own or extra, value, of_map, folder .. "/special_tokens_map.json", true)
  end
  return own, extra
end

-- ---- into the tokenizer -----------------------------------------------------------------------

-- The flags in which two tokens differ, in words; nil where they do not.
local function difference(have, want)
  local words = {}
  for _, name in ipairs(flags) do
    if have[name] ~= want[name] then words[#words + 1] = ("%s = %s"):format(name, tostring(want[name])) end
  end
  return words[1] and table.concat(words, ", ")
end

-- A token that a file gives an id.
local function enter(tok, entry, notes)
  local known = tok:id(entry.text)
  if known then
    if known ~= entry.id then
      notes[#notes + 1] = ("%s: token %s has id %d there and %d in tokenizer.json, which is taken, as transformers does")
        :format(entry.path, entry.text, entry.id, known)
    end
    local have = tok:added(known)
    -- tokenizers keeps a list of what was ever special, and nothing leaves it
    entry.special = entry.special or have and have.special or false
    local differ = have and difference(have, entry)
    if have and not differ then return end
    notes[#notes + 1] = differ
      and ("%s: token %s: %s, other than in tokenizer.json; taken, as transformers does"):format(entry.path, entry.text,
        differ)
      or ("%s: token %s is an added one there, and in tokenizer.json only in the vocabulary; it is one, as in transformers")
        :format(entry.path, entry.text)
  elseif tok:size() ~= entry.id then
    blame("%s: token %s has id %d, and tokenizer.json lacks it; transformers gives it %d, the next free one. Write it into "
      .. "tokenizer.json with the id that the model was trained with", entry.path, entry.text, entry.id, tok:size())
  end
  tok:put_token(entry.text, entry)
end

-- Whether tokenizer.json has an added token of the same id, which goes before one of added_tokens.json.
local function said_by_tokenizer_json(tok, entry, notes)
  if not tok:added(entry.id) then return false end
  if tok:id(entry.text) ~= entry.id then
    notes[#notes + 1] = ("%s: token %s has id %d, which is %s in tokenizer.json; the former is left out, as in transformers")
      :format(entry.path, entry.text, entry.id, tok:token(entry.id))
  end
  return true
end

-- A token that is named without an id: nothing happens to one that is an added token, and one of the vocabulary becomes
-- one. Another gets the next free id, and is `unplaced`: no file says which row of the model is its.
local function enter_named(tok, entry, unplaced, notes)
  local known = tok:id(entry.text)
  if known and tok:added(known) then return end
  local id = tok:put_token(entry.text, entry)
  if known then
    notes[#notes + 1] = ("%s: %s has %s, which is only in the vocabulary of tokenizer.json; it is an added token, as in "
      .. "transformers"):format(entry.path, entry.key, entry.text)
  else
    unplaced[id] = entry.text
    notes[#notes + 1] = ("%s: %s has %s, which no file gives an id; it is %d, the next free one, as in transformers")
      :format(entry.path, entry.key, entry.text, id)
  end
end

-- Where tokenizer_config.json has no added_tokens_decoder, transformers adds the tokens of tokenizer.json once more, and
-- those with a role become special.
local function mark_special(tok, entry, notes)
  local id = tok:id(entry.text)
  local have = id and tok:added(id)
  if not have or have.special then return end
  have.special = true
  tok:put_token(entry.text, have)
  notes[#notes + 1] = ("%s: %s makes %s special, which it is not in tokenizer.json; it is, as in transformers"):format(
    entry.path, entry.key, entry.text)
end

--- Add them, and say what the files disagree about.
-- @param tok a tokenizer; changed
-- @string folder
-- @tab config what tokenizer_config.json holds; may be empty
-- @tab map special_tokens_map.json
-- @func read gives a JSON file's object, nil where there is no file
-- @treturn table by role the string of its token; `notes`, a line each; `unplaced`, id → string of the tokens that no
-- file gives an id; `extra`, the strings of those without a role, where special_tokens_map.json has some of them
function M.add(tok, folder, config, map, read)
  local found, by_role, special = { notes = {}, unplaced = {} }, {}, {}
  local map_counts = not given(config.added_tokens_decoder)
  for _, role in ipairs(M.roles) do
    local entry, note = role_token(folder, role .. "_token", config, map, map_counts)
    found.notes[#found.notes + 1] = note
    if entry then by_role[#by_role + 1], special[entry.text], found[role] = entry, true, entry.text end
  end
  local own, extra = extra_tokens(folder, config, map, map_counts)
  for _, entry in ipairs(own) do by_role[#by_role + 1], special[entry.text] = entry, true end

  for _, entry in ipairs(placed_tokens(folder, config, read)) do
    entry.special = entry.special or special[entry.text] or false
    if not (map_counts and said_by_tokenizer_json(tok, entry, found.notes)) then enter(tok, entry, found.notes) end
  end
  for _, entry in ipairs(by_role) do
    entry.special = true
    if map_counts then mark_special(tok, entry, found.notes) end
    enter_named(tok, entry, found.unplaced, found.notes)
  end
  for _, entry in ipairs(extra) do
    enter_named(tok, entry, found.unplaced, found.notes)
    if entry.path:find "map%.json$" then  -- which is not written
      found.extra = {}
      for i, one in ipairs(extra) do found.extra[i] = one.text end
    end
  end
  return found
end

return M
