"""Conversations with tools and reasoning through published chat templates: tests/golden/chat_tools.jsonl.zst.

A line a template: its text, its special tokens, and what transformers renders of each conversation of this file:
`text`, null where the template refuses; `learned`, where `{% generation %}` stands: [first, behind], in characters;
`prompt`, what the template writes of all but the last message, with the generation prompt.

    python tests/oracle/chat_tools.py FOLDER [--all] > cases.jsonl

FOLDER has the templates of TRL's and axolotl's wheels (trl-1.16.0, axolotl-0.19.0) as trl-NAME.jinja and
axolotl-NAME.jinja. Without --all, those of KEPT alone: their publishers' licences (Apache 2.0, MIT) allow to keep them.
"""

import datetime
import json
import re
import sys
from pathlib import Path

from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template

from golden import provenance

KEPT = """trl-qwen2_5 trl-qwen2_5_training trl-qwen3 trl-qwen3_training trl-qwen3_instruct_2507 trl-qwen3_5_think
trl-deepseekv3 trl-deepseekv3_training trl-deepseek_r1_distill trl-gptoss trl-gptoss_training trl-glm4moe
trl-glm4moe_training trl-phi3 trl-phi3_training axolotl-qwen_25 axolotl-mistral_v3_tekken axolotl-mistral_v7_tekken
axolotl-jamba axolotl-falcon_h1""".split()

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "area_of",
            "description": "The area of a place, in km².",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "its name"}, "round": {"type": "boolean"}},
                "required": ["place"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "add", "description": "a + b", "parameters": {"type": "object", "properties": {
            "b": {"type": "number"}, "a": {"type": "number"}}, "required": ["b", "a"]}},
    },
]


def call(name, arguments, number):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def result(text, number=1, **more):
    return {"role": "tool", "tool_call_id": f"call{number:05d}", "content": text, **more}


ASKS = call("area_of", {"place": "Fogo", "round": True}, 1)
CONVERSATIONS = {
    "plain": ([user("2 + 3?"), says("5"), user("And 5 + 3?"), says("8 é 三")], None),
    "system": ([{"role": "system", "content": "You add."}, user("2 + 3?"), says("5")], None),
    "a call at the end": ([user("How large is Fogo?"), says("I look that up.", tool_calls=[ASKS])], TOOLS),
    "a call, a result, an answer": (
        [{"role": "system", "content": "You help."}, user("How large is Fogo?"), says("", tool_calls=[ASKS]),
         result('{"area": 476.0}', name="area_of"), says("476 km²")], TOOLS),
    "no content": ([user("How large?"), says(None, tool_calls=[ASKS]), result("476"), says("476 km²")], TOOLS),
    "two calls at once": (
        [user("Both?"), says("", tool_calls=[ASKS, call("add", {"b": 2.5, "a": -1}, 2)]), result("476"),
         result("1.5", 2), says("476 and 1.5"), user("Thanks."), says("You are welcome.")], TOOLS),
    "nested arguments": (
        [user("Go."), says("", tool_calls=[call("add", {"a": {"z": [1, "x \"y\"\n", None], "b": "é<&>'"}, "b": 2.0}, 1)]),
         result("ok"), says("Done.")], TOOLS),
    "reasoning": ([user("2 + 3?"), says("5", reasoning_content="Two and three.\nFive.")], None),
    "reasoning in both turns": (
        [user("2 + 3?"), says("5", reasoning_content="Five."), user("And 4?"), says("9", reasoning_content="Nine.")], None),
    "thinking": ([user("2 + 3?"), says("5", thinking="Five.")], None),
    "reasoning and calls": (
        [user("How large is Fogo?"), says("", reasoning_content="Look it up.", tool_calls=[ASKS]), result("476"),
         says("476 km²", reasoning_content="It says 476.")], TOOLS),
    "tools alone": ([user("2 + 3?"), says("5")], TOOLS),
}


class OneDay(datetime.datetime):
    """The day that cft gives to templates which ask for one."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = OneDay


def tokens_of(template):
    """What stands in the template like a token, and the usual ones."""
    found = re.findall(r"<[|｜][^|｜<>\n]+[|｜]>|<(?:start|end)_of_turn>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS"
                       r"|SYSTEM_PROMPT|TOOL_CONTENT)\]|</?tool_call>|</?think>|</?tool_response>", template)
    return sorted(set(found) | {"<s>", "</s>"})


def case(template, name, messages, tools, specials):
    def render(upto, prompt):
        return render_jinja_template(
            conversations=[messages[:upto]], tools=tools, chat_template=template, add_generation_prompt=prompt,
            return_assistant_tokens_mask=not prompt and "generation" in template, **specials)

    made = {"name": name, "text": None, "learned": None, "prompt": None}
    try:
        texts, spans = render(len(messages), False)
    except Exception:
        return made
    made["text"] = texts[0]
    if re.search(r"\{%-?\s*generation", template):
        made["learned"] = [list(span) for span in spans[0]]
    try:
        made["prompt"] = render(len(messages) - 1, True)[0][0]
    except Exception:
        pass
    return made


def main():
    folder, kept = Path(sys.argv[1]), None if "--all" in sys.argv else KEPT
    conversations = {n: {"messages": m, "tools": t} for n, (m, t) in CONVERSATIONS.items()}
    print(json.dumps({"conversations": conversations, "provenance": provenance(__file__)}, ensure_ascii=False))
    names = kept or sorted(p.stem for p in folder.glob("*.jinja"))
    for name in names:
        template = (folder / f"{name}.jinja").read_text(encoding="utf-8")
        eos = next((t for t in ("<|im_end|>", "<｜end▁of▁sentence｜>", "<|eot_id|>", "<end_of_turn>", "<|return|>", "<|end|>")
                    if t in template), "</s>")
        bos = "<｜begin▁of▁sentence｜>" if "<｜" in template else "<s>"
        specials = {"bos_token": bos, "eos_token": eos}
        cases = [case(template, n, m, t, specials) for n, (m, t) in CONVERSATIONS.items()]
        print(json.dumps({"name": name, "template": template, "bos": bos, "eos": eos,
                          "tokens": sorted(set(tokens_of(template)) | {bos, eos}), "cases": cases}, ensure_ascii=False))


if __name__ == "__main__":
    main()
