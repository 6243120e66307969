"""Small vocabularies for tokenizer.json."""

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def byte_letters():
    """GPT-2's letters for bytes, in the order of the bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, more = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + more)
            more += 1
    return [letters[b] for b in range(256)]


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def bpe(vocab, merges=(), **more):
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": [list(m) for m in merges],
        **more,
    }


def with_merges(letters, words):
    vocab, merges = {letter: i for i, letter in enumerate(letters)}, []
    for word in words:
        for k in range(1, len(word)):
            if word[: k + 1] not in vocab:
                vocab[word[: k + 1]] = len(vocab)
                merges.append((word[:k], word[k]))
    return vocab, merges


def bytes_model():
    return bpe({letter: i for i, letter in enumerate(byte_letters())})


def words_model():
    vocab, merges = with_merges(byte_letters(), ["the", "and", "Ġthe", "ing", "ow", "ĊĊ", "ĠĠĠ", "Ã©", "im"])
    return bpe(vocab, merges)


def pieces_model():
    """As of SentencePiece: spaces are ▁, and what is in no piece is bytes."""
    letters = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["▁"]
    letters += [chr(c) for c in range(33, 127) if chr(c) not in letters] + ["é"]
    vocab, merges = with_merges(letters, ["▁the", "▁▁", "▁a", "the", "and", "ing", "▁so"])
    return bpe(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


MODELS = {"bytes": bytes_model, "words": words_model, "pieces": pieces_model}


def tokenizer_json(
    model, added_tokens, normalizer=None, pre_tokenizer=BYTE_LEVEL, post_processor=None, decoder=BYTE_LEVEL
):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }
