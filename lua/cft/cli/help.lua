--- What `cftrun --help` prints.
-- @module cft.cli.help

local help = require "cft.config.help"

local M = {}

--- The program.
-- @tab commands list of { name, summary }
function M.program(commands)
  print [[
cftrun: Critique Fine-Tuning from a recipe in Lua

  cftrun RECIPE [key=value ...] [option ...]   run a recipe
  cftrun                                       a prompt: tensors, models, batches, steps
  cftrun -i RECIPE [key=value ...]             a prompt before the recipe's first step
  cftrun -e CODE [argument ...]                run a line of Lua
  cftrun COMMAND [argument ...]                one of the commands below]]
  if #commands > 0 then
    help.heading "Commands"
    help.rows(commands)
  end
  help.heading "Options of a run"
  help.options()
  help.heading "Other options"
  help.rows {
    { "--check", "with --device: whether it can be used; the same as the command doctor" },
    { "--help", "this; behind a recipe or a command, theirs" },
    { "--version", "of cft and of what it is built on" },
  }
  help.heading "Exit codes"
  help.rows {
    { "0", "all is well" },
    { "1", "the run failed: an error in a script, bad data, output that cannot be written" },
    { "2", "unknown option or key, no such recipe" },
    { "3", "a device, a driver or a library is missing" },
    { "4", "a model or data are not on this machine, or cannot be fetched" },
    { "5", "the loss or a weight is NaN or infinite; the last good state is kept" },
    { "6", "of several ranks one is gone, and the others have ended" },
    { "130", "Ctrl-C; a run has finished its step and saved" },
    { "143", "SIGTERM, SIGHUP; the same" },
  }
  help.heading "Environment"
  help.rows {
    { "CFT_CACHE=DIR", "where is kept what can be made again; ~/.cache/cft" },
    { "CFT_TRACEBACK=1", "errors with a traceback" },
    { "HF_HOME, HF_TOKEN", "the Hub's cache and its token, as elsewhere" },
    { "NO_COLOR=1", "no colours" },
    { "", "docs/cli.md has the rest" },
  }
end

return M
