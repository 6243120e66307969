--- The stages of a run from its settings to its batches: made and checked, nothing trained.

local batch = require "cft.samples.batch"
local chat_template = require "cft.text.chat_check"
local config = require "cft.config"
local exit = require "cft.base.exit"
local find = require "cft.recipe.find"
local length = require "cft.recipe.length"
local logs = require "cft.base.log"
local optim = require "cft.train.optim"
local ranks = require "cft.ranks"
local run_folder = require "cft.recipe.run_folder"
local samples = require "cft.samples"
local save = require "cft.io.save"
local schedule = require "cft.train.schedule"
local several = require "cft.recipe.ranks"
local sources = require "cft.recipe.sources"
local template = require "cft.text.template"
local world = require "cft.recipe.world"

local M = {}

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

--- Step (from 0) → learning rate.
-- @func get name of a setting → its value
-- @int steps
-- @treturn function
function M.rate(get, steps)
  local how, lr = get "schedule", get "lr"
  if type(how) == "function" then
    return function(step) return scaled(lr, how(step, steps)) end
  end
  local multiplier = schedule.named(how, get "warmup", steps)
  return function(step) return lr * multiplier(step) end
end

-- Say how long the run is, at which rates; and what is odd about them.
local function say_length(run)
  local cfg, steps = run.cfg, run.last_step
  local function get(name) return config.peek(cfg, name) end
  local lr, how = get "lr", get "schedule"
  local warmup = type(how) == "string" and schedule.warmup_steps(get "warmup", steps) or nil
  run.log:say("%d steps of %d samples (%d an epoch), %s, learning rate %g", steps, get "batch", run.batches:updates(),
              warmup and ("%s, %d of warm-up"):format(how, warmup) or "rates by a function of the recipe", lr)
  if steps == 0 then return end
  local first = M.rate(get, steps)(0)
  if lr == 0 then
    run.log:say "learning rate 0: no step changes a weight"
  elseif warmup and warmup >= steps then
    run.log:say("warm-up of %d steps in a run of %d: the rate comes to %g at most",
                warmup, steps, M.rate(get, steps)(steps - 1))
  elseif warmup and warmup > 0 then
    run.log:say "step 1 is the first of the warm-up: its rate is 0, and it changes no weight"
  elseif first == 0 then
    run.log:say "step 1 has the rate 0 by the recipe's schedule, and changes no weight"
  end
end

-- The folder, if this run trains into one: nobody else's, with what an earlier run has left there. Of several ranks the
-- first one takes it, and writes.
local function take_folder(run)
  local cfg = run.cfg
  local folder, resumes = cfg.out, config.peek(cfg, "resume")  -- which run:trainer does
  if cfg.go_on and not folder then exit.fail(exit.USAGE, "--continue goes on with the run in out=, which is not set") end
  if not folder or cfg.preview then return end
  if cfg.dry_run then  -- what the run would be refused for
    local found = run_folder.look(folder)
    if found and not (cfg.overwrite or resumes or cfg.go_on or config.origin(cfg, "out") == "demo") then
      run_folder.refuse(folder, found)
    end
    return
  end
  run.out = folder
  if run.ranks.first then run.writes, run.lock = folder, run_folder.take(folder) end
  local found, overwrite = run_folder.look(folder), cfg.overwrite
  if cfg.go_on then  -- what is there is this run's, as far as it got
    if found and found.recipe ~= run.script then run_folder.refuse(folder, found) end
    resumes = found and found.newest and true or resumes
    cfg.resume, overwrite = resumes, not resumes
  end
  run.overwrites = found and (overwrite or config.origin(cfg, "out") == "demo" and not resumes)
  if found and not run.overwrites and not resumes and run.writes then run_folder.refuse(folder, found) end
  if found and resumes then run.earlier = found end
end

-- Tokenizer and template, and what is to be said of them and of the records.
local function texts(run)
  local cfg, o = run.cfg, run.options
  run.tokenizer = world.tokenizer(run)
  run.chat = template.of(cfg.template or "chatml", next(o.template) and o.template or nil)
  run.template_report = chat_template.enforce(run.chat, run.tokenizer, cfg.template_check)
  if run.template_report then run.log:say("%s", run.template_report) end
  for _, note in ipairs(run.chat:notes(run.tokenizer)) do run.log:say("%s", note) end
  for _, note in ipairs(run.source.notes or {}) do run.log:say("%s", note) end
end

-- Is anything held out? A source without a record is what `heldout = 0` makes, and not what a share means that is too small.
local function holds_out(run)
  if not run.heldout_source or run.heldout_source:size() > 0 then return run.heldout_source ~= nil end
  local asked = config.peek(run.cfg, "heldout")
  if asked and asked ~= 0 then
    exit.fail(exit.USAGE, "heldout = %s holds out none of the %d records of %s; say more, or 0 for none", asked,
      run.source:size(), run.source.name)
  end
  run.log:say("%s: nothing is held out", run.source.name)
  return false
end

--- Make them all.
-- @tab run `cfg`, `options`, `name`; gets the rest
-- @bool[opt] quiet say nothing
function M.make(run, quiet)
  local cfg, o = run.cfg, run.options
  length.rule(cfg)  -- a contradiction is said before anything is loaded
  run.ranks = ranks.join(config.when(cfg, "stall", ranks.expected() > 1, "one process waits for no other"))
  optim.chosen(function(key) return config.peek(cfg, key) end)  -- a setting of another optimizer too
  run.own = world.of(cfg, o)
  if not cfg.demo then run.path = find.inputs(cfg, o) end
  find.keep_inputs(cfg, run.path)
  take_folder(run)
  run.log = logs.open(run.writes, { quiet = quiet, write = save.write })
  run.device, run.dtype, run.device_text = find.device(cfg, run.log)
  if run.ranks.size > 1 then several.check(run) end
  run.source, run.heldout_source = sources.open(cfg, o)
  texts(run)

  local how = sampling(run)
  run.source = sources.clean(run.source, run, how)
  run.samples = samples.new(run.source, run.chat, run.tokenizer, how)
  run.log:say("%s", run.samples:describe())
  run.batches = batch.new(run.samples, several.share(run, config.group(cfg, "batch")))
  run.last_step = length.of(run)
  if holds_out(run) then
    how.add_tokens, how.stream, how.also = false, false, nil
    run.heldout_samples = samples.new(run.heldout_source, run.chat, run.tokenizer, how)
    run.log:say("%s", run.heldout_samples:describe())
    run.heldout = batch.new(run.heldout_samples,
                            several.share(run, { batch = cfg.batch, tokens = cfg.tokens, shuffle = false }))
  end
  say_length(run)
  if cfg.packing then run.log:say("%s", batch.describe(run.batches:survey(1))) end
end

return M
