--- What was counted, as Prometheus reads it (text format 0.0.4).

local M = {}
local Metrics = {}
Metrics.__index = Metrics

local BOUNDS = { 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300 }  -- seconds

function M.new()
  return setmetatable({ answers = {}, prompt = 0, written = 0, left = 0, whole = { sum = 0, count = 0 },
                        first = { sum = 0, count = 0 } }, Metrics)
end

--- An answer was begun. @string path one of the server's own, "other" for the rest @int status
function Metrics:answered(path, status)
  local key = ('path="%s",status="%d"'):format(path, status)
  self.answers[key] = (self.answers[key] or 0) + 1
end

--- A time in seconds. @string name "whole", of a request, or "first", until its first token
function Metrics:took(name, seconds)
  local h = self[name]
  h.sum, h.count = h.sum + seconds, h.count + 1
  for i, bound in ipairs(BOUNDS) do
    if seconds <= bound then h[i] = (h[i] or 0) + 1 end
  end
end

local function histogram(lines, name, what, h)
  lines("# HELP %s %s\n# TYPE %s histogram", name, what, name)
  for i, bound in ipairs(BOUNDS) do lines('%s_bucket{le="%s"} %d', name, bound, h[i] or 0) end
  lines('%s_bucket{le="+Inf"} %d', name, h.count)
  lines("%s_sum %.6f", name, h.sum)
  lines("%s_count %d", name, h.count)
end

--- @tab now `connections`, `running`, `waiting` (sequences), `pages`, `pages_free`, `counts` of the engine, `seconds`
-- @treturn string
function Metrics:text(now)
  local list = {}
  local function lines(format, ...) list[#list + 1] = format:format(...) end
  local function one(kind, name, what, value)
    lines("# HELP %s %s\n# TYPE %s %s\n%s %s", name, what, name, kind, name, value)
  end
  lines "# HELP cft_answers_total answers, by path and status\n# TYPE cft_answers_total counter"
  local keys = {}
  for key in pairs(self.answers) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do lines("cft_answers_total{%s} %d", key, self.answers[key]) end
  one("counter", "cft_prompt_tokens_total", "tokens of prompts", self.prompt)
  one("counter", "cft_generated_tokens_total", "tokens written", self.written)
  one("counter", "cft_clients_left_total", "requests whose client left before they were answered", self.left)
  one("counter", "cft_steps_total", "forward passes", now.counts.steps)
  one("counter", "cft_preempted_total", "sequences that gave their memory back and were read again", now.counts.preempted)
  one("counter", "cft_shared_tokens_total", "tokens found in the cache", now.counts.shared)
  one("counter", "cft_graph_steps_total", "forward passes that a GPU was given as one graph", now.counts.replayed)
  one("gauge", "cft_connections", "open connections", now.connections)
  one("gauge", "cft_sequences_running", "sequences that are being written", now.running)
  one("gauge", "cft_sequences_waiting", "sequences that wait", now.waiting)
  one("gauge", "cft_pages", "pages of keys and values", now.pages)
  one("gauge", "cft_pages_free", "those that can be taken", now.pages_free)
  one("gauge", "cft_uptime_seconds", "since the server began", ("%.3f"):format(now.seconds))
  histogram(lines, "cft_request_duration_seconds", "time of a completion, from its request to its end", self.whole)
  histogram(lines, "cft_first_token_seconds", "time from a request to its first token", self.first)
  return table.concat(list, "\n") .. "\n"
end

return M
