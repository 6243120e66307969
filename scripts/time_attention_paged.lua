-- Attention of one new token over its sequence's keys in pages, by the clock and all threads: best and median of many calls.
--
--   cftrun scripts/time_attention_paged.lua [DTYPE] [KEYS] [HEADS] [KV_HEADS] [D] [CALLS]
--
-- SmolLM2-135M's heads by default. Caches are warm, as far as they hold the keys.

local host = require "cft.host"
local kernels = require "cft.engine.kernels"
local kv_cache = require "cft.nn.kv_cache"
local rates = require "cft.engine.rates"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local dtype, keys = arg[1] or "bf16", tonumber(arg[2] or 4096)
local H, K, D, calls = tonumber(arg[3] or 9), tonumber(arg[4] or 3), tonumber(arg[5] or 64), tonumber(arg[6] or 2000)
local pages, ids, order = math.ceil(keys / kv_cache.PAGE), {}, {}
for i = 1, keys do ids[i] = 0 end
for i = 1, pages do order[i] = pages - i end

local o = { dtype = dtype }
local cache = kv_cache.new({ layers = 1, heads = H, kv_heads = K, head_dim = D }, pages, { dtype = dtype,
                           device = tensor.default_device() })
cache.layers[0]:copy_(tensor.randn({ pages * kv_cache.PAGE, 2 * K * D }, o))
local at = cache:place({ { ids = ids, from = keys - 1, count = 1, pages = order } }, { 0 })
local key, value = tensor.narrow(cache.layers[0], 1, 0, K * D), tensor.narrow(cache.layers[0], 1, K * D, K * D)
local q, seconds = tensor.randn({ 1, H * D }, o), {}
for i = 1, calls do
  local began = host.now()
  kernels.attention_paged(q, key, value, H, K, 1 / math.sqrt(D), at.layout):release()
  seconds[i] = host.now() - began
end
print(("%s, %d keys, %d heads over %d, D %d, %d threads: best %.1f us, median %.1f us"):format(dtype, keys, H, K, D,
  rates.threads(), 1e6 * math.min(unpack(seconds)), 1e6 * step.median(seconds)))
