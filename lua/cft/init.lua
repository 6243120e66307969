--- `require "cft"`: the table of contents. A module is loaded when it is first named, so that the
-- prompt is there at once.
-- @usage local cft = require "cft"
-- local x = cft.randn({ 2, 3 }, { requires_grad = true })
-- local loss = (x * x):sum()
-- loss:backward()
-- print(x.grad)

local modules = {
  -- a run, in the order the data flows
  recipe = "cft.recipe",                      -- all of it, from settings to summary
  run = "cft.recipe.run",                     -- a run: its parts, and the loop over it
  config = "cft.config",                      -- a recipe's defaults, overridden from the command line
  data = "cft.data.open",                     -- sources of records
  mix = "cft.data.mix",                       -- how often which
  dedup = "cft.data.dedup",                   -- which say the same
  decontaminate = "cft.data.decontaminate",   -- which records ask what a benchmark asks
  template = "cft.text.template",             -- record -> segments
  critique = "cft.text.critique",             -- templates of critiques
  jinja = "cft.text.jinja",                   -- the chat templates of others, rendered
  chat_template = "cft.text.chat_check",      -- the model's own beside the run's
  tokenizer = "cft.text.tokenizer",           -- text -> ids
  mask = "cft.samples.mask",                  -- segments -> ids and weights
  samples = "cft.samples",                    -- the same of all records, checked and reported
  batch = "cft.samples.batch",                -- ids and weights -> packed micro-batches
  models = "cft.models",                      -- folder, GGUF or shape -> model
  optim = "cft.train.optim",                  -- AdamW and clip
  schedule = "cft.train.schedule",            -- step -> multiplier
  train = "cft.train",                        -- the loop
  checkpoint = "cft.train.checkpoint",        -- save and resume
  generate = "cft.generate",                  -- text from the model
  grade = "cft.grade",                        -- is an answer right?
  report = "cft.report.run",                  -- the folder of a run, read
  eval = "cft.eval",                          -- scores on benchmarks
  -- the engine
  tensor = "cft.engine.tensor", ops = "cft.engine.ops", autograd = "cft.engine.autograd",
  nn = "cft.nn",                              -- what models are built of
  comm = "cft.engine.comm",                   -- sums over several processes
  -- files and the Hub
  files = "cft.io.files", hub = "cft.io.hub", fetch = "cft.io.fetch",
  -- around it
  check = "cft.base.check", json = "cft.base.json", log = "cft.base.log", exit = "cft.base.exit",
  glob = "cft.base.glob", demo = "cft.demo", critic = "cft.demo.rule_critic",
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
      require "cft.engine.ops"  -- a tensor without its operators would surprise
      M[name] = require(modules[module])[name]
      return M[name](...)
    end
  end
end

-- `cft.dataa`: what is not there is nil, but for a slip of the finger. Short names are near too many others.
local function suggest(name)
  if type(name) ~= "string" or #name < 4 then return end
  local names = {}
  for key in pairs(modules) do names[#names + 1] = key end
  for _, list in pairs(shortcuts) do
    for _, key in ipairs(list) do names[#names + 1] = key end
  end
  local meant = require("cft.base.check").closest(name, names)
  if meant then require "cft.base.blame"("cft has no '%s'; did you mean '%s'?", name, meant) end
end

return setmetatable(M, {
  modules = modules,  -- for `help`
  __index = function(t, name)
    local module = modules[name]
    if not module then return suggest(name) end
    if name == "tensor" then require "cft.engine.ops" end
    if name == "template" then require "cft.samples.prompt" end  -- chat:prompt
    local m = require(module)
    --- A GGUF file, seen as a model's folder: `cft.models.gguf`.
    -- @string path
    -- @usage cft.files.write(path, "no GGUF")
    -- select(2, pcall(cft.files.gguf, path))   --> "...no GGUF file: it does not begin with..."
    if name == "files" then m.gguf = function(path) return t.models.gguf(path) end end  -- a file, seen as a model
    --- What `cft.generate` does with this model.
    -- @tparam Model model
    -- @param prompts as there @tab[opt] opts as there
    -- @return as there
    -- @usage model:generate({ 1, 2, 3 }, { max_new = 4, seed = 1 })   --> nil { ids = {...}, prompt = {...}, samples = {...} }
    if name == "models" then m.Model.generate = function(model, prompts, opts) return t.generate(model, prompts, opts) end end
    rawset(t, name, m)
    return m
  end,
})
