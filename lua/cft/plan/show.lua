--- A plan, printed: as a table for people, or as JSON.

local cost = require "cft.plan.cost"
local format = require "cft.base.format"
local json = require "cft.base.json"
local rates = require "cft.plan.rates"
local texts = require "cft.base.text"

local M = {}

local function say(line, ...) print(texts.printable(line:format(...))) end

local function gib(bytes) return ("%.1f"):format(bytes / 2 ^ 30) end

-- 0.0123 → "12 ms".
local function seconds(s)
  if s < 0.0995 then return ("%.3g ms"):format(1000 * s) end
  return s < 99.5 and ("%.2f s"):format(s) or format.duration(s)
end

local function head(p)
  local g, r, s = p.cluster, p.cluster.rates, p.step
  say("%s: %s parameters in %s; gradients in %s, %s numbers of %s a weight%s", p.name, format.count(cost.weights(p.config)),
    p.how.dtype, p.how.gradients, p.how.states, p.how.moments, p.how.master and " and an f32 master" or "")
  say("%d x %s on %d host%s: %.1f GiB, %.0f TFLOP/s in bf16 as published, of which %.0f%% are expected of products and %.0f%% of attention",
    g.gpus, r.name, g.hosts, g.hosts == 1 and "" or "s", r.memory / 2 ^ 30, r.peak / 1e12, 100 * rates.shares.matmul,
    100 * rates.shares.attention)
  say("a step: %d samples %s, %s tokens, micro-batches of at most %s a rank", s.samples, p.said, format.count(s.tokens),
    format.count(s.micro))
end

local COLUMNS = "  %-6s %-10s %7s %8s %9s %9s %9s %9s   %-12s %9s %9s %9s %9s"

local function row(p, r)
  local m = r.memory
  say(COLUMNS, ("ZeRO-%d"):format(r.stage), ("%d of %d"):format(r.recompute, p.config.layers), format.count(r.tokens), gib(m.total), gib(m.param),
    gib(m.grad), gib(m.optim), gib(m.activation), r.fits and (r == p.best and "fits: take" or "fits") or "does not fit",
    format.bytes(r.sent), seconds(r.exposed), seconds(r.total), format.count(p.step.tokens / r.total))
end

local function ending(p)
  local b = p.best
  if not b then
    return say("none of these fits; more GPUs, fewer tokens a micro-batch (tokens=), moments=bf16 or master=false take less")
  end
  local g = p.cluster
  if g.gpus > 1 then
    say "cft trains on several GPUs with zero=0 to 3, and no card has run that yet (docs/multi-gpu.md)"
  end
  say("take ZeRO-%d with %d of %d blocks recomputed, tokens=%d: a step of %s, %s tok/s, %s a GPU; %.1f%% of it waits for communication",
    b.stage, b.recompute, p.config.layers, b.tokens, seconds(b.total), format.count(p.step.tokens / b.total),
    format.count(p.step.tokens / b.total / g.gpus), 100 * b.exposed / b.total)
  if p.steps then
    say("the run: %d steps, %s tokens, %s, %.3g GPU-hours; loading, saving and measuring left out", p.steps,
      format.count(p.steps * p.step.tokens), format.duration(p.steps * b.total), p.steps * b.total * g.gpus / 3600)
  else
    say("how many steps the run has is not known: say --samples, or steps=")
  end
end

--- @tab p `name`, `config`, `how`, `step`, `steps` (or nil), `said` (of the samples), `cluster`, `choices`, `best`
-- @bool[opt] as_json
function M.print(p, as_json)
  if as_json then
    local list = json.array()
    for i, r in ipairs(p.choices) do
      list[i] = { stage = r.stage, recompute = r.recompute, tokens = r.tokens, micro_batches = r.micros, memory = r.memory, fits = r.fits,
                  best = r == p.best, sent_bytes = r.sent, exposed_seconds = r.exposed, step_seconds = r.total,
                  tokens_per_s = p.step.tokens / r.total }
    end
    return print(json.encode { model = p.name, parameters = cost.weights(p.config), gpu = p.cluster.rates.name,
      gpus = p.cluster.gpus, hosts = p.cluster.hosts, step = p.step, steps = p.steps, samples = p.said, choices = list })
  end
  head(p)
  say(COLUMNS, "", "recomputed", "tokens", "GiB", "weights", "gradients", "optimizer", "step", "", "sent", "waits", "a step", "tok/s")
  for _, r in ipairs(p.choices) do row(p, r) end
  ending(p)
end

return M
