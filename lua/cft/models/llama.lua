--- Llama: a decoder of RMSNorm, rotary grouped-query attention and SwiGLU. Source: Touvron et al.
-- 2023 (arXiv 2302.13971), as transformers' LlamaForCausalLM computes it. Mistral and Qwen2 are this by
-- other settings: `cft.models.archs` has them.

local autograd = require "cft.engine.autograd"
local cached = require "cft.nn.kv_cache"
local linear = require "cft.nn.linear"
local ops = require "cft.engine.ops"
local parameters = require "cft.nn.parameters"
local tensor = require "cft.engine.tensor"

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

--- FLOPs of a training step's matmuls and attention, a multiply-add as two: forward, and backward twice that (attention's
-- two and a half times); docs/performance.md has the formula. What is recomputed is not counted.
-- @tab c config @int n tokens @int m of these the rows that reach the head: `n`, or those that carry loss, where
-- the last block is computed for them alone
-- @number pairs of a token and one before it, or itself: the sum of T (T + 1) / 2 over sequences
-- @treturn number
function M.flops(c, n, m, pairs)
  local q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function block(rows) return 2 * (rows * c.d * (2 * q + 3 * c.ffn) + n * c.d * 2 * kv) end
  local attention = 3.5 / 3 * 4 * pairs * q
  return 3 * ((c.layers - 1) * (block(n) + attention) + block(m) + attention * m / n + 2 * m * c.d * c.vocab)
end

--- How many weights each group of `build` has, alignment of its parts left out.
-- @tab c config
-- @treturn int of the embedding @treturn int of a block @treturn int of the last norm and, unless it is tied, the head
function M.counts(c)
  local block = 0
  for _, e in ipairs(block_entries(c, 0)) do block = block + e.dims[1] * (e.dims[2] or 1) end
  return c.vocab * c.d, block, c.d + (c.tied and 0 or c.vocab * c.d)
end

--- Bytes that a training step reads and writes beside its matmuls' operands: what bounds norms, rotary embedding,
-- attention's operands, SwiGLU and the loss. docs/plan.md has the list.
-- @tab c config @int size bytes of an activation's element
-- @treturn number a token and block, forward @treturn number the same, backward @treturn number a row of the head
function M.traffic(c, size)
  local q, kv, f, d = c.heads * c.head_dim, c.kv_heads * c.head_dim, c.ffn, c.d
  local forward = 8 * d + 4 * (q + kv) + 3 * f   -- two norms with their sums, rotation and attention, SwiGLU
  local backward = 8 * d + 6 * (q + kv) + 5 * f
  return forward * size, backward * size, c.vocab * (4 + size)  -- logits in f32 are read, their gradient written
end

--- The model's weights as groups, one a block: embedding first, then the blocks, then norm and head.
-- @treturn table `embed`, `blocks`, `last`, and `groups`, all of them in order
function M.build(c, opts)
  local m = { blocks = {} }
  m.embed = parameters.group("embed", {
    { key = "table", dims = { c.vocab, c.d }, decay = true, parts = "model.embed_tokens.weight" },
  }, opts):made()
  m.groups = { m.embed }
  local q, kv = c.heads * c.head_dim, 2 * c.kv_heads * c.head_dim
  for i = 0, c.layers - 1 do
    local g = parameters.group("layers." .. i, block_entries(c, i), opts)
    local b = setmetatable({ group = g, c = c }, Block)
    if i == c.layers - 1 then  -- its queries may be fewer than its keys
      g.q, g.kv = g:rows("qkv", 0, q), g:rows("qkv", q, kv)
      if c.qkv_bias then g.q_bias, g.kv_bias = g:rows("qkv_bias", 0, q), g:rows("qkv_bias", q, kv) end
    end
    m.blocks[#m.blocks + 1], m.groups[#m.groups + 1] = b, g:made()
  end
  local last = { { key = "norm", dims = { c.d }, parts = "model.norm.weight" } }
  if not c.tied then
    table.insert(last, 1, { key = "head", dims = { c.vocab, c.d }, decay = true, parts = "lm_head.weight" })
  end
  m.last = parameters.group("last", last, opts):made()
  m.groups[#m.groups + 1] = m.last
  m.head = c.tied and m.embed.table or m.last.head
  return m
end

-- The norm of the residual stream, x + branch where there is a branch. @treturn Tensor y @treturn Tensor x
local function norm(x, branch, w, eps)
  if branch then return ops.add_rmsnorm(branch, x, w, eps) end
  return ops.rmsnorm(x, w, eps), x
end

-- Attention of the rows of y (n, d), normalised: of all of them, or in the last block of the m in `rows`.
function Block:attend(y, at, rows)
  local w, o = self.group, nil
  if rows then
    local kv = linear(w, "kv", y)                             -- (n, 2K D)
    local q = linear(w, "q", ops.gather_rows(y, rows))        -- (m, H D)
    o = ops.attention(q, kv, at.of_rows)                      -- (m, H D)
  else
    o = ops.attention(linear(w, "qkv", y), nil, at.of_all)    -- (n, H D)
  end
  return linear(w, "o", o)                                    -- (m, d)
end

--- One block. The residual stream is x + branch (branch nil in the first): the sum is taken by the
-- norm that reads it. @tparam Tensor x (n, d) @tparam Tensor branch (n, d)
-- @treturn Tensor x @treturn Tensor branch; (m, d) where only m `rows` go on, else (n, d)
function Block:forward(x, branch, at, rows)
  local w, eps, y = self.group, self.c.eps, nil
  y, x = norm(x, branch, w.norm1, eps)                        -- (n, d), (n, d)
  local attended = self:attend(y, at, rows)                   -- (m, d)
  if rows then x = ops.gather_rows(x, rows) end               -- (m, d): from here on only what carries loss
  y, x = norm(x, attended, w.norm2, eps)                      -- (m, d), (m, d)
  local gate_up = linear(w, "gate_up", y)                     -- (m, 2 f)
  return x, linear(w, "down", ops.swiglu(gate_up))            -- (m, d), (m, d)
end

-- The block as a function of one tensor, for recomputation.
local function whole(block, x, at, rows)
  return ops.add(tensor.block(block.forward, block, x, nil, at, rows))  -- (m, d)
end

local function last_norm(...) return (norm(...)) end

-- The same of new tokens of sequences in pages: what `Block:forward` does, in one call of C a block.
local function hidden_of_pages(m, c, at)
  local x, branch = ops.embedding(m.embed.table, at.ids), nil  -- (n, d)
  for i, block in ipairs(m.blocks) do
    local sum, y = cached.block(at, i - 1, block.group, x, branch)  -- (n, d), (n, d)
    x:drop()
    if branch then branch:drop() end
    x, branch = sum, y
  end
  return last_norm(x, branch, m.last.norm, c.eps)              -- (n, d)
end

--- Final hidden states, normalised: of every row, or of `at.rows` where there are any.
-- @tab m from `build` @tab c config @tab at a batch on the device, see `cft.nn.inputs`
-- @tab[opt] o `recompute`: blocks whose activations are made again on the way back; `watch`: `reached` and `passed`, which get
-- a group when the way back comes to where it is used, and when its gradient is complete; and `turn`, called when the blocks
-- are done, before the head is reached
-- @treturn Tensor (m, d)
function M.hidden(m, c, at, o)
  if at.cache then return hidden_of_pages(m, c, at) end
  local watch = o and o.watch
  local function on_return(what, group)
    if watch then autograd.on_return(watch[what], group) end
  end
  m.embed:enter()
  on_return("passed", m.embed)
  local x, branch = ops.embedding(m.embed.table, at.ids), nil -- (n, d)
  on_return("reached", m.embed)
  if not c.tied then m.embed:leave() end
  for i, block in ipairs(m.blocks) do
    local rows = i == #m.blocks and at.rows or nil
    block.group:enter()
    on_return("passed", block.group)
    if o and o.recompute and o.recompute(i, #m.blocks) and autograd.recording() then
      if branch then x, branch = ops.add(x, branch), nil end  -- (n, d)
      x = autograd.checkpoint(whole, block, x, at, rows)      -- (m, d)
    else
      x, branch = tensor.block(block.forward, block, x, branch, at, rows)  -- (m, d), (m, d)
    end
    on_return("reached", block.group)
    block.group:leave()
  end
  m.last:enter()
  on_return("passed", m.last)
  if watch then watch.turn() end
  return (tensor.block(last_norm, x, branch, m.last.norm, c.eps))  -- (m, d)
end

return M
