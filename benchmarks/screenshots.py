"""Take the README's pictures of the page, wide and narrow, with Debian's chromium.

python benchmarks/screenshots.py
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from attribution.page.hall import load
from attribution.page.server import serve
from attribution.page.settings import Settings

PORT = 7871
FOLDER = Path("assets/readme")
SIZES = {"page": (1280, 1000), "phone": (390, 844)}


def main() -> None:
    """Serve the shipped default, take an example by style, look closer, and photograph; then film it."""
    FOLDER.mkdir(exist_ok=True)
    demo = serve(load(Settings()), "127.0.0.1", PORT, block=False)
    frames: list[Image.Image] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(f"http://127.0.0.1:{PORT}")
            page.locator("#ranked .card").first.wait_for()

            def film(page: Page = page, name: str = name) -> None:
                page.wait_for_timeout(2500)
                if name == "page":
                    shot = Image.open(io.BytesIO(page.screenshot()))
                    frames.append(shot.resize((shot.width * 5 // 8, shot.height * 5 // 8)))

            film()
            page.locator("#strip button").nth(2).click()
            film()
            page.get_by_role("radio", name="Style").check()
            film()
            page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
            page.locator("#ranked .look").first.click()
            page.locator("#drawer .where img").wait_for(timeout=60_000)
            film()
        browser.close()
    demo.close()
    small = [frame.convert("P", palette=Image.Palette.ADAPTIVE, colors=96) for frame in frames]
    small[0].save(
        FOLDER / "page.gif", save_all=True, append_images=small[1:], duration=1800, loop=0
    )


if __name__ == "__main__":
    main()
