--- Who keeps what of the training state: the flat buffers of a model's groups, cut into parts of equal length, one a rank.
--
-- Rajbhandari et al. 2020 (arXiv 1910.02054), by stages. At 0 every rank has all of weights, gradients and optimizer state,
-- and sums gradients; at 1 a rank has its part of the optimizer state, makes the step of its part of the weights, and
-- gathers those of the others; at 2 it keeps its part of the gradients alone: a block's gradient is whole only while
-- backward is at the block, and is summed into the parts after each micro-batch. Groups are padded so that a part has
-- whole lines.
--
-- At 0 and 1 a block's gradient is summed beside the rest of the last backward pass of an optimizer step.

local blame = require "cft.base.blame"
local kernels = require "cft.engine.kernels"
local ranks = require "cft.ranks"
local tensor = require "cft.engine.tensor"

local M = {}

--- The last stage there is.
M.MOST = 2

local Zero = {}
Zero.__index = Zero

-- Numbers of groups in the order in which backward completes them: blocks from the last to the first; then what is used
-- outside of blocks, which are the last group and the first.
local function in_order(groups)
  local list = {}
  for i = #groups - 1, 2, -1 do list[#list + 1] = i end
  if #groups > 1 then list[#list + 1] = #groups end
  if #groups > 0 then list[#list + 1] = 1 end
  return list
end

--- How the state of a model is kept.
-- @tab groups of `cft.nn.parameters`
-- @int stage up to MOST
-- @treturn Zero
function M.new(groups, stage)
  for _, g in ipairs(groups) do
    if g.flat:count() % ranks.here().size ~= 0 then
      blame("%d ranks: this model was made before they met; give the recipe its shape, and it is made when they have",
        ranks.here().size)
    end
  end
  local self = setmetatable({ groups = groups, stage = stage, here = ranks.here(), kept = {}, numbers = {}, next = 1 }, Zero)
  self.cuts_gradients = stage >= 2 and self.here.size > 1
  self.order = in_order(groups)
  for i, g in ipairs(groups) do
    self.numbers[g] = i
    if self.cuts_gradients then g.parts_of = self.here.size end
  end
  return self
end

-- The part of a group that is this rank's business, as elements of its flat buffers.
local function part_of(self, i)
  local n = self.groups[i].flat:count() / self.here.size
  return self.here.rank * n, n
end

--- The elements of a group whose optimizer step this rank makes.
-- @int i number of the group
-- @treturn int the first, from 0 @treturn int how many
function Zero:stepped(i)
  if self.stage == 0 then return 0, self.groups[i].flat:count() end
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

-- Sum a group's gradient over the ranks.
local function sum_group(self, i)
  local comm, g = self.here.comm, self.groups[i]
  if self.stage == 0 then return comm:all_reduce(g.grad) end
  with_part(self, i, g.grad, function(part)
    comm:reduce_scatter(part, g.grad)
    if self.cuts_gradients then kernels.axpby(g.own_grad, part, 1, 1) end
  end)
  if self.cuts_gradients then g:drop_grad() end
end

-- ---- a micro-batch -----------------------------------------------------------------------------

--- How many micro-batches the ranks go through together: as many as this one has, or as the one that has most.
-- @int own
-- @treturn int
function Zero:rounds(own)
  if not self.cuts_gradients then return own end
  local most = 0
  for _, n in ipairs(self.here:gather(own)) do most = math.max(most, n) end
  return most
end

-- The groups that are used outside of blocks.
local function around(self, fn)
  for k = math.max(#self.order - 1, 1), #self.order do fn(self.order[k]) end
end

--- Before a micro-batch: what the model's `options.watch` is to be.
-- @bool last of the optimizer step, for this rank
-- @treturn ?table nil where nothing is to be done before backward is over
function Zero:watch(last)
  if not self.here.comm then return nil end
  if self.cuts_gradients then
    around(self, function(i) self.groups[i]:make_grad(self.groups[i].grad_dtype) end)
    return { reached = function(group) group:make_grad(group.grad_dtype) end,
             passed = function(group) sum_group(self, self.numbers[group]) end }
  end
  return last and { reached = function() end, passed = function(group) self:complete(group) end } or nil
end

-- A group's gradient is complete, of the last micro-batch: it is summed beside what backward has left to do. All ranks
-- go by one order, so one that comes before its turn waits for `complete_rest`.
function Zero:complete(group)
  local i = self.numbers[group]
  if self.order[self.next] ~= i then return end
  self.next = self.next + 1
  self.here.comm:beside(function() sum_group(self, i) end)
end

--- After a micro-batch, or in place of one that this rank does not have and others do.
-- @bool[opt=false] absent
function Zero:passed(absent)
  if not self.cuts_gradients then return end
  if absent then
    for _, g in ipairs(self.groups) do g:make_grad(g.grad_dtype) end
    for k = 1, #self.order - 2 do sum_group(self, self.order[k]) end
  end
  around(self, function(i) sum_group(self, i) end)
end

-- ---- an optimizer step -------------------------------------------------------------------------

--- When all micro-batches are done, before the ranks exchange anything else: what was not summed in their course is begun.
function Zero:complete_rest()
  self.begun = true
  if not self.here.comm or self.cuts_gradients then return end
  while self.order[self.next] do self:complete(self.groups[self.order[self.next]]) end
  self.next = 1
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

--- Sum a number on the device over the ranks. @tparam Tensor x
function Zero:sum(x)
  if self.here.comm then self.here.comm:all_reduce(x) end
end

--- Each rank has made the step of its part of the weights: now all ranks have all of them.
function Zero:publish()
  if self.stage == 0 or not self.here.comm then return end
  for i, g in ipairs(self.groups) do self:whole(i, g.flat) end
end

--- Complete a buffer of a group of which each rank has its own part.
-- @int i number of the group
-- @tparam Tensor buffer as long as the group's weights
function Zero:whole(i, buffer)
  with_part(self, i, buffer, function(part) self.here.comm:all_gather(buffer, part) end)
end

--- Bring what all ranks keep of a group to the first; nothing where each has all of it.
-- @int i number of the group @string kind what it is
-- @tparam Tensor own this rank's part of it
function Zero:gather(i, kind, own)
  local n = self.groups[i].flat:count()
  if own:count() == n then return end
  local all = tensor.empty({ n }, { dtype = own:dtype(), device = own:device() }):keep()
  self.here.comm:all_gather(all, own)
  if self.here.first then self.kept[i .. kind] = all else all:release() end
end

--- What was gathered, until `forget`.
-- @treturn ?Tensor nil where nothing was
function Zero:gathered(i, kind) return self.kept[i .. kind] end

--- What was gathered is not needed any more.
function Zero:forget()
  for _, t in pairs(self.kept) do t:release() end
  self.kept = {}
end

--- Room for all that ranks keep of a group, of which this rank wants its part.
-- @int i number of the group
-- @tparam Tensor own this rank's part of it
-- @treturn Tensor `own` where that is all there is; else a new one, the caller's
-- @treturn int the first element of the part, from 0 @treturn int how many it has
function Zero:room(i, own)
  local n = self.groups[i].flat:count()
  if own:count() == n then return own, 0, n end
  return tensor.zeros({ n }, { dtype = own:dtype(), device = own:device() }):keep(), self:stepped(i)
end

return M
