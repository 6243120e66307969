-- The trainer as an object: what it has made is counted, whatever comes next.

local batch = require "cft.samples.batch"
local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local models = require "cft.models"
local optim = require "cft.train.optim"
local ffi = require "ffi"
local samples = require "cft.samples"
local template = require "cft.text.template"
local tensor = require "cft.engine.tensor"
local train = require "cft.train"

ffi.cdef [[
  void cft_note(const char *format, ...);
  int raise(int signal);
]]

local silent = { progress = function() end, close_line = function() end, say = function() end }

-- A trainer of a small model whose batches break down at an optimizer step.
local function trainer(broken)
  local tok = demo.tokenizer(1)
  local batches = batch.new(samples.new(data.generate(24, demo.training(1)), template.chatml(), tok), { batch = 4, tokens = 400 })
  local update = batches.update
  batches.update = function(self, epoch, index)
    if index == broken then error("record 7 is gone", 0) end
    return update(self, epoch, index)
  end
  local model = models.new { arch = "qwen2", d = 16, layers = 2, heads = 2, ffn = 24, vocab = tok:size(), tied = true, seed = 2 }
  return train.new { model = model, optim = optim.adamw(model), steps = 6, log = silent, batches = batches,
                     lr = function() return 1e-3 end }, model
end

return {
  { "what is wrong with the next step does not undo the one that was made", function()
    local t, model = trainer(2)
    t:step()
    local second = t:step()
    expect.same({ second.step, t.done, t.optim.count }, { 2, 2, 2 })
    expect.raises("record 7 is gone", t.step, t)
    expect.same({ t.done, t.optim.count }, { 2, 2 })
    model:release()
  end },

  { "Ctrl-C while the next step is laid out ends the step, which is counted", function()
    local t, model = trainer()
    t:goes_on()  -- the run has begun in another line of the prompt, which has forgotten that somebody asks for Ctrl-C
    local update, C = t.batches.update, require("cft.engine.ffi").C
    t.batches.update = function(self, epoch, index)
      if index == 1 and t.batches.update ~= update then
        t.batches.update = update
        ffi.C.raise(2)
      end
      return update(self, epoch, index)
    end
    C.cft_interrupts_clear()
    local ok, err = pcall(t.step, t)
    C.cft_interrupts_clear()
    expect.same(ok, false)
    expect.match(err, "interrupted$")
    expect.same({ t.done, t.optim.count, t.last.step }, { 1, 1, 1 })
    expect.same(t:step().step, 2)
    model:release()
  end },

  { "a step that is not the next one is laid out anew", function()
    local t, model = trainer()
    local plain, other = trainer()
    for _ = 1, 3 do plain:step() end
    t:step()
    t.done = 2  -- as after a resume: the second was laid out ahead
    expect.truthy(t.ahead.update == 1)
    local step = t:step()
    expect.same({ step.step, t.ahead.update }, { 3, 3 })
    expect.same({ step.tokens, step.learned_tokens }, { plain.last.tokens, plain.last.learned_tokens })
    model:release()
    other:release()
  end },

  { "what kernels had to say stands beside the step it was said in", function()
    local t, model = trainer()
    local steps = {}
    t.steps, t.log = 2, setmetatable({ progress = function(_, step) steps[step.step] = step.notes or false end },
                                     { __index = silent })
    tensor.notes()
    ffi.C.cft_note("cpu: a kernel is %s", "slow")
    t:run()
    expect.same(steps, { { "cpu: a kernel is slow" }, false })
    expect.same(tensor.notes(), {})
    model:release()
  end },

  { "no ETA before a second step was timed", function()
    local t, model = trainer()
    local timed = {}
    t.steps, t.log = 3, setmetatable({ progress = function(_, step) timed[step.step] = step.seconds_a_step or false end },
                                     { __index = silent })
    t:run()
    expect.same({ timed[1], type(timed[2]), type(timed[3]) }, { false, "number", "number" })
    expect.truthy(timed[2] > 0)
    model:release()
  end },

  { "what is interrupted says where it was saved", function()
    local function said(save)
      local t, model = trainer()
      local lines = {}
      t.log = setmetatable({ say = function(_, ...) lines[#lines + 1] = (...):format(select(2, ...)) end }, { __index = silent })
      t.hooks.after_step = function() ffi.C.raise(2) end
      t.save = save
      expect.same(t:run().interrupted, true)
      model:release()
      return table.concat(lines, "\n")
    end
    expect.same(said(function(t) t.saved_in = "out/step-000001" end), "interrupted after step 1; saved in out/step-000001")
    expect.same(said(function() end), "interrupted after step 1; saved")
    expect.same(said(nil), "interrupted after step 1; nothing was saved")
  end },

  { "measuring that fails leaves the model's options as they were", function()
    local t, model = trainer(1)
    t.context = true
    expect.raises("record 7 is gone", t.evaluate, t, t.batches)
    expect.same(model.options.skip, true)
    local before = t:step()
    expect.truthy(before.ledger.query == nil)
    model:release()
  end },
}
