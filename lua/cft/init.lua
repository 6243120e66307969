--- `require "cft"`: the table of contents. A module is loaded when it is first named, so that the
-- prompt is there at once.
-- @usage local cft = require "cft"
-- local x = cft.randn({ 2, 3 }, { requires_grad = true })
-- (x * x):sum():backward()
-- print(x.grad)

local modules = {
  -- a run, in the order the data flows
  config = "cft.config",          -- a recipe's defaults, overridden from the command line
  data = "cft.data",              -- sources of records
  mix = "cft.mix",                -- how often which
  dedup = "cft.dedup",            -- which say the same
  decontaminate = "cft.decontaminate",  -- which records ask what a benchmark asks
  template = "cft.template",      -- record -> segments
  jinja = "cft.jinja",            -- the chat templates of others, rendered
  chat_template = "cft.chat_template",  -- the model's own beside the run's
  tokenizer = "cft.tokenizer",    -- text -> ids
  mask = "cft.mask",              -- segments -> ids and weights
  samples = "cft.samples",        -- the same of all records, checked and reported
  batch = "cft.batch",            -- ids and weights -> packed micro-batches
  models = "cft.models",          -- folder, GGUF or shape -> model
  loss = "cft.loss",              -- what is minimised
  optim = "cft.optim",            -- AdamW and clip
  schedule = "cft.schedule",      -- step -> multiplier
  train = "cft.train",            -- the loop
  checkpoint = "cft.checkpoint",  -- save and resume
  generate = "cft.generate",      -- text from the model
  -- the engine
  tensor = "cft.tensor", ops = "cft.ops", autograd = "cft.autograd", nn = "cft.nn",
  comm = "cft.comm",              -- sums over several processes
  -- around it
  check = "cft.check", json = "cft.json", log = "cft.log", exit = "cft.exit", files = "cft.files",
  glob = "cft.glob", hub = "cft.hub", fetch = "cft.fetch", demo = "cft.demo", recipe = "cft.recipe", critic = "cft.critic",
  critique = "cft.critique",
}

-- The few names used all the time, without their module in front.
local shortcuts = {
  tensor = { "zeros", "ones", "full", "randn", "rand", "empty", "scope", "memory" },
  autograd = { "no_grad" },
}

local M = {}

for module, names in pairs(shortcuts) do
  for _, name in ipairs(names) do
    M[name] = function(...)
      require "cft.ops"  -- a tensor without its operators would surprise
      M[name] = require("cft." .. module)[name]
      return M[name](...)
    end
  end
end

return setmetatable(M, {
  __index = function(t, name)
    local module = modules[name]
    if not module then return nil end
    if name == "tensor" then require "cft.ops" end
    local m = require(module)
    rawset(t, name, m)
    return m
  end,
})
