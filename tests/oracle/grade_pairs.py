"""Real pairs for tests/oracle/grade_paper.py --pairs: answers that models gave, each against its own reference and against others
that look like it.

    python tests/oracle/grade_pairs.py DATA PAIRS.jsonl

DATA has process-bench/math.json and olympiadbench.json, bench/math/test.jsonl and bench/olympiadbench/test.jsonl, and mr-ben/math.json.
Answers are the last boxes of ProcessBench's solutions, references those of its problems; of other references the 4 with the largest
share of common characters (difflib) are taken, so that most pairs are close ones that differ. An answer stands in a box, so that both
programs clean it up. A solution of MR-Ben is graded whole, against the letter of its question. Nothing is drawn. Of the pairs only
those on which the verdicts differ are committed (tests/grade/differences.lua).
"""

import difflib
import json
import sys


def last_box(text):
    at = text.rfind("\\boxed{")
    if at < 0:
        return None
    depth, i = 1, at + 7
    while i < len(text) and depth:
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        i += 1
    return text[at + 7 : i - 1] if not depth else None


def references(path):
    out = {}
    for line in open(path, encoding="utf-8"):
        d = json.loads(line)
        box = d.get("solution") and last_box(d["solution"] if isinstance(d["solution"], str) else d["solution"][-1])
        answer = d.get("answer") or d.get("final_answer") or box
        answer = answer[0] if isinstance(answer, list) else answer
        question = d.get("problem") or d.get("question")
        if question and answer:
            out[question.strip()] = str(answer).strip("$")
    return out


def main(data, out):
    seen, rows = set(), []
    for part, bench in (("math", "math"), ("olympiadbench", "olympiadbench")):
        refs = references(f"{data}/bench/{bench}/test.jsonl")
        known = sorted(set(refs.values()))
        for record in json.load(open(f"{data}/process-bench/{part}.json", encoding="utf-8")):
            answer = last_box(record["steps"][-1])
            if not answer or len(answer) > 120:
                continue
            own = refs.get(record["problem"].strip())
            close = difflib.get_close_matches(answer, known, n=4, cutoff=0.5)
            for reference in ([own] if own else []) + close:
                if (answer, reference) not in seen:
                    seen.add((answer, reference))
                    rows.append({"response": f"It is $\\boxed{{{answer}}}$.", "reference": reference,
                                 "strips": 1 if part == "math" else 2, "keep_units": False})
    for solutions in json.load(open(f"{data}/mr-ben/math.json", encoding="utf-8")).values():
        for s in solutions:
            rows.append({"response": "\n".join(s["Model_Solution_Steps"]), "reference": s["Ground_Truth_Answer"],
                         "strips": 2, "keep_units": False})
    with open(out, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(len(rows), "pairs")


if __name__ == "__main__":
    main(*sys.argv[1:])
