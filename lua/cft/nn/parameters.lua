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

--- Make a group.
-- @string name of the block, for logs and saved state
-- @tab entries in the order of the buffer: `key`, `dims`, `parts` (a list of `{ name, rows }` that
-- split the first dimension; a plain string is one part), `decay`
-- @tab opts `dtype`, `device`
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
  local g = setmetatable({ name = name, entries = {}, parts = {} }, Group)
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
  g.flat = tensor.as_class("param", tensor.zeros, { at }, opts):keep()
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
  return tensor.as_class("grad", tensor.zeros, { n }, { dtype = dtype, device = self.flat:device() }):keep()
end

--- Give every parameter its gradient, a view of one flat buffer of zeros.
-- @string dtype of the buffer; the default one if absent
function Group:make_grad(dtype)
  self.grad = zeros(self, self.flat:count(), dtype)
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
    if self.own_grad then self.own_grad:zero_() else self.own_grad = zeros(self, self.flat:count() / self.parts_of, dtype) end
  elseif self.grad then
    self.grad:zero_()
  else
    self:make_grad(dtype)
  end
end

--- Release everything; the group is not usable afterwards.
function Group:release()
  self:drop_grad()
  for _, e in ipairs(self.entries) do self[e.key]:release() end
  for _, a in ipairs(self.aliases or {}) do a.tensor:release() end
  if self.own_grad then self.own_grad:release() end
  self.flat:release()
end

return M
