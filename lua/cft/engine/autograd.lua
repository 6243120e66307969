--- The tape: record, backward, release, recompute.
--
-- An op is a rule of two functions (see `cft.engine.rules`). Calling it makes a node that knows its
-- inputs; `loss:backward()` goes through the nodes from the last that was made to the first. A node
-- owns what its forward made: when its backward has run, all of it is released, for later nodes are
-- done already and earlier ones never look forward. That is the whole memory policy of a step.

local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"
local blame = require "cft.base.blame"
local finally = require "cft.base.finally"

local M = {}
local Tensor = tensor.Tensor

local recording = true
local clock = 0  -- orders nodes; a node is later than all of its inputs

--- Whether ops are being recorded now.
-- @usage cft.autograd.recording(), cft.no_grad(cft.autograd.recording)   --> true false
function M.recording() return recording end

local function with_recording(on, fn, ...)
  local before = recording
  recording = on
  return finally(function() recording = before end, fn, ...)
end

--- Run `fn` without recording: nothing is kept for a backward pass.
-- @usage local y = cft.no_grad(model.logits, model, { 1, 2, 3 })
-- y.node == nil, y:dim(0)   --> true 3
function M.no_grad(fn, ...) return with_recording(false, fn, ...) end

--- Run `fn` recording, inside of a no_grad perhaps.
-- @usage cft.no_grad(function() return cft.autograd.grad(cft.autograd.recording) end)   --> true
function M.grad(fn, ...) return with_recording(true, fn, ...) end

-- ---- gradients of a walk ---------------------------------------------------------------------

-- The gradient of x so far: a parameter's own, or this walk's.
local function gradient_of(x, walk)
  if x.node then return walk[x] end
  return x.grad
end

local function set_gradient(x, g, walk)
  if x.node then
    walk[x] = g
  else
    g:keep()
    x.grad = g
  end
end

-- The gradient of x so far, safe to add to: one whose memory another gradient shares is copied.
local function own_gradient(x, walk)
  local g = gradient_of(x, walk)
  if g and g.shared then
    local copy = tensor.cast(g, g:dtype())
    g:release()
    set_gradient(x, copy, walk)
    return copy
  end
  return g
end

local function accumulate(x, g, walk)
  local so_far = own_gradient(x, walk)
  if so_far then
    kernels.axpby(so_far, g, 1, 1)
    g:release()
  else
    set_gradient(x, g, walk)
  end
end

-- Rules may return their own input, one tensor twice, or views of either: each gradient gets a
-- handle of its own, and is marked where adding to it in place would change another.
local function separate(returned, n, incoming)
  for i = 1, n do
    local g = returned[i]
    if g then
      for _, d in pairs(incoming) do
        if g == d then g = g:detach() end
        if g:shares(d) then g.shared = true end
      end
      for j = 1, i - 1 do
        local h = returned[j]
        if h then
          if g == h then g = g:detach() end
          if g:shares(h) then g.shared, h.shared = true, true end
        end
      end
      returned[i] = g
    end
  end
end

-- ---- recording -------------------------------------------------------------------------------

local Context = {}
Context.__index = Context
local NONE = {}  -- the inputs of what is not recorded

--- Keep tensors (or anything) for the backward pass.
function Context:save(...)
  if not self.recorded then return end
  self.kept, self.count = { ... }, select("#", ...)
  for i = 1, self.count do
    local t = self.kept[i]
    if tensor.is(t) then t.saved = true end
  end
end

--- What the forward pass saved, in order.
function Context:saved() return unpack(self.kept, 1, self.count) end

--- Whether the gradient of argument `i` is wanted.
function Context:needs(i)
  local x = self.inputs[i]
  return tensor.is(x) and x.requires_grad
end

--- What C does with the gradient of argument `i`, as `kernels` take it: nil if it is not wanted, the
-- gradient so far (C adds to it), or true (C makes one, which backward returns in its place). A tensor that
-- is several arguments has its gradient so far handed out once: C may fill several at the same time.
-- @usage local kernels = require "cft.engine.kernels"
-- local pick = cft.autograd.op("pick", {
--   forward = function(ctx, rows, ids) ctx:save(ids, rows:dim(0)) return kernels.embedding_fwd(rows, ids) end,
--   backward = function(ctx, dy) return kernels.embedding_bwd(ctx:grad(1), dy, ctx:saved()) end,
-- })
-- local rows = cft.ones({ 3, 1 }, { requires_grad = true })
-- pick(rows, cft.tensor({ 2, 2 }, { dtype = "i32" })):sum():backward()
-- rows.grad   --> (3, 1) f32 on cpu {{0},  {0},  {2}}
function Context:grad(i)
  if not self:needs(i) then return nil end
  local x = self.inputs[i]
  if self.handed[x] then return true end
  self.handed[x] = true
  return own_gradient(x, self.walk) or true
end

--- Make an op of a rule.
-- @string name for messages
-- @tab rule `forward(ctx, ...)` returns the outputs; `backward(ctx, ...)` gets their gradients and
-- returns those of the arguments, in order; nil for one that C has added to what `ctx:grad(i)` gave
-- @treturn function the op
-- @usage local ops = cft.ops
-- local twice = cft.autograd.op("twice", {
--   forward = function(ctx, x, w) ctx:save(x, w) return ops.mul(x, w) end,
--   backward = function(ctx, dy)
--     local x, w = ctx:saved()
--     return ctx:needs(1) and dy * w or nil, ctx:needs(2) and dy * x or nil
--   end,
-- })
-- local x = cft.ones({ 2 }, { requires_grad = true })
-- twice(x, cft.tensor { 3, 4 }):sum():backward()
-- x.grad   --> (2) f32 on cpu {3, 4}
function M.op(name, rule)
  local forward = rule.forward
  return function(...)
    local n = select("#", ...)
    local needed = false
    if recording then
      for i = 1, n do
        local x = select(i, ...)
        if tensor.is(x) and x.requires_grad then needed = true break end
      end
    end
    if not recording then  -- as generation calls hundreds a token: nothing is noted of it
      return forward(setmetatable({ inputs = NONE, recorded = false }, Context), ...)
    end
    local ctx = setmetatable({ inputs = { ... } }, Context)
    ctx.recorded = needed
    local mark = tensor.scope_mark()
    local results = { forward(ctx, ...) }
    if needed then
      clock = clock + 1
      local node = { name = name, rule = rule, ctx = ctx, inputs = ctx.inputs, inputs_n = n,
                     outputs = results, time = clock, made = tensor.scope_since(mark) }
      for i, y in ipairs(results) do
        if not (rule.differentiable and not rule.differentiable[i]) then
          y.requires_grad, y.node, y.output = true, node, i
        end
      end
    end
    return unpack(results)
  end
end

-- ---- backward --------------------------------------------------------------------------------

-- Nodes that `root` depends on, latest first.
local function collect(root)
  local nodes, seen, stack = {}, { [root] = true }, { root }
  while #stack > 0 do
    local node = table.remove(stack)
    nodes[#nodes + 1] = node
    for i = 1, node.inputs_n do
      local x = node.inputs[i]
      local below = tensor.is(x) and x.node
      if below and not seen[below] then
        seen[below] = true
        stack[#stack + 1] = below
      end
    end
  end
  table.sort(nodes, function(a, b) return a.time > b.time end)
  return nodes
end

local function release_node(node, walk, root)
  for _, y in ipairs(node.outputs) do
    local g = walk[y]
    if g and g ~= y then g:release "after its gradient was used" end
    walk[y] = nil
    y.node = nil
  end
  for _, t in ipairs(node.made) do
    if not t.kept and t ~= root then t:release "after its backward pass" end
  end
  node.ctx, node.inputs, node.outputs, node.made, node.done = nil, {}, {}, {}, true
  node.inputs_n = 0
end

local function step_back(node, walk, root)
  local ctx, grads, any = node.ctx, {}, false
  for i, y in ipairs(node.outputs) do
    grads[i] = walk[y]
    any = any or grads[i] ~= nil
  end
  if any then
    ctx.walk, ctx.handed = walk, {}
    local mark = tensor.scope_mark()
    local returned = { node.rule.backward(ctx, unpack(grads, 1, #node.outputs)) }
    separate(returned, node.inputs_n, grads)
    for i = 1, node.inputs_n do
      if returned[i] and ctx:needs(i) then accumulate(node.inputs[i], returned[i], walk) end
    end
    -- What backward made and left as nobody's gradient was its scratch.
    local in_use = {}
    for _, g in pairs(walk) do in_use[g] = true end
    for _, t in ipairs(tensor.scope_since(mark)) do
      if not in_use[t] and not t.kept then t:release "after its backward pass" end
    end
  end
  release_node(node, walk, root)
end

-- Who wants to know when the way back passes a place of the forward pass: { time, fn, argument }, in order.
local returns = {}

-- Tell those whose place lies behind a node of that time.
local function tell(list, time)
  while list and list[1] and time <= list[#list].time do
    local r = table.remove(list)
    r.fn(r.argument)
  end
end

local function walk_back(roots, seeds, list)
  local start = { inputs = roots, inputs_n = #roots, time = math.huge }
  local walk = {}
  for i, y in ipairs(roots) do walk[y] = seeds[i] end
  for _, node in ipairs(collect(start)) do
    if node ~= start then
      tell(list, node.time)
      step_back(node, walk, roots[1])
    end
  end
  for i = list and #list or 0, 1, -1 do list[i].fn(list[i].argument) end
end

--- Call `fn` in the next backward pass, when it comes back to this place of what is recorded: all that is made from here on
-- has passed its gradients on then, and nothing that was made before. Nothing where nothing is recorded.
-- @func fn
-- @param argument what it gets
-- @usage local w = cft.ones { 2 }
-- w.requires_grad = true
-- cft.autograd.on_return(print, "all is done")
-- (w * 2):sum():backward()                 --> all is done
function M.on_return(fn, argument)
  if recording then returns[#returns + 1] = { time = clock, fn = fn, argument = argument } end
end

--- Gradients of this tensor with respect to every parameter below it, added to their `.grad`.
-- @tparam[opt] Tensor seed the gradient of this tensor itself; without it, this must be one number
-- @usage local x = cft.tensor({ 1, 2, 3 }, { requires_grad = true })
-- x:square():sum():backward()
-- x.grad   --> (3) f32 on cpu {2, 4, 6}
function Tensor:backward(seed)
  if not self.node then
    blame(self.went_back and "backward: was called before, and what it needs is released; make the tensor anew"
          or self.requires_grad and "backward: this tensor is an input itself"
          or "backward: nothing was recorded; was this made under no_grad?")
  end
  local own = not seed
  if own then
    if self:count() ~= 1 then
      blame "backward: a tensor of more than one number needs a seed of its shape"
    end
    seed = tensor.ones(self:shape(), { dtype = self:dtype(), device = self:device() })
    seed.is_one = true  -- a loss that has its gradient ready need not be multiplied
  end
  local list = returns
  returns = {}
  M.no_grad(walk_back, { self }, { seed }, list)
  self.went_back = true
end

-- ---- recomputation ---------------------------------------------------------------------------

local checkpoint_rule = {
  forward = function(ctx, fn, ...)
    local n = select("#", ...)
    ctx:save(fn, ...)
    ctx.arguments = n
    local y = M.no_grad(function(...)
      return tensor.scope(function(...)
        local r = fn(...)
        return r:keep()
      end, ...)
    end, ...)
    y.kept = nil
    return y
  end,
  backward = function(ctx, dy)
    local n = ctx.arguments
    local given = { ctx:saved() }
    local fn = given[1]
    -- The same arguments as leaves of a tape of their own.
    local leaves = {}
    for i = 1, n do
      local x = given[i + 1]
      if tensor.is(x) and x.requires_grad and x.node then
        leaves[i] = x:detach()
        leaves[i].requires_grad = true
      else
        leaves[i] = x
      end
    end
    M.grad(function()
      local y = fn(unpack(leaves, 1, n))
      M.no_grad(walk_back, { y }, { dy:detach() })
    end)
    local grads = { nil }
    for i = 1, n do
      if leaves[i] ~= given[i + 1] and leaves[i].grad then
        grads[i + 1] = leaves[i].grad
        grads[i + 1].kept = nil
        leaves[i].grad = nil
        leaves[i]:release()
      end
    end
    return unpack(grads, 1, n + 1)
  end,
}

--- Run `fn(...)` and keep nothing of it but its result: the backward pass runs it again.
-- @param fn returns one tensor; a pure function of its arguments and of parameters
-- @usage local x = cft.ones({ 2 }, { requires_grad = true })
-- cft.autograd.checkpoint(function(y) return y:exp():square() end, x):sum():backward()
-- x.grad   --> (2) f32 on cpu {14.778, 14.778}
M.checkpoint = M.op("checkpoint", checkpoint_rule)

return M
