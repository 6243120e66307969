--- write text with a model: one prompt, a file of prompts, or a conversation

local arguments = require "cft.cli.arguments"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local generate = require "cft.generate"
local host = require "cft.host"
local load_model = require "cft.cli.model"
local prompts = require "cft.generate.prompt"
local tensor = require "cft.engine.tensor"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local HELP = [[
Usage: cftrun generate MODEL ["PROMPT"] [option ...]
       cftrun generate MODEL --file prompts.jsonl --out answers.jsonl [option ...]

  MODEL is a folder, a GGUF file, or a name in the Hub's cache. A prompt is asked by the model's chat template, if it
  has one. Without a prompt and a file: a conversation at the terminal.

  --raw                go on from the prompt as plain text
  --system TEXT        a system message in front
  --file FILE          JSONL; a record has prompt, messages or ids
  --out FILE           JSONL, each record with `generated`; the same command goes on with what was interrupted

  --max-new N          tokens of an answer, at most; 256
  --temperature T      0, the likeliest token; 1 draws as the model says
  --top-k K            only the K likeliest tokens; 0, all
  --top-p P            only the likeliest tokens that together have this probability; 1, all
  --min-p P            only tokens at least P times as likely as the likeliest; 0, all
  --penalty X          logits of tokens that are there already are divided by X (multiplied where negative); 1
  --bias ID=NUMBER     added to the logit of a token; may come several times
  --seed N             of the draws; 0
  --n N                answers to each prompt; 1
  --stop TEXT          ends an answer, which is cut in front of it; may come several times
  --no-ends            the model's own end tokens do not end an answer
  --logprobs N         log-probabilities of the tokens and of N of the likeliest; with --file

  --dtype TYPE         auto (bf16 where the device is faster in it, else f32), f32 or bf16
  --device NAME        cpu, cuda, cuda:1 or auto; cpu
  --batch N            sequences at once; 64
  --chunk N            tokens of prompts that are read in a step; 512
  --memory SIZE        for keys and values, as 2GiB; half of what is free
  --deterministic      no answer depends on what else is answered; on a GPU by kernels of its own, slower

  docs/generate.md says more.]]

local specs = {
  model = { "string", optional = true }, prompt = { "string", optional = true }, file = { "string", optional = true },
  out = { "string", optional = true }, raw = { "boolean", false }, system = { "string", optional = true },
  stop = { "string", optional = true, list = true, fits = function(v) if v == "" then return "a text that is not empty" end end },
  bias = { "string", optional = true, list = true },
  no_ends = { "boolean", false }, help = { "boolean", false },
  dtype = { "string", "auto", one_of = { "auto", "f32", "bf16" } }, device = { "string", "cpu", fits = check.device },
  memory = { "string", optional = true, fits = function(v) if not format.size(v) then return "a size, as 2GiB" end end },
}
for _, table_ in ipairs { generate.sampling, generate.engine } do
  for name, spec in pairs(table_) do
    if name ~= "ends" and name ~= "sequence" then specs[name] = specs[name] or spec end
  end
end

local function refuse(...) exit.fail(exit.USAGE, "generate: " .. (...), select(2, ...)) end

local function bias_of(list)
  local bias
  for _, text in ipairs(list or {}) do
    local id, value = text:match "^(%d+)=([-+%d.eE]+)$"
    value = tonumber(value)
    if not value then refuse("--bias wants ID=NUMBER, got '%s'", text) end
    bias, id = bias or {}, tonumber(id)
    if bias[id] and bias[id] ~= value then refuse("--bias names token %d twice, with %g and %g", id, bias[id], value) end
    bias[id] = value
  end
  return bias
end

local function parse(args)
  local o = arguments("generate", args, specs, { "model", "prompt" })
  if not o.model then refuse 'a model is wanted: cftrun generate MODEL "PROMPT"' end
  if o.file and o.prompt then refuse "a prompt and --file: give one of them" end
  if o.file and not o.out then refuse "--file wants --out, a file for the answers" end
  if o.out and not o.file then refuse "--out wants --file, a file of prompts" end
  if not o.file and o.logprobs then refuse "--logprobs wants --file" end
  if not o.file and not o.prompt and o.n > 1 then refuse "--n wants a prompt or --file" end
  if not o.file and not o.prompt and o.raw then refuse "--raw wants a prompt or --file: a conversation needs the chat template" end
  o.ends, o.bias = not o.no_ends, bias_of(o.bias)
  o.memory = o.memory and format.size(o.memory)
  return o
end

-- The options of cft.generate among those of the command.
local function options_of(o, extra)
  local call = {}
  for name in pairs(generate.options) do call[name] = o[name] end
  for name, value in pairs(extra) do call[name] = value end
  return call
end

-- Text goes to stdout as it comes, what a terminal must not see written out.
local function shown(text)
  if term.is_terminal() then text = texts.printable(text) end
  io.stdout:write(text)
  io.stdout:flush()
end

local function one(model, o)
  local began = host.now()
  local show = o.n == 1 and shown or nil
  local _, result = generate(model, o.prompt, options_of(o, { show = show }))
  local new = 0
  for i, s in ipairs(result.samples) do
    new = new + #s.ids
    if o.n > 1 then
      if i > 1 then io.stdout:write "\n" end
      io.stdout:write(term.paint("bold", ("[%d]"):format(i)), "\n")
      shown(s.text)
    end
    io.stdout:write "\n"
  end
  if term.is_terminal(io.stderr) then
    local seconds = host.now() - began
    io.stderr:write(term.paint("dim", ("%d tokens read, %d written in %.2f s (%.1f tok/s); %s"):format(
      #result.prompt, new, seconds, new / seconds, result.samples[1].finish), io.stderr), "\n")
  end
end

local function many(model, tok, o)
  local began, last = host.now(), 0
  local watched = term.is_terminal(io.stderr)
  require("cft.generate.file").run(model, tok, o.file, o.out, o, function(done, of)
    if not watched or host.now() - last < 0.5 and done < of then return end
    last = host.now()
    io.stderr:write(("\r%d of %d answers, %s"):format(done, of, format.duration(host.now() - began)))
  end)
  if watched then io.stderr:write "\n" end
end

-- What the device had to say: ways that it takes because another is missing.
local function noted()
  for _, note in ipairs(tensor.notes()) do io.stderr:write("generate: ", note, "\n") end
end

--- @tab args
function M.run(args)
  for _, a in ipairs(args) do
    if a == "--help" or a == "-h" then return print(HELP) end
  end
  local o = parse(args)
  local model = load_model("generate", o)
  local tok = prompts.tokenizer_of(model)
  if o.file then
    many(model, tok, o)
    return noted()
  elseif o.prompt then
    one(model, o)
    return noted()
  end
  if not tok or not tok.chat_template then
    refuse "a conversation needs a chat template, and this model came without one; give a prompt"
  end
  require("cft.cli.chat").run(model, tok, o)
end

return M
