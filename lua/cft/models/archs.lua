--- The architectures, a row each: all that is said of one outside of the module that computes it.
-- docs/add-an-architecture.md explains the columns.

local M = {}

-- What GGUF files (llama.cpp's) call the tensors of Hugging Face's decoders: those of a block, where
-- `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`, and those outside.
local decoder_names = {
  block = {
    attn_norm = "input_layernorm", ffn_norm = "post_attention_layernorm",
    attn_q = "self_attn.q_proj", attn_k = "self_attn.k_proj", attn_v = "self_attn.v_proj",
    attn_output = "self_attn.o_proj",
    ffn_gate = "mlp.gate_proj", ffn_up = "mlp.up_proj", ffn_down = "mlp.down_proj",
  },
  outside = {
    ["token_embd.weight"] = "model.embed_tokens.weight",
    ["output_norm.weight"] = "model.norm.weight",
    ["output.weight"] = "lm_head.weight",
  },
}

--- The rows by transformers' `model_type`, which is also what `cft.models.new` takes as `arch`.
--
-- - `module`: builds the weights and computes (`build`, `hidden`), and knows the `memory` of a token
-- - `class`: transformers' name of it in config.json's `architectures`
-- - `context`: `max_position_embeddings` where config.json has none, as in transformers; 2048 if nil
-- - `kv_heads`, `sliding_window`: what `num_key_value_heads` and `sliding_window` are where config.json does not have
--   the key, as in transformers; nil: as many as heads, and none. A null is no value, which is another matter
-- - `never_null`: keys of which transformers refuses a null for this one alone; `layers_need_head_dim`: it refuses
--   `layer_types` without `head_dim`
-- - `qkv_bias`: whether q, k and v have biases
-- - `window`: what config.json's `sliding_window` means. "limit": no sequence may be longer, since
--   within its window a model attends to all; "if_used": nothing, unless `use_sliding_window` is true,
--   which is refused; nil: any value is refused unless `use_sliding_window` is false
-- - `gguf`: nil, or `name`, what `general.architecture` says, `tensors`, the names, and `interleaved`,
--   whether rows of q and k are ordered for a rotary embedding of neighbours instead of halves
M.rows = {
  -- Touvron et al. 2023 (arXiv 2302.13971)
  llama = {
    module = "cft.models.llama", class = "LlamaForCausalLM", context = 2048,
    gguf = { name = "llama", tensors = decoder_names, interleaved = true },
  },
  -- Jiang et al. 2023 (arXiv 2310.06825); its GGUF files say "llama"
  mistral = { module = "cft.models.llama", class = "MistralForCausalLM", context = 131072, window = "limit",
    kv_heads = 8, sliding_window = 4096, never_null = { "num_key_value_heads" }, layers_need_head_dim = true },
  -- Yang et al. 2024 (arXiv 2407.10671): also Qwen2.5 and Qwen2.5-Math
  qwen2 = {
    module = "cft.models.llama", class = "Qwen2ForCausalLM", context = 32768, qkv_bias = true, window = "if_used",
    kv_heads = 32, never_null = { "head_dim" },
    gguf = { name = "qwen2", tensors = decoder_names },
  },
}

--- Their names, sorted.
M.names = {}
for name in pairs(M.rows) do M.names[#M.names + 1] = name end
table.sort(M.names)

--- What computes a model. @tab config with `arch` @treturn table the module of its row
function M.module(config) return require(M.rows[config.arch].module) end

--- Names for a message: "llama, mistral and qwen2".
-- @tab names a list
-- @treturn string
function M.listed(names)
  return (table.concat(names, ", "):gsub(", ([^,]+)$", " and %1"))
end

return M
