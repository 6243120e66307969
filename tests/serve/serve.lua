-- `cftrun serve` as its clients meet it: curl, and connections that no client should make.

local demo = require "cft.demo"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local models = require "cft.models"
local process = require "tests.process"
local texts = require "cft.generate.text"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local folder, eos

-- A model of random weights, with a tokenizer and a chat template.
local function model()
  if folder then return folder end
  folder = process.folder() .. "/tiny"
  local tok = demo.tokenizer(1)
  eos = tok.eos
  tok.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
  local m = models.new { arch = "llama", d = 32, layers = 2, heads = 2, ffn = 48, vocab = tok:size(), tied = true, seed = 2,
                         init = 0.5, context = 8192 }
  m:save(folder, { tokenizer = tok })
  m:release()
  return folder
end

local function shell(line)
  local pipe = io.popen("exec 2>&1; " .. line)
  local out = pipe:read "*a"
  pipe:close()
  return out
end

-- What makes the model write on to `max_tokens`.
local function no_end() return eos and ('"logit_bias":{"%d":-100},'):format(eos) or "" end

-- ---- a server, and a request ---------------------------------------------------------------------

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
Server.at_end = at_end

local function start(options, environment)
  local place = process.folder()
  local self = setmetatable({ place = place }, Server)
  started[#started + 1] = self
  local bin = shell "readlink /proc/$PPID/exe":match "[^\n]+"
  -- Its parent is a shell that writes its exit code.
  os.execute(("(sh -c 'echo $$ >%s/pid; exec env %s %s serve %s --port 0 --dtype f32 --memory 64MiB %s' >%s/out 2>%s/err; echo $? >%s/code) &"):format(
    place, environment or "", bin, model(), options or "", place, place, place))
  for _ = 1, 300 do
    self.pid = self.pid or host.kind(place .. "/pid") and process.contents(place .. "/pid"):match "%d+"
    self.port = host.kind(place .. "/out") and process.contents(place .. "/out"):match "serving tiny on http://[%w.:%[%]]+:(%d+)\n"
    if self.port then break end
    if host.kind(place .. "/code") then error(process.contents(place .. "/err"), 0) end
    host.sleep(0.05)
  end
  expect.truthy(self.port, "the server did not begin")
  return self
end

-- Ask it to end. @return its exit code, and what it wrote to stderr
function Server:stop()
  os.execute("kill -TERM " .. self.pid)
  return self:wait()
end

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

local JSON = "-H 'Content-Type: application/json'"

-- curl's command for a path; a body makes it a POST.
function Server:curl(path, body, options)
  local data = ""
  if body then
    data = "--data-binary @" .. process.write(process.folder() .. "/body", body)
  end
  return ("curl -sS -m 30 -w '\\n%%{http_code}' %s %s %s http://127.0.0.1:%s%s"):format(
    body and not (options or ""):find "Content%-Type" and JSON or "", data, options or "", self.port, path)
end

-- @return status, and the answer: a table where it is JSON
function Server:ask(path, body, options)
  local out, status = shell(self:curl(path, body, options)):match "^(.*)\n(%d+)%s*$"
  return tonumber(status), out and json.decode(out) or out
end

function Server:chat(more) return self:ask("/v1/chat/completions", ('{"model":"x","messages":[{"role":"user","content":"How many?"}],%s}'):format(more)) end
function Server:text(more) return self:ask("/v1/completions", ('{"model":"x",%s}'):format(more)) end

-- Bytes as they are, and all that comes back.
function Server:raw(bytes, after)
  local file = process.write(process.folder() .. "/raw", bytes)
  return shell(("timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; cat %s >&3; %s cat <&3'"):format(self.port, file, after or ""))
end

function Server:metric(name)
  local _, text = self:ask "/metrics"
  return tonumber(text:match("\n" .. name .. " ([%d.]+)"))
end

local shared
local function server()
  shared = shared or start()
  return shared
end

-- The pieces of a stream, decoded.
local function events(text)
  local list = {}
  for line in text:gmatch "data: ([^\n]*)\n\n" do list[#list + 1] = line == "[DONE]" and line or assert(json.decode(line)) end
  return list
end

-- ---- answers -------------------------------------------------------------------------------------

test("chat: the text of `cftrun generate`, its usage, streamed or whole", function()
  local status, a = server():chat(no_end() .. '"max_tokens":12,"temperature":0')
  expect.same(status, 200)
  local said = process.cftrun { "generate", model(), "How many?", "--max-new", "12", "--dtype", "f32",
                                unpack(eos and { "--bias", eos .. "=-100" } or {}) }.out
  expect.same(a.choices[1].message.content .. "\n", texts.valid(said))
  expect.same({ a.object, a.model, a.choices[1].finish_reason, a.usage.completion_tokens, a.usage.total_tokens - a.usage.prompt_tokens },
              { "chat.completion", "x", "length", 12, 12 })
  local body = '{"model":"x","messages":[{"role":"user","content":"How many?"}],%s"max_tokens":12,"temperature":0,"stream":true,' ..
               '"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":2}'
  local out, list = "", events(shell(server():curl("/v1/chat/completions", body:format(no_end()))))
  local tokens, last = 0, list[#list - 1]
  for _, e in ipairs(list) do
    local c = type(e) == "table" and e.choices[1]
    if c then
      out = out .. (c.delta.content or "")
      if c.logprobs ~= json.null then tokens = tokens + #c.logprobs.content end
    end
  end
  expect.same(out, a.choices[1].message.content)
  expect.same({ list[1].choices[1].delta.role, list[#list], #last.choices, last.usage.completion_tokens, tokens },
              { "assistant", "[DONE]", 0, 12, 12 })
end)

test("completions: prompts, ids, n, log-probabilities, seeds, stops", function()
  local s = server()
  local status, a = s:text(no_end() .. '"prompt":["a","b"],"n":2,"max_tokens":5,"logprobs":2,"seed":3')
  expect.same({ status, #a.choices, a.choices[4].index, a.usage.completion_tokens }, { 200, 4, 3, 20 })
  for _, c in ipairs(a.choices) do
    expect.same({ #c.logprobs.tokens, #c.logprobs.token_logprobs, c.logprobs.text_offset[1] }, { 5, 5, 0 })
    expect.truthy(c.logprobs.token_logprobs[1] <= 0)
  end
  local function text(more) local _, r = s:text(no_end() .. '"prompt":"a","max_tokens":16,' .. more) return r.choices[1] end
  local first = text '"seed":3'
  expect.same(text '"seed":3'.text, first.text)
  expect.truthy(text '"seed":4'.text ~= first.text, "the seed says nothing")
  expect.truthy(text '"top_k":9'.text ~= text '"top_k":9'.text, "without a seed each answer is another")
  expect.same(text '"seed":1,"top_p":0.00001'.text, text '"temperature":0'.text)
  local greedy = text '"temperature":0'.text
  local stop = greedy:sub(4, 5)
  local cut = text('"temperature":0,"stop":' .. json.encode { stop })
  expect.same({ cut.text, cut.finish_reason }, { greedy:sub(1, greedy:find(stop, 1, true) - 1), "stop" })
  expect.same(s:text '"prompt":[1,2,3],"max_tokens":2', 200)
  expect.same(select(2, s:text '"prompt":"a"').usage.completion_tokens <= 16, true)
end)

test("models, health and metrics", function()
  local s = server()
  local status, list = s:ask "/v1/models"
  expect.same({ status, list.data[1].id, #list.data }, { 200, "tiny", 1 })
  expect.same({ s:ask "/health" }, { 200, { status = "ok" } })
  expect.same(s:ask("/health", nil, "-I"), 200)
  expect.truthy(s:metric "cft_generated_tokens_total" >= 0)
  local _, text = s:ask "/metrics"
  expect.truthy(text:find 'cft_answers_total{path="/health",status="200"} ', text)
end)

test("what is refused, in OpenAI's form", function()
  local s = server()
  local function refused(status, pattern, path, body, options)
    local got, a = s:ask(path, body, options)
    expect.same(got, status, path)
    expect.truthy(type(a) == "table" and a.error.message:find(pattern), json.encode(a))
    return a.error
  end
  local chat = "/v1/chat/completions"
  expect.same(refused(400, "'tools' is not supported", chat, '{"model":"x","messages":[{"role":"user","content":"a"}],"tools":[]}').param, "tools")
  expect.same(refused(400, "context is 8192", "/v1/completions", ('{"model":"x","prompt":"%s"}'):format(("ab "):rep(9000))).code,
              "context_length_exceeded")
  refused(400, "ids are from 0", "/v1/completions", '{"model":"x","prompt":[1000000]}')
  refused(400, "no JSON", chat, "{")
  refused(415, "application/json", chat, "{}", "-H 'Content-Type: text/plain'")
  refused(404, "/v1/models", "/v1/nothing")
  refused(405, "wants POST", chat)
  refused(405, "wants GET", "/health", "{}")
  refused(403, "another machine", "/health", nil, "-H 'Host: evil.example'")
  refused(403, "web pages", "/health", nil, "-H 'Origin: http://evil.example'")
  expect.same(s:ask("/health", nil, "-H 'Host: localhost:1'"), 200)
end)

-- ---- what no client should do --------------------------------------------------------------------

test("malformed, huge and half-sent requests, and the server goes on", function()
  local s = start "--idle 1 --max-body 2KiB"
  local function status(bytes, after) return tonumber(s:raw(bytes, after):match "^HTTP/1.[01] (%d+)") end
  local post = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
  expect.same(status "NONSENSE\r\n\r\n", 400)
  expect.same(status "\0\1\2\3\r\n\r\n", 400)
  expect.same(status("GET /health HTTP/1.1\r\nHost: localhost\r\n" .. ("X: " .. ("y"):rep(1000) .. "\r\n"):rep(40) .. "\r\n"), 400)
  expect.same(status(post .. "Content-Length: 999999999\r\n\r\n{"), 413)
  expect.same(status(post .. "Content-Length: -1\r\n\r\n{}"), 400)
  expect.same(status(post .. "Transfer-Encoding: chunked\r\n\r\nzzz\r\n"), 413)
  expect.same(status "BREW /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 501)
  expect.same(status "GET /health HTTP/1.1\r\n\r\n", 400)  -- without a Host
  local began = host.now()
  for _, half in ipairs { "", "GET /hea", "GET /health HTTP/1.1\r\nHost: local", post .. "Content-Length: 100\r\n\r\n{" } do
    expect.same(s:raw(half), "")  -- closed when the time is over
  end
  expect.truthy(host.now() - began >= 3, "connections were closed at once")
  expect.same(s:ask "/health", 200)
  expect.same({ s:stop() }, { 0, "" })
end)

test("a client that leaves gives its place back, also while it waits; who comes too many gets 429", function()
  local s = start "--batch 1 --queue 1"
  local long = ('{"model":"x","prompt":"a",%s"max_tokens":8000,"stream":true}'):format(no_end())
  local curl = s:curl("/v1/completions", long)
  os.execute(("(%s) >/dev/null 2>&1 & (sleep 0.2; %s) >/dev/null 2>&1 &"):format(curl:gsub("-m 30", "-m 1.5"), (curl:gsub("-m 30", "-m 0.8"))))
  local until_ = host.now() + 5
  repeat host.sleep(0.05) until s:metric "cft_sequences_waiting" == 1 or host.now() > until_
  local status, a = s:text '"prompt":"a","max_tokens":1'
  expect.same({ status, a.error.type }, { 429, "rate_limit_error" })
  until_ = host.now() + 10
  repeat host.sleep(0.1) until s:metric "cft_sequences_running" + s:metric "cft_sequences_waiting" == 0 or host.now() > until_
  -- Both left; but a quick machine may have written the first one's 8,000 tokens before that.
  local written = s:metric "cft_generated_tokens_total" >= 8000
  expect.same(s:metric "cft_clients_left_total", written and 1 or 2)
  expect.same({ s:metric "cft_sequences_running", s:metric "cft_sequences_waiting" }, { 0, 0 })
  expect.same(s:text '"prompt":"a","max_tokens":1', 200)
  expect.same(s:metric "cft_pages_free", s:metric "cft_pages")
  expect.same({ s:stop() }, { 0, "" })
end)

test("SIGTERM: what was begun is finished, nothing else is taken, and the exit code is 0", function()
  local s = start()
  local body = ('{"model":"x","prompt":"a",%s"max_tokens":1500,"stream":true}'):format(no_end())
  local out = process.folder() .. "/out"
  os.execute(("%s >%s 2>&1 &"):format(s:curl("/v1/completions", body), out))
  local until_ = host.now() + 10
  repeat host.sleep(0.02) until (host.kind(out) and process.contents(out):find "data:") or host.now() > until_
  os.execute("kill -TERM " .. s.pid)
  local code, err = s:wait()
  expect.same({ code, err }, { 0, "" })
  host.sleep(0.2)
  local list = events(process.contents(out))
  expect.same(list[#list], "[DONE]")
  expect.same(s:ask "/health", 0)  -- nobody listens
end)

-- ---- who may ask ---------------------------------------------------------------------------------

test("a key, a site and a name that are allowed", function()
  local s = start("--origin http://good.example --allow-host cft.internal", "CFT_SERVE_KEY=secret-key-1")
  expect.same(s:ask "/v1/models", 401)
  expect.same(s:ask("/v1/models", nil, "-H 'Authorization: Bearer secret-key-2'"), 401)
  expect.same(s:ask("/v1/models", nil, "-H 'Authorization: Bearer secret-key-1x'"), 401)
  local headers = shell(s:curl("/v1/models", nil, "-i -H 'Host: cft.internal' -H 'Authorization: Bearer secret-key-1' -H 'Origin: http://good.example'"))
  expect.truthy(headers:find "200 OK" and headers:find "Access%-Control%-Allow%-Origin: http://good.example", headers)
  expect.same(s:ask("/v1/models", nil, "-X OPTIONS -H 'Origin: http://good.example'"), 204)
  expect.same(s:ask("/v1/models", nil, "-H 'Origin: http://good.example.org'"), 403)
  expect.same(s:ask "/health", 200)
  expect.same({ s:stop() }, { 0, "" })
end)

test("what the command refuses", function()
  local function refused(code, pattern, ...)
    local r = process.cftrun { "serve", ... }
    expect.same(r.code, code, r.err)
    expect.truthy(r.err:find(pattern), r.err)
  end
  refused(2, "a model is wanted")
  refused(2, 'other machines reach "0.0.0.0", and no key is wanted', model(), "--host", "0.0.0.0", "--port", "0")
  refused(2, "no address", model(), "--host", "256.1.1.1", "--port", "0")
  refused(2, "a key has 8 characters or more", model(), "--key-file", process.write(process.folder() .. "/key", "short\n"))
  refused(2, "%-%-key%-file: ", model(), "--key-file", "/nowhere/key")
  refused(2, "%-%-max%-body must be a size", model(), "--max-body", "much")
  refused(4, "no folder or file", "/nowhere/model")
  refused(1, "cannot listen on", model(), "--port", server().port, "--memory", "64MiB")
end)

test("the shared server ends", function()
  if not shared then return end
  expect.same({ shared:stop() }, { 0, "" })
  shared = nil
end)

return tests
