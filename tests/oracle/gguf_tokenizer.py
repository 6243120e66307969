"""The tokenizer a GGUF file describes, built from its own metadata with Hugging Face tokenizers.

Not by transformers' GGUF reader: it gives every such file plain ByteLevel, while
tokenizer.ggml.pre = smollm means digits one by one first.
"""

from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PRE_TOKENIZERS = {
    "smollm": lambda: pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]),
}


def metadata(path):
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def build(path):
    """The tokenizers.Tokenizer of the GGUF file at path."""
    meta = metadata(path)
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = PRE_TOKENIZERS[meta["tokenizer.ggml.pre"]]()
    tok.decoder = decoders.ByteLevel()
    kinds = meta["tokenizer.ggml.token_type"]
    tok.add_special_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, kinds)
                            if k == TokenType.CONTROL])
    tok.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, kinds)
                    if k == TokenType.USER_DEFINED])
    return tok
