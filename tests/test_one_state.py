"""The page shows one state, never a stale one: the newest question wins, Back returns, a link restores, nothing old stays."""

import re
from dataclasses import replace
from urllib.parse import urlencode

import gradio as gr
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from test_journeys import browser, cards, fits, opened, tab, verdict  # noqa: F401

from attribution.page.hall import Stopped, Superseded
from attribution.page.visitors import Visitors

PROMPT = "a woodcut of a fish by the sea"
STATES = """() => { window.shown = []; setInterval(() => {
  const figure = document.querySelector("#asked figcaption");
  if (figure && getComputedStyle(figure).visibility === "visible") {
    const text = figure.innerText.split("\\n")[0];
    if (shown.at(-1) !== text) shown.push(text);
  }}, 20); }"""


def caption(page):
    return page.locator("#asked figcaption")


def test_a_newer_question_overtakes_an_older_one(hall):
    fresh = replace(hall, visitors=Visitors())
    one, other = gr.Request(session_hash="one"), gr.Request(session_hash="other")
    for turn in (1, 2, 2):  # a later part of the same question is none
        fresh.newest(one, turn)
    with pytest.raises(Superseded):
        fresh.newest(one, 1)
    fresh.newest(other, 1)  # others' questions are none of its business


def test_names_that_callers_make_up_take_no_more_room_and_push_out_nobody_who_is_active(hall):
    fresh = replace(hall, visitors=Visitors(most=3))
    ann, bob = gr.Request(session_hash="ann"), gr.Request(session_hash="bob")
    fresh.newest(ann, 5)
    step = fresh.steps(bob)
    for number in range(50):
        fresh.newest(gr.Request(session_hash=f"made-up-{number}"), 9)
        fresh.answers(gr.Request(session_hash=f"made-up-{number}"), 9)
        fresh.newest(ann, 5)
        step(number, 50)
        assert len(fresh.visitors.known) <= 3
    with pytest.raises(Superseded):
        fresh.newest(ann, 4)
    fresh.stop(bob)
    with pytest.raises(Stopped):
        step(1, 50)
    fresh.leave(ann)
    fresh.newest(ann, 1)  # who comes again is new


def test_who_left_is_stopped_and_not_known_again(hall):
    fresh, ann = replace(hall, visitors=Visitors()), gr.Request(session_hash="ann")
    step = fresh.steps(ann)
    fresh.leave(ann)
    with pytest.raises(Stopped):
        step(1, 2)
    assert not fresh.visitors.known


def test_an_older_drawing_never_replaces_a_newer_choice(browser, url, desk):  # noqa: F811
    page = opened(browser, url)
    number = desk.chosen(3)[2]
    page.get_by_label("Describe a picture").fill(PROMPT)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("html")).to_have_class(re.compile("drawing"))
    page.locator("#strip button").nth(2).click()
    expect(caption(page)).to_contain_text(desk.examples[number].prompt)
    expect(page.locator("html")).not_to_have_class(re.compile("drawing"))
    page.wait_for_timeout(4000)  # in which the drawing would have come
    expect(caption(page)).to_contain_text(desk.examples[number].prompt)
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    assert page.locator(".toast-wrap").inner_text() == ""
    page.close()


def test_stop_answers_within_a_second_and_changes_nothing(browser, url):  # noqa: F811
    page = opened(browser, url)
    before, words = verdict(page), caption(page).inner_text()
    page.get_by_label("Describe a picture").fill(PROMPT)
    page.get_by_role("button", name="Generate").click()
    page.locator("#halt").click()
    expect(page.locator("#make")).to_be_visible(timeout=1000)
    expect(page.locator("#told")).to_have_text(
        re.compile("Stopped. Nothing was changed.|It was there already.")
    )
    stopped = "Stopped" in page.locator("#told").inner_text()
    page.wait_for_timeout(3000)
    if stopped:  # else the drawing was quicker than the press
        assert (verdict(page), caption(page).inner_text()) == (before, words)
    else:
        expect(caption(page)).to_contain_text(PROMPT)
    page.close()


def test_stop_counts_even_before_the_drawing_was_asked_for(browser, url):  # noqa: F811
    page = opened(browser, url)
    before = verdict(page), caption(page).inner_text()
    page.get_by_label("Describe a picture").fill(PROMPT)
    page.evaluate("document.querySelector('#make').click()")
    page.evaluate("document.querySelector('#halt').click()")  # no answer came in between
    expect(page.locator("#told")).to_have_text("Stopped. Nothing was changed.")
    expect(page.locator("#make")).to_be_visible(timeout=1000)
    page.wait_for_timeout(3000)
    assert (verdict(page), caption(page).inner_text()) == before
    page.close()


def test_what_belonged_to_the_picture_before_goes_with_it(browser, url):  # noqa: F811
    page = opened(browser, url)
    tab(page, "What if")
    cards(page).locator("input").first.check()
    expect(page.locator("#leaving img")).to_have_count(1)
    tab(page, "Report")
    page.get_by_role("button", name="Prepare the report").click()
    page.get_by_role("link", name="report.json").wait_for()
    page.locator("#ranked .look").first.click()
    page.locator("#drawer article").wait_for()
    page.evaluate(
        "document.querySelectorAll('#strip button')[1].click()"
    )  # as an answer on its way would
    expect(page.locator("#taken a")).to_have_count(0)
    expect(page.locator("#leaving img")).to_have_count(0)
    expect(page.locator("#drawer")).to_be_hidden()
    expect(page.locator("#ranked input[data-tick]:checked")).to_have_count(0)
    page.close()


def test_back_returns_to_the_picture_before(browser, url, desk):  # noqa: F811
    page = opened(browser, url)
    said = [desk.examples[n].prompt for n in desk.chosen(3)]

    def at(place):
        return lambda address: urlencode({"prompt": said[place]}) in address

    for place in (1, 2):
        page.locator("#strip button").nth(place).click()
        page.wait_for_url(at(place))
    for place in (1, 0):
        page.go_back()
        expect(caption(page)).to_contain_text(said[place])
        expect(page.get_by_label("Describe a picture")).to_have_value(said[place])
        page.wait_for_url(at(place))
    page.close()


def test_a_link_shows_picture_question_and_artist_and_none_before(browser, url, desk):  # noqa: F811
    example = desk.examples[desk.chosen(5)[4]]
    artist = desk.visible.labels(example.answer.rank(1, style=1)[0].index)["artist"]
    asked = {"prompt": example.prompt, "seed": example.seed, "style": 1, "artist": artist}
    page = browser.new_page()
    page.add_init_script(f"({STATES})()")
    page.goto(f"{url}/?{urlencode(asked)}")
    expect(page.locator("#ranked .filter")).to_contain_text(artist)
    expect(page.locator("#ranked .scale")).to_contain_text("by style")
    expect(page.get_by_role("radio", name="Style")).to_be_checked()
    expect(page.locator("#verdict")).to_contain_text(f"Of the training pictures by {artist}")
    expect(page.locator("#ranked")).to_be_visible()
    assert page.evaluate("shown") == [f"“{example.prompt}”"]
    page.close()


@pytest.mark.slow  # it learns
def test_a_link_holds_a_phrase_of_ones_own(browser, url, desk):  # noqa: F811
    first = desk.first()
    asked = {"prompt": first.prompt, "seed": first.seed, "style": 0.5, "own:at night": 1}
    page = opened(browser, f"{url}/?{urlencode(asked)}")
    expect(page.get_by_label("range slider for at night")).to_have_value("1", timeout=180_000)
    expect(page.locator("#ranked .scale")).to_contain_text("style and at night")
    expect(page.locator("#verdict")).to_contain_text("Evidence: ")
    page.close()


# For everybody

WIDTHS = (320, 390, 820, 1280)


def violations(page):
    page.wait_for_function("!document.querySelector('.pending')")  # dimmed while it is made
    page.evaluate("document.querySelectorAll('.toast-wrap').forEach(t => t.remove())")  # gradio's
    found = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "width", [pytest.param(w, marks=[] if w == 1280 else [pytest.mark.slow]) for w in WIDTHS]
)
def test_axe_finds_nothing_in_the_main_states(browser, url, desk, width, scheme):  # noqa: F811
    page = opened(browser, url, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert violations(page) == [], "an example"
    page.get_by_text("How sure is that?").click()
    page.get_by_role("radio", name="Mix…").check()
    page.get_by_label("number input for Subject").wait_for()
    page.locator("#ranked .look").first.click()
    page.locator("#drawer .where img").wait_for()
    page.locator("#drawer summary").click()
    assert violations(page) == [], "a mix, and a closer look"
    page.keyboard.press("Escape")
    path = desk.collection.folder / desk.collection.files[0]
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#verdict")).to_contain_text("This picture is in the training set")
    assert violations(page) == [], "an upload"
    assert fits(page)
    page.close()


def test_a_new_answer_is_announced(browser, url):  # noqa: F811
    page = opened(browser, url)
    page.get_by_role("radio", name="Style").check()
    expect(page.locator("#said[aria-live=polite]")).to_contain_text("pushed its style most")
    expect(page.locator("#said")).to_have_text(verdict(page))
    page.close()
