--- What a run does in place of training, where somebody asked for that: `--preview`, `--dry-run`, `cftrun data`.

local checkpoint = require "cft.train.checkpoint"
local config = require "cft.config"
local exit = require "cft.base.exit"
local plan = require "cft.recipe.plan"
local several = require "cft.recipe.ranks"
local stages = require "cft.recipe.stages"

local M = {}

-- Show samples as the model sees them.
local function preview(run) require("cft.report.samples").show(run, run.cfg.preview) end

-- All is there, the weights too; and what it takes.
local function dry_run(run)
  plan.say(run)
  if run.samples.stream then run.samples:close() end
  run.log:say("dry run: all is there; nothing was trained")
end

--- Make a run's stages; where something else than training is wanted, do that and leave.
-- @tparam Run run
-- @func make of `cft.recipe.stages`, for who looks at data
-- @tab cfg @tab opts as the recipe gave them
-- @treturn Run the run, if it is to train
function M.of(run, make, cfg, opts)
  for what, asked in pairs { ["cftrun data"] = run.cfg.inspect, ["--preview"] = run.cfg.preview } do
    if asked then several.refuse(what) end
  end
  if run.cfg.inspect and run.cfg.inspect.plan then
    plan.leave(run, stages.make, run.cfg.inspect.plan)
  elseif run.cfg.inspect and run.cfg.inspect.replay then
    require("cft.recipe.replay").leave(run, stages.make, run.cfg.inspect.replay)
  elseif run.cfg.inspect then
    require("cft.recipe.inspect").leave(config.complete(cfg), function(settings) return make(settings, opts, true) end)
  end
  if config.peek(run.cfg, "trace") and (run.cfg.preview or run.cfg.dry_run) then
    exit.fail(exit.USAGE, "--trace is of steps, and --%s makes none", run.cfg.preview and "preview" or "dry-run")
  end
  stages.make(run)
  config.refuse_unread(run.cfg, true)  -- the rest may be read until the first step
  local resumes = config.peek(run.cfg, "resume")  -- which run:trainer does, where the run is to train
  if resumes and (run.cfg.preview or run.cfg.dry_run) then  -- a look at what it would go on from
    local from, state
    if run.cfg.dry_run then
      run:identify(run:model())
      from, state = checkpoint.compare(run, resumes)
    else
      from, state = checkpoint.find(run, resumes)
    end
    run.log:say("would go on from %s, at step %d", from, state.done)
  end
  if run.cfg.preview then preview(run) elseif run.cfg.dry_run then dry_run(run) else
    run.batches.before_first = function() run:first_batch() end
    return run
  end
  run.log:close()
  exit.leave()
end

return M
