"""Inputs drawn at random, and what transformers, tokenizers and datasets make of them.

    python tests/oracle/differential.py SEED N OUT [--t4 PYTHON]

writes N cases as lines of JSON: records and their masks, config.json, tokenizers with what stands beside them,
folders of data files. tests/differential.lua gives each to cft and says whether it is equal, refused, counted
in the report, or WRONG; differential.sh does both. tests/golden/differential.jsonl.zst has one seed's cases.
Nothing is fetched. PYTHON is that of the environment with transformers 4, for what it makes of a config.json.
"""

import argparse
import json
import os
import random
import sys
from importlib import import_module, metadata
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TRANSFORMERS_VERBOSITY="critical",
    OMP_NUM_THREADS="1",
)
sys.path.insert(0, str(Path(__file__).resolve().parent))

SHARES = {"records": 40, "configs": 25, "tokenizers": 25, "folders": 10}  # in percent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("n", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--t4", help="Python of the environment with transformers 4")
    parser.add_argument("--only", choices=SHARES, help="one part alone")
    args = parser.parse_args()

    from golden import provenance

    lines = [
        {
            "part": "head",
            "provenance": provenance(
                __file__, seed=args.seed, n=args.n, datasets=metadata.version("datasets"), transformers_4=bool(args.t4)
            ),
        }
    ]
    for name in SHARES:
        if args.only in (None, name):
            part = import_module(f"differential.{name}")
            # A generator a part: what one draws does not depend on the others.
            rng = random.Random(f"{args.seed} {name}")
            lines += part.cases(rng, args.n * SHARES[name] // 100, args)
    args.out.write_text("".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines))
    print(f"{args.out}: {sum('kind' in line for line in lines)} cases, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
