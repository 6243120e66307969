--- find the first step in which two runs differ, and in what
--
--   cftrun diff RUN_A RUN_B
--
-- Compares the journals of two runs step by step: order and contents of samples, their loss weights, rate, losses, norm. Then
-- the code is 1; 0 where all steps that both have made are equal.

local exit = require "cft.base.exit"
local host = require "cft.host"
local journals = require "cft.train.journal"
local texts = require "cft.base.text"

local M = {}

local NAME = ...  -- of this module: its first comment is the help

-- The first place where two lists differ; nil where they are equal.
local function place(a, b)
  for k = 1, math.max(#a, #b) do
    if a[k] ~= b[k] then return k end
  end
end

-- In what two entries of one step differ, the cause before its effects; nil where they are equal.
local function difference(a, b)
  local function record(k) return ("record %s"):format(tostring(a.records and a.records[k] or "?")) end
  local k = place(a.samples, b.samples)
  if k then
    return ("order: sample %d of the step is number %s in the first, %s in the second"):format(k, tostring(a.samples[k]),
      tostring(b.samples[k]))
  end
  k = place(a.contents, b.contents)
  if k then return ("data: sample %d, %s (number %d), has other tokens"):format(k, record(k), a.samples[k]) end
  k = place(a.weights, b.weights)
  if k then return ("loss weights: sample %d, %s: %g and %g"):format(k, record(k), a.weights[k], b.weights[k]) end
  if place(a.micros, b.micros) then return "how samples are put together in micro-batches" end
  if a.lr ~= b.lr then return ("rate: %.9g and %.9g"):format(a.lr, b.lr) end
  k = place(a.losses, b.losses)
  if k then return ("loss: sample %d, %s: %.9g and %.9g"):format(k, record(k), a.losses[k], b.losses[k]) end
  for _, name in ipairs { "loss", "grad_norm", "spike" } do
    if a[name] ~= b[name] then return ("%s: %s and %s"):format(name, tostring(a[name]), tostring(b[name])) end
  end
end

local function read(run)
  local entries, last = journals.read(run)
  if not entries then exit.fail(exit.USAGE, "diff: %s", last) end
  return entries, last
end

--- The command.
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then
    return print((host.source(NAME):match "^(.-)\n\n[^-]":gsub("%f[^\n%z]%-+ ?", "")))
  end
  if #args ~= 2 then exit.fail(exit.USAGE, "diff: name two runs: cftrun diff RUN_A RUN_B") end
  local a, last_a = read(args[1])
  local b, last_b = read(args[2])
  local last, compared = math.min(last_a, last_b), 0
  for step = 1, last do
    if a[step] and b[step] then
      compared = compared + 1
      local what = difference(a[step], b[step])
      if what then
        print(texts.printable(("step %d differs: %s"):format(step, what)))
        return exit.FAILED
      end
    end
  end
  print(("equal in %d steps; %d and %d are made"):format(compared, last_a, last_b))
  return exit.OK
end

return M
