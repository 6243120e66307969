--- Models: from a Hugging Face folder, a GGUF file, or a shape with random weights.
-- @usage local m = cft.models.new { arch = "llama", d = 64, layers = 2, heads = 4, ffn = 128, vocab = 97 }
-- print(m:logits({ { 1, 2, 3 } }))

local archs = require "cft.models.archs"
local autograd = require "cft.engine.autograd"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local configs = require "cft.models.config"
local inputs = require "cft.nn.inputs"
local json = require "cft.base.json"
local linear = require "cft.nn.linear"
local ops = require "cft.engine.ops"
local ranks = require "cft.ranks"
local rope = require "cft.nn.rope"
local tensor = require "cft.engine.tensor"

local M = {}
local Model = {}
Model.__index = Model
M.Model = Model  -- `cft` adds methods of later stages

local function build(config, o)
  local device = tensor.device(o.device or tensor.default_device())
  local arch = archs.module(config)
  local m = setmetatable({ config = config, arch = arch, dtype = o.dtype, device = device }, Model)
  m.weights = arch.build(config, { dtype = o.dtype, device = device, parts = o.parts and ranks.here().size > 1 })
  m.groups = m.weights.groups
  m.frequencies = rope.frequencies(config.head_dim, config.theta, config.scaling)
  m.options = { skip = true, suffix = device.host_memory == 0, deterministic = false }
  return m
end

-- ---- random weights --------------------------------------------------------------------------

--- The context of a model of `new` that is told none.
M.CONTEXT = 2048

local shape_spec = {
  arch = { "string", one_of = archs.names },
  d = { "integer", min = 1 }, layers = { "integer", min = 1 }, heads = { "integer", min = 1 },
  kv_heads = { "integer", optional = true, min = 1 }, head_dim = { "integer", optional = true, min = 2 },
  ffn = { "integer", min = 1 }, vocab = { "integer", min = 1 }, context = { "integer", M.CONTEXT, min = 1 },
  theta = { "number", 10000, min = 1 }, eps = { "number", 1e-6 }, tied = { "boolean", false },
  scaling = { "table", optional = true }, init = { "number", 0.02, min = 0 },
  dtype = { "string", "f32", one_of = { "f32", "bf16", "f64" } }, device = { "any", optional = true },
  seed = { "integer", 0, min = 0 }, parts = { "boolean", false },
}

-- The config of a shape, by options that were checked.
local function config_of(o)
  local c = { arch = o.arch, d = o.d, layers = o.layers, heads = o.heads,
              kv_heads = o.kv_heads or o.heads, ffn = o.ffn, vocab = o.vocab, context = o.context,
              theta = o.theta, eps = o.eps, tied = o.tied, scaling = o.scaling, init = o.init,
              head_dim = o.head_dim or o.d / o.heads, qkv_bias = archs.rows[o.arch].qkv_bias or false }
  if c.head_dim % 2 ~= 0 then
    blame("models.new: d %d over %d heads; a head's width must be even", o.d, o.heads)
  end
  if c.heads % c.kv_heads ~= 0 then
    blame("models.new: %d heads are no multiple of %d kv_heads", c.heads, c.kv_heads)
  end
  return c
end

--- The config that `new` would give a model of this shape.
-- @tab opts as of `new`
-- @treturn table
-- @usage cft.models.shape({ arch = "llama", d = 8, layers = 1, heads = 2, ffn = 16, vocab = 11 }).head_dim   --> 4
function M.shape(opts) return config_of(check.options("models.new", opts, shape_spec)) end

--- A model of any shape with random weights: normal with deviation `init`, norms 1, biases 0.
-- @tab opts `arch`, `d`, `layers`, `heads`, `ffn`, `vocab`; and as wanted `kv_heads`, `head_dim`,
-- `context`, `theta`, `scaling`, `eps`, `tied`, `init`, `dtype`, `device`, `seed`; `parts`, each of several ranks keeps its part
-- alone, for zero = 3
-- @treturn Model
-- @usage local m = cft.models.new { arch = "qwen2", d = 64, layers = 2, heads = 4, ffn = 128, vocab = 97, dtype = "bf16" }
-- m:count(), m.config.head_dim   --> 95040 16
function M.new(opts)
  local o = check.options("models.new", opts, shape_spec)
  local c = config_of(o)
  local m = build(c, o)
  local counter = 0
  local function fill(g)
    for _, e in ipairs(g.entries) do
      if #e.dims == 2 then
        g[e.key]:normal_(o.seed, counter, 0, o.init)
        counter = counter + 1
      elseif e.key:match "^norm" then
        g[e.key]:fill_(1)
      end
    end
  end
  for _, g in ipairs(m.groups) do g:whole(function() fill(g) end) end
  return m
end

-- ---- files -----------------------------------------------------------------------------------

local load_spec = {
  dtype = { "string", "f32", one_of = { "f32", "bf16", "f64" } }, device = { "any", optional = true },
  vocab = { "integer", optional = true, min = 1 }, parts = { "boolean", false },
}

local EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

-- Do two matrices of one shape hold the same numbers in `dtype`? A few rows at a time, for they may be large.
local function same_numbers(a, b, dtype)
  local rows, width = a:dims()
  local step = math.max(1, math.floor(2 ^ 20 / width))
  local function equal(row)
    local n = math.min(step, rows - row)
    local x = tensor.cast(tensor.narrow(a, 0, row, n), dtype):to_host()
    local y = tensor.cast(tensor.narrow(b, 0, row, n), dtype):to_host()
    for i = 0, n * width - 1 do
      if x[i] ~= y[i] then return false end
    end
    return true
  end
  for row = 0, rows - 1, step do
    if not tensor.scope(equal, row) then return false end
  end
  return true
end

-- Whether a model that config.json ties is tied, as transformers 5 decides: where the files have a head and an
-- embedding that are not equal, both are kept, untied; where they have the head alone, it is the embedding too.
local function decide_tied(c, source, there, dtype, notes)
  if not (c.tied and there[HEAD] and there[EMBEDDING]) then return end
  c.tied = tensor.scope(function()
    return same_numbers(source:tensor(EMBEDDING), source:tensor(HEAD), dtype)
  end)
  if not c.tied then
    notes[#notes + 1] = ("config.json: tie_word_embeddings is true, but the files have a '%s' that is not the "
                         .. "embedding; it is kept, untied, as in transformers 5"):format(HEAD)
  end
end

-- Before memory is taken for what config.json promises: do the files hold so many blocks, so wide?
local function refuse_empty_promises(c, source, path, there)
  local last = ("model.layers.%d."):format(c.layers - 1)
  for _, want in ipairs { { EMBEDDING, c.vocab, c.d, c.tied and HEAD }, { HEAD, c.vocab, c.d, c.tied and EMBEDDING },
                          { last .. "self_attn.q_proj.weight", c.heads * c.head_dim, c.d },
                          { last .. "mlp.down_proj.weight", c.d, c.ffn } } do
    local name, rows, width, instead = unpack(want, 1, 4)
    if not there[name] and not there[instead] then blame("%s: no tensor '%s'", path, name) end
    if there[name] and not path:match "%.gguf$" then  -- there, a look at a tensor dequantises it
      local t = source:tensor(name)
      local dims = t:shape()
      t:release()
      if #dims ~= 2 or dims[1] ~= rows or dims[2] ~= width then
        blame("%s: '%s' is (%s); config.json makes it (%d, %d)", path, name, table.concat(dims, ", "), rows, width)
      end
    end
  end
end

--- A GGUF file seen as the Hugging Face folder it was made from. @string path
-- @treturn table `config`, what config.json would hold, and methods `names`, `tensor`, `value`, `release`
-- @usage cft.files.write(path, "no GGUF")
-- select(2, pcall(cft.models.gguf, path))   --> "...no GGUF file: it does not begin with..."
function M.gguf(path) return require("cft.models.gguf").open(path) end

--- The config of a model by its files; no weights are read.
-- @string path a folder or a GGUF file
-- @treturn ?table nil where they do not say, or are of a model that `load` refuses
-- @treturn string the file that says it; or why there is none
-- @usage model:save(folder)
-- cft.models.config(folder).layers, cft.models.context(folder)   --> 1 2048 "max_position_embeddings = 2048 in config.json"
function M.config(path)
  local raw, why
  local file = path:match "([^/]*%.gguf)$"
  if file then
    local ok, source = pcall(M.gguf, path)
    if not ok then return nil, tostring(source) end
    raw = source.config
    source:release()
  else
    raw, why = json.read(path .. "/config.json")
  end
  if raw == nil then return nil, why end
  local c, problem = configs.read(raw)
  if not c then return nil, ("%s: %s"):format(path, problem) end
  return c, file or "config.json"
end

--- How long a sequence may be, as a model's files say; no weights are read.
-- @string path a folder or a GGUF file
-- @treturn ?int tokens; nil where the files do not say, or are of a model that `load` refuses
-- @treturn string where that is from, such as "max_position_embeddings = 4096 in config.json"; or why it is not known
function M.context(path)
  local c, file = M.config(path)
  if not c then return nil, file end
  local tokens, says = configs.limit(c)
  return tokens, ("%s in %s"):format(says, file)
end

--- FLOPs of a training step over whole sequences of these lengths, every row computed: the formula of
-- docs/performance.md.
-- @tab config of a model @tab lengths a list of numbers of tokens
-- @treturn number
-- @usage cft.models.flops(model.config, { 5, 3 })   --> 153648
function M.flops(config, lengths)
  local n, pairs_ = 0, 0
  for _, length in ipairs(lengths) do n, pairs_ = n + length, pairs_ + length * (length + 1) / 2 end
  return archs.module(config).flops(config, n, n, pairs_)
end

-- A folder that cft saved has checksums of its files. Weights that do not fit them are not those that were saved: a
-- flipped bit loads like any other. What people edit, config.json among it, is not held to them.
local function refuse_changed(path)
  local hash, host = require "cft.io.hash", require "cft.host"
  local list = path .. "/checksums.xxh128"
  if host.kind(list) ~= "file" then return end
  for line in io.lines(list) do
    local sum, name = line:match "^(%x+)%s+%*?([^/]+%.safetensors)$"
    if name and host.kind(path .. "/" .. name) == "file" and hash.file(path .. "/" .. name) ~= sum then
      blame("%s/%s: its weights are not those that were saved: the checksum in checksums.xxh128 is another", path, name)
    end
  end
end

--- Load a model by folder, GGUF file, or name in the local Hub cache.
-- @string name @tab[opt] opts `dtype` "f32", `device`; `vocab`, a larger vocabulary than the files',
-- whose further rows of embedding and head begin as the mean of the others; `parts` as of `new`
-- @treturn Model, or nil and what is missing; its `notes` are lines about facts on which its files disagree
-- @usage model:save(folder)
-- local m = cft.models.load(folder, { dtype = "bf16" })
-- m.dtype, m:count() == model:count()   --> "bf16" true
function M.load(name, opts)
  local o = check.options("models.load", opts or {}, load_spec)
  local hub, safetensors = require "cft.io.hub", require "cft.io.safetensors"
  local path, why = hub.find(name)
  if not path then return nil, why end
  local source = path:match "%.gguf$" and M.gguf(path) or safetensors.folder(path)
  local c, notes = configs.read(source.config)
  if not c then blame("%s: %s", path, notes) end
  local there, rows = {}, c.vocab
  for _, tensor_name in ipairs(source:names()) do there[tensor_name] = true end
  refuse_empty_promises(c, source, path, there)
  refuse_changed(path)
  decide_tied(c, source, there, o.dtype, notes)
  c.vocab = math.max(rows, o.vocab or 0)
  local m = build(c, o)
  m.path, m.source, m.notes = path, source, notes
  m.spellings = source.text and json.spellings(source.text)
  m:read(source, { grow_from = rows < c.vocab and rows or nil })
  return m
end

-- Copy a matrix into one with more rows; the further rows get the mean of all.
local function grow(to, from)
  local rows, have = to:dim(0), from:dim(0)
  tensor.scope(function()
    tensor.narrow(to, 0, 0, have):copy_(from)
    local mean = ops.scale(ops.sum(tensor.cast(from, "f32"), 0), 1 / have)
    for row = have, rows - 1 do tensor.reshape(tensor.narrow(to, 0, row, 1), { to:dim(1) }):copy_(mean) end
  end)
end

local read_spec = { grow_from = { "integer", optional = true, min = 1 } }

--- Copy weights of a source into the model, by name; none may be missing, none left over.
-- @param source of `cft.files.folder` or `cft.models.gguf`
-- @tab[opt] opts `grow_from`: how many rows embedding and head have in the source, when the model has more; the
-- further rows become their mean. Without it, or with other rows, another number of rows is an error
-- @usage model:save(folder)
-- local weights = cft.files.folder(folder)
-- model:read(weights)
-- weights:release()
function Model:read(source, opts)
  local from_rows = check.options("model:read", opts or {}, read_spec).grow_from
  local wanted, own = {}, {}
  for _, name in ipairs(source:names()) do own[name] = true end
  local function read(g)
    for _, p in ipairs(g.parts) do
      local to = g:part(g.flat, p)
      local name = p.name == EMBEDDING and self.config.tied and not own[EMBEDDING] and HEAD or p.name
      local from = source:tensor(name)
      if not from then blame("%s: no tensor '%s'", self.path, name) end
      local shape, dims = to:shape(), from:shape()
      local per_token = p.name == EMBEDDING or p.name == HEAD
      if from_rows and per_token and #dims == 2 and dims[2] == shape[2] and dims[1] == from_rows then
        grow(to, from)
      elseif table.concat(shape, ",") ~= table.concat(dims, ",") then
        blame("%s: '%s' is (%s); config.json makes it (%s)", self.path, name,
              table.concat(dims, ", "), table.concat(shape, ", "))
      else
        to:copy_(from)
      end
      to:release()
      from:release()
      wanted[name] = true
    end
  end
  for _, g in ipairs(self.groups) do g:whole(function() read(g) end) end
  for name in pairs(own) do
    local harmless = name:match "rotary_emb%.inv_freq$" or (self.config.tied and name == HEAD)
    if not wanted[name] and not harmless then
      blame("%s: tensor '%s' has no place in a %s model", self.path, name, self.config.arch)
    end
  end
end

--- Every parameter as files name it.
-- @treturn function iterator of name, Tensor, and gradient or nil: views, released at the end of the open
-- scope or by the caller
-- @usage for name, weight in model:named() do print(name, weight:count()) break end   --> model.embed_tokens.weight   2512
function Model:named()
  return coroutine.wrap(function()
    for _, g in ipairs(self.groups) do
      for _, p in ipairs(g.parts) do
        coroutine.yield(p.name, g:part(g.flat, p), g.grad and g:part(g.grad, p))
      end
    end
  end)
end

--- How many parameters.
function Model:count()
  local n = 0
  for _, g in ipairs(self.groups) do
    for _, e in ipairs(g.entries) do n = n + e.dims[1] * (e.dims[2] or 1) end
  end
  return n
end

-- ---- running ---------------------------------------------------------------------------------

-- Tables of cos and sin for positions below `n`; they grow as they are needed.
function Model:rope_tables(n)
  if not self.cos or self.cos:dim(0) < n then
    local size = 256
    while size < n do size = size * 2 end
    if self.cos then self.cos:release() self.sin:release() end
    self.cos, self.sin = rope.tables(size, self.frequencies, self.config.head_dim, self.dtype, self.device)
  end
  return self.cos, self.sin
end

-- What attention needs beside q, k and v, for all queries and for those that carry loss.
function Model:place(at)
  local c = self.config
  local reach = at.position_end or at.longest
  if c.window and reach > c.window then
    blame("a sequence of %d tokens, but the model attends in a sliding window of %d (config.json: sliding_window), " ..
          "which is not implemented; take max_tokens = %d or less", reach, c.window, c.window)
  end
  local cos, sin = self:rope_tables(reach)
  local function settings(layout, q_at)
    return { heads = c.heads, kv_heads = c.kv_heads, scale = 1 / math.sqrt(c.head_dim),
             cos = cos, sin = sin, layout = layout, q_at = q_at, k_at = at.positions }
  end
  at.of_all = settings(at.layout, at.positions)
  if at.rows then at.of_rows = settings(at.row_layout, at.row_positions) end
  return at
end

-- `keep`: until `inputs.release`.
local function upload(self, batch, keep)
  return inputs.put(batch, { device = self.device, skip = self.options.skip, suffix = self.options.suffix,
                             deterministic = self.options.deterministic, keep = keep })
end

--- A host batch on this model's device. See `cft.nn.inputs`.
function Model:put(batch) return self:place(upload(self, batch)) end

--- A host batch on this model's device, for a step that is still to come: it outlives scopes, until
-- `cft.nn.inputs.release`, and `loss` finds its positions' cos and sin when it is asked.
-- @usage local batch = batches:update(0, 0)[1].batch
-- local at = model:upload(batch)
-- at.n   --> 256
-- cft.nn.inputs.release(at)
function Model:upload(batch) return upload(self, batch, true) end

--- Zero the gradients, making their buffers the first time: f64 with f64, else f32 or what
-- `options.gradients` says.
function Model:zero_grad()
  local dtype = self.dtype == "f64" and "f64" or self.options.gradients or "f32"
  for _, g in ipairs(self.groups) do g:zero_grad(dtype) end
end

--- The weighted sum of -log p over a batch, and each head row's -log p.
-- @tab batch of `cft.batch`, or what `:put` or `:upload` made of one
-- @treturn Tensor sum @treturn Tensor nll, one number a row that reached the head @treturn table the
-- batch on the device
-- @usage model:zero_grad()
-- cft.scope(function()
--   local sum, nll = model:loss(model:put(batches:update(0, 0)[1].batch))
--   sum:backward()
--   return sum:item() > 0
-- end)   --> true
function Model:loss(batch)
  local at = type(batch) == "table" and batch.layout and batch or upload(self, batch)
  if not at.of_all then self:place(at) end  -- now, since the tables of cos and sin may have grown meanwhile
  if autograd.recording() and not (self.groups[1].grad or self.groups[1].own_grad) then self:zero_grad() end
  local h = self.arch.hidden(self.weights, self.config, at, self.options)
  local sum, nll = ops.linear_cross_entropy(h, self.weights.head, at.targets, at.weights,
                                            { ahead = self.options.ahead })
  h:drop()
  return sum, nll, at
end

--- Logits of every token, or of some. @tab sequences a list of lists of ids, or one list
-- @tab[opt] rows those that are wanted, from 0, counted through all sequences
-- @treturn Tensor (tokens, V)
-- @usage model:logits({ { 1, 2, 3 }, { 4 } }, { 2, 3 }):shape()   --> { 2, 314 }
function Model:logits(sequences, rows)
  if type(sequences[1]) == "number" then sequences = { sequences } end
  local at = self:place(inputs.put(inputs.sequences(sequences), { device = self.device, skip = false }))
  local h = self.arch.hidden(self.weights, self.config, at, nil)
  if rows then
    local index = inputs.ints(#rows)
    for i, row in ipairs(rows) do index[i - 1] = row end
    h = ops.gather_rows(h, tensor.from_host(index, { #rows }, "i32", { device = self.device }))
  end
  return linear(self.weights, "head", h)
end

--- Write a Hugging Face folder: config.json, weights, and what came with the model.
-- @function Model:save
-- @string folder @tab[opt] opts see `cft.checkpoint.export`
Model.save = require("cft.models.folder").write

--- Its parts with their shapes, parameters and bytes; blocks that are alike in one line.
function Model:__tostring() return require "cft.models.show" (self) end

-- `run:model()` is the model where `run.model` is it already.
function Model:__call() return self end

--- Release every weight and gradient.
-- @usage model:release()
function Model:release()
  for _, g in ipairs(self.groups) do g:release() end
  if self.cos then self.cos:release() self.sin:release() end
end

return M
