"""One training step in PyTorch and transformers, timed: what `cftrun bench --against pytorch` runs.

The step a user of PyTorch would write at its best: SDPA attention, AdamW fused or foreach, whichever
is faster here, eager or compiled, no padding where the samples allow it. The batch is one optimizer step:
a safetensors file with ids (n) i32, cu_seqlens (B+1) i32 and weights (n) f32, the weight of each
token as a target (tests/golden/README.md). Prints one JSON object on standard output.

    python tests/oracle/bench_pytorch.py --model FOLDER --batch FILE --dtype bf16 --threads 2
    python tests/oracle/bench_pytorch.py --model config.json --batch FILE --mode best --batching best

--model is a Hugging Face folder, or a config.json alone for random weights of that shape. `best` runs
each candidate in a process of its own, so that times and peak memory do not mix, and prints the
fastest with a list of all. tokens_per_s counts tokens of the batch, never padding.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODES = ("eager", "compile")
BATCHING = ("padded", "single")


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder or config.json")
    parser.add_argument("--batch", type=Path, required=True, help="safetensors: ids, cu_seqlens, weights")
    parser.add_argument("--dtype", choices=["f32", "bf16", "bf16-weights"], default="f32",
                        help="bf16: autocast over f32 weights; bf16-weights: weights, gradients and "
                             "moments in bf16 as well")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--mode", choices=[*MODES, "best"], default="eager")
    parser.add_argument("--batching", choices=[*BATCHING, "best"], default="padded",
                        help="padded: rows of similar length, right-padded to the longest of them; "
                             "single: one sample at a time")
    parser.add_argument("--rows", type=int, default=0, help="rows of a padded micro-batch; 0: all at once")
    parser.add_argument("--head", choices=["all", "learned"], default="all",
                        help="learned: logits only where a target has weight")
    parser.add_argument("--optimizer", choices=["fused", "foreach", "best"], default="best")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--clip", type=float, default=1.0, help="largest gradient norm; 0: no clipping")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--seed", type=int, default=17, help="of random weights")
    return parser.parse_args(argv)


def best_of(args):
    """The candidates one after another, each in its own process; the fastest wins."""
    modes = MODES if args.mode == "best" else (args.mode,)
    batchings = BATCHING if args.batching == "best" else (args.batching,)
    runs = []
    for mode in modes:
        for batching in batchings:
            # Later arguments win.
            command = [sys.executable, __file__, *sys.argv[1:], "--mode", mode, "--batching", batching]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode != 0:
                print(f"{mode}, {batching}: failed with {done.returncode}", file=sys.stderr)
                continue
            runs.append(json.loads(done.stdout))
    if not runs:
        raise SystemExit("no candidate ran")
    winner = max(runs, key=lambda r: r["tokens_per_s"])
    return {**winner, "candidates": [{k: r[k] for k in ("mode", "batching", "tokens_per_s", "peak_rss_bytes")}
                                     for r in runs]}


def load_model(args, torch):
    from transformers import AutoConfig, AutoModelForCausalLM
    dtype = torch.bfloat16 if args.dtype == "bf16-weights" else torch.float32
    if args.model.is_dir() and any(args.model.glob("*.safetensors")):
        model = AutoModelForCausalLM.from_pretrained(args.model, attn_implementation="sdpa", dtype=dtype)
    else:
        torch.manual_seed(args.seed)
        config = AutoConfig.from_pretrained(args.model)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype)
    model.config.use_cache = False
    return model.to(args.device).train()


def micro_batches(args, torch):
    """[(ids (B, T), targets (B, T), weights (B, T))]: the target at t is token t + 1."""
    from safetensors.torch import load_file
    packed = load_file(args.batch)
    ids, weights, cu = packed["ids"].long(), packed["weights"].float(), packed["cu_seqlens"].tolist()
    samples = [(ids[a:b], weights[a:b]) for a, b in zip(cu, cu[1:]) if b - a > 1]
    samples.sort(key=lambda s: len(s[0]))
    rows = 1 if args.batching == "single" else args.rows or len(samples)
    made = []
    for at in range(0, len(samples), rows):
        group = samples[at:at + rows]
        longest = len(group[-1][0])
        x = torch.zeros(len(group), longest, dtype=torch.long)
        target, weight = torch.zeros_like(x), torch.zeros(len(group), longest)
        for row, (i, w) in enumerate(group):
            n = len(i)
            # Causal attention never looks to the right, so padding there needs no mask.
            x[row, :n], target[row, :n - 1], weight[row, :n - 1] = i, i[1:], w[1:]
        made.append(tuple(t.to(args.device) for t in (x, target, weight)))
    return made, len(ids), sum(x.numel() for x, _, _ in made)


def make_loss(args, model, torch):
    import torch.nn.functional as F

    def everywhere(ids, target, weight):
        logits = model(input_ids=ids).logits
        nll = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none")
        return (nll * weight.flatten()).sum()

    def where_learned(ids, target, weight):
        hidden = model.model(input_ids=ids).last_hidden_state
        rows = weight.flatten().nonzero().squeeze(-1)
        logits = model.lm_head(hidden.flatten(0, 1)[rows])
        nll = F.cross_entropy(logits.float(), target.flatten()[rows], reduction="none")
        return (nll * weight.flatten()[rows]).sum()

    loss = everywhere if args.head == "all" else where_learned
    if args.mode == "compile":
        loss = torch.compile(loss, dynamic=args.batching == "single")
    return loss


def pick_optimizer(args, model, torch):
    """Fused or foreach, by the time of one step of a part too small to count in the peak."""
    def build(kind):
        return torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.0, **{kind: True})

    if args.optimizer != "best":
        return args.optimizer, build(args.optimizer)
    times, part, size = {}, [], 0
    for p in model.parameters():
        if size + p.numel() < 3e7 or not part:
            part.append(p)
            size += p.numel()
    for kind in ("fused", "foreach"):
        trial = torch.optim.AdamW([torch.nn.Parameter(torch.ones_like(p)) for p in part], lr=args.lr,
                                  **{kind: True})
        for p in trial.param_groups[0]["params"]:
            p.grad = torch.ones_like(p)
        trial.step()  # makes the moments
        start = time.perf_counter()
        trial.step()
        if args.device != "cpu":
            torch.cuda.synchronize()
        times[kind] = time.perf_counter() - start
    kind = min(times, key=times.get)
    return kind, build(kind)


def peak_rss():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu_name():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def bench(args):
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    rss_import = peak_rss()

    batches, tokens, computed = micro_batches(args, torch)
    weight_sum = sum(w.sum().item() for _, _, w in batches)
    if weight_sum <= 0:
        raise SystemExit(f"{args.batch}: no token has weight")
    model = load_model(args, torch)
    kind, opt = pick_optimizer(args, model, torch)
    loss_of = make_loss(args, model, torch)
    cast = (torch.autocast(args.device, torch.bfloat16) if args.dtype == "bf16"
            else contextlib.nullcontext())

    def step():
        total = 0.0
        for batch in batches:
            with cast:
                loss = loss_of(*batch) / weight_sum
            loss.backward()
            total += loss.item()
        if args.clip > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if args.device != "cpu":
            torch.cuda.synchronize()
        return total

    losses, seconds = [], []
    for i in range(args.warmup + args.steps):
        start = time.perf_counter()
        losses.append(step())
        if i >= args.warmup:
            seconds.append(time.perf_counter() - start)
    return {
        "tokens_per_s": tokens / statistics.median(seconds),
        "seconds": seconds, "losses": losses, "tokens": tokens, "tokens_computed": computed,
        "weight_sum": weight_sum, "micro_batches": len(batches),
        "peak_rss_bytes": peak_rss(), "import_rss_bytes": rss_import,
        "peak_device_bytes": torch.cuda.max_memory_allocated() if args.device != "cpu" else None,
        "device": torch.cuda.get_device_name() if args.device != "cpu" else cpu_name(),
        "dtype": args.dtype, "threads": torch.get_num_threads(), "mode": args.mode,
        "batching": args.batching, "head": args.head, "optimizer": kind,
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__, "transformers": transformers.__version__,
    }


def main():
    args = parse()
    print(json.dumps(best_of(args) if "best" in (args.mode, args.batching) else bench(args)))


if __name__ == "__main__":
    main()
