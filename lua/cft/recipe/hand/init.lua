--- A run by hand: the steps and looks that a prompt wants of it, and the prompt that stands before its first step.
--
-- The prompt itself stands above the recipes: the program says by `package.preload` who is "cft.console".

local attach = require "cft.recipe.hand.attach"
local blame = require "cft.base.blame"
local exit = require "cft.base.exit"
local generate = require "cft.generate"
local host = require "cft.host"
local samples = require "cft.report.samples"

local M = { methods = {} }
local Run = M.methods

-- ---- what a run can be told --------------------------------------------------------------------

-- Ctrl-C at the prompt is only counted while a step is made: the step is whole, and then the line ends.
local function end_line_if_asked(run)
  if host.interrupts() == 0 then return end
  host.interrupts(true)
  error(("interrupted; %d of %d steps are made"):format(run.training.done, run.training.steps), 0)
end

--- Make one optimizer step and close it: it is measured, logged and saved as that is due.
-- At the prompt Ctrl-C ends the line when the step is whole.
-- @treturn table the step's numbers, as `trainer:step` gives them
-- @usage run:step().step   --> 1
-- run:finish()
function Run:step()
  local trainer = self:trainer()
  local t = trainer:step()
  trainer:close()
  if self.by_hand == "prompt" then
    end_line_if_asked(self)
    host.interrupts(true)
  end
  return t
end

--- Print samples as the model sees them, loss tokens marked.
-- @int[opt=3] n how many, from the first one on
-- @usage run:preview(1)
-- run:finish()
function Run:preview(n)
  if n ~= nil and (type(n) ~= "number" or n < 1 or n % 1 ~= 0) then blame("run:preview wants a number of samples, from 1") end
  samples.show(self, n or 3)
end

--- What the model answers now to a question, in the form that the run's template gives it.
-- @string question
-- @tab[opt] opts of `cft.generate.ids`: `max_new`, `temperature`, ...
-- @treturn string
-- @usage type(run:generate("2 + 3?", { max_new = 4 }))   --> "string"
-- run:finish()
function Run:generate(question, opts)
  if type(question) ~= "string" then blame("run:generate wants a text, got a %s", type(question)) end
  local conversation = { messages = { { role = "user", content = question }, { role = "assistant", content = "" } } }
  return generate.answers(self, { conversation }, opts)[1]
end

--- Save the state after the last step, whatever is due. There must be an `out` and a step that this run has made.
-- @treturn string the folder of the checkpoint
-- @usage run:step()
-- run:save():match "[^/]+$"   --> "step-000001"
-- run:finish()
function Run:save()
  if not self.out then blame "run:save: this run has no out=, so there is nowhere to save" end
  local trainer = self:trainer()
  if not trainer:save_now() then blame "run:save: no step is made yet; the state is that of the beginning" end
  return self.saved
end

-- ---- the prompt before the first step ----------------------------------------------------------

local function wanted() return (rawget(_G, "arg") or {}).interactive == true end

local function leave(run)
  if run.record then
    run:finish()
  else
    run.log:say("no step was made, and nothing was written")
    run:give_up()
  end
  exit.leave()
end

local function prompt(run)
  run.by_hand, run.training.by_hand = "prompt", true
  local model = run:model()
  local meta = getmetatable(model)
  if type(meta) == "table" and meta.__call then rawset(run, "model", model) end  -- run:model() is the model still
  M.opened = true
  require("cft.console").start { run = run, trainer = run.training, model = model }
  leave(run)
end

--- Before a step is made: with `-i` the prompt, before the first one; else lines of `cftrun attach`.
-- @tparam Run run its trainer is made
function M.between(run)
  if run.by_hand == "prompt" then
    end_line_if_asked(run)
    if run.ended then blame "this run is finished" end
    return run:begin_steps()
  end
  if run.attached and run.attached.running then
    blame "the run makes its steps itself; a line of cftrun attach stands between two of them"
  end
  if wanted() then return prompt(run) end
  attach.poll(run)
end

--- A run begins. @tparam Run run @bool listens as its setting `attach` says
function M.begin(run, listens)
  if listens and run.out and run.training and not run.by_hand then attach.offer(run) end
end

--- A run is over. @tparam Run run
function M.close(run)
  attach.close(run, run.record and run.record.status or "failed")
end

--- Does `-i` hold back the record of a run until its first step?
function M.waits() return wanted() end

return M
