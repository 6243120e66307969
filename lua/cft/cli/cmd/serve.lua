--- serve a model over HTTP, in the forms of OpenAI's API

local arguments = require "cft.cli.arguments"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local generate = require "cft.generate"
local host = require "cft.host"
local load_model = require "cft.cli.model"
local serve = require "cft.serve"
local texts = require "cft.base.text"

local M = {}

local HELP = [[
Usage: cftrun serve MODEL [option ...]

  MODEL is a folder, a GGUF file, or a name in the Hub's cache. /v1/chat/completions, /v1/completions, /v1/models, /health
  and /metrics are answered until SIGTERM or Ctrl-C, which let what was begun come to its end.

  --host HOST          an address or a name; 127.0.0.1. Others than this machine's own want a key
  --port PORT          8000; 0 takes one that is free
  --key-file FILE      its first line is the key that is wanted of clients; else that of CFT_SERVE_KEY
  --allow-host NAME    a name in Host beside localhost, where only this machine is served; may come several times
  --origin ORIGIN      web pages of it may ask (CORS), as https://example.org; * is all; may come several times

  --max-tokens N       tokens of an answer, at most; the model's context
  --max-n N            answers to a request, at most; 16
  --max-body SIZE      of a request's body; 4MiB
  --queue N            answers that wait beside those that are written, before 429; 256
  --connections N      open at once; 512
  --idle SECONDS       until a connection that brings or takes nothing is closed; 60
  --drain SECONDS      for what was begun, when the server is asked to end; 60

  --dtype TYPE         auto (bf16 where the device is faster in it, else f32), f32 or bf16
  --device NAME        cpu, cuda, cuda:1 or auto; cpu
  --batch N            sequences at once; 64
  --chunk N            tokens of prompts that are read in a step; 512
  --memory SIZE        for keys and values, as 2GiB; half of what is free
  --deterministic      no answer depends on what else is answered; on a GPU by kernels of its own, slower

  docs/serve.md says more.]]

local function size(v) if not format.size(v) then return "a size, as 4MiB" end end

local specs = {
  model = { "string", optional = true }, host = { "string", "127.0.0.1" }, port = { "integer", 8000, min = 0, max = 65535 },
  key_file = { "string", optional = true }, allow_host = { "string", optional = true, list = true },
  origin = { "string", optional = true, list = true },
  max_tokens = { "integer", optional = true, min = 1 }, max_n = { "integer", 16, min = 1, max = 4096 },
  max_body = { "string", "4MiB", fits = size }, queue = { "integer", 256, min = 0, max = 1e6 },
  connections = { "integer", 512, min = 1, max = 1e5 }, idle = { "integer", 60, min = 1, max = 86400 },
  drain = { "integer", 60, min = 0, max = 86400 }, help = { "boolean", false },
  dtype = { "string", "auto", one_of = { "auto", "f32", "bf16" } }, device = { "string", "cpu", fits = check.device },
  memory = { "string", optional = true, fits = size },
}
for name, spec in pairs(generate.engine) do specs[name] = specs[name] or spec end

local function refuse(...) exit.fail(exit.USAGE, "serve: " .. (...), select(2, ...)) end

-- The key: a line without white space, of a file or the environment. It is in no message.
local function key_of(o)
  local from, text = "CFT_SERVE_KEY", os.getenv "CFT_SERVE_KEY"
  if o.key_file then
    local file, why = io.open(o.key_file, "rb")
    text = file and file:read "*l"
    if file then file:close() end
    if not text then refuse("--key-file: %s", why or o.key_file .. " has no line") end
    from = o.key_file
  end
  if not text or text == "" and not o.key_file then return nil end
  text = text:gsub("%s+$", "")
  if #text < 8 or text:find "[^!-~]" then refuse("%s: a key has 8 characters or more, without white space", from) end
  return text
end

local function set_of(list, lower)
  local set = {}
  for _, name in ipairs(list or {}) do set[lower and name:lower() or name] = true end
  return set
end

local function parse(args)
  local o = arguments("serve", args, specs, { "model" })
  if not o.model then refuse "a model is wanted: cftrun serve MODEL" end
  o.max_body, o.memory = format.size(o.max_body), o.memory and format.size(o.memory)
  if not (o.max_body >= 1024 and o.max_body <= 2 ^ 30) then refuse("--max-body is from 1KiB to 1GiB") end
  o.key, o.origins, o.hosts = key_of(o), set_of(o.origin), set_of(o.allow_host, true)
  return o
end

--- @tab args
function M.run(args)
  for _, a in ipairs(args) do
    if a == "--help" or a == "-h" then return print(HELP) end
  end
  local o = parse(args)
  local model = load_model("serve", o)
  o.max_tokens = math.min(o.max_tokens or model.config.context, model.config.context)
  -- Clients see a name of the Hub, or a file's own, and no path of this machine.
  local name = host.kind(o.model) and o.model:gsub("/+$", ""):match "[^/]*$" or o.model
  serve.run(model, o, name, function(port)
    local shown = o.host:find ":" and "[" .. o.host .. "]" or o.host
    print(("serving %s on http://%s:%d"):format(texts.printable(name), texts.printable(shown), port))
    io.stdout:flush()
  end)
end

return M
