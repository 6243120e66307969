--- A recipe's data in place of its training: what `cftrun data RECIPE` shows.

local check = require "cft.base.check"
local dataview = require "cft.report.data"
local data_text = require "cft.report.data_text"
local exit = require "cft.base.exit"
local html = require "cft.report.html"
local save = require "cft.io.save"

local M = {}

local POLICIES = { "no_learned", "all_learned", "double_bos" }

-- Settings under which nothing is refused, since what would be refused is to be seen.
-- @treturn table those of the recipe
local function lenient(cfg)
  local asked = { limit_bad = cfg.limit_bad, template_check = cfg.template_check }
  for _, name in ipairs(POLICIES) do
    asked[name] = cfg[name]
    if asked[name] == "error" then cfg[name] = "keep" end
  end
  if asked.template_check == "strict" then cfg.template_check = "log" end
  cfg.limit_bad, cfg.quarantine, cfg.out, cfg.dry_run = 2 ^ 40, nil, nil, true
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

local function must_have_source(view, where)
  if not where.source then return end
  local names = {}
  for i, set in ipairs(view.sets) do
    names[i] = set.name
    if set.name == where.source then return end
  end
  exit.fail(exit.USAGE, "data: --source %s: there are %s%s", where.source, table.concat(names, ", "),
    check.suggestion(where.source, names))
end

--- Show the data of a run that was to be, and leave: with code 1 if it would not have begun.
-- @tab cfg settings, with `inspect` of `cftrun data`: `samples`, how many of them are printed, and `where`, which, see
-- `cft.report.data.gather`; `html`, a file for a page, which shows `page_samples`
-- @func prepare from settings to a run: `cft.recipe.stages`, quiet
function M.leave(cfg, prepare)
  local asked = lenient(cfg)
  local o = cfg.inspect
  local view = dataview.gather(prepare(cfg), { samples = o.html and o.page_samples or o.samples, where = o.where })
  must_have_source(view, o.where)
  view.refusals = refusals(view, asked)
  if o.html then
    save.write(o.html, html.page(view))
    dataview.show(view, o.samples)
  end
  data_text.print(view)
  if o.html then print("written: " .. o.html) end
  cfg.inspect.code = #view.refusals > 0 and exit.FAILED or exit.OK
  exit.leave(cfg.inspect.code)
end

return M
