--- `cftrun serve`: a model behind HTTP, in OpenAI's forms. docs/serve.md says what is answered.
--
-- One thread: between two steps of the engine the requests that came are read, those whose client left are dropped, and
-- what was written is handed on. All connections share the engine's batch.

local access = require "cft.serve.access"
local answer = require "cft.serve.answer"
local door = require "cft.serve.door"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local generate = require "cft.generate"
local host = require "cft.host"
local jobs = require "cft.serve.job"
local json = require "cft.base.json"
local metrics = require "cft.serve.metrics"
local prompts = require "cft.generate.prompt"
local requests = require "cft.serve.request"

local M = {}
local Serving = {}
Serving.__index = Serving

local WAIT_MS = 200       -- where nothing is to do; a signal is seen after so long
local HEADER_BYTES = 16384
local UNSENT_BYTES = 2 ^ 20
local STOPS, STOP_BYTES, BIASES = 16, 256, 1024

-- ---- answers -------------------------------------------------------------------------------------

local function with(headers, more)
  for name, value in pairs(more or {}) do headers[name] = value end
  return headers
end

-- Headers of every answer.
local function headers_of(self, request, more)
  local headers = with({ ["Cache-Control"] = "no-store" }, request.cors)
  if self.draining then headers.Connection = "close" end
  return with(headers, more)
end

local function reply(self, request, status, body, more)
  self.metrics:answered(request.known or "other", status)
  self.server:reply(request.id, status, request.method == "HEAD" and "" or body, headers_of(self, request, more))
end

local function refuse(self, request, status, message, param, code, more)
  reply(self, request, status, answer.error(status, message, param, code), more)
end

--- Begin the stream of a job.
function Serving:begin(job)
  job.begun = true
  self.metrics:answered(job.request.known, 200)
  self.server:begin(job.id, 200, headers_of(self, job.request, { ["Content-Type"] = "text/event-stream" }))
  for _, choice in ipairs(job.choices) do
    local first = answer.first(job, choice.index)
    if first ~= "" then self.server:send(job.id, first) end
  end
end

local function finish(self, job)
  self.jobs[job.id] = nil
  self.metrics:took("whole", host.now() - job.began)
  if not job.asked.stream then return reply(self, job.request, 200, answer.whole(job)) end
  self.server:send(job.id, answer.last(job))
  self.server:finish(job.id)
end

-- ---- requests ------------------------------------------------------------------------------------

-- Sequences that are asked for and have not ended.
local function live(self)
  local count = 0
  for _, job in pairs(self.jobs) do count = count + job.open end
  return count
end

local function complete(self, request, kind)
  local kinds = self.server:header(request.id, "Content-Type") or ""
  if not kinds:lower():find "^application/json" then
    return refuse(self, request, 415, "the body is JSON: Content-Type: application/json")
  end
  local asked, why = requests.read(request.body, kind, self.limits)
  if not asked then return refuse(self, request, 400, why.message, why.param) end
  local wanted = asked.n * (asked.prompts and #asked.prompts or 1)
  if live(self) + wanted > self.o.batch + self.o.queue then
    return refuse(self, request, 429, "the server is busy; try again later", nil, "rate_limit_exceeded", { ["Retry-After"] = "1" })
  end
  local job
  job, why = jobs.start(self, request, kind, asked)
  if not job then return refuse(self, request, why.status, why.message, why.param, why.code) end
  job.request = request
  request.body = nil
  self.jobs[request.id] = job
end

local function health(self, request) reply(self, request, 200, json.encode { status = "ok" }) end

local function models(self, request) reply(self, request, 200, answer.models(self.name, self.began_at)) end

local function measured(self, request)
  local engine, look = self.engine, self.server:look()
  local text = self.metrics:text {
    connections = look.connections, running = #engine.running, waiting = live(self) - #engine.running,
    pages = engine.pages.count, pages_free = engine.pages:available(), counts = engine.counts, seconds = host.now() - self.began }
  reply(self, request, 200, text, { ["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8" })
end

local routes = {
  ["/health"] = { "GET", health }, ["/metrics"] = { "GET", measured }, ["/v1/models"] = { "GET", models },
  ["/v1/chat/completions"] = { "POST", function(self, request) complete(self, request, "chat") end },
  ["/v1/completions"] = { "POST", function(self, request) complete(self, request, "text") end },
}

local function route(self, request)
  local there = routes[request.path]
  request.known = there and request.path
  if request.fault then return refuse(self, request, 400, request.fault, nil, nil, { Connection = "close" }) end
  local status, why = access.refusal(self.server, request, self.o)
  if status then
    return refuse(self, request, status, why, nil, nil, status == 401 and { ["WWW-Authenticate"] = "Bearer" } or nil)
  end
  request.cors = access.cors(self.server, request)
  if self.draining then return refuse(self, request, 503, "the server is going down") end
  if request.method == "OPTIONS" then return reply(self, request, 204, "") end
  if not there then
    return refuse(self, request, 404, "there is /v1/chat/completions, /v1/completions, /v1/models, /health and /metrics")
  end
  if request.method ~= there[1] and not (request.method == "HEAD" and there[1] == "GET") then
    return refuse(self, request, 405, "this path wants " .. there[1], nil, nil, { Allow = there[1] })
  end
  there[2](self, request)
end

-- ---- the loop ------------------------------------------------------------------------------------

local function take_leavers(self)
  for id in function() return self.server:left() end do
    local job = self.jobs[id]
    if job then
      self.jobs[id] = nil
      self.metrics.left = self.metrics.left + 1
      job:cancel()
    end
  end
end

local function take_requests(self)
  for request in function() return self.server:next() end do
    request.came = host.now()
    route(self, request)
  end
end

local function step(self)
  self.engine:step()
  for _, job in ipairs(self.ended) do
    if not job.gone then finish(self, job) end
  end
  self.ended = {}
end

-- Answer what is still waiting: the engine failed, or draining takes too long.
local function give_up(self, status, message)
  for id, job in pairs(self.jobs) do
    job:cancel()
    if job.begun then
      self.server:send(id, "data: " .. answer.error(status, message) .. "\n\n")
      self.server:finish(id)
    else
      refuse(self, job.request, status, message)
    end
  end
  self.jobs = {}
end

-- Send what is on its way: for a moment, or as long as draining may take.
local function flush(self)
  local last = math.max(host.now() + 2, self.draining or 0)
  repeat self.server:poll(10) until self.server:look().unsent == 0 or host.now() > last
end

local function drain(self)
  self.draining = host.now() + self.o.drain
  self.server:stop()
end

local function turn(self)
  self.server:poll(self.engine:busy() and 0 or WAIT_MS)
  take_leavers(self)
  take_requests(self)
  if self.engine:busy() then step(self) end
  if host.interrupts() > 0 and not self.draining then drain(self) end
end

local function run(self)
  repeat
    local ok, why = pcall(turn, self)
    if not ok then
      give_up(self, 500, "the server failed")
      flush(self)
      error(why, 0)
    end
  until self.draining and (next(self.jobs) == nil or host.now() > self.draining)
  give_up(self, 503, "the server is going down")
  flush(self)
end

-- What makes the noise of this server another one's: 48 bits of the system's.
local function random()
  local file = assert(io.open("/dev/urandom", "rb"))
  local value = 0
  for _, byte in ipairs { file:read(6):byte(1, 6) } do value = value * 256 + byte end
  file:close()
  return value
end

--- Serve until a signal asks for the end, then finish what was begun.
-- @tparam Model model with a tokenizer
-- @tab o checked options of `cftrun serve`; `key`, `origins` and `hosts` as `cft.serve.access` has them
-- @string name the model's
-- @func listening called once with the port
function M.run(model, o, name, listening)
  local tok = prompts.tokenizer_of(model)
  if not tok then exit.fail(exit.MISSING, "serve: %s came without a tokenizer", name) end
  local server = door.new { host = o.host, port = o.port, anywhere = o.key ~= nil, header_bytes = HEADER_BYTES,
                            body_bytes = o.max_body, connections = o.connections, idle_ms = o.idle * 1000, unsent_bytes = UNSENT_BYTES }
  finally(function() server:release() end, function()
    local room = { prompt = {}, n = o.batch, max_new = model.config.context }
    local engine = generate.engine_for(model, { room }, o, "serve")
    local seed = random()
    local self = setmetatable({
      model = model, tok = tok, server = server, engine = engine, o = o, name = name, metrics = metrics.new(), jobs = {},
      ended = {}, count = 0, seed = seed, sequence = 0, session = ("%012x"):format(random()), began = host.now(),
      began_at = math.floor(host.time()),
      limits = { n = o.max_n, max_tokens = o.max_tokens, stops = STOPS, stop_bytes = STOP_BYTES, bias = BIASES,
                 vocab = model.config.vocab } }, Serving)
    finally(function() engine:release() end, function()
      host.interrupts()  -- from here on signals are counted
      listening(server.port)
      run(self)
    end)
  end)
end

return M
