"""Golden token ids from Hugging Face tokenizers. Only hashes and counts are kept.

    python tests/oracle/tokenizer.py                 # writes tests/golden/tokenizer/*.json
    python tests/oracle/tokenizer.py --time FILE     # tokenizers' side of `cftrun bench tokenizer`

Five real vocabularies on the texts that texts.json names and odd.json has; and one tiny vocabulary
under every component that cft implements, on odd.json and on all code points of Unicode.
The models come through tests/fetch_models.sh; those of SentencePiece are put into a tokenizer.json as
transformers' converters do it. Qwen2.5's files from CFT_SHARED_DATA.
"""

import argparse
import array
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "tokenizer"
SHARED = Path(os.environ.get("CFT_SHARED_DATA", HERE.parent.parent.parent / "shared" / "data"))
QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def hash_ids(ids):
    """FNV-1a over 32-bit ids instead of bytes; the upper 48 bits, after the count."""
    h = 0xCBF29CE484222325
    for i in ids:
        h = (h ^ i) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{len(ids)} {h >> 16:012x}"


# ---- texts ----------------------------------------------------------------------------------


def odd_texts():
    return json.loads((GOLDEN / "odd.json").read_text())


def texts():
    for source in json.loads((GOLDEN / "texts.json").read_text())["sources"]:
        lines = (SHARED / source["path"]).read_bytes().decode().split("\n")
        for line in lines[:: source["every"]]:
            found = [line]
            if "fields" in source:
                values = [json.loads(line)[f] for f in source["fields"]] if line else []
                found = [t for v in values for t in ([m["content"] for m in v] if isinstance(v, list) else [v])]
            yield from (t for t in found if t)
    yield from odd_texts()


# ---- the three vocabularies -------------------------------------------------------------------


def fetched(name):
    out = subprocess.run([HERE.parent / "fetch_models.sh", name], check=True, capture_output=True, text=True)
    return Path(out.stdout.strip())


def qwen():
    folder = SHARED / "tokenizer" / "qwen2.5"
    merges = [tuple(line.split(" ")) for line in (folder / "merges.txt").read_text().split("\n")
              if line and not line.startswith("#version")]
    tok = Tokenizer(models.BPE(json.loads((folder / "vocab.json").read_text()), merges))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    spec = json.loads(tok.to_str())
    added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    spec["added_tokens"] = [{"id": int(i), **token} for i, token in sorted(added.items(), key=lambda t: int(t[0]))]
    return Tokenizer.from_str(json.dumps(spec))


def smollm2():
    import gguf_tokenizer
    return gguf_tokenizer.build(fetched("smollm2"))


def deepseek():
    return Tokenizer.from_file(str(fetched("deepseek")))


def spelled_decoder(strip=True):
    steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {"type": "Sequence", "decoders": steps + [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * strip}


def space_marks(prepend=True):
    """The normalizer of `legacy` files."""
    steps = [{"type": "Prepend", "prepend": "▁"}] * prepend
    return {"type": "Sequence", "normalizers": steps + [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}


def metaspace(scheme, split=False):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def sentencepiece(path, **parts):
    """A SentencePiece model of BPE as a tokenizer.json: merges by score, which is not the order of ids."""
    from transformers.tokenization_utils_base import generate_merges
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(Path(path).read_bytes())
    vocab = {p.piece: i for i, p in enumerate(model.pieces)}
    specials = [i for i, p in enumerate(model.pieces) if p.type in (2, 3)]
    flags = {f: False for f in ("single_word", "lstrip", "rstrip", "normalized")}
    return Tokenizer.from_str(json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": model.pieces[i].piece, **flags, "special": True} for i in specials],
        "normalizer": None, "pre_tokenizer": None, "decoder": spelled_decoder(), "post_processor": None, **parts,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": generate_merges(vocab, {p.piece: p.score for p in model.pieces})}}))


def mistral_v1():
    """Checked against SentencePiece itself."""
    tok = sentencepiece(fetched("mistral-v1"), normalizer=space_marks())
    tok.encode_special_tokens = True
    model = SentencePieceProcessor(str(fetched("mistral-v1")))
    assert all(model.encode(t) == tok.encode(t, add_special_tokens=False).ids for t in texts())
    return tok


def mistral_v3():
    return sentencepiece(fetched("mistral-v3"), pre_tokenizer=metaspace("first"))


def hash_texts(texts):
    return hash_ids([b for t in texts for b in t.encode() + b"\0"])


def real(name, make):
    tok = make()
    tok.encode_special_tokens = True
    lines = [hash_ids(tok.encode(t, add_special_tokens=False).ids) for t in texts()]
    tok.encode_special_tokens = False
    parsed = [tok.encode(t, add_special_tokens=False).ids for t in odd_texts()]
    from golden import provenance, save_json
    save_json(GOLDEN / f"{name}.json", {"provenance": provenance(__file__), "lines": lines, "parsed": [hash_ids(ids) for ids in parsed],
                                       "decoded": hash_texts(tok.decode(ids, skip_special_tokens=False) for ids in parsed)})
    print(f"{name}: {len(lines)} lines")


# ---- components -------------------------------------------------------------------------------


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, use_regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def sequence(*items):
    return {"type": "Sequence", "pretokenizers": list(items)}


def added(*tokens, model=None):
    """(content, flags) each; one that the vocabulary has keeps its id."""
    vocab, out = (model or tiny_model())["vocab"], []
    following = len(vocab)
    for content, *flags in tokens:
        out.append({"id": vocab.get(content, following), "content": content,
                    **{f: f in flags for f in ("single_word", "lstrip", "rstrip", "normalized", "special")}})
        following += content not in vocab
    return out


def tiny_model(missing=(), **options):
    """All bytes but some, and merges that cross whatever a pre-tokenizer should keep apart."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(c for c in alphabet if c not in missing)}
    merges = []
    for pair in ["a a", "aa aa", "Ġ a", "Ġ Ġ", "ĠĠ ĠĠ", "a b", "ab ab", "Ċ Ċ", "Ġ Ċ", "' s", "l l", "' ll", "1 2",
                 "12 3", "Ã ©", "a Ġ", ". .", "T h", "h e", "Ġ t", "Ġt he", "< |", "| >", "o o", "i n", "r e", "o n",
                 "Ġ (", ") Ċ", "0 0", "00 00", "! !", "æ ¼", "æ¼ ¢", "Ċ Ġ", "x Ġ"]:
        left, right = pair.split(" ")
        if left in vocab and right in vocab:
            merges.append(pair)
            vocab.setdefault(left + right, len(vocab))
    for token in options.pop("extra", []):
        vocab[token] = len(vocab)
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": merges, **options}


def characters_model(missing=(), crossing=(), **options):
    """Characters, all bytes to fall back on but some, and merges as SentencePiece has them."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        if byte not in missing:
            vocab[f"<0x{byte:02X}>"] = len(vocab)
    for c in "▁abcdehilnorstwxTH12390.,!'<|>()\\{}+-=é漢字α":
        vocab[c] = len(vocab)
    merges = []
    for pair in ["▁ ▁", "▁▁ ▁▁", "▁▁▁▁ ▁▁▁▁", "▁ t", "h e", "▁t he", "a a", "aa aa", "i n", "▁ a", "r e", "o n", "e r",
                 "1 2", "12 3", "▁ (", "▁ 1", "l l", "< |", "T he", "▁ The", "漢 字", "▁ é", "s t", *crossing]:
        left, right = pair.split(" ")
        merges.append(pair)
        vocab.setdefault(left + right, len(vocab))
    for token in options.pop("extra", []):
        vocab[token] = len(vocab)
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocab, "merges": merges, **options}


LLAMA3_PATTERN = QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
O200K_PATTERN = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
CL100K_PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                  r"|\s*[\r\n]|\s+(?!\S)|\s+")  # possessive: PCRE2's
DIGIT_GROUPS = r"(?=(\d{3})+(?!\d))"  # lookahead of many characters, empty matches: PCRE2's


def components():
    """name -> (what differs from a plain ByteLevel tokenizer, on which texts)"""
    cases = {}

    def case(name, on="odd", model=None, **parts):
        cases[name] = {"on": on, "tokenizer": {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": parts.pop("added_tokens", []),
            "normalizer": parts.pop("normalizer", None),
            "pre_tokenizer": parts.pop("pre_tokenizer", byte_level(use_regex=True)),
            "post_processor": parts.pop("post_processor", None),
            "decoder": parts.pop("decoder", {**byte_level(True, True)}), "model": model or tiny_model()}}
        assert not parts, parts

    def spelled(name, model=None, **parts):
        case(f"characters: {name}", model=model or characters_model(),
             **{"pre_tokenizer": None, "decoder": spelled_decoder(), **parts})

    case("gpt-2")
    case("no pattern", pre_tokenizer=byte_level())
    case("prefix space", pre_tokenizer=byte_level(prefix=True, use_regex=True))
    case("prefix space behind a split", pre_tokenizer=sequence(split(r"\d+"), byte_level(prefix=True, use_regex=True)))
    case("NFC", normalizer={"type": "NFC"})
    case("NFC, all of Unicode", "unicode", normalizer={"type": "NFC"}, pre_tokenizer=byte_level())
    case("gpt-2, all of Unicode", "unicode")
    for name, pattern in (("Qwen2", QWEN2_PATTERN), ("Llama 3", LLAMA3_PATTERN), ("o200k", O200K_PATTERN),
                          ("cl100k", CL100K_PATTERN)):
        case(name, pre_tokenizer=sequence(split(pattern), byte_level()))
        case(f"{name}, all of Unicode", "unicode", pre_tokenizer=sequence(split(pattern), byte_level()))
    case("digits in threes", pre_tokenizer=sequence(split(DIGIT_GROUPS), byte_level()))
    for individual in (True, False):
        digits = {"type": "Digits", "individual_digits": individual}
        case(f"Digits, individual {individual}", pre_tokenizer=sequence(digits, byte_level(use_regex=True)))
        case(f"Digits, individual {individual}, all of Unicode", "points",
             pre_tokenizer=sequence(digits, byte_level()))
    for behavior in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        for invert in (False, True):
            for pattern in (r"\s", r"[aeiou]+", "a|aa", "a*", "l??", r"\s+$"):
                case(f"{behavior}{', inverted' * invert} {pattern}",
                     pre_tokenizer=sequence(split(pattern, behavior, invert), byte_level()))
    case("plain string", pre_tokenizer=sequence(split("*", kind="String"), split("ab", "Removed", kind="String"),
                                                byte_level()))
    for pattern in (r"[[a-f]&&[^c]]+", r"[a[0-9]]+", r"\h+", r"[^\W_]+", r"a{2,3}", r"(?:ab){2}|a{,2}b", r"(a|b)+?b",
                    r"(?i)the|and", r"(?i:S)\b", r".$", r"x(?=[ab])", r"\x{e9}|\u00e8|\x41", r"[\]\-a]", r"\p{^L}+",
                    r"(?<=a)b", r"^a", r"\bthe\b", r"[一-龥]+", r"(a)\1", r"[[:alpha:]]{5}"):
        case(f"pattern {pattern}", pre_tokenizer=sequence(split(pattern), byte_level()))
    for prop in ("L", "M", "N", "P", "S", "Z", "C", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Nd", "Pc", "Sm", "So", "Cf"):
        case(f"property {prop}", "points", pre_tokenizer=sequence(split(r"\p{%s}" % prop, "Removed"), byte_level()))
    for escape in (r"\s", r"\S", r"\w", r"\d", ".", r"(?i:s)", r"(?i:k)"):
        case(f"escape {escape}", "points", pre_tokenizer=sequence(split(escape, "Removed"), byte_level()))

    case("added tokens", added_tokens=added(("<|im_end|>", "special"), ("<think>",), ("the",), ("<|im_",), (" ",), ("  ",)))
    case("lstrip and rstrip", added_tokens=added(("<|im_end|>", "special", "lstrip", "rstrip"), ("a", "lstrip"),
                                                 ("!", "rstrip")))
    case("single words", added_tokens=added(("a", "single_word"), ("x", "single_word", "rstrip"), ("é", "single_word")))
    case("normalized", normalizer={"type": "NFC"},
         added_tokens=added(("e\u0301", "normalized"), ("ü", "normalized"), ("a\u030a",),
                            ("<|im_end|>", "normalized", "special")))
    case("bytes without tokens", model=tiny_model(missing="aĠé"))
    case("unk", model=tiny_model(missing="aÃ", extra=["<unk>"], unk_token="<unk>"))
    case("fused unk", model=tiny_model(missing="aÃ", extra=["<unk>"], unk_token="<unk>", fuse_unk=True))
    case("ignore_merges", model=tiny_model(extra=["ĠThe", "Hello", "world", "aaa"],
                                           ignore_merges=True))
    n = len(tiny_model()["vocab"])
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[B]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "[E]", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[B]": {"id": "[B]", "ids": [n], "tokens": ["[B]"]},
                                   "[E]": {"id": "[E]", "ids": [n + 1, n], "tokens": ["[E]", "[B]"]}}}
    ends = added(("[B]", "special"), ("[E]", "special"))
    case("template", "odd, with its special tokens", added_tokens=ends, post_processor=template)
    case("template in a sequence", "odd, with its special tokens", added_tokens=ends, post_processor={
        "type": "Sequence", "processors": [byte_level(), template]})
    spelled("legacy", normalizer=space_marks())
    spelled("no normalizer")
    spelled("no prefix", normalizer=space_marks(False), decoder=spelled_decoder(False))
    spelled("Gemma", normalizer=space_marks(False)["normalizers"][0], decoder=spelled_decoder(False),
            pre_tokenizer=split(" ", "MergedWithPrevious", kind="String"))
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            spelled(f"Metaspace {scheme}{', split' * cut}", pre_tokenizer=metaspace(scheme, cut))
        spelled(f"Metaspace {scheme}, its decoder", pre_tokenizer=metaspace(scheme), decoder=metaspace(scheme))
        spelled(f"Metaspace {scheme} behind a split", pre_tokenizer=sequence(split(r"\d+"), metaspace(scheme)))
        spelled(f"Metaspace {scheme} before a split", pre_tokenizer=sequence(metaspace(scheme), split(r"[▁e]+")))
        spelled(f"Metaspace {scheme}, special tokens", pre_tokenizer=metaspace(scheme), added_tokens=added(
            ("<s>", "special"), ("</s>", "special"), ("<|im_end|>", "special"), ("the",), ("▁a",),
            model=characters_model()))
    spelled("Metaspace behind legacy", normalizer=space_marks(), pre_tokenizer=metaspace("first"))
    for name, flags in (("raw", ()), ("normalized", ("normalized",)), ("stripped", ("lstrip", "rstrip")),
                        ("normalized and stripped", ("normalized", "lstrip", "rstrip")),
                        ("words", ("normalized", "single_word"))):
        # Of two tokens that are normalized to the same text any may be found: there are none.
        marks = [] if "normalized" in flags else [("▁▁", *flags)]
        tokens = added(("<|im_end|>", "special", *flags), ("the", *flags), ("  ", *flags), ("a b", *flags), *marks,
                       model=characters_model())
        spelled(f"added tokens, {name}", normalizer=space_marks(), added_tokens=tokens)
        spelled(f"added tokens, {name}, no prefix", normalizer=space_marks(False), added_tokens=tokens)
    spelled("merges across spaces", characters_model(crossing=["e ▁", "e▁ t", "n ▁▁"]), normalizer=space_marks())
    spelled("merges of bytes", characters_model(crossing=["<0xF0> <0x9F>", "<0x0A> <0x0A>"], extra=["<0xF0><0x9F>"]),
            normalizer=space_marks())
    spelled("ignore_merges", characters_model(extra=["▁Hello", "Hello", "▁aaa"], ignore_merges=True),
            pre_tokenizer=metaspace("always", True))
    spelled("no bytes", characters_model(byte_fallback=False), normalizer=space_marks())
    spelled("no bytes, unks one by one", characters_model(byte_fallback=False, fuse_unk=False), normalizer=space_marks())
    spelled("no bytes, no unk", characters_model(byte_fallback=False, unk_token=None), normalizer=space_marks())
    spelled("some bytes", characters_model(missing=(0x0A, 0xE6, 0x80, 0x75)), normalizer=space_marks())
    spelled("some bytes, unks one by one", characters_model(missing=(0x0A, 0xE6, 0x80, 0x75), fuse_unk=False),
            normalizer=space_marks())
    spelled("some bytes, no unk", characters_model(missing=(0x0A, 0xE6, 0x80), unk_token=None), normalizer=space_marks())
    replace = {"type": "Replace", "pattern": {"String": "th"}, "content": "ht"}
    spelled("replacements", normalizer={"type": "Sequence", "normalizers": [
        {"type": "NFC"}, replace, {**replace, "pattern": {"String": "aa"}, "content": ""},
        {"type": "Prepend", "prepend": "▁x "}, *space_marks()["normalizers"]]})
    spelled("strips", normalizer=space_marks(), decoder={"type": "Sequence", "decoders": [
        *spelled_decoder(False)["decoders"], {"type": "Strip", "content": " ", "start": 2, "stop": 0}]})
    case("Roberta", "odd, with its special tokens", added_tokens=ends, post_processor={
        "type": "RobertaProcessing", "sep": ["[E]", n + 1], "cls": ["[B]", n], "trim_offsets": True,
        "add_prefix_space": False})
    return cases


def unicode_texts(around):
    """Every code point, 1,024 a text: alone, or between letters, marks and digits."""
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for i in range(0, len(points), 1024):
        yield "".join(around.format(chr(c)) for c in points[i : i + 1024])


def write_components():
    from golden import provenance, save_json
    odd = odd_texts()
    texts_on = {"odd": odd, "odd, with its special tokens": odd, "points": list(unicode_texts("{0}")),
                "unicode": list(unicode_texts("a{0}\u0301{0}\u0316b{0}1 "))}
    out = []
    for name, case in components().items():
        tok = Tokenizer.from_str(json.dumps(case["tokenizer"]))
        on = texts_on[case["on"]]
        with_special = case["on"].startswith("odd, with")
        hashes = {}
        # Not where bytes are no UTF-8, or where tokens are spelled as they were normalized.
        if name.startswith("characters") and not any(w in name for w in ("normalized", "words", "merges of bytes")):
            tok.encode_special_tokens = True
            decoded = [tok.decode(tok.encode(t, add_special_tokens=False).ids, skip_special_tokens=False) for t in on]
            hashes["decoded"] = hash_texts(decoded)
        for parse in (False, True) if case["tokenizer"]["added_tokens"] and not with_special else (False,):
            tok.encode_special_tokens = not parse
            ids = [tok.encode(t, add_special_tokens=with_special).ids for t in on]
            # All texts of a case in one hash; the counts alone say where to look.
            hashes["parsed" if parse else "plain"] = hash_ids([i for text in ids for i in [len(text)] + text])
        out.append({"name": name, "on": case["on"], **hashes, "tokenizer": case["tokenizer"]})
    # The vocabulary is the same nearly everywhere: it stands once.
    shared = {"tiny": tiny_model(), "characters": characters_model()}
    for case in out:
        for name, model in shared.items():
            if case["tokenizer"]["model"] == model:
                case["tokenizer"]["model"] = name
    path = GOLDEN / "components.json"
    rows = ",\n".join("    " + json.dumps(c, ensure_ascii=True) for c in out)
    path.write_text('{\n  "provenance": %s,\n  "tiny": %s,\n  "characters": %s,\n  "cases": [\n%s\n  ]\n}\n'
                    % (json.dumps(provenance(__file__)), *(json.dumps(m) for m in shared.values()), rows))
    print(f"components: {len(out)} cases, {path.stat().st_size} bytes")


# ---- timing -----------------------------------------------------------------------------------


def measure(job):
    """Encode the job's texts on one thread; write their ids, print the best time as JSON."""
    import tokenizers
    job = json.loads(Path(job).read_text())
    lines = [json.loads(line) for line in Path(job["texts"]).read_text().split("\n") if line]
    tok = Tokenizer.from_file(job["tokenizer"])
    tok.encode_special_tokens = True
    best = float("inf")
    for _ in range(job["repeat"]):
        start = time.perf_counter()
        encoded = tok.encode_batch_fast(lines, add_special_tokens=False)
        best = min(best, time.perf_counter() - start)
    ids = array.array("i")
    for e in encoded:
        ids.append(len(e.ids))
        ids.extend(e.ids)
    Path(job["ids"]).write_bytes(ids.tobytes())
    print(json.dumps({"seconds": best, "version": tokenizers.__version__}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--time", metavar="FILE", help="a job that `cftrun bench tokenizer` wrote")
    args = parser.parse_args()
    if args.time:
        return measure(args.time)
    sys.path.insert(0, str(HERE))
    for name, make in (("qwen2.5", qwen), ("smollm2", smollm2), ("deepseek", deepseek), ("mistral-v1", mistral_v1),
                       ("mistral-v3", mistral_v3)):
        real(name, make)
    write_components()


if __name__ == "__main__":
    main()
