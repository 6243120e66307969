--- The records of a run: where they come from, what is held out, what is left out.

local blame = require "cft.base.blame"
local config = require "cft.config"
local data = require "cft.data.open"
local decontaminate = require "cft.data.decontaminate"
local demo = require "cft.demo"
local exit = require "cft.base.exit"

local M = {}

local function loaded(load, path)
  local source, heldout = load(path)
  for what, given in pairs { training = source or false, ["held-out"] = heldout } do
    if type(given) ~= "table" or not given.records then
      blame("recipe.run: load gave %s as the source of %s records; cft.data.open and cft.data.list make one",
            type(given) == "table" and "a table" or tostring(given or nil), what)
    end
  end
  return source, heldout
end

-- A line for each held-out file that is trained on as well.
local function shared(training, heldout)
  local trained, lines = {}, {}
  for _, path in ipairs(data.paths(training)) do trained[data.real(path)] = true end
  for _, path in ipairs(data.paths(heldout)) do
    if trained[data.real(path)] then
      lines[#lines + 1] = ("heldout: %s is a file of the training data as well; its loss is no held-out one"):format(path)
    end
  end
  return lines
end

--- Open them.
-- @tab cfg settings
-- @tab o options of `cft.recipe.run`: `name`, `fields`, `load`, `heldout_by`
-- @treturn Source of training records @treturn ?Source of held-out ones
function M.open(cfg, o)
  if cfg.demo then return demo.sources(cfg) end
  if o.load then
    local takes = debug.getinfo(o.load, "u")  -- a function that takes no path leaves the key unread, unless it reads it itself
    return loaded(o.load, (takes.nparams > 0 or takes.isvararg) and cfg.data or nil)
  end
  local source = data.open(cfg.data, { fields = o.fields, limit_bad = cfg.limit_bad, quarantine = cfg.quarantine,
                                       name = o.name })
  if type(cfg.heldout) == "string" then
    local heldout = data.open(cfg.heldout, { fields = o.fields, name = "held out" })
    for _, list in ipairs { heldout.notes, shared(cfg.data, cfg.heldout) } do
      for _, note in ipairs(list) do table.insert(source.notes, note) end
    end
    return source, heldout
  elseif cfg.heldout and cfg.heldout > 0 then
    if cfg.stream then
      exit.fail(exit.USAGE, "stream: heldout = %s goes through all records first; give a file of held-out "
                .. "ones, or heldout = 0", cfg.heldout)
    end
    return source:split { heldout = cfg.heldout, seed = cfg.seed, by = o.heldout_by }
  end
  return source
end

--- Training records that ask what a benchmark asks are reported, and dropped where that is wanted.
-- @tparam Source source
-- @tab run with `cfg`, `log`, `out`; gets `contaminated`
-- @tab how options of the samples: whoever streams looks when a record's turn comes
-- @treturn Source
function M.clean(source, run, how)
  local cfg = run.cfg
  if not cfg.decontaminate then
    config.idle(cfg, "decontaminate_drop", "there is no decontaminate=")
    return source
  end
  local o = { files = cfg.decontaminate, drop = cfg.decontaminate_drop,
              say = function(text) run.log:say("%s", text) end }
  if how.stream then
    how.also = decontaminate.watch(o)
    return source
  end
  o.out = run.writes
  local kept
  kept, run.contaminated = decontaminate.apply(source, o)
  return kept
end

return M
