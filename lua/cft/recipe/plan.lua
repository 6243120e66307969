--- What a run will take before it takes it. `--dry-run` says memory, disk and time on this machine; `cftrun plan` says them of
-- GPUs that nobody has yet; and at its end a run says how far it was from what the arithmetic expected.
--
-- In a dry run memory is planned as a run does it. Time is that of two optimizer steps, made at rate 0: the weights are what
-- they were, bit by bit, the optimizer's state is thrown away, and nothing is written.

local config = require "cft.config"
local cost = require "cft.plan.cost"
local data = require "cft.data.open"
local exit = require "cft.base.exit"
local find = require "cft.recipe.find"
local format = require "cft.base.format"
local hub = require "cft.io.hub"
local layout = require "cft.plan.layout"
local memory = require "cft.train.memory_plan"
local models = require "cft.models"
local optim = require "cft.train.optim"
local ranks = require "cft.plan"
local rates = require "cft.plan.rates"
local shapes = require "cft.models.shapes"
local show = require "cft.plan.show"
local sources = require "cft.recipe.sources"
local tensor = require "cft.engine.tensor"
local train = require "cft.train"
local world = require "cft.recipe.world"

local M = {}

-- ---- the arithmetic, for this machine ------------------------------------------------------------

-- What a rank keeps for a weight, as the settings say. @string dtype of the weights
local function kept_of(cfg, dtype)
  local function get(name) return config.peek(cfg, name) end
  return { dtype = dtype, gradients = get "gradients", moments = get "moments", master = dtype == "bf16" and get "master",
           states = optim.states(get "optimizer") }
end

-- The share of tokens that carry loss; 1 where that is not known before they come.
local function loss_share(samples)
  local report = samples.report
  return report and report.tokens > 0 and report.learned / report.tokens or 1
end

--- Tokens a second that the arithmetic expects of a run on its device, of all its ranks together, at rates that are measured now.
-- @tparam Run run with its `survey` of `cft.train.memory_plan` @tparam Model model its own
-- @treturn ?number nil where the samples' lengths are not known before they come
function M.expected(run, model)
  local survey = run.survey
  if not survey.tokens or survey.tokens == 0 then return nil end
  local c, steps = model.config, run.last_step
  local how = kept_of(run.cfg, model.dtype)
  how.recomputed = 0
  for i = 1, c.layers do
    if model.options.recompute and model.options.recompute(i, c.layers) then how.recomputed = how.recomputed + 1 / c.layers end
  end
  local tokens, here, stage = survey.tokens / steps, run.ranks, config.peek(run.cfg, "zero") or 0
  local share = 1 / here.size
  local mine = { tokens = share * tokens, rows = share * tokens * loss_share(run.samples), pairs = share * survey.pairs / steps }
  local work = cost.work(c, how, mine, stage >= 1 and share or 1)
  local speed = rates.measure(c, model.dtype, survey.fullest, model.device)
  if here.size > 1 then speed.link = rates.link(here.comm, here.size, model.device) end
  local micros = math.max(1, math.ceil(mine.tokens / run.batches.tokens))
  local compute, backward, update = cost.seconds(work, speed)
  local sent = layout.communication(c, how, speed, here.size, 1, stage, micros)
  return tokens / layout.step(compute, backward, update, sent, stage, micros, c.layers + 2).total
end

--- What share of the expected rate was measured, as text. @number expected @number measured tokens a second
-- @treturn string
function M.error(expected, measured)
  return ("%s tok/s were expected of this machine's products and copies, %.0f%% of that were measured"):format(
    format.count(expected), 100 * measured / expected)
end

-- ---- `--dry-run` --------------------------------------------------------------------------------

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

local function say_time(run, last, survey, expected)
  if not survey.tokens then
    return run.log:say("time: %s tok/s in the step that was timed; how many tokens a stream has is not known", format.count(
      last.tokens_per_s))
  end
  run.log:say("time: about %s for %d steps of %s tokens in all, at %s tok/s, saving and measuring left out",
    format.duration(survey.tokens / last.tokens_per_s), run.last_step, format.count(survey.tokens),
    format.count(last.tokens_per_s))
  if expected then run.log:say("plan: %s", M.error(expected, last.tokens_per_s)) end
end

--- Say what a run will take.
-- @tparam Run run prepared; its model is loaded
function M.say(run)
  local cfg, model = run.cfg, run:model()
  local survey = memory.survey(run.batches, run.last_step)
  run.survey = survey
  local optimizer = optim.of(model, function(name) return cfg[name] end)
  run.log:say("%s", memory.apply(model, survey.fullest, cfg.memory, optimizer.zero:passing()))
  say_disk(run, model, optimizer)
  if run.last_step == 0 then return end
  tensor.memory(model.device, true)
  local last = time(run, model, optimizer, survey.at)
  local peak = 0
  for _, of_rank in ipairs(run.ranks:gather(tensor.memory(model.device).peak)) do peak = math.max(peak, of_rank) end
  run.log:say("measured: %s at most%s in %s%s", format.bytes(peak), run.ranks.size > 1 and " on a rank" or "", run.last_step == 1 and "the step"
    or "two steps, that with the fullest micro-batch among them", cfg.memory and peak > memory.bytes(cfg.memory)
    and (", more than memory=%s"):format(cfg.memory) or "")
  say_time(run, last, survey, M.expected(run, model))
end

-- ---- `cftrun plan` -------------------------------------------------------------------------------

-- The config of the run's model, and whose it is: of its files, of a known name, or the recipe's own.
local function shape_of(run)
  local cfg = run.cfg
  if run.own then
    if type(run.own.tokenizer) == "function" then  -- it makes one of the records' words
      find.keep_inputs(cfg, find.inputs(cfg, run.options))
      run.source = sources.open(cfg, run.options)
    end
    run.tokenizer = run.own.tokenizer and world.tokenizer(run)
    return world.config(run), run.own.name
  end
  local name = cfg.model or ""
  local path = hub.find(name)
  local c = path and models.config(path)
  if c then return c, name end
  local shape = shapes.named(name)
  if not shape then
    exit.fail(exit.MISSING, "plan: model %s is not on this machine, and its shape is not known by name; known are %s", name,
      table.concat(shapes.names(), ", "))
  end
  return models.shape(shape), name
end

-- Are the data here, and what makes samples of them?
local function has_data(run)
  local cfg = run.cfg
  if cfg.demo then return true end
  if not run.own and not hub.find(cfg.model or "") then return false end
  local given = config.peek(cfg, "data")
  local paths = type(given) == "table" and given or { given }
  for _, path in ipairs(paths) do
    if not data.find(path) then return false end
  end
  return #paths > 0 or run.options.load ~= nil
end

-- A step by the samples themselves.
local function by_data(run, make)
  run.cfg.dry_run, run.cfg.device = true, "cpu"  -- lengths want no GPU
  if config.peek(run.cfg, "dtype") == "auto" then run.cfg.dtype = "bf16" end  -- as on the GPU that is planned for
  make(run, true)
  local survey, steps = memory.survey(run.batches, run.last_step), run.last_step
  if not survey.tokens or steps == 0 then
    exit.fail(exit.USAGE, "plan: how long the samples are is not known before they come; say --length and --samples")
  end
  local tokens = survey.tokens / steps
  return { samples = config.peek(run.cfg, "batch"), tokens = tokens, rows = tokens * loss_share(run.samples),
           pairs = survey.pairs / steps, longest = survey.longest }, steps, "of the recipe's data"
end

-- A step of samples of one length.
local function by_length(run, c, o)
  local cfg = run.cfg
  local function get(name) return config.peek(cfg, name) end
  local batch = get "batch"
  local most = math.min(get "max_tokens" or get "tokens", c.context)
  local length = o.length or most
  local steps = get "steps"
  if not steps and o.samples then
    local epoch = o.samples / batch
    steps = math.floor(get "epochs" * (get "drop_last" and math.floor(epoch) or math.ceil(epoch)) + 0.5)
  end
  local said = o.length and ("of %d tokens each"):format(length)
    or ("of %d tokens each, the longest there can be: the data are not here, and --length was not said"):format(length)
  return { samples = batch, tokens = batch * length, rows = batch * length * (o.learned or 1),
           pairs = batch * length * (length + 1) / 2, longest = length }, steps, said
end

--- Show the plan of a run that was to be, and leave.
-- @tparam Run run not prepared @func make of `cft.recipe.stages`
-- @tab o of `cftrun plan`: `cluster`, see `cft.plan.choices`; as wanted `length`, `samples`, `learned`; `json`
function M.leave(run, make, o)
  run.own = world.of(run.cfg, run.options)
  local c, name, step, steps, said
  if not o.length and has_data(run) then
    step, steps, said = by_data(run, make)
    c, name = world.config(run), run.own and run.own.name or run.cfg.model
    if not c then exit.fail(exit.FAILED, "plan: the model's shape is not known") end
  else
    c, name = shape_of(run)
    step, steps, said = by_length(run, c, o)
  end
  step.micro = config.peek(run.cfg, "tokens")
  local dtype = config.peek(run.cfg, "dtype")
  local how = kept_of(run.cfg, dtype == "auto" and "bf16" or dtype)
  local list = ranks.choices(c, how, step, o.cluster)
  show.print({ name = name, config = c, how = how, step = step, steps = steps, said = said, cluster = o.cluster,
               choices = list, best = ranks.best(list) }, o.json)
  exit.leave()
end

return M
