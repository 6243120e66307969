--- print a run's log as tables: steps, and the loss by kind of text; two runs beside each other
--
--   cftrun log RUN [RUN2] [--rows N]
--
-- RUN is the folder of a run (out=). Of its steps as many are shown as --rows says, 20 if it is absent; --rows 0 shows all.
-- Two runs are compared at the same number of tokens.

local exit = require "cft.base.exit"
local folders = require "cft.cli.folders"
local runs = require "cft.report.run"
local term = require "cft.base.term"
local text = require "cft.report.run_text"

local M = {}

local specs = { rows = { "integer", 20, min = 0 } }

--- @tab args
function M.run(args)
  local list, o = folders("log", args, specs)
  if o.help then return end
  local rows = o.rows == 0 and math.huge or o.rows
  local shown = { rows = rows, columns = term.width() }
  local a, b = runs.read(list[1]), list[2] and runs.read(list[2])
  if b and rows == math.huge then
    exit.fail(exit.USAGE, "log: --rows 0 is for one run; two are shown at some of their tokens")
  end
  if b then text.print_two(a, b, shown) else text.print(a, shown) end
end

return M
