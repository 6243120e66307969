--- Shapes by name, for who measures or plans without weights at hand: config.json's of the models of that name, and the demo's.

local M = {}

local rows = {
  ["smollm2-135m"] = { arch = "llama", d = 576, layers = 30, heads = 9, kv_heads = 3, ffn = 1536,
                       vocab = 49152, tied = true, context = 8192, theta = 100000 },
  ["qwen2.5-0.5b"] = { arch = "qwen2", d = 896, layers = 24, heads = 14, kv_heads = 2, ffn = 4864,
                       vocab = 151936, tied = true, context = 32768, theta = 1000000 },
  ["qwen2.5-1.5b"] = { arch = "qwen2", d = 1536, layers = 28, heads = 12, kv_heads = 2, ffn = 8960,
                       vocab = 151936, tied = true, context = 32768, theta = 1000000 },
  ["qwen2.5-3b"] = { arch = "qwen2", d = 2048, layers = 36, heads = 16, kv_heads = 2, ffn = 11008,
                     vocab = 151936, tied = true, context = 32768, theta = 1000000 },
  ["qwen2.5-7b"] = { arch = "qwen2", d = 3584, layers = 28, heads = 28, kv_heads = 4, ffn = 18944,
                     vocab = 152064, context = 32768, theta = 1000000 },
  ["qwen2.5-14b"] = { arch = "qwen2", d = 5120, layers = 48, heads = 40, kv_heads = 8, ffn = 13824,
                      vocab = 152064, context = 32768, theta = 1000000 },
  ["qwen2.5-32b"] = { arch = "qwen2", d = 5120, layers = 64, heads = 40, kv_heads = 8, ffn = 27648,
                      vocab = 152064, context = 32768, theta = 1000000 },
  ["qwen2.5-72b"] = { arch = "qwen2", d = 8192, layers = 80, heads = 64, kv_heads = 8, ffn = 29568,
                      vocab = 152064, context = 32768, theta = 1000000 },
  demo = { arch = "qwen2", d = 128, layers = 2, heads = 4, ffn = 256, vocab = 330, tied = true,
           context = 512, theta = 1000 },
}

--- The names that are known, sorted.
-- @treturn table
function M.names()
  local names = {}
  for name in pairs(rows) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The shape of a model, by its name on the Hub or without its organisation; those that were trained further
-- (`-Instruct`, and `-Math` of some sizes) have their base's.
-- @string name such as "Qwen/Qwen2.5-Math-7B"
-- @treturn ?table options of `cft.models.new`, a copy; nil where the name is not known
function M.named(name)
  local bare = name:lower():gsub("^.*/", ""):gsub("%-instruct$", "")
  local row = rows[bare] or rows[(bare:gsub("^qwen2%.5%-math%-", "qwen2.5-"))]
  if not row then return nil end
  local copy = {}
  for key, value in pairs(row) do copy[key] = value end
  return copy
end

return M
