"""Tell how three people get on with the demo that needs no server, and how quickly it answers a phone.

python benchmarks/visitors.py [SITE]

One uses the keyboard alone, one a small and slow phone, and one is an artist who looks for herself. Each step is done in
Debian's chromium and checked on the way; what is printed was counted there. Without a SITE, the shipped demo is written
to a folder that is removed afterwards.
"""

import functools
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from precompute.__main__ import main as precompute

MOST_KEYS = 60  # before somebody gives up
SLOW = {"downloadThroughput": 200_000, "uploadThroughput": 90_000, "latency": 150}  # bytes/s, ms
MOVE = """async () => {
  const sliders = [...document.querySelectorAll("#sliders input")], times = [];
  for (let turn = 0; turn < 40; turn++) {
    const slider = sliders[turn % sliders.length];
    slider.value = ((turn * 7) % 20 + 1) / 20;
    const begun = performance.now();
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    document.body.getBoundingClientRect(); // lays out what was drawn
    times.push(performance.now() - begun);
    await new Promise(requestAnimationFrame);
  }
  return times;
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a word."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder as any web server would."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def opened(browser: Browser, address: str, **options: Any) -> Page:
    """Open the demo."""
    page = browser.new_page(**options)
    page.goto(address)
    page.locator("html[data-whole]").wait_for(state="attached")
    return page


def computing(page: Page) -> float:
    """Give the milliseconds that the page itself computes for a slider's move, whatever else this machine does."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        found = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * sum(found[f"{kind}Duration"] for kind in ("Script", "Layout", "RecalcStyle"))

    page.evaluate(MOVE)  # compiled by now
    begun = spent()
    moves = len(page.evaluate(MOVE))
    return (spent() - begun) / moves


def press_until(page: Page, wanted: str, key: str = "Tab") -> int:
    """Press a key until the focus is where it should be; give the number of presses."""
    for presses in range(1, MOST_KEYS):
        page.keyboard.press(key)
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return presses
    raise SystemExit(f"the keyboard did not reach {wanted} in {MOST_KEYS} presses")


def at_the_keyboard(browser: Browser, address: str) -> None:
    """Ask by style, look closer at the first three, and go on to the next picture, without a mouse."""
    page = opened(browser, address, viewport={"width": 1280, "height": 800})
    print("At the keyboard alone")
    print(f"- to the questions: {press_until(page, '#questions input')} keys")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#said")).to_contain_text("by style")
    print("- by style: 2 keys; told:", repr(told(page)))
    print(f"- to the first training picture: {press_until(page, '#cards .look')} keys")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#closer-title")).to_contain_text("Training picture 3 of")
    page.keyboard.press("Escape")
    expect(page.locator("#cards .look").nth(2)).to_be_focused()
    print("- a closer look at three: 4 keys; the focus is back on the third picture")
    before = page.locator("#picture q").inner_text()
    print(f"- back to the next picture: {press_until(page, '#next-example', 'Shift+Tab')} keys")
    page.keyboard.press("Enter")
    expect(page.locator("#picture q")).not_to_have_text(before)
    expect(page.get_by_role("radio", name="style")).to_be_checked()
    page.close()


def told(page: Page) -> str:
    """Give what a screen reader is told after a change."""
    expect(page.locator("#announced")).to_contain_text("style")
    return page.locator("#announced").inner_text()


def on_a_phone(browser: Browser, address: str) -> None:
    """Open it on a slow line, mix two questions, and look at more."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    got: list[int] = []
    page.on("requestfinished", lambda request: got.append(request.sizes()["responseBodySize"]))
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", {"offline": False, **SLOW})
    session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(address)
    page.locator("#cards .card").first.wait_for()
    shown = page.evaluate("performance.now()")
    page.wait_for_load_state("networkidle")
    print("On a slow phone (390 x 844, 1.6 Mbit/s, 150 ms, a quarter of this machine's speed)")
    print(f"- answered after {shown / 1000:.1f} s; {sum(got) / 1e6:.2f} MB in {len(got)} files")
    top = page.locator(".card").first.evaluate("e => e.getBoundingClientRect().y + scrollY")
    print(f"- the first training picture is at y = {top:.0f}")
    page.locator("#questions label").last.tap()
    times = [page.evaluate(MOVE) for _ in range(2)][1]  # compiled by then
    session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    own = 4 * computing(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    told = f"median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms by the clock"
    print(f"- a slider's move to its ranking: {told}; {own:.0f} ms of computing")
    page.get_by_role("button", name="Show more").tap()
    expect(page.locator("#cards .card")).to_have_count(12)
    page.locator("#cards .look").nth(5).tap()
    expect(page.locator("#closer-title")).to_contain_text("Training picture 6 of")
    page.get_by_role("button", name="Close", exact=True).tap()
    wide = page.evaluate("document.documentElement.scrollWidth")
    print(f"- twelve pictures, a closer look at the sixth, closed; the page is {wide} pixels wide")
    page.close()


def an_artist(browser: Browser, address: str) -> None:
    """Look for one's own name: in this picture, in all of them, and in what can be sent to somebody else."""
    page = opened(browser, address, viewport={"width": 1280, "height": 800})
    print("An artist who looks for herself")
    names = page.locator("#artist option").all_inner_texts()[1:]
    name = names[len(names) // 2]
    page.get_by_label("Pictures by").select_option(name)
    print(f"- {name}, in the picture at hand: {page.locator('#said').inner_text()}")
    leaning = page.locator("#leaning-list a")
    print(
        f"- {page.locator('#leaning-title').inner_text()}: {leaning.count()} pictures, at most {leaning.first.locator('b').inner_text()}"
    )
    leaning.first.click()
    expect(page.locator("#share-list [aria-pressed=true]")).to_have_text(name)
    share = page.locator("#share-list li", has_text=name).locator(".figure").inner_text()
    print(f"- the first of them: {page.locator('#picture q').inner_text()}, {share}")
    expect(page.locator("#cards .who").filter(has_not_text=name)).to_have_count(0)
    again = opened(browser, page.url)
    expect(again.locator("#artist")).to_have_value(name)
    print(f"- sent to somebody else as {page.url.removeprefix(address)}")
    again.close()
    page.close()


def main() -> None:
    """Let all three visit."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder)
        if len(sys.argv) == 1 and precompute(["demo", "--output_dir", folder]):
            raise SystemExit(2)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        with served(site) as address:
            for visit in (at_the_keyboard, on_a_phone, an_artist):
                visit(browser, address)
        browser.close()


if __name__ == "__main__":
    main()
