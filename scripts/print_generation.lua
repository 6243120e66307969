-- What a token costs on a GPU, by arithmetic: the tables of docs/cuda/generation.md.
--
--   CFT_CACHE= CFT_CUDA_TUNE=0 CFT_CUDA_MODULE=build/cpu/libcft_cuda_emu.so cftrun scripts/print_generation.lua
--
-- Launches are counted: the engine writes tokens on the emulated device with a model of the true number of layers, biases
-- and heads a group, narrow everywhere else, and the emulator says what was issued in one step. Bytes are those of the
-- true shape, by op. Times are bytes and FLOPs over the rates below, which are assumptions; nothing here was timed on a card.

local engines = require "cft.generate.engine"
local ffi = require "ffi"
local models = require "cft.models"
local shapes = require "cft.models.shapes"
local steps = require "cft.generate.steps"
local tensor = require "cft.engine.tensor"

-- An H100 SXM: the datasheet's memory and bf16 rates, and what of them is taken to be reached.
local MEMORY, REACHED = 3.35e12, 0.80
local FLOPS, OF_FLOPS = 989e12, 0.60
local LAUNCH = 5e-6    -- of the host for an op: Lua, checks, an allocation, the launch
local BETWEEN = 1.5e-6 -- of the device from a kernel's end to the next one's begin
local HOST = 40e-6     -- of the host between two steps: the wait, copies up and down
local A_SEQUENCE = 1e-6  -- of it for each sequence: its tables, its token

ffi.cdef "size_t cuda_emu_census(char *text, size_t bytes);"
local emulator = ffi.load(assert(os.getenv "CFT_CUDA_MODULE", "CFT_CUDA_MODULE names the emulated module"))

steps.MOST = 0  -- no step as a graph: what is counted is what one would have to queue

local text = ffi.new "char[65536]"
local function issued()
  local counts = {}
  emulator.cuda_emu_census(text, 65536)
  for count, name in ffi.string(text):gmatch "(%d+) ([^\n]*)" do
    local kind = name:match "^kernel (.*)$" or (name:find "^cublasLt" and "library") or (name:find "Memcpy" and "copies")
      or "else"
    kind = kind:gsub("^void ", ""):gsub("%b<>", ""):gsub("%(.*", "")
    counts[kind] = (counts[kind] or 0) + tonumber(count)
  end
  return counts
end

--- What is issued in a step that writes a token of each of `batch` sequences of `length` tokens.
local function counted(shape, layers, batch, length)
  local group = shape.heads / (shape.kv_heads or shape.heads)
  local model = models.new { arch = shape.arch, layers = layers, heads = group, kv_heads = 1, head_dim = 64, d = 64,
                             ffn = 64, vocab = 256, tied = shape.tied, dtype = "bf16", device = "cuda", seed = 1 }
  local prompt = {}
  for i = 1, length do prompt[i] = i * 7 % 256 end
  local engine = engines.new(model, { pages = batch * 2 + math.ceil(length / 32) + 2, batch = batch, chunk = length })
  engine:add { prompt = prompt, n = batch, max_new = 4, stop = {}, top = 0, temperature = 1, top_k = 0, top_p = 1, min_p = 0,
               penalty = 1, seed = 0, sequence = 0 }
  engine:step() engine:step()
  issued()
  engine:step()
  local counts = issued()
  engine:release() model:release()
  return counts
end

-- ---- bytes and FLOPs of the true shape -----------------------------------------------------------

-- A step's ops, each with how often it comes, its bytes, and FLOPs where it is a product.
local function ops_of(c, batch, length)
  local D, kv = c.d / c.heads, c.kv_heads or c.heads
  local list = {}
  local function op(name, times, bytes, flops) list[#list + 1] = { name, times, bytes, flops or 0 } end
  local function product(name, times, n, k, size)
    op(name, times, 2 * n * k + batch * (2 * k + size * n), 2 * batch * n * k)
  end
  local L, rows = c.layers, 2 * batch
  op("embedding", 1, 2 * rows * c.d)
  op("rmsnorm, residual", 2 * L + 1, 4 * rows * c.d)
  product("qkv", L, (c.heads + 2 * kv) * D, c.d, 2)
  op("rope", L, 2 * rows * (c.heads + kv) * D)
  op("to the pages", L, 2 * rows * 2 * kv * D)
  local splits = math.ceil(length / 512)
  op("attention", L, 2 * batch * length * 2 * kv * D + 2 * rows * c.heads * D
     + (splits > 1 and 2 * 4 * batch * c.heads * (D + 2) * splits or 0), 4 * batch * length * c.heads * D)
  product("o", L, c.d, c.heads * D, 2)
  product("gate, up", L, 2 * c.ffn, c.d, 2)
  op("swiglu", L, 3 * rows * c.ffn)
  product("down", L, c.d, c.ffn, 2)
  product("head", 1, c.vocab, c.d, 4)
  op("sample", 1, 4 * 4 * batch * c.vocab)  -- read for log-sum-exp, for the largest, twice for a draw
  return list
end

local function seconds_of(bytes, flops) return math.max(bytes / (MEMORY * REACHED), flops / (FLOPS * OF_FLOPS)) end

-- ---- the tables ----------------------------------------------------------------------------------

local names, LENGTH = { "qwen2.5-0.5b", "qwen2.5-7b" }, 1024

print "| model | launches a step | of these by the library | of these ours | with more than 512 tokens before | copies up and down |"
print "|---|---|---|---|---|---|"
local launches = {}
for _, name in ipairs(names) do
  local shape = shapes.named(name)
  local function total(counts)
    local sum = 0
    for kind, n in pairs(counts) do sum = sum + (kind ~= "copies" and kind ~= "else" and n or 0) end
    return sum
  end
  -- Long sequences and many take the emulator minutes in all layers: two layers are asked, and nine sequences.
  local short, two = counted(shape, shape.layers, 1, 20), total(counted(shape, 2, 1, 20))
  assert(total(counted(shape, 2, 9, 20)) == two, "the number of launches depends on the batch")
  local long = total(short) + (total(counted(shape, 2, 1, 600)) - two) / 2 * shape.layers
  launches[name] = long
  print(("| %s | %d | %d | %d | %d | %d |"):format(name, total(short), short["library"],
    total(short) - short["library"], long, short.copies))
  local kinds = {}
  for kind, n in pairs(short) do kinds[#kinds + 1] = ("%s %d"):format(kind, n) end
  table.sort(kinds)
  io.stderr:write(name, ": ", table.concat(kinds, ", "), "\n")
end

print ""
print(("Each sequence with %d tokens before it:"):format(LENGTH))
print ""
print "| model | batch | MB a step: weights | keys and values | the rest | MB a token | the device, ms | the host, ms | a step, ms | tok/s | with a graph, tok/s |"
print "|---|---|---|---|---|---|---|---|---|---|---|"
for _, name in ipairs(names) do
  local c = shapes.named(name)
  for _, batch in ipairs { 1, 32, 256 } do
    local weights, cache, rest, device = 0, 0, 0, 0
    for _, op in ipairs(ops_of(c, batch, LENGTH)) do
      local what, times, bytes, flops = unpack(op)
      device = device + times * seconds_of(bytes, flops)
      local kept = what == "attention" and 2 * batch * LENGTH * 2 * c.kv_heads * c.d / c.heads or 0
      local matrix = flops > 0 and what ~= "attention" and flops / batch or 0  -- 2 n k bytes, as many as FLOPs a row
      weights, cache, rest = weights + times * matrix, cache + times * kept, rest + times * (bytes - kept - matrix)
    end
    device = device + launches[name] * BETWEEN
    local host = launches[name] * LAUNCH
    local between = HOST + batch * A_SEQUENCE
    local step, graph = math.max(device, host) + between, device + between
    print(("| %s | %d | %.0f | %.0f | %.0f | %.1f | %.2f | %.2f | %.2f | %.0f | %.0f |"):format(name, batch, weights / 1e6,
      cache / 1e6, rest / 1e6, (weights + cache + rest) / batch / 1e6, device * 1e3, host * 1e3, step * 1e3, batch / step,
      batch / graph))
  end
end
