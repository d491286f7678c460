"""Take the README's pictures of the page, wide and narrow, with Debian's chromium.

python benchmarks/screenshots.py
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
import app

PORT = 7871
FOLDER = Path("assets/readme")
SIZES = {"page": (1280, 1000), "phone": (390, 844)}


def main() -> None:
    """Serve the shipped default, click the first example, ask for style, and photograph."""
    FOLDER.mkdir(exist_ok=True)
    attributor, *_ = app.load()
    first = app.examples(attributor.collection)[0]
    prompt = app.Handlers(attributor).build(*(first[concept] for concept in app.CONCEPTS))
    demo = app.serve(attributor, "127.0.0.1", PORT, block=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(f"http://127.0.0.1:{PORT}")
            page.get_by_role("button", name="Generate").wait_for()
            page.get_by_text(prompt, exact=True).click()
            page.locator("#ranked .thumbnail-item").first.wait_for(timeout=60_000)
            page.get_by_role("radio", name="Style").check()
            page.wait_for_timeout(2500)
            page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
        browser.close()
    demo.close()


if __name__ == "__main__":
    main()
