-- `cftrun serve` as its clients meet it: answers, who may ask, and its end.

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local process = require "tests.process"
local served = require "tests.served"
local texts = require "cft.generate.text"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

-- ---- answers -------------------------------------------------------------------------------------

test("chat: the text of `cftrun generate`, its usage, streamed or whole", function()
  local status, a = served.shared():chat(served.no_end() .. '"max_tokens":12,"temperature":0')
  expect.same(status, 200)
  local said = process.cftrun { "generate", served.model(), "How many?", "--max-new", "12", "--dtype", "f32",
                                "--bias", served.no_end():match "%d+" .. "=-100" }.out
  expect.same(a.choices[1].message.content .. "\n", texts.valid(said))
  expect.same({ a.object, a.model, a.choices[1].finish_reason, a.usage.completion_tokens, a.usage.total_tokens - a.usage.prompt_tokens },
              { "chat.completion", "x", "length", 12, 12 })
  local body = '{"model":"x","messages":[{"role":"user","content":"How many?"}],%s"max_tokens":12,"temperature":0,"stream":true,' ..
               '"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":2}'
  local out, list = "", served.events(served.shell(served.shared():curl("/v1/chat/completions", body:format(served.no_end()))))
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
  local s = served.shared()
  local status, a = s:text(served.no_end() .. '"prompt":["a","b"],"n":2,"max_tokens":5,"logprobs":2,"seed":3')
  expect.same({ status, #a.choices, a.choices[4].index, a.usage.completion_tokens }, { 200, 4, 3, 20 })
  for _, c in ipairs(a.choices) do
    expect.same({ #c.logprobs.tokens, #c.logprobs.token_logprobs, c.logprobs.text_offset[1] }, { 5, 5, 0 })
    expect.truthy(c.logprobs.token_logprobs[1] <= 0)
  end
  local function text(more) local _, r = s:text(served.no_end() .. '"prompt":"a","max_tokens":16,' .. more) return r.choices[1] end
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
  local s = served.shared()
  local status, list = s:ask "/v1/models"
  expect.same({ status, list.data[1].id, #list.data }, { 200, "tiny", 1 })
  expect.same({ s:ask "/health" }, { 200, { status = "ok" } })
  expect.same(s:ask("/health", nil, "-I"), 200)
  expect.truthy(s:metric "cft_generated_tokens_total" >= 0)
  local _, text = s:ask "/metrics"
  expect.truthy(text:find 'cft_answers_total{path="/health",status="200"} ', text)
end)

test("metrics as Prometheus wants them: help and type, counters of _total, buckets that grow", function()
  local s = served.shared()
  expect.same((s:text '"prompt":"a","max_tokens":2'), 200)
  local _, text = s:ask "/metrics"
  expect.same(text:sub(-1), "\n")
  local kinds, helped, last, count = {}, {}, {}, 0
  for line in text:gmatch "[^\n]+" do
    local name, kind = line:match "^# TYPE ([%w_]+) (%a+)$"
    if name then
      expect.truthy(helped[name] and not kinds[name], line)
      expect.same(kind == "counter", name:find "_total$" ~= nil, line)
      kinds[name] = kind
    elseif line:find "^#" then
      helped[line:match "^# HELP ([%w_]+) %a"] = true
    else
      local sample, value = line:match "^(cft_[%w_]+)[^ ]* ([%d.]+)$"
      local family = sample and (kinds[sample] and sample or sample:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", ""))
      expect.truthy(family and kinds[family], line)
      value, count = tonumber(value), count + 1
      if sample:find "_bucket$" or sample:find "_count$" then
        expect.truthy(value >= (last[family] or 0), line)
        last[family] = value
      end
    end
  end
  expect.truthy(count > 30 and last.cft_request_duration_seconds >= 1, text)
end)

test("what is refused, in OpenAI's form", function()
  local s = served.shared()
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

-- ---- who may ask ---------------------------------------------------------------------------------

test("a key, a site and a name that are allowed", function()
  local s = served.start("--origin http://good.example --allow-host cft.internal", "CFT_SERVE_KEY=secret-key-1")
  expect.same(s:ask "/v1/models", 401)
  expect.same(s:ask("/v1/models", nil, "-H 'Authorization: Bearer secret-key-2'"), 401)
  expect.same(s:ask("/v1/models", nil, "-H 'Authorization: Bearer secret-key-1x'"), 401)
  local headers = served.shell(s:curl("/v1/models", nil, "-i -H 'Host: cft.internal' -H 'Authorization: Bearer secret-key-1' -H 'Origin: http://good.example'"))
  expect.truthy(headers:find "200 OK" and headers:find "Access%-Control%-Allow%-Origin: http://good.example", headers)
  expect.same(s:ask("/v1/models", nil, "-X OPTIONS -H 'Origin: http://good.example'"), 204)
  expect.same(s:ask("/v1/models", nil, "-H 'Origin: http://good.example.org'"), 403)
  expect.same(s:ask "/health", 200)
  expect.same({ s:stop() }, { 0, "" })
end)

test("a key of a file goes before the environment's, and with it other machines may ask", function()
  local key = process.write(process.folder() .. "/key", "key-of-file \r\nanother line\n")
  local s = served.start("--host 0.0.0.0 --key-file " .. key, "CFT_SERVE_KEY=key-of-environment")
  local function models(header) return (s:ask("/v1/models", nil, header)) end
  expect.same(models "-H 'Authorization: Bearer key-of-file'", 200)
  expect.same(models "-H 'authorization: BEARER  key-of-file' -H 'Host: example.org'", 200)
  for _, header in ipairs { "", "-H 'Authorization: Bearer key-of-environment'", "-H 'Authorization: key-of-file'", "-H 'Authorization: Bearer'",
                            "-H 'Authorization: Basic key-of-file'", "-H 'Authorization: Bearer key-of-fil'", "-u key-of-file:" } do
    expect.same(models(header), 401, header)
  end
  expect.same((s:text '"prompt":"a","max_tokens":1'), 401)
  expect.same((s:ask "/metrics"), 401)
  expect.same({ s:stop() }, { 0, "" })
end)

test("what the command refuses", function()
  local function refused(code, pattern, ...)
    local r = process.cftrun { "serve", ... }
    expect.same(r.code, code, r.err)
    expect.truthy(r.err:find(pattern), r.err)
  end
  refused(2, "a model is wanted")
  refused(2, 'other machines reach "0.0.0.0", and no key is wanted', served.model(), "--host", "0.0.0.0", "--port", "0")
  refused(2, "no address", served.model(), "--host", "256.1.1.1", "--port", "0")
  refused(2, "a key has 8 characters or more", served.model(), "--key-file", process.write(process.folder() .. "/key", "short\n"))
  refused(2, "%-%-key%-file: ", served.model(), "--key-file", "/nowhere/key")
  refused(2, "%-%-max%-body must be a size", served.model(), "--max-body", "much")
  refused(4, "no folder or file", "/nowhere/model")
  refused(1, "cannot listen on", served.model(), "--port", served.shared().port, "--memory", "64MiB")
end)

test("the shared server ends", function()
  expect.same({ served.shared():stop() }, { 0, "" })
end)

return tests
