--- say what a recipe's run takes on so many GPUs: memory, communication, time
--
--   cftrun plan RECIPE [key=value ...] [--gpus 8] [--gpu h100] [--hosts 1]
--               [--length TOKENS] [--samples N] [--learned SHARE] [--link GBS] [--network GBS] [--json]
--
-- Arithmetic for each stage of ZeRO, with and without recomputed blocks, and the one to take; docs/plan.md shows it.
-- Nothing is trained and no GPU is wanted. Where the recipe's data are here, their lengths count; --length (tokens of a
-- sample), --samples (of an epoch) and --learned (the share of tokens that carry loss) say them where they are not.
-- --link and --network are bytes a second and direction, in GB/s, of a GPU to its neighbours and of its share of the network
-- between hosts, where they are not as commonly built.

local check = require "cft.base.check"
local config = require "cft.config"
local exit = require "cft.base.exit"
local host = require "cft.host"
local rates = require "cft.plan.rates"

local M = {}

local NAME = ...  -- of this module: its first comment is the help

local spec = {
  gpus = { "integer", 8, min = 1 }, gpu = { "string", "h100", one_of = rates.names() }, hosts = { "integer", 1, min = 1 },
  length = { "integer", optional = true, min = 1 }, samples = { "integer", optional = true, min = 1 },
  learned = { "number", optional = true, min = 0, max = 1 }, link = { "number", optional = true, min = 0 },
  network = { "number", optional = true, min = 0 }, json = { "boolean", false },
}

-- What is ours, the recipe, and what is the recipe's.
local function parse(args)
  local o, rest, recipe, i = {}, {}, nil, 1
  while i <= #args do
    local a = args[i]
    local name, glued = a:match "^%-%-(%a+)=(.*)$"
    name = name or a:match "^%-%-(%a+)$"
    local _, _, after = config.flag(args, i)
    if name and spec[name] and spec[name][1] == "boolean" and not glued then
      o[name] = true
    elseif name and spec[name] then
      local value = glued or args[i + 1] or exit.fail(exit.USAGE, "plan: --%s wants a value", name)
      value, after = spec[name][1] == "string" and value or tonumber(value) or value, glued and i + 1 or i + 2
      if o[name] ~= nil and o[name] ~= value then
        exit.fail(exit.USAGE, "plan: --%s is said twice: %s and %s", name, o[name], value)
      end
      o[name] = value
    elseif not recipe and not a:find "^%-" and not a:find "=" then
      recipe = a
    else
      for k = i, (after or i + 1) - 1 do rest[#rest + 1] = args[k] end
    end
    i = after or i + 1
  end
  for name, value in pairs(o) do
    local problem = check.problem(value, spec[name])
    if problem then exit.fail(exit.USAGE, "plan: --%s %s", name, problem) end
  end
  return check.options("plan", o, spec), recipe, rest
end

local function cluster_of(o)
  if o.gpus % o.hosts ~= 0 then
    exit.fail(exit.USAGE, "plan: --gpus %d are not shared evenly by --hosts %d", o.gpus, o.hosts)
  end
  local r = rates.of(o.gpu)
  if o.link then r.link = rates.shares.link * o.link * 1e9 end
  if o.network then r.network = rates.shares.link * o.network * 1e9 end
  for _, rate in ipairs { r.link, r.network } do
    if rate <= 0 or rate == math.huge then exit.fail(exit.USAGE, "plan: --link and --network are above 0, and no infinity") end
  end
  return { rates = r, gpus = o.gpus, hosts = o.hosts }
end

--- @tab args
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then
    return print((host.source(NAME):match "^(.-)\n\n[^-]":gsub("%f[^\n%z]%-+ ?", "")))
  end
  local o, recipe, rest = parse(args)
  if not recipe then exit.fail(exit.USAGE, "plan: a recipe is wanted: cftrun plan RECIPE --gpus 8 --gpu h100") end
  if host.kind(recipe) ~= "file" then exit.fail(exit.USAGE, "plan: no recipe %s", recipe) end
  o.cluster = cluster_of(o)
  rest.inspect = { plan = o }
  require("cft.cli").script(recipe, rest)
  exit.fail(exit.FAILED, "%s never called cft.recipe.run, so there is no run to plan", recipe)
end

return M
