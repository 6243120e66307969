--- Qwen2, Qwen2.5, Qwen2.5-Math: Llama's decoder with biases on q, k and v (`qkv_bias`, which
-- `cft.models.config` sets for this arch). Source: Yang et al. 2024 (arXiv 2407.10671), as
-- transformers' Qwen2ForCausalLM computes it.

return require "cft.models.llama"
