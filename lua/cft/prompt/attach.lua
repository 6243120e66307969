--- The other end of `cftrun attach`: a prompt whose lines run in a job. lua/cft/recipe/hand/attach.lua has what is said
-- between the two.
-- @module cft.prompt.attach

local attach = require "cft.attach"
local exit = require "cft.base.exit"
local host = require "cft.host"
local json = require "cft.base.json"
local line = require "cft.prompt.line"
local places = require "cft.recipe.hand.attach".places
local prompt = require "cft.prompt"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local SLICE = 100       -- milliseconds between two looks at Ctrl-C
local GRACE = 2         -- seconds that a line which was taken back has for its answer
local TAB_SECONDS = 1   -- that Tab waits for a step to end

-- ---- finding the run ---------------------------------------------------------------------------

-- The record of the run in a folder.
local function record_of(folder)
  local record = json.read(folder .. "/run.json")
  if type(record) ~= "table" or type(record.id) ~= "string" or not record.id:find "^%x+$" then
    exit.fail(exit.USAGE, "attach: %s is no folder of a run: it has no run.json with the run's id", folder)
  end
  return record
end

local function connect(folder)
  local record, why = record_of(folder), nil
  for _, path in ipairs(places(record.id)) do
    if attach.private(path:match "^(.*)/") then
      local socket, problem = attach.connect(path)
      if socket then return socket end
      if host.kind(path) then why = problem end
    end
  end
  if record.status ~= "running" then
    exit.fail(exit.FAILED, "attach: %s: this run is over (%s)", folder, texts.printable(tostring(record.status)))
  end
  exit.fail(exit.FAILED, "attach: %s: the run cannot be reached: %s", folder, why
    or ("nobody listens; its process is gone, runs on another machine (%s), or was told attach=false"):format(
      texts.printable(tostring(record.host))))
end

-- ---- what comes --------------------------------------------------------------------------------

local Client = {}
Client.__index = Client

-- The next message, or nil where none comes in a slice of time.
function Client:next()
  local message, rest = self.buffer:match "^([^\n]*)\n(.*)$"
  if not message then
    local bytes = self.socket:receive(SLICE)
    if bytes == false then self:over "the connection is gone; the run may have ended" end
    self.buffer = self.buffer .. (bytes or "")
    return nil
  end
  self.buffer = rest
  message = json.decode(message)
  if type(message) ~= "table" then self:over "the run said what is no message" end
  if message.bye then self:over(tostring(message.bye)) end
  return message
end

-- The run is gone: leave the prompt.
function Client:over(why)
  self.left = why
  self.prompt.leaving = true
  error(why, 0)
end

function Client:send(message)
  if self.socket:send(json.encode(message) .. "\n", 5000) then return end
  for _ = 1, 100 do self:next() end  -- perhaps it has said why it is gone
  self:over "the run does not take what is sent"
end

-- The first word of the run: it comes when a step ends.
function Client:greet()
  local from, said = host.now(), false
  host.interrupts()
  while true do
    local message = self:next()
    if message and message.hello then return message end
    if host.interrupts() > 0 then exit.leave(exit.INTERRUPTED) end
    if not said and host.now() - from > 1 and host.isatty(1) then
      print "waiting for the run to end its step"
      said = true
    end
  end
end

-- ---- a line ------------------------------------------------------------------------------------

-- What the answer says, until it is over. Ctrl-C takes the line back, or stops it.
function Client:await(id)
  local stopped_at
  host.interrupts()
  while true do
    local message = self:next()
    if message and message.id == id then
      if message.text and message.failed then
        io.stderr:write(term.paint("red", texts.printable(message.text), io.stderr))
      elseif message.text then
        io.stdout:write(texts.printable(message.text))
      end
      if message.done then return end
    end
    if host.interrupts() > 0 and not stopped_at then
      self:send { stop = id }
      stopped_at = host.now()
    end
    if stopped_at and host.now() - stopped_at > GRACE then
      print "stopped, or it does not run at all; the run is busy and will say so later"
      return
    end
  end
end

-- Run a line in the job; what explains and what is the shell's stays here.
function Client:line(text)
  if text:find "^%s*$" then return end
  if text:find "^%s*%?" or text:find "^%s*!" then return assert(loadstring(line.rewrite(text)))() end
  if text:find "^%s*exit%s*%(?%s*%)?%s*$" then
    self.prompt.leaving = true
    return
  end
  self.id = self.id + 1
  self:send { line = text, id = self.id }
  self:await(self.id)
  io.stdout:flush()
end

-- Tab asks the run, which answers between two steps; nothing where that takes long.
function Client:tab(text)
  self.id = self.id + 1
  self:send { complete = text, id = self.id }
  local from = host.now()
  while host.now() - from < TAB_SECONDS do
    local message = self:next()
    if message and message.id == self.id then return message.insert, message.shown end
  end
end

--- A prompt in a running job, until Ctrl-D or the end of the run.
-- @string folder of the run
-- @treturn int exit code: 0 when the prompt was left, 1 when the run was gone first
function M.start(folder)
  local p = prompt.handlers()
  local client = setmetatable({ socket = connect(folder), buffer = "", id = 0, prompt = p }, Client)
  local hello = client:greet()
  p.banner = ("%s, step %s of %s. Lines run in it between two steps, and are recorded; run, trainer and model are at hand.\n"
    .. "Tab completes, ? NAME explains, Ctrl-C stops a line, Ctrl-D leaves: the run goes on."):format(
    texts.printable(tostring(hello.name)), tostring(hello.step), tostring(hello.steps))
  p.run = function(text) client:line(text) end
  p.complete = function(text)
    local ok, insert, shown = pcall(client.tab, client, text)
    if ok then return insert, shown and texts.printable(shown) end
  end
  p.done = function() end
  host.repl(p)
  client.socket:close()
  if client.left then exit.fail(exit.FAILED, "attach: %s", texts.printable(client.left)) end
  return exit.OK
end

return M
