"""Golden texts of the presets for model families whose tokenizers are not kept here.

The publishers' chat templates are under licences of their own and not kept here either: give a folder with
FAMILY.jinja for each of FAMILIES. `segments` are what transformers' apply_chat_template renders with them, null where
they refuse. For each there is a short template, written for the test, that is checked here to render
the same in every case: tests compare the presets with that one.

    python tests/oracle/families.py --published FOLDER

tests/golden/README.md has the conventions.
"""

import argparse
import hashlib
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from golden import GOLDEN, provenance, save_json
from templates import conversations, split

BOS, EOS = "<s>", "</s>"
LEFT_OUT = ("code and LaTeX", "scripts")  # nothing in them that a template looks at

SYSTEM = "{% set s = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}"
OTHERS = "{% for m in messages if m.role != 'system' %}"
GEMMA = ("{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\\n' + HEAD m.content | trim"
         " + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}")


def mistral_v3(space, answer):
    return ("{{ bos_token }}" + SYSTEM + OTHERS + f"{{{{ '[INST]{space}' + (s if loop.last else '') + m.content + '[/INST]'"
            f" if m.role == 'user' else '{space}' + {answer} + eos_token }}}}{{% endfor %}}")


def mistral_v7(space):
    return ("{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
            f"{{{{ '{space}' + m.content + eos_token }}}}{{% else %}}"
            "{% set name = 'INST' if m.role == 'user' else 'SYSTEM_PROMPT' %}"
            f"{{{{ '[' + name + ']{space}' + m.content + '[/' + name + ']' }}}}{{% endif %}}{{% endfor %}}")


def preset(name, end, template, **more):
    return {"preset": name, "options": {}, "end": end, "template": template, **more}


# `system_last`: the system text is in the question that waits for an answer, and nowhere else. `system_always`:
# where a conversation has none, the publisher writes one of his own.
FAMILIES = {
    "llama2": preset(
        "llama2", EOS,
        "{% set s = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' if messages[0].role == 'system' else '' %}"
        + OTHERS + "{{ bos_token + '[INST] ' + ((s if loop.first else '') + m.content) | trim + ' [/INST]' if m.role == 'user'"
        " else ' ' + m.content | trim + ' ' + eos_token }}{% endfor %}"),
    "mistral-v3": preset("mistral", EOS, mistral_v3(" ", "m.content | trim"), options={"version": "v3"}, system_last=True),
    "mistral-v3-tekken": preset("mistral", EOS, mistral_v3("", "m.content"), options={"version": "v3-tekken"},
                                system_last=True),
    "mistral-v7": preset("mistral", EOS, mistral_v7(" "), options={"version": "v7"}),
    "mistral-v7-tekken": preset("mistral", EOS, mistral_v7(""), system_always=True),
    "gemma2": preset(
        "gemma2", "<end_of_turn>",
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system text') }}{% endif %}"
        + GEMMA.replace("HEAD", "")),
    "gemma3": preset("gemma3", "<end_of_turn>",
                     "{{ bos_token }}" + SYSTEM + OTHERS + GEMMA.replace("HEAD", "(s if loop.first else '') +")),
    "phi3": preset(
        "phi3", "<|end|>",
        "{% for m in messages if m.content or m.role != 'system' %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}"
        "{% endfor %}{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}"),
    "phi4-mini": preset(
        "phi3", "<|end|>",
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{{ '<|assistant|>' if add_generation_prompt else eos_token }}", options={"breaks": False}),
    "phi4": preset(
        "phi4", "<|im_end|>",
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"),
    "tulu": preset(
        "tulu", EOS,
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + (eos_token if m.role == 'assistant' else '')"
        " + ('' if loop.last and m.role == 'assistant' else '\\n') }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"),
}


def cases():
    for name, system, turns in conversations():
        if name not in LEFT_OUT:
            yield name, system, turns
    yield "spaces around system text", " Be brief. ", ("  What is 2+3? ", "  It is 5.  ")


def messages_of(system, turns):
    messages = [{"role": "system", "content": system}] if system is not None else []
    return messages + [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)]


def split_last(tok, messages):
    """As `split`, but a system text is in the last question of a prompt: only the last answer has loss weight."""
    def render(part, prompt):
        return tok.apply_chat_template(part, tokenize=False, add_generation_prompt=prompt)

    bare = messages[1:]
    prompt, whole = render(bare[:-1], True), render(bare, False)
    if not whole.startswith(prompt):
        raise SystemExit("a prefix of the conversation does not render to a prefix of its text")
    return [[render(messages[:-1], True), 0], [whole[len(prompt):], 1]]


def segments(family, template, messages):
    tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=BOS, eos_token=EOS,
                                  chat_template=template)
    try:
        if family.get("system_last") and messages[0]["role"] == "system":
            return split_last(tok, messages)
        return split(tok, messages, family["end"])
    except TemplateError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--published", type=Path, required=True, help="a folder with FAMILY.jinja, the publishers' templates")
    args = parser.parse_args()

    made, digests = [], {}
    for name, family in FAMILIES.items():
        path = args.published / f"{name}.jinja"
        published = path.read_text(encoding="utf-8")
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        rows = []
        for case, system, turns in cases():
            if system is None and family.get("system_always"):
                continue
            messages = messages_of(system, turns)
            texts = segments(family, published, messages)
            if texts != segments(family, family["template"], messages):
                raise SystemExit(f"{name}: {case}: the short template renders otherwise than the published one")
            row = {"name": case, "segments": texts}
            if family.get("system_last") and system is not None and len(turns) > 2:
                row["turns"] = "last"
            rows.append(row)
        made.append({"name": name, "preset": family["preset"], "options": family["options"],
                     "template": family["template"], "cases": rows})
    save_json(GOLDEN / "templates" / "families.json",
              {"provenance": provenance(__file__, templates_sha256=digests), "bos": BOS, "eos": EOS,
               "conversations": {name: messages_of(system, turns) for name, system, turns in cases()},
               "families": made})


if __name__ == "__main__":
    main()
