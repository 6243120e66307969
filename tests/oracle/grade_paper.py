"""Verdicts of the evaluations that `paper` and `qwen` follow, by their own code.

    git clone https://github.com/TIGER-AI-Lab/CritiqueFineTuning; git clone https://github.com/QwenLM/Qwen2.5-Math
    python -m venv venv && venv/bin/pip install sympy==1.12 antlr4-python3-runtime==4.11.1 word2number==1.1 regex
    venv/bin/python tests/oracle/grade_paper.py CritiqueFineTuning/tools/evaluate_math Qwen2.5-Math/evaluation

writes tests/golden/grade/paper.jsonl: a line of the versions, then a pair a line. The pairs are made here, by a
generator with a fixed seed; none is taken from a data set or from that code. A pair is either a whole response with a
reference (extraction, clean-up, comparison) or two texts that are only compared. With --pairs FILE the responses and
references of a JSONL file are graded and written to --out, which is no golden file.

`decided` says who decided in their code: "rules" where strings and numbers did, "algebra" where the verdict is sympy's.
"""

import argparse
import importlib
import json
import os
import random
import signal
import sys
import types

SECONDS = 3  # of one pair, as in their evaluation


class TooLong(BaseException):  # their code catches every Exception
    pass


def ring(*_):
    raise TooLong


class Evaluation:
    """One of the two: their modules `parser` and `grader`, loaded from a folder."""

    def __init__(self, folder):
        utils = types.ModuleType("utils")  # theirs wants packages that grading does not
        utils.Iterable = object
        for name in [n for n in sys.modules if n.split(".")[0] in ("parser", "grader", "latex2sympy2", "gen")]:
            del sys.modules[name]
        sys.modules["utils"] = utils
        sys.path[:0] = [folder, os.path.join(folder, "latex2sympy")]
        self.parser = importlib.import_module("parser")
        self.grader = importlib.import_module("grader")
        del sys.path[:2]
        self.algebra = self.grader.symbolic_equal

    def timed(self, call, *args):
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        out, sys.stdout = sys.stdout, open(os.devnull, "w")
        try:
            return call(*args)
        except TooLong:
            return "timeout"
        except Exception as e:  # their program would end here
            return "raises " + type(e).__name__
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout.close()
            sys.stdout = out

    def equal(self, answer, reference):
        asked = []
        self.grader.symbolic_equal = lambda a, b: bool(asked.append(1))
        verdict = self.timed(self.grader.math_equal, answer, reference)
        self.grader.symbolic_equal = self.algebra
        if verdict is True or not asked:
            return verdict, "rules"
        return self.timed(self.grader.math_equal, answer, reference), "algebra"

    def clean(self, text, times, keep_units):
        for _ in range(times):
            text = self.parser.strip_string(text, skip_unit=keep_units)
        return text

    def response(self, response, reference, strips, keep_units):
        name = "minerva_math" if keep_units else "gsm8k"
        reference = self.clean(reference, strips, keep_units)
        answer = self.timed(self.parser.extract_answer, response, name)
        answer = self.timed(self.clean, answer, 1, keep_units)
        letters = ["A", "B", "C", "D", "E"]
        if reference in letters and answer not in letters:
            answer = self.parser.choice_answer_clean(response)
        elif set(reference) <= set(letters) and not set(answer) <= set(letters):
            answer = "".join(c for c in answer if c in letters)
        return (answer,) + self.equal(answer, reference)


# ---- pairs of our own -----------------------------------------------------------------------------------


def number(r):
    n = r.choice([r.randint(0, 12), r.randint(0, 999), r.randint(1000, 2000000)])
    sign = r.choice(["", "", "", "-"])
    kind = r.randrange(8)
    if kind == 0:
        return sign + f"{n:,}"
    if kind == 1:
        return sign + f"{n}.{r.choice(['0', '00', '5', '50', '25', '125', '04', '06'])}"
    if kind == 2:
        return sign + f"\\frac{{{n}}}{{{r.randint(1, 30)}}}"
    if kind == 3:
        return sign + f"{r.randint(1, 20)}/{r.randint(1, 30)}"
    if kind == 4:
        return f"{r.choice(['', '0'])}.{r.randint(1, 99)}"
    return sign + str(n)


WORDS = ["twenty one", "east", "west", "five hundred", "Anna", "point", "two point five", "infinity", "yes", "True",
         "no solution", "one million two", "even", "prime", "noon", "and", "half past three", "one hundred", "zero"]
UNITS = [" hours", " cm", " m", " dollars", " apples", "\\text{ cm}", "\\mbox{ inches}^2", "^\\circ", "^{\\circ}", "\\%",
         "%", " km/h", " minutes per day", " sq . m", " mph", " c", "\\text{ square units}", " rs .", " a . m", " pm"]


def wrapped(r, s):
    return r.choice(["({})", "[{}]", "{{{}}}", "\\left({}\\right)", "\\text{{{}}}", "\\mathbf{{{}}}", " {} ", "{}.", "x={}",
                     "y = {}", "k={}", "abc={}", "x \\in {}", "\\${}", "${}$", "\\({}\\)", "{}\\!", "\\boxed{{{}}}", "{},",
                     "\\mbox{{{}}}", "({}]", "\\{{{}\\}}", "{}\\text{{ units}}", "+{}", "{}j"]).format(s)


def thing(r, depth=0):
    kind = r.randrange(15)
    if kind < 4 or depth > 2:
        return number(r)
    if kind == 4:
        return r.choice(WORDS)
    if kind == 5:
        return number(r) + r.choice(UNITS)
    if kind == 6:
        return r.choice(["(", "["]) + ", ".join(number(r) for _ in range(r.randint(2, 3))) + r.choice([")", "]"])
    if kind == 7:
        return r.choice([", ", ","]).join(number(r) for _ in range(r.randint(2, 3)))
    if kind == 8:
        m = "\\\\".join("&".join(number(r) for _ in range(2)) for _ in range(r.randint(1, 2)))
        e = r.choice(["pmatrix", "bmatrix", "matrix"])
        return f"\\begin{{{e}}}{m}\\end{{{e}}}"
    if kind == 9:
        x = r.choice(["x", "y", "n", "j", "c", "a"])
        return r.choice([f"{x}+{r.randint(1, 9)}", f"{r.randint(2, 9)}{x}", f"\\sqrt{r.randint(2, 99)}", f"\\frac{r.randint(1, 9)}{r.randint(2, 9)}",
                         f"\\frac{x}2", f"{x}^2-{r.randint(1, 5)}", f"\\sqrt{{{r.randint(2, 50)}}}{x}", "\\pi", "\\infty", "(-\\infty,\\infty)",
                         "\\emptyset", "\\tfrac{1}{2}", f"\\dfrac{r.randint(1, 9)}{{{r.randint(2, 20)}}}"])
    if kind == 10:
        m, e = r.choice([r.randint(1, 9), round(r.uniform(1, 9), 2)]), r.randint(-9, 9)
        return r.choice(["{}\\times10^{{{}}}", "{} \\times 10^{{{}}}", "{}\\cdot10^{{{}}}", "{}e{}", "{}\\times10^{}"]).format(m, e)
    if kind == 11:
        return r.choice("ABCDEFabcde") + r.choice(["", ".", ")", ": " + number(r)])
    if kind == 12:
        return r.choice(["10^{{{}}}", "2^{{{}}}", "{}\\%", "{}_8", "1_0{}"]).format(r.randint(1, 9))
    return wrapped(r, thing(r, depth + 1))


def near(r, s):
    kind = r.randrange(10)
    if kind < 3:
        return s
    if kind == 3:
        return s + r.choice(UNITS)
    if kind == 4:
        return wrapped(r, s)
    if kind == 5:
        return s.replace("frac", "dfrac").replace(" ", "")
    if kind == 6:
        try:
            v = float(s.replace(",", ""))
            return r.choice([f"{v + 0.04:.2f}", f"{v * 100:g}", f"{v / 100:g}", f"{v * 1.00005:.4f}", f"{v + 0.06:.2f}", f"{v:.1f}", f"{v:,}"])
        except ValueError:
            return s.lower()
    if kind == 7:
        return s.replace("(", "[").replace(")", "]")
    if kind == 8:
        return s.replace("1", "2", 1)
    return thing(r)


def response(r, answer):
    n = number(r)
    return r.choice([
        "Each costs {n}. So the answer is {a}.", "We get {n} + {n}.\n\nThe answer is: {a}", "Therefore $\\boxed{{{a}}}$.", "\\boxed{{{a}}}",
        "First {n}, then {a}", "It is \\boxed{{{n}}}. No: \\boxed{{{a}}}", "Final Answer: The final answer is ${a}$. I hope it is correct.",
        "She has {a} left, \\boxed{{{a}", "Thus $\\boxed {a}$ is it.", "#### {a}", "The total is {n} * 2 = {a} in all.", "答案是 {a}\n\n{n}",
        "the final answer is {a}/", "\\[ \\boxed{{\\text{{{a}}}}} \\]", "Step 1: {n}.\nStep 2: the answer is\n {a}\n.", "So \\boxed{{}}", "",
        "The choice is ({a}).", "{a}", "boxed", "He says the answer is {n}. The answer is {a}"]).format(a=answer, n=n)


def own_pairs():
    r = random.Random(21)
    for _ in range(1100):
        a = thing(r)
        yield {"answer": a, "reference": near(r, a)}
    for _ in range(900):
        a = thing(r)
        ref = near(r, a)
        yield {"response": response(r, a), "reference": ref, "strips": r.randint(0, 3), "keep_units": r.random() < 0.15}


# ---- the run ----------------------------------------------------------------------------------------------


def graded(evaluation, pair):
    if "response" in pair:
        answer, verdict, decided = evaluation.response(pair["response"], pair["reference"], pair.get("strips", 2),
                                                       pair.get("keep_units", False))
        return {"answer": answer, "verdict": verdict, "decided": decided}
    verdict, decided = evaluation.equal(pair["answer"], pair["reference"])
    return {"verdict": verdict, "decided": decided}


def main():
    args = argparse.ArgumentParser()
    args.add_argument("paper")
    args.add_argument("qwen")
    args.add_argument("--pairs")
    args.add_argument("--out", default="tests/golden/grade/paper.jsonl")
    args = args.parse_args()
    pairs = list(own_pairs()) if not args.pairs else [json.loads(line) for line in open(args.pairs)]
    for name in ("paper", "qwen"):
        evaluation = Evaluation(os.path.abspath(getattr(args, name)))
        for pair in pairs:
            pair[name] = graded(evaluation, pair)
    import sympy
    with open(args.out, "w") as out:
        made = {"made_by": "tests/oracle/grade_paper.py", "python": sys.version.split()[0], "sympy": sympy.__version__}
        out.write(json.dumps(made) + "\n")
        for pair in pairs:
            out.write(json.dumps(pair, ensure_ascii=False) + "\n")


main()
