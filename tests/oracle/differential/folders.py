"""Folders of data files as data sets of the Hub have them, some with a card. What the reference makes of one: the
files of each split, of each configuration."""

import re
import tempfile
from pathlib import Path

import yaml

WORDS = [
    "train",
    "test",
    "validation",
    "valid",
    "val",
    "dev",
    "eval",
    "training",
    "testing",
    "evaluation",
    "notes",
    "extra",
    "raw",
    "part1",
    "a",
    "b",
    "pretrain",
    "latest",
    "train_full",
    "mytest",
    "contrast",
    "trained",
    "TRAIN",
    "Test",
    "train2",
    "my-train",
    "train.v2",
    "data",
    "validate",
    "held-out",
]
ENDS = [".jsonl", ".jsonl", ".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".txt", ".md", ".py"]


def shards(base, ext, count):
    return [f"{base}-{k:05d}-of-{count:05d}{ext}" for k in range(count)]


def draw_files(rng):
    form = rng.choice(
        ["names", "names", "names", "folders", "folders", "shards", "data folder", "plain", "nested", "mixed ends"]
    )
    ext = rng.choice(ENDS[:4])
    some = rng.sample(WORDS, rng.randint(1, 4))
    if form in ("names", "plain"):
        files = [w + ext for w in (some if form == "names" else rng.sample(["a", "b", "notes", "part1"], 2))]
    elif form == "folders":
        files = [f"{w}/{f}{ext}" for w in some for f in rng.sample(["x", "y", "train", "part1"], rng.randint(1, 2))]
    elif form == "shards":
        files = [f for w in some for f in shards(rng.choice(["", "data/"]) + w, ".parquet", rng.randint(1, 3))]
    elif form == "data folder":
        files = [f"data/{w}{ext}" for w in some] + (["extra/more" + ext] if rng.random() < 0.5 else [])
    elif form == "nested":
        files = [f"{rng.choice(['en', 'main', 'v1/data'])}/{w}{ext}" for w in some]
    else:
        files = [w + rng.choice(ENDS) for w in some]
    if rng.random() < 0.25:
        files.append(
            rng.choice(
                [
                    "config.json",
                    "dataset_info.json",
                    "dataset_infos.json",
                    "sub/config.json",
                    ".hidden.jsonl",
                    "_x/train.jsonl",
                    "__pycache__/train.jsonl",
                    "metadata.jsonl",
                    "LICENSE",
                ]
            )
        )
    return form, sorted(set(files))


def draw_card(rng, files):
    """The header of README.md, in one of the ways that people write YAML; None for none."""
    form = rng.choice(["none", "none", "no configs", "one", "one", "paths", "several", "data_dir", "glob"])
    if form == "none":
        return form, None
    head = {"license": "mit"}
    some = rng.sample(files, min(len(files), rng.randint(1, 3)))
    name = rng.choice(["default", "main"])
    if form == "one":
        head["configs"] = [
            {
                "config_name": name,
                "data_files": [
                    {"split": s, "path": rng.choice([f, [f]])} for s, f in zip(["train", "test", "dev_x"], some)
                ],
            }
        ]
    elif form == "paths":
        head["configs"] = [{"config_name": name, "data_files": rng.choice([some[0], some])}]
    elif form == "several":
        head["configs"] = [
            {"config_name": c, "data_files": [{"split": "train", "path": f}]}
            for c, f in zip(["main", "other", "third"], some)
        ]
        if rng.random() < 0.5:
            rng.choice(head["configs"])["default"] = True
    elif form == "data_dir":
        folder = rng.choice(files).rpartition("/")[0]
        head["configs"] = [{"config_name": name, "data_dir": folder or "."}]
    elif form == "glob":
        pattern = rng.choice(["*", "**", "data/*", "*train*", "**/*.jsonl", "train*"]) + rng.choice(
            ["", "", ".jsonl", ".parquet"]
        )
        head["configs"] = [{"config_name": name, "data_files": [{"split": "train", "path": pattern}]}]
    style = rng.choice([False, False, None, True])
    text = yaml.dump(head, default_flow_style=style, sort_keys=rng.random() < 0.3, indent=rng.choice([2, 4]))
    if rng.random() < 0.2:
        text = text.replace("configs:", "configs:  # which files", 1)
    if rng.random() < 0.2:
        text = text.replace("split: train", rng.choice(['split: "train"', "split: 'train'"]))
    breaks = rng.choice(["\n", "\n", "\n", "\r\n"])
    return form, f"---\n{text}---\n# A set\n".replace("\n", breaks)


def split_files(folder, config=None):
    """Split → its files; or why there are none."""
    from datasets import load_dataset_builder

    try:
        with tempfile.TemporaryDirectory() as cache:
            builder = load_dataset_builder(folder, config, cache_dir=cache)
            found = builder.config.data_files or {}
    except Exception as error:
        text = f"{type(error).__name__}: {error}".split("\n")[0].replace(folder, "FOLDER")
        return {"error": re.sub(r"\{.*\}", "{...}", text)[:200]}  # sets are in no order
    return {
        str(split): sorted(str(Path(f).relative_to(folder)) for f in map(str, files)) for split, files in found.items()
    }


def cases(rng, n, _):
    from datasets.utils.logging import set_verbosity_error

    set_verbosity_error()
    for _ in range(n):
        form, files = draw_files(rng)
        card, readme = draw_card(rng, files)
        with tempfile.TemporaryDirectory() as folder:
            folder = str(Path(folder).resolve())
            for name in files:
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text('{"instruction":"q","output":"a"}\n')
            if readme is not None:
                Path(folder, "README.md").write_bytes(readme.encode())
            asked = {"": split_files(folder)}
            for name in ("main", "other"):
                if readme and f"config_name: {name}" in readme:
                    asked[name] = split_files(folder, name)
        usual = (
            card == "none"
            and form in ("names", "shards", "folders", "data folder")
            and len(asked[""].get("train", ())) > 0
            and all(f.rpartition(".")[2] in ("jsonl", "json", "parquet", "csv") for f in files)
        )
        yield {
            "part": "folder",
            "kind": f"{form}, card: {card}",
            "files": files,
            "card": readme,
            "expect": asked,
            "usual": usual,
        }
