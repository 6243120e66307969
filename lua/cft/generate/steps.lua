--- Steps that write a token of each sequence, as a device's graphs: a small model's launches take the host longer than they
-- take a GPU, and a graph's are one call.
--
-- A graph has the addresses and sizes of its recording. So what such a step reads lies in one buffer; its rows are filled
-- up to the next of 1, 2, 4, 8, 16, 24 ... by sequences of a spare place in the cache, which nobody asks for; and its
-- longest sequence counts as the next multiple of 512 tokens, by which attention chooses its blocks. Of each such pair the
-- first step is done as ever, with these rows, the second recorded, all others launched. Logits lie where the recording
-- left them; how tokens are chosen is not in it.

local graphs = require "cft.engine.graph"
local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local kv_cache = require "cft.nn.kv_cache"
local tensor = require "cft.engine.tensor"

-- MOST: rows of a step; where there are more, the device takes longer than the host. SPARE: rows of the cache that steps
-- are filled up with. KEPT: graphs at a time.
local M = { MOST = 256, SPARE = 8, KEPT = 64 }
local Steps = {}
Steps.__index = Steps

local PAGE, REACH = kv_cache.PAGE, 512

--- Whether a device has graphs.
function M.possible(device) return graphs.possible(device) end

local function filled_up(n)
  local rows = n > 8 and math.ceil(n / 8) * 8 or 1
  while rows < n do rows = rows * 2 end
  return rows
end

-- @tparam Model model @tab cache of `kv_cache`, with `SPARE` rows behind its pages @int batch most sequences at once
-- @tab counts where `recorded` and `refused` graphs are counted, and steps that were `replayed`
function M.new(model, cache, batch, counts)
  local rows = filled_up(math.min(batch, M.MOST))
  local pages = math.min(math.ceil(model.config.context / PAGE), cache.pages)
  local self = setmetatable({ model = model, cache = cache, counts = counts, made = {}, count = 0 }, Steps)
  self.host = inputs.ints(6 * rows + 2 + rows * pages)
  self.numbers = tensor.empty({ 6 * rows + 2 + rows * pages }, { dtype = "i32", device = model.device }):keep()
  return self
end

local function forget(self)
  for _, step in pairs(self.made) do
    if step.graph then
      step.logits:release "with its graph"
      step.graph:release()
    end
  end
  self.made, self.count = {}, 0
end

function Steps:release()
  forget(self)
  graphs.trim(self.model.device)
  self.numbers:release()
end

-- What a step of so many rows and keys is: where its numbers begin in the buffer.
local function step_of(self, rows, reach)
  local key = ("%d %d"):format(rows, reach)
  if not self.made[key] then
    if self.count == M.KEPT then forget(self) end
    self.count = self.count + 1
    self.made[key] = { rows = rows, reach = reach, ids = 0, positions = rows, place = 2 * rows, k_len = 3 * rows,
                       cu_q = 4 * rows, cu_pages = 5 * rows + 1, pages = 6 * rows + 2 }
  end
  return self.made[key]
end

-- Bring what a step reads to where it reads it.
local function fill(self, step, work)
  local host, listed, spare = self.host, 0, self.cache.pages
  host[step.cu_q], host[step.cu_pages] = 0, 0
  for i = 0, step.rows - 1 do
    local w = work[i + 1]
    local position = w and w.from or i - #work
    host[step.ids + i], host[step.positions + i], host[step.k_len + i] = w and w.ids[position + 1] or 0, position, position + 1
    local page = w and w.pages[math.floor(position / PAGE) + 1] or spare
    host[step.place + i] = page * PAGE + position % PAGE
    for p = 1, math.floor(position / PAGE) + 1 do
      host[step.pages + listed] = w and w.pages[p] or spare
      listed = listed + 1
    end
    host[step.cu_q + i + 1], host[step.cu_pages + i + 1] = i + 1, listed
  end
  tensor.narrow(self.numbers, 0, 0, step.pages + listed):write_(host)
end

local function compute(self, step, longest)
  local function part(start, count) return tensor.narrow(self.numbers, 0, start, count) end
  local model, rows, owner = self.model, step.rows, {}
  local at = { n = rows, owner = owner, cache = self.cache, ids = part(step.ids, rows), positions = part(step.positions, rows),
               place = part(step.place, rows), position_end = longest }
  at.layout = inputs.paged_layout({ cu_q = part(step.cu_q, rows + 1), cu_pages = part(step.cu_pages, rows + 1),
                                    pages = part(step.pages, self.numbers:count() - step.pages),
                                    k_len = part(step.k_len, rows), page = PAGE, longest_q = 1, longest_k = step.reach }, owner)
  return kernels.logits(model.arch.hidden(model.weights, model.config, model:place(at), nil), model.weights.head)
end

-- The logits of all rows.
local function run(self, step, longest)
  local device, counts = self.model.device, self.counts
  if not step.rehearsed then
    step.rehearsed = true
    return graphs.rehearse(device, function() return compute(self, step, longest) end)
  end
  if not step.graph and not step.refused then
    local graph, logits = graphs.record(device, function()
      return tensor.scope(function() return compute(self, step, longest):keep() end)
    end)
    if graph then
      step.graph, step.logits, counts.recorded = graph, logits, counts.recorded + 1
    else
      step.refused, counts.refused = logits, counts.refused + 1
    end
  end
  if step.refused then return compute(self, step, longest) end
  step.graph:launch()
  counts.replayed = counts.replayed + 1
  return step.logits
end

--- The logits of a step, a row for each sequence.
-- @tab work as of `kv_cache`'s `place`, each with a `count` of 1
-- @treturn ?Tensor (#work, V); nil where the step is to be done in another way
function Steps:logits(work)
  if #work > M.MOST or not graphs.possible(self.model.device) then return nil end
  local longest = 0
  for _, w in ipairs(work) do longest = math.max(longest, w.from + 1) end
  local reach = math.ceil(longest / REACH) * REACH
  local cos = self.model:rope_tables(reach)
  if cos ~= self.cos then  -- graphs have the old tables' addresses
    forget(self)
    self.cos = cos
  end
  local step = step_of(self, filled_up(#work), reach)
  fill(self, step, work)
  return tensor.narrow(run(self, step, longest), 0, 0, #work)
end

return M
