"""Golden files for whole models: logits, every gradient, and 20 steps of AdamW.

Random weights of a small Llama, a small Mistral and a small Qwen2 are saved as Hugging Face folders under
tests/golden/, each with expected.safetensors beside it. Sequences are run one at a time, so no
packing code of PyTorch or transformers has a say in what a packed batch must give. The
conventions of every tensor are in tests/golden/README.md.

    python tests/oracle/models.py            # write all folders
    python tests/oracle/models.py --verify   # load them in this transformers version, compare
"""

import argparse
import json
import math
import os

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Trainer
from transformers.optimization import get_cosine_schedule_with_warmup

from golden import GOLDEN, provenance, report, save_tensors

V5_READER = int(transformers.__version__.split(".")[0]) >= 5
SEED = 20250117
UPDATES, WARMUP, LR, DECAY, CLIP = 20, 5, 1e-2, 0.1, 1.0

# Sizes that divide by nothing: no kernel's fast path covers them whole. Both spellings of
# config.json: transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5 (rope_parameters, dtype).
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 36,  # not heads * head_dim
    "intermediate_size": 50,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "use_sliding_window": False,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# The window is as long as the longest sequence: there it is full attention.
MISTRAL = {**{k: v for k, v in LLAMA.items() if k not in ("attention_bias", "mlp_bias")},
           "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 47}
# With 4 frequencies and these numbers, one is kept, one is interpolated, two are divided by factor.
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
V4 = {"rope_theta": 10000.0, "torch_dtype": "float32", "transformers_version": "4.46.1"}
V5 = {"dtype": "float32", "transformers_version": "5.0.0"}

FOLDERS = {
    "llama-small": {**LLAMA, **V4},
    "qwen2-small": {**QWEN2, **V5,
                    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
    "mistral-small": {**MISTRAL, **V4},
    # The weights of llama-small under other rotary embeddings.
    "llama-small-llama3": {**LLAMA, **V5, "rope_parameters": LLAMA3_ROPE},
    "llama-small-linear": {**LLAMA, **V4, "rope_scaling": {"type": "linear", "factor": 2.5}},
}


def random_weights(model, seed):
    """Large enough that attention is not flat and norms, biases and residuals all matter."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                p.copy_(0.3 * noise)
            elif "embed_tokens" in name:
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise / math.sqrt(p.shape[1]))


def batches(vocab, seed):
    """Four packed batches. A sequence of one token predicts nothing; one sequence has no weight."""
    gen = torch.Generator().manual_seed(seed)
    shapes = [[13, 1, 7, 29, 2, 11], [31, 5, 17], [3, 23, 1, 1, 19], [47]]
    levels = torch.tensor([1.0, 0.5, 2.0, 1.0])
    made = []
    for lengths in shapes:
        ids, weights = [], []
        for i, n in enumerate(lengths):
            ids.append(torch.randint(3, vocab, (n,), generator=gen))
            w = levels[torch.randint(0, 4, (n,), generator=gen)]
            w[: max(1, int(0.6 * n))] = 0.0  # context; the first token is never a target
            if len(lengths) == 6 and i == 2:
                w[:] = 0.0
            weights.append(w)
        cu = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
        made.append((ids, weights, cu))
    return made


def forward(model, batch):
    """Logits of all tokens, nll of each token given those before it, and the weighted sums."""
    ids, weights, _ = batch
    logits, nll = [], []
    for seq in ids:
        z = model(input_ids=seq[None]).logits[0]
        logits.append(z)
        nll.append(torch.cat([z.new_zeros(1), F.cross_entropy(z[:-1], seq[1:], reduction="none")]))
    nll, w = torch.cat(nll), torch.cat(weights)
    return torch.cat(logits), nll, (w * nll).sum(), w.sum()


def train(model, data):
    """What the Hugging Face Trainer does: AdamW, no decay on biases and norms, clip, cosine."""
    decays = set(Trainer.get_decay_parameter_names(None, model))
    named = list(model.named_parameters())
    groups = [{"params": [p for n, p in named if n in decays], "weight_decay": DECAY},
              {"params": [p for n, p in named if n not in decays], "weight_decay": 0.0}]
    opt = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_cosine_schedule_with_warmup(opt, WARMUP, UPDATES)
    losses, rates, norms = [], [], []
    for step in range(UPDATES):
        _, _, loss_sum, weight_sum = forward(model, data[step % len(data)])
        loss = loss_sum / weight_sum
        opt.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(loss.item())
        opt.step()
        schedule.step()
    with torch.no_grad():
        final = [(s / w).item() for _, _, s, w in (forward(model, b) for b in data)]
    return losses, rates, norms, final


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def expected(folder, config, with_training):
    model = load(folder)
    data = batches(config["vocab_size"], SEED + 1)
    out = {}
    for i, (ids, weights, cu) in enumerate(data if with_training else data[:1]):
        out[f"batch.{i}.ids"] = torch.cat(ids)
        out[f"batch.{i}.cu_seqlens"] = cu
        out[f"batch.{i}.weights"] = torch.cat(weights)
    logits, nll, loss_sum, weight_sum = forward(model, data[0])
    out.update(logits=logits, nll=nll, loss_sum=loss_sum, weight_sum=weight_sum)
    if not with_training:
        return out
    (loss_sum / weight_sum).backward()
    for name, p in model.named_parameters():
        out[f"grad.{name}"] = p.grad
    losses, rates, norms, final = train(load(folder), data)
    model = load(folder)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 1e-6 * torch.randn(p.shape))
    other = train(model, data)[0]
    drift = max(abs(a - b) / a for a, b in zip(losses, other))
    print(f"{folder.name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, after {final[0]:.4f}; "
          f"weights changed by 1e-6 move a loss by {drift:.1e} at most")
    out.update({"train.loss": torch.tensor(losses), "train.lr": torch.tensor(rates),
                "train.grad_norm": torch.tensor(norms), "train.final_loss": torch.tensor(final)})
    return out


def write(name, config):
    folder = GOLDEN / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = folder / "model.safetensors"
    own = name in ("llama-small", "mistral-small", "qwen2-small")
    if own:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        random_weights(model, SEED)
        state = {n: p.detach().contiguous() for n, p in model.named_parameters()}  # a tied head once
        save_file(state, weights, {"format": "pt"})
        weights.chmod(0o644)
        report(weights)
    elif not weights.is_symlink():
        os.symlink("../llama-small/model.safetensors", weights)
    torch.manual_seed(SEED)
    origin = provenance(__file__, seed=SEED, updates=UPDATES, warmup=WARMUP, lr=LR, betas=[0.9, 0.999],
                        eps=1e-8, weight_decay=DECAY, clip=CLIP) if own else provenance(
                            __file__, seed=SEED)
    save_tensors(folder / "expected.safetensors", expected(folder, config, own), origin)


def verify(name):
    """The committed folder in whichever transformers runs this: same logits?"""
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    if "rope_parameters" in config and "rope_theta" not in config and not V5_READER:
        # It would load without a word, with default rotary embeddings: hence both spellings in
        # the folders we write.
        print(f"{name}: skipped, transformers {transformers.__version__} ignores rope_parameters")
        return True
    want = load_file(folder / "expected.safetensors")
    cu = want["batch.0.cu_seqlens"].tolist()
    seqs = [want["batch.0.ids"][a:b].long() for a, b in zip(cu, cu[1:])]
    with torch.no_grad():
        model = load(folder)
        got = torch.cat([model(input_ids=s[None]).logits[0] for s in seqs])
    worst = ((got - want["logits"]).abs().max() / want["logits"].abs().max()).item()
    print(f"{name}: transformers {transformers.__version__}, logits differ by {worst:.1e} of the largest")
    return worst < 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--verify", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # sums in one order
    if args.verify:
        raise SystemExit(0 if all([verify(name) for name in FOLDERS]) else 1)
    for name, config in FOLDERS.items():
        write(name, config)


if __name__ == "__main__":
    main()
