--- Parameters of a block in one flat buffer, by name.
--
-- A block's weights lie end to end, decayed ones first, so that an optimizer, a reduction over ranks
-- or an offload handles one tensor a block. Weights that are used together are one tensor over the
-- names that files know (`qkv` over q_proj, k_proj, v_proj): one matmul where there were three.

local ranks = require "cft.ranks"
local tensor = require "cft.engine.tensor"

local M = {}
local Group = {}
Group.__index = Group

-- Every parameter starts on a 64-byte line, also in bf16.
local ALIGN = 32

local function count(dims)
  local n = 1
  for _, d in ipairs(dims) do n = n * d end
  return n
end

--- Make a group. Its `flat` has `length` elements.
-- @string name of the block, for logs and saved state
-- @tab entries in the order of the buffer: `key`, `dims`, `parts` (a list of `{ name, rows }` that
-- split the first dimension; a plain string is one part), `decay`
-- @tab opts `dtype`, `device`; `parts`, each rank is to keep its part alone from `made` on
-- @treturn Group with a field a key
-- @usage local g = cft.nn.parameters.group("block", {
--   { key = "qkv", dims = { 6, 2 }, parts = { { "q", 2 }, { "k", 2 }, { "v", 2 } }, decay = true },
--   { key = "norm", dims = { 2 }, parts = "norm" },
-- })
-- g:zero_grad()
-- g.qkv:shape(), g:part(g.flat, g.parts[2]):shape(), g:rows("qkv", 0, 4):shape()   --> { 6, 2 } { 2, 2 } { 4, 2 }
-- g:view(g.flat, g.entries[1]):shares(g.qkv)   --> true
-- g:drop_grad()
-- g.qkv.grad                                    --> nil
-- g:make_grad "f32"
-- g.qkv.grad:shape()                            --> { 6, 2 }
-- g:release()
function M.group(name, entries, opts)
  opts = opts or {}
  local g = setmetatable({ name = name, entries = {}, parts = {}, in_parts = opts.parts }, Group)
  local at = 0
  for _, decayed in ipairs { true, false } do
    for _, e in ipairs(entries) do
      if (e.decay or false) == decayed then
        g.entries[#g.entries + 1] = { key = e.key, dims = e.dims, parts = e.parts, from = at }
        at = at + math.ceil(count(e.dims) / ALIGN) * ALIGN
      end
    end
    if decayed then g.decayed = at end  -- elements that weight decay applies to
  end
  local whole = ALIGN * ranks.here().size  -- so that each rank's part has whole lines
  at = math.ceil(at / whole) * whole
  g.length = at
  g.flat = tensor.as_class("param", tensor.zeros, { at }, { dtype = opts.dtype, device = opts.device }):keep()
  for _, e in ipairs(g.entries) do
    local t = g:view(g.flat, e)
    t.requires_grad = true
    g[e.key] = t
    local parts = type(e.parts) == "string" and { { e.parts, e.dims[1] } } or e.parts
    local row = 0
    for _, p in ipairs(parts) do
      g.parts[#g.parts + 1] = { name = p[1], entry = e, row = row, rows = p[2] }
      row = row + p[2]
    end
  end
  return g
end

--- The entry's part of a flat buffer of the group: its weights, gradient or moments.
-- @tparam Tensor flat
-- @tab e one of `entries`
-- @treturn Tensor a view that outlives scopes; the caller releases it
function Group:view(flat, e)
  local span = tensor.narrow(flat, 0, e.from, count(e.dims))
  local t = tensor.reshape(span, e.dims):keep()
  span:release()  -- a view holds the storage, not the view it was made from
  return t
end

--- The named part's rows of a flat buffer.
-- @tparam Tensor flat
-- @tab p one of `parts`
-- @treturn Tensor a view, released at the end of the open scope or by the caller
function Group:part(flat, p)
  local whole = self:view(flat, p.entry)
  local t = tensor.narrow(whole, 0, p.row, p.rows)
  whole:release()
  return t
end

--- Where a named part lies in a flat buffer.
-- @tab p one of `parts`
-- @treturn int its first element, from 0 @treturn int how many @treturn table its dims
-- @usage local g = cft.nn.parameters.group("block", { { key = "w", dims = { 4, 8 }, parts = { { "a", 1 }, { "b", 3 } } } })
-- g:span(g.parts[2])   --> 8 24 { 3, 8 }
function Group:span(p)
  local dims = { p.rows, unpack(p.entry.dims, 2) }
  return p.entry.from + p.row * count(dims) / p.rows, count(dims), dims
end

--- Rows of an entry as a parameter of their own: the same weights, the same gradient.
-- @string key of the entry
-- @int from the first row, from 0
-- @int len how many
-- @treturn Tensor
function Group:rows(key, from, len)
  local t = tensor.narrow(self[key], 0, from, len):keep()
  t.requires_grad = true
  self.aliases = self.aliases or {}
  table.insert(self.aliases, { tensor = t, key = key, from = from, len = len })
  return t
end

local function zeros(self, n, dtype)
  return tensor.as_class("grad", tensor.zeros, { n }, { dtype = dtype, device = (self.own or self.flat):device() }):keep()
end

--- Give every parameter its gradient, a view of one flat buffer of zeros.
-- @string dtype of the buffer; the default one if absent
function Group:make_grad(dtype)
  self.grad = zeros(self, self.length, dtype)
  for _, e in ipairs(self.entries) do self[e.key].grad = self:view(self.grad, e) end
  for _, a in ipairs(self.aliases or {}) do
    a.tensor.grad = tensor.narrow(self[a.key].grad, 0, a.from, a.len):keep()
  end
end

--- Take the parameters' gradients away.
function Group:drop_grad()
  if not self.grad then return end
  for _, e in ipairs(self.entries) do
    self[e.key].grad:release()
    self[e.key].grad = nil
  end
  for _, a in ipairs(self.aliases or {}) do
    if a.tensor.grad then a.tensor.grad:release() end  -- rows may have been named since
    a.tensor.grad = nil
  end
  self.grad:release()
  self.grad = nil
end

--- Gradients of zeros, made the first time. Of a group that is cut among ranks (`parts_of` says how many) one part is kept,
-- `own_grad`; the whole is made when it is needed.
-- @string[opt] dtype of the buffer, the first time
function Group:zero_grad(dtype)
  if self.parts_of then
    self.grad_dtype = dtype
    if self.own_grad then self.own_grad:zero_() else self.own_grad = zeros(self, self.length / self.parts_of, dtype) end
  elseif self.grad then
    self.grad:zero_()
  else
    self:make_grad(dtype)
  end
end

-- ---- weights in parts --------------------------------------------------------------------------

local WHY = "when zero = 3 cut the model into parts; model:loss and model:logits gather it, if all ranks call them"

-- Everything that is a view of `flat`, and how it is made.
local function each_view(self, fn)
  for _, e in ipairs(self.entries) do fn(self[e.key], function() return self:view(self.flat, e) end) end
  for _, a in ipairs(self.aliases or {}) do
    fn(a.tensor, function() return tensor.narrow(self[a.key], 0, a.from, a.len):keep() end)
  end
end

--- Let the whole weights go: `flat`, and what shows parts of it, are released tensors until `bind`.
function Group:unbind()
  each_view(self, function(t) t:release(WHY) end)
  self.flat:release(WHY)
end

--- Have the whole weights in this memory.
-- @tparam Tensor flat of `length` elements; its memory is the group's from now on, and it a released tensor
function Group:bind(flat)
  self.flat:become(flat)
  each_view(self, function(t, make) t:become(make()) end)
end

-- Take this rank's part of the whole, and let that go. What all ranks had alike is known by its hash.
local function take_part(self)
  self.digest_of_whole = self.flat:digest()
  local part = tensor.narrow(self.flat, 0, self.from, self.own:count())
  self.own:copy_(part)
  part:release()
  self:unbind()
end

--- From here on keep one part of the weights alone, `own`; the whole is there between `bind` and `unbind`.
-- @int from its first element, from 0 @int n how many elements it has
-- @usage local g = cft.nn.parameters.group("block", { { key = "w", dims = { 8, 8 }, parts = "w", decay = true } })
-- g.w:fill_(3)
-- g:cut(32, 32)
-- g.own:count(), select(2, pcall(g.w.sum, g.w))   --> 32 "...(8, 8) f32 was released when zero = 3 cut..."
-- g:bind(cft.ones { g.length })
-- g.w:sum():item()                                --> 64
-- g:unbind()
-- g:whole(function() g.w:fill_(5) end)
-- g.own:sum():item(), g:digest() ~= nil           --> 160 true
function Group:cut(from, n)
  self.from = from
  self.own = tensor.as_class("param", tensor.empty, { n }, { dtype = self.flat:dtype(), device = self.flat:device() }):keep()
  take_part(self)
end

--- All that shows its weights is named: where ranks keep parts, it is cut, so that a model is never whole while it is made.
-- @treturn Group itself
-- @usage local g = cft.nn.parameters.group("block", { { key = "w", dims = { 8, 8 }, parts = "w" } }, { parts = true }):made()
-- g.own:count()   --> 64
function Group:made()
  if self.in_parts then
    local here = ranks.here()
    self:cut(here.rank * self.length / here.size, self.length / here.size)
  end
  return self
end

--- Call `fn`, which fills all weights; of a group that is cut this rank's part stays.
-- @func fn
function Group:whole(fn)
  if not self.own then return fn() end
  local like = { dtype = self.own:dtype(), device = self.own:device() }
  self:bind(tensor.as_class("param", tensor.zeros, { self.length }, like):keep())
  fn()
  take_part(self)
end

--- A hash of all weights; of a group that is cut, as they were last filled.
-- @treturn string
function Group:digest() return self.digest_of_whole or self.flat:digest() end

--- Forward comes to this group: whoever keeps it in parts, `keeper`, gathers it.
-- @usage local g = cft.nn.parameters.group("block", { { key = "w", dims = { 2, 2 }, parts = "w" } })
-- g:enter()
-- cft.nn.linear(g, "w", cft.ones { 1, 2 })   --> (1, 2) f32 on cpu {{0, 0}}
-- g:leave()
function Group:enter() if self.keeper then self.keeper:enter(self) end end

--- Forward needs it no more.
function Group:leave() if self.keeper then self.keeper:leave(self) end end

--- Release everything; the group is not usable afterwards.
function Group:release()
  self:drop_grad()
  if self.own then self.own:release() end
  for _, e in ipairs(self.entries) do self[e.key]:release() end
  for _, a in ipairs(self.aliases or {}) do a.tensor:release() end
  if self.own_grad then self.own_grad:release() end
  self.flat:release()
end

return M
