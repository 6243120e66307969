--- What a run's journal, RUN/journal.msgpack, has of a step: its samples, and what each of them came to.
--
-- An entry: `step`, `epoch`, `time` (seconds since 1970), `seconds`, `loss`, `lr`, `grad_norm`, `weight`, `tokens`; `samples`, the numbers
-- of its samples, in the order of its micro-batches, whose sizes are `micros`, and `records`, those of their records in their sources; and in the same order `losses`, the sums over a sample's loss
-- tokens of weight times -log p, `weights`, the sums of these weights, and `contents`, 48 bits of the hash of each sample's
-- token ids. With `spike` what became of an outlier: "skip", "reduce" or "stop".

local host = require "cft.host"
local journals = require "cft.io.journal"

local M = { NAME = "journal.msgpack" }

--- The losses of a micro-batch's samples. The numbers are added in the order of the tokens, so they are the same whenever
-- the step is.
-- @tab into gets `samples`, `records`, `losses`, `weights`, `contents`, `micros`
-- @tab micro @param values -log p of each row of the head @tab at the batch on the device
function M.gather(into, micro, values, at)
  local b = micro.batch
  local cu, n = at.cu_rows or b.cu_seqlens, tonumber(b.sequences)
  for s = 0, n - 1 do
    local sum, weight = 0, 0
    for i = cu[s], cu[s + 1] - 1 do
      local row = at.host_rows and at.host_rows[i] or i
      local w = b.weights[row]
      if w ~= 0 then sum, weight = sum + w * values[i], weight + w end
    end
    local k = #into.losses + 1
    into.losses[k], into.weights[k] = sum, weight
    into.samples[k] = micro.samples and micro.samples[s + 1] or -1
    into.records[k] = micro.items and tonumber(micro.items[s + 1].sample.record) or -1
    into.contents[k] = micro.contents and micro.contents[s + 1] or 0
  end
  into.micros[#into.micros + 1] = n
end

--- Room for what `gather` gathers.
function M.empty() return { samples = {}, records = {}, losses = {}, weights = {}, contents = {}, micros = {} } end

--- Put what another rank has gathered behind it.
-- @tab into @tab other of `gather`
function M.merge(into, other)
  for name, list in pairs(other) do
    for _, value in ipairs(list) do table.insert(into[name], value) end
  end
end

--- The entry of a step.
-- @tab t its numbers @tab gathered of `gather`, or nil where the loss is a recipe's own
-- @number weight what the summed loss was divided by
function M.entry(t, gathered, weight)
  local e = { step = t.step, epoch = t.epoch, time = host.time(), seconds = t.seconds, loss = t.loss, lr = t.lr,
              grad_norm = t.grad_norm, weight = weight, tokens = t.tokens, spike = t.spike }
  for name, list in pairs(gathered or {}) do e[name] = list end
  return e
end

-- ---- the file --------------------------------------------------------------------------------

local Journal = {}
Journal.__index = Journal

--- The journal of a run that begins, or goes on after a step: entries of later ones are cut off.
-- @string out folder of the run @int step 0 for a new run @tab log
function M.open(out, step, log)
  local self = setmetatable({ log = log, path = out .. "/" .. M.NAME }, Journal)
  self:try(function()
    self.file = journals.append(self.path, function(e) return type(e) == "table" and tonumber(e.step) and e.step <= step end)
  end)
  return self
end

-- A journal that cannot be written is said once, and ends no run.
function Journal:try(fn)
  if self.broken then return end
  local ok, why = pcall(fn)
  if ok then return end
  self.broken = true
  self.log:close_line()
  self.log:say("%s: %s; the run goes on without it", self.path, tostring(why))
end

function Journal:add(entry) self:try(function() self.file:add(entry) end) end
function Journal:sync() self:try(function() self.file:sync() end) end

function Journal:close()
  if self.file then self.file:close() end
  self.file, self.broken = nil, true
end

--- The entries of a run's journal, by step.
-- @string out
-- @treturn ?table step → entry; nil and why
-- @treturn int the last step
function M.read(out)
  local file, why = journals.read(out .. "/" .. M.NAME)
  if not file then return nil, why end
  local entries, last = {}, 0
  for e in function() return (file:next()) end do
    if type(e) == "table" and type(e.step) == "number" then entries[e.step], last = e, math.max(last, e.step) end
  end
  file:close()
  return entries, last
end

return M
