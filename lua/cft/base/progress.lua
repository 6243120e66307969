--- What a person sees of a run that works: a line a step, on a terminal rewritten in place, and signs of life inside of
-- long steps. Where there is no terminal, one line in ten or so is written, and no sign of life.
-- @module cft.base.progress
-- @usage local progress = require "cft.base.progress"
-- local p = progress.new { terminal = false, write = function(text) print((text:gsub("\n", ""))) end }
-- p:step({ step = 1, loss = 2, lr = 1e-4, grad_norm = 1, tokens_per_s = 100 }, 50)
-- --> step 1/50  loss 2.0000  lr 1.00e-04  norm 1.00  100 tok/s

local format = require "cft.base.format"
local host = require "cft.host"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}
local Progress = {}
Progress.__index = Progress

local PATIENCE = 1    -- seconds without a line after which a sign of life is due
local SHORT_RUN = 50  -- steps that all have their line, terminal or not
local LINES = 20      -- of a longer run without a terminal
local KEPT = 4096     -- losses, for the curve at the end

--- @tab[opt] o for tests: `terminal`, is there one; `columns` of it; `write`, gets texts; `now`, a clock
function M.new(o)
  o = o or {}
  local self = setmetatable({ losses = {}, every = 1, columns = o.columns, now = o.now or host.now }, Progress)
  self.terminal = o.terminal
  if self.terminal == nil then self.terminal = term.is_terminal() end
  self.write = o.write or function(text)
    io.stdout:write(text)
    io.stdout:flush()
  end
  return self
end

-- What the recipe has measured itself after this step, in order of the names.
local function own_parts(t, parts)
  local names = {}
  for name in pairs(t.evaluated or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = t.evaluated[name]
    value = type(value) == "number" and ("%.4g"):format(value) or tostring(value)
    parts[#parts + 1] = texts.printable(name .. " " .. value)
  end
  return #names > 0
end

-- The parts of a step's line, those that matter most first; and whether the step was measured, so that its line stays.
local function parts_of(t, steps)
  local parts = { ("step %d/%d"):format(t.step, steps), ("loss %.4f"):format(t.loss), ("lr %.2e"):format(t.lr),
                  ("norm %.2f"):format(t.grad_norm), format.count(t.tokens_per_s) .. " tok/s" }
  local function add(value, text) if value then parts[#parts + 1] = text(value) end end
  add(t.seconds_a_step, function(v) return "ETA " .. format.duration((steps - t.step) * v) end)
  add(t.heldout_loss, function(v) return ("held out %.4f"):format(v) end)
  local measured = own_parts(t, parts) or t.heldout_loss ~= nil
  add(t.epoch, function(v) return ("epoch %.2f"):format(v) end)
  add(t.memory, format.bytes)
  return parts, measured
end

-- As many of the parts as a line of the terminal has room for: a line that wraps cannot be rewritten.
local function fitted(self, parts)
  local columns, line = (self.columns or term.width()) - 1, parts[1]
  for i = 2, #parts do
    local longer = line .. "  " .. parts[i]
    if #longer:gsub("[\128-\191]", "") > columns then break end
    line = longer
  end
  return line
end

local function rewrite(self, line, passing)
  self.write("\r\27[K" .. line)
  self.open, self.passing, self.written = true, passing, self.now()
end

-- Losses for the curve: where they become too many, neighbours become one.
local function keep(self, loss)
  self.sum, self.count = (self.sum or 0) + loss, (self.count or 0) + 1
  if self.count < self.every then return end
  self.losses[#self.losses + 1] = self.sum / self.count
  self.sum, self.count = 0, 0
  if #self.losses < KEPT then return end
  local fewer = {}
  for i = 1, KEPT, 2 do fewer[#fewer + 1] = (self.losses[i] + self.losses[i + 1]) / 2 end
  self.losses, self.every = fewer, 2 * self.every
end

--- A step's line.
-- @tab t its numbers, as `trainer:step` gives them; without `seconds_a_step` no ETA
-- @int steps of the run
function Progress:step(t, steps)
  local parts, measured = parts_of(t, steps)
  keep(self, t.loss)
  self.seconds, self.written = t.seconds, self.now()
  if self.terminal and not measured then
    rewrite(self, fitted(self, parts))
    if t.step == steps then self:close() end
  elseif steps <= SHORT_RUN or t.step == 1 or t.step % math.max(1, math.floor(steps / LINES)) == 0
         or t.step == steps or measured then
    self:close()
    self.write(table.concat(parts, "  ") .. "\n")
  end
end

--- A sign of life: on a terminal, where the last line is a second old, or the step before took longer than that.
-- @string what such as `step 3/20`
-- @string where in it, such as `micro-batch 3 of 8`
function Progress:life(what, where)
  if not self.terminal then return end
  local now = self.now()
  if self.what ~= what then self.what, self.begun = what, now end
  local slow = (self.seconds or PATIENCE) >= PATIENCE
  if self.written and now - self.written < PATIENCE and not (slow and self.shown ~= what) then return end
  self.shown = what
  local last = self.losses[#self.losses]
  rewrite(self, fitted(self, { what, where, format.duration(now - self.begun), last and ("loss %.4f"):format(last) }), true)
end

--- End a line that was being rewritten; a sign of life goes.
function Progress:close()
  if not self.open then return end
  self.write(self.passing and "\r\27[K" or "\n")
  self.open = false
end

return M
