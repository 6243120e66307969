--- The training loop: accumulate, clip, update, log, save. Short enough to copy out.
--
-- A trainer is an object: `trainer:step()` makes one optimizer step and says what it was, so that a recipe
-- or the prompt can own the loop; `trainer:run()` is the usual one.

local autograd = require "cft.engine.autograd"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local host = require "cft.host"
local inputs = require "cft.nn.inputs"
local ledgers = require "cft.train.ledger"
local tensor = require "cft.engine.tensor"

local M = { compare = ledgers.compare }
local Trainer = {}
Trainer.__index = Trainer

local spec = {
  model = { "table" }, batches = { "table" }, optim = { "table" },
  lr = { "function" },                        -- step (from 0) → learning rate
  steps = { "integer", min = 0 },
  log = { "table" },
  heldout = { "table", optional = true },     -- batches that are only measured
  eval_every = { "integer", optional = true, min = 1 },
  context = { "boolean", false },             -- of held-out samples, measure what has no loss weight as well
  save_every = { "integer", optional = true, min = 1 },
  save = { "function", optional = true },     -- called with the trainer
  after_step = { "function", optional = true }, -- called with the trainer and the step's numbers
}

--- @tab opts `model`, `batches`, `optim`, `lr`, `steps`, `log`; as wanted `heldout`, `eval_every`, `context`,
-- `save_every`, `save`, `after_step`
function M.new(opts)
  local self = setmetatable(check.options("train.new", opts, spec), Trainer)
  self.done = 0                    -- optimizer steps made: with the seed, all there is of a position
  self.tokens, self.learned = 0, 0
  self.shared = 0                  -- of these tokens, since the process began, not recomputed
  self.model.options.ahead = true  -- backward starts at the losses as they are
  return self
end

-- ---- one optimizer step ----------------------------------------------------------------------

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

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- End the run: a number of a step is not finite.
function Trainer:refuse(step, what, value, micros, weight)
  local names = {}
  for _, micro in ipairs(weight ~= 0 and micros or {}) do
    for _, name in ipairs(culprits(self.model, micro)) do names[#names + 1] = name end
  end
  if weight == 0 then
    names[1] = "all; the weights of their tokens add up to 0, so there is no loss: see learn = of the template"
  elseif #names == 0 then
    names[1] = "none alone; their sums overflowed"
  end
  self.log:close_line()
  if self.save and self.done > 0 then self.save(self) end  -- nothing was updated: this state is good
  exit.fail(exit.NOT_FINITE, "the %s of step %d is %s; nothing was updated. Samples: %s%s",
            what, step, tostring(value), table.concat(names, ", ", 1, math.min(#names, 10)),
            self.saved_in and ("; the last good state is in " .. self.saved_in) or "")
end

local function forget_upload(micro)
  if micro.uploaded then inputs.release(micro.uploaded) end
  micro.uploaded = nil
end

-- Forward and backward of one micro-batch. @treturn Tensor its loss @treturn Tensor its rows' -log p,
-- both kept: they are read when the whole step is queued @treturn table the batch on the device
function Trainer:accumulate(micro)
  local loss, nll, laid = tensor.scope(function()
    return tensor.as_class("activation", function()
      local loss, nll, at = self.model:loss(micro.uploaded or micro.batch)
      nll:keep()
      loss:backward()
      return loss:keep(), nll, at
    end)
  end)
  forget_upload(micro)
  return loss, nll, laid
end

-- The micro-batches of an optimizer step, the first of them on the device: the others follow while it is busy.
function Trainer:lay_out(update)
  local per_epoch = self.batches:updates()
  local micros, weight = self.batches:update(math.floor(update / per_epoch), update % per_epoch)
  tensor.as_class("activation", function() micros[1].uploaded = self.model:upload(micros[1].batch) end)
  return { update = update, micros = micros, weight = weight }
end

-- What an optimizer step came to, read when all of it is queued: the one wait for the device.
function Trainer:read(losses, nlls, micros, laid)
  local list = { self.optim.scale }
  for i, loss in ipairs(losses) do list[2 * i], list[2 * i + 1] = loss, nlls[i] end
  local read, sum, ledger = tensor.read_all(list), 0, {}
  for i, micro in ipairs(micros) do
    sum = sum + read[2 * i][0]
    ledgers.enter(ledger, micro, read[2 * i + 1], laid[i])
    losses[i]:release()
    nlls[i]:release()
  end
  return sum, read[1][1], ledger
end

--- Make one optimizer step.
-- @treturn table `step` (from 1), `loss`, `lr`, `grad_norm`, `tokens` of the samples, of these
-- `shared_tokens` (computed once for several) and `learned_tokens`, `seconds`, `tokens_per_s`, `ledger` (mean
-- -log p and count of loss tokens by kind of segment and by verdict)
function Trainer:step()
  local start = host.now()
  local own = self.ahead
  self.ahead = nil
  if own and own.update ~= self.done then  -- somebody has set `done`
    forget_upload(own.micros[1])
    own = nil
  end
  own = own or self:lay_out(self.done)
  local micros, weight = own.micros, own.weight
  self.model:zero_grad()
  local losses, nlls, laid, tokens, shared, learned = {}, {}, {}, 0, 0, 0
  for i, micro in ipairs(micros) do
    losses[i], nlls[i], laid[i] = self:accumulate(micro)
    local saved = tonumber(micro.batch.saved or 0)  -- a batch from Lua lists shares nothing
    tokens, shared = tokens + tonumber(micro.batch.n) + saved, shared + saved
    learned = learned + tonumber(micro.batch.m)
  end
  local lr = self.lr(self.done)
  if type(lr) ~= "number" or not finite(lr) or lr < 0 then
    blame("the schedule made the learning rate of step %d %s; a number from 0 is wanted", self.done + 1, tostring(lr))
  end
  self.optim:step(lr, weight, losses)  -- which the device leaves out where a number is not finite
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
  local loss, norm, ledger = self:read(losses, nlls, micros, laid)
  loss = loss / weight
  local made = self.optim:finish(norm)
  if not finite(loss) then self:refuse(self.done + 1, "loss", loss, micros, weight) end
  if not made then self:refuse(self.done + 1, "gradient's norm", norm, micros, weight) end
  self.done = self.done + 1
  self.tokens, self.learned = self.tokens + tokens, self.learned + learned
  self.shared = self.shared + shared
  local seconds = host.now() - start
  self.last = { step = self.done, epoch = self.done / self.batches:updates(), loss = loss, lr = lr, grad_norm = norm,
                tokens = tokens, shared_tokens = shared, learned_tokens = learned,
                ledger = ledgers.close(ledger), seconds = seconds, tokens_per_s = tokens / seconds }
  if interrupted then error(interrupted, 0) end
  return self.last
end

-- ---- measuring -------------------------------------------------------------------------------

--- Measure held-out batches.
-- @treturn number the mean loss, each token by its weight
-- @treturn table the ledger, as a step has it; with `context` kinds that have no loss weight have their place
-- in it, of text that is computed once for several samples each token once
function Trainer:evaluate(batches)
  local sum, weight, ledger, options = 0, 0, {}, self.model.options
  local skip = options.skip
  if self.context then options.skip = false end
  finally(function() options.skip = skip end, autograd.no_grad, function()
    for i = 0, batches:updates() - 1 do
      local micros, w = batches:update(0, i)
      weight = weight + w
      for _, micro in ipairs(micros) do
        tensor.scope(function()
          local loss, nll, at = self.model:loss(micro.batch)
          local read = tensor.read_all { loss, nll }
          sum = sum + read[1][0]
          ledgers.enter(ledger, micro, read[2], at, self.context)
        end)
      end
    end
  end)
  return sum / weight, ledgers.close(ledger)
end

-- ---- the loop --------------------------------------------------------------------------------

local function due(every, step) return every and step % every == 0 end

--- Train until `steps` optimizer steps are made. Ctrl-C ends the step, saves and leaves with 130; a second
-- one leaves at once.
-- @treturn table the run's numbers, for summary.json; `ledger_first` and `ledger_last` are the ledgers of
-- the first and the last tenth of its optimizer steps, `heldout_ledger_before` and `heldout_ledger_after` those of
-- what is held out
function Trainer:run()
  local start, made_before, tokens_before = host.now(), self.done, self.tokens
  local summary = { ledger_first = {}, ledger_last = {} }
  local first  -- when the first step was made
  local tenth = math.max(1, math.floor((self.steps - self.done) / 10))
  if self.heldout then
    summary.heldout_loss_before, summary.heldout_ledger_before = self:evaluate(self.heldout)
    summary.heldout_loss_after, summary.heldout_ledger_after =
      summary.heldout_loss_before, summary.heldout_ledger_before
    self.log:say("held-out loss before: %.4f", summary.heldout_loss_before)
  end
  host.interrupts(true)
  host.interrupts()  -- asking is what keeps Ctrl-C from stopping the first step half way
  while self.done < self.steps do
    local t = self:step()
    summary.loss_first = summary.loss_first or t.loss
    summary.loss_last = t.loss
    -- The first step is no measure: it takes memory, compiles and times kernels.
    if first then t.seconds_a_step = (host.now() - first) / (self.done - made_before - 1) end
    first = first or host.now()
    local last = self.done == self.steps
    if self.heldout and (last or due(self.eval_every, self.done)) then
      t.heldout_loss, t.heldout_ledger = self:evaluate(self.heldout)
      summary.heldout_loss_after, summary.heldout_ledger_after = t.heldout_loss, t.heldout_ledger
    end
    local notes = tensor.notes()
    if notes[1] then t.notes = notes end
    self.log:progress(t, self.steps)
    if self.after_step then self.after_step(self, t) end
    local interrupted = host.interrupts() > 0
    if self.done - made_before <= tenth then ledgers.add(summary.ledger_first, t.ledger) end
    if self.done > self.steps - tenth or interrupted then ledgers.add(summary.ledger_last, t.ledger) end
    if self.save and (last or interrupted or due(self.save_every, self.done)) then self.save(self) end
    if interrupted then
      self.log:close_line()
      self.log:say("interrupted after step %d%s", self.done,
        not self.save and "; nothing was saved" or self.saved_in and "; saved in " .. self.saved_in or "; saved")
      summary.interrupted = true
      break
    end
  end
  host.interrupts(true)
  self.log:close_line()
  ledgers.close(summary.ledger_first)
  ledgers.close(summary.ledger_last)
  summary.steps, summary.seconds = self.done, host.now() - start
  summary.tokens, summary.learned_tokens, summary.shared_tokens = self.tokens, self.learned, self.shared
  summary.tokens_per_s = (self.tokens - tokens_before) / math.max(summary.seconds, 1e-9)
  return summary
end

M.Trainer = Trainer
return M
