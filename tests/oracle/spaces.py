"""Ids of random tokenizers whose added tokens take white space, from Hugging Face tokenizers.

    python tests/oracle/spaces.py    writes tests/golden/tokenizer/spaces.json

An empty list of ids stands for a text on which tokenizers 0.23.3 fails ("AddedVocabulary bad split").
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer

golden = Path(__file__).parent.parent / "golden" / "tokenizer"
tiny = json.loads((golden / "components.json").read_text())["tiny"]
CONTENTS = [" ", "  ", " x", "x ", "\n", "<a>", " <a>", "y", "\u3000", "\u00e9"]
PARTS = ["<a>", " ", "  ", "x", "y", "\n", "\u3000", "\u00e9", "e\u0301"]
NORMALIZERS = [None, {"type": "NFC"}, {"type": "Replace", "pattern": {"String": "x"}, "content": "y "}]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def added_tokens(random):
    tokens, free = [], len(tiny["vocab"])
    for content in random.sample(CONTENTS, 3):
        known = tiny["vocab"].get(content)
        token = {"id": free if known is None else known, "content": content, "special": False}
        free += known is None
        token["single_word"] = random.random() < 0.2
        for flag in ("lstrip", "rstrip", "normalized"):
            token[flag] = random.random() < 0.5
        tokens.append(token)
    return tokens


def ids(tokenizer, text):
    try:
        return tokenizer.encode(text).ids
    except BaseException:  # a panic of Rust's is no Exception
        return []


def main():
    rng = random.Random(5)
    texts = ["".join(rng.choice(PARTS) for _ in range(rng.randint(2, 9))) for _ in range(14)]
    cases = []
    for number in range(45):
        normalizer, added = NORMALIZERS[number % 3], added_tokens(rng)
        file = {"version": "1.0", "truncation": None, "padding": None, "normalizer": normalizer,
                "pre_tokenizer": BYTES, "post_processor": None, "decoder": BYTES, "added_tokens": added,
                "model": dict(tiny, type="BPE")}
        tokenizer = Tokenizer.from_str(json.dumps(file))
        cases.append({"normalizer": normalizer or False, "added": added, "ids": [ids(tokenizer, t) for t in texts]})
    (golden / "spaces.json").write_text(json.dumps({"texts": texts, "cases": cases}, separators=(",", ":")) + "\n")


main()
