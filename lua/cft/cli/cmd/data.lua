--- look at a recipe's data: counts, histograms, duplicates, samples with their masks
--
--   cftrun data RECIPE [key=value ...] [--demo] [--samples N] [--html FILE]
--
-- The recipe runs up to where training would begin: its files are opened, split, decontaminated,
-- templated, tokenised and checked as in a run; no model is loaded and nothing is written but the page.
-- What a run would refuse is listed, and then the exit code is 1.

local check = require "cft.base.check"
local config = require "cft.config"
local exit = require "cft.base.exit"
local host = require "cft.host"

local M = {}

local USAGE = "cftrun data RECIPE [key=value ...] [--demo] [--samples N] [--html FILE]"

-- ---- the arguments ---------------------------------------------------------------------------

local own = { ["--html"] = "html", ["--samples"] = "samples" }

-- What is ours, the recipe, and what is the recipe's.
local function parse(args)
  local o, rest, i = { samples = 2 }, {}, 1
  while i <= #args do
    local a = args[i]
    local name, glued = a:match "^(%-%-%a+)=(.*)$"
    local field = own[name or a]
    local _, _, after = config.flag(args, i)
    if field then
      o[field] = glued or args[i + 1] or exit.fail(exit.USAGE, "data: %s wants a value", a)
      after = glued and i + 1 or i + 2
    elseif after then
      for k = i, after - 1 do rest[#rest + 1] = args[k] end
    elseif a == "--help" or a == "-h" then
      o.help = true
      rest[#rest + 1] = a
    elseif not o.recipe and not a:find "^%-" and not a:find "=" then
      o.recipe = a
    else
      rest[#rest + 1] = a
    end
    i = after or i + 1
  end
  o.samples = tonumber(o.samples) or o.samples
  local problem = check.problem(o.samples, { "integer", min = 0 })
  if problem then exit.fail(exit.USAGE, "data: --samples %s", problem) end
  return o, rest
end

--- @tab args
-- The recipe leaves with 1 if a run would refuse these data.
function M.run(args)
  local o, rest = parse(args)
  if not o.recipe then
    if not o.help then exit.fail(exit.USAGE, "data: a recipe is wanted: %s", USAGE) end
    print("Usage: " .. USAGE)
    return
  end
  if host.kind(o.recipe) ~= "file" then exit.fail(exit.USAGE, "data: no recipe %s", o.recipe) end
  rest.inspect = { samples = o.samples, html = o.html }
  require("cft.cli").script(o.recipe, rest)
  if rest.inspect.code then exit.leave(rest.inspect.code) end  -- the recipe caught it, and went on
  exit.fail(exit.FAILED, "%s never called cft.recipe.run, so there are no data to look at", o.recipe)
end

return M
