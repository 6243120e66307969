--- write a run's report as one page: curves, samples before and after, settings, data; of two runs beside each other
--
--   cftrun report RUN [RUN2] [--html FILE]
--
-- RUN is the folder of a run (out=). The page is RUN/report.html, or FILE; it needs nothing else and has no script.

local folders = require "cft.cli.folders"
local runs = require "cft.report.run"
local run_page = require "cft.report.run_page"
local save = require "cft.io.save"

local M = {}

local specs = { html = { "string", optional = true } }

--- @tab args
function M.run(args)
  local list, o = folders("report", args, specs)
  if o.help then return end
  local path, read = o.html or list[1] .. "/report.html", {}
  for i, folder in ipairs(list) do read[i] = runs.read(folder) end
  save.write(path, run_page.page(read))
  print("written: " .. path)
end

return M
