"""Golden files for the readers and writers of weights and state.

  DIR/bin/python tests/oracle/files.py     (DIR: see setup.sh; a second, a few hundred KB)

gguf/types          every type that is read, in random blocks, and what gguf-py makes of them
gguf/tiny-llama     a whole model as llama.cpp's converter lays it out (q and k permuted, llama3 rope
                    factors), and its tensors as Hugging Face names and orders them
gguf/tiny-qwen2     the same with biases and without permutation
safetensors/        files and shards as safetensors and huggingface_hub write them
state/              a state file as Python's msgpack writes it
"""

import json
from importlib import metadata

import gguf
import msgpack
import numpy as np
import torch
from golden import GOLDEN, provenance, report, save_json, save_tensors
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

SEED = 17
ORIGIN = provenance(__file__, seed=SEED)
Q = gguf.GGMLQuantizationType
READ = [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q4_K, Q.Q5_K, Q.Q6_K]
# Where a block has its f16 scales: they are made finite, all other bytes are random.
SCALES = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q4_K: [0, 2],
          Q.Q5_K: [0, 2], Q.Q6_K: [208]}


def random_blocks(rng, kind, rows, blocks):
    """(rows, bytes) of a type; the scales of the first block are subnormal."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scale = (rng.standard_normal((rows, blocks)) * 0.1).astype(np.float16)
        scale[0, 0] = np.float16(3e-6)
        raw[:, :, at:at + 2] = scale[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


def write_gguf(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types():
    rng = np.random.default_rng(SEED)
    path = GOLDEN / "gguf" / "types.gguf"
    w = gguf.GGUFWriter(path, "test")
    w.add_string("test.text", "naïve")
    w.add_int8("test.i8", -8)
    w.add_uint64("test.u64", 2**63 + 2**40)
    w.add_float32("test.f32", 0.1)
    w.add_float64("test.f64", 0.1)
    w.add_bool("test.yes", True)
    w.add_array("test.words", ["a", "", "three"])
    w.add_array("test.numbers", [1, -2, 3])
    w.add_array("test.flags", [True, False])
    expected = {}
    for kind in READ:
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        columns = 3 * block if block > 1 else 37
        if kind in (Q.F32, Q.F16):
            x = rng.standard_normal((2, columns)).astype(np.float32 if kind == Q.F32 else np.float16)
            x[0, :4] = [0.0, -0.0, np.inf, 6e-8 if kind == Q.F16 else 1e-42]
            w.add_tensor(kind.name, x)
            expected[kind.name] = x.astype(np.float32)
            continue
        if kind == Q.BF16:
            raw = gguf.quantize(rng.standard_normal((2, columns)).astype(np.float32), kind)
        else:
            raw = random_blocks(rng, kind, 2, 3)
        w.add_tensor(kind.name, raw, raw_dtype=kind)
        expected[kind.name] = gguf.dequantize(raw, kind)
    w.add_tensor("Q2_K", rng.integers(0, 256, (1, 84), dtype=np.uint8), raw_dtype=Q.Q2_K)
    write_gguf(w)
    report(path)
    save_tensors(GOLDEN / "gguf" / "types.safetensors", expected, ORIGIN)


def permute(weight, heads):
    """As convert_hf_to_gguf.py does to q and k of Llama, quoted from it in another order of words:
    within each head the two halves that rope pairs become neighbours."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(
        weight.shape)


NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}


def model(arch):
    rng = np.random.default_rng(SEED + 1)
    width, ffn, heads, kv_heads, layers, vocabulary = 32, 64, 4, 2, 2, 70
    path = GOLDEN / "gguf" / f"tiny-{arch}.gguf"
    w = gguf.GGUFWriter(path, arch)
    w.add_name("tiny")
    w.add_block_count(layers)
    w.add_context_length(256)
    w.add_embedding_length(width)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_freq_base(500000.0 if arch == "llama" else 1000000.0)
    w.add_layer_norm_rms_eps(1e-5 if arch == "llama" else 1e-6)
    if arch == "llama":
        w.add_vocab_size(vocabulary)
        w.add_rope_dimension_count(width // heads)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe" if arch == "llama" else "qwen2")
    w.add_token_list([f"<{i}>" for i in range(vocabulary)])
    w.add_token_types([3 if i < 3 else 1 for i in range(vocabulary)])
    w.add_token_merges(["< 4", "<4 >"])
    w.add_eos_token_id(2)
    w.add_bos_token_id(1)
    w.add_chat_template("{{ messages }}")
    expected = {}

    def add(name, hf, shape, kind=Q.F32, heads_of=None):
        x = rng.standard_normal(shape).astype(np.float32)
        if kind != Q.F32:  # what the file can hold, so that both sides start from the same
            x = gguf.dequantize(gguf.quantize(x, kind), kind)
        expected[hf] = x
        stored = permute(x, heads_of) if heads_of and arch == "llama" else x
        if kind != Q.F32:
            w.add_tensor(name, gguf.quantize(stored, kind), raw_dtype=kind)
        else:
            w.add_tensor(name, np.ascontiguousarray(stored))

    add("token_embd.weight", "model.embed_tokens.weight", (vocabulary, width), Q.Q8_0)
    if arch == "llama":
        factors = llama3_factors(width // heads, 500000.0, 8.0)
        w.add_tensor("rope_freqs.weight", factors)
    kv = width // heads * kv_heads
    shapes = {"attn_q": (width, width), "attn_k": (kv, width), "attn_v": (kv, width),
              "attn_output": (width, width), "ffn_gate": (ffn, width), "ffn_up": (ffn, width),
              "ffn_down": (width, ffn), "attn_norm": (width,), "ffn_norm": (width,)}
    for i in range(layers):
        for name, shape in shapes.items():
            of = {"attn_q": heads, "attn_k": kv_heads}.get(name)
            hf = f"model.layers.{i}.{NAMES[name]}"
            # Permuting rows that are quantised one by one permutes their bytes.
            kind = Q.Q4_1 if len(shape) == 2 and name != "attn_v" else Q.F32
            add(f"blk.{i}.{name}.weight", f"{hf}.weight", shape, kind, of)
            if arch == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                add(f"blk.{i}.{name}.bias", f"{hf}.bias", shape[:1])
    add("output_norm.weight", "model.norm.weight", (width,))
    if arch == "qwen2":
        add("output.weight", "lm_head.weight", (vocabulary, width), Q.Q8_0)
    write_gguf(w)
    report(path)
    save_tensors(GOLDEN / "gguf" / f"tiny-{arch}.safetensors", expected, ORIGIN)


def llama3_factors(d, theta, factor, low=1.0, high=4.0, context=8192):
    """As convert_hf_to_gguf.py writes rope_freqs: what each frequency is divided by."""
    out = []
    for f in 1.0 / theta ** (np.arange(0, d, 2, dtype=np.float32) / d):
        wavelength = 2 * np.pi / f
        if wavelength < context / high:
            out.append(1.0)
        elif wavelength > context / low:
            out.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            out.append(1.0 / ((1 - smooth) / factor + smooth))
    return np.array(out, dtype=np.float32)


def pattern(index, shape, dtype):
    """Bytes that the C test makes again: byte k of array i is (7 k + 13 i) mod 251."""
    count = int(np.prod(shape))
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    size = torch.empty(0, dtype=dtype).element_size()
    raw = ((7 * np.arange(count * size) + 13 * index) % 251).astype(np.uint8)
    return torch.from_numpy(raw).view(dtype).reshape(shape)


# In the order of a model; the file has them in its own. Kept in step with tests/c/safetensors.c.
ARRAYS = [("z.f32", (3, 5), torch.float32), ("b.bf16", (7,), torch.bfloat16),
          ("a.f32", (2, 1, 4), torch.float32), ("scalar.f64", (), torch.float64),
          ("ids.i64", (6,), torch.int64), ("c.f16", (5, 3), torch.float16),
          ("mask.u8", (9,), torch.uint8), ("n.i32", (2, 2), torch.int32),
          ("empty.f32", (0, 4), torch.float32), ("quote\"d.f32", (70, 5), torch.float32),
          ("ünï.f32", (10, 10), torch.float32)]


def tensors():
    arrays = {name: pattern(i, shape, dtype) for i, (name, shape, dtype) in enumerate(ARRAYS)}
    folder = GOLDEN / "safetensors"
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    report(folder / "model.safetensors")
    save_torch_state_dict(arrays, folder / "shards", max_shard_size=600, metadata={"format": "pt"})
    # The index as transformers prints it: the parameters counted, sorted, a line break at the end
    # (but for the escapes of a name that is not ASCII, which no model has).
    path = folder / "shards" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["metadata"]["format"]
    index["metadata"]["total_parameters"] = sum(x.numel() for x in arrays.values())
    path.write_text(json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    for path in sorted((folder / "shards").iterdir()):
        report(path)
    save_file({"flags": torch.tensor([True, False]), "small": torch.zeros(3, dtype=torch.int8),
               "fine": torch.ones(2)}, folder / "foreign.safetensors")
    report(folder / "foreign.safetensors")


def state():
    value = {"cft_state": 1, "state": {
        "step": 12.0, "seed": -5, "big": 2**63 + 1, "name": "naïve", "on": True, "none": None,
        "list": [1.5, "x", [], {}], "moment": {
            "$array": "f32", "dims": [2, 3],
            "data": [np.arange(6, dtype=np.float32).tobytes()]}}}
    path = GOLDEN / "state" / "python.msgpack"
    path.write_bytes(msgpack.packb(value))
    report(path)


if __name__ == "__main__":
    for folder in ("gguf", "safetensors/shards", "state"):
        (GOLDEN / folder).mkdir(parents=True, exist_ok=True)
    types()
    model("llama")
    model("qwen2")
    tensors()
    state()
    versions = dict(ORIGIN["versions"])
    for name in ("safetensors", "huggingface_hub", "msgpack"):
        versions[name] = metadata.version(name)
    for folder in ("gguf", "safetensors", "state"):
        save_json(GOLDEN / folder / "origin.json", {**ORIGIN, "versions": versions})
