"""Photograph every state of the page, wide and on a phone, light and dark, so that somebody can look at them.

python benchmarks/states.py FOLDER [--language de] [--looks wide-light phone-dark ...] [--only upload ...]

Each state is reached as a visitor reaches it, in Debian's chromium on the shipped model. tests/test_journeys.py and its
neighbours say what must be true in them; whether they look well no test can tell.
"""

import argparse
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from attribution.page.hall import Hall, load
from attribution.page.language import languages, say
from attribution.page.server import serve
from attribution.page.settings import Settings

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    f"{name}-{scheme}": {"viewport": size, "color_scheme": scheme}
    for name, size in (("wide", WIDE), ("phone", PHONE))
    for scheme in ("light", "dark")
}
WAIT = 120_000  # milliseconds
Shoot = Callable[[str], None]


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=say(name), exact=True).click()


def press(page: Page, name: str) -> None:
    """Press a button."""
    page.get_by_role("button", name=say(name), exact=True).click()


def question(page: Page, name: str) -> None:
    """Choose a question."""
    page.get_by_role("radio", name=say(name), exact=True).check()


def answer(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Show an example, how sure it is, all of its list, what looks alike, and one artist's pictures."""
    shoot("example")
    page.locator("#strip button").nth(1).click()
    page.locator("#ranked .alike").wait_for()
    for each in ("#verdict", "#ranked .rest", "#ranked .alike"):
        page.locator(f"{each} summary").first.click()
    shoot("example-unfolded")
    page.locator("#artists button").first.click()
    page.locator("#ranked .filter").wait_for()
    shoot("one-artist")


def mix(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Show sliders, and a phrase of one's own: being learned, and learned."""
    question(page, "Mix…")
    page.locator("#sliders input").first.wait_for()
    shoot("mix")
    page.locator("#own textarea, #own input").first.fill("at night zzyzx")
    press(page, "Learn it")
    page.locator("#learned .progress-level-inner").wait_for()
    page.wait_for_timeout(2500)
    shoot("learning")
    page.locator("#learned [role=status]", has_text="zzyzx").wait_for()
    shoot("learned")


def closer(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Look closer, and see its layers."""
    page.locator("#ranked .look").first.click()
    page.locator("#drawer .where img").wait_for()
    shoot("closer")
    page.locator("#drawer summary").click()
    shoot("closer-layers")


def below(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Show table, report, and what if: with nothing ticked, with a picture, with an artist."""
    tab(page, "Table")
    shoot("table")
    tab(page, "Report")
    press(page, "Prepare the report")
    page.locator("#taken a").first.wait_for()
    shoot("report")
    tab(page, "What if")
    press(page, "Make it without these")
    page.get_by_test_id("toast-body").wait_for()
    shoot("mistake")
    page.get_by_test_id("toast-close").click()
    page.locator("#ranked .tick input").first.check()
    page.locator("#leaving img").wait_for()
    press(page, "Make it without these")
    page.locator("#different [role=status], #different img").first.wait_for()
    shoot("what-if-little")
    name = hall.desk.first().answer.artists()[0].artist if hall.desk.first() else ""
    page.get_by_label(say("or everything by")).fill(name)
    page.get_by_role("option", name=name).click()
    press(page, "Make it without these")
    page.locator("#different .progress-level-inner").wait_for()
    page.wait_for_timeout(2500)
    shoot("forgetting")
    page.locator("#different img").nth(4).wait_for()
    shoot("what-if")


def drawing(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Type unknown words, a drawing on its way, compared, and done."""
    page.locator("#ask textarea, #ask input").first.fill("a dinosaur on Mars")
    page.wait_for_timeout(300)
    shoot("unknown-words")
    press(page, "Generate")
    page.locator("#asked .progress-level-inner").wait_for()
    shoot("drawing")
    page.locator(
        "#asked .quiet", has_text=say("comparing with every training picture …")
    ).wait_for()
    shoot("comparing")
    page.locator("#asked .warn").wait_for()
    page.wait_for_timeout(2000)
    shoot("weak")


def upload(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Bring a training picture, a blank page, and a file that is no picture."""
    desk, box = hall.desk, page.locator("#upload input[type=file]")
    box.set_input_files(desk.collection.folder / desk.collection.files[0])
    page.locator("#verdict .original").wait_for()
    page.wait_for_timeout(1500)
    shoot("training-picture")
    box.set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG no"})
    page.get_by_test_id("toast-body").wait_for()
    shoot("broken-upload")


def collection(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Show the collection, one of its pictures, and a search that finds nothing."""
    tab(page, "Collection")
    page.locator("#found .look").first.wait_for()
    shoot("collection")
    page.locator("#found .look").first.click()
    page.locator("#opened h2").wait_for()
    shoot("opened")
    page.locator("#search textarea, #search input").first.fill("zzyzx")
    page.wait_for_timeout(1000)
    shoot("found-nothing")


def mine(page: Page, shoot: Shoot, hall: Hall) -> None:
    """Show somebody's work: the way in, names that fit, by name, by picture; and what the page cannot tell."""
    tab(page, "My work")
    page.locator("#removed h3").wait_for()
    shoot("mine")
    page.locator("#seek textarea, #seek input").first.fill("press")
    page.keyboard.press("Enter")
    page.locator("#found_mine .names button").first.wait_for()
    shoot("mine-names")
    page.locator("#found_mine .names button").first.click()
    page.locator("#found_mine h3").first.wait_for()
    shoot("mine-by-name")
    path = hall.desk.collection.folder / hall.desk.collection.files[5]
    page.locator("#mine input[type=file]").set_input_files(path)
    page.locator("#found_mine h3").nth(1).wait_for()
    page.wait_for_timeout(2000)
    shoot("mine-by-picture")
    tab(page, "Limits")
    shoot("limits")


STATES = {
    each.__name__: each for each in (answer, mix, closer, below, drawing, upload, collection, mine)
}


def visit(
    browser: Browser, url: str, hall: Hall, folder: Path, look: str, names: list[str]
) -> None:
    """Photograph the states of one look."""
    for name in names:
        page = browser.new_page(**LOOKS[look])
        page.set_default_timeout(WAIT)
        page.goto(url)
        page.locator("#ranked .card").first.wait_for()

        def shoot(state: str, page: Page = page) -> None:
            page.wait_for_timeout(400)
            page.screenshot(path=folder / f"{look}-{state}.png", full_page=True)
            print(f"{look}-{state}", flush=True)

        STATES[name](page, shoot, hall)
        page.close()


def sheet(folder: Path, look: str, columns: int) -> None:
    """Put the states of one look side by side, small, to see them at once."""
    pictures = [Image.open(path) for path in sorted(folder.glob(f"{look}-*.png"))]
    if not pictures:
        return
    width = 420
    small = [each.resize((width, round(each.height * width / each.width))) for each in pictures]
    rows = [small[i : i + columns] for i in range(0, len(small), columns)]
    heights = [max(each.height for each in row) for row in rows]
    whole = Image.new("RGB", (columns * (width + 8), sum(heights) + 8 * len(rows)), "grey")
    for place, row in enumerate(rows):
        for column, each in enumerate(row):
            whole.paste(each, (column * (width + 8), sum(heights[:place]) + 8 * place))
    whole.save(folder / f"sheet-{look}.png")


def main(argv: list[str] | None = None) -> None:
    """Serve the shipped page, and photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", default="en", choices=languages())
    parser.add_argument("--looks", nargs="+", default=[*LOOKS], choices=[*LOOKS])
    parser.add_argument("--only", nargs="+", default=[*STATES], choices=[*STATES])
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hall = load(Settings(language=given.language))
    demo = serve(hall, "127.0.0.1", port, block=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])  # fmt: skip
        for look in given.looks:
            visit(browser, f"http://127.0.0.1:{port}", hall, given.folder, look, given.only)
            sheet(given.folder, look, 6 if look.startswith("phone") else 4)
        browser.close()
    demo.close()


if __name__ == "__main__":
    main()
