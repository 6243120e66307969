--- Text to token ids and back, with the ids of Hugging Face tokenizers.
--
-- Ids count from 0, as in files; lists of them are Lua lists. Strings of special tokens in a text are
-- plain text unless `parse_special` asks for more: special tokens come from templates.
-- @module cft.text.tokenizer
-- @usage tok:save(folder)
-- local loaded = cft.tokenizer.load(folder)  -- or a tokenizer.json, or a GGUF file
-- local ids = loaded:encode "10 - 2 = 8"
-- print(#ids, loaded:decode(ids))               --> 6   10 - 2 = 8
-- print(loaded.eos, loaded:token(loaded.eos))   --> ...   <|endoftext|>

local blame = require "cft.base.blame"
local chat_templates = require "cft.text.chat_templates"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local end_tokens = require "cft.text.end_tokens"
local format = require "cft.base.format"
local host = require "cft.host"
local json = require "cft.base.json"
local named_tokens = require "cft.text.named_tokens"
local texts = require "cft.base.text"

local C, ffi = door.C, door.ffi
local bit = require "bit"
local band, bor = bit.band, bit.bor

local M = {}

--- A tokenizer. `bos`, `eos` and `pad` are the ids that its files name, or nil; `chat_template` is
-- the Jinja text that came with it, or nil; `named_templates` are those that came beside it, by name; `notes` say, a
-- line each, what its files disagree about.
-- @type Tokenizer
local Tokenizer = {}
Tokenizer.__index = Tokenizer

local new_encoding = ffi.typeof "cft_encoding"
local free_encoding = C.cft_encoding_free
local scratch = ffi.gc(new_encoding(), free_encoding)  -- for calls that hand out Lua lists
local bytes_out, id_out, count_out = ffi.new "size_t[1]", ffi.new "int32_t[1]", ffi.new "int64_t[1]"

local function own(out, fields)
  local self = fields or {}
  self.handle = ffi.gc(out[0], C.cft_tokenizer_release)
  return setmetatable(self, Tokenizer)
end

-- ---- what stands beside tokenizer.json --------------------------------------------------------

local roles = { "bos", "eos", "pad" }

local function read_json(path)
  if not host.kind(path) then return nil end
  local value, text = json.read(path)
  if value == nil then blame(text) end
  return type(value) == "table" and value or blame(path .. ": no JSON object"), text
end

-- Where tokenizer_config.json and the post-processor say different things of what stands around a text.
local function note_around(self, folder, config)
  local front, behind = self:around()
  for _, side in ipairs { { "bos", front }, { "eos", behind } } do
    local role, ids = side[1], side[2]
    local says, does = config[("add_%s_token"):format(role)], false
    for _, id in ipairs(ids) do does = does or id == self[role] end
    if type(says) == "boolean" and self[role] and says ~= does then
      self.notes[#self.notes + 1] = ("%s/tokenizer_config.json: add_%s_token is %s, and tokenizer.json's post-processor puts %s"
        .. "%s; the latter is taken, as in transformers 5"):format(folder, role, tostring(says), does and "" or "no ",
        self:token(self[role]))
    end
  end
end

-- Which tokens there are and which are its own: `named_tokens`; config.json is no source of them, as in transformers.
local function read_companions(self, folder)
  local config, text = read_json(folder .. "/tokenizer_config.json")
  local map = read_json(folder .. "/special_tokens_map.json") or {}
  self.config, self.spellings = config, text and json.spellings(text)
  config = config or {}
  local found = named_tokens.add(self, folder, config, map, read_json)
  self.named, self.notes, self.unplaced = found, found.notes, found.unplaced
  for _, role in ipairs(roles) do self[role] = found[role] and self:id(found[role]) end
  for _, note in ipairs(end_tokens.notes(self, folder, read_json)) do self.notes[#self.notes + 1] = note end
  note_around(self, folder, config)
  local other_templates
  self.chat_template, self.named_templates, other_templates = chat_templates.read(folder, config)
  for _, note in ipairs(other_templates) do self.notes[#self.notes + 1] = note end
end

local function gguf_value(g, key)
  local value = ffi.new "cft_gguf_value"
  if not C.cft_gguf_find_value(g, key, value) then return nil end
  if value.kind == C.CFT_GGUF_STRING then return ffi.string(value.string, value.bytes) end
  return tonumber(value.integer)
end

local function load_gguf(path)
  local file, out = ffi.new "cft_gguf *[1]", ffi.new "cft_tokenizer *[1]"
  door.check(C.cft_gguf_open(file, path))
  local g = ffi.gc(file[0], C.cft_gguf_release)
  door.check(C.cft_tokenizer_from_gguf(out, g, path))
  local self = own(out, { chat_template = gguf_value(g, "tokenizer.chat_template") })
  for _, role in ipairs(roles) do
    local name = role == "pad" and "padding" or role
    local id = gguf_value(g, "tokenizer.ggml." .. name .. "_token_id")
    self[role] = id and self:token(id) and id or nil
  end
  return self
end

-- Files of tokenizers that are not a tokenizer.json, by what they are called.
local slow = { "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "tekken.json" }

-- Why a folder has no tokenizer that can be read.
local function refuse_slow(folder)
  if host.kind(folder) ~= "folder" or host.kind(folder .. "/tokenizer.json") then return end
  for _, name in ipairs(slow) do
    if host.kind(folder .. "/" .. name) then
      blame("%s: has %s, and no tokenizer.json, which is what is read; transformers writes one: "
        .. "AutoTokenizer.from_pretrained(%q).save_pretrained(%q)", folder, name, folder, folder)
    end
  end
end

--- Load a tokenizer.
-- @string path a folder with tokenizer.json, a tokenizer.json, or a GGUF file
-- @treturn Tokenizer
function M.load(path)
  if type(path) ~= "string" then blame("tokenizer.load: a path is wanted, got %s", tostring(path)) end
  if path:match "%.gguf$" then return load_gguf(path) end
  refuse_slow(path)
  local out = ffi.new "cft_tokenizer *[1]"
  door.check(C.cft_tokenizer_load(out, path))
  local self = own(out)
  local folder = path:match "^(.*)/[^/]*%.json$" or (path:match "%.json$" and "." or path)
  read_companions(self, folder)
  return self
end

--- A tokenizer from the text of a tokenizer.json.
-- @string text
-- @string[opt="tokenizer.json"] label what messages call it
-- @tab[opt] names the strings of `bos`, `eos` and `pad`
-- @treturn Tokenizer
-- @usage local mine = cft.tokenizer.parse(cft.demo.tokenizer_json(1), "demo", { eos = "<|endoftext|>" })
-- mine:size(), mine:id "<|endoftext|>" == mine.eos   --> 326 true
function M.parse(text, label, names)
  local out = ffi.new "cft_tokenizer *[1]"
  door.check(C.cft_tokenizer_parse(out, text, #text, label or "tokenizer.json"))
  local self = own(out)
  for role, name in pairs(names or {}) do
    self[role] = self:id(name) or blame("tokenizer.parse: no token %s for %s", name, role)
  end
  return self
end

-- ---- encoding ---------------------------------------------------------------------------------

local encode_spec = {
  parse_special = { "boolean", false }, add_special = { "boolean", false }, spans = { "boolean", false },
  inside = { "boolean", false }, continues = { "boolean", false },
}

local function flags_of(where, opts)
  if opts == nil then return 0 end
  local o = check.options(where, opts, encode_spec)
  return bor(o.parse_special and C.CFT_ENCODE_PARSE_SPECIAL or 0,
             o.add_special and C.CFT_ENCODE_ADD_SPECIAL or 0, o.spans and C.CFT_ENCODE_SPANS or 0,
             o.inside and C.CFT_ENCODE_INSIDE or 0, o.continues and C.CFT_ENCODE_CONTINUES or 0)
end

-- Invalid UTF-8 is what a correct program may meet in data: nil and a message. The rest raises.
local function checked(encoding, status)
  if status == C.CFT_E_FORMAT then return nil, ffi.string(C.cft_last_error()) end
  door.check(status)
  return encoding
end

local function encode(self, encoding, text, flags)
  return checked(encoding, C.cft_tokenizer_encode(encoding, self.handle, text, #text, flags))
end

local function ids_of(encoding)
  local ids = {}
  for i = 1, tonumber(encoding.n) do ids[i] = encoding.ids[i - 1] end
  return ids
end

--- The ids of a text.
-- @string text UTF-8
-- @tab[opt] opts
-- @bool[opt=false] opts.parse_special match strings of special tokens in the text
-- @bool[opt=false] opts.add_special put around it what the tokenizer's post-processor puts
-- @bool[opt=false] opts.spans return spans as well
-- @bool[opt=false] opts.inside the text stands behind a special token of the same sequence
-- @bool[opt=false] opts.continues the text goes on where other text of the same sequence ends
-- @treturn table ids; nil and a message with the byte if the text is not valid UTF-8
-- @treturn ?table with `spans`: for each id `{ first, last }`, bytes as `text:sub` counts them
-- @usage tok:encode "Critique: 2 + 3 = 5"   --> { 286, 58, 273, 281, 305, 282, 297 }
-- tok:encode("<|im_end|>", { parse_special = true }), #tok:encode "<|im_end|>"   --> { 313 } 10
function Tokenizer:encode(text, opts)
  local flags = flags_of("tokenizer:encode", opts)
  local encoding, why = encode(self, scratch, text, flags)
  if not encoding then return nil, why end
  if not (opts and opts.spans) then return ids_of(encoding) end
  local spans = {}
  for i = 1, tonumber(encoding.n) do
    local span = encoding.spans[i - 1]
    spans[i] = { tonumber(span.start) + 1, tonumber(span["end"]) }
  end
  return ids_of(encoding), spans
end

--- A memory for results, to pass to `encode_into` again and again: `n` ids in `ids[0]` to
-- `ids[n - 1]`, `spans` likewise with `start` and `end` from 0 (`span["end"]` in Lua).
function M.encoding() return ffi.gc(new_encoding(), free_encoding) end

--- The fast way: ids to C memory, without a Lua list.
-- @param encoding from `tokenizer.encoding`
-- @string text
-- @tab[opt] opts as in `encode`; spans are in `encoding.spans`
-- @return the encoding; nil and a message if the text is not valid UTF-8
-- @usage local encoding = cft.tokenizer.encoding()
-- tok:encode_into(encoding, "Critique: 5")
-- encoding.n, tok:token(encoding.ids[0])   --> 3LL "Critique"
function Tokenizer:encode_into(encoding, text, opts)
  return encode(self, encoding, text, flags_of("tokenizer:encode_into", opts))
end

local spans_only = tonumber(C.CFT_ENCODE_SPANS)
local parsed, inside, continues =
  C.CFT_ENCODE_PARSE_SPECIAL, C.CFT_ENCODE_INSIDE, C.CFT_ENCODE_CONTINUES
local shared = M.encoding()
local stripped = { left = C.CFT_ENCODE_STRIP_LEFT, right = C.CFT_ENCODE_STRIP_RIGHT,
                   both = bor(C.CFT_ENCODE_STRIP_LEFT, C.CFT_ENCODE_STRIP_RIGHT) }

--- Ids and spans in C memory that the next call of this function overwrites.
-- @string text
-- @bool[opt=false] parse_special
-- @string[opt] behind what the text stands behind in its sequence: a `"token"`, or `"text"` that it goes on from
-- @tab[opt] as_text a list of added tokens that are not matched, special or not; it keeps itself as a C array
-- @string[opt] strip `"left"`, `"right"` or `"both"`: white space there belongs to the token that stands beside it
-- @return the encoding, see `tokenizer.encoding`; nil and a message if the text is not valid UTF-8
-- @usage local e = tok:encode_spans("Critique<|im_end|>", true)
-- e.n, e.spans[1].start, tok:token(e.ids[1])   --> 2LL 8LL "<|im_end|>"
function Tokenizer:encode_spans(text, parse_special, behind, as_text, strip)
  local flags = bor(spans_only, parse_special and parsed or 0,
                    behind == "token" and inside or behind == "text" and continues or 0, strip and stripped[strip] or 0)
  local array = as_text and (as_text.array or ffi.new("int32_t[?]", #as_text, as_text))
  if as_text then as_text.array = array end
  return checked(shared, C.cft_tokenizer_encode_part(shared, self.handle, text, #text, flags, array,
                                                     as_text and #as_text or 0))
end

local batch_spec = { threads = { "integer", 0, min = 0, max = 256 } }
for name, spec in pairs(encode_spec) do batch_spec[name] = spec end

--- The ids of many texts, over threads.
-- @tab texts
-- @tab[opt] opts as in `encode`, and `threads` (0: one per processor)
-- @return an array of encodings in C memory, from 0, one for each text; nil and a message with the
-- text's number, from 0, if one is not valid UTF-8
-- @usage local list = tok:encode_batch { "Critique", "Step 1" }
-- list[0].n, list[1].n   --> 1LL 2LL
function Tokenizer:encode_batch(texts, opts)
  local o = check.options("tokenizer:encode_batch", opts, batch_spec)
  local threads = o.threads
  o.threads = nil
  local flags, n = flags_of("tokenizer:encode_batch", o), #texts
  local list = ffi.new("cft_text[?]", math.max(n, 1))
  local out = ffi.gc(ffi.new("cft_encoding[?]", math.max(n, 1)), function(encodings)
    for i = 0, n - 1 do free_encoding(encodings + i) end
  end)
  for i = 1, n do list[i - 1].data, list[i - 1].bytes = texts[i], #texts[i] end
  local status = C.cft_tokenizer_encode_batch(out, self.handle, list, n, flags, threads)
  if status == C.CFT_E_FORMAT then return nil, ffi.string(C.cft_last_error()) end
  door.check(status)
  return out
end

--- Where strings of special tokens stand in a text: what `parse_special` would make tokens of.
-- @string text any bytes
-- @treturn table of `{ id =, first =, last = }`, bytes as `text:sub` counts them
-- @usage tok:find_special("Step<|im_end|>")[1].first   --> 5
function Tokenizer:find_special(text)
  local capacity, matches, n = 16, nil, nil
  repeat
    matches = ffi.new("cft_token_match[?]", capacity)
    door.check(C.cft_tokenizer_find_special(self.handle, text, #text, matches, capacity, count_out))
    n = tonumber(count_out[0])
    local complete = n <= capacity
    capacity = n
  until complete
  local list = {}
  for i = 1, n do
    local m = matches[i - 1]
    list[i] = { id = m.id, first = tonumber(m.start) + 1, last = tonumber(m["end"]) }
  end
  return list
end

-- ---- decoding ---------------------------------------------------------------------------------

local room, room_bytes = ffi.new "char[4096]", 4096

--- The bytes that ids stand for. A character that is cut between tokens stays cut.
-- @tab ids
-- @tab[opt] opts
-- @bool[opt=false] opts.skip_special leave special tokens out
-- @bool[opt=false] opts.inside other ids of the same text stand before: a space of its beginning stays
-- @treturn string
-- @usage tok:decode(tok:encode "Step 1: 2 + 3 = 5")   --> "Step 1: 2 + 3 = 5"
function Tokenizer:decode(ids, opts)
  local o = opts and check.options("tokenizer:decode", opts, { skip_special = { "boolean", false },
                                                                    inside = { "boolean", false } })
  local flags = o and bor(o.skip_special and C.CFT_DECODE_SKIP_SPECIAL or 0,
                          o.inside and C.CFT_DECODE_INSIDE or 0) or 0
  local n = #ids
  local list = ffi.new("int32_t[?]", math.max(n, 1))
  for i = 1, n do list[i - 1] = ids[i] end
  door.check(C.cft_tokenizer_decode(room, room_bytes, bytes_out, self.handle, list, n, flags))
  local bytes = tonumber(bytes_out[0])
  if bytes > room_bytes then
    room, room_bytes = ffi.new("char[?]", 2 * bytes), 2 * bytes
    door.check(C.cft_tokenizer_decode(room, room_bytes, bytes_out, self.handle, list, n, flags))
  end
  return ffi.string(room, bytes)
end

-- ---- tokens -----------------------------------------------------------------------------------

--- How many rows an embedding needs: the highest id and one.
-- @usage tok:size(), tok:rows(), tok:id "Step", tok:token(0)   --> 314 314 279 "Ā"
function Tokenizer:size() return tonumber(C.cft_tokenizer_size(self.handle)) end

--- How many rows an embedding needs for the tokens that a file gives an id, or that were added since: without those at
-- the end that are `unplaced`, which files name and give none. transformers loads such a model, and fails where one is used.
function Tokenizer:rows()
  local n = self:size()
  while self.unplaced and self.unplaced[n - 1] do n = n - 1 end
  return n
end

--- The id of a token as its file spells it ("Ġthe", "<|im_end|>").
-- @string token
-- @treturn ?int nil if there is none
function Tokenizer:id(token)
  local id = C.cft_tokenizer_id(self.handle, token, #token)
  return id >= 0 and id or nil
end

--- The spelling of an id.
-- @int id
-- @treturn ?string nil if the id is not in use
function Tokenizer:token(id)
  local text = C.cft_tokenizer_token(self.handle, id, bytes_out)
  return text ~= nil and ffi.string(text, bytes_out[0]) or nil
end

--- Whether an id is a special token.
-- @int id
-- @usage tok:is_special(tok:id "<|im_end|>"), tok:is_special(0)   --> true false
function Tokenizer:is_special(id) return C.cft_tokenizer_is_special(self.handle, id) end

--- The ids that are put around every text that is encoded for completion: those of the post-processor, as in
-- transformers 5. It does not look at `add_bos_token` and `add_eos_token` of tokenizer_config.json where there is a
-- tokenizer.json; `notes` say where they differ.
-- @treturn table in front
-- @treturn table behind
-- @usage tok:around()   --> {} {}
function Tokenizer:around()
  local front, before, behind = C.cft_tokenizer_prefix(self.handle), {}, {}
  for i, id in ipairs(self:encode("", { add_special = true })) do table.insert(i <= front and before or behind, id) end
  return before, behind
end

local added_flags = { special = C.CFT_ADDED_SPECIAL, single_word = C.CFT_ADDED_SINGLE_WORD, lstrip = C.CFT_ADDED_LSTRIP,
                      rstrip = C.CFT_ADDED_RSTRIP, normalized = C.CFT_ADDED_NORMALIZED }

--- What an added token is.
-- @int id
-- @treturn ?table `special`, `single_word`, `lstrip`, `rstrip` and `normalized`, each true or false; nil if the id is no
-- added token
-- @usage tok:added(tok:id "<|im_end|>").special, tok:added(0)   --> true nil
function Tokenizer:added(id)
  local bits = C.cft_tokenizer_added(self.handle, id)
  if bits < 0 then return nil end
  local flags = {}
  for name, bit in pairs(added_flags) do flags[name] = band(bits, bit) ~= 0 end
  return flags
end

--- Make a text a token. One that is in the vocabulary keeps its id.
-- @string text
-- @tab[opt] opts
-- @bool[opt=false] opts.special
-- @treturn int its id; if it is new, the embedding must grow to `size()`
-- @usage local id = tok:add_token("<critique>", { special = true })
-- id == tok:size() - 1, tok:encode("<critique>", { parse_special = true })[1] == id   --> true true
function Tokenizer:add_token(text, opts)
  local o = check.options("tokenizer:add_token", opts, { special = { "boolean", false } })
  return self:put_token(text, { special = o.special, normalized = not o.special })
end

--- The same with all flags of an added token, in place of those it had.
-- @string text
-- @tab flags as `added` gives them
-- @treturn int its id
-- @usage local id = tok:put_token("<note>", tok:added(tok.eos))
-- tok:added(id).special   --> true
function Tokenizer:put_token(text, flags)
  local bits = 0
  for name, value in pairs(added_flags) do bits = bor(bits, flags[name] and value or 0) end
  door.check(C.cft_tokenizer_add_token(self.handle, text, #text, bits, id_out))
  if self.unplaced then self.unplaced[id_out[0]] = nil end  -- somebody asks for it
  return id_out[0]
end

-- ---- saving -----------------------------------------------------------------------------------

local function put_file(save, path, text) door.check(C.cft_file_write(save, path, text, #text)) end

-- What transformers wants to know beside tokenizer.json: the names of its own tokens, from whichever file they came.
local function config_of(self)
  local config = {}
  for key, value in pairs(self.config or {}) do config[key] = value end
  for _, role in ipairs(named_tokens.roles) do
    local text = self.named and self.named[role]
    if text then config[role .. "_token"] = text end
  end
  if self.named and self.named.extra then config.extra_special_tokens = json.array(self.named.extra) end
  for _, role in ipairs(roles) do
    config[role .. "_token"] = self[role] and self:token(self[role]) or nil
  end
  config.tokenizer_class = config.tokenizer_class or "PreTrainedTokenizerFast"
  config.chat_template = nil  -- it has a file of its own, which transformers 4 and 5 read
  return config
end

--- Write tokenizer.json and what belongs to it into a folder: tokenizer_config.json with the names
-- of its own tokens, chat_template.jinja and additional_chat_templates/. Each file appears whole or not at all. Tokens at
-- the end that no file gives an id are named, and get none.
-- @string folder
-- @param[opt] save a `cft_save *`, in whose folder `folder` lies: "" is all of it
function Tokenizer:save(folder, save)
  if not save then door.check(C.cft_folder_make(folder)) end
  folder = folder == "" and "" or folder .. "/"
  door.check(C.cft_tokenizer_save(self.handle, save, folder .. "tokenizer.json", self:rows()))
  put_file(save, folder .. "tokenizer_config.json", json.encode(config_of(self), { spellings = self.spellings }) .. "\n")
  chat_templates.write(folder, function(path, text) put_file(save, path, text) end, self.chat_template,
                       self.named_templates)
end

--- A name for what it does with texts, tokens that were added included: equal for equal tokenizers.
-- @treturn string
-- @usage tok:hash() == cft.demo.words(source):hash()   --> true
function Tokenizer:hash()
  local path, hex = os.tmpname(), ffi.new "char[33]"
  local status = C.cft_tokenizer_save(self.handle, nil, path, self:size())
  if status == C.CFT_OK then status = C.cft_hash_file(hex, path) end
  os.remove(path)
  door.check(status)
  return ("%s %s %s"):format(ffi.string(hex), tostring(self.bos), tostring(self.eos))
end

--- Its size, and the tokens that texts begin and end with.
function Tokenizer:__tostring()
  local function named(id) return id and ("%s (%d)"):format(texts.quoted(self:token(id) or "?"), id) or "none" end
  return ("tokenizer of %s ids; bos %s, eos %s"):format(format.count(self:size()), named(self.bos), named(self.eos))
end

function Tokenizer:__len() return self:size() end

return M
