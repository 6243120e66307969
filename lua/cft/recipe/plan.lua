--- What a run will take before it takes it: memory, disk, time. `--dry-run` says so.
--
-- Memory is planned as a run does it. Time is that of two optimizer steps, made at rate 0: the weights are what they were,
-- bit by bit, the optimizer's state is thrown away, and nothing is written.

local config = require "cft.config"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local memory = require "cft.train.memory_plan"
local optim = require "cft.train.optim"
local tensor = require "cft.engine.tensor"
local train = require "cft.train"

local M = {}

-- Checkpoints of the whole run: each `save_every` steps, and the last.
local function saves_of(steps, every)
  if not every then return 1 end
  return math.ceil(steps / every)
end

local function say_disk(run, model, optimizer)
  local out = config.peek(run.cfg, "out")
  if not out then return run.log:say "disk: nothing is saved without out=" end
  local weights, state = memory.saved(model, optimizer)
  local count = saves_of(run.last_step, config.peek(run.cfg, "save_every"))
  local keep, most = config.peek(run.cfg, "keep"), count
  if type(keep) == "number" then most = math.min(count, keep + 2) end  -- the best one, and the newest before the oldest goes
  run.log:say("disk: %d checkpoint%s of %s (weights %s, optimizer %s), %s in all%s", count, count == 1 and "" or "s",
    format.bytes(weights + state), format.bytes(weights), format.bytes(state), format.bytes(count * (weights + state)),
    most < count and ("; keep=%d leaves at most %d of them at a time, %s"):format(keep, most,
      format.bytes(most * (weights + state))) or "")
end

-- Batches of the first step, and of the one with the fullest micro-batch.
local function two_steps(run, at)
  local per_epoch, steps = run.batches:updates(), { 0, at }
  if run.last_step == 1 then steps[2] = nil end
  return {
    updates = function() return #steps end,
    update = function(_, _, index)
      local step = steps[index + 1]
      return run.batches:update(math.floor(step / per_epoch), step % per_epoch)
    end,
  }
end

-- A log that shows signs of life alone.
local function quiet(log)
  local function nothing() end
  return { progress = nothing, say = nothing, close_line = function() log:close_line() end,
           life = function(_, what, where) log:life("timing " .. what, where) end }
end

-- Make the steps. @treturn table the numbers of the last one
local function time(run, model, optimizer, at)
  local batches, last = two_steps(run, at), nil
  local trainer = train.new { model = model, batches = batches, optim = optimizer, lr = function() return 0 end,
                              steps = batches.updates(), log = quiet(run.log) }
  while trainer:goes_on() do last = trainer:step() end
  if trainer:finish().interrupted then exit.leave(exit.INTERRUPTED) end
  return last
end

local function say_time(run, last, survey)
  if not survey.tokens then
    return run.log:say("time: %s tok/s in the step that was timed; how many tokens a stream has is not known", format.count(
      last.tokens_per_s))
  end
  run.log:say("time: about %s for %d steps of %s tokens in all, at %s tok/s, saving and measuring left out",
    format.duration(survey.tokens / last.tokens_per_s), run.last_step, format.count(survey.tokens),
    format.count(last.tokens_per_s))
end

--- Say what a run will take.
-- @tparam Run run prepared; its model is loaded
function M.say(run)
  local cfg, model = run.cfg, run:model()
  local survey = memory.survey(run.batches, run.last_step)
  local optimizer = optim.of(model, function(name) return cfg[name] end)
  run.log:say("%s", memory.apply(model, survey.fullest, cfg.memory))
  say_disk(run, model, optimizer)
  if run.last_step == 0 then return end
  tensor.memory(model.device, true)
  local last = time(run, model, optimizer, survey.at)
  local peak = tensor.memory(model.device).peak
  run.log:say("measured: %s at most in %s%s", format.bytes(peak), run.last_step == 1 and "the step"
    or "two steps, that with the fullest micro-batch among them", cfg.memory and peak > memory.bytes(cfg.memory)
    and (", more than memory=%s"):format(cfg.memory) or "")
  say_time(run, last, survey)
end

return M
