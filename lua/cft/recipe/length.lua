--- How long a run is: by `steps`, `epochs`, or a budget of tokens or FLOPs.
--
-- One rule decides: the command line's, else the demo's, else the recipe's; two of one origin are refused. A budget is
-- spent by the optimizer step that reaches it, which is the last one.

local config = require "cft.config"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local models = require "cft.models"
local world = require "cft.recipe.world"

local M = {}

local RULES = { "steps", "epochs", "budget_tokens", "budget_flops" }
local RANK = { default = 0, recipe = 1, demo = 2, ["command line"] = 3 }

local MOST_EPOCHS = 1e4  -- of a budget: beyond lies a slip of the hand, and counting its steps would take for ever
local ROUNDS = 8  -- of a mixture whose weights follow the run

--- The key that decides. The others do nothing.
-- @tab cfg
-- @treturn string
function M.rule(cfg)
  local best
  for _, name in ipairs(RULES) do
    local rank = RANK[config.origin(cfg, name)]
    if config.peek(cfg, name) ~= nil and (not best or rank >= best.rank) then
      if best and rank == best.rank then
        exit.fail(exit.USAGE, "%s and %s are both given by the %s, and one of them says how long a run is; leave one out",
          best.name, name, config.origin(cfg, name))
      end
      best = { name = name, rank = rank }
    end
  end
  for _, name in ipairs(RULES) do
    if name ~= best.name then config.idle(cfg, name, ("%s says how long the run is"):format(best.name)) end
  end
  return best.name
end

-- What a sample costs, by its tokens.
local function cost_of(run, rule)
  if rule == "budget_tokens" then return function(tokens) return tokens end end
  local shape, why = world.config(run)
  if not shape then exit.fail(exit.USAGE, "budget_flops: the model's shape is not known: %s", why) end
  return function(tokens) return models.flops(shape, { tokens }) end
end

-- The optimizer step that reaches the budget.
local function spend(batches, budget, cost, rule)
  local spent, steps, per_epoch, known = 0, 0, batches:updates(), {}
  while spent < budget do
    for _, tokens in ipairs(batches:lengths(math.floor(steps / per_epoch), steps % per_epoch)) do
      known[tokens] = known[tokens] or cost(tokens)
      spent = spent + known[tokens]
    end
    steps = steps + 1
    if steps == per_epoch and spent * MOST_EPOCHS < budget then
      exit.fail(exit.USAGE, "%s=%g is that of %.3g passes over the samples, of which one has %s; at most %g are taken", rule,
        budget, budget / spent, format.count(spent), MOST_EPOCHS)
    end
  end
  return steps, spent
end

local function by_budget(run, rule)
  local cfg, batches = run.cfg, run.batches
  local budget, cost = cfg[rule], cost_of(run, rule)
  if run.samples.stream then
    exit.fail(exit.USAGE, "%s goes through the samples' lengths first, which a stream does not; give steps", rule)
  end
  local steps, spent = spend(batches, budget, cost, rule)
  -- The order of a mixture may follow the run's length, and so what the steps hold.
  for _ = 1, run.samples.fit and ROUNDS or 0 do
    local before = steps
    run.samples:fit(config.peek(cfg, "batch") * steps)
    steps, spent = spend(batches, budget, cost, rule)
    if steps == before then break end
  end
  local unit = rule == "budget_tokens" and "tokens" or "FLOPs"
  run.log:say("%s: %d steps have %s %s, of %s", rule, steps, format.count(spent), unit, format.count(budget))
  return steps
end

--- The number of a run's last step.
-- @tab run with `samples` and `batches`; a mixture among these is told how long the run is
-- @treturn int
function M.of(run)
  local cfg = run.cfg
  local rule = M.rule(cfg)
  if rule:find "^budget" then return by_budget(run, rule) end
  local steps = rule == "steps" and cfg.steps or math.floor(run.batches:updates() * cfg.epochs + 0.5)
  if run.samples.fit then run.samples:fit(config.peek(cfg, "batch") * steps) end
  return steps
end

return M
