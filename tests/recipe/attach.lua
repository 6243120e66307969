-- The socket of `cftrun attach`: whose folder it lies in, what peers may do, and that none of them holds a run up.
local attach = require "cft.attach"
local expect = require "tests.expect"
local ffi = require "ffi"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local server = require "cft.recipe.hand.attach"

local function private(name)
  local folder = process.folder() .. "/" .. name
  expect.same(attach.private(folder, true), true)
  return folder
end

-- A run with a socket, as far as lines need one.
local function listening()
  local out, folder = process.folder(), private "sockets"
  local log = { close_line = function() end }
  local run = { out = out, name = "r", log = log, record = { changed_by_hand = false },
                training = { done = 3, steps = 9, before_change = function() end },
                attached = { socket = assert(attach.listen(folder .. "/id")),
                path = folder .. "/id", clients = {} } }
  run.record.id = "id"
  return run, folder .. "/id"
end

local function ask(socket, message) expect.truthy(socket:send(json.encode(message) .. "\n", 100)) end

-- All that has come.
local function told(socket)
  local text, list = "", {}
  while true do
    local bytes = socket:receive(20)
    if not bytes then break end
    text = text .. bytes
  end
  for message in text:gmatch "[^\n]+" do list[#list + 1] = json.decode(message) end
  return list
end

ffi.cdef "int seteuid(unsigned); int socket(int, int, int); int connect(int, const void *, unsigned); int close(int);"

-- A connection without `attach.connect`, which looks who is at the other side before it says anything.
local function bare_connection(path)
  local address = ffi.new "char[110]"
  ffi.cast("uint16_t *", address)[0] = 1  -- AF_UNIX
  ffi.copy(address + 2, path)
  local fd = ffi.C.socket(1, 1, 0)
  return fd, ffi.C.connect(fd, address, 110)
end

-- What `fn` gives to another user; only root can be one.
local function as_nobody(fn, ...)
  ffi.C.seteuid(65534)
  local results = { pcall(fn, ...) }
  ffi.C.seteuid(0)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, 3)
end

return {
  { "a process of another user is turned away, were folder and socket open to all", function()
    if attach.uid() ~= 0 then
      local me = "\"$(readlink /proc/$PPID/exe)\" tests/run.lua 'tests/recipe/attach.lua: a process of another user'"
      if os.execute "sudo -n true 2>/dev/null" ~= 0 then skip "neither root nor sudo without a password" end
      return expect.same(os.execute("p=" .. me:match "^%b\"\"" .. "; sudo -n " .. me:gsub("^%b\"\"", '"$p"') .. " >/dev/null"), 0)
    end
    local run, path = listening()
    os.execute(("chmod 711 %s %s; chmod 777 %s; chmod 666 %s"):format(path:match "^(.*)/sockets/", path:match "^(.*)/[^/]*$",
      path:match "^(.*)/[^/]*$", path))
    local fd, connected = as_nobody(bare_connection, path)
    expect.same(connected, 0)  -- the modes let it in
    server.poll(run)
    expect.same({ #run.attached.clients, (as_nobody(attach.connect, path)) }, { 0 })  -- the other side looks as well
    ffi.C.close(fd)
    local own = bare_connection(path)
    server.poll(run)
    expect.same(#run.attached.clients, 1)
    ffi.C.close(own)
  end },
  { "a folder that is open to others, or a link, is not taken", function()
    local folder = private "mine"
    os.execute("chmod 750 " .. folder)
    expect.same(attach.private(folder, true), nil)
    os.execute("chmod 700 " .. folder .. " && ln -s " .. folder .. " " .. folder .. "-link")
    expect.same(attach.private(folder), true)
    expect.same(attach.private(folder .. "-link", true), nil)
    expect.same(attach.private(folder .. "-none"), nil)
  end },
  { "the socket is closed to others; a stale one is replaced; a long path is refused", function()
    local path = private "s" .. "/id"
    attach.listen(path):close()
    expect.same((attach.connect(path)), nil)
    local socket = assert(attach.listen(path))
    local mode = io.popen("stat -c %a " .. path):read "*l"
    expect.same(mode, "600")
    expect.truthy(attach.connect(path))
    expect.truthy(socket:accept())
    expect.same((attach.listen(("/x"):rep(80))), nil)
  end },
  { "a line runs between two steps, one of each client, and is recorded before", function()
    local run, path = listening()
    local socket = assert(attach.connect(path))
    ask(socket, { line = "print(1 + 1) return trainer.done", id = 1 })
    ask(socket, { line = "error('mine', 0)", id = 2 })
    server.poll(run)
    server.poll(run)
    local list = told(socket)
    expect.same({ list[1].hello, list[1].step, list[2].text, list[3].text, list[4].done }, { 1, 3, "2\n", "3\n", true })
    expect.same({ list[5].id, list[5].text, list[5].failed, list[6].done }, { 2, "mine\n", true, true })
    local lines = {}
    for text in io.lines(run.out .. "/attached.jsonl") do lines[#lines + 1] = json.decode(text) end
    expect.same({ #lines, lines[1].step, lines[1].line, lines[3].error }, { 3, 3, "print(1 + 1) return trainer.done", "mine" })
    expect.same(run.record.changed_by_hand, true)
  end },
  { "a line that is taken back does not run", function()
    local run, path = listening()
    local socket = assert(attach.connect(path))
    ask(socket, { line = "ran = true", id = 1 })
    ask(socket, { stop = 1 })
    server.poll(run)
    server.poll(run)
    local list = told(socket)
    expect.match(list[2].text, "taken back")
    expect.same(host.kind(run.out .. "/attached.jsonl"), nil)
  end },
  { "a silent peer, half a line, no line at all, too long a line: none is waited for", function()
    local run, path = listening()
    local silent, half, none, long = attach.connect(path), attach.connect(path), attach.connect(path), attach.connect(path)
    half:send('{"line":"1', 100)
    none:send("no JSON\n", 100)
    local from = host.now()
    for _ = 1, 40 do
      long:send(("x"):rep(60000), 0)
      server.poll(run)
    end
    expect.truthy(host.now() - from < 2, "the run was held up")
    expect.match(told(none)[2].bye, "no message")
    expect.match(told(long)[2].bye, "longer than")
    expect.same(#run.attached.clients, 2)
    expect.same(#told(silent), 1)
    server.close(run, "finished")
    expect.match(told(half)[2].bye, "the run is over: finished")
    expect.same(host.kind(path), nil)
  end },
  { "who does not read holds a run up for two seconds at most, and is dropped", function()
    local run, path = listening()
    local socket = assert(attach.connect(path))
    ask(socket, { line = "for i = 1, 200 do print(('x'):rep(100000)) end", id = 1 })
    local from = host.now()
    server.poll(run)
    expect.truthy(host.now() - from < 10, "the run was held up")
    expect.same(#run.attached.clients, 0)
  end },
}
