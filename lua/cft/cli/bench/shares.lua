--- What each op reaches of what the machine can do in the same minute, kept in a file and compared with it.
--
-- An op of FLOPs is held against a burst of multiply-adds, one that moves bytes against a large copy. Both are measured
-- in turn, each as the best of a few runs, and the share is the median of the turns: what else the machine does
-- meanwhile slows both, and a turn that it stops one of them in does not count. What fits into caches is measured with
-- cold ones: it would depend on what they happen to hold.

local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local json = require "cft.base.json"
local rates = require "cft.engine.rates"
local save = require "cft.io.save"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"
local C = door.C

local M = {}

local FORMAT = "cftrun bench: shares, 2"  -- 1: small ops with whatever the caches held
local TURNS, RUNS = 5, 3  -- at least
local RUNS_SECONDS = 0.005  -- of a turn: ops of microseconds are run more often
local SMALL = 2 ^ 25  -- bytes that an op moves: fewer may lie in caches
local SMALL_SECONDS = 0.001  -- of a turn are timed of such an op, at least
local LOST = 0.9  -- a share below this part of the one kept has lost more than a tenth

-- ---- measuring -------------------------------------------------------------------------------

-- The best seconds of a few runs.
local function best_of(op)
  local best, sum, runs = math.huge, 0, 0
  repeat
    local seconds = step.once(op)
    best, sum, runs = math.min(best, seconds), sum + seconds, runs + 1
  until runs >= RUNS and sum >= RUNS_SECONDS
  return best, sum
end

--- The median seconds of a small op in runs of a millisecond and more altogether, each on cold caches.
-- @tab op as of `step.each_op` @func sweep fills the caches with something else
-- @treturn number @treturn number seconds of all runs
function M.cold(op, sweep)
  local list, sum = {}, 0
  repeat
    list[#list + 1] = step.once(op, sweep)
    sum = sum + list[#list]
  until #list >= RUNS and sum >= SMALL_SECONDS
  return step.median(list), sum
end

-- What an op is held against: `burst()` FLOP/s, `copy()` bytes/s read and written.
local function meters(dtype)
  local copying = rates.copying(tensor.device "cpu")
  return {
    burst = function() return rates.burst(dtype) end,
    copy = function() return copying.bytes / best_of(copying) end,
    sweep = copying.run,
    release = copying.release,
  }
end

--- Bytes/s read and written by a large copy, at its best.
function M.copy()
  local against = meters "f32"
  local best = 0
  for _ = 1, TURNS do best = math.max(best, against.copy()) end
  against.release()
  return best
end

local function share_of(op, against, o)
  step.once(op)
  local shares, seconds, spent = {}, {}, 0
  repeat
    local possible = against[op.flops and "burst" or "copy"]()
    local best, all
    if op.flops or op.bytes >= SMALL then best, all = best_of(op) else best, all = M.cold(op, against.sweep) end
    seconds[#seconds + 1] = best
    shares[#shares + 1] = (op.flops or op.bytes) / best / possible
    spent = spent + all
  until #shares >= TURNS and spent >= o.seconds
  return step.median(shares), step.median(seconds)
end

--- The share of each op of a step.
-- @tab o `seconds` to spend on each at least
-- @tab kept name → share; an op that seems to have lost against it is measured up to twice more, and its highest
-- share counts
-- @treturn table list of `name`, `share`, `of` ("burst" or "copy"), `seconds`
function M.measure(model, batch, o, kept)
  local against, list = meters(model.dtype), {}
  step.each_op(model, batch, function(op)
    local share, seconds = share_of(op, against, o)
    for _ = 1, 2 do
      if share >= LOST * (kept[op.name] or 0) then break end
      local again, took = share_of(op, against, o)
      if again > share then share, seconds = again, took end
    end
    list[#list + 1] = { name = op.name, share = share, of = op.flops and "burst" or "copy", seconds = seconds }
  end)
  against.release()
  return list
end

--- Compare shares with those kept.
-- @tab kept name → share
-- @tab now list of `name`, `share`
-- @treturn table `lost`: list of `name`, `kept`, `share`; `missing`: names that are kept and were not measured; `new`:
-- names that were measured and are not kept
function M.compare(kept, now)
  local result, seen = { lost = json.array(), missing = json.array(), new = json.array() }, {}
  for _, op in ipairs(now) do
    local before = kept[op.name]
    seen[op.name] = true
    if not before then
      table.insert(result.new, op.name)
    elseif op.share < LOST * before then
      table.insert(result.lost, { name = op.name, kept = before, share = op.share })
    end
  end
  for name in pairs(kept) do
    if not seen[name] then table.insert(result.missing, name) end
  end
  table.sort(result.missing)
  return result
end

-- ---- the file --------------------------------------------------------------------------------

local function processor()
  local file = io.open "/proc/cpuinfo"
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text:match "model name%s*: ([^\n]+)" or jit.arch
end

--- Where and of what these shares are: what must be equal in a file for it to be compared.
function M.setting(o)
  return { machine = processor(), threads = rates.threads(), isa = door.ffi.string(C.cft_cpu_isa()),
           model = o.model, tokens = o.tokens, lengths = table.concat(o.lengths, ","), learned = o.learned }
end

local SETTING = { machine = "string", threads = "number", isa = "string", model = "string", tokens = "number",
                  lengths = "string", learned = "number" }
local ORDER = { "format", "date", "command", "machine", "threads", "isa", "model", "tokens", "lengths", "learned",
                "shares" }

--- Write shares.
-- @string path
-- @tab setting of `setting`
-- @tab shares dtype → name → share
-- @string command that measured them
function M.write(path, setting, shares, command)
  local file = { format = FORMAT, date = os.date "!%Y-%m-%d", command = command, shares = shares }
  for name in pairs(SETTING) do file[name] = setting[name] end
  save.write(path, json.encode(file, { indent = 2, order = ORDER }) .. "\n")
end

-- What is wrong with a file's contents; nil where nothing is.
local function malformed(file)
  if type(file) ~= "table" or file.format ~= FORMAT then return ("its 'format' is not '%s'"):format(FORMAT) end
  for name, kind in pairs(SETTING) do
    if type(file[name]) ~= kind then return ("its '%s' is not a %s"):format(name, kind) end
  end
  if type(file.shares) ~= "table" then return "it has no 'shares'" end
  for dtype, shares in pairs(file.shares) do
    if type(shares) ~= "table" then return ("its shares in %s are no table"):format(dtype) end
    for name, share in pairs(shares) do
      if type(share) ~= "number" or share <= 0 then
        return ("its share of '%s' in %s is no positive number"):format(name, dtype)
      end
    end
  end
end

--- Read shares to compare with, or end with a message and code 2: a file of another form, or of another machine,
-- instruction set, shape or dtype.
-- @string path
-- @tab setting this run's
-- @tab dtypes list of this run's
-- @treturn table dtype → name → share
function M.read(path, setting, dtypes)
  local function refuse(...) exit.fail(exit.USAGE, "bench: --check %s: " .. (...), path, select(2, ...)) end
  local file, why = json.read(path)
  if file == nil then exit.fail(exit.USAGE, "bench: --check: %s", why) end
  why = malformed(file)
  if why then refuse("not shares of `cftrun bench --keep`: %s", why) end
  for _, name in ipairs(ORDER) do
    if SETTING[name] and file[name] ~= setting[name] then
      refuse("its %s is %s, here it is %s; keep a new one with --keep", name, tostring(file[name]),
             tostring(setting[name]))
    end
  end
  for _, dtype in ipairs(dtypes) do
    if not file.shares[dtype] then refuse("it has no shares in %s; keep a new one with --keep", dtype) end
  end
  return file.shares
end

return M
