--- A training recipe from its settings: finds what it needs, checks it, trains, measures, saves.
--
-- `prepare` makes a run, `cft.recipe.run.Run`, whose loop anybody may own; `run` is `prepare` and the usual loop. Both end
-- the run by themselves where `--preview`, `--dry-run` or `cftrun data` want something else in its place.

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local config = require "cft.config"
local instead = require "cft.recipe.instead"
local runs = require "cft.recipe.run"
local stages = require "cft.recipe.stages"

local M = { finish_open = runs.finish_open, fail_open = runs.fail_open }

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

local missing_spec = { model = { "string", optional = true }, data = { "string", optional = true } }

-- Those of the usual loop.
local loop_spec = {
  before_run = { "function", optional = true },  -- gets the run before its first step
  after_step = { "function", optional = true },  -- run, numbers of a step → fields that are logged with it
  evaluate = { "function", optional = true },    -- the same, when what is held out is measured
  stop = { "function", optional = true },        -- numbers of a step → true or why: it is the last one
  best = { "table", optional = true },           -- { name of a metric, "min" or "max" }
  keep = { "number|table", optional = true },    -- which checkpoints stay: see cft.train.retention
  select = { "table", optional = true },         -- a benchmark that scores the run while it trains, and chooses the best
  retain = { "table", optional = true },         -- a benchmark before and after: what was lost
  probe = { "table", optional = true },          -- verdicts on held-out critiques, read in one pass: see cft.eval.live
}
local hooks = {}  -- of the loop, for the trainer
for name, one in pairs(loop_spec) do
  spec[name], hooks[name] = one, name ~= "before_run" or nil
end

-- Settings and options as a run has them.
local function begin(cfg, opts)
  local o = check.options("recipe.run", opts, spec)
  check.options("recipe.run: missing", o.missing, missing_spec)
  for _, name in ipairs { "fields", "heldout_by" } do
    if o.load and o[name] then blame("recipe.run: load opens the data itself, and nothing reads '%s' beside it", name) end
  end
  return runs.new { cfg = config.complete(cfg), options = o, name = o.name }
end

-- The stages of a run as they are, whatever is asked for in place of training: for who looks at them.
-- @tab cfg of `cft.config` @tab opts see `run` @bool[opt=false] quiet say nothing
-- @treturn Run
function M.stages(cfg, opts, quiet)
  local run = begin(cfg, opts)
  stages.make(run, quiet)
  return run
end

--- A run for a loop of one's own: everything that it needs, made and checked, nothing trained. Where `--preview`,
-- `--dry-run` or `cftrun data` want something else, that is done, and this call does not return.
-- @tab cfg of `cft.config` @tab opts as of `run`; the options of the loop go to `run:trainer`
-- @treturn Run
-- @usage local function load() return source:range(0, 2), source:range(2) end
-- local parts = { name = "mine", load = load, tokenizer = cft.demo.words, model = cft.demo.tiny }
-- local run = cft.recipe.prepare(cfg, parts)
-- for t in run:steps() do print(t.step, t.loss > 0) end   --> 1   true 2   true
function M.prepare(cfg, opts)
  local run = begin(cfg, opts)
  for name in pairs(loop_spec) do
    if run.options[name] then
      blame("recipe.prepare: '%s' is the usual loop's; %s", name, hooks[name] and
        "give it to run:trainer { }" or "an own loop begins as it likes")
    end
  end
  return instead.of(run, M.stages, cfg, opts)
end

--- Prepare, train, measure, save.
-- @tab cfg of `cft.config`
-- @tab opts `name`; as wanted `fields`, `load`, `template`, `missing`, `heldout_by`; `model` and `tokenizer`, which are
-- taken where `model=` names none; `finish`; and of the loop
--
-- - `before_run(run)`: before the first step
-- - `after_step(run, t)`: after each step, before its line in the log; the fields that it returns, or sets on `t`, are
--   logged with the step
-- - `evaluate(run, t)`: the same, each `eval_every` steps and after the last, when what is held out is measured
-- - `stop(t)`: true, or a text that says why, makes this step the last; it is measured and saved
-- - `best`: `{ NAME, "min" }` or `"max"`, of what is measured: a new best value is saved; `t.best` is the best so far,
--   `t.since_best` how many steps ago that was
-- - `keep`: which checkpoints stay; a number, so many of the newest and the best, or a table, see `cft.train.retention`
-- @treturn table what summary.json holds
-- @usage local function load() return source:range(0, 2), source:range(2) end
-- local parts = { name = "mine", load = load, tokenizer = cft.demo.words, model = cft.demo.tiny }
-- cft.recipe.run(cfg, parts).steps   --> 2
function M.run(cfg, opts)
  local run = begin(cfg, opts)
  run = instead.of(run, M.stages, cfg, opts)
  return run:guard(function()
    local o = {}
    for name in pairs(hooks) do o[name] = run.options[name] end
    local trainer = run:trainer(o)
    if run.options.before_run and trainer.done < trainer.steps then run.options.before_run(run) end
    while trainer:goes_on() do trainer:step() end
    return run:finish()
  end)
end

return M
