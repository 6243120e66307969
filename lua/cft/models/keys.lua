--- Keys of config.json that are known to change nothing of what a model computes.
--
-- A key that is neither here nor read is refused by its name. The list is that of transformers' base configuration
-- (4.57 and 5), the settings of text generation that old files carry, and what Hub configs of our architectures have.

local M = {}

local function set(text)
  local t = {}
  for name in text:gmatch "%S+" do t[name] = true end
  return t
end

--- Read by `cft.models.config` and `cft.models.rope`, in their own ways.
M.read = set [[
  model_type hidden_size num_hidden_layers vocab_size num_attention_heads intermediate_size num_key_value_heads
  max_position_embeddings head_dim hidden_act rms_norm_eps initializer_range tie_word_embeddings
  rope_theta rope_scaling rope_parameters sliding_window layer_types
]]

--- Read, and refused by transformers where they are null, which is no default.
M.never_null = {
  "max_position_embeddings", "tie_word_embeddings", "rms_norm_eps", "hidden_act", "initializer_range",
}

--- Any value of theirs is taken, kept and not used.
M.harmless = set [[
  architectures _name_or_path name_or_path _commit_hash transformers_version torch_dtype dtype use_cache
  bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id mask_token_id decoder_start_token_id
  output_attentions output_hidden_states output_scores return_dict use_return_dict return_dict_in_generate
  torchscript use_bfloat16 tf_legacy_loss chunk_size_feed_forward tie_last_hidden_states
  num_labels id2label label2id problem_type finetuning_task task_specific_params classifier_dropout
  tokenizer_class prefix max_window_layers max_sequence_length model_max_length
  attn_implementation _attn_implementation _attn_implementation_internal _attn_implementation_autoset
  _experts_implementation experts_implementation _flash_attn_2_enabled is_llama_config transformers.js_config
  unsloth_fixed unsloth_version unsloth_tiled_mlp gradient_checkpointing

  max_length max_new_tokens min_length min_new_tokens early_stopping max_time stop_strings do_sample num_beams
  num_beam_groups temperature top_k top_p min_p typical_p epsilon_cutoff eta_cutoff diversity_penalty
  repetition_penalty encoder_repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
  bad_words_ids renormalize_logits forced_bos_token_id forced_eos_token_id remove_invalid_values
  exponential_decay_length_penalty suppress_tokens begin_suppress_tokens num_return_sequences penalty_alpha
]]

--- Keys that change what a model computes: the value, beside none, that means "not used" (`{}`: an empty list or
-- object); and what is not implemented.
M.unused = {
  { "use_sliding_window", false, "a sliding window is" }, { "partial_rotary_factor", 1, "partial rotary embedding is" },
  { "attention_bias", false, "biases on attention's projections are" }, { "mlp_bias", false, "biases in the MLP are" },
  { "attention_dropout", 0, "dropout is" }, { "attention_probs_dropout_prob", 0, "dropout is" },
  { "hidden_dropout", 0, "dropout is" }, { "hidden_dropout_prob", 0, "dropout is" },
  { "resid_pdrop", 0, "dropout is" }, { "embd_pdrop", 0, "dropout is" }, { "attn_pdrop", 0, "dropout is" },
  { "pretraining_tp", 1, "sliced matmuls are" },
  { "quantization_config", nil, "quantised weights are" }, { "quantization", nil, "quantised weights are" },
  { "qk_layernorm", false, "norms of q and k are" }, { "use_qk_norm", false, "norms of q and k are" },
  { "logit_scale", 1, "scaled logits are" }, { "final_logit_softcapping", nil, "capped logits are" },
  { "attn_logit_softcapping", nil, "capped attention is" }, { "is_causal", true, "attention to later tokens is" },
  { "is_encoder_decoder", false, "an encoder is" }, { "is_decoder", false, "cross-attention is" },
  { "add_cross_attention", false, "cross-attention is" }, { "cross_attention_hidden_size", nil, "cross-attention is" },
  { "tie_encoder_decoder", false, "an encoder is" }, { "pruned_heads", {}, "pruning of heads is" },
  { "rope_interleaved", false, "rotary embedding of neighbours is" }, { "use_mrope", false, "multimodal RoPE is" },
  { "auto_map", nil, "code that comes with a model is" },
  { "neftune_noise_alpha", 0, "noise on embeddings is" },
}

return M
