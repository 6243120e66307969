--- look at a recipe's data: counts, histograms, duplicates, samples with their masks
--
--   cftrun data RECIPE [key=value ...] [--demo] [--samples N] [--html FILE]
--
-- The recipe runs up to where training would begin: its files are opened, split, decontaminated,
-- templated, tokenised and checked as in a run; no model is loaded and nothing is written but the page.
-- What a run would refuse is listed, and then the exit code is 1.

local check = require "cft.base.check"
local config = require "cft.config"
local dataview = require "cft.report.data"
local exit = require "cft.base.exit"
local files = require "cft.io.files"
local host = require "cft.host"
local recipe = require "cft.recipe"

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

-- ---- looking ---------------------------------------------------------------------------------

local POLICIES = { "no_learned", "all_learned", "double_bos" }

-- Settings under which nothing is refused, since what would be refused is to be seen.
-- @treturn table those of the recipe
local function lenient(cfg)
  local asked = {}
  for _, name in ipairs { "limit_bad", unpack(POLICIES) } do
    asked[name] = rawget(cfg, name) or config.default(name)
    if asked[name] == "error" then cfg[name] = "keep" end
  end
  asked.template_check = rawget(cfg, "template_check") or config.default "template_check"
  if asked.template_check == "strict" then cfg.template_check = "log" end
  cfg.limit_bad, cfg.quarantine, cfg.dry_run = 2 ^ 40, nil, true
  return asked
end

-- Why training would not begin, a line each.
local function refusals(view, asked)
  local lines = {}
  if view.run.template_report and asked.template_check == "strict" then
    lines[1] = 'the model\'s chat template is another one, template_check = "strict"'
  end
  for _, set in ipairs(view.sets) do
    if #set.report.bad > asked.limit_bad then
      lines[#lines + 1] = ("%s: %d bad records, limit_bad = %d"):format(set.name, #set.report.bad, asked.limit_bad)
    end
    for _, name in ipairs(POLICIES) do
      if asked[name] == "error" and set.report[name].n > 0 then
        lines[#lines + 1] = ("%s: %d samples, %s = \"error\""):format(set.name, set.report[name].n, name)
      end
    end
  end
  return lines
end

--- @tab args
-- @treturn ?int 1 if a run would refuse these data
function M.run(args)
  local o, rest = parse(args)
  if not o.recipe then
    if not o.help then exit.fail(exit.USAGE, "data: a recipe is wanted: %s", USAGE) end
    print("Usage: " .. USAGE)
    return
  end
  if host.kind(o.recipe) ~= "file" then exit.fail(exit.USAGE, "data: no recipe %s", o.recipe) end
  local view
  recipe.instead = function(cfg, opts)
    local asked = lenient(cfg)
    view = dataview.gather(recipe.prepare(cfg, opts, true), { samples = o.samples })
    view.refusals = refusals(view, asked)
    dataview.print(view)
  end
  local ok, err = pcall(require("cft.cli").script, o.recipe, rest)
  recipe.instead = nil
  if not ok then error(err, 0) end
  if not view then
    exit.fail(exit.FAILED, "%s never called cft.recipe.run, so there are no data to look at", o.recipe)
  end
  if o.html then
    files.write(o.html, require("cft.report.html").page(view))
    print("written: " .. o.html)
  end
  return #view.refusals > 0 and exit.FAILED or exit.OK
end

return M
