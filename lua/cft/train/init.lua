--- A training step: accumulate, clip, update the weights.
--
-- A trainer is an object: `trainer:step()` makes one optimizer step and says what it was, so that a recipe
-- or the prompt can own the loop; `trainer:run()` is the usual one. What stands around the steps, logs and saves
-- among it, is `cft.train.course`.

local autograd = require "cft.engine.autograd"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local course = require "cft.train.course"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local host = require "cft.host"
local inputs = require "cft.nn.inputs"
local journals = require "cft.train.journal"
local saves = require "cft.io.save"
local ledgers = require "cft.train.ledger"
local paces = require "cft.ranks.pace"
local ranks = require "cft.ranks"
local sharding = require "cft.ranks.zero"
local tensor = require "cft.engine.tensor"
local trace = require "cft.engine.trace"

local M = {}
local Trainer = {}
Trainer.__index = Trainer
for name, method in pairs(course) do Trainer[name] = method end

local spec = {
  model = { "table" }, batches = { "table" }, optim = { "table" },
  lr = { "function" },                        -- step (from 0) → learning rate
  steps = { "integer", min = 0 },
  log = { "table" },
  heldout = { "table", optional = true },     -- batches that are only measured
  eval_every = { "integer", optional = true, min = 1 },
  context = { "boolean", false },             -- of held-out samples, measure what has no loss weight as well
  save_every = { "integer", optional = true, min = 1 },
  save_seconds = { "number", optional = true, min = 0 }, -- where save_every does not say when
  save = { "function", optional = true },     -- called with the trainer
  keeper = { "table", optional = true },      -- in place of save: `cft.train.keeper`
  journal = { "table", optional = true },     -- `cft.train.journal`
  spikes = { "table", optional = true },      -- `cft.train.spikes`
  deadline = { "number", optional = true },   -- of `host.now`: the run stops and saves before
  loss = { "function", optional = true },     -- model, batch → a loss of one's own; see `new`
  best = { "table", optional = true },        -- { name of a metric, "min" or "max" }
}
-- Called with the trainer and the step's numbers, but `stop` with these alone, `leave` and `between` with the trainer.
local hooks = { "after_step", "evaluate", "stop", "leave", "between" }
for _, name in ipairs(hooks) do spec[name] = { "function", optional = true } end

-- What `best` says, or what is wrong with it.
-- @tab[opt] best
-- @bool heldout is something held out?
function M.check_best(best, heldout)
  if not best then return end
  local name, direction = best[1], best[2]
  for key in pairs(best) do
    if key ~= 1 and key ~= 2 then direction = nil end
  end
  if type(name) ~= "string" or direction ~= "min" and direction ~= "max" then
    blame("best names a metric and its direction, such as { \"heldout_loss\", \"min\" }")
  end
  if name == "heldout_loss" and not heldout then blame "best: nothing is held out, so there is no heldout_loss" end
end

-- What each part must have to be one.
local parts = { model = { "loss", "cft.models" }, optim = { "step", "cft.optim" }, batches = { "updates", "cft.batch" } }

-- A model, an optimizer and batches, as far as they are given; an error that names what is none.
-- @string where whose options
-- @tab o
function M.check_parts(where, o)
  for name, part in pairs(parts) do
    if o[name] and type(o[name][part[1]]) ~= "function" then
      blame("%s: '%s' is a table without %s(); %s makes what is wanted", where, name, part[1], part[2])
    end
  end
end

--- A trainer.
-- @tab opts `model`, `batches`, `optim`, `lr`, `steps`, `log`; as wanted
--
-- `heldout`, batches that are measured before the first step, after the last and after each `eval_every`; with
-- `context` their kinds that have no loss weight as well
--
-- `save(trainer)`, or `keeper`, which saves beside the run: after each `save_every` steps or, where that is not said, `save_seconds`,
-- after the last, on SIGUSR1, and where `best` has a new best value; `best = { NAME, "min" }` names a metric and its direction
--
-- `journal`, which gets an entry a step; `spikes`, which says what becomes of outliers; `deadline`, a time of `host.now`
--
-- `loss(model, batch)`, in place of `model.loss`: the sum over rows of weight times loss, a tensor for backward to start at;
-- and as `model.loss` gives them -log p of each row and the batch on its device, or nothing: then there is no ledger
--
-- hooks, when a step is closed, in this order: `after_step(trainer, t)`, whose fields are logged with the step;
-- `evaluate(trainer, t)`, when held-out batches are measured, the same; `stop(t)`: true, or why, makes it the last;
-- `leave(trainer)`, after Ctrl-C, when all is saved; `between(trainer)`, before each step
-- @treturn Trainer
-- @usage local trainer = cft.train.new {
--   model = model, batches = batches, steps = 2, log = cft.log.open(nil, { quiet = true }),
--   optim = cft.optim.adamw(model), lr = cft.schedule.constant { steps = 2 },
-- }
-- trainer:run().steps   --> 2
function M.new(opts)
  local self = setmetatable(check.options("train.new", opts, spec), Trainer)
  M.check_parts("train.new", self)
  M.check_best(self.best, self.heldout ~= nil)
  self.ranks = ranks.here()
  if self.ranks.size > 1 and not self.optim.zero then
    exit.fail(exit.USAGE, "%d ranks want an optimizer of cft.optim, which sums over them; this one is the recipe's own",
      self.ranks.size)
  end
  self.pace = self.ranks.size > 1 and paces.new() or nil
  self.zero = self.optim.zero or sharding.new({}, 0)
  if self.loss and self.zero.cuts_weights then
    exit.fail(exit.USAGE, "zero=3 gathers weights by the model's own way, and this recipe has a loss of its own: say zero=2")
  end
  self.hooks = {}
  for _, name in ipairs(hooks) do self.hooks[name], self[name] = rawget(self, name), nil end
  self.done = 0                    -- optimizer steps made: with the seed, all there is of a position
  self.tokens, self.learned = 0, 0
  self.tracer = nil                -- who sets it is told `before(step)` and `after(step)`: what of the steps is traced
  self.measured = {}               -- step of a checkpoint → value of the metric that `best` names
  self.shared = 0                  -- of these tokens, since the process began, not recomputed
  self.model.options.ahead = self.loss == nil  -- backward starts at the model's own loss as it is
  return self
end

-- ---- one optimizer step ----------------------------------------------------------------------

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- Which samples of a micro-batch have a loss that is no number, by their per-token losses.
local function culprits(model, micro)
  local names = {}
  autograd.no_grad(function()
    tensor.scope(function()
      local _, nll, at = model:loss(micro.batch)
      local values = nll:to_host()
      local cu = at.cu_rows or micro.batch.cu_seqlens
      for s = 0, at.sequences - 1 do
        for i = cu[s], cu[s + 1] - 1 do
          local v = values[i]
          if v ~= v or v == math.huge then
            names[#names + 1] = micro.names and micro.names[s + 1] or ("sample %d"):format(s)
            break
          end
        end
      end
    end)
  end)
  return names
end

-- Which sample of a step has the largest part in its loss: its name, and that part. Each rank knows its own.
local function heaviest(ranks, micros, gathered)
  local most, at, sum, k = -1, nil, 0, 0
  for m, micro in ipairs(micros) do
    for s = 1, gathered.micros[m] or 0 do
      k = k + 1
      sum = sum + gathered.losses[k]
      if gathered.losses[k] > most then most, at = gathered.losses[k], micro.names and micro.names[s] end
    end
  end
  local all = { most = -1, sum = 0 }
  for _, own in ipairs(ranks:gather { most = most, at = at, sum = sum }) do
    all.sum = all.sum + own.sum
    if own.most > all.most then all.most, all.at = own.most, own.at end
  end
  return all.at or "a sample", all.most / math.max(all.sum, 1e-300)
end

-- What the policy for outliers says of a step, before it is made; `found` gets what it is.
local function decider(self, found)
  local spikes = self.spikes
  return spikes and function(norm, loss)
    if not (finite(norm) and finite(loss)) then return nil end
    found.spike = spikes:judge(loss, norm)
    if not found.spike then return nil end
    return spikes.policy == "reduce" and found.spike.typical or "skip"
  end
end

-- Say what became of an outlier, or end the run where that is the policy.
local function tell_of_spike(self, step, spike, micros, gathered)
  local policy, name, share = self.spikes.policy, heaviest(self.ranks, micros, gathered)
  local what = ("step %d: the %s of %.4g is above %.4g, which is far from the steps before it; %s has %.0f%% of its loss"):format(
    step, spike.what == "norm" and "gradient's norm" or "loss", spike.value, spike.limit, name, 100 * share)
  if policy == "stop" then exit.fail(exit.FAILED, "%s; nothing was updated: spike=stop", what) end
  self.log:close_line()
  self.log:say("%s; %s", what, policy == "skip" and "nothing was updated" or ("its norm was reduced to %.4g"):format(spike.typical))
end

-- End the run: a step has made what is no finite number. There is no way back to the state before it.
local function ruined(self, step)
  self.ruined = step
  if self.keeper then self.keeper:settle() end
  local saved = self.keeper and self.keeper.saved or self.saved_in
  exit.fail(exit.NOT_FINITE, "step %d made weights or moments that are no finite numbers: a learning rate, weight decay or eps "
    .. "that is too extreme; %s", step, saved and "the last good state is in " .. saved or "no good state was saved before it")
end

-- End the run: a number of a step is not finite.
function Trainer:refuse(step, what, value, micros, weight)
  local own, names = {}, {}
  self.zero:forward(weight ~= 0 and #micros or 0, function(i)
    for _, name in ipairs(culprits(self.model, micros[i])) do own[#own + 1] = name end
  end)
  for _, list in ipairs(self.ranks:gather(own)) do
    for _, name in ipairs(list) do names[#names + 1] = name end
  end
  if weight == 0 then
    names[1] = "all; the weights of their tokens add up to 0, so there is no loss: see learn = of the template"
  elseif #names == 0 then
    names[1] = "none alone; their sums overflowed"
  end
  self.log:close_line()
  if self.done > 0 then self:keep(true, true) end  -- nothing was updated: this is good
  exit.fail(exit.NOT_FINITE, "the %s of step %d is %s; nothing was updated. Samples: %s%s",
            what, step, tostring(value), table.concat(names, ", ", 1, math.min(#names, 10)),
            self.saved_in and ("; the last good state is in " .. self.saved_in) or "")
end

local function forget_upload(micro)
  if micro and micro.uploaded then
    inputs.release(micro.uploaded)
    micro.uploaded = nil
  end
end

-- Forward and backward of one micro-batch. @treturn Tensor its loss @treturn ?Tensor its rows' -log p,
-- both kept: they are read when the whole step is queued @treturn table the batch on the device
function Trainer:accumulate(micro)
  local loss, nll, laid = tensor.scope(function()
    return tensor.as_class("activation", function()
      local span = trace.begin "forward"
      local loss, nll, at = (self.loss or self.model.loss)(self.model, micro.uploaded or micro.batch)
      trace.done(span)
      if not tensor.is(loss) then
        blame("loss gave a %s; a tensor is wanted, the sum over rows of weight times loss", type(loss))
      end
      if nll then nll:keep() end
      span = trace.begin "backward"
      loss:backward()
      trace.done(span)
      return loss:keep(), nll, at
    end)
  end)
  forget_upload(micro)
  return loss, nll, laid
end

-- This rank's micro-batches of an optimizer step, the first of them on the device: the others follow while it is busy.
function Trainer:lay_out(update)
  local per_epoch = self.batches:updates()
  local span = trace.begin "samples"
  local micros, weight = self.batches:update(math.floor(update / per_epoch), update % per_epoch)
  if micros[1] then
    tensor.as_class("activation", function() micros[1].uploaded = self.model:upload(micros[1].batch) end)
  end
  trace.done(span)
  return { update = update, micros = micros, weight = weight }
end

-- What this rank's part of an optimizer step came to, read when all of it is queued: the one wait for the device.
-- @treturn table `loss`, summed; `ledger`; `gathered`, what the journal has of its samples; `good`, whether all that it made
-- is finite @treturn number the norm of all ranks' gradient
function Trainer:read(losses, nlls, micros, laid)
  local gathered = journals.empty()
  local list = { self.optim.scale }
  for i, loss in ipairs(losses) do list[2 * i], list[2 * i + 1] = loss, nlls[i] or loss end
  local read, sum, ledger = tensor.read_all(list), 0, {}
  for i, micro in ipairs(micros) do
    sum = sum + read[2 * i][0]
    if nlls[i] then
      ledgers.enter(ledger, micro, read[2 * i + 1], laid[i])
      journals.gather(gathered, micro, read[2 * i + 1], laid[i])
      nlls[i]:release()
    end
    losses[i]:release()
  end
  return { loss = sum, ledger = ledger, gathered = gathered, good = read[1][2] == 0 }, read[1][1]
end

-- The parts of all ranks together.
local function together(parts)
  local all = table.remove(parts, 1)
  for _, part in ipairs(parts) do
    for _, name in ipairs { "loss", "tokens", "shared", "learned" } do all[name] = all[name] + part[name] end
    all.good = all.good and part.good
    ledgers.merge(all.ledger, part.ledger)
    journals.merge(all.gathered, part.gathered)
  end
  return all
end

-- What each rank took for its part of the step; nil where there is one.
local function note_pace(self, parts)
  if not self.pace then return nil end
  local seconds = {}
  for r, part in ipairs(parts) do seconds[r] = part.own_seconds end
  return self.pace:add(seconds)
end

-- A sign of life, for a log that shows one.
local function alive(self, ...)
  if self.log and self.log.life then self.log:life(...) end
end

-- One optimizer step, and what it was.
local function make(self)
  if self.tracer then self.tracer:before(self.done + 1) end
  local whole = trace.begin("step " .. self.done + 1)
  local start = host.now()
  local own = self.ahead
  self.ahead = nil
  if own and own.update ~= self.done then  -- somebody has set `done`
    forget_upload(own.micros[1])
    own = nil
  end
  own = own or self:lay_out(self.done)
  local micros, weight = own.micros, own.weight
  self.ranks:at("forward and backward", { step = self.done + 1 })
  self.model:zero_grad()
  local losses, nlls, laid, tokens, shared, learned = {}, {}, {}, 0, 0, 0
  local rounds = self.zero:rounds(#micros)
  for i, micro in ipairs(micros) do
    alive(self, ("step %d/%d"):format(self.done + 1, self.steps), ("micro-batch %d of %d"):format(i, #micros))
    self.ranks:at(("forward and backward, %d of %d"):format(i, #micros))
    self.model.options.watch = self.zero:watch(i == #micros, self.loss ~= nil)
    losses[i], nlls[i], laid[i] = self:accumulate(micro)
    self.zero:passed()
    local saved = tonumber(micro.batch.saved or 0)  -- a batch from Lua lists shares nothing
    tokens, shared = tokens + tonumber(micro.batch.n) + saved, shared + saved
    learned = learned + tonumber(micro.batch.m)
  end
  self.model.options.watch = nil
  for _ = #micros + 1, rounds do self.zero:passed(true) end
  self.zero:complete_rest()
  local lr = self.lr(self.done)
  if type(lr) ~= "number" or not finite(lr) or lr < 0 then
    blame("the schedule made the learning rate of step %d %s; a number from 0 is wanted", self.done + 1, tostring(lr))
  end
  saves.intact()
  self.until_update = host.now() - start  -- as long a save may write from where weights and moments lie
  local span = self.keeper and trace.begin "save: what is neither written nor copied yet"
  if self.keeper then self.keeper:before_update() end
  trace.done(span)
  self.updating = true  -- from here on the state is neither that of this step nor of the one before
  local found = {}
  span = trace.begin "optimizer"
  weight = self.ranks:sum(weight)
  self.optim:step(lr, weight, losses, decider(self, found))  -- which the device leaves out where a number is not finite
  trace.done(span)
  -- While a device is busy with this step, the next one's samples are laid out, and the first of them
  -- queued for upload before this one is waited for. What is wrong with them is said when it is their turn:
  -- this step is made, and is counted first.
  local interrupted
  if self.done + 1 < self.steps then
    local laid_out, ahead = pcall(self.lay_out, self, self.done + 1)
    self.ahead = laid_out and ahead or nil
    -- Ctrl-C at the prompt is no fault of the samples.
    interrupted = not laid_out and tostring(ahead):find "interrupted$" and host.interrupts() > 0 and ahead
  end
  span = trace.begin "wait for the device, and read losses"
  local part, norm = self:read(losses, nlls, micros, laid)
  part.tokens, part.shared, part.learned = tokens, shared, learned
  local own_samples = part.gathered
  part.own_seconds = self.ranks:own_seconds()
  local parts = self.ranks:gather(part)
  local pace = note_pace(self, parts)
  local all = together(parts)
  local loss, gathered = all.loss / weight, all.gathered
  trace.done(span)
  local made = self.optim:finish(norm)
  self.updating = nil
  if not finite(loss) then self:refuse(self.done + 1, "loss", loss, micros, weight) end
  if not made and not found.spike then self:refuse(self.done + 1, "gradient's norm", norm, micros, weight) end
  if not all.good then ruined(self, self.done + 1) end
  if found.spike then tell_of_spike(self, self.done + 1, found.spike, micros, own_samples) end
  self.done = self.done + 1
  if self.spikes and not found.spike then self.spikes:accept(loss, norm) end
  self.tokens, self.learned = self.tokens + all.tokens, self.learned + all.learned
  self.shared = self.shared + all.shared
  local seconds = host.now() - start
  self.last = { step = self.done, epoch = self.done / self.batches:updates(), loss = loss, lr = lr, grad_norm = norm,
                tokens = all.tokens, tokens_so_far = self.tokens, shared_tokens = all.shared, learned_tokens = all.learned,
                ledger = ledgers.close(all.ledger), seconds = seconds, tokens_per_s = all.tokens / seconds,
                memory = tensor.memory(self.model.device).peak }
  self.last.ranks = pace
  self.last.spike = found.spike and self.spikes.policy
  self.entry = self.journal and journals.entry(self.last, gathered, weight)
  trace.done(whole)
  if interrupted then error(interrupted, 0) end
  return self.last
end

--- Make one optimizer step: the step before is closed first, and this one is open until the next, or until `close` or `finish`.
-- An error where none is left.
-- @treturn table `step` (from 1), `loss`, `lr`, `grad_norm`, `tokens` of the samples, `tokens_so_far`, of the step's
-- `shared_tokens` (computed once for several) and `learned_tokens`, `seconds`, `tokens_per_s`, `memory`
-- (bytes, at most so far), `ledger` (mean -log p and count of loss tokens by kind of segment and by verdict)
-- @usage local trainer = run:trainer()
-- trainer:step().step   --> 1
-- trainer:close()
-- trainer:save_now(), trainer:goes_on()   --> true true
-- run:finish()
function Trainer:step()
  self:open()
  local t = make(self)
  self.made, self.open_step = {}, t
  for name, value in pairs(t) do self.made[name] = value end
  return t
end

-- ---- measuring -------------------------------------------------------------------------------

--- Measure held-out batches.
-- @treturn number the mean loss, each token by its weight
-- @treturn table the ledger, as a step has it; with `context` kinds that have no loss weight have their place
-- in it, of text that is computed once for several samples each token once
-- @usage local trainer = run:trainer()
-- trainer:evaluate(run.heldout) > 0   --> true
-- run:finish()
function Trainer:evaluate(batches)
  local sum, weight, ledger, options = 0, 0, {}, self.model.options
  local skip, here = options.skip, ranks.here()
  if self.context then options.skip = false end
  finally(function() options.skip = skip end, autograd.no_grad, function()
    for i = 0, batches:updates() - 1 do
      here:at(("held-out samples, %d of %d"):format(i + 1, batches:updates()))
      local micros, w = batches:update(0, i)
      weight = weight + w
      alive(self, "held out", ("batch %d of %d"):format(i + 1, batches:updates()))
      self.zero:forward(#micros, function(k)
        tensor.scope(function()
          local loss, nll, at = self.model:loss(micros[k].batch)
          local read = tensor.read_all { loss, nll }
          sum = sum + read[1][0]
          ledgers.enter(ledger, micros[k], read[2], at, self.context)
        end)
      end)
    end
  end)
  local all = { loss = 0, weight = 0, ledger = {} }
  for _, part in ipairs(here:gather { loss = sum, weight = weight, ledger = ledger }) do
    all.loss, all.weight = all.loss + part.loss, all.weight + part.weight
    ledgers.merge(all.ledger, part.ledger)
  end
  return all.loss / all.weight, ledgers.close(all.ledger)
end

--- What a trainer is, in a line.
-- @treturn string
function Trainer:__tostring()
  local t = self.last
  return ("trainer: %d of %d steps made%s; trainer:step(), trainer:run(), trainer:evaluate(batches)"):format(self.done, self.steps,
    t and (", loss %.4f, learning rate %g, gradient norm %.3g"):format(t.loss, t.lr, t.grad_norm) or "")
end

M.Trainer = Trainer
return M
