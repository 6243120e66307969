--- Who keeps what of the training state: the flat buffers of a model's groups, cut into parts of equal length, one a rank.
--
-- Rajbhandari et al. 2020 (arXiv 1910.02054), by stages. At 0 every rank has all of weights, gradients and optimizer state,
-- and sums gradients; at 1 a rank has its part of the optimizer state, makes the step of its part of the weights, and
-- gathers those of the others. Groups are padded so that a part has whole lines.

local blame = require "cft.base.blame"
local ranks = require "cft.ranks"
local tensor = require "cft.engine.tensor"

local M = {}

--- The last stage there is.
M.MOST = 1

local Zero = {}
Zero.__index = Zero

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
  return setmetatable({ groups = groups, stage = stage, here = ranks.here(), kept = {} }, Zero)
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

--- Sum the gradients over the ranks, once an optimizer step: then each rank has the sum of what it measures and steps.
function Zero:reduce()
  local comm = self.here.comm
  if not comm then return end
  for i, g in ipairs(self.groups) do
    if self.stage == 0 then
      comm:all_reduce(g.grad)
    else
      with_part(self, i, g.grad, function(part) comm:reduce_scatter(part, g.grad) end)
    end
  end
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
