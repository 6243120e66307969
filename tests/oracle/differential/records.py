"""Records of the common shapes. What the reference makes of one is a list of variants: the ids and weights with all of
its fields used, and with each subset of those fields left out that can be left out. A program that gives a variant must
name the fields it lacks."""

import copy
import functools
import itertools
import json
import re

from tokenizers import Tokenizer

from . import chat
from .vocabulary import FLAGS, bytes_model, tokenizer_json

PLAIN_TOKENS = ["<tool_call>", "</tool_call>", "<think>", "</think>"]  # added, not special, as Qwen's
ADDED = [
    {"id": 256 + i, "content": t, **FLAGS, "special": t in chat.SPECIALS}
    for i, t in enumerate(chat.SPECIALS + PLAIN_TOKENS)
]
IDS = {t["content"]: t["id"] for t in ADDED}
SPLIT = re.compile("(" + "|".join(re.escape(t) for t in IDS) + ")")
# Strings of special tokens in data are text. Those of added tokens that are not special are tokens, in data as well:
# tokenizers' `encode_special_tokens` leaves them so.
SPECIAL = re.compile("(" + "|".join(re.escape(t) for t in chat.SPECIALS) + ")")
GUARD = "\ue000"  # stands in a token's string where data have it, so that it is text

WORDS = (
    "add the two sums 7 12 and check whether it holds no yes because of carry 3.5 x² naïve 和 step Conclusion: right"
).split()


class Unsayable(Exception):
    """No reference has a meaning for this."""


def text(rng, least=1, most=6):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most)))


def padded(rng):
    """A text, perhaps with white space at its ends."""
    return rng.choice(["", "", "", " ", "\n", "  "]) + text(rng) + rng.choice(["", "", "", " ", "\n\n"])


# ---- ids ------------------------------------------------------------------------------------------


@functools.cache
def letters():
    return Tokenizer.from_str(json.dumps(tokenizer_json(bytes_model(), [])))


def encode(piece):
    """Strings of tokens that the template wrote are these tokens, those of data are text."""
    ids = []
    for part in SPLIT.split(piece):
        if part in IDS:
            ids.append(IDS[part])
        elif part:
            ids += letters().encode(part.replace(GUARD, ""), add_special_tokens=False).ids
    return ids


def guarded(value):
    if isinstance(value, str):
        return SPECIAL.sub(lambda m: m[0][0] + GUARD + m[0][1:], value)
    if isinstance(value, list):
        return [guarded(v) for v in value]
    if isinstance(value, dict):
        return {k: guarded(v) for k, v in value.items()}
    return value


def spans_of(template, messages, tools, weights):
    """[[weight, ids...], ...] up to the last answer's end; neighbours of one weight are one span."""
    rendered, answers = chat.render(template, guarded(messages), guarded(tools))
    bare, _ = chat.render(template, guarded(messages), guarded(tools), chat.unmarked(chat.TEMPLATES[template]["jinja"]))
    assert bare == rendered, (template, bare, rendered)
    assert len(answers) == len(weights), (answers, weights, messages)
    pieces, at = [], 0
    for (start, stop), weight in zip(answers, weights):
        pieces += [(0, rendered[at:start]), (weight, rendered[start:stop])]
        at = stop
    spans = []
    for weight, piece in pieces:
        ids = encode(piece)
        if spans and spans[-1][0] == weight:
            spans[-1] += ids
        elif ids:
            spans.append([weight, *ids])
    return spans


# ---- what a record means --------------------------------------------------------------------------


def flat(content):
    """The text of a content that is a list of parts."""
    if not isinstance(content, list):
        return content
    if any(part.get("type") != "text" for part in content):
        raise Unsayable
    return "".join(part["text"] for part in content)


def weight_of(message):
    if message.get("weight") is not None:
        return message["weight"]
    for flag in ("train", "loss"):  # axolotl's, ms-swift's
        if message.get(flag) is not None:
            return int(message[flag])
    return 1


def of_messages(record):
    messages, weights, wanted = [], [], "user"
    for i, m in enumerate(record["messages"]):
        m = dict(m, content=flat(m.get("content")))
        weight = weight_of(m)
        keep = {
            k: m[k]
            for k in ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
            if m.get(k) not in (None, "", [])
        }
        keep.setdefault("content", "")
        if m["role"] == "assistant":
            if not keep["content"] and "tool_calls" not in keep:
                raise Unsayable
            weights.append(weight)
        elif weight != 1:
            raise Unsayable
        if m["role"] == "tool" and not any("tool_calls" in x for x in messages):
            raise Unsayable
        messages.append(keep)
    return messages, record.get("tools") or None, weights


def of_alpaca(record):
    question = "\n".join(t for t in (record.get("instruction"), record.get("input")) if t)
    messages, weights = [], []
    if record.get("system"):
        messages.append({"role": "system", "content": record["system"]})
    for q, a in record.get("history") or []:
        messages += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        weights.append(1)
    answer = record["output"] if "output" in record else record["chosen"]
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages, None, weights + [1]


def of_sharegpt(record):
    roles = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
    messages = [{"role": "system", "content": record["system"]}] if record.get("system") else []
    for turn in record["conversations"]:
        messages.append({"role": roles[turn["from"]], "content": turn["value"]})
    return messages, None, [weight_of(t) for t in record["conversations"] if roles[t["from"]] == "assistant"]


def of_prompt(record):
    prompt, answer = record["prompt"], record["completion"] if "completion" in record else record["chosen"]
    if isinstance(prompt, list):
        return prompt + answer, None, [0] * sum(m["role"] == "assistant" for m in prompt) + [1] * len(answer)
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], None, [1]


SHAPES = {"alpaca": of_alpaca, "messages": of_messages, "sharegpt": of_sharegpt, "prompt": of_prompt}


def without(record, fields):
    record = copy.deepcopy(record)
    for field in fields:
        record.pop(field, None)
        for turns in ("messages", "conversations"):
            for turn in record.get(turns) or []:
                turn.pop(field, None)
    return record


def variants_of(template, shape, record, fields, meant):
    """Fields beyond `meant` no one uses for this: there is no variant that has them."""
    variants = []
    for count in range(len(fields) + 1):
        for lacking in itertools.combinations(fields, count):
            if not set(fields) - set(meant) <= set(lacking):
                continue
            try:
                messages, tools, weights = SHAPES[shape](without(record, lacking))
                if messages[0]["role"] == "system" and not messages[0]["content"]:
                    messages = messages[1:]
                spans = spans_of(template, messages, tools, weights)
            except (Unsayable, KeyError):
                continue
            same = [v for v in variants if v["spans"] == spans]
            if not same:
                variants.append({"without": list(lacking), "spans": spans})
            elif count == len(same[0]["without"]) + 1 and set(same[0]["without"]) <= set(lacking) and len(same) == 1:
                # The template does not look at the field: it is not used, whoever has it.
                same[0]["without"] = list(lacking)
    return variants


# ---- drawing --------------------------------------------------------------------------------------


def turns(rng, count):
    messages = []
    for _ in range(count):
        messages += [{"role": "user", "content": padded(rng)}, {"role": "assistant", "content": padded(rng)}]
    return messages


def answers_in(messages):
    return [m for m in messages if m["role"] == "assistant"]


TOOL = [
    {
        "type": "function",
        "function": {
            "name": "area_of",
            "description": 'The area, "exactly".',
            "parameters": {
                "type": "object",
                "required": ["width"],
                "properties": {"width": {"type": "number"}, "height": {"type": "number"}},
            },
        },
    }
]


def with_tools(rng, messages, listed=True, named=False):
    """A call and its result before the last answer."""
    arguments = {"width": rng.randint(1, 9), "height": rng.choice([2.5, 3, "é"])}
    call = {"type": "function", "function": {"name": "area_of", "arguments": arguments}}
    if rng.random() < 0.5:
        call = {"id": "call_1", **call}
    asking = {"role": "assistant", "content": rng.choice([None, "", text(rng)]), "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": rng.choice(["12", "a × b = 6", '{"area": 6}'])}
    if named:
        result["name"] = "area_of"
    messages[-1:-1] = [asking, result]
    return ["tool_calls"] + (["tools"] if listed else []) + (["name"] if named else [])


def in_parts(rng, content):
    at = rng.randint(0, len(content))
    texts = [content] if rng.random() < 0.4 else [content[:at], content[at:]]
    return [{"type": "text", "text": t} for t in texts]


def draw_messages(rng):
    messages, record, fields, meant, kind = turns(rng, rng.choice([1, 1, 2, 2, 3])), {}, [], None, []
    if rng.random() < 0.3:
        messages.insert(0, {"role": "system", "content": text(rng)})
    record["messages"] = messages
    what = rng.choice(
        [
            "plain",
            "plain",
            "neutral",
            "weight",
            "weight",
            "train",
            "loss",
            "name",
            "tools",
            "tools",
            "tools only",
            "reasoning",
            "parts",
            "control",
            "weight and name",
            "preference",
            "image part",
            "media",
            "function_call",
        ]
    )
    if what == "neutral":
        last = answers_in(messages)[-1]
        for name, values in {
            "weight": [None, 1, 1.0],
            "name": [None, ""],
            "tool_calls": [None, []],
            "train": [None, True],
            "loss": [None, True],
            "reasoning_content": [None, ""],
            "function_call": [None],
        }.items():
            if rng.random() < 0.4:
                last[name] = rng.choice(values)
        for name, values in {"tools": [None, []], "images": [None, []], "rejected_response": [None]}.items():
            if rng.random() < 0.4:
                record[name] = rng.choice(values)
    if what in ("weight", "weight and name", "train", "loss"):
        field = what.split()[0]
        fields.append(field)
        some = answers_in(messages)
        chosen = rng.sample(some, rng.randint(1, len(some)))
        for m in chosen:
            m[field] = rng.choice([0, 0, 0.5]) if field == "weight" else False
        for m in some:
            if m not in chosen and rng.random() < 0.5:
                m[field] = 1 if field == "weight" else True
    if what in ("name", "weight and name"):
        fields.append("name")
        rng.choice(messages)["name"] = rng.choice(["ann", "bo_2"])
    if what == "tools":
        listed = rng.random() < 0.7
        fields += with_tools(rng, messages, listed, rng.random() < 0.3)
        if listed:
            record["tools"] = TOOL
    if what == "tools only":
        fields.append("tools")
        record["tools"] = TOOL
    if what == "reasoning":
        fields.append("reasoning_content")
        rng.choice(answers_in(messages))["reasoning_content"] = text(rng)
    if what == "parts":
        for m in messages:
            if rng.random() < 0.6:
                m["content"] = in_parts(rng, m["content"])
    if what == "control":
        m = rng.choice(messages)
        m["content"] = text(rng) + rng.choice(["", " "]) + rng.choice(list(IDS)) + text(rng)
    if what == "preference":
        field = rng.choice(["rejected_response", "label", "kto_tag"])
        fields.append(field)
        record[field], meant, what = text(rng) if field == "rejected_response" else False, [], field
    if what == "image part":
        messages[0]["content"] = [
            {"type": "image_url", "image_url": {"url": "a.png"}},
            {"type": "text", "text": text(rng)},
        ]
    if what == "media":
        what = rng.choice(["images", "videos", "audios"])
        fields.append(what)
        record[what], meant = ["a.bin"], []
    if what == "function_call":
        fields.append("function_call")
        answers_in(messages)[-1]["function_call"], meant = {"name": "area_of", "arguments": '{"width": 2}'}, []
    return record, what, fields, fields if meant is None else meant


def draw_alpaca(rng):
    record = {"instruction": padded(rng), "input": rng.choice(["", None, text(rng)]), "output": padded(rng)}
    what, fields, meant = (
        rng.choice(["plain", "system", "neutral", "history", "history", "preference", "media"]),
        [],
        None,
    )
    if what in ("system", "history") and rng.random() < 0.6:
        record["system"] = text(rng)
    if what == "neutral":
        record.update(history=rng.choice([None, []]), system=rng.choice([None, ""]))
        if rng.random() < 0.5:
            record["tools"] = rng.choice([None, [], ""])
    if what == "history":
        record["history"] = [[text(rng), text(rng)] for _ in range(rng.randint(1, 2))]
        fields = ["history"]
    if what == "preference":
        what = rng.choice(["chosen and rejected", "rejected", "kto_tag"])
        if what == "chosen and rejected":
            record["chosen"] = record.pop("output")
        fields, meant = ["kto_tag" if what == "kto_tag" else "rejected"], []
        record[fields[0]] = False if what == "kto_tag" else text(rng)
    if what == "media":
        what, fields, meant = "images", ["images"], []
        record["images"] = ["a.png"]
    return record, what, fields, fields if meant is None else meant


def draw_sharegpt(rng):
    names = rng.choice([{"user": "human", "assistant": "gpt"}] * 3 + [{"user": "user", "assistant": "assistant"}])
    record = {
        "conversations": [{"from": names[m["role"]], "value": m["content"]} for m in turns(rng, rng.choice([1, 2]))]
    }
    if rng.random() < 0.3:
        record["system"] = text(rng)
    elif rng.random() < 0.3:
        record["conversations"].insert(0, {"from": "system", "value": text(rng)})
    if rng.random() < 0.5:
        return record, "plain", [], []
    field = rng.choice(["weight", "train"])
    record["conversations"][-1][field] = 0 if field == "weight" else False
    return record, field, [field], [field]


def draw_prompt(rng):
    what = rng.choice(["texts", "messages", "pairs", "pairs of messages"])
    question, answer, other = turns(rng, 1) + [{"role": "assistant", "content": text(rng)}]
    if "messages" in what:
        question, answer, other = [question], [answer], [other]
    else:
        question, answer, other = question["content"], answer["content"], other["content"]
    if what in ("texts", "messages"):
        return {"prompt": question, "completion": answer}, what, [], []
    return {"prompt": question, "chosen": answer, "rejected": other}, what, ["rejected"], []


DRAW = {
    "messages": (draw_messages, 12),
    "alpaca": (draw_alpaca, 5),
    "sharegpt": (draw_sharegpt, 2),
    "prompt": (draw_prompt, 1),
}


def cases(rng, n, _):
    yield {
        "part": "record",
        "model": bytes_model(),
        "added": ADDED,
        "templates": {
            name: {**spec, "unmarked": chat.unmarked(spec["jinja"])} for name, spec in chat.TEMPLATES.items()
        },
    }
    shapes = [shape for shape, (_, share) in DRAW.items() for _ in range(share)]
    for _ in range(n):
        shape = rng.choice(shapes)
        template = rng.choice(list(chat.TEMPLATES))
        if shape == "messages" and template == "zephyr" and rng.random() < 0.5:
            template = "qwen"
        record, what, fields, meant = DRAW[shape][0](rng)
        if what == "control" and template == "llama3":
            template = "named"
        deaf = what == "tools" and "tool_calls" not in chat.TEMPLATES[template]["jinja"]
        variants = [] if deaf else variants_of(template, shape, record, fields, meant)
        # A record without meaning but its texts must be taken where the shape is one that is read.
        usual = shape in ("messages", "alpaca") and what in ("plain", "system", "neutral")
        yield {
            "part": "record",
            "kind": f"{shape}: {what}",
            "template": template,
            "marked": rng.random() < 0.5,
            "record": json.dumps(record, ensure_ascii=False),
            "fields": fields,
            "variants": variants,
            "usual": usual,
        }
