"""Tell how ten people get on with the live page: what they press, what they see, and how long it takes.

python benchmarks/people.py [WORD ...]

Each is played in Debian's chromium on the shipped model and checked on the way; what is printed was counted there. Seconds are
given as parts of what the first drawing took, picture and answer, since machines differ. docs/page.md tells their stories.
With words, only those play whose names hold one, and the first, who says how long a drawing takes.
"""

import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from attribution.page.guards import CLOSED, OPEN
from attribution.page.hall import Hall, load
from attribution.page.server import serve
from attribution.page.settings import Settings
from precompute.__main__ import main as precompute

MOST_KEYS = 60  # before somebody gives up
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
TYPED = ("a watercolour of a fish at night", "a dinosaur on Mars", "qwertz", "ein Hund am See")
HOSTILE = ("<img src=x onerror=hacked=1>", "{{ 7 * 7 }}", "../../etc/passwd", "' OR 1=1 --")
EXAMPLE = "a woodcut of a cat in the city"
RANKED = """prompt => {
  const link = document.querySelector("#ranked [data-link]")?.dataset.link;
  return link && new URLSearchParams(link).get("prompt") === prompt;
}"""
expect.set_options(timeout=60_000)


def told(text: str) -> None:
    """Print one line of a story."""
    print(f"- {text}", flush=True)


class Street:
    """The page, and a browser for whoever comes."""

    def __init__(self, browser: Browser, url: str, hall: Hall) -> None:
        self.browser, self.url, self.hall = browser, url, hall
        self.drawing = 0.0  # seconds that the first one took

    def comes(self, query: str = "", **options: Any) -> Page:
        """Open the page."""
        page = self.browser.new_page(**{"viewport": WIDE, **options})
        page.goto(self.url + query)
        page.locator("#ranked .card").first.wait_for()
        return page

    def part(self, begun: float) -> str:
        """Say how long something took, as a part of a drawing."""
        return f"{(time.perf_counter() - begun) / self.drawing:.2f}"


def asks(page: Page, prompt: str) -> float:
    """Generate, wait for the answer, and give its seconds."""
    page.get_by_label("Describe a picture").fill(prompt)
    begun = time.perf_counter()
    page.get_by_role("button", name="Generate").click()
    page.locator("#asked .quiet", has_text="comparing").wait_for()
    page.locator("#asked .quiet", has_text="seed").wait_for()
    page.wait_for_function(RANKED, arg=prompt)
    return time.perf_counter() - begun


def verdict(page: Page) -> str:
    """Give the verdict's sentences."""
    return page.locator("#verdict [data-said]").get_attribute("data-said") or ""


def types_anything(street: Street) -> None:
    """Draw a known combination, then what the model never saw."""
    page, times = street.comes(), []
    for prompt in TYPED:
        times.append(asks(page, prompt))
        street.drawing = street.drawing or times[0]
        warned = page.locator("#asked .warn")
        never = warned.inner_text() if warned.count() else "All words known"
        told(f"“{prompt}”: {never}. {verdict(page).rsplit('.', 2)[-2].strip()}.")
    told(f"slowest of {len(times)}: {max(times) / street.drawing:.2f} of the first drawing")
    page.close()


def is_in_a_hurry(street: Street) -> None:
    """Ask, ask for something else, and stop."""
    page = street.comes()
    before = verdict(page)
    page.get_by_label("Describe a picture").fill(EXAMPLE)
    page.get_by_role("button", name="Generate").click()
    page.locator("#halt").wait_for()
    begun = time.perf_counter()
    page.locator("#halt").click()
    expect(page.locator("#told")).to_contain_text("Stopped")
    told(f"Stop is answered after {street.part(begun)} of a drawing")
    if verdict(page) != before:
        raise SystemExit("Stop changed the answer")
    desk = street.hall.desk
    begun = time.perf_counter()
    page.locator("#strip button").nth(1).click()
    expect(page.locator("#asked")).to_contain_text(desk.examples[desk.chosen(2)[1]].prompt)
    told(f"a ready example stands there after {street.part(begun)}")
    page.close()


def looks_for_herself(street: Street) -> None:
    """Look for an artist's work by name, and by a picture."""
    page, desk = street.comes(), street.hall.desk
    page.get_by_role("tab", name="My work").click()
    found = page.locator("#found_mine")
    artist = desk.visible.labels(5)["artist"]
    begun = time.perf_counter()
    page.get_by_label("Your name").fill(artist)
    page.keyboard.press("Enter")
    expect(found.locator("h3")).to_have_count(5)
    told(f"by name: {street.part(begun)} of a drawing; {found.locator('.answers p').first.inner_text()}")  # fmt: skip
    begun = time.perf_counter()
    page.locator("#mine input[type=file]").set_input_files(desk.collection.folder / desk.collection.files[5])  # fmt: skip
    expect(found).to_contain_text("This picture is in the training set")
    told(f"by picture: {street.part(begun)}; {found.locator('.answers').count()} answers apart")
    told(f"to take along: {', '.join(found.locator('.files li').all_inner_texts())}")
    page.close()


def needs_a_paper(street: Street) -> None:
    """Take a report along, print it, and have it verified elsewhere."""
    page = street.comes()
    page.get_by_role("tab", name="Report", exact=True).click()
    page.get_by_role("button", name="Prepare the report").click()
    page.locator("#taken .files li").first.wait_for()
    told(f"files: {', '.join(page.locator('#taken .files li').all_inner_texts())}")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("report.json", "report.html"):
            with page.expect_download() as download:
                page.get_by_role("link", name=name).click()
            download.value.save_as(Path(folder) / name)
        page.goto(f"file://{folder}/report.html")
        printed = page.pdf(format="A4")
        told(f"printed: {len(re.findall(rb'/Type */Page[^s]', printed))} pages of A4")
        begun = time.perf_counter()
        with redirect_stdout(StringIO()) as said:
            code = precompute(["verify", f"{folder}/report.json"])
        told(f"verified: exit code {code} after {street.part(begun)} of a drawing; {said.getvalue().splitlines()[0]}")  # fmt: skip
    page.close()


def has_a_phone(street: Street) -> None:
    """Open it at 390 pixels, and count bytes and pixels."""
    page = street.browser.new_page(viewport=PHONE, has_touch=True, is_mobile=True)
    got: list[int] = []
    page.on("requestfinished", lambda request: got.append(request.sizes()["responseBodySize"]))
    page.goto(street.url)
    page.locator("#ranked .card").first.wait_for()
    page.wait_for_timeout(2000)
    top = page.locator("#ranked .look").first.bounding_box()
    told(f"the first result at y = {top['y'] if top else 0:.0f} of 844; {sum(got) / 1e6:.2f} MB in {len(got)} files")  # fmt: skip
    wide = page.evaluate("document.documentElement.scrollWidth")
    told(f"the page is {wide} pixels wide on a screen of {PHONE['width']}")
    page.locator("#ranked .look").first.tap()
    page.locator("#drawer .where img").wait_for()
    told(f"the closer look is {page.locator('#drawer').evaluate('e => e.clientWidth')} pixels wide, its content {page.locator('#drawer').evaluate('e => e.scrollWidth')}")  # fmt: skip
    page.close()


def presses(page: Page, wanted: str, key: str = "Tab") -> int:
    """Press a key until the focus is where it should be."""
    for count in range(1, MOST_KEYS):
        page.keyboard.press(key)
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return count
    raise SystemExit(f"the keyboard did not reach {wanted} in {MOST_KEYS} presses")


def has_a_keyboard(street: Street) -> None:
    """Go from the top to a closer look and back without a mouse."""
    page = street.comes()
    told(f"to the question: {presses(page, '#question input')} stops of the tab key")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#ranked .scale")).not_to_contain_text("whole picture")
    told(f"on to the first result: {presses(page, '#ranked .look')} stops")
    page.keyboard.press("Enter")
    page.locator("#drawer article").wait_for()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#drawer .place")).to_contain_text("3 of")
    page.keyboard.press("Escape")
    expect(page.locator("#ranked .look").nth(2)).to_be_focused()
    told("a closer look at three: 4 keys; the focus is on the third afterwards")
    page.close()


def cannot_see(street: Street) -> None:
    """Ask by style, and hear what is read out."""
    page = street.comes()
    page.get_by_role("radio", name="Style").check()
    expect(page.locator("#said[aria-live=polite]")).to_contain_text("style")
    told(f"read out: {page.locator('#said').inner_text()!r}")
    nameless = "e => !e.hasAttribute('alt')"
    told(f"pictures without a name: {sum(img.evaluate(nameless) for img in page.locator('img').all())}")  # fmt: skip
    page.close()


def comes_by_a_link(street: Street) -> None:
    """Open what somebody sent, and go back."""
    page = street.comes()
    page.locator("#strip button").nth(2).click()
    page.wait_for_url("**/?prompt=*")
    page.get_by_role("radio", name="Style").check()
    page.wait_for_url("**style=1*")
    query, said = page.url.partition("/?")[2], verdict(page)
    other = street.comes(f"/?{query}")
    expect(other.locator("#verdict [data-said]")).to_have_attribute("data-said", said)
    told(f"a link of {len(query)} characters shows the same picture, question and verdict")
    other.close()
    page.close()


def is_hostile(street: Street) -> None:
    """Type what should not run, and knock at every closed door."""
    page = street.comes()
    for each in HOSTILE:
        asks(page, each)
    if page.evaluate("window.hacked") is not None:
        raise SystemExit("something that was typed did run")
    told(f"{len(HOSTILE)} hostile prompts drawn as words, none run")
    with httpx.Client(base_url=street.url, timeout=20) as client:
        paths = [re.sub(r"\{.*?\}", "x", path) for path in CLOSED]
        closed = sum(client.get(path).status_code == 404 for path in paths)
    told(f"{closed} of {len(CLOSED)} closed routes are not found; {len(OPEN)} are needed")
    page.close()


def reads_german(street: Street) -> None:
    """Come with a German browser to a page whose host chose English."""
    page = street.comes(locale="de-DE")
    told(f"language of the page: {page.evaluate('document.documentElement.lang')}; ATTRIBUTION_LANGUAGE=de says all of it in German")  # fmt: skip
    page.close()


PEOPLE: dict[str, Callable[[Street], None]] = {
    "One who types anything": types_anything,
    "One in a hurry": is_in_a_hurry,
    "An artist who looks for herself": looks_for_herself,
    "A curator who needs a paper": needs_a_paper,
    "On a phone": has_a_phone,
    "At the keyboard alone": has_a_keyboard,
    "Who cannot see it": cannot_see,
    "Who comes by a link": comes_by_a_link,
    "A hostile one": is_hostile,
    "Who reads German": reads_german,
}


def main() -> None:
    """Serve the shipped page, and let them come one after another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hall = load(Settings())
    demo = serve(hall, "127.0.0.1", port, block=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])  # fmt: skip
        street = Street(browser, f"http://127.0.0.1:{port}", hall)
        for place, (name, play) in enumerate(PEOPLE.items()):
            if place and sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                continue
            print(name)
            play(street)
        browser.close()
    demo.close()


if __name__ == "__main__":
    main()
