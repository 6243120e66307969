--- Keys and values of what was read already, for generation.
--
-- A slot is one sequence's place of `capacity` rows in each layer's buffer. New tokens' keys and
-- values are put at the slot's end; queries see the slot up to their own position.

local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local rotary = require "cft.engine.rotary"
local tensor = require "cft.engine.tensor"

local M = {}
local Cache = {}
Cache.__index = Cache

--- @tab c config of the model @int slots @int capacity rows of each @tab o `dtype`, `device`
function M.new(c, slots, capacity, o)
  local self = setmetatable({ c = c, slots = slots, capacity = capacity, layers = {}, len = {} }, Cache)
  for i = 0, c.layers - 1 do
    self.layers[i] = tensor.zeros({ slots * capacity, 2 * c.kv_heads * c.head_dim }, o):keep()
  end
  for s = 0, slots - 1 do self.len[s] = 0 end
  self.device = o.device
  return self
end

function Cache:release()
  for i = 0, self.c.layers - 1 do self.layers[i]:release() end
end

--- What a forward pass over new tokens needs: `new[i]` are the ids that slot `use[i]` reads next.
-- The cache counts them as read.
-- @tab use list of slots @tab new list of lists of ids
-- @treturn table as `cft.nn.inputs.put` gives it, with `cache` and `last`, the row of each slot's
-- last token
function Cache:extend(use, new)
  local b = inputs.sequences(new)
  local place, len, cu_k, last = inputs.ints(b.n), inputs.ints(#use), inputs.ints(#use + 1), inputs.ints(#use)
  local longest = 0
  for i, slot in ipairs(use) do
    local from = self.len[slot]
    if from + #new[i] > self.capacity then
      error(("cache: slot %d holds %d tokens; %d more do not fit into %d"):format(
        slot, from, #new[i], self.capacity), 0)
    end
    for row = b.cu_seqlens[i - 1], b.cu_seqlens[i] - 1 do
      b.positions[row] = b.positions[row] + from
      place[row] = slot * self.capacity + b.positions[row]
    end
    self.len[slot] = from + #new[i]
    len[i - 1], cu_k[i - 1] = self.len[slot], slot * self.capacity
    last[i - 1], longest = b.cu_seqlens[i] - 1, math.max(longest, self.len[slot])
  end
  cu_k[#use] = self.slots * self.capacity
  local function i32(buffer, n) return tensor.from_host(buffer, { n }, "i32", { device = self.device }) end
  local owner = {}
  local at = { n = b.n, owner = owner, cache = self, ids = i32(b.ids, b.n),
               positions = i32(b.positions, b.n), place = i32(place, b.n), last = i32(last, #use),
               position_end = longest }
  at.layout = inputs.layout({ cu_q = i32(b.cu_seqlens, #use + 1), cu_k = i32(cu_k, #use + 1),
                              k_len = i32(len, #use), longest_q = b.longest, longest_k = longest,
                              q_position = at.positions }, owner)
  return at
end

--- Attention of new tokens over their slots. qkv (n, (H + 2K) D) is rotated in place; its keys and
-- values are put into the cache. @treturn Tensor (n, H D)
function M.attention(cache, layer, qkv, at)
  local a = at.of_all
  local q, k, _, kv = rotary.split(a, qkv)
  rotary.rotate(a, q, k, 0)
  local rows = cache.layers[layer]
  kernels.scatter_rows(rows, kv, at.place, 0)
  local width = a.kv_heads * cache.c.head_dim
  local o, lse = kernels.attention_fwd(q, tensor.narrow(rows, 1, 0, width), tensor.narrow(rows, 1, width, width),
                                       a.heads, a.kv_heads, a.scale, a.layout)
  lse:release()
  return o
end

return M
