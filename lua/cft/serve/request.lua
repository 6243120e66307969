--- What a body asks for: each field is used, or refused by name. Nothing here raises: a body is anybody's.

local check = require "cft.base.check"
local json = require "cft.base.json"

local M = {}

-- ---- fields ------------------------------------------------------------------------------------

local shared = {
  model = { "string" },  -- any name: there is one model
  max_tokens = { "integer", min = 1 }, temperature = { "number", min = 0, max = 2 },
  top_p = { "number", min = 0, max = 1, fits = function(v) if not (v > 0) then return "more than 0" end end },
  n = { "integer", min = 1 }, stream = { "boolean" }, stream_options = { "table" }, stop = { "string|table" },
  logit_bias = { "table" },
  seed = { "integer", min = 0, max = 2 ^ 53 - 1 },  -- of larger ones a double holds some, and takes others for them
  -- beyond OpenAI's, as other servers name them
  top_k = { "integer", min = 0, max = 2 ^ 31 - 1 }, min_p = { "number", min = 0, max = 1 },
  repetition_penalty = { "number", min = 0.01, max = 100 },
}

local own = {
  chat = { messages = { "table" }, max_completion_tokens = { "integer", min = 1 }, logprobs = { "boolean" },
           top_logprobs = { "integer", min = 0, max = 20 } },
  text = { prompt = { "string|table" }, logprobs = { "integer", min = 0, max = 20 } },
}

-- Fields that are not supported, with the value that asks for nothing.
local neutral = {
  presence_penalty = 0, frequency_penalty = 0, echo = false, best_of = 1, suffix = "", store = false, tool_choice = "none",
  parallel_tool_calls = false,
}

local function refused(param, message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  return nil, { param = param and param:sub(1, 80), message = message }
end

local function spec_of(kind, name) return shared[name] or own[kind][name] end

-- Each field by its spec. @return a table without nulls; or nil and what is wrong
local function read_fields(body, kind)
  local o = {}
  local names = {}
  for name in pairs(body) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value, spec = body[name], spec_of(kind, name)
    if value == json.null then  -- as if it were not there, if it may be
      if not spec and neutral[name] == nil then return refused(name, "the field '%s' is not supported", name:sub(1, 80)) end
    elseif spec then
      local problem = check.problem(value, spec)
      if problem then return refused(name, "'%s' %s", name, problem) end
      o[name] = value
    elseif neutral[name] == nil or value ~= neutral[name] then
      return refused(name, "the field '%s' is not supported", name:sub(1, 80))
    end
  end
  return o
end

-- ---- what is more than a value -----------------------------------------------------------------

local roles = { system = "system", developer = "system", user = "user", assistant = "assistant" }

-- The text of a content: a text, or a list of parts that are texts.
local function content_of(content, where)
  if type(content) == "string" then return content end
  if not json.is_array(content) or #content == 0 then
    return refused(where, "'%s' must be a text, or a list of parts", where)
  end
  local texts = {}
  for i, part in ipairs(content) do
    if type(part) ~= "table" or part.type ~= "text" or type(part.text) ~= "string" then
      return refused(where, "'%s[%d]' must be a part { type = \"text\", text = ... }: only text is supported", where, i - 1)
    end
    for name in pairs(part) do
      if name ~= "type" and name ~= "text" then
        return refused(where, "'%s[%d].%s' is not supported", where, i - 1, tostring(name):sub(1, 80))
      end
    end
    texts[i] = part.text
  end
  return table.concat(texts)
end

local function messages_of(list)
  if not json.is_array(list) or #list == 0 then return refused("messages", "'messages' must be a list of messages, not empty") end
  local messages = {}
  for i, m in ipairs(list) do
    local where = ("messages[%d]"):format(i - 1)
    if type(m) ~= "table" or json.is_array(m) then return refused(where, "'%s' must be an object", where) end
    local role = type(m.role) == "string" and roles[m.role]
    if not role then
      return refused(where .. ".role", "'%s.role' must be system, developer, user or assistant", where)
    end
    for name, value in pairs(m) do
      if name ~= "role" and name ~= "content" and value ~= json.null then
        return refused(where .. "." .. name, "'%s.%s' is not supported", where, name:sub(1, 80))
      end
    end
    local content, why = content_of(m.content, where .. ".content")
    if not content then return nil, why end
    messages[i] = { role = role, content = content }
  end
  return messages
end

local function all_ids(list)
  for _, id in ipairs(list) do
    if type(id) ~= "number" or id % 1 ~= 0 or id < 0 then return false end
  end
  return #list > 0
end

-- A list of prompts: texts, or lists of ids.
local function prompts_of(prompt, limits)
  if type(prompt) == "string" then return { prompt } end
  if not json.is_array(prompt) or #prompt == 0 then return refused("prompt", "'prompt' must be a text or a list, not empty") end
  if type(prompt[1]) == "number" then prompt = { prompt } end
  if #prompt > limits.n then return refused("prompt", "'prompt' has %d prompts; %d are allowed", #prompt, limits.n) end
  for i, one in ipairs(prompt) do
    if type(one) ~= "string" and not (json.is_array(one) and all_ids(one)) then
      return refused("prompt", "'prompt[%d]' must be a text, or a list of ids", i - 1)
    end
  end
  return prompt
end

local function stops_of(stop, limits)
  local list = type(stop) == "string" and { stop } or stop
  if type(stop) == "table" and not json.is_array(stop) then return refused("stop", "'stop' must be a text or a list of texts") end
  if #list > limits.stops then return refused("stop", "'stop' has %d texts; %d are allowed", #list, limits.stops) end
  for _, text in ipairs(list) do
    if type(text) ~= "string" or text == "" or #text > limits.stop_bytes then
      return refused("stop", "'stop' has texts of 1 to %d bytes", limits.stop_bytes)
    end
  end
  return list
end

local function bias_of(map, limits)
  local bias, count = {}, 0
  if json.is_array(map) and #map > 0 then return refused("logit_bias", "'logit_bias' must be an object of numbers by id") end
  for key, value in pairs(map) do
    local id = (key == "0" or key:find "^[1-9]%d*$") and tonumber(key)  -- 3 and 03 would be two keys for one id
    if not id or id >= limits.vocab or type(value) ~= "number" or not (math.abs(value) <= 100) then
      return refused("logit_bias", "'logit_bias' has numbers from -100 to 100 by id, from 0 to %d", limits.vocab - 1)
    end
    bias[id], count = value, count + 1
  end
  if count > limits.bias then return refused("logit_bias", "'logit_bias' has %d entries; %d are allowed", count, limits.bias) end
  return bias
end

local function usage_of(options, stream)
  if not stream then return refused("stream_options", "'stream_options' wants stream = true") end
  for name, value in pairs(options) do
    if name ~= "include_usage" then return refused("stream_options", "'stream_options.%s' is not supported", tostring(name):sub(1, 80)) end
    if type(value) ~= "boolean" then return refused("stream_options", "'stream_options.include_usage' must be true or false") end
  end
  return options.include_usage == true
end

-- How many log-probabilities beside each token's; nil where none are asked for.
local function logprobs_of(o, kind)
  if kind == "text" then return o.logprobs end
  if o.top_logprobs and not o.logprobs then return refused("top_logprobs", "'top_logprobs' wants logprobs = true") end
  return o.logprobs and (o.top_logprobs or 0) or nil
end

local function tokens_of(o, limits)
  if o.max_tokens and o.max_completion_tokens then
    return refused("max_tokens", "'max_tokens' and 'max_completion_tokens': give one of them")
  end
  local name = o.max_completion_tokens and "max_completion_tokens" or "max_tokens"
  local asked = o[name]
  if asked and asked > limits.max_tokens then
    return refused(name, "'%s' is %d; %d are allowed", name, asked, limits.max_tokens)
  end
  return asked
end

-- ---- a body ------------------------------------------------------------------------------------

local function read(text, kind, limits)
  local body, why = json.decode_once(text)
  if body == nil then return refused(nil, "the body is no JSON: %s", why:sub(1, 200)) end
  if type(body) ~= "table" or json.is_array(body) then return refused(nil, "the body must be an object") end
  local o
  o, why = read_fields(body, kind)
  if not o then return nil, why end
  local asked = { model = o.model, stream = o.stream or false, n = o.n or 1, seed = o.seed, temperature = o.temperature or 1,
                  top_p = o.top_p or 1, top_k = o.top_k or 0, min_p = o.min_p or 0, penalty = o.repetition_penalty or 1 }
  if not asked.model then return refused("model", "'model' is wanted; any name will do") end
  local function take(name, value, problem)
    why = why or problem
    asked[name] = value
  end
  if kind == "chat" then
    if not o.messages then return refused("messages", "'messages' is wanted") end
    take("messages", messages_of(o.messages))
  else
    if not o.prompt then return refused("prompt", "'prompt' is wanted") end
    take("prompts", prompts_of(o.prompt, limits))
  end
  take("max_new", tokens_of(o, limits))
  take("logprobs", logprobs_of(o, kind))
  if o.stop then take("stop", stops_of(o.stop, limits)) end
  if o.logit_bias then take("bias", bias_of(o.logit_bias, limits)) end
  if o.stream_options then take("include_usage", usage_of(o.stream_options, asked.stream)) end
  if why then return nil, why end
  if asked.n * (asked.prompts and #asked.prompts or 1) > limits.n then
    return refused("n", "'n' asks for %d answers; %d are allowed", asked.n * (asked.prompts and #asked.prompts or 1), limits.n)
  end
  return asked
end

--- Read a body.
-- @string text @string kind "chat" or "text"
-- @tab limits `n`, `max_tokens`, `stops`, `stop_bytes`, `bias`, `vocab`
-- @treturn ?table `model`, `stream`, `include_usage`, `messages` or `prompts`, and options of `cft.generate.sampling`
-- @treturn ?table what is wrong: `message`, and `param`, the field
function M.read(text, kind, limits) return read(text, kind, limits) end

return M
