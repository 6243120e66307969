--- A run of several ranks: what it is refused, what each rank lays of an optimizer step, and that all begin alike.

local config = require "cft.config"
local exit = require "cft.base.exit"
local hash = require "cft.io.hash"
local ranks = require "cft.ranks"
local world = require "cft.recipe.world"

local M = {}

--- What stands in place of training is for one process.
-- @string what such as "--preview"
function M.refuse(what)
  local n = ranks.expected()
  if n > 1 then exit.fail(exit.USAGE, "%s is for one process, and %d were started; say it without mpirun, srun or --ranks", what, n) end
end

-- Settings that work with one rank alone, and why.
local alone = {
  { "stream", "each rank would have to wait for what the others find in the records that it skips" },
  { "quarantine", "each rank reads all records, and would write them to this file" },
  { "attach", "what a line changes would have to be changed in all of them" },
}

--- An error with exit code 2 where several ranks cannot do what is asked.
-- @tparam Run run with `ranks`, `cfg`, `device`
function M.check(run)
  local here, cfg = run.ranks, run.cfg
  for _, row in ipairs(alone) do
    local name, why = row[1], row[2]
    if config.peek(cfg, name) and config.origin(cfg, name) ~= "default" then
      exit.fail(exit.USAGE, "%s is not for %d ranks yet: %s", name, here.size, why)
    end
  end
  if cfg.demo and config.peek(cfg, "zero") == 3 then
    exit.fail(exit.USAGE, "--demo has the model write text, for which no rank has the weights with zero=3: say zero=2")
  end
  local mine, threads = here.places[here.rank + 1], here.threads
  run.log:say("%d ranks by %s: %s each; rank 0 may run on the processors %s of %s", here.size, here.launcher,
    threads == 1 and "1 thread" or threads .. " threads", mine.processors, mine.host)
end

--- What scores a run while it trains wants all weights on each rank, which then answers its share.
-- @tab o options of the trainer
function M.check_scores(run, o)
  if run.ranks.size == 1 or config.peek(run.cfg, "zero") ~= 3 then return end
  for _, name in ipairs { "select", "retain", "probe" } do
    if o[name] then
      exit.fail(exit.USAGE, "%s has the model write or judge, for which no rank has the weights with zero=3: say zero=2", name)
    end
  end
end

--- Options of batches, with this rank's share of them.
-- @tparam Run run @tab how
-- @treturn table
function M.share(run, how)
  local here = run.ranks
  if here.size == 1 then return how end
  local config_of = world.config(run)
  -- Of a block's FLOPs a token, those of its matmuls are about 24 d^2, and those of attention 2 d a token before it.
  how.parallel = { rank = here.rank, size = here.size, square = 12 * (config_of and config_of.d or 1024) }
  return how
end

--- An error where the ranks' weights are not the same: files of one host are not those of another.
-- @tparam Run run @tparam Model model
function M.compare(run, model)
  local here = run.ranks
  if here.size == 1 then return end
  local parts = {}
  for i, g in ipairs(model.groups) do parts[i] = g:digest() end
  local hashes = here:gather(hash.text(table.concat(parts)))
  for r, other in ipairs(hashes) do
    if other ~= hashes[1] then
      exit.fail(exit.FAILED, "rank %d on %s has other weights than rank 0 on %s: are the model's files the same?", r - 1,
        here.places[r].host, here.places[1].host)
    end
  end
end

return M
