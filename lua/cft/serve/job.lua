--- A completion from its request to its answer: prompts read, sequences asked for, text handed on as it comes.

local answer = require "cft.serve.answer"
local generate = require "cft.generate"
local host = require "cft.host"
local prompts = require "cft.generate.prompt"

local M = {}
local Job = {}
Job.__index = Job

local TEXT_TOKENS = 16  -- what OpenAI's completions write where nothing is said

local function bad(message, param, code) return nil, { status = 400, message = message, param = param, code = code } end

-- An error's text without the place in a file that `blame` may put in front.
local function words(raised) return (tostring(raised):gsub("^serve: ", "")) end

-- The ids of a prompt, which the engine can take.
local function ids_of(self, prompt, kind)
  local ok, ids = pcall(prompts.ids, prompt, self.tok, { raw = kind == "text" }, "serve")
  local param = kind == "chat" and "messages" or "prompt"
  if not ok then return bad(words(ids), param) end
  if #ids == 0 then return bad("the prompt has no tokens", param) end
  local config = self.model.config
  if #ids >= config.context then
    return bad(("the prompt has %d tokens, and the model's context is %d"):format(#ids, config.context), param, "context_length_exceeded")
  end
  for _, id in ipairs(ids) do
    if id >= config.vocab then return bad(("ids are from 0 to %d, got %.17g"):format(config.vocab - 1, id), param) end
  end
  return ids
end

-- Note the log-probabilities of the token that was chosen last.
local function note_token(self, job, choice, seq, id)
  local top, place = {}, #seq.logprobs
  local function text(token) return self.tok:decode({ token }, { inside = #choice.entries > 0 or choice.sent > 0 }) end
  for j, t in ipairs(seq.top and seq.top[place] or {}) do top[j] = { token = text(t.id), logprob = t.logprob } end
  local token = text(id)
  choice.entries[#choice.entries + 1] = { token = token, logprob = seq.logprobs[place], top = top, offset = choice.offset }
  local _, continued = token:gsub("[\128-\191]", "")
  choice.offset = choice.offset + #token - continued  -- in characters
end

-- Hand on what a choice has written since.
local function hand_on(self, job, choice, text, ended)
  if not job.asked.stream then
    choice.text = choice.text .. text
    return
  end
  if text == "" and not ended then return end  -- tokens wait for the text that they are
  if not job.begun then self:begin(job) end
  self.server:send(job.id, answer.piece(job, choice.index, text, choice.entries, ended and choice.finish))
  choice.sent, choice.entries = choice.sent + #choice.entries, {}
end

-- A request of the engine for one prompt of a job, whose tokens find their way to the job's choices.
local function engine_request(self, job, ids, base)
  local a = job.asked
  local room = self.model.config.context - #ids
  local max_new = a.max_new or (job.kind == "text" and math.min(TEXT_TOKENS, self.o.max_tokens)) or math.min(room, self.o.max_tokens)
  local o = { n = a.n, max_new = max_new, temperature = a.temperature, top_k = a.top_k, top_p = a.top_p, min_p = a.min_p,
              penalty = a.penalty, bias = a.bias, stop = a.stop, ends = true, logprobs = a.logprobs,
              seed = a.seed or self.seed, sequence = a.seed and base or self.sequence }
  if not a.seed then self.sequence = self.sequence + a.n end
  local function show(sample, text, ended)
    local choice = job.choices[base + sample]
    if job.gone then return end
    if ended then
      choice.finish = choice.seq.finish
      job.open = job.open - 1
    end
    hand_on(self, job, choice, text, ended)
    if ended and job.open == 0 then self.ended[#self.ended + 1] = job end
  end
  local request = generate.request(self.model, self.tok, ids, o, 0, show, "serve")
  local inner = request.token
  function request.token(seq, id)
    local choice = job.choices[base + seq.sample]
    choice.seq = seq
    if id then
      if job.written == 0 then self.metrics:took("first", host.now() - job.began) end
      job.written, self.metrics.written = job.written + 1, self.metrics.written + 1
      if a.logprobs and not request.stop[id] then note_token(self, job, choice, seq, id) end
    end
    return inner(seq, id)
  end
  return request
end

--- Begin one.
-- @tab self the server: `model`, `tok`, `engine`, `server`, `metrics`, `o`
-- @tab request of HTTP @string kind "chat" or "text" @tab asked as `cft.serve.request` reads it
-- @treturn ?Job `open` samples are not done; or nil and { status =, message =, param =, code = }
function M.start(self, request, kind, asked)
  local job = setmetatable({ id = request.id, kind = kind, asked = asked, choices = {}, sequences = {}, written = 0,
                             prompt_tokens = 0, began = request.came, created = math.floor(host.time()), owner = self }, Job)
  self.count = self.count + 1
  job.name = ("%s-%s-%d"):format(kind == "chat" and "chatcmpl" or "cmpl", self.session, self.count)
  local lists = {}
  for i, prompt in ipairs(kind == "chat" and { asked.messages } or asked.prompts) do
    local ids, why = ids_of(self, prompt, kind)
    if not ids then return nil, why end
    lists[i], job.prompt_tokens = ids, job.prompt_tokens + #ids
  end
  job.open = #lists * asked.n
  for i = 1, job.open do job.choices[i] = { index = i - 1, text = "", entries = {}, sent = 0, offset = 0 } end
  for i, ids in ipairs(lists) do
    local ok, added = pcall(function() return self.engine:add(engine_request(self, job, ids, (i - 1) * asked.n)) end)
    if not ok then
      job:cancel()
      return bad(words(added))
    end
    for _, seq in ipairs(added) do job.sequences[#job.sequences + 1] = seq end
  end
  self.metrics.prompt = self.metrics.prompt + job.prompt_tokens
  return job
end

--- Nobody waits for it any more.
function Job:cancel()
  self.gone = true
  for _, seq in ipairs(self.sequences) do self.owner.engine:cancel(seq) end
end

return M
