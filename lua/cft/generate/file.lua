--- A file of prompts becomes a file of answers, in the same order; what was killed goes on where it was.
--
-- Answers are appended to OUT.part, a whole line at a time, and OUT appears when all are there. OUT.part.json says
-- which prompts and settings they belong to. Noise is a function of a record's place in the file, so that the answers
-- of several runs are those of one.

local blame = require "cft.base.blame"
local exit = require "cft.base.exit"
local files = require "cft.io.files"
local finally = require "cft.base.finally"
local generate = require "cft.generate"
local host = require "cft.host"
local json = require "cft.base.json"
local part = require "cft.io.part"
local prompts = require "cft.generate.prompt"
local texts = require "cft.generate.text"

local M = {}

local forms = { "prompt", "messages", "ids" }

-- What a record asks: a text, messages or ids.
local function asked(record, where)
  if type(record) ~= "table" or json.is_array(record) then blame("%s: a record is an object, got %s", where, type(record)) end
  local found
  for _, name in ipairs(forms) do
    if record[name] ~= nil and record[name] ~= json.null then
      if found then blame("%s: a record has one of prompt, messages and ids; this one has %s and %s", where, found, name) end
      found = name
    end
  end
  if not found then blame("%s: a record has a prompt, messages or ids", where) end
  local value = record[found]
  if found == "prompt" and type(value) ~= "string" then blame("%s: 'prompt' must be a text", where) end
  if found ~= "prompt" and (type(value) ~= "table" or #value == 0) then blame("%s: '%s' must be a list, not empty", where, found) end
  if record.generated ~= nil then blame("%s: a field 'generated' is there already", where) end
  return value
end

-- The lines of a file that are not empty: a list of { text, where }.
local function lines_of(path)
  local file, why = io.open(path, "rb")
  if not file then exit.fail(exit.MISSING, "generate: %s", why) end
  if host.kind(path) == "folder" then exit.fail(exit.MISSING, "generate: %s is a folder; a file of prompts is wanted", path) end
  local list, number = {}, 0
  for line in file:lines() do
    number = number + 1
    if line:find "%S" then list[#list + 1] = { line, ("%s, line %d"):format(path, number) } end
  end
  file:close()
  return list
end

local function parsed(line, tok, o)
  local record, why = json.decode(line[1])
  if record == nil then blame("%s: %s", line[2], why) end
  return record, prompts.ids(asked(record, line[2]), tok, o, line[2])
end

-- How many whole lines a file has; what follows them is taken away.
local function whole_lines(path)
  local file = io.open(path, "rb")
  if not file then return 0 end
  local text = file:read "*a"
  file:close()
  local whole = text:match "^(.*\n)" or ""
  if #whole < #text then files.write(path, whole) end
  return select(2, whole:gsub("\n", ""))
end

--- What must be the same when a file is gone on with, as a text.
-- @tparam Model model @string path of the prompts @tab o as `run`
function M.identity(model, path, o)
  local same = { prompts = files.hash_file(path), dtype = model.dtype, model = model.path, raw = o.raw,
                 system = o.system or json.null }
  for name in pairs(generate.sampling) do same[name] = o[name] == nil and json.null or o[name] end
  local bias = {}
  for id, value in pairs(o.bias or {}) do bias[tostring(id)] = value end
  same.bias = bias
  return json.encode(same)
end

-- How many answers are there already; a mistake if they are others'.
local function begun(model, path, out, o)
  if host.kind(out) then exit.fail(exit.USAGE, "generate: %s is there already; remove it, or write to another file", out) end
  local mine, theirs = M.identity(model, path, o), io.open(out .. ".part.json", "rb")
  if not theirs then
    files.write(out .. ".part.json", mine)
    os.remove(out .. ".part")
    return 0
  end
  local text = theirs:read "*a"
  theirs:close()
  if text ~= mine then
    local was, now = json.decode(text) or {}, json.decode(mine)
    for name, value in pairs(now) do
      if json.encode { value } ~= json.encode { was[name] } then
        exit.fail(exit.USAGE, "generate: %s.part was begun with another %s; give the same again, or remove %s.part and " ..
                  "%s.part.json", out, name, out, out)
      end
    end
  end
  return whole_lines(out .. ".part")
end

local function answer(record, group, o)
  local list = {}
  for i, seq in ipairs(group) do
    local s = generate.sample(seq, o)
    list[i] = { text = texts.valid(s.text), finish = s.finish, tokens = #s.ids }
    if o.logprobs then
      list[i].ids, list[i].logprobs = json.array(s.ids), json.array(s.logprobs)
      list[i].top = s.top
    end
  end
  record.generated = list
  return json.encode(record) .. "\n"
end

-- Keep the engine busy with lines from `first` on, and write each answer when those before it are written.
local function run(engine, lines, tok, o, model, first, put)
  local added, written, waiting = first - 1, first - 1, {}
  local ahead = 4 * o.batch  -- records beyond the last that was written
  while written < #lines do
    while added < #lines and added - written < ahead do
      added = added + 1
      local record, ids = parsed(lines[added], tok, o)
      local request = generate.request(model, tok, ids, o, (added - 1) * o.n, nil, lines[added][2])
      waiting[added] = { record, engine:add(request) }
    end
    engine:step()
    while waiting[written + 1] do
      local record, group = unpack(waiting[written + 1])
      for _, seq in ipairs(group) do
        if not seq.finish then group = nil break end
      end
      if not group then break end
      written = written + 1
      put(answer(record, group, o), written)
      waiting[written] = nil
    end
  end
end

-- What the lines ask of the engine: all are looked at before the first is answered.
local function sizes_of(model, tok, lines, o)
  local sizes = {}
  for i, line in ipairs(lines) do
    local _, ids = parsed(line, tok, o)
    if #ids >= model.config.context then
      blame("%s: a prompt of %d tokens, but the model's context is %d", line[2], #ids, model.config.context)
    end
    for _, id in ipairs(ids) do
      if id < 0 or id >= model.config.vocab then
        blame("%s: id %d in a prompt; the model's vocabulary is 0 to %d", line[2], id, model.config.vocab - 1)
      end
    end
    sizes[i] = { prompt = ids, n = o.n, max_new = o.max_new }
  end
  return sizes
end

-- What `M.run` does while no other process writes the same file.
local function write(model, tok, lines, path, out, o, progress)
  local sizes = sizes_of(model, tok, lines, o)
  local done = begun(model, path, out, o)
  if done > #lines then blame("generate: %s.part has %d answers, for %d prompts", out, done, #lines) end
  local counts = {}
  local file, why = io.open(out .. ".part", "ab")
  if not file then exit.fail(exit.FAILED, "generate: %s", why) end
  local engine = #lines > done and generate.engine_for(model, sizes, o, "generate")
  sizes = nil
  finally(function()
    if engine then engine:release() end
    file:close()
  end, function()
    if not engine then return end
    run(engine, lines, tok, o, model, done + 1, function(line, number)
      if not (file:write(line) and file:flush()) then exit.fail(exit.FAILED, "generate: %s.part cannot be written", out) end
      if progress then progress(number, #lines) end
    end)
    counts = engine.counts
  end)
  files.replace(out .. ".part", out)
  files.remove(out .. ".part.json")
  return counts
end

--- Answer a file of prompts.
-- @tparam Model model @tparam ?Tokenizer tok
-- @string path JSONL: records with `prompt`, `messages` or `ids`; other fields are copied
-- @string out JSONL: each record with `generated`, a list of { text, finish, tokens }, with `logprobs` also ids,
-- logprobs and top
-- @tab o of `cft.generate.options`, checked
-- @func[opt] progress called with how many answers are written, and of how many
-- @treturn table what the engine counted
function M.run(model, tok, path, out, o, progress)
  local lines = lines_of(path)
  if not tok then blame "generate: the model came without a tokenizer, and answers are texts" end
  return part.alone("generate", out, function() return write(model, tok, lines, path, out, o, progress) end)
end

return M
