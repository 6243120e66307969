--- Text from a model: batched decoding with a cache of keys and values.

local autograd = require "cft.engine.autograd"
local cache = require "cft.nn.kv_cache"
local check = require "cft.base.check"
local finally = require "cft.base.finally"
local linear = require "cft.nn.linear"
local mask = require "cft.samples.mask"
local ops = require "cft.engine.ops"
local tensor = require "cft.engine.tensor"

local M = {}

local spec = {
  max_new = { "integer", 32, min = 1 },
  stop = { "table", {} },                      -- ids that end a sequence; they are part of it
  temperature = { "number", 0, min = 0 },      -- 0: greedy
  seed = { "integer", 0, min = 0 },            -- of the sampling
}

-- Gumbel's trick: the largest of logit / temperature - log(-log(u)) is a draw from the softmax. The
-- noise is a pure function of (seed, step, row), so a run can be repeated.
local function choose(logits, o, step)
  if o.temperature == 0 then return logits:argmax(1) end
  local u = tensor.rand(logits:shape(), { seed = o.seed, counter = step, device = logits:device() })
  u = u * (1 - 2e-7) + 1e-7  -- neither 0 nor 1
  local gumbel = -ops.log(-ops.log(u))
  return (tensor.cast(logits, "f32") * (1 / o.temperature) + gumbel):argmax(1)
end

local function decode(model, prompts, o)
  local stop, longest = {}, 0
  for _, id in ipairs(o.stop) do stop[id] = true end
  for _, p in ipairs(prompts) do longest = math.max(longest, #p) end
  local kv = cache.new(model.config, #prompts, longest + o.max_new,
                       { dtype = model.dtype, device = model.device })
  local use, new, written = {}, {}, {}
  for i, p in ipairs(prompts) do use[i], new[i], written[i] = i - 1, p, {} end

  finally(function() kv:release() end, function()
    for step = 1, o.max_new do
      if #use == 0 then break end
      local ids = tensor.scope(function()
        local at = model:place(kv:extend(use, new))
        local h = model.arch.hidden(model.weights, model.config, at, nil)
        local last = linear(model.weights, "head", ops.gather_rows(h, at.last))  -- (slots, V)
        return (choose(last, o, step):to_host())
      end)
      local still, next_ids = {}, {}
      for i, slot in ipairs(use) do
        local id = ids[i - 1]
        table.insert(written[slot + 1], id)
        if not stop[id] then still[#still + 1], next_ids[#next_ids + 1] = slot, { id } end
      end
      use, new = still, next_ids
    end
  end)
  return written
end

--- Continue prompts, all at once.
-- @tparam Model model @tab prompts a list of lists of ids
-- @tab[opt] opts `max_new`, `stop`, `temperature` (0 is greedy), `seed`
-- @treturn table for each prompt the list of ids that follow it, a stop id included
function M.ids(model, prompts, opts)
  return autograd.no_grad(decode, model, prompts, check.options("generate.ids", opts or {}, spec))
end

--- Continue one text. @tparam Model model @tparam Tokenizer tok @string prompt @tab[opt] opts as `ids`
-- @treturn string what follows, without special tokens
function M.text(model, tok, prompt, opts)
  return tok:decode(M.ids(model, { tok:encode(prompt) }, opts)[1], { skip_special = true })
end

--- What a model answers to the prompts of records: to all that stands before their last answer.
-- @tab run a recipe's run; or a table with `model`, a Model, `chat` and `tokenizer`
-- @tab records a list of conversations
-- @tab[opt] opts as `ids`; a text ends with the template's end token
-- @treturn table for each record the text, without special tokens
function M.answers(run, records, opts)
  local prompts, o = {}, { stop = { run.chat:end_token(run.tokenizer) } }
  for name, value in pairs(opts or {}) do o[name] = value end
  for i, record in ipairs(records) do prompts[i] = assert(mask.prompt(record, run.chat, run.tokenizer)) end
  local model = type(run.model) == "function" and run:model() or run.model
  local written = M.ids(model, prompts, o)
  for i, ids in ipairs(written) do written[i] = run.tokenizer:decode(ids, { skip_special = true }) end
  return written
end

return M
