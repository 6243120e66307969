--- The ranks of a run: this process as one of several that train one model together, or alone.
--
-- `ranks.here()` is the same for all that ask in a process: alone until `join`. Whoever asks others, or tells them, calls the
-- methods below; a process that is alone is answered at once, so that a step reads the same for any number of ranks.
-- All ranks make the same calls in the same order.
-- @module cft.ranks
-- @usage local here = require "cft.ranks".here()
-- print(here.rank, here.size, here:sum(1))   --> 0   1   1

local comm = require "cft.engine.comm"
local exit = require "cft.base.exit"
local heartbeat = require "cft.ranks.heartbeat"
local host = require "cft.host"
local tensor = require "cft.engine.tensor"
local torchrun = require "cft.ranks.torchrun"
local variables = require "cft.ranks.variables"
local worker = require "cft.worker"
local buffer = require "string.buffer"

local M = {}

--- `rank`, from 0; `size`, how many there are; `first`, whether this one is rank 0, which prints and writes. Of several
-- ranks: `places`, of each, by its number from 1, `host`, `pid` and `processors`; `local_rank`, the number of this one among
-- those of its host; `threads` of this one's CPU kernels; `comm`, the communicator of the device, and `cpu`, that of the
-- processes; `stall`, seconds that others may wait for a rank that does nothing new.
-- @type Ranks
local Ranks = {}
Ranks.__index = Ranks

local alone = setmetatable({ rank = 0, size = 1, first = true }, Ranks)
local here = alone

--- The ranks that this process is one of.
-- @treturn Ranks
function M.here() return here end

--- How many ranks there are to be, by the variables of whoever has started this process.
-- @treturn int 1 where nobody has started several
function M.expected()
  local found = variables.read()
  return found and found.size or 1
end

--- The number of this one, as they say it.
-- @treturn int from 0
function M.number()
  local ok, found = pcall(variables.read)
  return ok and found and found.rank or 0
end

local FOR_EVER = 1e9  -- seconds: the heartbeat ends who waits in vain

-- ---- joining -----------------------------------------------------------------------------------

-- The processors that this process may run on, as the kernel writes them: "0-3,8".
local function processors()
  local file = io.open "/proc/self/status"
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text:match "Cpus_allowed_list:%s*(%S+)" or ""
end

local function hostname()
  local file = io.open "/proc/sys/kernel/hostname"
  local name = file and file:read "*l"
  if file then file:close() end
  return name or "unknown"
end

-- Processors are shared by the ranks of a host that may run on the same ones; a launcher that has bound each to its own has
-- shared them already.
local function share_processors(self)
  local mine, sharing = self.places[self.rank + 1], 0
  for _, p in ipairs(self.places) do
    if p.host == mine.host and p.processors == mine.processors then sharing = sharing + 1 end
  end
  if not os.getenv "OMP_NUM_THREADS" then tensor.set_threads(math.max(1, math.floor(worker.cores() / sharing))) end
  self.threads = tensor.threads()
end

-- The number of this one among the ranks of its host, where the launcher has not said it.
local function local_rank(self)
  local host, n = self.places[self.rank + 1].host, 0
  for r = 1, self.rank do n = n + (self.places[r].host == host and 1 or 0) end
  return n
end

-- The others hear of each collective, and seconds in them are counted.
local function watch(self, opened)
  local came
  self.waited, self.asked = 0, { time = host.now(), waited = 0 }
  opened.before = function(op, how)
    came = host.now()
    self.heartbeat:comes_to(op, how)
  end
  opened.after = function(op, how)
    if how == "beside" then return end
    self.waited = self.waited + host.now() - came
    self.heartbeat:comes_out(op)
  end
  opened.failed = function() self.heartbeat:await_loss() end
end

--- Become one of the ranks that mpirun, srun or torchrun has started; nothing where there is one. Ranks other than the first print
-- nothing on standard output from here on. Exit code 3 where MPI or Gloo is missing, and what to install.
-- @number[opt=600] stall seconds that others may wait for a rank that does nothing new, before all end
-- @treturn Ranks as `here`
function M.join(stall)
  if here ~= alone then return here end
  local found = variables.read()
  if not found or found.size == 1 then return here end
  if found.rank == 0 and variables.without_plugin(found) then
    io.stderr:write("cftrun: srun has started these ranks without PMIx or PMI-2; if MPI does not find them, say srun "
      .. "--mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH)\n")
  end
  local how = { id = ("\0"):rep(128), rank = found.rank, size = found.size, device = "cpu", timeout = FOR_EVER }
  local opened = found.launcher == "torchrun" and torchrun.open(found, how) or comm.open(how)
  local self = setmetatable({ rank = found.rank, size = found.size, first = found.rank == 0, launcher = found.launcher,
                              cpu = opened, comm = opened, stall = stall or 600 }, Ranks)
  self.heartbeat = heartbeat.start(self.rank, self.size, self.stall, function(text) return opened:gather_texts(text)[1] end)
  watch(self, opened)
  if not self.first then host.mute() end
  self.places = self:gather { host = hostname(), pid = host.pid(), processors = processors() }
  share_processors(self)
  self.local_rank = found.local_rank or local_rank(self)
  here = self
  return self
end

--- Leave them, when all have come so far.
function M.leave()
  if here == alone then return end
  local left = here
  here = alone
  left.heartbeat:comes_to "the end"
  local closed, why = true, nil
  if left.comm ~= left.cpu then closed, why = pcall(left.comm.close, left.comm) end
  if not closed then left.heartbeat:await_loss() end
  if closed then left.cpu:close() else left.cpu:abort() end
  left.heartbeat:leave(why)
end

--- Leave them at once, whatever they do, with an error: they end too. That a collective of GPUs has failed is an error of
-- whoever reads what it was to write, so that the heartbeat's word of who is gone is waited for here.
-- @string why
function M.abandon(why)
  if here == alone then return end
  if here.agreed then return M.leave() end
  local left = here
  here = alone
  local own = left.comm ~= left.cpu and left.comm
  if own and own:has_failed() then left.heartbeat:await_loss() end
  left.cpu:abort()
  left.heartbeat:leave(why)
  if own then own:abort() end  -- last: NCCL may wait here all the same
end

-- ---- asking and telling ------------------------------------------------------------------------

--- Say what this rank does from now on, for the others to read if it is lost.
-- @string doing such as "forward and backward"
-- @tab[opt] o `step` of the optimizer, from 1; `saves`: it waits for a disk, as long as that takes
function Ranks:at(doing, o)
  if self.heartbeat then self.heartbeat:at(doing, o) end
end

--- Call a hook of the recipe's, whose place the others read where it does not come back.
-- @string name such as "after_step" @func fn @param ... its arguments
-- @return what it returns
function Ranks:in_hook(name, fn, ...)
  if self.heartbeat then
    local info = debug.getinfo(fn, "S")
    self.heartbeat:at(name, { where = ("%s:%d"):format(info.short_src, info.linedefined) })
  end
  return fn(...)
end

--- Seconds since this was last asked that this rank did not spend in collectives: what it has computed, read or written.
-- @treturn ?number nil of one that is alone
function Ranks:own_seconds()
  if self.size == 1 then return nil end
  local now, before = host.now(), self.asked
  self.asked = { time = now, waited = self.waited }
  return now - before.time - (self.waited - before.waited)
end

--- What each rank has: plain values, or tables of such.
-- @param value
-- @treturn table by rank, from 1
function Ranks:gather(value)
  if self.size == 1 then return { value } end
  local values = {}
  for r, text in ipairs(self.cpu:gather_texts(buffer.encode(value))) do values[r] = buffer.decode(text) end
  return values
end

--- What rank 0 has.
-- @param value that of this rank, which is not looked at but on rank 0
-- @return the same on all ranks
function Ranks:of_first(value)
  if self.size == 1 then return value end
  return self:gather(self.first and { value } or {})[1][1]
end

--- Is it so on any rank?
function Ranks:any(condition)
  if self.size == 1 then return condition end
  for _, is in ipairs(self:gather(condition and true or false)) do
    if is then return true end
  end
  return false
end

--- This rank's share of a list: one in so many as there are ranks.
-- @tab list
-- @treturn table
-- @usage require "cft.ranks".here():share { "a", "b" }   --> { "a", "b" }
function Ranks:share(list)
  local own = {}
  for k = self.rank + 1, #list, self.size do own[#own + 1] = list[k] end
  return own
end

--- What all ranks made of their shares, in the order of the list that they shared.
-- @tab made as many values as this rank's share has
-- @treturn table
-- @usage require "cft.ranks".here():joined { 1, 2 }   --> { 1, 2 }
function Ranks:joined(made)
  local all = {}
  for r, part in ipairs(self:gather(made)) do
    for k, value in ipairs(part) do all[(k - 1) * self.size + r] = value end
  end
  return all
end

--- End the run with an error that all ranks have found together, each by itself: rank 0 says it.
-- @int code of `cft.base.exit` @string message a format @param ... what it wants
function Ranks:refuse(code, message, ...)
  self.agreed = true
  if self.first then exit.fail(code, message, ...) end
  exit.leave(code)
end

--- The sum of a number over the ranks, in their order: the same bits on all.
function Ranks:sum(number)
  if self.size == 1 then return number end
  local sum = 0
  for _, n in ipairs(self:gather(number)) do sum = sum + n end
  return sum
end

return M
