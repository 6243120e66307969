--- measure the tokenizer, alone or against Hugging Face tokenizers
--
--   cftrun bench tokenizer --texts FILE [--model PATH] [--threads 1] [--repeat 5]
--                          [--against tokenizers] [--json]
--
-- PATH is a folder with tokenizer.json, a tokenizer.json, or a GGUF file; without it SmolLM2's is
-- fetched as the tests do. FILE is any text file, one text a line. Both sides get the same
-- tokenizer.json and the same texts, and their ids are compared. CFT_PYTHON names a Python with tokenizers.
-- @module cft.cli.bench.tokenizer

local arguments = require "cft.cli.arguments"
local exit = require "cft.base.exit"
local host = require "cft.host"
local ffi = require "ffi"
local json = require "cft.base.json"
local save = require "cft.io.save"
local tokenizer = require "cft.text.tokenizer"

local M = {}

local spec = {
  model = { "string", optional = true }, texts = { "string", optional = true },
  threads = { "integer", 1, min = 1, max = 256 }, ["repeat"] = { "integer", 5, min = 1 },
  against = { "string", "", one_of = { "", "tokenizers" } }, json = { "boolean", false },
}

-- ---- what is encoded ---------------------------------------------------------------------------

local function texts_of(path)
  if not path then exit.fail(exit.USAGE, "bench tokenizer: --texts FILE is wanted, one text a line") end
  if host.kind(path) ~= "file" then exit.fail(exit.MISSING, "bench tokenizer: no file %s", path) end
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

local function default_model()
  local pipe = assert(io.popen "tests/fetch_models.sh smollm2 2>&1")
  local said = pipe:read "*a":gsub("%s+$", "")
  pipe:close()
  if host.kind(said) ~= "file" then
    exit.fail(exit.MISSING, "bench tokenizer: give --model PATH; SmolLM2 is not here: %s", said)
  end
  return said
end

-- ---- ours and theirs ---------------------------------------------------------------------------

local function timed(f)
  local start = host.now()
  local result, why = f()
  if not result then exit.fail(exit.FAILED, "bench tokenizer: %s", why) end
  return host.now() - start, result
end

local function ours(path, list, o)
  local tok
  local load = timed(function()
    tok = tokenizer.load(path)
    return tok
  end)
  local function pass() return tok:encode_batch(list, { threads = o.threads }) end
  local first = timed(pass)  -- no word is remembered yet
  local best, encodings = first, nil
  for _ = 1, o["repeat"] do
    local seconds, result = timed(pass)
    best, encodings = math.min(best, seconds), result
  end
  return { tok = tok, load = load, first = first, best = best, encodings = encodings }
end

-- The same file and texts on one thread of tokenizers; its ids come back as 32-bit numbers: of each
-- text how many, then they.
local function theirs(us, list, o)
  local folder = assert(host.temporary_folder())
  us.tok:save(folder)
  local lines = {}
  for i, text in ipairs(list) do lines[i] = json.encode(text) end
  save.write(folder .. "/texts", table.concat(lines, "\n") .. "\n")
  save.write(folder .. "/job.json", json.encode {
    tokenizer = folder .. "/tokenizer.json", texts = folder .. "/texts", ids = folder .. "/ids",
    ["repeat"] = math.min(o["repeat"], 3) })
  local python = os.getenv "CFT_PYTHON" or "python3"
  local script = os.getenv "CFT_BENCH_TOKENIZERS" or "tests/oracle/tokenizer.py"
  local command = "TOKENIZERS_PARALLELISM=false %s %s --time %s/job.json"
  local pipe = assert(io.popen(command:format(python, script, folder)))
  local result = json.decode(pipe:read "*a")
  pipe:close()
  if type(result) ~= "table" then
    save.remove(folder)
    exit.fail(exit.MISSING, "bench tokenizer: %s %s gave no result; CFT_PYTHON names a Python with tokenizers",
              python, script)
  end
  local file = assert(io.open(folder .. "/ids", "rb"))
  local bytes = file:read "*a"
  file:close()
  save.remove(folder)

  local at, different = 1, 0
  for i = 1, #list do
    local e, a, b, c, d = us.encodings[i - 1], bytes:byte(at, at + 3)
    local length = 4 * (a + 2 ^ 8 * b + 2 ^ 16 * c + 2 ^ 24 * d)  -- of the ids behind their number
    if ffi.string(e.ids, 4 * tonumber(e.n)) ~= bytes:sub(at + 4, at + 3 + length) then different = different + 1 end
    at = at + 4 + length
  end
  return { seconds = result.seconds, version = result.version, different = different }
end

--- The command.
-- @tab args what stands behind `cftrun bench tokenizer`
function M.run(args)
  local o = arguments("bench tokenizer", args, spec)
  local list = texts_of(o.texts)
  local path = o.model or default_model()
  local bytes, tokens = 0, 0
  for _, text in ipairs(list) do bytes = bytes + #text end
  local us = ours(path, list, o)
  for i = 0, #list - 1 do tokens = tokens + tonumber(us.encodings[i].n) end
  local function rate(seconds) return bytes / 1e6 / seconds end

  local result = { model = path, texts = #list, bytes = bytes, tokens = tokens, threads = o.threads,
                   load_seconds = us.load, first_mb_per_s = rate(us.first), mb_per_s = rate(us.best) }
  if o.against == "tokenizers" then
    local them = theirs(us, list, o)
    result.tokenizers = { version = them.version, mb_per_s = rate(them.seconds) }
    result.ratio = them.seconds / us.best
    result.different = them.different
  end
  if o.json then
    print(json.encode(result, { indent = 2 }))
  else
    print(("%s: %d texts, %.1f MB, %d tokens (%.2f bytes a token), loaded in %.0f ms"):format(
      path, #list, bytes / 1e6, tokens, bytes / math.max(tokens, 1), us.load * 1e3))
    print(("  cft, %d thread%s: %7.1f MB/s, %.1f on the first pass"):format(
      o.threads, o.threads > 1 and "s" or "", result.mb_per_s, result.first_mb_per_s))
    if result.ratio then
      print(("  tokenizers %s, 1 thread: %.2f MB/s; cft is %.1f times as fast; %s"):format(
        result.tokenizers.version, result.tokenizers.mb_per_s, result.ratio,
        result.different == 0 and "all ids equal" or ("THE IDS OF %d TEXTS DIFFER"):format(result.different)))
    end
  end
  if (result.different or 0) > 0 then exit.leave(exit.FAILED) end
end

return M
