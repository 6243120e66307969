--- write a run's report as one page: curves, samples before and after, settings, data; of two runs beside each other
--
--   cftrun report RUN [RUN2] [--html FILE]
--
-- RUN is the folder of a run (out=). The page is RUN/report.html, or FILE; it needs nothing else and has no script.

local data = require "cft.data.open"
local exit = require "cft.base.exit"
local folders = require "cft.cli.folders"
local run_folder = require "cft.recipe.run_folder"
local runs = require "cft.report.run"
local run_page = require "cft.report.run_page"
local save = require "cft.io.save"
local texts = require "cft.base.text"

local M = {}

local specs = { html = { "string", optional = true } }

-- The page may not take the place of what a run has written.
local function keep_runs(folders_of_runs, path)
  local folder, name = data.real(path):match "^(.*)/([^/]*)$"
  for _, run in ipairs(folders_of_runs) do
    if folder == data.real(run) and name ~= "report.html" and run_folder.is_file(name) then
      exit.fail(exit.USAGE, "report: --html %s is a file of the run, which would be overwritten", path)
    end
  end
end

--- @tab args
function M.run(args)
  local list, o = folders("report", args, specs)
  if o.help then return end
  local path, read = o.html or list[1] .. "/report.html", {}
  keep_runs(list, path)
  for i, folder in ipairs(list) do read[i] = runs.read(folder) end
  save.write(path, run_page.page(read))
  print("written: " .. texts.printable(path))
end

return M
