"""Pages and event files of cft, looked at by the programs of others: axe in a browser, and TensorBoard's own reader.

    python3 -m venv VENV && VENV/bin/pip install axe-playwright-python==0.1.8 playwright==1.65.2 tensorboard==2.21.0
    VENV/bin/python tests/oracle/report.py CFTRUN OUT [BROWSER]

BROWSER is Debian's chromium, /usr/bin/chromium, by default. Trains the demo twice, for some seconds, writes their pages, the data page
and a page of planted texts into OUT with pictures of each (light, dark, a phone's width, print), and ends with code 1 where axe
finds anything, a page is wider than its window, a planted script ran, or TensorBoard reads other numbers than log.jsonl has.
Not part of ./test.sh: CI has no browser.
"""
import json
import struct
import subprocess
import sys
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PLANTED = "</style><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">' onload='\u2028"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WINDOWS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


def run(*args):
    subprocess.run([str(a) for a in args], check=True, stdout=subprocess.DEVNULL)


def planted(folder):
    """A run whose texts are hostile."""
    folder.mkdir()
    steps = [{"step": i, "time": 1e9 + i, "tokens": 9 * i, "loss": 1 / i, PLANTED: i, "ledger": {PLANTED: {"loss": 1, "tokens": 1}}}
             for i in range(1, 9)]
    (folder / "log.jsonl").write_text("\n".join(json.dumps(s) for s in [{"log": 1, "run": PLANTED}] + steps) + "\n")
    (folder / "run.json").write_text(json.dumps({
        "recipe": {"name": PLANTED, "text": PLANTED}, "settings": {PLANTED: {"value": PLANTED, "from": PLANTED}}, "host": PLANTED,
        "command": [PLANTED], "template": {"text": PLANTED}, "data": [{"path": PLANTED, "hash": PLANTED}]}))
    kept = {"at": "start", "step": 0, "record": PLANTED, "prompt": PLANTED, "written": PLANTED, "tokens": [[PLANTED, 2], [PLANTED, None]]}
    (folder / "samples.jsonl").write_text(json.dumps(kept) + "\n" + json.dumps(dict(kept, at="end")) + "\n")


def look(pages, out, browser):
    wrong = []
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for path in pages:
            for name, options in WINDOWS.items():
                # axe is a script, so its window does without the page's policy: nothing planted runs there either.
                for bypass in (False, True):
                    context = chromium.new_context(bypass_csp=bypass, **options)
                    page = context.new_page()
                    said = []
                    page.on("console", lambda m, said=said: said.append(m.text))
                    page.on("request", lambda r, said=said: r.url.startswith("file:") or said.append(r.url))
                    page.goto(path.as_uri())
                    where = f"{path.name}, {name}"
                    wrong += [f"{where}: {text}" for text in said]
                    if page.title() == "ran" or page.locator("script").count():
                        wrong.append(f"{where}: a script")
                    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    if wide > 0:
                        wrong.append(f"{where}: {wide} pixels too wide")
                    if bypass:
                        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
                        wrong += [f"{where}: {v['id']}: {v['nodes'][0]['html']}" for v in found]
                    else:
                        page.screenshot(path=out / f"{path.stem}-{name}.png", full_page=True)
                        if name == "light":
                            page.pdf(path=out / f"{path.stem}.pdf")
                    context.close()
        chromium.close()
    return wrong


def read_back(folder, events):
    """TensorBoard's reader against log.jsonl: every loss, rounded to f32."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    lines = [t for t in lines if "step" in t]
    reader = EventAccumulator(str(events), size_guidance={"scalars": 0})
    reader.Reload()
    wrong = []

    def same(tag, pairs):
        read = [(e.step, e.value) for e in reader.Scalars(tag)]
        want = [(step, struct.unpack("<f", struct.pack("<f", v))[0]) for step, v in pairs]
        if read != want or not want:
            wrong.append(f"{tag}: {read[:2]} ..., expected {want[:2]} ...")

    same("train/loss", [(t["step"], t["loss"]) for t in lines])
    same("heldout/loss", [(t["step"], t["heldout_loss"]) for t in lines if "heldout_loss" in t])
    same("train_ledger/verdict", [(t["step"], t["ledger"]["verdict"]["loss"]) for t in lines])
    return wrong


def main():
    cftrun, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    browser = sys.argv[3] if len(sys.argv) > 3 else "/usr/bin/chromium"
    out.mkdir(parents=True)
    demo = [cftrun, "recipes/webinstruct.lua", "--demo", "eval_every=20"]
    run(*demo, "steps=100", f"out={out}/first")
    run(*demo, "steps=80", "lr=6e-4", f"out={out}/second")
    planted(out / "planted")
    pages = [out / name for name in ("one.html", "two.html", "planted.html", "data.html")]
    run(cftrun, "report", out / "first", "--html", pages[0])
    run(cftrun, "report", out / "first", out / "second", "--html", pages[1])
    run(cftrun, "report", out / "planted", "--html", pages[2])
    run(cftrun, "data", "recipes/webinstruct.lua", "--demo", "steps=20", "--html", pages[3])
    run(cftrun, "log", out / "first", "--tensorboard", out / "events")
    wrong = look(pages, out, browser) + read_back(out / "first", out / "events" / "first")
    print("\n".join(wrong) or f"{len(pages)} pages and an event file: nothing wrong; pictures in {out}")
    sys.exit(1 if wrong else 0)


main()
