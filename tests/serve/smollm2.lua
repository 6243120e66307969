-- Real weights behind the server: SmolLM2-135M-Instruct answers there what it answers to `cft.generate`.

local cached = require "tests.cached"
local expect = require "tests.expect"
local generate = require "cft.generate"
local json = require "cft.base.json"
local models = require "cft.models"
local served = require "tests.served"

local question = "What is 10 - 2? Then say in a word what a café is."

return {
  { "SmolLM2: text, usage and log-probabilities of a chat, whole and streamed, and of a completion", function()
    local path = cached.path "smollm2"
    local m = assert(models.load(path, { dtype = "f32" }))
    local function own(prompt, raw)
      local text, result = generate(m, prompt, { max_new = 24, logprobs = 3, raw = raw })
      return text, result
    end
    local s = served.start("", nil, path)
    local function chat(more)
      return s:curl("/v1/chat/completions", json.encode { model = "any/name at all", messages = { { role = "user", content = question } } }:sub(1, -2)
        .. ',"max_tokens":24,"temperature":0,"logprobs":true,"top_logprobs":3' .. more .. "}")
    end
    local text, result = own(question)
    local a = assert(json.decode((served.shell(chat ""):match "^(.*)\n%d+%s*$")))
    local choice, sample = a.choices[1], result.samples[1]
    expect.same({ a.model, choice.message.content, choice.finish_reason }, { "any/name at all", text, sample.finish })
    expect.same(a.usage, { prompt_tokens = #result.prompt, completion_tokens = #sample.ids, total_tokens = #result.prompt + #sample.ids })
    local function same(content)
      -- The end token is in `ids`, and none of the answer's tokens.
      expect.same(#content, #sample.ids - (sample.finish == "stop" and 1 or 0))
      for i, t in ipairs(content) do
        expect.same(t.logprob, sample.logprobs[i], "token " .. i)
        for j, top in ipairs(t.top_logprobs) do expect.same(top.logprob, sample.top[i][j].logprob) end
        expect.same(#t.top_logprobs, 3)
      end
    end
    same(choice.logprobs.content)
    local streamed, content, usage = "", {}, nil
    for _, e in ipairs(served.events(served.shell(chat ',"stream":true,"stream_options":{"include_usage":true}'))) do
      local c = type(e) == "table" and e.choices[1]
      if c then
        streamed = streamed .. (c.delta.content or "")
        for _, t in ipairs(c.logprobs ~= json.null and c.logprobs.content or {}) do content[#content + 1] = t end
      elseif type(e) == "table" then
        usage = e.usage
      end
    end
    expect.same({ streamed, usage }, { text, a.usage })
    same(content)
    text, result = own("The capital of France is", true)
    local _, b = s:text '"prompt":"The capital of France is","max_tokens":24,"temperature":0,"logprobs":3'
    expect.same({ b.choices[1].text, b.usage.prompt_tokens, b.choices[1].logprobs.token_logprobs[5] },
                { text, #result.prompt, result.samples[1].logprobs[5] })
    expect.same({ s:stop() }, { 0, "" })
    m:release()
  end },
}
