--- Tokens that the files beside a tokenizer.json name: tokenizer_config.json's `added_tokens_decoder`, or
-- added_tokens.json where there is none, as transformers 5 takes them.
--
-- A token that tokenizer.json lacks is added. transformers gives it the next free id, whatever the file says; where
-- the file says another, it is refused, since one of the two is not the row that the model was trained with. Flags are
-- those of the file beside. docs/tokenizer.md has the table.
-- @module cft.text.named_tokens
-- @usage local cft = require "cft"
-- local tok = cft.tokenizer.parse(cft.demo.tokenizer_json(1), "demo")
-- print(#require("cft.text.named_tokens").add(tok, ".", { pad_token = "<x>" }, {}, function() end))   --> 1

local blame = require "cft.base.blame"
local json = require "cft.base.json"

local M = {}

local flags = { "special", "single_word", "lstrip", "rstrip", "normalized" }
local roles = { "bos", "eos", "unk", "sep", "pad", "cls", "mask" }

local function given(value) return value ~= nil and value ~= json.null end

-- "<|im_end|>", or { content = "<|im_end|>", ... }
local function text_of(value)
  if type(value) == "table" then value = value.content end
  return type(value) == "string" and value or nil
end

-- An added token as a file has it, with all of its flags.
local function entry_of(path, id, value)
  local number = tonumber(id)
  if not number or number < 0 or number % 1 ~= 0 then blame("%s: %s is no id", path, tostring(id)) end
  local text = type(value) == "table" and value.content
  if type(text) ~= "string" or text == "" then blame("%s: the token of id %d has no content", path, number) end
  local entry = { id = number, text = text }
  for _, name in ipairs(flags) do
    local flag = value[name]
    if given(flag) and type(flag) ~= "boolean" then
      blame("%s: token %s: %s is a %s, not true or false", path, text, name, type(flag))
    end
    entry[name] = flag == true
  end
  if not given(value.normalized) then entry.normalized = not entry.special end
  return entry
end

-- The tokens of both files, in the order of ids, and the path of the one that has them.
local function entries_of(folder, config, read)
  local path, list = folder .. "/tokenizer_config.json", {}
  local decoder = config.added_tokens_decoder
  if given(decoder) then
    if type(decoder) ~= "table" then blame("%s: added_tokens_decoder is a %s, not an object", path, type(decoder)) end
    for id, value in pairs(decoder) do list[#list + 1] = entry_of(path .. ": added_tokens_decoder", id, value) end
  else
    path = folder .. "/added_tokens.json"
    for text, id in pairs(read(path) or {}) do list[#list + 1] = entry_of(path, id, { content = text }) end
  end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list, path
end

-- The flags in which two tokens differ, in words; nil where they do not.
local function difference(have, want)
  local words = {}
  for _, name in ipairs(flags) do
    if have[name] ~= want[name] then words[#words + 1] = ("%s = %s"):format(name, tostring(want[name])) end
  end
  return words[1] and table.concat(words, ", ")
end

local function enter(tok, entry, path, notes)
  local known = tok:id(entry.text)
  if known then
    if known ~= entry.id then
      notes[#notes + 1] = ("%s: token %s has id %d there and %d in tokenizer.json, which is taken, as transformers does")
        :format(path, entry.text, entry.id, known)
    end
    local have = tok:added(known)
    local differ = have and difference(have, entry)
    if have and not differ then return end
    notes[#notes + 1] = differ
      and ("%s: token %s: %s, other than in tokenizer.json; taken, as transformers does"):format(path, entry.text, differ)
      or ("%s: token %s is an added one there, and in tokenizer.json only in the vocabulary; it is one, as in transformers")
        :format(path, entry.text)
  elseif tok:size() ~= entry.id then
    blame("%s: token %s has id %d, and tokenizer.json lacks it; transformers gives it %d, the next free one. Write it into "
      .. "tokenizer.json with the id that the model was trained with", path, entry.text, entry.id, tok:size())
  end
  tok:put_token(entry.text, entry)
end

--- Add them, and say what the files disagree about.
-- @param tok a tokenizer; changed
-- @string folder
-- @tab config what tokenizer_config.json holds; may be empty
-- @tab map special_tokens_map.json
-- @func read gives a JSON file's object, nil where there is no file
-- @treturn table notes, a line each
function M.add(tok, folder, config, map, read)
  local notes, named = {}, {}
  for _, role in ipairs(roles) do
    local text = text_of(config[role .. "_token"])
    if text then named[text] = true end
  end
  local list, path = entries_of(folder, config, read)
  for _, entry in ipairs(list) do
    entry.special = entry.special or named[entry.text] or false
    enter(tok, entry, path, notes)
  end
  for _, source in ipairs { { "tokenizer_config.json", config }, { "special_tokens_map.json", map } } do
    for _, role in ipairs(roles) do
      local text = text_of(source[2][role .. "_token"])
      if text and text ~= "" and not tok:id(text) then
        notes[#notes + 1] = ("%s/%s: %s_token is %s, which no file gives an id; transformers adds it, here it has no id")
          :format(folder, source[1], role, text)
      end
    end
    for _, key in ipairs { "additional_special_tokens", "extra_special_tokens" } do
      local extra = source[2][key]
      for _, value in pairs(type(extra) == "table" and extra or {}) do
        local text = text_of(value)
        if text and not tok:id(text) then
          notes[#notes + 1] = ("%s/%s: %s has %s, which no file gives an id; transformers adds it, here it has no id")
            :format(folder, source[1], key, text)
        end
      end
    end
  end
  return notes
end

return M
