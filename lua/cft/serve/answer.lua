--- Answers in OpenAI's forms: errors, models, completions, the pieces of a stream.

local json = require "cft.base.json"
local texts = require "cft.generate.text"

local M = {}

local types = { [401] = "authentication_error", [403] = "permission_error", [429] = "rate_limit_error", [500] = "server_error",
                [503] = "server_error" }

--- An error. @int status @string message @string[opt] param the field @string[opt] code
function M.error(status, message, param, code)
  return json.encode { error = { message = texts.valid(message), type = types[status] or "invalid_request_error",
                                 param = param and texts.valid(param) or json.null, code = code or json.null } }
end

--- The list of models, of which there is one.
function M.models(name, created)
  return json.encode { object = "list", data = json.array { { id = name, object = "model", created = created, owned_by = "cft" } } }
end

local finishes = { stop = "stop", length = "length", context = "length" }

--- Why a sample ended, in OpenAI's words.
function M.finish(why) return finishes[why] or "stop" end

-- ---- log-probabilities ---------------------------------------------------------------------------

local function bytes_of(text)
  local list = json.array()
  for i = 1, #text do list[i] = text:byte(i) end
  return list
end

local function entry_of(token, logprob)
  return { token = texts.valid(token), logprob = logprob, bytes = bytes_of(token) }
end

-- JSON has no infinity: a token that cannot be is as unlikely as a number says.
local function finite(logprob) return logprob > -9999 and logprob or -9999 end

local function chat_logprobs(entries)
  local content = json.array()
  for i, e in ipairs(entries) do
    content[i] = entry_of(e.token, finite(e.logprob))
    content[i].top_logprobs = json.array()
    for j, t in ipairs(e.top or {}) do content[i].top_logprobs[j] = entry_of(t.token, finite(t.logprob)) end
  end
  return { content = content, refusal = json.null }
end

local function text_logprobs(entries)
  local o = { tokens = json.array(), token_logprobs = json.array(), top_logprobs = json.array(), text_offset = json.array() }
  for i, e in ipairs(entries) do
    local top = {}
    for _, t in ipairs(e.top or {}) do top[texts.valid(t.token)] = finite(t.logprob) end
    o.tokens[i], o.token_logprobs[i], o.top_logprobs[i] = texts.valid(e.token), finite(e.logprob), top
    o.text_offset[i] = e.offset
  end
  return o
end

local function logprobs_of(job, entries)
  if not job.asked.logprobs then return json.null end
  return job.kind == "chat" and chat_logprobs(entries) or text_logprobs(entries)
end

-- ---- completions ---------------------------------------------------------------------------------

local objects = { chat = "chat.completion", text = "text_completion" }

local function usage(job)
  return { prompt_tokens = job.prompt_tokens, completion_tokens = job.written, total_tokens = job.prompt_tokens + job.written }
end

local function frame(job, object, choices)
  return { id = job.name, object = object, created = job.created, model = job.asked.model, choices = json.array(choices) }
end

--- The answer of a job whose samples have ended.
-- @tab job `choices`, each with `text`, `finish`, `entries`
function M.whole(job)
  local choices = {}
  for i, c in ipairs(job.choices) do
    choices[i] = { index = i - 1, finish_reason = M.finish(c.finish), logprobs = logprobs_of(job, c.entries) }
    local text = texts.valid(c.text)
    if job.kind == "chat" then
      choices[i].message = { role = "assistant", content = text, refusal = json.null }
    else
      choices[i].text = text
    end
  end
  local answer = frame(job, objects[job.kind], choices)
  answer.usage = usage(job)
  return json.encode(answer)
end

local function event(value) return "data: " .. json.encode(value) .. "\n\n" end

local function piece(job, choice)
  local answer = frame(job, job.kind == "chat" and "chat.completion.chunk" or objects.text, { choice })
  if job.asked.include_usage then answer.usage = json.null end
  return event(answer)
end

--- What a stream begins with, of one choice. @int index from 0
function M.first(job, index)
  if job.kind ~= "chat" then return "" end
  return piece(job, { index = index, delta = { role = "assistant", content = "" }, finish_reason = json.null, logprobs = json.null })
end

--- A piece of a choice's text, with its tokens; `finish` ends it.
function M.piece(job, index, text, entries, finish)
  local choice = { index = index, finish_reason = finish and M.finish(finish) or json.null,
                   logprobs = #entries > 0 and logprobs_of(job, entries) or json.null }
  text = texts.valid(text)
  if job.kind ~= "chat" then
    choice.text = text
  else
    choice.delta = (text ~= "" or not finish) and { content = text } or {}
  end
  return piece(job, choice)
end

--- What a stream ends with.
function M.last(job)
  local text = ""
  if job.asked.include_usage then
    local answer = frame(job, job.kind == "chat" and "chat.completion.chunk" or objects.text, {})
    answer.usage = usage(job)
    text = event(answer)
  end
  return text .. "data: [DONE]\n\n"
end

return M
