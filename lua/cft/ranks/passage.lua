--- What of a model is whole while a micro-batch passes through it, of what ranks keep in parts.
--
-- A micro-batch goes forward through groups 1 to n (embedding, blocks, what stands behind them) and back from n to 1. Weights
-- in parts (`zero = 3`) are gathered while the way is at the group before, in both directions, and let go behind it.
-- Gradients in parts (from `zero = 2` on) are made when the way back comes to a group, and each rank's part of their sum
-- is taken while it is at the next one. All of it is queued beside the compute, and waited for where the next group begins.
--
-- Collectives are queued in one order on all ranks, and a rank that has no micro-batch where others have one queues the same.

local autograd = require "cft.engine.autograd"
local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"

local M = {}

local Passage = {}
Passage.__index = Passage

--- @tab groups of `cft.nn.parameters`, whose `keeper` it becomes; those that are `cut` are gathered
-- @tparam Ranks here
-- @func part of group i → the first element of this rank's part, and how many it has
-- @treturn Passage
function M.new(groups, here, part)
  local self = setmetatable({ groups = groups, comm = here.comm, part = part, numbers = {},
                              whole = {}, coming = {}, left = {}, summing = {}, rooms = {}, open = {} }, Passage)
  for i, g in ipairs(groups) do
    self.numbers[g], g.keeper = i, self
  end
  return self
end

-- ---- weights -----------------------------------------------------------------------------------

-- Memory for a group's whole weights: what another block has left, or new.
local function room_for(self, g)
  local list = self.rooms[g.length]
  if list and list[1] then return table.remove(list) end
  return tensor.as_class("param", tensor.empty, { g.length }, { dtype = g.own:dtype(), device = g.own:device() }):keep()
end

-- Begin to gather group i.
local function gather(self, i)
  local g = self.groups[i]
  if not g or not g.own or self.whole[i] then return end
  g:bind(room_for(self, g))
  self.comm:beside(function() self.comm:all_gather(g.flat, g.own) end)
  self.whole[i] = true
  self.coming[i] = true
end

local function let_go(self, i)
  if not self.whole[i] then return end
  local g = self.groups[i]
  local room = i > 1 and i < #self.groups and g.flat:detach():keep()
  g:unbind()
  if room then
    self.rooms[g.length] = self.rooms[g.length] or {}
    table.insert(self.rooms[g.length], room)
  end
  self.whole[i] = nil
end

-- All that is under way has arrived: weights are there, and the sums of gradients are added to this rank's.
local function arrive(self)
  if not next(self.coming) and not self.summing[1] then return end
  self.comm:wait()
  self.coming = {}
  for _, i in ipairs(self.summing) do
    local g, from, n = self.groups[i], self.part(i)
    local part = tensor.narrow(g.grad, 0, from, n)
    kernels.axpby(g.own_grad, part, 1, 1)
    part:release()
    g:drop_grad()
  end
  self.summing = {}
end

-- Group i is wanted now.
local function need(self, i)
  gather(self, i)
  if self.coming[i] then arrive(self) end
end

--- Nothing is whole any more.
function Passage:rest()
  if next(self.coming) then arrive(self) end
  for i in pairs(self.groups) do let_go(self, i) end
  for _, list in pairs(self.rooms) do
    for _, room in ipairs(list) do room:release() end
  end
  self.rooms, self.open = {}, {}
end

-- ---- the way of a micro-batch ------------------------------------------------------------------

local function goes_back(self) return self.under_way and autograd.recording() end

--- Forward comes to a group. Outside of `begin` and `over` it is a way of its own, without return.
function Passage:enter(group)
  local i = self.numbers[group]
  if i == 1 and not self.under_way then self:rest() end
  need(self, i)
  gather(self, i + 1)
  self.open[i] = true
end

--- Forward has left a group; with the last of the blocks the way back begins.
function Passage:leave(group)
  local i = self.numbers[group]
  self.open[i] = nil
  if not (goes_back(self) and i == #self.groups - 1) then let_go(self, i) end
end

local function make_grad(self, i)
  local g = self.groups[i]
  if not g.grad then g:make_grad(g.grad_dtype) end
end

--- Before a micro-batch. @bool[opt=false] unwatched nobody says where its way back is: all gradients are made
function Passage:begin(unwatched)
  self.under_way = true
  for i in ipairs(unwatched and self.groups or {}) do make_grad(self, i) end
end

--- Forward is over: what stands outside of the blocks and was not left may get its gradient from now on.
function Passage:turn()
  for _, i in ipairs(goes_back(self) and { 1, #self.groups } or {}) do
    if self.open[i] then make_grad(self, i) end
  end
end

-- Begin to sum what was passed.
local function sum_left(self)
  for _, i in ipairs(self.left) do
    local g, from, n = self.groups[i], self.part(i)
    local part = tensor.narrow(g.grad, 0, from, n):keep()
    self.comm:beside(function() self.comm:reduce_scatter(part, g.grad) end)
    part:release()
    table.insert(self.summing, i)
  end
  self.left = {}
end

--- The way back comes to a group. The first one's weights are needed no more, unless forward has never left it.
function Passage:reached(group)
  local i = self.numbers[group]
  if i > 1 then need(self, i) end
  arrive(self)
  sum_left(self)
  if i > 2 then gather(self, i - 1) end
  make_grad(self, i)
end

--- The way back has left a group: its gradient is complete.
function Passage:passed(group)
  local i = self.numbers[group]
  table.insert(self.left, i)
  let_go(self, i)
end

--- After a micro-batch, when all ways through the model are back.
function Passage:over()
  arrive(self)
  local known = {}
  for _, i in ipairs(self.left) do known[i] = true end
  for i = #self.groups, 1, -1 do
    if self.groups[i].grad and not known[i] then table.insert(self.left, i) end  -- a way back that nobody watched
  end
  sum_left(self)
  arrive(self)
  self:rest()
  self.under_way = false
end

--- The way forward of a micro-batch that this rank does not have and others do.
function Passage:forward()
  for i, g in ipairs(self.groups) do
    self:enter(g)
    if i < #self.groups then self:leave(g) end
  end
end

--- Its way forward and back.
function Passage:absent()
  self:begin()
  autograd.grad(function()
    self:forward()
    self:turn()
  end)
  self:passed(self.groups[#self.groups])
  for i = #self.groups - 1, 1, -1 do
    self:reached(self.groups[i])
    self:passed(self.groups[i])
  end
  self:over()
end

return M
