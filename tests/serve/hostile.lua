-- What no client of `cftrun serve` should send.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"
local served = require "tests.served"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

test("malformed, huge and half-sent requests, and the server goes on", function()
  local s = served.start "--idle 1 --max-body 2KiB"
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

test("numbers at the edge of what f32 and doubles hold are answered, or refused by name", function()
  local s = served.start()
  local function text(more) return s:text(served.no_end() .. '"prompt":"a","max_tokens":8,' .. more) end
  local _, greedy = text '"temperature":0'
  for _, more in ipairs { '"temperature":1e-40', '"temperature":5e-324', '"temperature":-0.0', '"top_p":1e-300', '"top_p":5e-324', '"min_p":1',
                          '"top_k":1.0' } do
    local status, a = text(more)
    expect.same({ status, a.choices and a.choices[1].text }, { 200, greedy.choices[1].text }, more)
  end
  for field, more in pairs { seed = '"seed":9007199254740993', top_k = '"top_k":1e300', temperature = '"temperature":1e308',
                             repetition_penalty = '"repetition_penalty":1e-300', n = '"n":1e15' } do
    local status, a = text(more)
    expect.same({ status, a.error and a.error.param }, { 400, field }, more)
  end
  expect.same((text '"seed":9007199254740991,"repetition_penalty":0.01,"temperature":2'), 200)
  expect.same((s:text '"prompt":[1e300]'), 400)
  expect.same({ s:stop() }, { 0, "" })
end)

test("large and deep bodies are read or refused soon, and their memory is given back", function()
  local s = served.start "--max-body 1MiB"
  local function asked(body) return (s:ask("/v1/completions", body, "-m 10")) end
  local function many(piece, bytes) return piece:rep(math.floor(bytes / #piece)) end
  expect.same(asked('{"model":"x","prompt":"' .. many("a", 1e6) .. '"}'), 400)  -- longer than the context
  expect.same(asked('{"model":"x","prompt":[' .. many("[],", 1e6) .. '[]]}'), 400)
  expect.same(asked(many("[", 1e6)), 400)
  expect.same(asked('{"model":"x","prompt":' .. ("["):rep(2000) .. ("]"):rep(2000) .. "}"), 400)
  local keys = {}
  for i = 1, 20000 do keys[i] = ('"aaaaaaaaaaaaaaaaaaaa%06daaaaaaaaaaaaaaaa":1'):format(i) end
  expect.same(asked('{"model":"x",' .. table.concat(keys, ",") .. "}"), 400)
  expect.same(asked('{"model":"x","prompt":"' .. many("a", 2 ^ 20) .. '"}'), 413)
  expect.same((s:chat('"stop":' .. "[" .. many('"x",', 1e5) .. '"x"]')), 400)
  expect.same({ s:stop() }, { 0, "" })
end)

test("neither prompts nor answers are written anywhere", function()
  local s = served.start()
  expect.same((s:text '"prompt":"a secret of mine","max_tokens":2'), 200)
  expect.same((s:text '"prompt":"a secret of mine","max_tokens":"x"'), 400)
  local _, metrics = s:ask "/metrics"
  expect.truthy(not metrics:find "secret")
  expect.same({ s:stop() }, { 0, "" })
  expect.truthy(not process.contents(s.place .. "/out"):find "secret")
end)

test("noise of some seconds: tests/serve/fuzz.sh is its long form", function()
  local out = served.shell('tests/serve/fuzz.sh 3 7 "$(readlink /proc/$PPID/exe)"; echo code=$?')
  expect.truthy(out:find "code=0\n$" and out:find "pages free", out)
end)

return tests
