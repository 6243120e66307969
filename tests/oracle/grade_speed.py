"""Gradings a second of cft.grade's modes and of Math-Verify, the same answers, one core, one run.

    python -m venv DIR && DIR/bin/pip install math-verify==0.9.0 antlr4-python3-runtime==4.13.2
    DIR/bin/python tests/oracle/grade_speed.py build/release/cftrun DATA [N]

DATA has process-bench/math.json and bench/math/test.jsonl; the answers are ProcessBench's 1,000 MATH solutions, whole responses against
their references. The rounds take turns: each mode, then Math-Verify, three times; the table has the best round of each.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

MODES = ("symbolic", "strict", "paper", "qwen")
SCRIPT = """
local grade, json, host = require "cft.grade", require "cft.base.json", require "cft.host"
local rows, grader = {}, grade.new { mode = arg[2] }
for line in io.lines(arg[1]) do rows[#rows + 1] = json.decode(line) end
local function round() for _, r in ipairs(rows) do grader:response(r.response, r.reference) end end
round()
local began, n = host.now(), 0
repeat round() n = n + #rows until host.now() - began > 0.5
print(n / (host.now() - began))
"""


def answers(data, count):
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from grade_pairs import references

    refs = references(f"{data}/bench/math/test.jsonl")
    rows = []
    for record in json.load(open(f"{data}/process-bench/math.json", encoding="utf-8")):
        reference = refs.get(record["problem"].strip())
        if reference:
            rows.append({"response": "\n\n".join(record["steps"]), "reference": reference})
    return rows[:count]


def math_verify(rows):
    from math_verify import parse, verify

    began = time.perf_counter()
    for r in rows:
        verify(parse("$" + r["reference"] + "$"), parse(r["response"]))
    return len(rows) / (time.perf_counter() - began)


def main(cftrun, data, count="1000"):
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})  # one core for all of them
    rows, best = answers(data, int(count)), {}
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/rows.jsonl", "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        with open(f"{folder}/speed.lua", "w", encoding="utf-8") as f:
            f.write(SCRIPT)
        for _ in range(3):
            for mode in MODES:
                rate = float(subprocess.run([cftrun, f"{folder}/speed.lua", f"{folder}/rows.jsonl", mode], check=True,
                                            capture_output=True, text=True).stdout.split()[-1])
                best[mode] = max(best.get(mode, 0), rate)
            best["Math-Verify"] = max(best.get("Math-Verify", 0), math_verify(rows))
    for name, rate in best.items():
        print(f"{name:12} {rate:10,.0f} a second, {rate / best['Math-Verify']:8,.1f} times Math-Verify's; {len(rows)} answers")


main(*sys.argv[1:])
