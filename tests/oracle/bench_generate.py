"""Generation beside other engines: cft, llama.cpp, ik_llama.cpp and transformers, in turn, SmolLM2-135M-Instruct.

    VENV/bin/python tests/oracle/bench_generate.py --gguf FILE --cftrun build/cpu/cftrun [--ik VENV2/bin/python]
      [--oracle DIR/bin/python]

VENV has llama-cpp-python, VENV2 ik-llama-cpp-python; DIR is an environment of setup.sh. The weights are those of FILE, widened to bf16 (and f16, f32)
for both by llama.cpp's own quantiser. Every engine decodes batches of sequences of 16 tokens and reads a prompt of
512, with the same threads; in each round all take their turn, so that what else the machine does meets all. The
best of all steps counts, and the median is printed beside it: on a machine that others use, the best is what
the engine can do.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORT, NEW, PROMPT = 16, 16, 512
BATCHES = (1, 32)


def ll_quiet():
    """llama.cpp without its log; what is returned must live as long."""
    import llama_cpp

    callback = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(callback, None)
    return callback


def llama_files(gguf, folder, kinds):
    import llama_cpp

    quiet = ll_quiet()
    ftypes = {"bf16": 32, "f16": 1, "f32": 0}
    paths = {}
    for kind in kinds:
        paths[kind] = str(Path(folder) / f"{kind}.gguf")
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize, params.nthread = ftypes[kind], True, 2
        if llama_cpp.llama_model_quantize(str(gguf).encode(), paths[kind].encode(), ctypes.byref(params)):
            raise SystemExit(f"llama.cpp did not write {kind}")
    del quiet
    return paths


def llama_context(path, threads):
    import llama_cpp as ll

    ll.llama_backend_init()
    quiet = ll_quiet()
    params = ll.llama_model_default_params()
    params.n_gpu_layers = 0
    model = ll.llama_model_load_from_file(path.encode(), params)
    c = ll.llama_context_default_params()
    c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max = 32 * 64, PROMPT, PROMPT, 32
    c.kv_unified = True
    c.n_threads = c.n_threads_batch = threads
    ctx = ll.llama_init_from_model(model, c)
    return ll, ctx, lambda: ll.llama_memory_clear(ll.llama_get_memory(ctx), True), quiet


def ik_context(path, threads):
    """ik_llama.cpp has the interface of an older llama.cpp; its package binds just what is used here."""
    from ik_llama_cpp import _ctypes_api as ll

    ll.llama_backend_init()
    model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
    c = ll.llama_context_default_params()
    c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max = 32 * 64, PROMPT, PROMPT, 32
    c.n_threads = c.n_threads_batch = threads
    c.flash_attn = False  # 0.1.5 aborts in it where many sequences share a short cache (iqk_fa_templates.h:1157)
    ctx = ll.llama_init_from_model(model, c)
    assert ctx, "ik_llama.cpp made no context"
    return ll, ctx, lambda: ll.llama_kv_cache_clear(ctx), None


def llama_worker(path, threads, context):
    """In a process of its own: answers "go" on stdin with one line of JSON a round."""
    ll, ctx, clear, quiet = context(path, threads)  # noqa: F841
    batch = ll.llama_batch_init(PROMPT, 0, 1)

    def decode(rows):  # (id, position, sequence, wants logits)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        began = time.perf_counter()
        assert ll.llama_decode(ctx, batch) == 0
        ll.llama_get_logits_ith(ctx, -1)
        return time.perf_counter() - began

    for _ in sys.stdin:
        seconds = {}
        for size in BATCHES:
            clear()
            decode([((p * 37 + s * 101) % 49152, p, s, p == SHORT - 1) for s in range(size) for p in range(SHORT)])
            seconds[f"decode {size}"] = [
                decode([((s * 7 + step) % 49152, SHORT + step, s, True) for s in range(size)]) for step in range(NEW)]
        clear()
        seconds["prefill"] = [decode([((p * 37) % 49152, p, 0, p == PROMPT - 1) for p in range(PROMPT)])]
        print(json.dumps(seconds), flush=True)


def torch_worker(threads, dtype):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    # Random weights of SmolLM2's shape: the reader of GGUF files may keep them packed.
    model = LlamaForCausalLM._from_config(LlamaConfig(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
        vocab_size=49152, tie_word_embeddings=True, max_position_embeddings=8192), dtype=getattr(torch, dtype),
        attn_implementation="sdpa").eval()

    def forward(ids, cache):
        began = time.perf_counter()
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.past_key_values, time.perf_counter() - began

    for _ in sys.stdin:
        seconds = {}
        for size in BATCHES:
            cache, _ = forward(torch.randint(0, 49152, (size, SHORT)), None)
            times = []
            for _step in range(NEW):
                cache, t = forward(torch.randint(0, 49152, (size, 1)), cache)
                times.append(t)
            seconds[f"decode {size}"] = times
        seconds["prefill"] = [forward(torch.randint(0, 49152, (1, PROMPT)), None)[1]]
        print(json.dumps(seconds), flush=True)


def cft_round(cftrun, gguf, dtype, threads):
    text = subprocess.run([cftrun, "bench", "generate", "--model", gguf, "--dtype", dtype, "--new", str(NEW), "--rounds", "1",
                           "--json"], check=True, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": str(threads)}).stdout
    run = json.loads(text)["runs"][0]
    seconds = {f"decode {d['batch']}": [d["best"], d["median"]] for d in run["decode"]}
    return {**seconds, "prefill": [run["prefill"]["best"]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--cftrun")
    parser.add_argument("--ik", help="a Python with ik-llama-cpp-python")
    parser.add_argument("--oracle", help="a Python with torch and transformers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default="bf16,f16,f32", help="of both llama.cpps' weights")
    parser.add_argument("--worker")
    args = parser.parse_args()
    if args.worker in ("llama", "ik"):
        return llama_worker(args.gguf, args.threads, ik_context if args.worker == "ik" else llama_context)
    if args.worker:
        return torch_worker(args.threads, args.worker)

    with tempfile.TemporaryDirectory() as folder:
        files = llama_files(args.gguf, folder, [k for k in args.kinds.split(",") if k])
        me = [__file__, "--threads", str(args.threads), "--gguf"]
        commands = {f"llama.cpp {kind}": [sys.executable, *me, path, "--worker", "llama"] for kind, path in files.items()}
        if args.ik:
            for kind, path in files.items():
                commands[f"ik_llama.cpp {kind}"] = [args.ik, *me, path, "--worker", "ik"]
        if args.oracle:
            commands["transformers bf16"] = [args.oracle, *me, args.gguf, "--worker", "bfloat16"]
        workers = {name: subprocess.Popen(c, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                          stderr=subprocess.DEVNULL) for name, c in commands.items()}
        found = {}

        def note(name, seconds):
            for what, times in seconds.items():
                found.setdefault(what, {}).setdefault(name, []).extend(times)

        for round_ in range(args.rounds + 1):
            for name, worker in workers.items():
                worker.stdin.write("go\n")
                worker.stdin.flush()
                seconds = json.loads(worker.stdout.readline())
                if round_ > 0:  # the first warms up
                    note(name, seconds)
            if args.cftrun:
                for dtype in ("bf16", "f32"):
                    note(f"cft {dtype}", cft_round(args.cftrun, args.gguf, dtype, args.threads))
        for worker in workers.values():
            worker.stdin.close()
        print("| what | engine | best tok/s | median tok/s |\n|---|---|---|---|")
        for what, engines in found.items():
            tokens = PROMPT if what == "prefill" else int(what.split()[1])
            for name, times in sorted(engines.items()):
                print(f"| {what} | {name} | {tokens / min(times):.1f} | {tokens / statistics.median(times):.1f} |")


if __name__ == "__main__":
    main()
