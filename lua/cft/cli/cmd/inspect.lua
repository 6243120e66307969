--- look at a run's checkpoints, or at the tensors of a file
--
--   cftrun inspect RUN                   its checkpoints: steps, sizes, which is best, which are broken
--   cftrun inspect FILE|FOLDER [--all]   shape, dtype, range, mean, NaNs of each tensor
--
-- FILE is .safetensors, .gguf or a state.msgpack; FOLDER has weights as Hugging Face does, as each checkpoint has. Without
-- --all tensors of one name but for its numbers share a line. The exit code is 1 where something is broken or not finite.

local exit = require "cft.base.exit"
local format = require "cft.base.format"
local host = require "cft.host"
local save = require "cft.io.save"
local states = require "cft.io.state"
local statistics = require "cft.io.statistics"
local texts = require "cft.base.text"

local M = {}

local NAME = ...  -- of this module: its first comment is the help

local function say(line, ...) print(texts.printable(line:format(...))) end

-- ---- tensors ---------------------------------------------------------------------------------

-- Tensors with the same name but for its numbers, and the same shape and dtype, in one entry.
local function family(list)
  local groups, by_name = {}, {}
  for _, t in ipairs(list) do
    local name = t.name:gsub("%f[%w]%d+%f[%W]", "*")
    local key = table.concat({ name, t.dtype or "", table.concat(t.dims or {}, "x"), t.problem or "" }, "\0")
    local g = by_name[key]
    if not g then
      g = { name = t.name, family = name, dtype = t.dtype, dims = t.dims, problem = t.problem, count = 0, finite = 0,
            nans = 0, infinities = 0, sum = 0, least = math.huge, most = -math.huge }
      by_name[key], groups[#groups + 1] = g, g
    end
    g.count = g.count + 1
    if not t.problem then
      g.finite, g.nans, g.infinities = g.finite + t.finite, g.nans + t.nans, g.infinities + t.infinities
      g.sum = g.sum + t.mean * t.finite
      if t.finite > 0 then g.least, g.most = math.min(g.least, t.least), math.max(g.most, t.most) end
    end
  end
  for _, g in ipairs(groups) do
    g.mean = g.sum / math.max(g.finite, 1)
    if g.count > 1 then g.name = ("%s (%d)"):format(g.family, g.count) end
  end
  return groups
end

local function line_of(t)
  if t.problem then return "", t.problem end
  local range = t.finite > 0 and ("%11.4g %11.4g %11.4g"):format(t.least, t.mean, t.most) or (" "):rep(35)
  local bad = {}
  if t.nans > 0 then bad[1] = format.count(t.nans) .. " NaN" end
  if t.infinities > 0 then bad[#bad + 1] = format.count(t.infinities) .. " infinite" end
  return range, table.concat(bad, ", ")
end

-- @treturn boolean whether all is finite
local function show_tensors(path, all)
  local list, numbers, bad = {}, 0, 0
  statistics.each(path, function(t)
    list[#list + 1] = t
    if not t.problem then
      numbers, bad = numbers + t.finite + t.nans + t.infinities, bad + t.nans + t.infinities
    end
  end)
  local shown, wide = all and list or family(list), 0
  for _, t in ipairs(shown) do wide = math.max(wide, #t.name) end
  say("%s: %d tensors, %s numbers%s", path, #list, format.count(numbers),
      bad > 0 and (", %s of them not finite"):format(format.count(bad)) or "")
  say("  %-" .. wide .. "s  %-5s %-18s %11s %11s %11s", "name", "dtype", "shape", "least", "mean", "most")
  for _, t in ipairs(shown) do
    local range, note = line_of(t)
    say("  %-" .. wide .. "s  %-5s %-18s %s%s", t.name, t.dtype or "", "(" .. table.concat(t.dims or {}, ", ") .. ")", range,
        note ~= "" and "  " .. note or "")
  end
  return bad == 0
end

-- ---- a run -----------------------------------------------------------------------------------

local function bytes_below(folder)
  local bytes = 0
  for _, name in ipairs(host.list(folder) or {}) do
    local path = folder .. "/" .. name
    bytes = bytes + (host.kind(path) == "folder" and bytes_below(path) or save.size(path) or 0)
  end
  return bytes
end

local function checkpoints(run)
  local list = {}
  for _, name in ipairs(host.list(run) or {}) do
    if name:find "^step%-%d+$" then list[#list + 1] = name end
  end
  return list
end

-- Which step is the best of a run, as its latest checkpoint says.
local function best_of(run, names)
  for i = #names, 1, -1 do
    local state = states.read(("%s/%s/state.msgpack"):format(run, names[i]))
    if type(state) == "table" and type(state.best) == "table" then return state.best end
  end
end

-- @treturn boolean whether all of its checkpoints are whole
local function show_run(run, names)
  local whole, best = true, best_of(run, names)
  say("%s: %d checkpoints", run, #names)
  for _, name in ipairs(names) do
    local path = run .. "/" .. name
    local ok, why = save.verify(path)
    local state = ok and host.kind(path .. "/state.msgpack") and states.read(path .. "/state.msgpack") or nil
    local what = not ok and "broken: " .. why or not state and "whole, weights alone: nothing goes on from it"
      or ("whole, step %d of %d, %s tokens"):format(state.done, state.steps, format.count(state.tokens))
    local mark = best and tonumber(name:match "%d+") == best.step
      and (", best: %s %.4f"):format(tostring(best.metric), best.value) or ""
    say("  %s  %10s  %s%s", name, format.bytes(bytes_below(path)), what, mark)
    whole = whole and ok == true
  end
  return whole
end

--- The command.
function M.run(args)
  local path, all
  for _, a in ipairs(args) do
    if a == "--help" or a == "-h" then
      return print((host.source(NAME):match "^(.-)\n\n[^-]":gsub("%f[^\n%z]%-+ ?", "")))
    elseif a == "--all" then
      all = true
    elseif a:find "^%-" or path then
      exit.fail(exit.USAGE, "inspect: unknown argument '%s'; cftrun inspect RUN|FILE [--all]", a)
    else
      path = a
    end
  end
  if not path then exit.fail(exit.USAGE, "inspect: name a run's folder, or a file of tensors") end
  if not host.kind(path) then exit.fail(exit.USAGE, "inspect: there is no %s", path) end
  local names = host.kind(path) == "folder" and checkpoints(path) or {}
  local fine
  if #names > 0 then fine = show_run(path, names) else fine = show_tensors(path, all) end
  return fine and exit.OK or exit.FAILED
end

return M
