--- Real tokenizers for tests. Each is found outside of the repository, or the case that asks is skipped.
-- @usage local tok = require("tests.vocabularies").qwen "<|endoftext|>"

local ffi = require "ffi"
local json = require "cft.base.json"
local tokenizer = require "cft.text.tokenizer"

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

-- ---- SentencePiece ----------------------------------------------------------------------------

-- What a model file has of each piece: its text, score and kind. The format is protobuf; sentencepiece_model.proto has the names.
local function pieces_of(bytes)
  local function number(at)
    local value, scale = 0, 1
    repeat
      local byte = bytes:byte(at)
      value, scale, at = value + byte % 128 * scale, scale * 128, at + 1
    until byte < 128
    return value, at
  end
  local function fields(at, stop)  -- number and content of each
    return function()
      if at >= stop then return nil end
      local key, value
      key, at = number(at)
      local wire = key % 8
      if wire == 5 then
        value, at = bytes:sub(at, at + 3), at + 4
      else
        value, at = number(at)
        if wire == 2 then
          local first = at
          at = at + value
          value = { first, at }
        end
      end
      return (key - wire) / 8, value
    end
  end
  local pieces = {}
  for field, range in fields(1, #bytes + 1) do
    if field == 1 then
      local piece = { kind = 1, score = 0 }
      for part, value in fields(range[1], range[2]) do
        if part == 1 then piece.text = bytes:sub(value[1], value[2] - 1) end
        if part == 2 then piece.score = ffi.cast("const float *", value)[0] end
        if part == 3 then piece.kind = value end
      end
      pieces[#pieces + 1] = piece
    end
  end
  return pieces
end

local function characters(text) return #text:gsub("[\128-\191]", "") end

-- Every way to cut a piece in two pieces is a merge; that of the highest score first, then that of the longest parts.
local function merges_of(pieces, ids)
  local merges = {}
  for i, piece in ipairs(pieces) do
    for at = 2, #piece.text do
      local left, right = piece.text:sub(1, at - 1), piece.text:sub(at)
      if ids[left] and ids[right] then
        merges[#merges + 1] = { piece.score, characters(left), characters(right), -i, json.encode { left, right } }
      end
    end
  end
  table.sort(merges, function(a, b)
    for k = 1, 4 do
      if a[k] ~= b[k] then return a[k] > b[k] end
    end
    return false
  end)
  for i, merge in ipairs(merges) do merges[i] = merge[5] end
  return merges
end

-- As transformers' LlamaConverter puts it together.
local function sentencepiece_json(path, parts)
  local pieces, ids, vocab, added = pieces_of(M.read(path)), {}, {}, {}
  for i, piece in ipairs(pieces) do
    ids[piece.text] = i - 1
    vocab[i] = ("%s: %d"):format(json.encode(piece.text), i - 1)
    if piece.kind == 2 or piece.kind == 3 then
      added[#added + 1] = { id = i - 1, content = piece.text, special = true, normalized = false }
    end
  end
  return table.concat {
    '{"added_tokens": ', json.encode(added), parts, [[, "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}, "model": {"type": "BPE", "unk_token": "<unk>",
      "fuse_unk": true, "byte_fallback": true, "vocab": {]], table.concat(vocab, ", "), '}, "merges": [',
    table.concat(merges_of(pieces, ids), ", "), "]}}",
  }
end

local function mistral(version, parts)
  return once("mistral-" .. version, function()
    return tokenizer.parse(sentencepiece_json(fetched("mistral-" .. version), parts), "Mistral " .. version)
  end, { bos = "<s>", eos = "</s>" })
end

--- Mistral 7B v0.1's, in the form of `legacy` files, as Llama 2, TinyLlama and Zephyr have it.
function M.mistral_v1()
  return mistral("v1", [[, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}]])
end

--- Mistral 7B v0.3's, in the newer form.
function M.mistral_v3()
  return mistral("v3", [[, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
    "split": false}]])
end

return M
