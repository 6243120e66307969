--- print a run's log as tables: steps, and the loss by kind of text; two runs beside each other
--
--   cftrun log RUN [RUN2] [--rows N]
--   cftrun log RUN [RUN2] --tensorboard DIR
--
-- RUN is the folder of a run (out=). Of its steps as many are shown as --rows says, 20 if it is absent; --rows 0 shows all.
-- Two runs are compared at the same number of tokens. --tensorboard writes event files into a folder of DIR for each run,
-- of the name of its own folder, and prints no table.

local exit = require "cft.base.exit"
local folders = require "cft.cli.folders"
local runs = require "cft.report.run"
local save = require "cft.io.save"
local term = require "cft.base.term"
local text = require "cft.report.run_text"
local tfevents = require "cft.report.tfevents"

local M = {}

local specs = { rows = { "integer", 20, min = 0 }, tensorboard = { "string", optional = true } }

local function write_events(read, folder)
  local taken = {}
  for _, run in ipairs(read) do
    local name = run.folder:match "([^/]+)$" or "run"
    if name == "." or name == ".." or taken[name] then name = name:gsub("^%.+$", "run") .. (taken[name] and "-2" or "") end
    taken[name] = true
    local bytes, file = tfevents.of(run)
    local path = ("%s/%s/%s"):format(folder, name, file)
    save.write(path, bytes)
    print("written: " .. path)
  end
end

--- @tab args
function M.run(args)
  local list, o = folders("log", args, specs)
  if o.help then return end
  local rows = o.rows == 0 and math.huge or o.rows
  local shown = { rows = rows, columns = term.width() }
  local a, b = runs.read(list[1]), list[2] and runs.read(list[2])
  if o.tensorboard then return write_events({ a, b }, o.tensorboard) end
  if b and rows == math.huge then
    exit.fail(exit.USAGE, "log: --rows 0 is for one run; two are shown at some of their tokens")
  end
  if b then text.print_two(a, b, shown) else text.print(a, shown) end
end

return M
