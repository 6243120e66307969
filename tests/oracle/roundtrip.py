"""Does transformers load a folder that cft wrote, and compute the same? Run by roundtrip.sh.

    python tests/oracle/roundtrip.py FOLDER --ids IDS --logits FILE [--gguf FILE]

FOLDER is loaded in f32; every tensor must have its place and every place its tensor. The logits of
each line of ids must agree with FILE (f32, from roundtrip.lua) to 1e-4 of the largest. A tokenizer in
the folder must give the ids and the chat text that the GGUF file it came from describes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from golden import GOLDEN

TOLERANCE = 1e-4


def fail(message):
    raise SystemExit(f"  transformers {transformers.__version__}: {message}")


def check_logits(folder, ids_path, logits_path):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            fail(f"{kind}: {sorted(info[kind])[:5]}")
    lines = [[int(i) for i in line.split()] for line in ids_path.read_text().splitlines()]
    ours = torch.from_numpy(np.fromfile(logits_path, "<f4")).view(sum(map(len, lines)), -1)
    if ours.shape[1] != model.config.vocab_size:
        fail(f"{ours.shape[1]} logits a token from cft, {model.config.vocab_size} here")
    at, worst = 0, 0.0
    with torch.no_grad():
        for ids in lines:
            theirs = model(input_ids=torch.tensor([ids])).logits[0]
            error = (ours[at:at + len(ids)] - theirs).abs().max() / theirs.abs().max()
            worst = max(worst, error.item())  # NaN fails the comparison below
            if not error.item() < TOLERANCE:
                fail(f"logits differ by {error.item():.1e} of the largest")
            at += len(ids)
    return worst


def check_tokenizer(folder, gguf):
    import gguf_tokenizer
    ours, described = AutoTokenizer.from_pretrained(folder), gguf_tokenizer.build(gguf)
    for text in json.loads((GOLDEN / "smollm2" / "texts.json").read_text()):
        got = ours(text, add_special_tokens=False)["input_ids"]
        want = described.encode(text, add_special_tokens=False).ids
        if got != want:
            fail(f"the tokenizer gives {got[:12]}..., the GGUF file describes {want[:12]}...")
    meta = gguf_tokenizer.metadata(gguf)
    if ours.eos_token_id != meta["tokenizer.ggml.eos_token_id"]:
        fail(f"eos is {ours.eos_token_id}, not {meta['tokenizer.ggml.eos_token_id']}")
    for case in json.loads((GOLDEN / "templates" / "chatml.json").read_text())["cases"]:
        got = ours.apply_chat_template(case["messages"], tokenize=False)
        want = "".join(text for text, _ in case["segments"])
        if got != want + "\n":
            fail(f"the chat template gives {got!r}, not {want!r}")
    stops = GenerationConfig.from_pretrained(folder).eos_token_id
    if meta["tokenizer.ggml.eos_token_id"] not in (stops if isinstance(stops, list) else [stops]):
        fail(f"generation_config stops at {stops}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--logits", type=Path, required=True)
    parser.add_argument("--gguf", type=Path)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    worst = check_logits(args.folder, args.ids, args.logits)
    if args.gguf:
        check_tokenizer(args.folder, args.gguf)
    print(f"  transformers {transformers.__version__}: logits agree to {worst:.1e} of the largest"
          + (", tokenizer and chat template too" if args.gguf else ""))


if __name__ == "__main__":
    main()
