--- The engine of generation: many sequences at once, their keys and values in pages, one forward pass a step.
--
-- A step reads a token of each sequence that is being written, and of prompts that are being read a chunk; a sequence
-- that ends makes room at once. Where pages run out, the sequence that came last gives its pages back and waits; what
-- it has written is read again later. On the CPU no number depends on what else is in a step, on where prompts are
-- cut, or on what was read twice: each row's arithmetic is its own.

local autograd = require "cft.engine.autograd"
local blame = require "cft.base.blame"
local finally = require "cft.base.finally"
local kernels = require "cft.engine.kernels"
local kv_cache = require "cft.nn.kv_cache"
local ops = require "cft.engine.ops"
local pages = require "cft.generate.pages"
local sampling = require "cft.generate.sampling"
local steps = require "cft.generate.steps"
local tensor = require "cft.engine.tensor"

local M = {}
local Engine = {}
Engine.__index = Engine

local PAGE = kv_cache.PAGE

local function pages_for(tokens) return math.ceil(tokens / PAGE) end

--- Bytes of a page. @tparam Model model
function M.page_bytes(model)
  return kv_cache.page_bytes(model.config, model.dtype == "bf16" and 2 or model.dtype == "f64" and 8 or 4)
end

--- @tparam Model model its weights are used where they are; they must not change while the engine lives
-- @tab o `pages` of the cache; `batch`, most sequences that are written at once; `chunk`, tokens of prompts a step;
-- `deterministic`, whether no number may depend on what else is in a step on a GPU, too
function M.new(model, o)
  local counts = { steps = 0, rows = 0, preempted = 0, shared = 0, recorded = 0, replayed = 0, refused = 0 }
  local records = steps.possible(model.device)
  local cache = kv_cache.new(model.config, o.pages, { dtype = model.dtype, device = model.device,
                                                      spare = records and steps.SPARE or 0 })
  return setmetatable({
    model = model, batch = o.batch, chunk = o.chunk, deterministic = o.deterministic, pages = pages.new(o.pages),
    cache = cache, steps = records and steps.new(model, cache, o.batch, counts) or nil,
    running = {},              -- in the order they came
    returned = {},             -- what waits to go on, the first to do so last
    waiting = {}, first = 1, last = 0,  -- groups of samples that have not begun, a queue
    counts = counts,
  }, Engine)
end

function Engine:release()
  if self.steps then self.steps:release() end
  self.cache:release()
end

-- ---- requests ------------------------------------------------------------------------------------

local function sequence(request, sample)
  local ids = {}
  for i, id in ipairs(request.prompt) do ids[i] = id end
  return { request = request, sample = sample, ids = ids, prompt = #ids, done = 0, pages = {}, claims = {},
           logprobs = {}, top = request.top > 0 and {} or nil }
end

-- The ids of a sequence without repeats, kept while it grows; for the penalty on repeats.
local function note_seen(seq, id)
  if not seq.has[id] then seq.has[id], seq.seen[#seq.seen + 1] = true, id end
end

--- Ask for continuations of a prompt.
-- @tab request `prompt` (ids), `n` samples, `max_new`, `stop` (id → true), `top` (how many log-probabilities beside the
-- token's), what `cft.generate.sampling` wants, and `token(seq, id)`, called with each token and with nil at the end of
-- a sample; it answers true to end it there; `first`: it begins before all that waits
-- @treturn table the sequences, of each sample: `ids`, of which the first `prompt` are the prompt; `logprobs`, `top`
-- (lists, an entry a token); `finish`, why it ended: "stop", "length", "context" or "cancelled"
function Engine:add(request)
  local context, length = self.model.config.context, #request.prompt
  if length == 0 then blame "generate: a prompt has no ids" end
  if length >= context then
    blame("generate: a prompt of %d tokens, but the model's context is %d", length, context)
  end
  local longest = math.min(length + request.max_new, context)
  if pages_for(longest - 1) > self.pages.count then
    blame("generate: a prompt of %d tokens and %d new ones want %d pages of %d tokens, but memory holds %d; " ..
          "allow more memory or fewer new tokens", length, request.max_new, pages_for(longest - 1), PAGE,
          self.pages.count)
  end
  for _, id in ipairs(request.prompt) do
    if id < 0 or id >= self.model.config.vocab then
      blame("generate: id %d in a prompt; the model's vocabulary is 0 to %d", id, self.model.config.vocab - 1)
    end
  end
  local samples = {}
  for sample = 1, request.n do
    local seq = sequence(request, sample)
    seq.limit, seq.limit_is = longest, longest < length + request.max_new and "context" or "length"
    if request.penalty ~= 1 then
      seq.has, seq.seen = {}, {}
      for _, id in ipairs(seq.ids) do note_seen(seq, id) end
    end
    samples[sample] = seq
  end
  if request.first then
    self.first = self.first - 1
    self.waiting[self.first] = samples
  else
    self.last = self.last + 1
    self.waiting[self.last] = samples
  end
  return samples
end

--- Whether anything is left to do.
function Engine:busy()
  return #self.running > 0 or #self.returned > 0 or self.first <= self.last
end

-- ---- who runs ------------------------------------------------------------------------------------

-- Give back all that a sequence holds.
local function let_go(self, seq)
  for i = #seq.pages, 1, -1 do self.pages:release(seq.pages[i]) end
  for i = #seq.claims, 1, -1 do self.pages:abandon(seq.claims[i], seq) end
  seq.pages, seq.claims, seq.done, seq.number, seq.node = {}, {}, 0, nil, nil
end

-- Pages of others that hold what this sequence begins with, and the nodes of those that it will fill. At least its
-- last token is read by itself, for what follows it.
-- @return the pages; nil if another sequence is filling the next one just now
local function find_shared(self, seq)
  local node, found, claims, whole = self.pages.root, {}, {}, math.floor((#seq.ids - 1) / PAGE)
  for number = 0, whole - 1 do
    node = self.pages:child(node, seq.ids, number, true)
    if node.page and #claims == 0 then
      found[#found + 1] = node.page
    elseif node.owner and #claims == 0 then
      return nil
    elseif not node.owner and not node.page then
      node.owner = seq
      claims[#claims + 1] = node
    end
  end
  return found, claims
end

-- Let a sequence begin, or go on, if there are pages for what it has to read, and `spare` more.
local function admit(self, seq, spare)
  local found, claims = find_shared(self, seq)
  if not found then return false end
  for _, page in ipairs(found) do self.pages:share(page) end
  if pages_for(#seq.ids) - #found + spare > self.pages:available() then
    for i = #found, 1, -1 do self.pages:release(found[i]) end
    for i = #claims, 1, -1 do self.pages:abandon(claims[i], seq) end
    return false
  end
  seq.pages, seq.claims, seq.done = found, claims, #found * PAGE
  self.counts.shared = self.counts.shared + seq.done
  self.running[#self.running + 1] = seq
  return true
end

-- The first of a group that was not cancelled.
local function leader_of(group)
  for _, seq in ipairs(group) do
    if not seq.finish then return seq end
  end
end

-- Pages that those that run will want within a page's steps. A sequence that took them would soon have to go, and what
-- it has read by then would be lost.
local function wanted_soon(self)
  local count = 0
  for _, seq in ipairs(self.running) do
    count = count + pages_for(math.min(#seq.ids + PAGE, seq.limit)) - #seq.pages
  end
  return count
end

local function admit_all(self)
  while #self.running < self.batch do
    local seq = self.returned[#self.returned]
    if seq then
      if not admit(self, seq, wanted_soon(self)) then return end
      table.remove(self.returned)
    elseif self.first <= self.last then
      -- The samples of a prompt begin with the first, which reads the prompt for all.
      local group = self.waiting[self.first]
      local leader = leader_of(group)
      if leader and not admit(self, leader, wanted_soon(self)) then return end
      if leader then leader.group = group end
      self.waiting[self.first], self.first = nil, self.first + 1
    else
      return
    end
  end
end

-- The sequence that came last gives its pages back.
local function preempt(self)
  local seq = table.remove(self.running)
  let_go(self, seq)
  self.returned[#self.returned + 1] = seq
  self.counts.preempted = self.counts.preempted + 1
  return seq
end

-- Pages for `count` more tokens of a sequence; the one it writes to is its own.
-- @return false if it was itself the last, and waits
local function make_room(self, seq, count)
  local function take()
    while true do
      local page = self.pages:take()
      if page then return page end
      if preempt(self) == seq then return nil end
    end
  end
  local number = math.floor(seq.done / PAGE) + 1
  local page = seq.pages[number]
  if page and self.pages:shared(page) then
    local own = take()
    if not own then return false end
    self.cache:copy_page(page, own)
    self.pages:release(page)
    seq.pages[number] = own
  end
  for i = #seq.pages + 1, pages_for(seq.done + count) do
    local own = take()
    if not own then return false end
    seq.pages[i] = own
  end
  return true
end

-- ---- a step --------------------------------------------------------------------------------------

-- What this step reads: one token of each that is being written, and a chunk of prompts.
local function plan(self)
  local work, left, i = {}, self.chunk, 1
  while i <= #self.running do
    local seq = self.running[i]
    local count = #seq.ids - seq.done
    if count > 1 then
      count = math.min(count, left)
      left = left - count
    end
    if count > 0 and make_room(self, seq, count) then
      work[#work + 1] = { seq = seq, ids = seq.ids, from = seq.done, count = count, pages = seq.pages }
    end
    i = i + 1
  end
  return work
end

-- The other samples of a prompt that was read: they share its pages, as many as may run. The rest waits, and will find
-- full pages in the tree. @return the sequences that the prompt's last row is for
local function fork(self, seq)
  local group, rows = seq.group, { seq }
  seq.group = nil
  for _, other in ipairs(group or {}) do
    if other ~= seq and not other.finish then
      if #self.running < self.batch then
        for i, page in ipairs(seq.pages) do
          self.pages:share(page)
          other.pages[i] = page
        end
        other.done = seq.done
        self.counts.shared = self.counts.shared + seq.done
        self.running[#self.running + 1], rows[#rows + 1] = other, other
      else
        table.insert(self.returned, 1, other)
      end
    end
  end
  return rows
end

-- Full pages of a sequence can be found by others.
local function remember(self, seq)
  while ((seq.number or 0) + 1) * PAGE <= seq.done do
    local number = seq.number or 0
    local node = self.pages:child(seq.node or self.pages.root, seq.ids, number, true)
    if node.owner == seq then node.owner = nil end
    if not node.owner then self.pages:remember(node, seq.pages[number + 1]) end
    seq.number, seq.node = number + 1, node
  end
end

local function finish(self, seq, why)
  seq.finish = why
  for i, other in ipairs(self.running) do
    if other == seq then
      table.remove(self.running, i)
      break
    end
  end
  let_go(self, seq)
  for _, other in ipairs(seq.group or {}) do  -- it was to read the prompt for these
    if not other.finish then table.insert(self.returned, 1, other) end
  end
  seq.group = nil
  if seq.request.token then seq.request.token(seq, nil) end
end

-- A token was chosen for a sequence.
local function append(self, seq, chosen, row)
  local id, top, r = chosen.token[row], chosen.width, seq.request
  if id < 0 then
    blame "generate: logits are NaN or infinite; the weights, or a logit bias, have numbers that no softmax is made of"
  end
  seq.ids[#seq.ids + 1], seq.logprobs[#seq.logprobs + 1] = id, chosen.logprob[row]
  if seq.has then note_seen(seq, id) end
  if seq.top then
    local entry = {}
    for j = 1, math.min(top, r.top) do
      entry[j] = { id = chosen.top[row * top + j - 1], logprob = chosen.top_logprob[row * top + j - 1] }
    end
    seq.top[#seq.top + 1] = entry
  end
  local ended = r.token and r.token(seq, id)
  if ended or r.stop[id] then return finish(self, seq, "stop") end
  if #seq.ids >= seq.limit then return finish(self, seq, seq.limit_is) end
end

-- Does this step write a token of each sequence in it, and nothing else?
local function writes_only(work, rows)
  if #rows ~= #work then return false end
  for i, w in ipairs(work) do
    if w.count > 1 or rows[i] ~= w.seq then return false end
  end
  return true
end

-- The logits behind the rows `last` of a step; nil where there are none.
local function logits_of(self, work, rows, last)
  local model = self.model
  local recorded = self.steps and writes_only(work, rows) and self.steps:logits(work)
  if recorded then return recorded end                                           -- (rows, V)
  local at = model:place(self.cache:place(work, last))
  local h = model.arch.hidden(model.weights, model.config, at, nil)
  return #rows > 0 and kernels.logits(ops.gather_rows(h, at.last), model.weights.head) or nil  -- (rows, V)
end

-- The forward pass: the next token of each sequence in `rows`, whose last hidden state is row `last`.
local function forward(self, work, rows, last)
  local top = 0
  for _, seq in ipairs(rows) do top = math.max(top, seq.request.top) end
  return tensor.scope(function()
    local logits = logits_of(self, work, rows, last)
    if not logits then return nil end
    local chosen = sampling.choose(logits, rows, top)
    chosen.width = top
    return chosen
  end)
end

local function step(self)
  admit_all(self)
  local work = plan(self)
  if #work == 0 then return 0 end  -- all that waited was cancelled
  local rows, last, row = {}, {}, 0
  for _, w in ipairs(work) do
    row = row + w.count
    w.seq.done = w.from + w.count
    if w.seq.done == #w.seq.ids then
      for _, seq in ipairs(fork(self, w.seq)) do rows[#rows + 1], last[#last + 1] = seq, row - 1 end
    end
  end
  local chosen = forward(self, work, rows, last)
  for _, w in ipairs(work) do remember(self, w.seq) end
  self.counts.steps, self.counts.rows = self.counts.steps + 1, self.counts.rows + row
  for i, seq in ipairs(rows) do
    if not seq.finish then append(self, seq, chosen, i - 1) end  -- an earlier token's call may have ended it
  end
  return row
end

--- One forward pass, and what follows from it. @treturn int how many tokens were read
function Engine:step()
  local device = self.model.device
  if not self.deterministic and device.host_memory == 0 then return autograd.no_grad(step, self) end
  local was = tensor.set_rows_alone(device, true)
  return finally(function() tensor.set_rows_alone(device, was) end, autograd.no_grad, step, self)
end

--- End a sequence now, wherever it stands.
function Engine:cancel(seq)
  if seq.finish then return end
  for i, other in ipairs(self.returned) do
    if other == seq then
      table.remove(self.returned, i)
      break
    end
  end
  finish(self, seq, "cancelled")
end

return M
