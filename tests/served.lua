--- `cftrun serve` as its clients meet it: a process, curl, and connections that no client should make.
-- @usage local served = require "tests.served"
-- local s = served.start("--idle 1")
-- print(s:ask "/health")
-- s:stop()

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local tiny_chat = require "tests.tiny_chat"

local M = {}

local folder, eos

--- The folder of a tiny model that chats, whose context is 8,192 tokens.
function M.model()
  if not folder then
    folder = process.folder() .. "/tiny"
    eos = tiny_chat(folder, 8192)
  end
  return folder
end

--- A field, and a comma, that makes it write on to `max_tokens`.
function M.no_end()
  M.model()
  return eos and ('"logit_bias":{"%d":-100},'):format(eos) or ""
end

--- Run a line of shell. @treturn string what it printed, errors too
function M.shell(line)
  local pipe = io.popen("exec 2>&1; " .. line)
  local out = pipe:read "*a"
  pipe:close()
  return out
end

--- Wait until something is so. @func so @number[opt=10] seconds after which the case fails
function M.wait_for(so, seconds)
  local last = host.now() + (seconds or 10)
  while not so() do
    if host.now() > last then error("it did not come to it in time", 2) end
    host.sleep(0.02)
  end
end

local Server = {}
Server.__index = Server

-- Those that a case which failed has left are ended with the runner.
local started = {}
local at_end = newproxy(true)
getmetatable(at_end).__gc = function()
  for _, s in ipairs(started) do
    if s.pid and not s.ended then os.execute("kill -KILL " .. s.pid .. " 2>/dev/null") end
  end
end
M.at_end = at_end

--- Start one, of the tiny model or of `options.model`.
-- @string[opt] options of the command @string[opt] environment "NAME=VALUE ..." @string[opt] model a folder
-- @treturn Server `pid`, `port`, and `place`, a folder with its `out` and `err`
function M.start(options, environment, model)
  local place = process.folder()
  local self = setmetatable({ place = place }, Server)
  started[#started + 1] = self
  local bin = M.shell "readlink /proc/$PPID/exe":match "[^\n]+"
  -- Its parent is a shell that writes its exit code.
  os.execute(("(sh -c 'echo $$ >%s/pid; exec env %s %s serve %s --port 0 --dtype f32 --memory 64MiB %s' >%s/out 2>%s/err; echo $? >%s/code) &"):format(
    place, environment or "", bin, model or M.model(), options or "", place, place, place))
  for _ = 1, 600 do
    self.pid = self.pid or host.kind(place .. "/pid") and process.contents(place .. "/pid"):match "%d+"
    self.port = host.kind(place .. "/out") and process.contents(place .. "/out"):match "serving [^ ]+ on http://[%w.:%[%]]+:(%d+)\n"
    if self.port then break end
    if host.kind(place .. "/code") then error(process.contents(place .. "/err"), 0) end
    host.sleep(0.05)
  end
  expect.truthy(self.port, "the server did not begin")
  return self
end

local shared

--- One that several cases ask.
function M.shared()
  shared = shared or M.start()
  return shared
end

--- Ask it to end. @return its exit code, and what it wrote to stderr
function Server:stop()
  os.execute("kill -TERM " .. self.pid)
  return self:wait()
end

--- Wait for its end. @return as `stop`
function Server:wait()
  for _ = 1, 600 do
    local code = host.kind(self.place .. "/code") and process.contents(self.place .. "/code"):match "%d+"
    self.ended = code ~= nil
    if code then return tonumber(code), process.contents(self.place .. "/err") end
    host.sleep(0.05)
  end
  os.execute("kill -KILL " .. self.pid)
  error("the server did not end", 0)
end

--- curl's command for a path, which prints the answer and its status; a body makes it a POST.
function Server:curl(path, body, options)
  local data = ""
  if body then
    data = "--data-binary @" .. process.write(process.folder() .. "/body", body)
    if not (options or ""):find "Content%-Type" then data = data .. " -H 'Content-Type: application/json'" end
  end
  return ("curl -sS -m 30 -w '\\n%%{http_code}' %s %s http://127.0.0.1:%s%s"):format(data, options or "", self.port, path)
end

--- @return status, and the answer: a table where it is JSON
function Server:ask(path, body, options)
  local out, status = M.shell(self:curl(path, body, options)):match "^(.*)\n(%d+)%s*$"
  return tonumber(status), out and json.decode(out) or out
end

--- Ask for an answer in a chat, or a text; `more` are the fields beside the model.
function Server:chat(more)
  return self:ask("/v1/chat/completions", ('{"model":"x","messages":[{"role":"user","content":"How many?"}],%s}'):format(more))
end
function Server:text(more) return self:ask("/v1/completions", ('{"model":"x",%s}'):format(more)) end

--- Send bytes as they are. @string[opt] after a line of shell in between @return all that comes back
function Server:raw(bytes, after)
  local file = process.write(process.folder() .. "/raw", bytes)
  return M.shell(("timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; cat %s >&3; %s cat <&3'"):format(self.port, file, after or ""))
end

--- A number of its /metrics.
function Server:metric(name)
  local _, text = self:ask "/metrics"
  return tonumber(text:match("\n" .. name .. " ([%d.]+)"))
end

--- Nothing is written and nothing waits, and all pages are free.
function Server:is_quiet()
  return self:metric "cft_sequences_running" + self:metric "cft_sequences_waiting" == 0
         and self:metric "cft_pages_free" == self:metric "cft_pages"
end

--- The pieces of a stream, decoded; "[DONE]" is the last.
function M.events(text)
  local list = {}
  for line in text:gmatch "data: ([^\n]*)\n\n" do list[#list + 1] = line == "[DONE]" and line or assert(json.decode(line)) end
  return list
end

return M
