--- A training recipe from its settings: finds what it needs, checks it, trains, measures, saves.
--
-- Every stage is an object that a recipe or the prompt can take over: `prepare` gives them all,
-- `run` is `prepare` and the usual loop.
-- @usage cft.recipe.run(cft.config { model = "...", data = "..." }, { name = "mine" })

local batch = require "cft.samples.batch"
local chat_template = require "cft.text.chat_check"
local check = require "cft.base.check"
local checkpoint = require "cft.train.checkpoint"
local config = require "cft.config"
local demo = require "cft.demo"
local exit = require "cft.base.exit"
local find = require "cft.recipe.find"
local identity = require "cft.train.identity"
local logs = require "cft.base.log"
local memory = require "cft.train.memory_plan"
local optim = require "cft.train.optim"
local run_folder = require "cft.recipe.run_folder"
local samples = require "cft.samples"
local save = require "cft.io.save"
local schedule = require "cft.train.schedule"
local sources = require "cft.recipe.sources"
local template = require "cft.text.template"
local train = require "cft.train"
local world = require "cft.recipe.world"

local M = {}

local spec = {
  name = { "string" },
  fields = { "function", optional = true },    -- record of the file → record of a known schema
  load = { "function", optional = true },      -- path → training source, held-out source
  template = { "table", {} },                  -- options of the template
  missing = { "table", {} },                   -- `model`, `data`: size, and how to get them
  model = { "table", optional = true },        -- where model= names none: a Model, or a shape of `cft.models.new`
  tokenizer = { "table|function", optional = true }, -- with it: a Tokenizer, or training source → Tokenizer
  finish = { "function", optional = true },    -- gets the run when it is trained and saved
  heldout_by = { "function", optional = true }, -- record → what must not be on both sides
}

-- ---- the stages ------------------------------------------------------------------------------

-- How samples are made. Whoever streams does not go through the records first.
local function sampling(run)
  local how = config.group(run.cfg, "samples")
  how.template = nil
  world.hold_to_limits(run, how)
  how.say = function(text) run.log:say("%s", text) end
  if how.stream and run.source.parts then
    exit.fail(exit.USAGE, "stream: a mixture is counted before it is mixed; give one source")
  end
  return how
end

-- What is no number goes on as it is: the trainer refuses it.
local function scaled(lr, multiplier) return type(multiplier) == "number" and lr * multiplier or multiplier end

-- Step (from 0) → learning rate.
local function rate(cfg, steps)
  if type(cfg.schedule) == "function" then
    return function(step) return scaled(cfg.lr, cfg.schedule(step, steps)) end
  end
  local multiplier = schedule.named(cfg.schedule, cfg.warmup, steps)
  return function(step) return cfg.lr * multiplier(step) end
end

-- Say how long the run is, at which rates; and what is odd about them.
local function say_length(run, cfg)
  local steps = run.steps
  local warmup = type(cfg.schedule) == "string" and schedule.warmup_steps(cfg.warmup, steps) or nil
  run.log:say("%d steps of %d samples (%d an epoch), %s, learning rate %g", steps, cfg.batch, run.batches:updates(),
              warmup and ("%d of warm-up"):format(warmup) or "rates by a function of the recipe", cfg.lr)
  if steps == 0 then return end
  if cfg.lr == 0 then
    run.log:say "learning rate 0: no step changes a weight"
  elseif warmup and warmup >= steps then
    run.log:say("warm-up of %d steps in a run of %d: the rate comes to %g at most",
                warmup, steps, run.lr(steps - 1))
  elseif warmup and warmup > 0 then
    run.log:say "step 1 is the first of the warm-up: its rate is 0, and it changes no weight"
  end
end

--- Everything a run needs, made and checked, nothing trained.
-- @tab cfg of `cft.config` @tab opts `name`; as wanted `fields`, `load`, `template`, `missing`, `heldout_by`; `model` and
-- `tokenizer`, which are taken where `model=` names none; `finish`
-- @bool[opt=false] quiet say nothing
-- @treturn table `tokenizer`, `chat`, `source`, `samples`, `batches`, `heldout`, `steps`, `lr`, `log`, ...
function M.prepare(cfg, opts, quiet)
  local o = check.options("recipe.run", opts, spec)
  cfg = config.complete(cfg)
  local run = { cfg = cfg, options = o, name = o.name }
  run.own = world.of(cfg, o)
  if not cfg.demo then run.path = find.inputs(cfg, o) end
  find.keep_inputs(cfg, run.path)
  local trains = not (cfg.dry_run or cfg.preview)
  run.out = trains and cfg.out or nil
  run.lock = run.out and run_folder.take(run.out)
  run.log = logs.open(run.out, { append = cfg.resume, quiet = quiet, write = save.write })
  run.device, run.dtype = find.device(cfg, run.log)

  run.source, run.heldout_source = sources.open(cfg, o)
  run.tokenizer = world.tokenizer(run)
  run.chat = template.of(cfg.template or "chatml", next(o.template) and o.template or nil)
  run.template_report = chat_template.enforce(run.chat, run.tokenizer, cfg.template_check)
  if run.template_report then run.log:say("%s", run.template_report) end
  for _, note in ipairs(run.chat:notes(run.tokenizer)) do run.log:say("%s", note) end
  for _, note in ipairs(run.source.notes or {}) do run.log:say("%s", note) end

  local how = sampling(run)
  run.source = sources.clean(run.source, run, how)
  run.samples = samples.new(run.source, run.chat, run.tokenizer, how)
  run.log:say("%s", run.samples:describe())
  run.batches = batch.new(run.samples, config.group(cfg, "batch"))
  local function steps() return cfg.steps or math.floor(run.batches:updates() * cfg.epochs + 0.5) end
  if run.samples.fit then run.samples:fit(cfg.batch * steps()) end  -- the weights of a mixture may follow the run
  if run.heldout_source then
    how.add_tokens, how.stream, how.also = false, false, nil
    run.heldout_samples = samples.new(run.heldout_source, run.chat, run.tokenizer, how)
    run.log:say("%s", run.heldout_samples:describe())
    run.heldout = batch.new(run.heldout_samples, { batch = cfg.batch, tokens = cfg.tokens, shuffle = false })
  end
  run.steps = steps()
  run.lr = rate(cfg, run.steps)
  say_length(run, cfg)
  if cfg.packing then run.log:say("%s", batch.describe(run.batches:survey(1))) end
  return run
end

-- ---- a run -----------------------------------------------------------------------------------

-- The optimizer and the trainer, at the step to go on from.
local function begin(run, cfg)
  local m = run.model
  for name, value in pairs(config.group(cfg, "forward")) do m.options[name] = value end
  run.optim = optim.of(m, function(name) return cfg[name] end)
  run.log:say("%s", memory.apply(m, cfg.tokens, cfg.memory))
  run.trainer = train.new {
    model = m, batches = run.batches, optim = run.optim, lr = run.lr, steps = run.steps, log = run.log,
    heldout = run.heldout, eval_every = cfg.eval_every, save_every = cfg.save_every, context = cfg.context_loss,
    save = run.out and function(t)
      run.saved = checkpoint.save(run, t)
      t.saved_in = run.saved
    end or nil,
  }
  run.identity = (run.out or cfg.resume) and identity.of {
    settings = config.identity(cfg), data = run.source, heldout = run.heldout_source, chat = run.chat,
    options = run.options.template, tokenizer = run.tokenizer, model = m.config, steps = run.steps, dtype = run.dtype,
  }
  if cfg.resume then
    local from = checkpoint.resume(run, cfg.resume)
    run.log:go_on(run.trainer.done)
    run.log:say("resumed at step %d from %s", run.trainer.done, from)
  end
end

--- Prepare, train, measure, save; or what `--preview`, `--dry-run` and `cftrun data` want instead.
-- @tab cfg of `cft.config` @tab opts see `prepare`
-- @treturn table what summary.json holds
function M.run(cfg, opts)
  cfg = config.complete(cfg)
  if cfg.inspect then
    require("cft.recipe.inspect").leave(cfg, function(settings) return M.prepare(settings, opts, true) end)
  end
  local run = M.prepare(cfg, opts)
  if cfg.preview then return require("cft.report.samples").show(run, cfg.preview) end
  run.model = world.model(run)
  if cfg.dry_run then
    run.log:say("dry run: all is there; nothing was trained")
    return
  end
  begin(run, cfg)
  local finish = cfg.demo and demo.begin(run) or opts.finish
  local made, summary = run.trainer.done, run.trainer:run()
  if run.samples.stream then run.samples:close() end
  if run.trainer.done == made and not summary.interrupted then  -- what an earlier run wrote stays
    run.log:say("nothing to train: %d of %d steps are made", made, run.steps)
    run.log:close()
    return summary
  end
  local summaries = require "cft.recipe.summary"
  summary = summaries.write(run, summary)
  if summary.interrupted then
    run.log:close()
    exit.leave(exit.INTERRUPTED)
  end
  summaries.say(run, summary)
  if finish then finish(run) end
  run.log:close()
  return summary
end

return M
