--- look at a recipe's data: counts, histograms, duplicates, samples with their masks
--
--   cftrun data RECIPE [key=value ...] [--demo] [--samples N] [--verdict right|wrong|none] [--kind KIND]
--               [--length FROM-TO] [--source NAME] [--html FILE]
--
-- The recipe runs up to where training would begin: its files are opened, split, decontaminated,
-- templated, tokenised and checked as in a run; no model is loaded and nothing is written but the page.
-- What a run would refuse is listed, and then the exit code is 1.

local check = require "cft.base.check"
local config = require "cft.config"
local exit = require "cft.base.exit"
local host = require "cft.host"

local M = {}

local USAGE = "cftrun data RECIPE [key=value ...] [--demo] [--samples N] [--html FILE]; and of samples --verdict, --kind, "
  .. "--length FROM-TO, --source"

-- ---- the arguments ---------------------------------------------------------------------------

local own = { ["--html"] = "html", ["--samples"] = "samples", ["--verdict"] = "verdict", ["--kind"] = "kind",
              ["--length"] = "length", ["--source"] = "source" }

local PRINTED, ON_PAGE = 2, 24  -- samples of a source, where nobody says how many

-- Which samples are to be shown.
local function which(o)
  local where = { verdict = o.verdict, kind = o.kind, source = o.source }
  local problem = o.verdict and check.problem(o.verdict, { "string", one_of = { "right", "wrong", "none" } })
  if problem then exit.fail(exit.USAGE, "data: --verdict %s", problem) end
  if o.length then
    local from, to = o.length:match "^(%d*)%-(%d*)$"
    where.from, where.to = tonumber(from), tonumber(to)
    if not (where.from or where.to) or where.from and where.to and where.from > where.to then
      exit.fail(exit.USAGE, "data: --length wants tokens as 100-500, 100- or -500, got '%s'", o.length)
    end
  end
  return where
end

-- What is ours, the recipe, and what is the recipe's.
local function parse(args)
  local o, rest, i = {}, {}, 1
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
  o.page_samples = tonumber(o.samples) or o.samples or ON_PAGE
  o.samples = tonumber(o.samples) or o.samples or PRINTED
  local problem = check.problem(o.samples, { "integer", min = 0 })
  if problem then exit.fail(exit.USAGE, "data: --samples %s", problem) end
  o.where = which(o)
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
  rest.inspect = { samples = o.samples, page_samples = o.page_samples, where = o.where, html = o.html }
  require("cft.cli").script(o.recipe, rest)
  if rest.inspect.code then exit.leave(rest.inspect.code) end  -- the recipe caught it, and went on
  exit.fail(exit.FAILED, "%s never called cft.recipe.run, so there are no data to look at", o.recipe)
end

return M
