--- A conversation with a model at the terminal.

local engines = require "cft.generate"
local finally = require "cft.base.finally"
local host = require "cft.host"
local prompts = require "cft.generate.prompt"
local written = require "cft.generate.text"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local HELP = "/new begins another conversation, Ctrl-C stops an answer, Ctrl-D leaves."

local function say(text)
  io.stdout:write(texts.printable(text))
  io.stdout:flush()
end

-- One answer, shown while it comes. Ctrl-C ends it, and what was written of it stays.
-- @return its text, and why it ended
local function answer(engine, request)
  local seq = engine:add(request)[1]
  while engine:busy() do
    engine:step()
    if host.interrupts() > 0 then
      engine:cancel(seq)
      host.interrupts(true)
    end
  end
  return request.texts[1].text, seq.finish
end

local notes = { length = "(cut at --max-new)", context = "(the model's context is full; /new begins another conversation)",
                cancelled = "(stopped)" }

-- A line from whoever types, nil at the end. Ctrl-C while one is typed is no answer's end, and means nothing.
local function ask()
  io.stdout:write(term.paint("bold green", "> "))
  io.stdout:flush()
  host.interrupts()  -- from here on Ctrl-C is counted, and does not stop Lua
  local line = io.read "*l"
  host.interrupts(true)
  return line
end

local function turn(engine, model, tok, messages, o, number)
  local ids = prompts.ids(messages, tok, o, "generate")
  local request = engines.request(model, tok, ids, o, number, function(_, news) say(news) end, "generate")
  host.interrupts()
  local text, why = answer(engine, request)
  io.stdout:write("\n", notes[why] and term.paint("dim", notes[why]) .. "\n" or "")
  return text
end

--- Talk until the input ends.
-- @tparam Model model @tparam Tokenizer tok @tab o of `cft.generate.options`, checked; `n` is 1
function M.run(model, tok, o)
  print(HELP)
  -- Room for one conversation as long as the model's context, if the memory allows.
  local room = { prompt = {}, n = 1, max_new = model.config.context }
  local engine = engines.engine_for(model, { room }, o, "generate")
  local messages, number = {}, 0
  finally(function() engine:release() end, function()
    for line in ask do
      if line == "/new" then
        messages = {}
        print(term.paint("dim", "(a new conversation)"))
      elseif line:find "%S" then
        messages[#messages + 1], number = { role = "user", content = line }, number + 1
        local ok, text = pcall(turn, engine, model, tok, messages, o, number)
        if ok then
          -- Where it was stopped within a character, half of one is no text to go on from.
          messages[#messages + 1] = { role = "assistant", content = written.valid(text) }
        else  -- a conversation that became too long, or a template that refuses it
          messages[#messages] = nil
          io.stderr:write(texts.printable(tostring(text)), "\n")
        end
      end
    end
    print ""
  end)
end

return M
