"""The live page lives in another site's page as Gradio's web component, and leaves that page's address alone."""

import re
from pathlib import Path

import gradio
from playwright.sync_api import expect
from test_demo import browser  # noqa: F401

from benchmarks.visitors import served

PATIENCE = 60_000  # milliseconds: a bound on hanging


def host_page(url):
    """A page of somebody else's; Gradio's own server has the component, so that nothing comes from elsewhere."""
    loader = Path(gradio.__file__).parent / "templates/frontend/gradio.js"
    script = re.search(r"assets/[\w.-]+\.js", loader.read_text())[0]
    return f'<!doctype html><title>Host</title><h1>Host</h1><script type="module" src="{url}/{script}"></script><gradio-app src="{url}"></gradio-app>'


def test_the_live_page_is_a_web_component_of_another_page(browser, url, tmp_path):  # noqa: F811
    (tmp_path / "host.html").write_text(host_page(url))
    with served(tmp_path) as host:
        asked = []
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{host}host.html")
        cards = page.locator("#ranked .cards:not(.small) .card")
        cards.first.wait_for()
        page.get_by_role("radio", name="Style").check()
        expect(page.locator("#ranked .scale")).to_contain_text("by style", timeout=PATIENCE)
        cards.first.locator("button").first.click()
        expect(page.get_by_role("heading", name="A closer look")).to_be_visible(timeout=PATIENCE)
        assert page.url == f"{host}host.html"
        assert page.title() == "Host"
        assert all(each.startswith((host, url, "data:", "blob:")) for each in asked)
        page.close()
