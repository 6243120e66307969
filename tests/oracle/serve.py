"""The PyPI client of OpenAI against `cftrun serve`, and many streams at once:
    python tests/oracle/serve.py http://127.0.0.1:8000 [--key KEY] [--streams 200] [--requests N --pid PID]
        [--prompt TEXT --answer FILE]
wants openai (pip install openai). Prints a line for each part, and fails by an AssertionError.
--requests sends N short requests, 16 at a time, of each four one whole, one streamed, one that is refused and one that is left
while it is written, and prints the resident memory of PID along the way.
--answer is what `cftrun generate MODEL TEXT --max-new 64` wrote, which the chat must say too."""

import argparse
import asyncio
import time

import openai


def check(client):
    assert [m.id for m in client.models.list()]
    messages = [{"role": "user", "content": "How many?"}]
    whole = client.chat.completions.create(model="any", messages=messages, max_tokens=12, temperature=0, logprobs=True, top_logprobs=3)
    assert whole.choices[0].message.role == "assistant" and whole.usage.completion_tokens <= 12
    assert all(len(t.top_logprobs) == 3 for t in whole.choices[0].logprobs.content)
    text, usage = "", None
    for chunk in client.chat.completions.create(model="any", messages=messages, max_tokens=12, temperature=0, stream=True,
                                                stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    assert text == whole.choices[0].message.content, (text, whole)
    assert usage == whole.usage
    several = client.completions.create(model="any", prompt=["a", "b"], n=2, max_tokens=4, seed=1, logprobs=2, stop=["zz"])
    assert [c.index for c in several.choices] == [0, 1, 2, 3]
    try:
        client.chat.completions.create(model="any", messages=messages, tools=[])
        raise SystemExit("tools were taken")
    except openai.BadRequestError as error:
        assert error.param == "tools", error
    print(f"openai {openai.__version__}: models, chat, streams, completions, errors")


def check_answer(client, o):
    asks = dict(model="any", messages=[{"role": "user", "content": o.prompt}], max_tokens=64, temperature=0)
    with open(o.answer) as file:
        wanted = file.read()
    whole = client.chat.completions.create(**asks)
    assert whole.choices[0].message.content + "\n" == wanted, (whole, wanted)
    streamed = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(stream=True, **asks))
    assert streamed + "\n" == wanted, (streamed, wanted)
    print(f"the answer of `cftrun generate`, whole and streamed: {whole.usage.completion_tokens} tokens")


async def stream(client, i):
    """One of many: of ten, one leaves after a few pieces and one reads slowly. Pieces that came; 0 for who left."""
    leaves, slow = i % 10 == 9, i % 10 == 8
    answer = await client.completions.create(model="any", prompt=f"number {i}", max_tokens=4000 if leaves else 24, stream=True, seed=i)
    pieces, finish = 0, None
    async for chunk in answer:
        for choice in chunk.choices:
            pieces, finish = pieces + 1, choice.finish_reason or finish
        if leaves and pieces > 3:
            await answer.close()
            return 0
        if slow:
            await asyncio.sleep(0.05)
    assert finish in ("stop", "length"), finish
    return pieces


async def many(o):
    began = time.time()
    async with openai.AsyncOpenAI(base_url=o.url + "/v1", api_key=o.key, max_retries=0, timeout=300) as client:
        results = await asyncio.gather(*(stream(client, i) for i in range(o.streams)))
    print(f"{o.streams} streams at once, {results.count(0)} of them left, a tenth slow: {time.time() - began:.1f} s")


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


async def mixed(client, i):
    """One of many: whole, streamed, refused, or left while it is written."""
    kind = i % 4
    if kind == 0:
        await client.completions.create(model="any", prompt=f"number {i}", max_tokens=4, n=2, logprobs=2)
    elif kind == 1:
        messages = [{"role": "user", "content": f"number {i}"}]
        async for _ in await client.chat.completions.create(model="any", messages=messages, max_tokens=4, stream=True):
            pass
    elif kind == 2:
        try:
            await client.completions.create(model="any", prompt=f"number {i}", max_tokens=4, user="nobody")
            raise SystemExit("user was taken")
        except openai.BadRequestError:
            pass
    else:
        answer = await client.completions.create(model="any", prompt=f"number {i}", max_tokens=2000, stream=True)
        async for _ in answer:
            await answer.close()
            break


async def repeated(o):
    gate = asyncio.Semaphore(16)

    async def one(client, i):
        async with gate:
            await mixed(client, i)

    began, steps = time.time(), 20
    async with openai.AsyncOpenAI(base_url=o.url + "/v1", api_key=o.key, max_retries=0, timeout=300) as client:
        for done in range(0, o.requests, o.requests // steps):
            await asyncio.gather(*(one(client, done + i) for i in range(o.requests // steps)))
            print(f"{done + o.requests // steps} requests in {time.time() - began:.0f} s: {resident(o.pid)} KiB resident", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--prompt")
    parser.add_argument("--answer")
    o = parser.parse_args()
    client = openai.OpenAI(base_url=o.url + "/v1", api_key=o.key, max_retries=0)
    check(client)
    if o.answer:
        check_answer(client, o)
    if o.streams:
        asyncio.run(many(o))
    if o.requests:
        asyncio.run(repeated(o))


if __name__ == "__main__":
    main()
