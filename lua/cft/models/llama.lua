--- Llama: a decoder of RMSNorm, rotary grouped-query attention and SwiGLU. Source: Touvron et al.
-- 2023 (arXiv 2302.13971), as transformers' LlamaForCausalLM computes it. Mistral and Qwen2 are this by
-- other settings: `cft.models.archs` has them.

local autograd = require "cft.engine.autograd"
local cached = require "cft.nn.kv_cache"
local ops = require "cft.engine.ops"
local parameters = require "cft.nn.parameters"

local M = {}
local Block = {}
Block.__index = Block

--- What a block's weights are called, in the order of its flat buffer.
local function block_entries(c, i)
  local p = ("model.layers.%d."):format(i)
  local q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local entries = {
    { key = "qkv", dims = { q + 2 * kv, c.d }, decay = true,
      parts = { { p .. "self_attn.q_proj.weight", q }, { p .. "self_attn.k_proj.weight", kv },
                { p .. "self_attn.v_proj.weight", kv } } },
    { key = "o", dims = { c.d, q }, decay = true, parts = p .. "self_attn.o_proj.weight" },
    { key = "gate_up", dims = { 2 * c.ffn, c.d }, decay = true,
      parts = { { p .. "mlp.gate_proj.weight", c.ffn }, { p .. "mlp.up_proj.weight", c.ffn } } },
    { key = "down", dims = { c.d, c.ffn }, decay = true, parts = p .. "mlp.down_proj.weight" },
    { key = "norm1", dims = { c.d }, parts = p .. "input_layernorm.weight" },
    { key = "norm2", dims = { c.d }, parts = p .. "post_attention_layernorm.weight" },
  }
  if c.qkv_bias then
    entries[#entries + 1] = { key = "qkv_bias", dims = { q + 2 * kv },
      parts = { { p .. "self_attn.q_proj.bias", q }, { p .. "self_attn.k_proj.bias", kv },
                { p .. "self_attn.v_proj.bias", kv } } }
  end
  return entries
end

--- Bytes of a token in a block, of which docs/memory.md derives the numbers.
-- @tab c config @int size bytes of an activation's element
-- @treturn table `kept`, what forward keeps for backward; `input`, what is kept of a block that is
-- recomputed; `backward`, what backward needs beside that
function M.memory(c, size)
  local q, kv, f, d = c.heads * c.head_dim, c.kv_heads * c.head_dim, c.ffn, c.d
  -- two sums of the residual stream and their norms, q k v, attention's output, gate and up, their
  -- product; in f32 the log-sum-exp of each head and two root mean squares
  local kept = (4 * d + 2 * q + 2 * kv + 3 * f) * size + (c.heads + 2) * 4
  -- gradients that are alive at once: of the product, of gate and up, and of the residual stream
  local backward = (3 * f + 2 * d) * size
  return { kept = kept, input = d * size, backward = backward }
end

--- The model's weights as groups, one a block: embedding first, then the blocks, then norm and head.
-- @treturn table `embed`, `blocks`, `last`, and `groups`, all of them in order
function M.build(c, opts)
  local m = { blocks = {} }
  m.embed = parameters.group("embed", {
    { key = "table", dims = { c.vocab, c.d }, decay = true, parts = "model.embed_tokens.weight" },
  }, opts)
  m.groups = { m.embed }
  local q, kv = c.heads * c.head_dim, 2 * c.kv_heads * c.head_dim
  for i = 0, c.layers - 1 do
    local g = parameters.group("layers." .. i, block_entries(c, i), opts)
    local b = setmetatable({ group = g, c = c, index = i }, Block)
    if i == c.layers - 1 then  -- its queries may be fewer than its keys
      b.q, b.kv = g:rows("qkv", 0, q), g:rows("qkv", q, kv)
      if c.qkv_bias then b.q_bias, b.kv_bias = g:rows("qkv_bias", 0, q), g:rows("qkv_bias", q, kv) end
    end
    m.blocks[#m.blocks + 1], m.groups[#m.groups + 1] = b, g
  end
  local last = { { key = "norm", dims = { c.d }, parts = "model.norm.weight" } }
  if not c.tied then
    table.insert(last, 1, { key = "head", dims = { c.vocab, c.d }, decay = true, parts = "lm_head.weight" })
  end
  m.last = parameters.group("last", last, opts)
  m.groups[#m.groups + 1] = m.last
  m.head = c.tied and m.embed.table or m.last.head
  return m
end

-- Attention of the rows of y (normalised): all of them, or in the last block only those of `rows`.
function Block:attend(y, at, rows)
  local w = self.group
  local q, kv
  if rows then
    kv = ops.linear(y, self.kv, self.kv_bias)
    q = ops.linear(ops.gather_rows(y, rows), self.q, self.q_bias)
  else
    q = ops.linear(y, w.qkv, w.qkv_bias)  -- (n, (H + 2K) D)
  end
  local o
  if at.cache then
    o = cached.attention(at.cache, self.index, q, at)
  else
    o = ops.attention(q, kv, rows and at.of_rows or at.of_all)
  end
  local out = ops.linear(o, w.o)
  q:drop() o:drop()
  return out
end

--- One block. The residual stream is x + branch (branch nil in the first): the sum is taken by the
-- norm that reads it. @treturn Tensor x @treturn Tensor branch
function Block:forward(x, branch, at, rows)
  local w, eps = self.group, self.c.eps
  local y
  if branch then
    local sum
    y, sum = ops.add_rmsnorm(branch, x, w.norm1, eps)
    branch:drop() x:drop()
    x = sum
  else
    y = ops.rmsnorm(x, w.norm1, eps)
  end
  local attended = self:attend(y, at, rows)
  y:drop()
  if rows then x = ops.gather_rows(x, rows) end  -- from here on only what carries loss
  local y2, x2 = ops.add_rmsnorm(attended, x, w.norm2, eps)
  attended:drop() x:drop()
  local gate_up = ops.linear(y2, w.gate_up)
  y2:drop()
  local a = ops.swiglu(gate_up)
  gate_up:drop()
  local out = ops.linear(a, w.down)
  a:drop()
  return x2, out
end

-- The block as a function of one tensor, for recomputation.
local function whole(block, x, at, rows)
  local x2, branch = block:forward(x, nil, at, rows)
  return ops.add(x2, branch)
end

--- Final hidden states, normalised: of every row, or of `at.rows` where there are any.
-- @tab m from `build` @tab c config @tab at a batch on the device, see `cft.nn.inputs`
-- @tab[opt] o `recompute`: blocks whose activations are made again on the way back
function M.hidden(m, c, at, o)
  local x, branch = ops.embedding(m.embed.table, at.ids), nil  -- (n, d)
  for i, block in ipairs(m.blocks) do
    local rows = i == #m.blocks and at.rows or nil
    if o and o.recompute and o.recompute(i, #m.blocks) and autograd.recording() then
      if branch then x, branch = ops.add(x, branch), nil end
      x = autograd.checkpoint(whole, block, x, at, rows)
    else
      x, branch = block:forward(x, branch, at, rows)
    end
  end
  if not branch then return ops.rmsnorm(x, m.last.norm, c.eps) end
  local y, sum = ops.add_rmsnorm(branch, x, m.last.norm, c.eps)
  branch:drop() x:drop() sum:drop()
  return y
end

return M
