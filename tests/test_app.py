"""The page on the shipped model, driven in a real browser and by gradio_client."""

import io
import json
import os
import shutil
import socket
import urllib.error
import urllib.request

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import app
from attribution.errors import InputError
from attribution.files import hash_of

PROMPT = "a woodcut of a cat in the city"
PATIENCE = 60_000  # milliseconds: a bound on hanging, not a promise
PHONE = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def attributor():
    """The shipped attributor, which also counts how often it takes gradients."""
    (loaded,) = app.load()
    attribute = loaded.attribute
    loaded.calls = 0

    def counted(*arguments, **options):
        loaded.calls += 1
        return attribute(*arguments, **options)

    loaded.attribute = counted
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of gradio's own copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("served")))
        yield tmp_path_factory.getbasetemp() / os.environ["GRADIO_TEMP_DIR"]


@pytest.fixture(scope="module")
def url(attributor, folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = app.serve(attributor, "127.0.0.1", port, block=False)
    yield f"http://127.0.0.1:{port}"
    demo.close()


@pytest.fixture(scope="module")
def browser(url):
    """Debian's chromium; without it these tests fail, they do not skip."""
    path = shutil.which("chromium")
    assert path, "there is no chromium; install it (apt-get install chromium)"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser, url, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.get_by_role("button", name="Generate").wait_for()
    return page


def captions(page):
    """The words under the ranked pictures, once there are any."""
    items = page.locator("#ranked .thumbnail-item")
    items.first.wait_for()
    return items.all_inner_texts()


def ask(page, question):
    """Choose a question and wait until its ranking stands."""
    page.get_by_role("radio", name=question).check()
    expect(page.get_by_label(f"range slider for {question}")).to_have_value("1")
    page.wait_for_timeout(300)  # the gallery follows in the same answer


@pytest.fixture(scope="module")
def answered(browser, url):
    """A page whose visitor picked a subject, a style and a background and pressed Generate."""
    page = opened(browser, url, viewport={"width": 1280, "height": 900})
    for concept, value in (("Style", "woodcut"), ("Subject", "cat"), ("Background", "city")):
        page.get_by_label(concept, exact=True).click()
        page.get_by_role("option", name=value, exact=True).click()
    expect(page.get_by_label("Describe it")).to_have_value(PROMPT)
    page.get_by_role("button", name="Generate").click()
    captions(page)
    yield page
    page.close()


@pytest.fixture
def client(url, tmp_path):
    return Client(url, verbose=False, download_files=tmp_path)


@pytest.mark.parametrize(
    ("values", "prompt"),
    [
        (("cat", "woodcut", "sea"), "a woodcut of a cat by the sea"),
        (("cat", app.ANY, "sea"), "a cat by the sea"),
        ((app.ANY, "woodcut", "sea"), "a woodcut by the sea"),
        ((app.ANY, "woodcut", app.ANY), "a woodcut"),
        ((app.ANY, app.ANY, app.ANY), ""),
    ],
)
def test_picked_values_make_a_prompt(attributor, values, prompt):
    assert app.Handlers(attributor).build(*values) == prompt


def test_a_picked_value_counts_only_while_the_prompt_holds_its_phrase(attributor):
    picked = app.Handlers(attributor).picked(("cat", "woodcut", app.ANY), "a woodcut of a fish")
    assert picked == {"style": "a woodcut"}


def test_examples_are_held_out_and_share_no_value(attributor):
    chosen = app.examples(attributor.collection)
    assert len(chosen) >= 4
    assert all(combination in attributor.collection.held_out for combination in chosen)
    for concept in app.CONCEPTS:
        assert len({combination[concept] for combination in chosen}) == len(chosen)


def test_tables_escape_what_the_metadata_says():
    assert "<script>" not in app.table([("caption", "<script>alert(1)</script>")], ("<b>", "x"))


def test_a_prompt_leads_to_a_ranked_gallery(answered):
    ask(answered, "Whole picture")
    shown = captions(answered)
    assert len(shown) == app.COUNT
    assert [int(words.split(" ")[0]) for words in shown] == list(range(1, app.COUNT + 1))
    scores = [float(words.split("score ")[1].split()[0]) for words in shown]
    assert scores == sorted(scores, reverse=True)
    expect(answered.locator("#status")).to_contain_text("style “a woodcut”")
    assert "Guessed" not in answered.locator("#status").inner_text()
    answered.get_by_role("button", name="The same as a table").click()
    expect(answered.locator("#table tbody tr")).to_have_count(app.COUNT)
    expect(answered.locator("#table td", has_text="CC0").first).to_be_visible()


def test_another_question_ranks_anew_without_gradients(answered, attributor):
    ask(answered, "Subject")
    before, calls = captions(answered), attributor.calls
    ask(answered, "Style")
    assert captions(answered) != before
    styles = [words.split("\n")[1].split(", ")[-1] for words in captions(answered)]
    assert styles.count("woodcut") > app.COUNT / 2
    assert attributor.calls == calls


def test_a_slider_ranks_anew_without_gradients(answered, attributor):
    ask(answered, "Subject")
    before, calls = captions(answered), attributor.calls
    answered.get_by_label("range slider for Background").fill("1")
    expect(answered.locator("#ranked")).not_to_have_text("".join(before), use_inner_text=True)
    expect(answered.locator("#ranked .thumbnail-item").first).not_to_have_text(before[0])
    assert attributor.calls == calls
    expect(answered.get_by_role("radio", name="Subject")).not_to_be_checked()


def test_sliders_at_zero_give_a_message_and_keep_the_ranking(answered):
    ask(answered, "Whole picture")
    before = captions(answered)
    answered.get_by_label("range slider for Whole picture").fill("0")
    expect(answered.get_by_text("Move at least one slider above zero.")).to_be_visible()
    assert captions(answered) == before


def test_a_click_shows_the_training_picture_beside_the_query(answered):
    ask(answered, "Whole picture")
    caption = captions(answered)[2].split("\n")[-1]
    answered.locator("#ranked .thumbnail-item").nth(2).click()
    facts = answered.locator("#facts")
    expect(facts).to_contain_text(caption)
    for label in ("artist", "license", "file", "score, whole picture", "score, style"):
        expect(facts).to_contain_text(label)
    for name in ("The traced picture", "The training picture"):
        assert answered.get_by_alt_text(name).last.is_visible()
    heat = answered.locator("#where img")
    expect(heat).to_be_visible(timeout=30_000)
    first = heat.get_attribute("src")
    answered.locator("#ranked .thumbnail-item").nth(5).click()
    expect(heat).not_to_have_attribute("src", first, timeout=30_000)


def test_a_bad_upload_gives_a_message_and_keeps_the_result(answered, attributor, tmp_path):
    before = captions(answered)
    path = tmp_path / "truncated.png"
    path.write_bytes(
        (attributor.collection.folder / attributor.collection.files[0]).read_bytes()[:300]
    )
    answered.get_by_role("tab", name="Upload a picture").click()
    answered.locator("input[type=file]").set_input_files(path)
    expect(answered.get_by_text("not a readable JPEG, PNG or WebP")).to_be_visible()
    assert captions(answered) == before
    answered.get_by_role("button", name="Trace", exact=True).click()
    expect(answered.get_by_text("Choose a picture first.")).to_be_visible()
    assert captions(answered) == before


def test_an_upload_is_traced_under_guessed_words(browser, url, attributor):
    page = opened(browser, url)
    page.get_by_role("tab", name="Upload a picture").click()
    path = attributor.collection.folder / attributor.collection.files[0]
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_alt_text("The upload").wait_for()
    page.get_by_role("button", name="Trace", exact=True).click()
    assert len(captions(page)) == app.COUNT
    expect(page.locator("#status")).to_contain_text("Guessed from the picture: subject")
    page.close()


def test_an_example_runs_at_one_click_and_fits_a_phone(browser, url, attributor):
    page = opened(browser, url, viewport=PHONE, color_scheme="dark")
    combination = app.examples(attributor.collection)[1]
    prompt = app.Handlers(attributor).build(*(combination[concept] for concept in app.CONCEPTS))
    page.get_by_text(prompt, exact=True).click()
    assert len(captions(page)) == app.COUNT
    expect(page.get_by_label("Describe it")).to_have_value(prompt)
    page.locator("#ranked .thumbnail-item").first.click()
    page.get_by_role("button", name="The same as a table").click()
    page.locator("#table tbody tr").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.close()


def test_the_page_fetches_nothing_from_elsewhere(browser, url):
    page = browser.new_page()
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(url)
    page.get_by_role("button", name="Generate").wait_for()
    assert [a for a in fetched if not a.startswith((url, "data:", "blob:"))] == []
    page.close()


def test_a_program_generates_and_ranks_anew(client, attributor):
    picture, sources, *_ = client.predict(PROMPT, 3, api_name="/generate")
    assert Image.open(picture).size == (attributor.model.resolution,) * 2
    assert [source["rank"] for source in sources] == list(range(1, app.COUNT + 1))
    calls = attributor.calls
    by_style = client.predict(0, 0, 1, 0, api_name="/rerank")[0]
    assert attributor.calls == calls
    assert {source["file"] for source in by_style} != {source["file"] for source in sources}
    again = client.predict(1, 0, 0, 0, api_name="/rerank")[0]
    assert again == sources


def test_another_method_is_offered_where_its_cache_exists(attributor, tmp_path, monkeypatch):
    other = tmp_path / "tracin"
    shutil.copytree("assets/cache", other)
    header = json.loads((other / "header.json").read_text()) | {"method": "tracin"}
    del header["checksum"]
    header["checksum"] = hash_of(header)
    (other / "header.json").write_text(json.dumps(header))
    weights = json.loads((other / "weights.json").read_text())
    weights["belongs_to"]["method"] = "tracin"
    (other / "weights.json").write_text(json.dumps(weights))
    do = app.Handlers(attributor, (attributor.with_cache(other),))
    assert list(do.by_method) == ["d-trak", "tracin"]
    page = app.create_demo(attributor, do.others).get_config_file()
    method = next(c["props"] for c in page["components"] if c["props"].get("label") == "Method")
    assert method["visible"]
    assert [value for _, value in method["choices"]] == list(do.by_method)
    image = attributor.collection.image(0)
    session, *_ = do.attribute(image, "a cat", {}, {"general": 1.0}, "tracin", app.PROGRESS)
    assert session.method == "tracin"
    with pytest.raises(InputError, match="no method trak"):
        do.attribute(image, "a cat", {}, {"general": 1.0}, "trak", app.PROGRESS)


def test_each_visitor_has_an_answer_of_their_own(client):
    with pytest.raises(AppError, match="Make or upload a picture first"):
        client.predict(1, 0, 0, 0, api_name="/rerank")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(" ", "Describe a picture first"), ("x" * 10_000, "10000 characters; the limit is 1000")],
)
def test_a_bad_prompt_gives_one_sentence(client, prompt, message):
    with pytest.raises(AppError, match=message):
        client.predict(prompt, 3, api_name="/generate")


@pytest.mark.parametrize("kind", ["text", "svg", "bomb"])
def test_a_bad_file_gives_one_sentence_and_is_deleted(client, folder, tmp_path, kind):
    path = tmp_path / {"text": "notes.png", "svg": "drawing.svg", "bomb": "bomb.png"}[kind]
    path.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>" if kind == "svg" else b"hello")
    if kind == "bomb":
        Image.new("1", (13_000, 13_000)).save(path)
    message = "40 megapixels" if kind == "bomb" else "not a readable JPEG, PNG or WebP"
    with pytest.raises(AppError, match=message):
        client.predict(handle_file(path), "", api_name="/trace")
    assert not list(folder.rglob(path.name))


def test_an_upload_is_deleted_and_its_metadata_is_not_served(client, folder, tmp_path):
    path, exif = tmp_path / "holiday.jpg", Image.Exif()
    exif[0x010E] = "at home"
    Image.new("RGB", (80, 60), "teal").save(path, exif=exif)
    picture, sources, *_ = client.predict(handle_file(path), PROMPT, api_name="/trace")
    assert len(sources) == app.COUNT
    assert not Image.open(picture).getexif()
    assert not list(folder.rglob("holiday.jpg"))


def test_a_blank_page_is_pinned_on_nobody_and_the_models_own_picture_is(client, tmp_path):
    path = tmp_path / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    status = client.predict(handle_file(path), "", api_name="/trace")[-1]
    assert status.startswith("**No training image stands out**")
    *_, artists, status = client.predict(PROMPT, 3, api_name="/generate")
    assert status.startswith("**There is evidence** for: whole picture, subject, style, background")
    assert artists.count("%") >= 3


def test_an_address_is_not_fetched(client):
    upload = {"path": "https://example.com/a.png", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="not its address"):
        client.predict(upload, "", api_name="/trace")


@pytest.mark.parametrize("file", ["metadata.jsonl", "held_out.json", "../../app.py"])
def test_only_images_are_served(url, attributor, file):
    path = (attributor.collection.folder / file).resolve()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{url}/gradio_api/file={path}")


def test_an_image_of_the_collection_is_served(url, attributor):
    path = (attributor.collection.folder / attributor.collection.files[0]).resolve()
    body = urllib.request.urlopen(f"{url}/gradio_api/file={path}").read()
    assert Image.open(io.BytesIO(body)).size[0] >= 64


@pytest.mark.parametrize(
    ("variable", "value"), [("ATTRIBUTION_MODEL", "nowhere"), ("GRADIO_SERVER_PORT", "http")]
)
def test_a_bad_setting_is_one_sentence_and_exit_code_2(
    monkeypatch, capsys, tmp_path, variable, value
):
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    assert app.main() == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
