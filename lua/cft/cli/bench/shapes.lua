--- Shapes to measure without weights at hand: what `cftrun bench --model NAME` knows by name.

return {
  ["smollm2-135m"] = { arch = "llama", d = 576, layers = 30, heads = 9, kv_heads = 3, ffn = 1536,
                       vocab = 49152, tied = true, context = 8192, theta = 100000 },
  ["qwen2.5-0.5b"] = { arch = "qwen2", d = 896, layers = 24, heads = 14, kv_heads = 2, ffn = 4864,
                       vocab = 151936, tied = true, context = 32768, theta = 1000000 },
  ["qwen2.5-1.5b"] = { arch = "qwen2", d = 1536, layers = 28, heads = 12, kv_heads = 2, ffn = 8960,
                       vocab = 151936, tied = true, context = 32768, theta = 1000000 },
  ["qwen2.5-7b"] = { arch = "qwen2", d = 3584, layers = 28, heads = 28, kv_heads = 4, ffn = 18944,
                     vocab = 152064, context = 32768, theta = 1000000 },
  demo = { arch = "qwen2", d = 128, layers = 2, heads = 4, ffn = 256, vocab = 330, tied = true,
           context = 512, theta = 1000 },
}
