-- `cftrun serve` under load: many clients, slow ones, some that leave, and its end while it answers.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"
local served = require "tests.served"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

-- A body for /v1/completions that writes so many tokens.
local function body(tokens, more)
  return ('{"model":"x","prompt":"a",%s"max_tokens":%d%s}'):format(served.no_end(), tokens, more or "")
end

-- Ask beside the case. @return the file that the answer goes to
local function beside(s, text)
  local out = process.folder() .. "/out"
  os.execute(("%s >%s 2>&1 &"):format(s:curl("/v1/completions", text), out))
  return out
end

local function says(file, pattern) return host.kind(file) and process.contents(file):find(pattern) end

test("200 streams at once, a tenth of them read slowly, each with its own text", function()
  local s = served.start()
  local place = process.folder()
  process.write(place .. "/body", body(24, ',"stream":true,"temperature":0,"seed":1'))
  local slow = process.write(place .. "/slow", body(400, ',"stream":true,"temperature":0'))
  local url = "http://127.0.0.1:" .. s.port .. "/v1/completions"
  local line = "curl -sS -m 60 -Z --parallel-max 200 --parallel-immediate -H 'Content-Type: application/json' --data-binary @%s %s -o '%s/%s#1' '%s?[1-%d]' 2>/dev/null"
  os.execute(("(%s; echo >%s/ended) &"):format(line:format(slow, "--limit-rate 20k", place, "slow", url, 20), place))
  expect.same(served.shell(line:format(place .. "/body", "", place, "fast", url, 180) .. "; echo $?"), "0\n")
  local function check(name, count, tokens)
    local first
    for i = 1, count do
      local list, text = served.events(process.contents(place .. "/" .. name .. i)), ""
      expect.same(list[#list], "[DONE]", name .. i)
      for _, e in ipairs(list) do text = text .. (type(e) == "table" and e.choices[1].text or "") end
      first = first or text
      expect.same(text, first)
    end
    expect.truthy(#first >= tokens)
  end
  check("fast", 180, 24)
  served.wait_for(function() return host.kind(place .. "/ended") end, 60)
  check("slow", 20, 400)
  served.wait_for(function() return s:is_quiet() end)
  expect.same({ s:stop() }, { 0, "" })
end)

test("a reader that takes nothing loses its stream, and nobody else waits for it", function()
  local s = served.start "--idle 2"
  local request = process.write(process.folder() .. "/request", ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" ..
    "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(#body(8000, ',"stream":true,"n":8,"logprobs":20'),
    body(8000, ',"stream":true,"n":8,"logprobs":20')))
  os.execute(("timeout 60 bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; cat %s >&3; while [ ! -e %s.over ]; do sleep 0.1; done' &"):format(
    s.port, request, request))
  served.wait_for(function() return s:metric "cft_sequences_running" == 8 end)
  expect.same((s:text(served.no_end() .. '"prompt":"b","max_tokens":5')), 200)
  served.wait_for(function() return s:metric "cft_clients_left_total" == 1 end, 30)
  served.wait_for(function() return s:is_quiet() end)
  process.write(request .. ".over", "")
  expect.same({ s:stop() }, { 0, "" })
end)

test("a client that leaves gives its place back, also while it waits; who comes too many gets 429", function()
  local s = served.start "--batch 1 --queue 1"
  local long = ('{"model":"x","prompt":"a",%s"max_tokens":8000,"stream":true}'):format(served.no_end())
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

test("limits of the command line: answers, tokens, stops, prompts", function()
  local s = served.start "--max-n 3 --max-tokens 20"
  local function refused(field, pattern, more)
    local status, a = s:text(more)
    expect.same({ status, a.error and a.error.param }, { 400, field }, more)
    expect.match(a.error.message, pattern)
  end
  refused("n", "'n' asks for 4 answers; 3 are allowed", '"prompt":"a","n":4')
  refused("n", "'n' asks for 4 answers; 3 are allowed", '"prompt":["a","b"],"n":2')
  refused("prompt", "4 prompts; 3 are allowed", '"prompt":["a","b","c","d"]')
  refused("max_tokens", "'max_tokens' is 21; 20 are allowed", '"prompt":"a","max_tokens":21')
  refused("stop", "17 texts; 16 are allowed", '"prompt":"a","stop":[' .. ('"x",'):rep(16) .. '"x"]')
  refused("stop", "texts of 1 to 256 bytes", '"prompt":"a","stop":"' .. ("x"):rep(257) .. '"')
  local status, a = s:chat(served.no_end() .. '"temperature":0')  -- nothing said: as much as is allowed
  expect.same({ status, a.usage.completion_tokens, a.choices[1].finish_reason }, { 200, 20, "length" })
  expect.same({ s:stop() }, { 0, "" })
end)

test("SIGTERM: what was begun is finished, nothing else is taken, and the exit code is 0", function()
  local s = served.start()
  local body = ('{"model":"x","prompt":"a",%s"max_tokens":1500,"stream":true}'):format(served.no_end())
  local out = process.folder() .. "/out"
  os.execute(("%s >%s 2>&1 &"):format(s:curl("/v1/completions", body), out))
  local until_ = host.now() + 10
  repeat host.sleep(0.02) until (host.kind(out) and process.contents(out):find "data:") or host.now() > until_
  os.execute("kill -TERM " .. s.pid)
  local code, err = s:wait()
  expect.same({ code, err }, { 0, "" })
  host.sleep(0.2)
  local list = served.events(process.contents(out))
  expect.same(list[#list], "[DONE]")
  expect.same(s:ask "/health", 0)  -- nobody listens
end)

test("SIGTERM: answers in pieces and whole, written and waiting, are finished; who comes then is told so", function()
  local s = served.start "--batch 1"
  local first = beside(s, body(4000, ',"stream":true'))  -- 11 s with the sanitizers; curl waits 30
  served.wait_for(function() return says(first, "data:") end)
  local second, third = beside(s, body(5)), beside(s, body(5, ',"stream":true'))
  served.wait_for(function() return s:metric "cft_sequences_waiting" == 2 end)
  -- A connection that was there before goes on asking while the server ends.
  local late = process.folder() .. "/late"
  local ask = "printf \"GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n\" >&3"
  os.execute(("timeout 30 bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; %s; sleep 0.1; kill -TERM %s; (for i in $(seq 100); do %s; sleep 0.02; done) & cat <&3' >%s 2>/dev/null &"):format(
    s.port, ask, s.pid, ask, late))
  expect.same({ s:wait() }, { 0, "" })
  served.wait_for(function() return says(first, "%[DONE%]") and says(second, '"length".*\n200') and says(third, "%[DONE%]") end)
  served.wait_for(function() return says(late, "503 ") end)
  expect.match(process.contents(late), "^HTTP/1.1 200 .*HTTP/1.1 503 .*Connection: close.*going down")
  expect.same((s:ask "/health"), 0)
end)

test("SIGTERM: what does not come to its end in --drain seconds is told so, and the exit code is 0", function()
  local s = served.start "--drain 0"
  local streamed, whole = beside(s, body(8000, ',"stream":true')), beside(s, body(8000))
  served.wait_for(function() return says(streamed, "data:") and s:metric "cft_sequences_running" == 2 end)
  expect.same({ s:stop() }, { 0, "" })
  served.wait_for(function() return says(whole, "\n503") end)
  local list = served.events(process.contents(streamed))
  expect.match(list[#list].error.message, "going down")
end)

return tests
