"""Tokenizers as folders: tokenizer.json, tokenizer_config.json, special_tokens_map.json and config.json, with tokens in
one or the other. What the reference makes of one: its own tokens, the ids of texts, of a rendered conversation."""

import json
import tempfile
from pathlib import Path

from .vocabulary import BYTE_LEVEL, FLAGS, MODELS, tokenizer_json

NAMES = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<pad>",
    "<think>",
    "[TOOL]",
    " sp",
    "the",
    "the end",
    "Ａ",
    "a b",
    "\n\n",
    "<|x|>",
]
PIECES = [
    "the",
    "the end",
    " and",
    "ing",
    " ",
    "  ",
    "\n",
    "\n\n",
    "é",
    "e\u0301",
    "Ａ",
    "ﬁ",
    "ab",
    "a b",
    "b",
    "7",
    "和",
    "▁",
    " sp",
    "x",
]


# ---- drawing --------------------------------------------------------------------------------------


def flags(rng, some):
    token = {**FLAGS, "special": rng.random() < 0.6}
    for name in ("lstrip", "rstrip", "single_word", "normalized"):
        token[name] = rng.random() < some
    return token


def draw_tokens(rng, vocab, needed):
    """Added tokens with ids behind the vocabulary's, perhaps with gaps, those of `needed` among them. One that is in
    the vocabulary has the id that it has there, nearly always."""
    names = needed + [n for n in rng.sample(NAMES, rng.randint(0, 6)) if n not in needed]
    rng.shuffle(names)
    some = rng.choice([0, 0, 0.15, 0.4])
    tokens, at = [], len(vocab)
    for name in names:
        token = {"id": at, "content": name, **flags(rng, some if name not in needed or rng.random() < 0.3 else 0)}
        tokens.append(token)
        if name in vocab and rng.random() < 0.8:
            token["id"] = vocab[name]
            continue
        at += 1 + (rng.random() < 0.03) * rng.randint(1, 40)
    return tokens


def sequence(kind, parts):
    return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", kind: parts}


def draw_bytes(rng):
    normalizers = rng.choice(
        [[]] * 8 + [["NFC"]] * 6 + [["NFD"], ["NFKC"], ["Lowercase"], ["Replace"], ["Strip"], ["NFC", "Replace"]]
    )
    made = {
        "Replace": {
            "type": "Replace",
            "pattern": {"String": rng.choice(["  ", "é", "\n\n"])},
            "content": rng.choice([" ", "e", ""]),
        },
        "Strip": {"type": "Strip", "strip_left": True, "strip_right": rng.random() < 0.5},
    }
    level = {**BYTE_LEVEL, "use_regex": rng.random() < 0.6, "add_prefix_space": rng.random() < 0.15}
    return {
        "normalizer": sequence("normalizers", [made.get(n, {"type": n}) for n in normalizers]),
        "pre_tokenizer": level,
        "decoder": BYTE_LEVEL,
    }


def draw_pieces(rng):
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    metaspace = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": rng.choice(["first", "always", "never"]),
        "split": rng.random() < 0.3,
    }
    legacy = rng.random() < 0.5
    prepend = [{"type": "Prepend", "prepend": "▁"}] if rng.random() < 0.7 else []
    return {
        "normalizer": sequence("normalizers", prepend + [replace]) if legacy else None,
        "pre_tokenizer": None if legacy else metaspace,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
    }


def draw_processor(rng, tokens):
    special = [t for t in tokens if t["special"]]
    if not special or rng.random() < 0.5:
        return None
    start, stop = rng.choice(special), rng.choice(special)
    single = [{"SpecialToken": {"id": start["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    used = [start]
    if rng.random() < 0.2:
        single.append({"SpecialToken": {"id": stop["content"], "type_id": 0}})
        used.append(stop)
    template = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            t["content"]: {"id": t["content"], "ids": [t["id"]], "tokens": [t["content"]]} for t in used
        },
    }
    if rng.random() < 0.3:
        return {"type": "Sequence", "processors": [{**BYTE_LEVEL, "trim_offsets": rng.random() < 0.5}, template]}
    return template


def named(rng, token):
    """A token as these files name it."""
    return rng.choice(
        [token["content"], token["content"], {k: v for k, v in token.items() if k != "id"} | {"__type": "AddedToken"}]
    )


def draw(rng):
    base = rng.choice(["bytes", "words", "words", "pieces"])
    needed = rng.choice([[], ["<|im_start|>", "<|im_end|>"], ["<|im_start|>", "<|im_end|>"]])
    vocab = MODELS[base]()["vocab"]
    size = len(vocab)
    tokens = draw_tokens(rng, vocab, needed)
    kind = [base]
    parts = draw_pieces(rng) if base == "pieces" else draw_bytes(rng)
    listed = list(tokens)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    where = rng.choice(["json", "json", "both", "config", "config other flags", "map", "extra"])
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokens}
    if where in ("both", "config", "config other flags"):
        config["added_tokens_decoder"] = decoder
    if where == "config" and tokens:
        for t in rng.sample(tokens, rng.randint(1, len(tokens))):
            listed.remove(t)
        kind.append("tokens in config alone")
    if where == "config other flags" and tokens:
        name = rng.choice(list(decoder))
        flag = rng.choice(["lstrip", "rstrip", "normalized", "special", "single_word"])
        decoder[name][flag] = not decoder[name][flag]
        kind.append(f"config has another {flag}")
    special = [t for t in tokens if t["special"]]
    maps = {}
    for role in ("bos", "eos", "pad", "unk"):
        draw_from = special or tokens
        if draw_from and rng.random() < 0.6:
            target = rng.choice([config, config, maps]) if where != "map" else maps
            target[f"{role}_token"] = named(rng, rng.choice(draw_from))
            if rng.random() < 0.1:
                maps[f"{role}_token"] = named(rng, rng.choice(draw_from))
    if where == "extra":
        new = rng.choice(["<|new|>", "<new>", "the"])
        target = rng.choice([config, maps])
        target[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = [new]
        kind.append("extra special tokens")
    if rng.random() < 0.05:
        target = rng.choice([config, maps])
        target["eos_token"] = "<new end>"
        kind.append("a new eos_token")
    if rng.random() < 0.1:
        config[rng.choice(["add_bos_token", "add_eos_token"])] = rng.choice([True, False])
        kind.append("add_bos_token")
    if rng.random() < 0.05:
        config["add_prefix_space"] = rng.choice([True, False])
        kind.append("add_prefix_space")
    ids = [t["id"] for t in listed if t["id"] >= size]
    if ids != list(range(size, size + len(ids))):
        kind.append("gaps")
    if any(t[f] for t in tokens for f in ("lstrip", "rstrip", "single_word")):
        kind.append("stripping")
    if any(t["normalized"] for t in tokens):
        kind.append("normalized")
    if any(vocab.get(t["content"], t["id"]) != t["id"] for t in tokens):
        kind.append("in the vocabulary")
    if parts["normalizer"] and base != "pieces":
        kind.append("normalizer")
    # In the post-processor a token's id is what the file says.
    spec = {"added_tokens": listed, "post_processor": draw_processor(rng, listed), **parts}
    files = {"tokenizer_config.json": config}
    if maps:
        files["special_tokens_map.json"] = maps
        kind.append("map")
    if rng.random() < 0.08:
        files["config.json"] = {
            "model_type": "llama",
            "bos_token_id": size,
            "eos_token_id": rng.choice([size, [size, 1]]),
        }
    return ", ".join(kind), base, spec, files


def draw_text(rng, tokens):
    names = [t["content"] for t in tokens] * 2 + PIECES * 1
    return "".join(rng.choice(names if rng.random() < 0.5 else PIECES) for _ in range(rng.randint(1, 9)))


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
)


def conversation(rng):
    words = ["so", "ab", "x", "7", "b and", "ok 7", "ing", "no, the"]
    messages = []
    for _ in range(rng.choice([1, 2])):
        question = "".join(rng.choice(["", "", " ", "\n"]) + rng.choice(words) for _ in range(2)) + rng.choice(
            ["", "", " ", "\n"]
        )
        # An answer begins with a letter: no token of a whole text reaches over its edge.
        messages += [
            {"role": "user", "content": question},
            {
                "role": "assistant",
                "content": rng.choice(words) + rng.choice(["", " ok", ""]) + rng.choice(["", "", " ", "\n"]),
            },
        ]
    return messages


# ---- what transformers makes of it ----------------------------------------------------------------


def write(folder, base, spec, files):
    Path(folder, "tokenizer.json").write_text(json.dumps(tokenizer_json(MODELS[base](), **spec)))
    for name, value in files.items():
        Path(folder, name).write_text(json.dumps(value))


def chatted(tok, messages):
    """Ids of the whole text, and for each whether it begins in an answer."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, spans = render_jinja_template(
        conversations=[messages], chat_template=CHATML, return_assistant_tokens_mask=True
    )
    text = texts[0][: spans[0][-1][1]]  # nothing is trained behind the last answer
    encoded = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    learned = [int(any(a <= start < b for a, b in spans[0])) for start, _ in encoded["offset_mapping"]]
    return {"text": text, "messages": messages, "ids": encoded["input_ids"], "learned": learned}


def encoded(tok, plain, text):
    try:
        return {
            "text": text,
            "parsed": tok(text, add_special_tokens=False)["input_ids"],
            "whole": tok(text)["input_ids"],
            "plain": plain.backend_tokenizer.encode(text, add_special_tokens=False).ids,
        }
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the Rust inside, which has no answer then
            raise
        return None


def expected(base, spec, files, texts, messages):
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        write(folder, base, spec, files)
        try:
            tok = PreTrainedTokenizerFast.from_pretrained(folder)
            plain = PreTrainedTokenizerFast.from_pretrained(folder)
            plain.backend_tokenizer.encode_special_tokens = True
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}".split("\n")[0][:160]}
        result = {role: getattr(tok, f"{role}_token_id") for role in ("bos", "eos", "pad")}
        result["texts"] = [made for made in (encoded(tok, plain, t) for t in texts) if made]
        have = tok.get_vocab()
        if "<|im_start|>" in have and "<|im_end|>" in have:
            made = chatted(tok, messages)
            # Strings of tokens inside of data are text for us, and tokens for it.
            bare = made.pop("text").replace("<|im_start|>", "\0").replace("<|im_end|>", "\0").lower()
            if not any(t.content.lower() in bare for t in tok.added_tokens_decoder.values()):
                result["chat"] = made
        return result


def cases(rng, n, _):
    for name, make in MODELS.items():
        yield {"part": "tokenizer", "base": name, "model": make()}
    for _ in range(n):
        kind, base, spec, files = draw(rng)
        tokens = spec["added_tokens"] + [
            {"content": t["content"]} for t in files["tokenizer_config.json"].get("added_tokens_decoder", {}).values()
        ]
        texts = [draw_text(rng, tokens) for _ in range(5)]
        result = expected(base, spec, files, texts, conversation(rng))
        usual = (
            not any(word in kind for word in ("config", "extra", "new", "add_", "gaps", "normalizer", "in the voc"))
            and "error" not in result
        )
        yield {
            "part": "tokenizer",
            "kind": kind,
            "base": base,
            "spec": spec,
            "files": files,
            "expect": result,
            "usual": usual,
        }
