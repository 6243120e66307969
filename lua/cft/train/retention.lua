--- Which checkpoints of a run stay: one function decides, and what goes, goes when the newer one is on the disk.

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local hash = require "cft.io.hash"
local host = require "cft.host"
local save = require "cft.io.save"

local M = {}

local rule_spec = {
  newest = { "integer", optional = true, min = 1 },
  best = { "integer", 1, min = 0 },
  every = { "integer", optional = true, min = 1 },
  state = { "string", "all", one_of = { "all", "newest" } },
}

--- What a recipe's `keep` says, checked.
-- @param keep a number: so many of the newest; or a table of `newest`, as many; `best`, so many of the best by the metric
-- that is followed (1); `every`, those of steps that it divides; `state = "newest"`: only the newest keeps what
-- --resume needs, the others their weights
-- @bool follows does the run follow a metric?
-- @treturn table
function M.rule(keep, follows)
  if type(keep) == "number" then keep = { newest = keep } end
  local rule = check.options("keep", keep, rule_spec)
  if not rule.newest and (rule.every or keep.best) then
    blame "keep: newest is wanted beside best and every: how many of the newest stay"
  end
  if (keep.best or 0) > 0 and not follows then
    blame "keep: best counts by the metric that best = { NAME, ... } follows, and there is none"
  end
  return rule
end

--- Which go.
-- @tab list checkpoints from the oldest on: `{ step =, value = }`, `value` of the metric that is followed, where it was
-- measured there; `bare`, true where there is no state any more
-- @tab rule of `rule`
-- @string[opt] direction of the metric, "min" or "max"
-- @treturn table a list of those that go whole
-- @treturn table a list of those whose state goes
function M.decide(list, rule, direction)
  local stays, measured = {}, {}
  for i, c in ipairs(list) do
    stays[c] = not rule.newest or i > #list - rule.newest or rule.every ~= nil and c.step % rule.every == 0
    if c.value then measured[#measured + 1] = c end
  end
  table.sort(measured, function(a, b)
    if a.value == b.value then return a.step < b.step end  -- of equals, the first
    if direction == "max" then return a.value > b.value end
    return a.value < b.value
  end)
  for i = 1, direction and math.min(rule.best, #measured) or 0 do stays[measured[i]] = true end
  local gone, bare = {}, {}
  for i, c in ipairs(list) do
    if not stays[c] then gone[#gone + 1] = c
    elseif rule.state == "newest" and i < #list and not c.bare then bare[#bare + 1] = c end
  end
  return gone, bare
end

-- ---- the folder ------------------------------------------------------------------------------------

--- The name of a checkpoint on its way out: a run that is killed meanwhile leaves it, and the next removes it.
M.LEAVING = "^%.step%-%d+%.leaving$"

-- It goes by another name first, so that nobody takes for a checkpoint what is half gone.
local function remove(folder, step)
  local name = ("step-%06d"):format(step)
  local leaving = ("%s/.%s.leaving"):format(folder, name)
  local moved, why = os.rename(folder .. "/" .. name, leaving)
  if not moved then blame("keep: %s", why) end
  save.remove(leaving)
end

local STATE, SUMS = "state.msgpack", "checksums.xxh128"

-- A checkpoint becomes its weights: first the list of checksums forgets the state, then that goes.
local function strip(path)
  local file = assert(io.open(path .. "/" .. SUMS, "rb"))
  local text, lines = file:read "*a", {}
  file:close()
  for line in text:gmatch "[^\n]+" do
    if not line:find "^#" and line:sub(-#STATE - 2) ~= "  " .. STATE then lines[#lines + 1] = line .. "\n" end
  end
  local sums = table.concat(lines)
  save.write(path .. "/" .. SUMS, ("%s# complete: %d files, and these lines: %s\n"):format(sums, #lines, hash.text(sums)))
  save.remove(path .. "/" .. STATE)
end

--- The checkpoints of a folder, from the oldest on.
-- @string folder
-- @tab values step → value of the metric that is followed
-- @treturn table as `decide` wants it, each with its `path`
function M.list(folder, values)
  local list = {}
  for _, name in ipairs(host.list(folder) or {}) do
    local step = tonumber(name:match "^step%-(%d+)$")
    local path = folder .. "/" .. name
    if step then
      list[#list + 1] = { step = step, value = values[step], path = path, bare = not save.size(path .. "/" .. STATE) }
    end
  end
  table.sort(list, function(a, b) return a.step < b.step end)
  return list
end

--- Have a folder keep what its rule says. The newest checkpoint is on the disk, or nothing goes.
-- @string folder
-- @tab rule of `rule`
-- @tab values step → value
-- @string[opt] direction
function M.apply(folder, rule, values, direction)
  for _, name in ipairs(host.list(folder) or {}) do
    if name:find(M.LEAVING) then save.remove(folder .. "/" .. name) end
  end
  local gone, bare = M.decide(M.list(folder, values), rule, direction)
  for _, c in ipairs(gone) do remove(folder, c.step) end
  for _, c in ipairs(bare) do strip(c.path) end
end

return M
