--- Text from a model.
-- @usage local results = cft.generate(model, { { 1, 2, 3 }, { 4, 5 } }, { max_new = 8, n = 4, temperature = 1 })
-- #results[2].samples[3].ids   --> 8

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local engines = require "cft.generate.engine"
local finally = require "cft.base.finally"
local kv_cache = require "cft.nn.kv_cache"
local mask = require "cft.samples.mask"
local prompts_ = require "cft.generate.prompt"
local tensor = require "cft.engine.tensor"
local texts = require "cft.generate.text"

local M = {}

local function positive(value) if not (value > 0) then return "more than 0" end end

--- How tokens are chosen, and when a sample ends. docs/generate.md says it in words.
M.sampling = {
  max_new = { "integer", 256, min = 1 },
  temperature = { "number", 0, min = 0 },      -- 0: the largest logit
  top_k = { "integer", 0, min = 0, max = 2 ^ 31 - 1 },  -- 0: no bound
  top_p = { "number", 1, min = 0, max = 1, fits = positive },
  min_p = { "number", 0, min = 0, max = 1 },
  penalty = { "number", 1, min = 0, fits = positive },  -- on repeats: 1 is none
  bias = { "table", optional = true },         -- id → what is added to its logit
  seed = { "integer", 0, min = 0 },
  sequence = { "integer", optional = true, min = 0 },  -- number of a prompt's first sample, for the noise
  n = { "integer", 1, min = 1, max = 4096 },   -- samples of each prompt
  stop = { "string|table", optional = true },  -- strings, or ids; each ends a sample
  ends = { "boolean", true },                  -- whether the model's own end tokens do
  logprobs = { "integer", optional = true, min = 0, max = 64 },  -- and those of so many of the largest
}

--- How the work is done; the texts do not depend on it.
M.engine = {
  batch = { "integer", 64, min = 1, max = 4096 },   -- sequences at once
  chunk = { "integer", 512, min = 1 },              -- tokens of prompts in a step
  memory = { "number", optional = true, min = 0 },  -- bytes for keys and values
  deterministic = { "boolean", false },
}

local call = {
  raw = { "boolean", false }, system = { "string", optional = true }, tokenizer = { "any", optional = true },
  show = { "function", optional = true },      -- called with each piece of text, and the number of its prompt and sample
}

--- All options of a call: name → spec.
M.options = {}
for _, specs in ipairs { M.sampling, M.engine, call } do
  for name, spec in pairs(specs) do M.options[name] = spec end
end

-- ---- requests ------------------------------------------------------------------------------------

-- Strings and ids that end a sample.
local function stops_of(o, model, tok, where)
  local ids, strings = o.ends and prompts_.ends(model, tok) or {}, {}
  for _, stop in ipairs(type(o.stop) == "string" and { o.stop } or o.stop or {}) do
    if type(stop) == "string" and stop ~= "" then
      if not tok then blame("%s: a stop string needs a tokenizer; give ids", where) end
      strings[#strings + 1] = stop
    elseif type(stop) == "number" and stop % 1 == 0 then
      ids[stop] = true
    else
      blame("%s: 'stop' is a list of texts and of ids; got %s", where, tostring(stop))
    end
  end
  return ids, strings
end

local function bias_of(bias, vocab, where)
  local list = {}
  for id, value in pairs(bias or {}) do
    if type(id) ~= "number" or id % 1 ~= 0 or id < 0 or id >= vocab or type(value) ~= "number"
       or not (math.abs(value) < 1e30) then
      blame("%s: 'bias' has numbers by id, from 0 to %d; got [%s] = %s", where, vocab - 1, tostring(id), tostring(value))
    end
    list[#list + 1] = { id, value }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return #list > 0 and list or nil
end

-- A request for the engine, of checked options.
-- @tparam Model model @tparam ?Tokenizer tok @tab ids the prompt's
-- @tab o of `M.sampling` @int sequence its number, where the options have none
-- @func[opt] show called with a sample's number, its new text (may be empty) and whether it has ended
function M.request(model, tok, ids, o, sequence, show, where)
  local stop, strings = stops_of(o, model, tok, where)
  local r = { prompt = ids, n = o.n, max_new = o.max_new, stop = stop, top = o.logprobs or 0, temperature = o.temperature,
              top_k = o.top_k, top_p = o.top_p, min_p = o.min_p, penalty = o.penalty, seed = o.seed,
              bias = bias_of(o.bias, model.config.vocab, where), sequence = o.sequence or sequence, texts = {} }
  if not tok then return r end
  for sample = 1, o.n do r.texts[sample] = texts.new(tok, strings) end
  function r.token(seq, id)
    local text, ended = r.texts[seq.sample], false
    -- An id that ends the sample is no text of it.
    if id and not stop[id] then ended = text:add(id) end
    if show then show(seq.sample, text:news(id == nil), id == nil) end
    return ended
  end
  return r
end

-- What a finished sample is: `ids` that follow the prompt, an end token included; `text`, if there is a tokenizer, cut
-- in front of a stop string; `finish`: "stop", "length" or "context"; and with `logprobs` in the options `logprobs`, a
-- number for each id, and `top`, for each id the list of { id =, logprob = } of the largest.
-- @tab seq a finished sequence of the engine
-- @tab o of `M.sampling`, as its request was made
-- @treturn table
function M.sample(seq, o)
  local ids, request = {}, seq.request
  for i = seq.prompt + 1, #seq.ids do ids[#ids + 1] = seq.ids[i] end
  local text = request.texts[seq.sample]
  return { ids = ids, text = text and text.text, finish = seq.finish, logprobs = o.logprobs and seq.logprobs,
           top = o.logprobs and o.logprobs > 0 and seq.top or nil }
end

-- ---- memory --------------------------------------------------------------------------------------

-- Half of what the device has left, or 2 GiB where that is not known.
local function bytes_left(device)
  local m = tensor.memory(device)
  return m.limit > 0 and math.max(0, m.limit - m.total) / 2 or 2 ^ 31
end

-- An engine for requests: as many pages as they can use at once, and the memory allows.
-- @tparam Model model @tab requests of `M.request` @tab o of `M.engine`
-- @string where for messages
-- @treturn Engine
function M.engine_for(model, requests, o, where)
  local wanted = {}
  for _, r in ipairs(requests) do
    local tokens = math.min(#r.prompt + r.max_new, model.config.context)
    for _ = 1, math.min(r.n, o.batch) do wanted[#wanted + 1] = math.ceil(tokens / kv_cache.PAGE) + 1 end
  end
  table.sort(wanted, function(a, b) return a > b end)
  local pages = 0
  for i = 1, math.min(o.batch, #wanted) do pages = pages + wanted[i] end
  local bytes = engines.page_bytes(model)
  local most = math.floor((o.memory or bytes_left(model.device)) / bytes)
  if most < 1 then
    blame("%s: memory for keys and values is %d bytes, and a page of %d tokens takes %d", where,
          o.memory or bytes_left(model.device), kv_cache.PAGE, bytes)
  end
  return engines.new(model, { pages = math.min(pages, most), batch = o.batch, chunk = o.chunk,
                              deterministic = o.deterministic })
end

-- ---- calls ---------------------------------------------------------------------------------------

-- Run requests to their end. @return for each the list of its sequences, and what the engine counted
local function run_all(model, requests, o, where)
  if #requests == 0 then return {}, {} end
  local engine, groups = M.engine_for(model, requests, o, where), {}
  finally(function() engine:release() end, function()
    for i, request in ipairs(requests) do groups[i] = engine:add(request) end
    while engine:busy() do engine:step() end
  end)
  return groups, engine.counts
end

-- A text, one conversation, or one prompt of ids; else a list of these.
local function is_one(prompts)
  if type(prompts) ~= "table" then return true end
  return type(prompts[1]) == "number" or type(prompts[1]) == "table" and prompts[1].role ~= nil
end

local function generate(model, prompts, opts)
  local where = "generate"
  local o = check.options(where, opts or {}, M.options)
  local one = is_one(prompts)
  local tok = o.tokenizer or prompts_.tokenizer_of(model)
  local requests, sequence = {}, 0
  for i, prompt in ipairs(one and { prompts } or prompts) do
    local function show(sample, text) o.show(text, i, sample) end
    requests[i] = M.request(model, tok, prompts_.ids(prompt, tok, o, where), o, sequence, o.show and show, where)
    sequence = sequence + o.n
  end
  local groups, counts = run_all(model, requests, o, where)
  local results = { counts = counts }
  for i, group in ipairs(groups) do
    local samples = {}
    for s, seq in ipairs(group) do samples[s] = M.sample(seq, o) end
    results[i] = { prompt = requests[i].prompt, samples = samples, text = samples[1].text, ids = samples[1].ids }
  end
  if not one then return results end
  return results[1].text, results[1]
end

--- Continue prompts, all at once: what a call of this module does.
-- @function M
-- @tparam Model model
-- @param prompts a text (a question, by the model's chat template if it has one); a conversation, { { role = "user",
-- content = "..." }, ... }; a prompt of ids; or a list of prompts
-- @tab[opt] opts of `M.options`
-- @return for a single prompt the text of its first sample, and its result; for a list the results: `prompt` (ids),
-- `samples`, as `M.sample` has them, and `text` and `ids`, the first sample's
setmetatable(M, { __call = function(_, ...) return generate(...) end })

local ids_options = { max_new = { "integer", 32, min = 1 }, stop = { "table", {} } }
for name, spec in pairs(M.options) do ids_options[name] = ids_options[name] or spec end

--- Continue prompts of ids.
-- @tparam Model model @tab prompts a list of lists of ids
-- @tab[opt] opts of `M.options`; no token ends a sample but those of `stop`, a list of ids; `max_new` is 32
-- @treturn table for each prompt the list of ids that follow it, a stop id included; of its first sample
-- @usage #cft.generate.ids(model, { { 1, 2, 3 } }, { max_new = 5 })[1]   --> 5
function M.ids(model, prompts, opts)
  local o = check.options("generate.ids", opts or {}, ids_options)
  o.ends = false
  local requests, written = {}, {}
  for i, ids in ipairs(prompts) do
    requests[i] = M.request(model, nil, prompts_.ids(ids, nil, o, "generate.ids"), o, (i - 1) * o.n, nil, "generate.ids")
  end
  for i, group in ipairs(run_all(model, requests, o, "generate.ids")) do written[i] = M.sample(group[1], o).ids end
  return written
end

--- Continue one text. @tparam Model model @tparam Tokenizer tok @string prompt @tab[opt] opts as `ids`
-- @treturn string what follows, without special tokens
-- @usage type(cft.generate.text(model, tok, "2 + 3 =", { max_new = 5 }))   --> "string"
function M.text(model, tok, prompt, opts)
  return tok:decode(M.ids(model, { tok:encode(prompt) }, opts)[1], { skip_special = true })
end

--- What a model answers to the prompts of records: to all that stands before their last answer.
-- @tab run a recipe's run; or a table with `model`, a Model, `chat` and `tokenizer`
-- @tab records a list of conversations
-- @tab[opt] opts as `ids`; a text ends with the template's end token
-- @treturn table for each record the text, without special tokens
-- @usage local writer = { model = model, chat = chat, tokenizer = tok }
-- #cft.generate.answers(writer, { source:get(0), source:get(1) }, { max_new = 5 })   --> 2
function M.answers(run, records, opts)
  local prompts, o = {}, { stop = { (run.chat:end_token(run.tokenizer)) } }  -- its id, not its text
  for name, value in pairs(opts or {}) do o[name] = value end
  if type(records) ~= "table" then blame("generate.answers: records are a list of conversations, got %s", type(records)) end
  for i, record in ipairs(records) do
    if type(record) ~= "table" or type(record.messages) ~= "table" or not record.messages[1] then
      blame("generate.answers: record %d is no conversation, a table with `messages`; cft.data.conversation makes one", i)
    end
    prompts[i] = assert(mask.prompt(record, run.chat, run.tokenizer))
  end
  local model = type(run.model) == "function" and run:model() or run.model
  local written = M.ids(model, prompts, o)
  for i, ids in ipairs(written) do written[i] = run.tokenizer:decode(ids, { skip_special = true }) end
  return written
end

return M
