"""The page in German, in a real browser: no English is left in any state, and nothing is cut or wrong for assistive technology."""

import re

import pytest
from conftest import served
from playwright.sync_api import expect
from test_journeys import CUT, PATIENCE, browser, cards, fits, opened, tab  # noqa: F401
from test_one_state import violations

from attribution.page.hall import load
from attribution.page.language import speak
from attribution.page.settings import Settings

ENGLISH = frozenset(
    [
        "the",
        "of",
        "and",
        "is",
        "that",
        "this",
        "picture",
        "pictures",
        "by",
        "from",
        "with",
        "not",
        "are",
        "to",
        "it",
        "its",
        "which",
        "who",
        "more",
        "most",
        "for",
        "no",
        "look",
        "show",
        "score",
        "share",
        "style",
        "seed",
        "artist",
        "error",
        "close",
        "image",
        "images",
        "loading",
        "processing",
        "collection",
        "search",
        "subject",
        "background",
        "you",
        "your",
        "drop",
        "here",
        "click",
        "upload",
        "or",
        "what",
        "why",
        "how",
        "all",
        "any",
        "nothing",
        "stopped",
        "page",
        "caption",
        "license",
        "file",
        "unknown",
        "number",
        "range",
        "slider",
        "input",
        "remove",
        "clear",
    ]
)
SHOWN = """() => {
  const words = [], skipped = "script, style, code, svg, .caption, #words button, a[data-here], .depth tbody th, #upload, #mine";
  for (const e of document.querySelectorAll("body, body *")) {
    if (e.closest(skipped)) continue;
    for (const n of e.childNodes) if (n.nodeType === 3) words.push(n.textContent);
    for (const name of ["aria-label", "alt", "title", "placeholder"]) words.push(e.getAttribute(name) ?? "");
  }
  return words.map((each) => each.trim()).filter(Boolean);
}"""


@pytest.fixture(scope="module")
def german(served_folder):
    """A page whose host chose German."""
    hall = load(Settings(language="de"))
    with served(hall) as address:
        yield f"http://{address}", hall.desk
    speak("en")


def english(page, desk):
    """Texts on the page that hold an English word and are nobody's: no caption, label, prompt or file."""
    known = {text for _, caption, about in desk.visible.described() for text in (caption, *about.values())}  # fmt: skip
    known |= {example.prompt for example in desk.examples} | set(desk.collection.files)
    known |= {phrase for phrases in desk.collection.concepts.values() for phrase in phrases.values()}  # fmt: skip
    every = re.compile("|".join(re.escape(text) for text in sorted(known, key=len, reverse=True) if text))  # fmt: skip
    said = [every.sub(" ", text) for text in page.evaluate(SHOWN)]
    return [text for text in said if ENGLISH & set(re.findall(r"[^\W\d_]+", text.lower()))]


def check(page, desk):
    assert english(page, desk) == []
    assert page.evaluate(CUT) == []
    assert fits(page)


def turned_to(page, name):
    """Turn to a tab; on a narrow page some lie in a menu."""
    if not page.get_by_role("tab", name=name, exact=True).count():
        there = page.locator(".overflow-menu").filter(has=page.get_by_text(name, exact=True))
        there.get_by_role("button", name="Weitere Reiter").click()
        there.get_by_text(name, exact=True).click()
        expect(page.get_by_role("tab", name=name, exact=True)).to_be_visible()
    tab(page, name)


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_no_english_is_left_in_any_tab(browser, german, width):  # noqa: F811
    url, desk = german
    page = opened(browser, url, viewport={"width": width, "height": 800}, locale="en-GB")
    assert page.evaluate("document.documentElement.lang") == "de"
    page.get_by_text("Beleg: stark.").first.wait_for()
    tab(page, "Was wäre wenn")
    page.get_by_role("button", name="Ohne diese zeichnen").click()
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("Das ging nicht")
    expect(toast).to_contain_text("Erst Trainingsbilder ankreuzen")
    page.locator("#strip button").nth(1).click()
    page.locator("#ranked .alike").wait_for(timeout=4 * PATIENCE)
    check(page, desk)
    assert violations(page) == []
    page.get_by_text("Wie sicher ist das?").click()
    page.get_by_role("radio", name="Mischen…").check()
    page.get_by_label("Zahl für Motiv").wait_for()
    check(page, desk)
    for name in ("Bericht", "Tabelle"):
        turned_to(page, name)
        if name == "Bericht":
            page.get_by_role("button", name="Den Bericht vorbereiten").click()
            page.get_by_role("link", name="report.json").wait_for()
        check(page, desk)
    for name in ("Sammlung", "Mein Werk", "Grenzen"):
        turned_to(page, name)
        if name == "Sammlung":
            page.locator("#found .look").first.click()
            page.locator("#opened h2").wait_for()
        if name == "Mein Werk":
            page.get_by_label("Ihr Name").fill("press")
            page.keyboard.press("Enter")
            page.locator("#found_mine .names button").first.click()
            page.locator("#found_mine h3").first.wait_for()
        check(page, desk)
        assert violations(page) == [], name
    page.close()


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_no_english_is_left_of_an_upload_a_drawing_and_a_closer_look(browser, german, width):  # noqa: F811
    url, desk = german
    page = opened(browser, url, viewport={"width": width, "height": 800}, locale="en-GB")
    page.locator("#ranked .look").first.click()
    page.locator("#drawer .where img").wait_for()
    page.locator("#drawer summary").click()
    check(page, desk)
    assert violations(page) == []
    page.keyboard.press("Escape")
    box = page.get_by_label("Ein Bild beschreiben")
    box.fill("a dinosaur on Mars")
    expect(page.locator("#unknown")).to_have_text("Kam im Training nicht vor: dinosaur, Mars")
    page.get_by_role("button", name="Erzeugen").click()
    expect(page.locator("#asked")).to_contain_text("Kam im Training nicht vor: dinosaur, Mars")
    expect(page.locator("#verdict")).to_contain_text("Dieses Modell hat dieses Bild gezeichnet.")
    box.fill("")
    check(page, desk)
    path = desk.collection.folder / desk.collection.files[0]
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#verdict")).to_contain_text("Dieses Bild ist ein Trainingsbild")
    check(page, desk)
    assert violations(page) == []
    page.close()
