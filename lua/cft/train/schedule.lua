--- Schedules: pure functions of the step, 0 to 1, exact at their edges.
--
-- Steps count from 0, as transformers' schedulers do: the first step is made with `lr(0)`, which
-- is 0 where there is a warm-up.

local check = require "cft.base.check"

local M = {}

local FLOOR = { "number", 0, min = 0, max = 1 }

local function warmed(o, after)
  return function(step)
    if step < o.warmup then return step / o.warmup end
    return after(step)
  end
end

local function options(where, opts, more)
  local spec = { steps = { "integer", min = 0 }, warmup = { "number", 0, min = 0 } }
  for k, v in pairs(more or {}) do spec[k] = v end
  return check.options(where, opts, spec)
end

--- Linear warm-up from 0, then half a cosine down to `floor`.
-- @tab opts
-- @int opts.steps total optimizer steps; at `steps` and after it the result is `floor`
-- @int[opt=0] opts.warmup steps of warm-up; the multiplier first reaches 1 at step `warmup`
-- @number[opt=0] opts.floor the last multiplier, 0 to 1
-- @treturn function `step` (from 0) → multiplier, 0 to 1
-- @usage local lr = cft.schedule.cosine { steps = 1000, warmup = 30 }
-- 1e-5 * lr(0), 1e-5 * lr(30), 1e-5 * lr(515)   --> 0 1e-05 5e-06
function M.cosine(opts)
  local o = options("schedule.cosine", opts, { floor = FLOOR })
  return warmed(o, function(step)
    if step >= o.steps then return o.floor end
    local t = (step - o.warmup) / (o.steps - o.warmup)
    return o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * t))
  end)
end

--- Linear warm-up, then a straight line down to `floor`. @tab opts as of `cosine`
-- @usage cft.schedule.linear { steps = 100, warmup = 10, floor = 0.1 }(55)   --> 0.55
function M.linear(opts)
  local o = options("schedule.linear", opts, { floor = FLOOR })
  return warmed(o, function(step)
    if step >= o.steps then return o.floor end
    return o.floor + (1 - o.floor) * (o.steps - step) / (o.steps - o.warmup)
  end)
end

--- Linear warm-up, then 1. @tab opts `steps`, `warmup`
-- @usage local lr = cft.schedule.constant { steps = 100, warmup = 10 }
-- lr(5), lr(99)   --> 0.5 1
function M.constant(opts)
  return warmed(options("schedule.constant", opts), function() return 1 end)
end

--- Warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395): 1 until the last `decay` steps, then a
-- straight line down to `floor`.
-- @int[opt] opts.decay steps of decay; a tenth of `steps`
-- @usage local lr = cft.schedule.wsd { steps = 100, warmup = 10, decay = 20 }
-- lr(79), lr(90), lr(100)   --> 1 0.5 0
function M.wsd(opts)
  local o = options("schedule.wsd", opts, { floor = FLOOR, decay = { "integer", optional = true, min = 0 } })
  local decay = o.decay or math.ceil(o.steps / 10)
  return warmed(o, function(step)
    if step >= o.steps then return o.floor end
    if step < o.steps - decay then return 1 end
    return o.floor + (1 - o.floor) * (o.steps - step) / decay
  end)
end

--- What `named` knows.
M.names = { "cosine", "linear", "constant", "wsd" }

--- The schedule of that name.
-- @string name one of `names`
-- @number warmup below 1 a part of the steps (rounded up), else steps
-- @int steps
-- @usage cft.schedule.named("linear", 0.1, 100)(5)   --> 0.5
function M.named(name, warmup, steps)
  local make
  for _, each in ipairs(M.names) do
    if each == name then make = M[each] end
  end
  if not make then
    require "cft.base.blame"(("schedule '%s'; there are %s and %s%s"):format(tostring(name),
      table.concat(M.names, ", ", 1, #M.names - 1), M.names[#M.names], check.suggestion(tostring(name), M.names)))
  end
  return make { steps = steps, warmup = M.warmup_steps(warmup, steps) }
end

--- Steps of warm-up: `warmup` below 1 is a part of the run, rounded up as Hugging Face's Trainer
-- does; 1 and above is a number of steps.
-- @usage cft.schedule.warmup_steps(0.07, 100), cft.schedule.warmup_steps(30, 100)   --> 7 30
function M.warmup_steps(warmup, steps)
  -- A ratio such as 0.07 of 100 steps must not become 8 because 0.07 * 100 is a hair above 7.
  if warmup < 1 then return math.ceil(warmup * steps - 1e-9) end
  return warmup
end

return M
