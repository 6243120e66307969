--- Collectives through Lua, and a training step of two ranks:  cftrun tests/cuda_emu/collectives.lua
-- With CFT_CUDA_MODULE naming the emulated module, two processes have an emulated GPU each. On a card
-- there is one rank, which sums with itself by NCCL.

local comm = require "cft.engine.comm"
local expect = require "tests.expect"
local inputs = require "cft.nn.inputs"
local models = require "cft.models"
local process = require "tests.process"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"
local parallel = require "cft.data.parallel"
require "cft.engine.ops"

local emulated = (os.getenv "CFT_CUDA_MODULE" or ""):find "emu"
local RANKS = emulated and 2 or 1
local passed, failed, skipped = 0, 0, 0

local function report(ok, what, why)
  print((ok and "ok    " or "FAIL  ") .. what .. (why and ": " .. why or ""))
  if ok then passed = passed + 1 else failed = failed + 1 end
end

--- One process a rank, each of which opens the device itself: a GPU cannot be inherited. Rank 0 makes
-- the id, and the others get it from here.
-- @func work gets a communicator; may return a list of texts
-- @return for each rank a list of its texts; or nil and why one ended
local function on_ranks(size, work)
  local list, id = {}, nil
  for rank = 0, size - 1 do
    list[rank] = parallel.start(function(send)
      local mine = id or comm.id "cuda"
      if rank == 0 then send(mine) end
      local c = comm.open { id = mine, rank = rank, size = size, device = "cuda", timeout = 30 }
      local texts = work(c) or {}
      c:close()
      for _, text in ipairs(texts) do send(text) end  -- read one rank after the other: nobody waits for them now
    end)
    if rank == 0 then
      local why
      id, why = list[0]:read()
      if not id then return nil, why end
    end
  end
  local said = {}
  for rank = 0, size - 1 do
    said[rank] = {}
    repeat
      local text, why = list[rank]:read()
      if why then return nil, ("rank %d: %s"):format(rank, why) end
      table.insert(said[rank], text)
    until not text
  end
  return said
end

local function case(what, size, work)
  local said, why = on_ranks(size, work)
  report(said ~= nil, what, why)
  return said
end

-- ---- the calls -------------------------------------------------------------------------------

local ok, missing = on_ranks(1, function() end)
if not ok and missing:find "libnccl.* is not on this machine" or not ok and missing:find "^cuda: " then
  print("skip  " .. missing)
  print "0 passed, 0 failed, 1 skipped"
  os.exit(0)
end

for size = 1, RANKS do
  case(("sums and copies, %d ranks"):format(size), size, function(c)
    for _, dtype in ipairs { "f32", "bf16" } do
      local x = tensor.full({ 3, 5 }, c.rank + 1, { dtype = dtype, device = "cuda" })
      expect.same(c:all_reduce(x), x)
      local sum = size * (size + 1) / 2
      expect.same(x:to_table()[3][5], sum)
      local row = x:narrow(0, 1, 1):fill_(10 + c.rank)
      c:broadcast(row, size - 1)
      expect.same(x:to_table(), { { sum, sum, sum, sum, sum }, row:to_table()[1], { sum, sum, sum, sum, sum } })
      expect.same(row:to_table()[1][1], 9 + size)
      row:release()
      x:release()
    end
  end)
end

for size = 1, RANKS do
  case(("parts, %d ranks"):format(size), size, function(c)
    for _, dtype in ipairs { "f32", "bf16", "i32" } do
      local how, list = { dtype = dtype, device = "cuda" }, {}
      for i = 1, 3 * size do list[i] = i + c.rank end
      local x, part = tensor.new(list, how), tensor.zeros({ 3 }, how)
      local function sums(k) return size * k + size * (size - 1) / 2 end
      expect.same(c:reduce_scatter(part, x):to_table(), { sums(3 * c.rank + 1), sums(3 * c.rank + 2), sums(3 * c.rank + 3) })
      local all, wanted = tensor.zeros({ 3 * size }, how), {}
      for k = 1, 3 * size do wanted[k] = sums(k) end
      expect.same(c:all_gather(all, part):to_table(), wanted)
      c:group(function()
        c:all_reduce(x)
        c:broadcast(part, size - 1)
      end)
      expect.same(x:to_table(), wanted)
      expect.same(part:to_table()[3], sums(3 * size))
    end
  end)
end

case("what is refused", 1, function(c)
  local x = tensor.zeros({ 2, 3 }, { device = "cuda" })
  expect.raises("all_reduce: the tensor %(3, 2%) is a view with gaps; a contiguous one wanted",
    c.all_reduce, c, x:transpose(0, 1))
  expect.raises("all_reduce: the tensor %(2%) is u8; f32, bf16, f64 or i32 wanted",
    c.all_reduce, c, tensor.zeros({ 2 }, { dtype = "u8", device = "cuda" }))
  expect.raises("broadcast: the tensor is on cpu, the communicator on cuda:0",
    c.broadcast, c, tensor.zeros({ 2 }, { device = "cpu" }), 0)
  expect.raises("all_reduce: 'x' must be a tensor, got nil", c.all_reduce, c)
  expect.raises("broadcast: 'from' must be from 0 to 0, got 1", c.broadcast, c, x, 1)
  expect.raises("broadcast: 'from' is required", c.broadcast, c, x)
  local other = comm.open { id = comm.id "cuda", rank = 0, size = 1, device = "cuda" }
  other:close()
  expect.raises("this communicator was closed", other.all_reduce, other, x)
  other:abort()
end)

-- A program of one line: its exit code, if it says that.
local function ends(code, says, what, chunk, env)
  local r = process.cftrun { "-e", "local comm = require 'cft.engine.comm' " .. chunk, env = env }
  report(r.code == code and r.err:find(says) ~= nil, ("%s: code %d"):format(what, code), (r.err:gsub("\n$", "")))
end

if emulated then
  local none = { CUDA_EMU_WITHOUT = "nccl" }
  ends(3, "comm_new_id: libnccl%.so%.2 is not on this machine", "an id without the library", "comm.id 'cuda'", none)
  ends(3, "comm_open: libnccl%.so%.2 is not on this machine", "opening without the library",
    "comm.open { id = ('x'):rep(128), rank = 1, size = 2, device = 'cuda' }", none)
  ends(1, "1: comm_open: rank 0 of 2: the other ranks did not come within 0.2 s", "a rank that does not come",
    "comm.open { id = comm.id 'cuda', rank = 0, size = 2, device = 'cuda', timeout = 0.2 }")

  -- Rank 0 forgets a second communicator, whose id has gone through the first, and lives on until rank 1
  -- was told that it has left.
  case("one that is forgotten is left, and the others are told", 2, function(c)
    local id = tensor.new({ comm.id("cuda"):byte(1, -1) }, { device = "cuda" })
    id = string.char(unpack(c:broadcast(id, 0):to_table()))
    local x = tensor.zeros({ 2 }, { device = "cuda" })
    local function join() return comm.open { id = id, rank = c.rank, size = 2, device = "cuda", timeout = 5 } end
    if c.rank == 0 then
      join()
      collectgarbage()
      collectgarbage()
    else
      local second = join()
      second:all_reduce(x)
      expect.raises("rank 1 of 2: NCCL: .*rank 0 has left", x.to_table, x)
      second:abort()
    end
    c:all_reduce(x):to_table()
  end)

  local said, why = on_ranks(2, function(c)
    if c.rank == 1 then os.exit(3) end
    local x = tensor.zeros({ 2 }, { device = "cuda" })
    c:all_reduce(x)
    expect.raises("rank 0 of 2: NCCL: .*rank 1 has died", x.to_table, x)
    c:abort()
    error("told of it", 0)
  end)
  report(not said and why == "rank 0: told of it", "a rank dies, and the other is told where it reads", why)
end

-- ---- a step of several ranks -----------------------------------------------------------------

local function model_of(dtype, seed)
  return models.new { arch = "qwen2", d = 64, layers = 2, heads = 4, kv_heads = 2, ffn = 150, vocab = 211,
                      tied = true, theta = 1000, dtype = dtype, device = "cuda", seed = seed }
end

-- Each rank has some of the sequences and weights of its own until rank 0's come; the gradients that it
-- sends are those of all.
local function gradients(dtype, size)
  return on_ranks(size, function(c)
    local _, sequences, weights = step.batch(211, 331, 0.4, { 31, 7, 64, 1, 50 })
    local mine, its = {}, {}
    for i = c.rank + 1, #sequences, size do mine[#mine + 1], its[#its + 1] = sequences[i], weights[i] end
    local model = model_of(dtype, 3 + c.rank)
    for _, w in model:named() do c:broadcast(w, 0) end
    model:zero_grad()
    tensor.scope(function() model:loss(inputs.sequences(mine, its)):backward() end)
    local lines = {}
    for name, _, grad in model:named() do
      local values = c:all_reduce(grad):to_host()
      for i = 0, grad:count() - 1 do lines[#lines + 1] = ("%s %.9g"):format(name, values[i]) end
    end
    return lines
  end)
end

-- The worst parameter's difference, as a share of its gradient's norm. NaN, once met, stays.
local function worst(got, want)
  local apart, norm, share, parameter = {}, {}, 0, nil
  for i, line in ipairs(want) do
    local name, value = line:match "^(%S+) (%S+)$"
    local other, theirs = got[i]:match "^(%S+) (%S+)$"
    if other ~= name then return 1 / 0, name end
    norm[name] = (norm[name] or 0) + value ^ 2
    apart[name] = (apart[name] or 0) + (value - theirs) ^ 2
  end
  for name, square in pairs(apart) do
    local this = math.sqrt(square / norm[name])
    if this > share or this ~= this then share, parameter = this, name end
  end
  return share, parameter
end

for _, row in ipairs { { "f32", 1e-5 }, { "bf16", 5e-3 } } do
  local dtype, within = row[1], row[2]
  local want = assert(gradients(dtype, 1))[0]
  local got, why = gradients(dtype, RANKS)
  local what = ("a step in %s, gradients of %d ranks against those of one"):format(dtype, RANKS)
  if not got then
    report(false, what, why)
  else
    for rank = 0, RANKS - 1 do
      local off, name = worst(got[rank], want)
      report(off <= within and #got[rank] == #want, ("%s, rank %d"):format(what, rank),
        ("%d numbers, off by %.1e%s"):format(#want, off, name and " in " .. name or ""))
    end
  end
end
print(("%d passed, %d failed, %d skipped"):format(passed, failed, skipped))
os.exit(failed == 0 and 0 or 1)
