--- The model and the tokenizer of a run: those of a path, the demo's, or the recipe's own; and how long a sample they allow.

local blame = require "cft.base.blame"
local config = require "cft.config"
local configs = require "cft.models.config"
local demo = require "cft.demo"
local exit = require "cft.base.exit"
local format = require "cft.base.format"
local models = require "cft.models"
local tokenizers = require "cft.text.tokenizer"

local M = {}

--- What a run brings along in place of a path.
-- @tab cfg settings @tab o options of the recipe
-- @treturn ?table `tokenizer`, `model` as the recipe gives them, and whose they are, `name`; nil where `model=` is taken
function M.of(cfg, o)
  if cfg.demo then
    return { tokenizer = demo.tokenizer(cfg.seed), model = demo.tiny, name = "of the demo" }
  elseif not cfg.model and (o.model or o.tokenizer) then
    if not (o.model and o.tokenizer) then
      blame("recipe.run: a %s without a %s; a recipe brings both, or neither", o.model and "model" or "tokenizer",
        o.model and "tokenizer" or "model")
    end
    return { tokenizer = o.tokenizer, model = o.model, name = "of the recipe" }
  end
end

--- The tokenizer. Its source is open: a tokenizer may be made of the words of its records.
-- @tab run with `source`, `own`, `path`
-- @treturn Tokenizer
function M.tokenizer(run)
  if not run.own then return tokenizers.load(run.path) end
  local made = run.own.tokenizer
  if type(made) == "function" then made = made(run.source) end
  if type(made) ~= "table" or not made.encode then
    blame("recipe.run: tokenizer gave %s; cft.tokenizer.load and cft.tokenizer.parse make one",
      type(made) == "table" and "a table" or tostring(made))
  end
  return made
end

-- The longest sequence, and where that is from; nil and why where nobody says.
local function context_of(run)
  if not run.own then return models.context(run.path) end
  local model = run.own.model
  if model.config then return configs.limit(model.config) end
  local tokens = model.context or models.CONTEXT
  return tokens, ("context = %d of its shape"):format(tokens)
end

--- The longest sample: what the recipe says, else what a micro-batch holds; and never more than the model's context.
-- @tab run gets `context`, the model's, where it is known
-- @tab how options of the samples; `max_tokens` and `limit` are set
function M.hold_to_limits(run, how)
  if not how.max_tokens then
    how.max_tokens, how.limit = run.cfg.tokens, ("which is what a micro-batch holds (tokens = %d)"):format(run.cfg.tokens)
  end
  local context, origin = context_of(run)
  run.context = context
  if not context then
    run.log:say("samples are not held to the model's context, which is not known: %s", origin)
  elseif context < how.max_tokens then
    how.max_tokens, how.limit = context, ("which is the model's context (%s)"):format(origin)
    run.log:say("samples are held to %d tokens, %s", context, how.limit)
  end
end

-- The shape of the recipe's own model, with what the run makes of it.
local function own_shape(run)
  local shape = { vocab = run.tokenizer:size(), seed = run.cfg.seed, device = run.device, dtype = run.dtype,
                  parts = config.peek(run.cfg, "zero") == 3 }
  for name, value in pairs(run.own.model) do shape[name] = value end
  return shape
end

-- The recipe's own model, new where it gave a shape.
local function own_model(run)
  if run.own.model.groups then return run.own.model end
  return models.new(own_shape(run))
end

--- The config of the run's model, before that is loaded.
-- @tab run with `tokenizer`
-- @treturn ?table nil where it is not known, and why
function M.config(run)
  if not run.own then return models.config(run.path) end
  return run.own.model.config or models.shape(own_shape(run))
end

-- Has the model a row for each token? Those that no file gives an id may lie beyond, as in transformers, where nothing
-- asks for them.
local function hold_to_rows(run, rows)
  local tok = run.tokenizer
  if tok:rows() > rows then
    exit.fail(exit.FAILED, "the tokenizer has %d tokens, but the model's vocabulary %d; they are not each other's",
      tok:rows(), rows)
  end
  for _, id in ipairs(run.chat:writes(tok)) do
    if id >= rows then
      exit.fail(exit.FAILED, "template %s writes %s, which no file gives an id; transformers makes it %d, and the model has "
        .. "%d rows. Name a token that the model has, or give it an id in tokenizer.json and its model a row",
        run.chat.name, tok:token(id), id, rows)
    end
  end
end

--- The model, on the run's device.
-- @tab run prepared
-- @treturn Model
function M.model(run)
  local m
  if run.own then
    m = own_model(run)
  else
    local grown = run.samples.report and #run.samples.report.added > 0
    m = assert(models.load(run.path, { dtype = run.dtype, vocab = grown and run.tokenizer:size() or nil,
                                        parts = config.peek(run.cfg, "zero") == 3 }))
  end
  hold_to_rows(run, m.config.vocab)
  run.log:say("model %s: %s parameters in %s", run.own and run.own.name or run.cfg.model, format.count(m:count()), m.dtype)
  for _, note in ipairs(m.notes or {}) do run.log:say("%s", note) end
  return m
end

return M
