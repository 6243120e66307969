"""config.json in the spellings of transformers 4 and 5, and disagreements between them. What the reference makes of
one: the frequencies of the rotary embedding, its factor on attention, tied or not, and the rest of a plain decoder's
shape; and whether the model computes anything that a plain decoder with these does not."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT, LENGTH = 64, 24  # of most configs; of the sequence that logits are compared on


# ---- drawing --------------------------------------------------------------------------------------


def scaling(rng):
    """A rope dictionary, and whether it is complete and of a kind that is common."""
    key = rng.choice(["rope_type", "rope_type", "type"])
    factor = rng.choice([2, 2.0, 4.0, 8])
    kinds = {
        "default": {},
        "linear": {"factor": factor},
        "llama3": {
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": rng.choice([16, 32, 256]),
        },
        "yarn": {"factor": factor, "original_max_position_embeddings": 16},
        "dynamic": {"factor": factor},
        "longrope": {
            "short_factor": [1.5] * 4,
            "long_factor": [2.0] * 4,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    }
    kind = rng.choice(
        ["default", "default", "linear", "linear", "llama3", "llama3", "llama3", "yarn", "dynamic", "longrope"]
    )
    rope, whole = {key: kind, **kinds[kind]}, kind in ("default", "linear", "llama3")
    if kind == "llama3" and rng.random() < 0.15:
        rope.pop(rng.choice(["factor", "low_freq_factor", "original_max_position_embeddings"]))
        whole = False
    if rng.random() < 0.08:
        rope.update(type="linear", rope_type=kind)  # two names, perhaps of two kinds
        rope.setdefault("factor", factor)
        whole = False
    if rng.random() < 0.04:
        rope["partial_rotary_factor"], whole = rng.choice([1.0, 0.5]), False
    return rope, whole


THETAS = [10000, 10000.0, 500000.0, 1e6]


def draw_rope(rng, config):
    form = rng.choice(
        ["none", "theta", "old", "old", "new", "new", "theta beside new", "both", "both", "both", "empty", "nested"]
    )
    theta, usual = rng.choice(THETAS), True
    if form in ("theta", "old", "theta beside new", "both", "empty"):
        config["rope_theta"] = theta
    if form in ("old", "both"):
        config["rope_scaling"], usual = scaling(rng)
        if rng.random() < 0.15:
            config["rope_scaling"]["rope_theta"], usual = rng.choice(THETAS), False
    if form in ("new", "theta beside new", "both"):
        config["rope_parameters"], whole = scaling(rng)
        usual = usual and whole
        if form == "new" or rng.random() < 0.6:
            config["rope_parameters"]["rope_theta"] = rng.choice(THETAS)
    if form == "empty":
        config["rope_scaling"] = rng.choice([None, {}])
        if rng.random() < 0.5:
            config["rope_parameters"] = rng.choice([None, {}])
        usual = config["rope_scaling"] is None and "rope_parameters" not in config
    if form == "nested":
        config["rope_parameters"], usual = {"full_attention": scaling(rng)[0] | {"rope_theta": theta}}, False
        if rng.random() < 0.5:
            config["layer_types"] = ["full_attention"]
    return "rope " + form, usual and form in ("none", "theta", "old", "new")


HARMLESS = {
    "_name_or_path": "x/y",
    "architectures": ["X"],
    "torch_dtype": "bfloat16",
    "dtype": "float32",
    "use_cache": False,
    "transformers_version": "4.57.1",
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": None,
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "pretraining_tp": 1,
    "attention_bias": False,
    "mlp_bias": False,
    "max_window_layers": 28,
    "use_sliding_window": False,
    "sliding_window": None,
    "unsloth_fixed": True,
}
CHANGES = {
    "is_causal": [False, True],
    "attention_bias": [True],
    "mlp_bias": [True],
    "hidden_act": ["gelu", "relu", "swish", "gelu_new"],
    "sliding_window": [8, 4096],
    "use_sliding_window": [True],
    "layer_types": [["sliding_attention"], ["full_attention"]],
    "attention_dropout": [0.1],
    "rms_norm_eps": [1e-5, 0.1],
    "head_dim": [8, 16, None],
    "num_key_value_heads": [1, 4, None],
    "partial_rotary_factor": [0.5, 1.0],
    "logit_scale": [0.5],
    "residual_multiplier": [0.5],
    "embedding_multiplier": [2.0],
    "attn_logit_softcapping": [5.0],
    "final_logit_softcapping": [5.0],
    "use_qk_norm": [True],
    "query_pre_attn_scalar": [4],
    "scale_embeddings": [True],
    "rope_interleaved": [True],
    "num_local_experts": [4],
    "vision_config": [{"hidden_size": 8}],
    "original_max_position_embeddings": [16],
    "max_position_embeddings": [16, None],
    "is_decoder": [True],
    "add_cross_attention": [True],
    "chunk_size_feed_forward": [4],
    "tie_encoder_decoder": [True],
    "attention_chunk_size": [8],
    "output_scale": [2.0],
    "_attn_implementation": ["eager"],
    "problem_type": ["regression"],
}


def draw(rng):
    arch = rng.choice(["llama", "llama", "qwen2", "mistral"])
    config = {
        "model_type": arch,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "vocab_size": 48,
        "max_position_embeddings": CONTEXT,
        "num_key_value_heads": rng.choice([1, 2, 4]),
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    }
    kind, usual = draw_rope(rng, config)
    if rng.random() < 0.7:
        config["tie_word_embeddings"] = rng.choice([True, False])
    elif rng.random() < 0.06:
        config["tie_word_embeddings"], usual = None, False
    for name in rng.sample(list(HARMLESS), rng.randint(0, 6)):
        config[name] = HARMLESS[name]
    if rng.random() < 0.45:
        name = rng.choice(list(CHANGES))
        config[name], usual = rng.choice(CHANGES[name]), False
        if name in ("sliding_window", "layer_types") and rng.random() < 0.5:
            config["use_sliding_window"] = True
            config["max_window_layers"] = rng.choice([0, 28])
        kind = name if kind in ("rope none", "rope theta") else f"{name}, {kind}"
    if rng.random() < 0.05:
        gone, usual = (
            rng.choice(["num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "hidden_act"]),
            False,
        )
        config.pop(gone, None)
        kind = f"{gone} left out, {kind}"
    if rng.random() < 0.3:
        for name in ("rope_scaling", "rope_parameters", "head_dim"):
            if name not in config and rng.random() < 0.4:
                config[name] = None
    return kind, config, usual and config.get("rope_parameters", 0) is not None


# ---- what transformers makes of it ----------------------------------------------------------------


def model_of(config):
    """A model with set weights from a config, or why there is none."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        built = AutoConfig.from_pretrained(folder)
    built._attn_implementation = "sdpa"  # eager's mask is causal whatever the config says
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(built, dtype=torch.float32).eval()


def facts_of(model):
    rotary, config = model.model.rotary_emb, model.config
    return {
        "inv_freq": [float(f) for f in rotary.inv_freq],
        "scale": float(rotary.attention_scaling),
        "tied": model.lm_head.weight is model.model.embed_tokens.weight,
        "eps": float(config.rms_norm_eps),
        "kv_heads": config.num_key_value_heads,
        "head_dim": model.model.layers[0].self_attn.head_dim,
        "context": config.max_position_embeddings,
    }


def is_plain(model, config, facts):
    """Does a decoder with these facts, and no other key of the config, give the same logits?"""
    import torch

    bare = {
        k: config[k]
        for k in (
            "model_type",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "vocab_size",
        )
    }
    bare.update(
        num_key_value_heads=facts["kv_heads"],
        head_dim=facts["head_dim"],
        rms_norm_eps=facts["eps"],
        max_position_embeddings=facts["context"],
        tie_word_embeddings=facts["tied"],
        sliding_window=None,
        use_sliding_window=False,
        rope_theta=10000.0,
    )
    other = model_of(bare)
    if other.state_dict().keys() != model.state_dict().keys():
        return False
    other.load_state_dict(model.state_dict())
    rotary = other.model.rotary_emb
    rotary.inv_freq = torch.tensor(facts["inv_freq"])
    rotary.attention_scaling = facts["scale"]
    ids = torch.arange(LENGTH)[None] * 7 % config["vocab_size"]
    with torch.no_grad():
        a, b = model(ids).logits, other(ids).logits
        model.train(), other.train()
        torch.manual_seed(1)
        c = model(ids).logits  # dropout
    return bool(torch.isfinite(a).all()) and torch.allclose(a, b, atol=1e-5) and torch.allclose(c, b, atol=1e-5)


def expected(config):
    try:
        model = model_of(config)
        facts = facts_of(model)
        return {**facts, "plain": is_plain(model, config, facts)}
    except Exception as error:  # whatever it raises, it takes no such file
        return {"error": f"{type(error).__name__}: {error}".split("\n")[0][:160]}


def same(a, b):
    names = ("scale", "tied", "eps", "kv_heads", "head_dim")
    return ("error" in a) == ("error" in b) and (
        "error" in a
        or all(a[n] == b[n] for n in names)
        and len(a["inv_freq"]) == len(b["inv_freq"])
        and all(abs(x - y) <= 1e-6 * abs(y) for x, y in zip(a["inv_freq"], b["inv_freq"]))
    )


def cases(rng, n, args):
    drawn = [draw(rng) for _ in range(n)]
    results = [expected(config) for _, config, _ in drawn]
    if args.t4:
        told = subprocess.run(
            [args.t4, "-W", "ignore", "-m", "differential.configs"],
            cwd=Path(__file__).parent.parent,
            text=True,
            input="".join(json.dumps(c) + "\n" for _, c, _ in drawn),
            stdout=subprocess.PIPE,
            check=True,
        )
        for result, line in zip(results, told.stdout.splitlines(), strict=True):
            result["as_in_4"] = same(json.loads(line), result)
    for (kind, config, usual), result in zip(drawn, results):
        # Files that name one kind of rope once, and no key that changes anything, must be read.
        yield {
            "part": "config",
            "kind": kind,
            "config": config,
            "expect": result,
            "usual": usual and result.get("plain", False),
        }


if __name__ == "__main__":  # in the environment of transformers 4
    for line in sys.stdin:
        print(json.dumps(expected(json.loads(line))), flush=True)
