"""Golden ids and masks of LLaMA-Factory's template `qwen`, by running LLaMA-Factory's own code.

It goes the whole way its trainer goes: arguments, dataset files, tokenizer, template, truncation.
Nothing of it is rewritten here. Made in the environment DIR-lf of setup.sh, from a checkout of
LLaMA-Factory (Apache-2.0) at a commit, and Qwen2.5's tokenizer files:

    DIR-lf/bin/python tests/oracle/llamafactory.py cases   --source CHECKOUT --commit 552816e04
    DIR-lf/bin/python tests/oracle/llamafactory.py records --source CHECKOUT --commit 552816e04

`cases` writes tests/golden/llamafactory/qwen-COMMIT.json: small records with their ids.
`records` writes records-COMMIT.json: 500 records made from real data, as hashes and counts.
The data are found at $CFT_SHARED_DATA (default ../shared/data). tests/golden/README.md has the
conventions.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import xxhash

from golden import GOLDEN, provenance, save_json

DATA = Path(os.environ.get("CFT_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
CRITIQUE = "Please critique whether the following solution to the question is correct."
SHOWN = 260  # ids of longer samples are given as a hash only
IGNORE = -100


def alpaca(instruction, input, output, system=""):
    return {"instruction": instruction, "input": input, "output": output, "system": system}


def chat(*contents, system=None):
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}] if system is not None else []
    return {"messages": messages + [{"role": roles[i % 2], "content": c}
                                    for i, c in enumerate(contents)]}


def sentences(n, word):
    return " ".join(f"{word} {i} is {i * i}." for i in range(n))


def small_cases():
    """(name, cutoff, record)"""
    golden = alpaca(CRITIQUE, "Question:\nWhat is 2+3?\n\nSolution:\n2+3=6",
                    "Critique:\nThe sum is 5, not 6.\n\nConclusion: wrong [END]")
    source, target = sentences(12, "Square"), sentences(12, "Number")  # some 100 tokens each
    special = "a <|im_end|>\n<|im_start|>user\nb <|endoftext|> c <tool_call> <|fim_prefix|> <|im_ end|>"
    turns = ("What is 2+3?", "5", "And 5+3?", "8", "Is that all?", "Yes.\n")
    yield "golden sample of the paper's run", 2048, golden
    yield "empty input", 2048, alpaca("Add 2 and 3.", "", "5")
    yield "empty instruction", 2048, alpaca("", "Add 2 and 3.", "5")
    yield "empty output", 2048, alpaca("Say nothing.", "", "")
    yield "own system text", 2048, alpaca("Add 2 and 3.", "", "5", system="You add.")
    yield "white space at every edge", 2048, alpaca("  Add:\n\n", "\n\n 2 and 3 ", "\n\n 5 \n\n")
    yield "working repository's instruction", 2048, alpaca(CRITIQUE + "\n\n", golden["input"] + "\n",
                                                           golden["output"])
    yield "special tokens in the data", 2048, alpaca(special, special, special)
    yield "slot names in the data", 2048, alpaca("{{content}} {{idx}}", "{{idx}}", "{{content}}")
    yield "scripts and composition", 2048, alpaca("Caf\u0065\u0301 \u212b \uac00 \u1100\u1161",
                                                  "三加五等于八 👨\u200d👩\u200d👧 १२३",
                                                  "naïve nai\u0308ve ＡＢ \u00a0 x\u200by")
    yield "messages, one turn", 2048, chat("What is 2+3?", "5")
    yield "messages, three turns", 2048, chat(*turns)
    yield "messages, system and two turns", 2048, chat(*turns[:4], system="You add.")
    yield "messages, empty system", 2048, chat(*turns[:2], system="")
    for cutoff in (64, 200):
        yield f"short target, source cut to {cutoff}", cutoff, alpaca(source, source, "Right.")
        yield f"short source, target cut to {cutoff}", cutoff, alpaca("Go on.", "", target * 2)
        yield f"both cut to {cutoff}", cutoff, alpaca(source, "", target)
        yield f"later turns lose what is left of {cutoff}", cutoff, chat(
            "What is 2+3?", "5", sentences(5, "Square"), "8", sentences(20, "Cube"), target, "more?", "no")
    for cutoff in (1, 2, 47, 48, 66, 67):
        yield f"golden sample, cutoff {cutoff}", cutoff, golden
    yield "short target, source cut to 2048", 2048, alpaca(sentences(250, "Square"), "", "Right.")
    yield "short source, target cut to 2048", 2048, alpaca("Go on.", "", sentences(250, "Number"))
    yield "both cut to 2048", 2048, alpaca(sentences(200, "Square"), "", sentences(150, "Number"))


def real_records():
    """(source, index, repeat_input, repeat_output, record): 500 records in the paper's two schemas."""
    one_shot = DATA / "one-shot-cft"
    rows = (one_shot / "DSR-CFT-p0.jsonl").read_text(encoding="utf-8").splitlines()
    for i, row in enumerate(rows[:200]):  # {messages} -> {instruction, input, output}
        user, assistant = (m["content"] for m in json.loads(row)["messages"])
        instruction, input = user.split("\n\n", 1)
        yield "one-shot-cft/DSR-CFT-p0.jsonl", i, 1, 1, alpaca(instruction, input, assistant)
    rows = (one_shot / "DSR-CFT-p1.jsonl").read_text(encoding="utf-8").splitlines()
    for i, row in enumerate(rows[:200]):  # {messages}, as they are
        yield "one-shot-cft/DSR-CFT-p1.jsonl", i, 1, 1, json.loads(row)
    rows = (DATA / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    for i, row in enumerate(rows[:100]):  # short ones, some made too long on one side or both
        row = json.loads(row)
        answer = row["6b_finetuning"]
        verdict = "right" if answer["is_correct"] else "wrong"
        repeat_input = 40 if i % 10 in (7, 9) else 1
        repeat_output = 40 if i % 10 in (8, 9) else 1
        yield "gsm8k/example_model_solutions.jsonl", i, repeat_input, repeat_output, alpaca(
            CRITIQUE, f"Question:\n{row['question']}\n\nSolution:\n{answer['solution']}" * repeat_input,
            f"Critique:\n{row['ground_truth']}\n\nConclusion: {verdict} [END]" * repeat_output)


def encode(work, args, records, cutoff, eos):
    """(ids, labels) of each record, through LLaMA-Factory's arguments, loader and template."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    model = work / "model"
    model.mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (model / name).write_bytes((args.tokenizer / name).read_bytes())
    config = json.loads((args.tokenizer / "tokenizer_config.json").read_text())
    config["eos_token"] = eos
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2"}))

    out = [None] * len(records)
    for schema in ("alpaca", "sharegpt"):
        chosen = [i for i, r in enumerate(records) if ("messages" in r) == (schema == "sharegpt")]
        if not chosen:
            continue
        data = work / "data"
        data.mkdir(exist_ok=True)
        (data / "set.json").write_text(json.dumps([records[i] for i in chosen]), encoding="utf-8")
        entry = {"file_name": "set.json", "formatting": schema}
        if schema == "alpaca":
            entry["columns"] = {"prompt": "instruction", "query": "input", "response": "output",
                                "system": "system"}
        else:
            entry["columns"] = {"messages": "messages"}
            entry["tags"] = {"role_tag": "role", "content_tag": "content", "user_tag": "user",
                             "assistant_tag": "assistant", "system_tag": "system"}
        (data / "dataset_info.json").write_text(json.dumps({"set": entry}))
        model_args, data_args, training_args, _, _ = get_train_args({
            "stage": "sft", "do_train": True, "finetuning_type": "full",
            "model_name_or_path": str(model), "dataset": "set", "dataset_dir": str(data),
            "template": "qwen", "cutoff_len": cutoff, "max_samples": 100000,
            "overwrite_cache": True, "output_dir": str(work / "out"), "report_to": "none"})
        loaded = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
        rows = get_dataset(template, model_args, data_args, training_args, stage="sft", **loaded)
        rows = rows["train_dataset"]
        if len(rows) != len(chosen):
            raise SystemExit(f"{len(chosen)} records went in, {len(rows)} came out")
        for i, row in zip(chosen, rows):
            out[i] = (row["input_ids"], row["labels"])
    return out


def learned(labels):
    """[start, stop) of each run of labels with loss."""
    spans, inside = [], False
    for i, label in enumerate([*labels, IGNORE]):
        if (label != IGNORE) != inside:
            inside = not inside
            spans.append([i, i]) if inside else spans[-1].__setitem__(1, i)
    return spans


def fingerprint(numbers, dtype):
    return xxhash.xxh3_128_hexdigest(np.asarray(numbers, dtype).tobytes())


def summary(ids, labels):
    mask = [label != IGNORE for label in labels]
    if any(m and i != label for m, i, label in zip(mask, ids, labels)):
        raise SystemExit("a label with loss differs from its id")
    return len(ids), sum(mask), fingerprint(ids, "<i4"), fingerprint(mask, "u1")


def write_cases(args, work, origin):
    every = list(small_cases())
    groups = []
    # The tokenizer of a base model, and of an Instruct one: there only the end token differs.
    for eos, cases in (("<|endoftext|>", every), ("<|im_end|>", every[:14])):
        rows = [None] * len(cases)
        for cutoff in sorted({c for _, c, _ in cases}):
            chosen = [i for i, case in enumerate(cases) if case[1] == cutoff]
            for i, row in zip(chosen, encode(work, args, [cases[i][2] for i in chosen], cutoff, eos)):
                rows[i] = row
        out = []
        for (name, cutoff, record), (ids, labels) in zip(cases, rows):
            n, count, ids_hash, mask_hash = summary(ids, labels)
            case = {"name": name, "cutoff": cutoff, "record": record, "tokens": n,
                    "learned": learned(labels), "ids_xxh3": ids_hash, "mask_xxh3": mask_hash}
            if n <= SHOWN:
                case["ids"] = ids
            out.append(case)
        groups.append({"eos": eos, "cases": out})
    save_json(GOLDEN / "llamafactory" / f"qwen-{args.commit}.json",
              {"provenance": origin, "tokenizers": groups})


def write_records(args, work, origin):
    made = list(real_records())
    records = [m[4] for m in made]
    results = {c: encode(work, args, records, c, "<|endoftext|>") for c in (2048, 512)}
    whole = encode(work, args, records, 1_000_000, "<|endoftext|>")
    rows = []
    for i, (source, index, repeat_input, repeat_output, record) in enumerate(made):
        texts = ([m["content"] for m in record["messages"]] if "messages" in record
                 else [record["instruction"], record["input"], record["output"]])
        row = [source, index, repeat_input, repeat_output,
               xxhash.xxh3_128_hexdigest("\0".join(texts).encode("utf-8")), len(whole[i][0])]
        for cutoff in (2048, 512):
            row += summary(*results[cutoff][i])
        rows.append(row)
    columns = ["file", "index", "repeat_input", "repeat_output", "text_xxh3", "tokens"]
    for cutoff in (2048, 512):
        columns += [f"{c}@{cutoff}" for c in ("tokens", "learned", "ids_xxh3", "mask_xxh3")]
    over = {str(c): sum(len(w[0]) > c for w in whole) for c in (2048, 512)}
    path = GOLDEN / "llamafactory" / f"records-{args.commit}.json"
    save_json(path, {"provenance": origin, "eos": "<|endoftext|>", "columns": columns,
                     "longer_than": over, "records": rows})
    print("records longer than the cutoff:", over)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["cases", "records"])
    parser.add_argument("--source", type=Path, required=True, help="a checkout of LLaMA-Factory")
    parser.add_argument("--commit", required=True, help="its commit, for the name and the record")
    parser.add_argument("--tokenizer", type=Path, default=DATA / "tokenizer" / "qwen2.5")
    args = parser.parse_args()
    sys.path.insert(0, str(args.source.resolve() / "src"))
    os.environ.update(HF_HUB_OFFLINE="1", DISABLE_VERSION_CHECK="1", CUDA_VISIBLE_DEVICES="")
    origin = provenance(__file__, llamafactory=args.commit, template="qwen", tokenizer="Qwen2.5")
    with tempfile.TemporaryDirectory() as work:
        os.environ["HF_DATASETS_CACHE"] = str(Path(work) / "cache")
        (write_cases if args.what == "cases" else write_records)(args, Path(work), origin)


if __name__ == "__main__":
    main()
