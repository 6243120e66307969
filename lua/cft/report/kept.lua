--- What a run keeps for its report: samples.jsonl, a few held-out samples before and after, and data.json, what its data are.
--
-- Both are small and of bounded cost: a forward pass over a few samples and up to 64 tokens that the model writes to each
-- of them, twice; and counts of at most 500 samples of a source. docs/run-folder.md has their fields.
-- @module cft.report.kept

local autograd = require "cft.engine.autograd"
local dataview = require "cft.report.data"
local generate = require "cft.generate"
local inputs = require "cft.nn.inputs"
local json = require "cft.base.json"
local mask = require "cft.samples.mask"
local page = require "cft.report.page"
local preview = require "cft.report.samples"
local save = require "cft.io.save"
local tensor = require "cft.engine.tensor"

local M = {}

local WRITTEN = 64   -- tokens that the model writes to a sample, at most
local LONGEST = 2048 -- tokens of a sample that is kept, at most
local MEASURED, SHOWN = 500, 6  -- samples of a source in data.json: measured, and shown token by token

-- ---- samples -----------------------------------------------------------------------------------

-- Numbers of the held-out samples that are kept: evenly spread over those that are not too long.
local function choose(samples, count)
  local fits, list = {}, {}
  for k = 0, samples:size() - 1 do
    if samples:length(k) <= LONGEST then fits[#fits + 1] = k end
  end
  for i = 0, math.min(count, #fits) - 1 do list[i + 1] = fits[math.floor(i * #fits / math.min(count, #fits)) + 1] end
  return list
end

--- -log p of a sample's tokens, by their places from 1; nil for those without loss weight. @tab tokens of
-- `cft.report.samples`
function M.losses(model, tokens)
  local ids, weights, losses = {}, {}, {}
  for _, token in ipairs(tokens) do
    for _, id in ipairs(token.ids) do ids[#ids + 1], weights[#weights + 1] = id, token.weight end
  end
  autograd.no_grad(tensor.scope, function()
    local batch = inputs.sequences({ ids }, { weights })
    local _, nll, at = model:loss(batch)
    local values = nll:to_host()
    for i = 0, at.cu_rows and at.cu_rows[1] - 1 or #ids - 1 do
      local row = at.host_rows and at.host_rows[i] or i
      if batch.weights[row] ~= 0 then losses[row + 2] = values[i] end  -- row r predicts the token behind it
    end
  end)
  return losses
end

local function finite(v) return v and v == v and math.abs(v) < math.huge and tonumber(("%.5g"):format(v)) or json.null end

-- What stands before the first token with loss weight, as one text; then the others, each with the mean of its losses.
local function with_losses(tokens, losses)
  local prompt, list, at = {}, json.array(), 0
  for _, token in ipairs(tokens) do
    if token.weight == 0 and #list == 0 then
      prompt[#prompt + 1] = token.text
      at = at + #token.ids
    else
      local sum, n = 0, 0
      for _ in ipairs(token.ids) do
        at = at + 1
        if losses[at] then sum, n = sum + losses[at], n + 1 end
      end
      list[#list + 1] = json.array { page.valid(token.text), n > 0 and finite(sum / n) or json.null }
    end
  end
  return page.valid(table.concat(prompt)), list
end

-- What the model writes to the prompts of samples, by their place in the list; nothing where a template is a function,
-- which has no prompt.
local function written_to(run, model, samples, list)
  local records, longest = {}, 0
  for i, k in ipairs(list) do
    records[i] = samples:record(k)
    longest = math.max(longest, samples:length(k))
    if not mask.prompt(records[i], run.chat, run.tokenizer) then return {} end
  end
  local room = run.context and run.context - longest or WRITTEN
  if #list == 0 or room < 1 then return {} end
  local writer = { model = model, chat = run.chat, tokenizer = run.tokenizer }
  return generate.answers(writer, records, { max_new = math.min(WRITTEN, room) })
end

-- @tab run @tparam Model model @int count of samples @string at "start" or "end" @int step
local function lines_of(run, model, count, at, step)
  local samples, lines = run.heldout_samples, {}
  local list = choose(samples, count)
  local written = written_to(run, model, samples, list)
  for i, k in ipairs(list) do
    local tokens = preview.tokens(samples, k)
    local prompt, with = with_losses(tokens, M.losses(model, tokens))
    local verdict = samples:get(k).verdict
    lines[i] = json.encode({
      at = at, step = step, time = os.time(), record = page.valid(samples:where(k)), prompt = prompt,
      verdict = verdict == true and "right" or verdict == false and "wrong" or nil, tokens = with,
      written = page.valid(written[i] or ""),
    }, { order = { "at", "step", "time", "record", "verdict", "prompt", "tokens", "written" } })
  end
  return lines
end

-- The lines of a file of the folder that are from this moment.
local function earlier(path, at)
  local file, kept = io.open(path, "rb"), {}
  if not file then return kept end
  for line in file:lines() do
    local value = json.decode(line)
    if type(value) == "table" and value.at == at then kept[#kept + 1] = line end
  end
  file:close()
  return kept
end

local function write(run, lines) save.write(run.out .. "/samples.jsonl", table.concat(lines, "\n") .. "\n") end

-- ---- a run's beginning and end -----------------------------------------------------------------

--- Before the first step: what the data are, and samples as they are. A resumed run has kept these already.
-- @tab run of `cft.recipe`, with `out`
-- @tparam ?Model model @int count of held-out samples
function M.begin(run, model, count)
  if not run.samples.stream then
    local view = dataview.plain(dataview.gather(run, { samples = SHOWN, most = MEASURED }))
    save.write(run.out .. "/data.json", json.encode(page.plain(view)) .. "\n")
  end
  if model and count > 0 and not run.resumed_at then write(run, lines_of(run, model, count, "start", 0)) end
end

--- After the last step: the same samples once more.
-- @tab run @tparam ?Model model @int count @int step the last one
function M.finish(run, model, count, step)
  if not model or count == 0 then return end
  local lines = earlier(run.out .. "/samples.jsonl", "start")
  for _, line in ipairs(lines_of(run, model, count, "end", step)) do lines[#lines + 1] = line end
  write(run, lines)
end

return M
