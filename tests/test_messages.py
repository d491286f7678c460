"""What goes wrong is headed by what happened, never "Error", whoever says it: the page, its queue, or Gradio itself."""

import json

import gradio as gr
import pytest
from playwright.sync_api import expect
from test_journeys import browser, opened, tab  # noqa: F401

from attribution.errors import InputError
from attribution.page.events import FAILED, FAULT, REFUSED, plainly
from attribution.page.guards import FULL
from attribution.page.settings import Settings


@pytest.fixture
def page(browser, url):  # noqa: F811
    """A visitor's page, on which nothing was ever headed "Error"."""
    page = opened(browser, url)
    yield page
    assert "Error" not in page.locator("body").inner_text()
    page.close()


def toast(page, title, text):
    body = page.get_by_test_id("toast-body").last
    expect(body.locator(".toast-title")).to_have_text(title)
    expect(body.get_by_test_id("toast-text").last).to_contain_text(text)


def choose(page, name, kind, data):
    file = {"name": name, "mimeType": kind, "buffer": data}
    page.locator("#upload input[type=file]").set_input_files(file)


def test_a_mistake_is_headed_by_what_happened(page):
    tab(page, "What if")
    page.get_by_role("button", name="Make it without these").click()
    toast(page, "That did not work", "Tick some training pictures first")


def test_a_picture_that_is_too_large_is_told_before_it_is_sent(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    choose(page, "a.png", "image/png", bytes((Settings().max_upload_mb << 20) + 1))
    toast(page, "The picture is too large", "make it smaller")
    assert not [each for each in sent if each.endswith("/upload") or "/upload?" in each]


def test_a_file_that_is_no_picture_is_told(page):
    choose(page, "a.txt", "text/plain", b"hello")
    toast(page, "This is no picture", "Choose a JPEG, PNG or WebP.")


def test_a_full_queue_is_no_error(page):
    body = json.dumps({"detail": FULL})
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, content_type="application/json", body=body))  # fmt: skip
    page.get_by_role("button", name="Generate").click()
    toast(page, "Too much at once", FULL)


def test_a_server_that_is_gone_is_told_in_our_words(page):
    page.route("**/queue/**", lambda route: route.abort())
    page.get_by_role("button", name="Generate").click()
    toast(page, "The connection is lost", "This page tries to find its server again.")


def test_a_fault_of_ours_is_told_and_kept_for_the_log():
    def broken():
        return 1 / 0

    with pytest.raises(gr.Error) as caught:
        plainly(broken)()
    assert (caught.value.message, caught.value.title) == (FAULT, FAILED)
    assert caught.value.print_exception
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_mistake_keeps_its_sentence_and_is_not_printed():
    def refused():
        raise InputError("give <b>less</b>")

    with pytest.raises(gr.Error) as caught:
        plainly(refused)()
    assert caught.value.message == "Give &lt;b&gt;less&lt;/b&gt;."
    assert caught.value.title == REFUSED
    assert not caught.value.print_exception
