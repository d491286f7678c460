"""Measure what a visitor waits for, from the press of a button to what the browser shows.

python benchmarks/page.py
"""

import json
import shutil
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from attribution.page.hall import load
from attribution.page.server import serve
from attribution.page.settings import Settings

RESULT = Path("benchmarks/results/page.json")
MOVES = 15  # of a slider
WAIT = 180_000  # milliseconds
MOVE = """async value => {
  const slider = document.querySelector("input[aria-label='range slider for Style']");
  const started = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  const shown = () => document.querySelector("#ranked [data-link]").dataset.link.includes("style=" + value);
  while (!shown()) await new Promise(next => setTimeout(next, 2));
  return performance.now() - started;
}"""


def main() -> None:
    """Serve the shipped page, do what visitors do, and write the seconds down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = serve(load(Settings()), "127.0.0.1", port, block=False)
    found: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        found[name] = time.perf_counter() - started

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(WAIT)
        with timed("answered example on screen"):
            page.goto(f"http://127.0.0.1:{port}")
            page.locator("#ranked .card").first.wait_for()
        page.get_by_role("radio", name="Mix…").check()
        moves = []
        for number in range(MOVES):
            page.wait_for_timeout(300)
            moves.append(page.evaluate(MOVE, str(round(0.05 * (number + 1), 2))) / 1000)
        found["slider moved to new ranking, median"] = statistics.median(moves)
        found["slider moved to new ranking, slowest"] = max(moves)
        for _ in range(2):  # the second time everything is warm
            make(page, timed)
        page.get_by_label("A phrase").fill("at night")
        with timed("a concept of one's own"):
            page.get_by_role("button", name="Learn it").click()
            page.locator("#learned [role=status]").wait_for()
        page.locator("#ranked .tick input").first.check()
        page.get_by_role("tab", name="What if").click()
        page.locator("#leaving img").wait_for()
        with timed("what if, with its control"):
            page.get_by_role("button", name="Make it without these").click()
            page.locator("#different img").first.wait_for()
        page.locator("#ranked .look").first.click()
        page.locator("#drawer .where img").wait_for()
        browser.close()
    demo.close()
    rows = [{"what": name, "seconds": round(seconds, 3)} for name, seconds in found.items()]
    lines = ",\n".join(json.dumps(row) for row in rows)
    RESULT.write_text(f"[\n{lines}\n]\n")
    for row in rows:
        print(f"{row['what']:45s} {row['seconds']:8.3f} s")


def make(page: Page, timed: Callable) -> None:
    """Make a picture, and wait for its progress, the picture and the answer."""
    page.get_by_label("Describe a picture").fill("a neon sign of a cat by the sea")
    with timed("generate and attribute"):
        with timed("generate: the picture"):
            with timed("generate: first progress"):
                page.get_by_role("button", name="Generate").click()
                page.locator("#asked .wrap:not(.hide)").first.wait_for(state="attached")
            page.get_by_text("comparing with every").wait_for()
        page.locator("#asked figcaption", has_text="seed").wait_for()
    page.wait_for_timeout(4000)


if __name__ == "__main__":
    main()
