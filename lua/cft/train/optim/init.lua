--- Optimizers over a model's groups. What they have in common is here: the global norm of the gradients and
-- its clip, f32 master weights, decay of matrices alone, seeds of stochastic rounding, what is saved.
--
-- An optimizer is a file of this folder, listed below; docs/add-an-optimizer.md says what is in it.
-- @usage local opt = cft.optim.adamw(model, { weight_decay = 0.1 })
-- cft.scope(function() model:logits({ 1, 2, 3 }):sum():backward() end)
-- opt:update(1e-3) > 0, opt.count   --> true 1
-- opt:release()

local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local exit = require "cft.base.exit"
local sharding = require "cft.ranks.zero"
local states = require "cft.io.state"
local tensor = require "cft.engine.tensor"
local C = door.C

local M = {}

local rules = { require "cft.train.optim.adamw", require "cft.train.optim.lion" }

-- Settings of all of them, in the form of a rule's own.
local shared = {
  { "weight_decay", { "number", 0, min = 0, help = "decoupled weight decay of matrices; none on biases and norms" } },
  { "clip", { "number", 1, min = 0, help = "largest global norm of the gradient; 0 does not clip" } },
  { "master", { "boolean", true, help = "keep f32 master weights beside bf16 ones; false: stochastic rounding" } },
  { "moments", { "string", "f32", one_of = { "f32", "bf16" },
                 help = "dtype of moments; bf16 with stochastic rounding" } },
  { "zero", { "integer", 0, min = 0, max = sharding.MOST, resume = "free",
              help = "of several ranks, what each keeps a part of: 0 nothing, 1 the optimizer's state, 2 gradients too, 3 weights too" } },
}

-- ---- settings --------------------------------------------------------------------------------

-- Name → spec of all that an optimizer takes.
local specs = {}
for _, rule in ipairs(rules) do
  local spec = { seed = { "integer", 0, min = 0 } }  -- of stochastic rounding
  for _, list in ipairs { rule.settings, shared } do
    for _, row in ipairs(list) do spec[row[1]] = row[2] end
  end
  specs[rule.name] = spec
end

-- The spec of a key that several optimizers may have. Where their defaults differ it has none, and the help says them.
local function merged(users)
  local spec, texts = {}, {}
  for field, value in pairs(users[1].spec) do spec[field] = value end
  for _, u in ipairs(users) do
    if u.spec[2] ~= spec[2] then spec.optional = true end
  end
  for i, u in ipairs(users) do
    texts[i] = ("%s: %s%s"):format(u.rule, u.spec.help, spec.optional and (", %s"):format(u.spec[2]) or "")
  end
  if spec.optional then spec[2] = nil end
  spec.help = table.concat(texts, "; ")
  return spec
end

local function keys()
  local names, order, users = {}, {}, {}
  for i, rule in ipairs(rules) do
    names[i] = rule.name
    for _, row in ipairs(rule.settings) do
      local name = row[1]
      if not users[name] then users[name], order[#order + 1] = {}, name end
      table.insert(users[name], { rule = rule.name, spec = row[2] })
    end
  end
  local list = { { "optimizer", { "string", names[1], one_of = names, help = "how gradients change weights" } } }
  for _, name in ipairs(order) do list[#list + 1] = { name, merged(users[name]) } end
  for _, row in ipairs(shared) do list[#list + 1] = row end
  return list
end

--- The settings that a recipe has for them: a list of `{ name, spec }`, first of all `optimizer`, which one. A spec is
-- one of `cft.base.check`, with `help`.
M.keys = keys()

-- ---- an optimizer ----------------------------------------------------------------------------

--- `name`; `settings`, what it was made with; `count`, how many steps were made; `scale` (3) on the device:
-- what gradients are multiplied by, their norm before the clip, and 1 from the first step on that made a weight or a
-- moment that is no finite number.
-- @type Optimizer
local Optimizer = {}
Optimizer.__index = Optimizer

-- What a group has: a tensor for each kind of the rule's state, and the master weights; of the elements that this rank
-- steps.
local function slot_of(rule, model, zero, i, o)
  local from, n = zero:stepped(i)
  local wide = model.dtype == "f64" and "f64" or "f32"
  local how = { dtype = model.dtype == "f64" and "f64" or o.moments, device = model.device }
  local s = {}
  for _, kind in ipairs(rule.state) do s[kind] = tensor.zeros({ n }, how):keep() end
  if model.dtype == "bf16" and o.master then
    local own = zero:weights(i, from, n)
    s.master = tensor.cast(own, wide):keep()
    own:release()
  end
  return s
end

local function new(rule, model, opts)
  local o = check.options("optim." .. rule.name, opts, specs[rule.name])
  local self = setmetatable({ name = rule.name, rule = rule, settings = o, model = model, count = 0, slots = {},
                              zero = sharding.new(model.groups, o.zero) }, Optimizer)
  model:zero_grad()
  tensor.as_class("optim", function()
    for i in ipairs(model.groups) do self.slots[i] = slot_of(rule, model, self.zero, i, o) end
    self.sum = tensor.zeros({ 1 }, { dtype = "f64", device = model.device }):keep()
    self.scale = tensor.zeros({ 3 }, { device = model.device }):keep()
  end)
  return self
end

local sum_squares, clip_scale = door.call(C.cft_sum_squares, 3), door.call(C.cft_clip_scale, 4)

-- Have the rule step elements `from` to `to` - 1 of group i's buffers, those of them that are this rank's.
local function update_run(self, i, from, to, at)
  local first, n = self.zero:stepped(i)
  from, n = math.max(from, first), math.min(to, first + n) - math.max(from, first)
  if n <= 0 then return end
  local views = {}
  for kind, flat in pairs(self.slots[i]) do views[kind] = tensor.narrow(flat, 0, from - first, n) end
  views.p, views.g = self.zero:weights(i, from, n), self.zero:gradient(i, from, n)
  self.rule.update(views, self.scale, self.settings, at)
  for _, t in pairs(views) do t:release() end
end

--- Enqueue a step from the gradients that the model holds; nothing waits for the device. Where the
-- gradient's norm or one of the losses is no finite number, the device itself leaves weights and moments
-- as they are. Whether it did is told to `finish` when the norm, `scale[1]`, has been read.
-- @number lr
-- @number[opt=1] weight what the summed loss is divided by: the sum of weights of the whole step
-- @tab[opt] losses tensors that must be finite as well
-- @func[opt] decide gets the norm and the sum of the losses, and waits for the device with that: "skip" leaves the step out,
-- a number is a smaller norm to clip to, nil makes the step as it is
-- @usage local opt = cft.optim.lion(model, { clip = 1 })
-- cft.scope(function() model:logits({ 1, 2, 3 }):sum():backward() end)
-- opt:step(1e-4)                        -- waits for nothing
-- opt:finish(opt.scale:to_table()[2])   --> true
-- for name, kind, tensor in opt:state() do print(name, kind, tensor:count()) break end   --> model.embed_tokens.weight   m   2512
function Optimizer:step(lr, weight, losses, decide)
  local groups, o = self.model.groups, self.settings
  self.sum:zero_()
  self.zero:reduce()
  for i in ipairs(groups) do
    local part = self.zero:gradient(i, self.zero:measured(i))
    sum_squares(self.sum, part, 1)
    part:release()
  end
  -- Times 0, what is finite adds nothing; infinity and NaN make the sum NaN.
  for _, loss in ipairs(losses or {}) do sum_squares(self.sum, loss, 0) end
  self.zero:sum(self.sum)
  clip_scale(self.scale, self.sum, 1 / (weight or 1), o.clip)
  self.count = self.count + 1
  if decide then
    local read, sum = tensor.read_all { self.scale, unpack(losses) }, 0
    for i = 2, #read do sum = sum + read[i][0] end
    local what = decide(read[1][1], self.zero.here:sum(sum) / (weight or 1))
    self.left_out = what == "skip"
    if self.left_out then return end
    if what and (o.clip == 0 or what < o.clip) then clip_scale(self.scale, self.sum, 1 / (weight or 1), what) end
  end
  for i, g in ipairs(groups) do
    local function run(from, to, half, decay)
      update_run(self, i, from, to, {
        lr = lr, decay = decay, count = self.count,
        seed = o.seed + 2 * i + half,  -- no two buffers round alike
      })
    end
    run(0, g.decayed, 1, o.weight_decay)
    run(g.decayed, g.length, 2, 0)
  end
  self.zero:publish()
end

--- What an enqueued step came to. @number norm as it was read
-- @treturn boolean whether it was made; one that was not does not count
function Optimizer:finish(norm)
  local made = norm == norm and norm < math.huge and not self.left_out
  self.left_out = nil
  if not made then self.count = self.count - 1 end
  return made
end

--- `step`, and wait for what it comes to. @number lr learning rate @number weight sum of the loss weights
-- @treturn number the gradient's norm before the clip; where that is NaN or infinite, nothing was updated
function Optimizer:update(lr, weight)
  self:step(lr, weight)
  local norm = (self.scale:to_host())[1]
  self:finish(norm)
  return norm
end

-- Kinds of what a group has.
local function kinds_of(self)
  local kinds = { unpack(self.rule.state) }
  if self.slots[1].master then kinds[#kinds + 1] = "master" end
  return kinds
end

--- Does this rank keep all there is?
function Optimizer:is_whole() return self.zero.stage == 0 or self.zero.here.size == 1 end

--- Call `fn`, which may write `state` and `weights`. Where ranks keep them in parts, rank 0 alone calls it, and the others give
-- it theirs meanwhile.
-- @func fn
-- @usage local opt = cft.optim.adamw(model)
-- opt:lend(function() return opt:is_whole(), opt:weights() end)   --> true nil
function Optimizer:lend(fn)
  if self:is_whole() then return fn() end
  return self.zero:lend(function(i, kind) return kind and self.slots[i][kind] or self.model.groups[i].own end, fn)
end

-- A named part of a buffer that ranks keep in parts, to be written: it is made when it is its turn.
local function later(self, i, kind, dtype, p)
  local from, n, dims = self.model.groups[i]:span(p)
  return states.later { name = p.name, dtype = dtype, dims = dims, make = function()
    local flat = self.zero:fetch(i, kind, from, n)
    local t = tensor.reshape(flat, dims):keep()
    flat:release()
    return t
  end }
end

--- The weights for a file, where ranks keep them in parts; within `lend`.
-- @treturn ?table entries as `files.write_tensors` takes them; nil where the model has them
function Optimizer:weights()
  if not self.zero.cuts_weights then return nil end
  local list = {}
  for i, g in ipairs(self.model.groups) do
    for _, p in ipairs(g.parts) do list[#list + 1] = later(self, i, nil, self.model.dtype, p) end
  end
  return list
end

--- What it keeps, by parameter name, for saving; within `lend`.
-- @treturn function iterator of name, kind ("m", "master", ...) and Tensor, a view that is released at the end
-- of the open scope or by the caller; what is in parts is there when it is written
function Optimizer:state()
  local kinds, whole = kinds_of(self), self:is_whole()
  return coroutine.wrap(function()
    for i, g in ipairs(self.model.groups) do
      for _, kind in ipairs(kinds) do
        local flat = self.slots[i][kind]
        for _, p in ipairs(g.parts) do
          coroutine.yield(p.name, kind, whole and g:part(flat, p) or later(self, i, kind, flat:dtype(), p))
        end
      end
    end
  end)
end

--- Take what was saved.
-- @func read name of a parameter, kind, and a Tensor that gets it
-- @usage local opt = cft.optim.adamw(model)
-- opt:restore(function(name, kind, t) t:fill_(0.5) end)   -- of a checkpoint: array:copy_to(t)
-- for name, kind, t in opt:state() do print(kind, t:max():item()) break end   --> m   0.5
function Optimizer:restore(read)
  for i, g in ipairs(self.model.groups) do
    for _, kind in ipairs(kinds_of(self)) do
      local slot = self.slots[i][kind]
      local flat, from, n = self.zero:room(i, slot)
      for _, p in ipairs(g.parts) do
        local t = g:part(flat, p)
        read(p.name, kind, t)
        t:release()
      end
      if flat ~= slot then
        local own = tensor.narrow(flat, 0, from, n)
        slot:copy_(own)
        own:release()
        flat:release()
      end
    end
  end
end

--- Release moments and master weights; the model stays.
function Optimizer:release()
  for _, s in ipairs(self.slots) do
    for _, t in pairs(s) do t:release() end
  end
  self.sum:release()
  self.scale:release()
end

-- ---- making one ------------------------------------------------------------------------------

--- `cft.optim.adamw(model, opts)` and the others, by name. Weight decay is for matrices: none on biases and norms.
-- @tparam Model model
-- @tab[opt] opts the optimizer's `settings`; of all `weight_decay`, `clip`, `master`, `moments`, and `seed`, of
-- stochastic rounding
-- @treturn Optimizer
for _, rule in ipairs(rules) do
  M[rule.name] = function(model, opts) return new(rule, model, opts) end
end

--- The optimizer that a run's settings name, and its settings out of them; no model is needed to refuse them.
-- @func setting name of a key → its value. One that the optimizer does not have must have its default.
-- @treturn string name
-- @treturn table what `M[name]` takes
-- @usage local cfg = {}
-- for _, row in ipairs(cft.optim.keys) do cfg[row[1]] = row[2][2] end
-- cfg.optimizer, cfg.clip = "lion", 0.5
-- select(2, cft.optim.chosen(function(name) return cfg[name] end)).clip   --> 0.5
-- cft.optim.of(model, function(name) return cfg[name] end).name   --> "lion"
function M.chosen(setting)
  local name, opts = setting "optimizer", { seed = setting "seed" }
  for _, row in ipairs(M.keys) do
    local key, value = row[1], setting(row[1])
    if specs[name][key] then
      opts[key] = value
    elseif key ~= "optimizer" and value ~= row[2][2] then
      exit.fail(exit.USAGE, "%s=%s: optimizer %s has no %s", key, tostring(value), name, key)
    end
  end
  return name, opts
end

--- How many numbers an optimizer keeps for each weight, master weights not counted. @string name of it
-- @treturn int
-- @usage cft.optim.states "adamw", cft.optim.states "lion"   --> 2 1
function M.states(name)
  for _, rule in ipairs(rules) do
    if rule.name == name then return #rule.state end
  end
end

--- Make it.
-- @tparam Model model
-- @func setting as `chosen`
-- @treturn Optimizer
function M.of(model, setting)
  local name, opts = M.chosen(setting)
  return M[name](model, opts)
end

return M
