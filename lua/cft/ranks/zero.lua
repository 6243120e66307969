--- Who keeps what of the training state: the flat buffers of a model's groups, cut into parts of equal length, one a rank.
--
-- Rajbhandari et al. 2020 (arXiv 1910.02054), by stages. At 0 every rank has all of weights, gradients and optimizer state,
-- and sums gradients; at 1 a rank has its part of the optimizer state, makes the step of its part of the weights, and
-- gathers those of the others; at 2 it keeps its part of the gradients alone: a block's gradient is whole only while
-- backward is at the block, and is summed into the parts in each micro-batch; at 3 it keeps its part of the weights alone as
-- well, and a block's are whole only while forward or backward is there: `cft.ranks.passage`. Groups are padded so that a
-- part has whole lines.
--
-- At 0 and 1 a block's gradient is summed beside the rest of the last backward pass of an optimizer step.

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local finally = require "cft.base.finally"
local passage = require "cft.ranks.passage"
local ranks = require "cft.ranks"
local tensor = require "cft.engine.tensor"

local M = {}

--- The last stage there is.
M.MOST = 3

local Zero = {}
Zero.__index = Zero

-- The part of a group that is this rank's business, as elements of its flat buffers.
local function part_of(self, i)
  local n = self.groups[i].length / self.here.size
  return self.here.rank * n, n
end

--- How the state of a model is kept.
-- @tab groups of `cft.nn.parameters`
-- @int stage up to MOST
-- @treturn Zero
function M.new(groups, stage)
  for _, g in ipairs(groups) do
    if g.length % ranks.here().size ~= 0 then
      blame("%d ranks: this model was made before they met; give the recipe its shape, and it is made when they have",
        ranks.here().size)
    end
    if g.own and stage < 3 then blame("zero = %d: this model is kept in parts, which zero = 3 is for", stage) end
  end
  local self = setmetatable({ groups = groups, stage = stage, here = ranks.here(), numbers = {}, next = #groups }, Zero)
  self.cuts_gradients, self.cuts_weights = stage >= 2 and self.here.size > 1, stage >= 3 and self.here.size > 1
  for i, g in ipairs(groups) do
    self.numbers[g] = i
    if self.cuts_gradients then g.parts_of = self.here.size end
    if self.cuts_weights and not g.own then g:cut(part_of(self, i)) end
  end
  if self.cuts_gradients then
    self.passage = passage.new(groups, self.here, function(i) return part_of(self, i) end)
  end
  return self
end

--- The elements of a group whose optimizer step this rank makes.
-- @int i number of the group
-- @treturn int the first, from 0 @treturn int how many
function Zero:stepped(i)
  if self.stage == 0 then return 0, self.groups[i].length end
  return part_of(self, i)
end

--- The elements of a group whose gradients this rank looks at for the global norm, so that all of them are looked at once.
-- @int i number of the group
-- @treturn int the first, from 0 @treturn int how many
function Zero:measured(i) return part_of(self, i) end

-- Call fn with a buffer of group i and this rank's part of it.
local function with_part(self, i, buffer, fn)
  local from, n = part_of(self, i)
  local part = tensor.narrow(buffer, 0, from, n)
  fn(part)
  part:release()
end

-- Sum a group's gradient over the ranks, where each has all of it.
local function sum_group(self, i)
  local comm, g = self.here.comm, self.groups[i]
  if self.stage == 0 then return comm:all_reduce(g.grad) end
  with_part(self, i, g.grad, function(part) comm:reduce_scatter(part, g.grad) end)
end

-- ---- a micro-batch -----------------------------------------------------------------------------

-- The most that any rank has of something.
local function most(self, own)
  local n = 0
  for _, count in ipairs(self.here:gather(own)) do n = math.max(n, count) end
  return n
end

--- How many micro-batches the ranks go through together: as many as this one has, or as the one that has most.
-- @int own
-- @treturn int
function Zero:rounds(own) return self.cuts_gradients and most(self, own) or own end

--- Before a micro-batch: what the model's `options.watch` is to be.
-- @bool last of the optimizer step, for this rank
-- @bool[opt=false] own whether its loss is one of the recipe's, which may go through the model more than once
-- @treturn ?table nil where nothing is to be done before backward is over
function Zero:watch(last, own)
  local p = self.passage
  if p then p:begin(own) end
  if not self.here.comm or own then return nil end
  if p then
    return { reached = function(g) p:reached(g) end, passed = function(g) p:passed(g) end, turn = function() p:turn() end }
  end
  local function nothing() end
  return last and { reached = nothing, turn = nothing, passed = function(group) self:complete(group) end } or nil
end

-- A group's gradient is complete, of the last micro-batch: it is summed beside what backward has left to do. All ranks
-- go by one order, from the last group to the first, so one that comes before its turn waits for `complete_rest`.
function Zero:complete(group)
  local i = self.numbers[group]
  if self.next ~= i then return end
  self.next = i - 1
  self.here.comm:beside(function() sum_group(self, i) end)
end

--- After a micro-batch, or in place of one that this rank does not have and others do.
-- @bool[opt=false] absent
function Zero:passed(absent)
  local p = self.passage
  if p and absent then p:absent() elseif p then p:over() end
end

--- Call `fn(i)` for 1 to `own`, each of which takes one way forward through the model without return. Ranks that have fewer go
-- with those that have more.
-- @int own @func fn
function Zero:forward(own, fn)
  local all = self.cuts_weights and most(self, own) or own
  for i = 1, own do fn(i) end
  for _ = own + 1, all do self.passage:forward() end
  if self.cuts_weights then self.passage:rest() end
end

--- The most bytes that are whole for a while in a micro-batch, of what this rank keeps in parts: two blocks, and the larger one
-- of what stands around them.
-- @treturn int
function Zero:passing()
  if not self.cuts_gradients then return 0 end
  local n, first, block = #self.groups, self.groups[1], 0
  for i = 2, n - 1 do block = math.max(block, self.groups[i].length) end
  local elements = 2 * block + math.max(first.length, self.groups[n].length)
  return elements * (door.dtype_bytes[first.grad_dtype] + (self.cuts_weights and door.dtype_bytes[first.own:dtype()] or 0))
end

-- ---- an optimizer step -------------------------------------------------------------------------

--- When all micro-batches are done, before the ranks exchange anything else: what was not summed in their course is begun.
function Zero:complete_rest()
  self.begun = true
  if not self.here.comm or self.cuts_gradients then return end
  while self.next > 0 do self:complete(self.groups[self.next]) end
  self.next = #self.groups
end

--- When the sums are wanted: then each rank has that of the gradients which it measures and steps.
function Zero:reduce()
  if self.cuts_gradients and not self.begun then
    blame("zero = %d is for the steps of cft.train; a loop of one's own keeps all gradients", self.stage)
  end
  if not self.begun then self:complete_rest() end
  self.begun = false
  if self.here.comm then self.here.comm:wait() end
end

--- Some of a group's gradient, which this rank has.
-- @int i number of the group @int from the first element, from 0 @int n how many
-- @treturn Tensor a view
function Zero:gradient(i, from, n)
  local g = self.groups[i]
  if not self.cuts_gradients then return tensor.narrow(g.grad, 0, from, n) end
  return tensor.narrow(g.own_grad, 0, from - (part_of(self, i)), n)
end

--- Some of a group's weights, which this rank steps.
-- @int i number of the group @int from the first element, from 0 @int n how many
-- @treturn Tensor a view
function Zero:weights(i, from, n)
  local g = self.groups[i]
  if not self.cuts_weights then return tensor.narrow(g.flat, 0, from, n) end
  return tensor.narrow(g.own, 0, from - g.from, n)
end

--- Sum a number on the device over the ranks. @tparam Tensor x
function Zero:sum(x)
  if self.here.comm then self.here.comm:all_reduce(x) end
end

--- Each rank has made the step of its part of the weights: now all ranks have all of them.
function Zero:publish()
  if self.stage == 0 or not self.here.comm or self.cuts_weights then return end
  for i, g in ipairs(self.groups) do self:whole(i, g.flat) end
end

--- Complete a buffer of a group of which each rank has its own part.
-- @int i number of the group
-- @tparam Tensor buffer as long as the group's weights
function Zero:whole(i, buffer)
  with_part(self, i, buffer, function(part) self.here.comm:all_gather(buffer, part) end)
end

-- ---- a save ------------------------------------------------------------------------------------

-- Elements of a buffer of group i, of which each rank has its own part, on all ranks.
local function collect(self, i, own, from, n)
  local each = self.groups[i].length / self.here.size
  local all = tensor.empty({ n }, { dtype = own:dtype(), device = own:device() }):keep()
  for r = math.floor(from / each), math.floor((from + n - 1) / each) do
    local first = math.max(from, r * each)
    local count = math.min(from + n, (r + 1) * each) - first
    local to = tensor.narrow(all, 0, first - from, count)
    if r == self.here.rank then
      local mine = tensor.narrow(own, 0, first - r * each, count)
      to:copy_(mine)
      mine:release()
    end
    self.here.comm:broadcast(to, r)
    to:release()
  end
  return all
end

--- Rank 0 calls `fn`, and may `fetch` in it; the others give what it asks for until that is over. So what is kept in parts is
-- written without being in memory as a whole anywhere.
-- @func own_of group's number, kind → this rank's part of that buffer
-- @func fn
function Zero:lend(own_of, fn)
  local here = self.here
  self.own_of = own_of
  if here.first then return finally(function() here:of_first {} end, fn) end
  here:at "saving, with rank 0"
  while true do
    local asked = here:of_first()
    if not asked.group then return end
    collect(self, asked.group, own_of(asked.group, asked.kind), asked.from, asked.n):release()
  end
end

--- Some of what ranks keep of a group in parts; on rank 0, in `lend`.
-- @int i number of the group @param kind which buffer @int from the first element, from 0 @int n how many
-- @treturn Tensor the caller's
function Zero:fetch(i, kind, from, n)
  self.here:of_first { group = i, kind = kind, from = from, n = n }
  return collect(self, i, self.own_of(i, kind), from, n)
end

--- Room for all that ranks keep of a group, of which this rank wants its part.
-- @int i number of the group
-- @tparam Tensor own this rank's part of it
-- @treturn Tensor `own` where that is all there is; else a new one, the caller's
-- @treturn int the first element of the part, from 0 @treturn int how many it has
function Zero:room(i, own)
  local n = self.groups[i].length
  if own:count() == n then return own, 0, n end
  return tensor.zeros({ n }, { dtype = own:dtype(), device = own:device() }):keep(), self:stepped(i)
end

return M
