--- make one step of a run again: its samples, and the loss of each token
--
--   cftrun replay RUN --step N [--blame] [--tokens]
--
-- Stand where the run was started: its recipe, data and settings are those of RUN/run.json. From the nearest checkpoint
-- before the step it is made again, and compared with the journal: code 1 where it is another. --blame puts first the samples
-- with the largest part of the loss; --tokens shows each token with loss weight.

local arguments = require "cft.cli.arguments"
local config = require "cft.config"
local exit = require "cft.base.exit"
local host = require "cft.host"
local json = require "cft.base.json"

local M = {}

local NAME = ...  -- of this module: its first comment is the help

local dropped = { resume = true, overwrite = true, time_limit = true, allow_change = true }

-- Settings that say when a run saves and measures, and where: a step is the same without them.
local idle = { out = true, save_every = true, save_minutes = true, keep = true, eval_every = true, context_loss = true,
               report_samples = true }

-- The arguments of the run's recipe, without what only says how the run begins, ends or where it writes.
local function arguments_of(command)
  local rest, i = {}, 3
  while i <= #command do
    local flag, _, after = config.flag(command, i)
    if not (flag and dropped[flag.field]) and not idle[command[i]:match "^([%w_]+)=" or ""] then
      for k = i, (after or i + 1) - 1 do rest[#rest + 1] = command[k] end
    end
    i = after or i + 1
  end
  return rest
end

--- The command.
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then
    return print((host.source(NAME):match "^(.-)\n\n[^-]":gsub("%f[^\n%z]%-+ ?", "")))
  end
  local run = args[1] and not args[1]:find "^%-" and table.remove(args, 1)
  if not run then exit.fail(exit.USAGE, "replay: name a run's folder, and --step") end
  local o = arguments("replay", args, { step = { "integer", min = 1, optional = true }, blame = { "boolean", false },
                                        tokens = { "boolean", false } })
  if not o.step then exit.fail(exit.USAGE, "replay: say which step: --step N") end
  local record, why = json.read(run .. "/run.json")
  if type(record) ~= "table" or type(record.command) ~= "table" or type(record.command[2]) ~= "string" then
    exit.fail(exit.USAGE, "replay: %s holds no run: %s", run, why or "its run.json has no command")
  end
  local script = record.command[2]
  if host.kind(script) ~= "file" then
    exit.fail(exit.USAGE, "replay: there is no recipe %s here; stand where the run was started", script)
  end
  local rest = arguments_of(record.command)
  local replay = { step = o.step, blame = o.blame, tokens = o.tokens, out = run }
  rest.inspect = { replay = replay }
  require("cft.cli").script(script, rest)
  if replay.code then exit.leave(replay.code) end
  exit.fail(exit.FAILED, "%s never called cft.recipe.run", script)
end

return M
