"""The page on the shipped model: what each visitor can do, in a real browser."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import served
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from attribution.page.layout import TITLE
from attribution.page.panels.ask import STRIP
from attribution.page.session import COUNT, FIRST
from precompute.__main__ import main

PROMPT = "a woodcut of a cat in the city"
PATIENCE = 30_000  # milliseconds: a bound on hanging, not a promise
expect.set_options(timeout=PATIENCE)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}
LOOKS = {
    "wide-light": {"viewport": WIDE, "color_scheme": "light"},
    "wide-dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone-light": {"viewport": PHONE, "color_scheme": "light", "has_touch": True},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark", "has_touch": True},
}


@pytest.fixture(scope="module")
def browser(url):
    """Debian's chromium; without it these tests fail, they do not skip."""
    path = shutil.which("chromium")
    assert path, "there is no chromium; install it (apt-get install chromium)"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser, address, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(address)
    cards(page).first.wait_for()
    return page


def cards(page, where="ranked"):
    return page.locator(f"#{where} .cards:not(.small) .card")


def said(page, where="ranked"):
    """What the buttons of the ranked pictures say to a screen reader."""
    return [b.get_attribute("aria-label") for b in cards(page, where).locator("button").all()]


def verdict(page):
    return page.locator("#verdict [data-said]").get_attribute("data-said")


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


USUAL = "wide-light"  # the look whose journeys are not left to `make slow`


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name == USUAL else [pytest.mark.slow]) for name in LOOKS
    ],
)
def page(browser, url, request):
    """A visitor's page, wide or narrow, light or dark, which goes through all journeys."""
    page = opened(browser, url, **LOOKS[request.param])
    yield page
    assert page.problems == []
    assert fits(page)
    page.close()


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def whole_picture(page):
    page.get_by_role("radio", name="Whole", exact=True).check()
    expect(page.locator("#ranked .scale")).to_contain_text("whole picture")


# The eight things that a visitor can do


def test_the_first_screen_is_an_answered_example_with_one_way_in(page):
    expect(page.get_by_role("heading", level=1)).to_have_text(TITLE)
    expect(page.locator("#title")).to_contain_text("small demonstration model")
    assert page.locator("#strip button").count() == STRIP
    assert page.get_by_text("Evidence: strong.").first.is_visible()
    assert cards(page).count() == COUNT
    assert sum(card.is_visible() for card in cards(page).all()) == FIRST
    tab(page, "Limits")
    expect(page.locator("#limits")).to_contain_text("It is not authorship")
    expect(page.locator("#limits")).to_contain_text("How often it is wrong")
    tab(page, "Trace")


@pytest.mark.parametrize(("size", "lowest"), [((1280, 800), 600), ((390, 844), 900)])
def test_pictures_come_first(browser, url, size, lowest):
    """The first result lies high, and few presses of the tab key away."""
    page = opened(browser, url, viewport=dict(zip(("width", "height"), size, strict=True)))
    page.get_by_text("Evidence: strong.").first.wait_for()
    assert page.locator("#ranked .look").first.bounding_box()["y"] < lowest
    stops = 0
    while not page.evaluate("'row' in document.activeElement.dataset"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops <= 12
    page.close()


def test_tabs_are_one_stop_and_arrows_go_on(page):
    tabs = page.get_by_role("tablist").first.get_by_role("tab")
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tabs.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(tabs.nth(1)).to_have_attribute("aria-selected", "true")
    expect(tabs.nth(1)).to_have_attribute("tabindex", "0")
    expect(tabs.first).to_have_attribute("tabindex", "-1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(tabs.first).to_have_attribute("aria-selected", "true")


CUT = """() => [...document.querySelectorAll("body *")].filter((e) => {
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!text || !box.width || e.closest(".hidden, .visually-hidden, .sr-only, svg, .toast-wrap, .caption")) return false;
  if (style.overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1) return true;
  let scroller = e.parentElement;
  while (scroller && getComputedStyle(scroller).overflowX !== "auto") scroller = scroller.parentElement;
  return !scroller && box.right > innerWidth + 1;
}).map((e) => e.outerHTML.slice(0, 150))"""


@pytest.mark.parametrize("width", [320, 390, 820, 1280, 1680])
def test_no_text_is_cut(browser, url, width):
    page = opened(browser, url, viewport={"width": width, "height": 800})
    page.get_by_role("radio", name="Mix…").check()
    page.get_by_label("number input for Subject").wait_for()
    assert page.evaluate(CUT) == []
    assert fits(page)
    inputs = page.locator("#sliders input[type=number]")
    assert all(box.evaluate("e => e.scrollWidth <= e.clientWidth") for box in inputs.all())
    page.close()


def test_an_example_is_answered_at_a_press(page, desk):
    number = desk.chosen(3)[2]
    page.locator("#strip button").nth(2).click()
    expect(page.locator("#asked figcaption")).to_contain_text(desk.examples[number].prompt)
    best = desk.examples[number].answer.rank(1)[0]
    first = cards(page).first.locator("button").first
    expect(first).to_have_attribute("aria-label", re.compile(re.escape(best.caption)))


def test_questions_and_sliders_rank_anew(page, desk):
    whole_picture(page)
    before = said(page)
    page.get_by_role("radio", name="Style").check()
    expect(page.locator("#ranked .scale")).to_contain_text("by style")
    by_style = said(page)
    assert by_style != before
    page.get_by_role("radio", name="Mix…").check()
    page.get_by_label("range slider for Subject").fill("1")
    expect(page.locator("#ranked .scale")).to_contain_text("subject and style")
    assert said(page) != by_style
    page.get_by_label("range slider for Subject").fill("0")
    page.get_by_label("range slider for Style").fill("0")
    expect(page.get_by_text("Move at least one slider above zero.").last).to_be_visible()
    assert cards(page).count() == COUNT


@pytest.mark.slow
def test_a_concept_of_ones_own_joins_the_sliders(page):
    page.get_by_role("radio", name="Mix…").check()
    page.get_by_label("A phrase").fill("at night zzyzx")
    page.get_by_role("button", name="Learn it").click()
    words = "Learned “at night zzyzx” from 2 pictures"
    expect(page.locator("#learned")).to_contain_text(words, timeout=2 * PATIENCE)
    expect(page.locator("#learned .warn")).to_contain_text("“zzyzx”")
    expect(page.get_by_label("range slider for at night zzyzx")).to_have_value("1")
    expect(page.locator("#ranked .scale")).to_contain_text("at night zzyzx")
    whole_picture(page)


def test_a_closer_look_shows_facts_layers_and_where(page, desk):
    whole_picture(page)
    cards(page).locator("button").nth(1).focus()
    page.keyboard.press("Enter")
    drawer = page.get_by_role("dialog", name="A closer look")
    expect(drawer.get_by_role("heading", name="A closer look")).to_be_focused(timeout=PATIENCE)
    expect(drawer.locator("figcaption b")).to_contain_text(["The picture", "Training image, by "])
    expect(drawer.locator(".why")).to_have_text(re.compile(r"^(Same|Another) .*\.$"))
    assert not drawer.locator(".depth").is_visible()
    drawer.locator("summary").focus()
    page.keyboard.press("Enter")
    for label in (
        "artist",
        "license",
        "file",
        "part of all",
        "score, whole picture",
        "score, style",
    ):
        expect(drawer.locator("article")).to_contain_text(label)
    cells = drawer.locator(".depth td").all_inner_texts()
    score = float(drawer.locator("tr", has_text="score, whole picture").locator("td").inner_text())
    assert sum(map(float, cells)) == pytest.approx(score, abs=0.006 * len(cells))
    expect(drawer.locator(".where img")).to_be_visible(timeout=2 * PATIENCE)
    assert drawer.evaluate("e => e.scrollWidth <= e.clientWidth")
    page.keyboard.press("Escape")
    expect(cards(page).locator("button").nth(1)).to_be_focused()


def captioned(page):
    """The cards' captions, and that of the training image in the drawer."""
    captions = [c.text_content().strip() for c in cards(page).locator(".caption").all()]
    return captions, page.locator("#drawer figcaption").nth(1)


def test_the_drawer_goes_on_by_keys_and_returns_to_the_last_card(page):
    whole_picture(page)
    captions, shown = captioned(page)
    cards(page).locator("button").first.click()
    place = page.locator("#drawer .place")
    expect(page.locator("#drawer [data-step='-1']")).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("ArrowLeft")  # there is nothing before the first
    expect(place).to_have_text(f"1 of {COUNT}")
    for _ in range(5):  # faster than the server answers
        page.keyboard.press("ArrowRight")
    expect(place).to_have_text(f"6 of {COUNT}")
    expect(shown).to_contain_text(captions[5])
    page.get_by_role("button", name="Previous").click()
    expect(place).to_have_text(f"5 of {COUNT}")
    expect(shown).to_contain_text(captions[4])
    page.locator("#drawer").get_by_role("button", name="Close").click()
    expect(page.locator("#drawer")).to_be_hidden()
    expect(cards(page).locator("button").nth(4)).to_be_focused()  # unfolded for that


def test_an_artist_can_be_chosen_and_let_go(page):
    whole_picture(page)
    tab(page, "Artists")
    first = page.locator("#artists button").first
    name = first.inner_text()
    first.click()
    expect(page.locator("#ranked .filter")).to_contain_text(f"Only pictures by {name}")
    assert all(f"by {name}" in words for words in said(page))
    page.locator("#ranked .filter button").click()
    expect(page.locator("#ranked .filter")).to_have_count(0)


@pytest.mark.slow
def test_what_if_shows_before_after_and_control(page):
    whole_picture(page)
    tab(page, "What if")
    page.get_by_role("button", name="Make it without these").click()
    expect(page.get_by_text("Tick some training pictures first").last).to_be_visible()
    for i in range(3):
        cards(page).locator("input").nth(i).check()
    expect(page.locator("#leaving img")).to_have_count(3)
    page.locator("#leaving button").first.click()
    expect(page.locator("#ranked input[data-tick]:checked")).to_have_count(2)
    cards(page).locator("input").first.check()
    expect(page.locator("#leaving img")).to_have_count(3)
    page.get_by_role("button", name="Make it without these").click()
    expect(page.locator("#different")).to_contain_text("so nothing is drawn here", timeout=PATIENCE)
    expect(page.locator("#different img")).to_have_count(0)
    tab(page, "Artists")
    name = page.locator("#artists button").first.inner_text()
    tab(page, "What if")
    page.get_by_label("or everything by").fill(name)
    page.get_by_role("option", name=name).click()
    page.get_by_role("button", name="Make it without these").click()
    expect(page.locator("#different img")).to_have_count(5, timeout=3 * PATIENCE)
    expect(page.locator("#different")).to_contain_text("Simulated, not trained again")
    expect(page.locator("#different")).to_contain_text("control 3: without")
    assert page.locator("#different td").first.inner_text().endswith("%")


def test_the_collection_is_searched_and_answers_the_reverse_question(page):
    tab(page, "Collection")
    page.get_by_label("Search captions").fill("cat night")
    expect(page.locator("#found [role=status]")).not_to_contain_text("2520 of")
    page.locator("#found .look").first.click()
    expect(page.locator("#opened h2")).to_be_focused(timeout=PATIENCE)
    leaning = page.locator("#opened [data-drawn]").first
    prompt = leaning.get_attribute("aria-label").split(":")[0]
    leaning.click()
    expect(page.locator("#asked figcaption")).to_contain_text(prompt)
    expect(page.get_by_role("tab", name="Trace", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )


def test_the_report_is_taken_along_and_verified_and_the_link_restores(
    page, browser, url, tmp_path, request
):
    whole_picture(page)
    tab(page, "Report")
    page.get_by_role("button", name="Prepare the report").click()
    files = {}
    for name in ("report.html", "report.json", "ranking.csv"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        files[name] = tmp_path / name
        download.value.save_as(files[name])
    assert "<script" not in files["report.html"].read_text()
    report = json.loads(files["report.json"].read_text())
    assert len(files["ranking.csv"].read_text().splitlines()) == 1 + COUNT
    look = request.node.callspec.params["page"]
    if look == "wide-dark":  # the same in every look
        assert main(["verify", str(files["report.json"])]) == 0
    if look == USUAL:
        link = page.locator("#taken a[data-here]").get_attribute("href")
        again = opened(browser, link)
        expect(again.locator("#asked figcaption")).to_contain_text(report["origin"]["prompt"])
        expect(again.locator("#verdict")).to_contain_text("Evidence: strong", timeout=2 * PATIENCE)
        expect(again.locator("#ranked .alike")).to_be_visible(timeout=2 * PATIENCE)
        assert said(again) == said(page)
        assert verdict(again) == verdict(page)
        again.close()


def test_nothing_is_wrong_for_assistive_technology(page):
    for name in ("Trace", "Collection", "Limits"):
        tab(page, name)
        page.evaluate(
            "document.querySelectorAll('.toast-wrap').forEach(t => t.remove())"
        )  # gradio's
        found = Axe().run(page).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, [(v["id"], v["nodes"][0]["html"][:200]) for v in serious]
    tab(page, "Trace")


# Making and uploading


@pytest.mark.slow
def test_pressed_words_make_a_prompt_and_a_picture(browser, url):
    page = opened(browser, url, viewport=WIDE)
    prompt = page.get_by_label("Describe a picture")
    prompt.fill("a dinosaur")
    expect(page.locator("#unknown")).to_contain_text("Not in its training: dinosaur")
    for value in ("woodcut", "cat", "city"):
        page.locator(f"#words [data-word={value}]").click()
        expect(prompt).to_have_value(re.compile(value))
    expect(prompt).to_have_value(PROMPT)
    expect(page.locator("#unknown")).to_have_text("")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#asked figcaption")).to_contain_text("seed 7")
    expect(page.locator("#verdict")).to_contain_text("This model drew this picture.")
    assert "guessed" not in page.locator("#verdict").inner_text()
    page.wait_for_url("**/?prompt=a+woodcut*")
    page.close()


def test_words_that_no_caption_holds_are_named_while_they_are_typed_and_no_server_is_asked(browser, url):  # fmt: skip
    page, asked = opened(browser, url), []
    page.on("request", lambda request: asked.append(request.url))
    prompt = page.get_by_label("Describe a picture")
    prompt.fill("")
    prompt.press_sequentially(
        "a <b>Dinosaur</b>, with a cat and an ox on Mars by the sea, 一只猫 Zeppelin犬"
    )
    expect(page.locator("#unknown")).to_have_text("Not in its training: Dinosaur, Mars, Zeppelin")
    assert not [each for each in asked if "queue/join" in each]
    page.close()


def test_an_upload_is_traced_as_often_as_wanted_until_it_is_cleared(browser, url, desk):
    page = opened(browser, url, **LOOKS["phone-light"])
    path = desk.collection.folder / desk.collection.files[0]
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#verdict")).to_contain_text("This picture is in the training set")
    expect(page.locator("#asked")).to_contain_text("an upload; it is never stored")
    expect(page.get_by_label("Describe a picture")).to_have_value("")
    trace = page.get_by_role("button", name="Trace", exact=True)
    for prompt in (PROMPT, "a woodcut of a cat by the sea"):
        page.get_by_label("Describe a picture").fill(prompt)
        trace.click()
        expect(page.locator("#asked figcaption")).to_contain_text(prompt)
        expect(page.locator("#asked")).to_contain_text("an upload; it is never stored")
    page.get_by_label("Remove the picture").click()
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    expect(page.get_by_role("button", name="Drop, paste or choose a picture")).to_be_visible()
    assert fits(page)
    page.close()


@pytest.mark.slow
def test_a_large_photograph_is_traced(browser, url, tmp_path):
    path = tmp_path / "photograph.jpg"
    Image.effect_noise((300, 200), 60).resize((6000, 4000)).save(path, quality=30)  # 24 megapixels
    page = opened(browser, url)
    page.get_by_label("Describe a picture").fill(PROMPT)
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#asked")).to_contain_text("an upload; it is never stored")
    expect(page.locator("#asked")).to_contain_text(PROMPT)  # it was typed for this picture
    page.close()


@pytest.mark.slow
def test_a_bad_upload_gives_a_message_and_keeps_the_result(browser, url, desk, tmp_path):
    page = opened(browser, url)
    before = said(page)
    path = tmp_path / "truncated.png"
    path.write_bytes((desk.collection.folder / desk.collection.files[0]).read_bytes()[:300])
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.get_by_text("not a readable JPEG, PNG or WebP")).to_be_visible()
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    assert said(page) == before
    page.locator("input[type=file]").first.set_input_files(
        desk.collection.folder / desk.collection.files[0]
    )  # the box is empty again
    expect(page.locator("#verdict")).to_contain_text("This picture is in the training set")
    page.close()


@pytest.mark.slow
def test_a_blank_page_is_unlikely_to_come_from_this_model(browser, url, tmp_path):
    path = tmp_path / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    page = opened(browser, url)
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#verdict")).to_contain_text("Probably not made by this model")
    expect(page.locator("#verdict")).to_contain_text("the order is no evidence")
    expect(page.locator("#verdict .facts")).to_contain_text("guessed")
    score = cards(page).locator(".score").first
    expect(score).to_be_hidden()
    page.get_by_label("show scores anyway").check()
    expect(score).to_be_visible()
    page.get_by_role("radio", name="Style").check()
    expect(page.locator("#ranked .scale")).to_contain_text("by style")
    expect(score).to_be_visible()  # what was asked to be seen stays so
    expect(page.locator("#artists .bars")).to_be_hidden()
    page.locator("#artists summary").click()
    expect(page.locator("#artists .bars, #artists details p").last).to_be_visible()
    page.close()


@pytest.mark.slow
def test_a_long_job_can_be_stopped(browser, hall, served_folder):
    slow = replace(
        hall,
        desk=replace(
            hall.desk,
            own_queries=200,
            unlearning=replace(hall.desk.unlearning, steps=500),
        ),
    )
    with served(slow) as address:
        page = opened(browser, f"http://{address}")
        cards(page).locator("input").first.check()
        tab(page, "What if")
        expect(page.locator("#leaving img")).to_have_count(1)
        tab(page, "Artists")
        name = page.locator("#artists button").first.inner_text()
        tab(page, "What if")
        page.get_by_label("or everything by").fill(name)  # one picture alone changes too little
        page.get_by_role("option", name=name).click()
        page.get_by_role("button", name="Make it without these").click()
        page.get_by_text("Forgetting").wait_for()
        page.get_by_role("button", name="Stop").last.click()
        expect(page.locator("#different")).to_contain_text("Stopped. Nothing was changed.")
        page.get_by_role("radio", name="Mix…").check()
        page.get_by_label("A phrase").fill("at night")
        page.get_by_role("button", name="Learn it").click()
        page.get_by_text("Learning the concept").wait_for()
        page.get_by_role("button", name="Stop").first.click()
        expect(page.locator("#learned")).to_contain_text("Stopped. Nothing was changed.")
        page.close()


def test_a_script_that_is_not_the_pages_own_does_not_run(browser, url):
    page = opened(browser, url)
    page.evaluate("""document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='hacked = 1'>");
        document.body.appendChild(document.createElement("script")).textContent = "hacked = 1";""")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    page.close()


def test_the_page_fetches_nothing_from_elsewhere(browser, url):
    page = browser.new_page()
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(url)
    cards(page).first.wait_for()
    assert [a for a in fetched if not a.startswith((url, "data:", "blob:"))] == []
    page.close()


@pytest.mark.parametrize(
    "query",
    [
        "?prompt=a%20cat&seed=-1",
        *(
            pytest.param(q, marks=pytest.mark.slow)
            for q in ("?seed=x", "?style=nan", "?artist=" + "x" * 500)
        ),
    ],
)
def test_a_broken_link_still_opens_the_page(browser, url, query):
    page = opened(browser, url + "/" + query)
    assert cards(page).count() == COUNT
    page.close()
