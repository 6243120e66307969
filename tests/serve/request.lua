-- Bodies of requests: what is used, what is refused by name, and that nothing else can happen.

local expect = require "tests.expect"
local json = require "cft.base.json"
local requests = require "cft.serve.request"

local limits = { n = 8, max_tokens = 100, stops = 4, stop_bytes = 16, bias = 3, vocab = 50 }

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local chat = '{"model":"m","messages":[{"role":"user","content":"Hi"}]%s}'
local text = '{"model":"m","prompt":"Hi"%s}'

local function read(form, kind, more) return requests.read(form:format(more and "," .. more or ""), kind, limits) end

test("what is not said is OpenAI's default, null is nothing, neutral values pass", function()
  local asked = read(chat, "chat", '"temperature":null,"presence_penalty":0,"tool_choice":"none","suffix":null')
  expect.same({ asked.n, asked.temperature, asked.top_p, asked.stream, asked.max_new == nil, asked.logprobs == nil },
              { 1, 1, 1, false, true, true })
  expect.same(asked.messages, { { role = "user", content = "Hi" } })
  expect.same(read(text, "text").prompts, { "Hi" })
end)

test("every field is read", function()
  local a = read(chat, "chat", '"max_completion_tokens":7,"temperature":0.5,"top_p":0.25,"n":3,"stream":true,' ..
    '"stream_options":{"include_usage":true},"stop":["a","b"],"seed":9,"logit_bias":{"3":-100,"4":2.5},"logprobs":true,' ..
    '"top_logprobs":5,"top_k":4,"min_p":0.125,"repetition_penalty":1.5')
  expect.same({ a.max_new, a.temperature, a.top_p, a.n, a.stream, a.include_usage, a.seed, a.logprobs, a.top_k, a.min_p, a.penalty },
              { 7, 0.5, 0.25, 3, true, true, 9, 5, 4, 0.125, 1.5 })
  expect.same(a.stop, { "a", "b" })
  expect.same(a.bias, { [3] = -100, [4] = 2.5 })
  expect.same(read(chat, "chat", '"logprobs":true').logprobs, 0)
  expect.same(read(text, "text", '"logprobs":2,"stop":"x","max_tokens":5').stop, { "x" })
  expect.same(requests.read('{"model":"m","prompt":[[1,2],"x"]}', "text", limits).prompts[2], "x")
  expect.same(#requests.read('{"model":"m","prompt":[1,2]}', "text", limits).prompts, 1)
  local parts = '{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}'
  expect.same(requests.read(parts, "chat", limits).messages, { { role = "system", content = "ab" } })
end)

local refused = {  -- field, what is put behind a good body
  chat = {
    temperature = { '"temperature":3', '"temperature":"hot"' }, top_p = { '"top_p":0', '"top_p":1.5' }, n = { '"n":0', '"n":9', '"n":1.5' },
    stop = { '"stop":["a","b","c","d","e"]', '"stop":""', '"stop":[1]', '"stop":{"a":"b"}', '"stop":"' .. ("x"):rep(17) .. '"' },
    seed = { '"seed":-1', '"seed":1e300' }, max_tokens = { '"max_tokens":0', '"max_tokens":101', '"max_tokens":5,"max_completion_tokens":5' },
    max_completion_tokens = { '"max_completion_tokens":101' }, stream = { '"stream":1' },
    stream_options = { '"stream_options":{}', '"stream":true,"stream_options":{"x":1}', '"stream":true,"stream_options":{"include_usage":2}' },
    logprobs = { '"logprobs":3' }, top_logprobs = { '"top_logprobs":2', '"logprobs":true,"top_logprobs":21' },
    logit_bias = { '"logit_bias":{"50":1}', '"logit_bias":{"x":1}', '"logit_bias":{"1":101}', '"logit_bias":[1]',
                   '"logit_bias":{"1":1,"2":1,"3":1,"4":1}' },
    tools = { '"tools":[]' }, response_format = { '"response_format":{"type":"json_object"}' }, user = { '"user":"me"' },
    presence_penalty = { '"presence_penalty":0.5' }, best_of = { '"best_of":2' }, prompt = { '"prompt":"x"' },
    ["no such"] = { '"no such":null' },
  },
  text = { logprobs = { '"logprobs":true', '"logprobs":21' }, echo = { '"echo":true' }, messages = { '"messages":[]' },
           top_logprobs = { '"top_logprobs":1' }, suffix = { '"suffix":"x"' } },
}

test("what is not used is refused by name", function()
  for kind, fields in pairs(refused) do
    for field, list in pairs(fields) do
      for _, more in ipairs(list) do
        local asked, why = read(kind == "chat" and chat or text, kind, more)
        expect.same(asked, nil, more)
        expect.same(why.param, field, more)
        expect.truthy(why.message:find("'" .. field, 1, true), why.message)
      end
    end
  end
end)

test("bodies, messages and prompts that are none", function()
  local function wrong(body, kind, pattern)
    local asked, why = requests.read(body, kind, limits)
    expect.same(asked, nil, body)
    expect.truthy(why.message:find(pattern), why.message)
  end
  for _, body in ipairs { "", "{", "[]", "3", "null", '"x"', "{}{}", "\0", ("["):rep(5000), "\255" } do wrong(body, "chat", "the body") end
  wrong('{"messages":[]}', "chat", "'model' is wanted")
  wrong('{"model":"m"}', "chat", "'messages' is wanted")
  wrong('{"model":"m"}', "text", "'prompt' is wanted")
  local function messages(list, pattern) wrong(('{"model":"m","messages":%s}'):format(list), "chat", pattern) end
  messages("[]", "not empty")
  messages("{}", "must be a list")
  messages("[3]", "'messages%[0%]' must be an object")
  messages('[{"role":"tool","content":"x"}]', "'messages%[0%].role'")
  messages('[{"role":"user"}]', "'messages%[0%].content'")
  messages('[{"role":"user","content":null}]', "'messages%[0%].content'")
  messages('[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]', "only text")
  messages('[{"role":"user","content":"x","tool_calls":[]}]', "'messages%[0%].tool_calls' is not supported")
  local function prompt(value, pattern) wrong(('{"model":"m","prompt":%s}'):format(value), "text", pattern) end
  prompt("[]", "not empty")
  prompt("{}", "a text or a list")
  prompt("[[]]", "'prompt%[0%]'")
  prompt("[1,-2]", "'prompt%[0%]'")
  prompt("[1.5]", "'prompt%[0%]'")
  prompt('["a",null]', "'prompt%[1%]'")
  prompt('["1","2","3","4","5","6","7","8","9"]', "9 prompts; 8 are allowed")
end)

test("bytes that are changed at random are read or refused, and nothing else", function()
  local state = 7
  local function random(n)
    state = (state * 1103515245 + 12345) % 2 ^ 31
    return math.floor(state / 65536) % n + 1
  end
  local seeds = {
    chat:format ',"stop":["a"],"logit_bias":{"3":1},"stream":true,"stream_options":{"include_usage":true},"logprobs":true',
    text:format ',"logprobs":2,"n":2', '{"model":"m","prompt":[[1,2],[3]],"seed":4}',
  }
  local bits = { "{", "}", "[", "]", ",", ":", '"', "null", "-1", "1e999", "true", "\\u0000", "\\ud800", "\255", "0.5", "[[" }
  local taken = 0
  for i = 1, tonumber(os.getenv "CFT_FUZZ" or "") or 20000 do
    local body = seeds[i % #seeds + 1]
    for _ = 1, random(4) do
      local at = random(#body)
      body = body:sub(1, at - 1) .. bits[random(#bits)] .. body:sub(at + random(4) - 1)
    end
    for _, kind in ipairs { "chat", "text" } do
      local asked, why = requests.read(body, kind, limits)
      if asked then
        taken = taken + 1
        expect.truthy(asked.n <= limits.n and (asked.messages or asked.prompts) and asked.model, body)
        expect.truthy(not asked.max_new or asked.max_new <= limits.max_tokens, body)
      else
        expect.truthy(type(why.message) == "string" and why.message ~= "", body)
        assert(json.encode { message = require("cft.generate.text").valid(why.message) })
      end
    end
  end
  expect.truthy(taken > 20, "no body was taken")
end)

return tests
