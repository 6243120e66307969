--- A prompt in a running job: lines of Lua that come over a socket run between two optimizer steps, and are recorded in
-- the run's folder. docs/cli.md has what this is for, and why nobody else comes in.
--
-- Both sides send JSON, a message a line. A client: `{ line =, id = }`, `{ complete =, id = }` the text before the cursor,
-- `{ stop = id }`. A run: `{ hello = 1, name =, step =, steps = }`, `{ id =, text = }` what a line prints,
-- `{ id =, done = true }`, `{ id =, insert =, shown = }`, `{ bye = why }`. A client sends nothing while its line runs but
-- that it is to stop: runtime/lua/attach.c takes whatever comes then for that.

local attach = require "cft.attach"
local host = require "cft.host"
local json = require "cft.base.json"
local record = require "cft.recipe.record"
local texts = require "cft.base.text"

local M = {}

local MOST = 2 ^ 20        -- bytes of a message
local CLIENTS = 4          -- at once
local PATIENCE = 2000      -- milliseconds that a run waits, in all of a line, for who does not read its answer

-- ---- where it is -------------------------------------------------------------------------------

-- Folders that may hold the socket, the best one first.
local function folders()
  local list = {}
  local function add(folder, name)
    if folder and folder:sub(1, 1) == "/" then list[#list + 1] = folder:gsub("/+$", "") .. "/" .. name end
  end
  add(os.getenv "XDG_RUNTIME_DIR", "cft")
  add(os.getenv "TMPDIR", "cft-" .. attach.uid())
  add("/tmp", "cft-" .. attach.uid())
  return list
end

--- Where the socket of a run may be, for who looks for it.
-- @string id of the run
-- @treturn table a list of paths
function M.places(id)
  local list = folders()
  table.insert(list, ("/run/user/%d/cft"):format(attach.uid()))  -- where the job had what this terminal has not
  for i, folder in ipairs(list) do list[i] = folder .. "/" .. id end
  return list
end

-- The socket of a run, in the first folder that is there and nobody else's.
local function listen(id)
  local why
  for _, folder in ipairs(folders()) do
    local ok, problem = attach.private(folder, true)
    local socket
    if ok then socket, problem = attach.listen(folder .. "/" .. id) end
    if socket then return socket, folder .. "/" .. id end
    why = why or problem
  end
  return nil, why
end

--- A run has begun: from here on lines can come. Where there is no place for a socket that is said, and the run goes on.
-- @tparam Run run with `id`, `out`
function M.offer(run)
  local socket, path = listen(run.id)
  if not socket then return run.log:say("cftrun attach will not find this run: %s", path) end
  run.attached = { socket = socket, path = path, clients = {} }
end

-- ---- what is kept of it ------------------------------------------------------------------------

-- A line in RUN/attached.jsonl. @treturn ?bool nil and why not
local function note(run, entry)
  entry.step, entry.time = run.training.done, math.floor(1000 * host.time() + 0.5) / 1000
  local file, why = io.open(run.out .. "/attached.jsonl", "ab")
  if not file then return nil, why end
  local ok, problem = file:write(json.encode(entry, { order = { "step", "time", "line", "error" } }), "\n")
  local closed, late = file:close()
  if not ok or not closed then return nil, problem or late end
  return true
end

-- ---- a client ----------------------------------------------------------------------------------

local function send(client, message)
  if client.gone then return end
  local from = host.now()
  local sent = client.socket:send(json.encode(message) .. "\n", math.max(0, math.floor(client.patience)))
  client.patience = client.patience - 1000 * (host.now() - from)
  if not sent then client.gone = true end
end

-- What has come of whole messages, in order; nothing of a client that is gone.
local function read(client)
  while #client.buffer <= MOST do
    local bytes = client.socket:receive()
    if bytes == false then client.ended = true end
    if not bytes then break end
    client.buffer = client.buffer .. bytes
  end
  while true do
    local message, rest = client.buffer:match "^([^\n]*)\n(.*)$"
    if not message then break end
    client.buffer = rest
    local decoded = #message <= MOST and json.decode(message)
    if type(decoded) ~= "table" then
      send(client, { bye = "that was no message of cftrun attach" })
      client.gone = true
      return
    end
    client.queue[#client.queue + 1] = decoded
  end
  if #client.buffer > MOST then
    send(client, { bye = ("a line is longer than %d bytes"):format(MOST) })
    client.gone = true
  end
end

-- The next message that is to be answered: not a line that its client has taken back.
local function next_message(client)
  while true do
    local message = table.remove(client.queue, 1)
    if not message then return nil end
    local stopped = message.stop ~= nil
    for _, later in ipairs(client.queue) do stopped = stopped or message.id ~= nil and later.stop == message.id end
    if not stopped then return message end
    if message.id then send(client, { id = message.id, done = true, text = "taken back; the line did not run\n" }) end
  end
end

-- Run a line, recorded before it does anything.
local function run_line(run, client, message)
  local at = run.attached
  local kept, why = note(run, { line = texts.printable(message.line) })
  if not kept then
    return send(client, { id = message.id, done = true, text = "not run, since it cannot be recorded: " .. why .. "\n" })
  end
  record.by_hand(run)
  run.training:before_change()
  at.running = true
  local problem = at.console.answer(message.line, {
    env = at.env, guard = function(fn) return client.socket:guard(fn) end,
    out = function(text) send(client, { id = message.id, text = texts.printable(text) }) end,
  })
  at.running = false
  if problem then
    send(client, { id = message.id, text = problem .. "\n", failed = true })
    note(run, { error = problem })
  end
  run.log:close_line()
  send(client, { id = message.id, done = true, step = run.training.done })
end

local function answer(run, client)
  client.patience = PATIENCE
  read(client)
  local message = not client.gone and next_message(client)
  while message and message.complete do
    local insert, shown = run.attached.console.complete(tostring(message.complete), run.attached.env)
    send(client, { id = message.id, insert = insert, shown = shown })
    message = next_message(client)
  end
  if message and type(message.line) == "string" then run_line(run, client, message) end
  if client.ended and #client.queue == 0 then client.gone = true end
end

-- ---- between two steps -------------------------------------------------------------------------

local function welcome(run)
  local at = run.attached
  local socket = at.socket:accept()
  while socket do
    local client = { socket = socket, buffer = "", queue = {}, patience = PATIENCE }
    if #at.clients >= CLIENTS then
      send(client, { bye = ("%d prompts are attached to this run already"):format(CLIENTS) })
      socket:close()
    else
      at.clients[#at.clients + 1] = client
      send(client, { hello = 1, name = texts.printable(run.name), step = run.training.done, steps = run.training.steps })
    end
    socket = at.socket:accept()
  end
end

--- Between two steps: whoever has come is let in, and of each client one line runs.
-- @tparam Run run
function M.poll(run)
  local at = run.attached
  if not at or at.running then return end
  welcome(run)
  if not at.clients[1] then return end
  if not at.console then
    at.console = require "cft.console"
    at.env = at.console.environment { run = run, trainer = run.training, model = run.loaded }
  end
  for i = #at.clients, 1, -1 do
    local client = at.clients[i]
    answer(run, client)
    if client.gone then
      client.socket:close()
      table.remove(at.clients, i)
    end
    if at.ended then return M.close(run, at.ended) end  -- the line has ended the run
  end
end

--- The run is over: clients are told, and the socket goes.
-- @tparam Run run
-- @string why how it ended
function M.close(run, why)
  local at = run.attached
  if not at then return end
  if at.running then  -- by a line, which is answered first
    at.ended = why
    return
  end
  for _, client in ipairs(at.clients) do
    client.patience = PATIENCE / CLIENTS
    send(client, { bye = ("the run is over: %s"):format(why) })
    client.socket:close()
  end
  at.socket:close()
  os.remove(at.path)
  run.attached = nil
end

return M
