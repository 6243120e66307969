--- a prompt in a running job: look at it, change it, between two of its steps
--
--   cftrun attach RUN
--
-- RUN is the folder of a run (out=) that goes on, on this machine, by this user. Lines run in it between two optimizer
-- steps, with run, trainer and model at hand; they are recorded in RUN/attached.jsonl, and the run's record says that it was
-- changed by hand. An error in a line does not end the run, Ctrl-C stops the line, Ctrl-D leaves and the run goes on. A run
-- with attach=false listens to nobody.

local exit = require "cft.base.exit"
local host = require "cft.host"

local M = {}

--- `cftrun attach`.
-- @tab args
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then
    for text in host.source "cft.cli.cmd.attach":gmatch "([^\n]*)\n" do
      if not text:find "^%-%-" then return end
      print((text:gsub("^%-%-%-? ?", "")))
    end
  end
  local folder = args[1]
  if not folder or args[2] or folder:sub(1, 1) == "-" then
    exit.fail(exit.USAGE, "attach: one folder of a run is wanted: cftrun attach RUN")
  end
  return require("cft.prompt.attach").start((folder:gsub("(.)/+$", "%1")))
end

return M
