--- Real tokenizers for tests. Each is found outside of the repository, or the case that asks is skipped.
-- @usage local tok = require("tests.vocabularies").qwen "<|endoftext|>"

local json = require "cft.json"
local tokenizer = require "cft.tokenizer"

local M = {}

--- The folder of real data: $CFT_SHARED_DATA, else ../shared/data.
M.shared = os.getenv "CFT_SHARED_DATA" or "../shared/data"

--- A file's text, or the case is skipped.
function M.read(path)
  local file = io.open(path, "rb")
  if not file then skip(path .. " is not there (CFT_SHARED_DATA)") end
  local text = file:read "*a"
  file:close()
  return text
end

-- As in Qwen2.5's own tokenizer.json.
local qwen_split = [[(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+]]

local function quoted(text) return '"' .. text:gsub('[\\"]', "\\%0") .. '"' end

-- Put together from vocabulary, merges and added tokens.
local function qwen_json()
  local folder, merges, added = M.shared .. "/tokenizer/qwen2.5/", {}, {}
  for line in M.read(folder .. "merges.txt"):gmatch "[^\n]+" do
    if not line:find "^#version" then merges[#merges + 1] = quoted(line) end
  end
  for id, token in pairs(json.read(folder .. "tokenizer_config.json").added_tokens_decoder) do
    token.id = tonumber(id)
    added[#added + 1] = token
  end
  table.sort(added, function(a, b) return a.id < b.id end)
  return table.concat {
    '{"added_tokens": ', json.encode(added), ', "normalizer": {"type": "NFC"}, "pre_tokenizer": ',
    json.encode { type = "Sequence", pretokenizers = {
      { type = "Split", pattern = { Regex = qwen_split }, behavior = "Isolated", invert = false },
      { type = "ByteLevel", add_prefix_space = false, trim_offsets = false, use_regex = false } } },
    ', "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": ', M.read(folder .. "vocab.json"),
    ', "merges": [', table.concat(merges, ", "), "]}}",
  }
end

local cached = {}

-- A tokenizer that is made once, with its own tokens named anew.
local function once(name, make, tokens)
  cached[name] = cached[name] or make()
  local copy = setmetatable({}, getmetatable(cached[name]))
  for key, value in pairs(cached[name]) do copy[key] = value end
  for role, text in pairs(tokens) do copy[role] = copy:id(text) end
  return copy
end

-- What tests/fetch_models.sh brings, or has brought, or the case is skipped.
local function fetched(name)
  local pipe = io.popen("bash tests/fetch_models.sh " .. name .. " 2>&1")
  local said = pipe:read "*a"
  pipe:close()
  local path = said:match "^(/[^\n]+)\n$"
  if not path then skip(said:match "[^\n]*") end
  return path
end

--- Qwen2.5's tokenizer.
-- @string eos which token ends a text: `<|endoftext|>` in base models, `<|im_end|>` in Instruct ones
function M.qwen(eos)
  return once("qwen", function() return tokenizer.parse(qwen_json(), "Qwen2.5") end, { eos = eos })
end

--- SmolLM2-Instruct's.
function M.smollm2()
  return once("smollm2", function() return tokenizer.load(fetched "smollm2") end, {})
end

--- A tokenizer of DeepSeek's.
function M.deepseek()
  return once("deepseek", function() return tokenizer.load(fetched "deepseek") end,
    { bos = "<｜begin▁of▁sentence｜>", eos = "<｜end▁of▁sentence｜>" })
end

return M
