"""The page's parts on the shipped model, without a browser, and how app.py starts."""

import base64
import html
import json
import re
import shutil
import sys
import types
from copy import copy
from dataclasses import replace

import gradio as gr
import pytest

import app
from attribution.described import metadata_of, write_described
from attribution.errors import InputError
from attribution.files import hash_of, load_tensors
from attribution.page.browsing import search
from attribution.page.desk import Desk
from attribution.page.events import on_gpu
from attribution.page.hall import Hall
from attribution.page.inputs import MAX_PROMPT
from attribution.page.layout import create_demo
from attribution.page.looking import closer
from attribution.page.panels import ask, report
from attribution.page.session import as_mix
from attribution.page.taking import written
from attribution.page.vocabulary import with_word
from attribution.report.credentials import Credentials
from attribution.report.document import report_html


@pytest.mark.parametrize(
    ("prompt", "word", "after"),
    [
        ("", ("subject", "cat"), "a cat"),
        ("a cat", ("style", "woodcut"), "a woodcut of a cat"),
        ("a woodcut of a cat by the sea", ("subject", "fish"), "a woodcut of a fish by the sea"),
        ("a woodcut of a cat", ("subject", "cat"), "a woodcut"),
    ],
)
def test_words_that_are_pressed_make_a_prompt(desk, prompt, word, after):
    assert with_word(desk.collection, prompt, *word, MAX_PROMPT) == after


def test_only_known_words_can_be_pressed(desk):
    for word in (("subject", "dinosaur"), ("mood", "glad"), ("subject", None), (None, "cat")):
        with pytest.raises(InputError, match="no such word"):
            with_word(desk.collection, "a cat", *word, MAX_PROMPT)


def test_words_that_no_caption_holds_are_named_in_the_answer(desk):
    assert desk.vocabulary.unknown("a Dinosaur, a cat on Mars") == ("Dinosaur", "Mars")
    unspaced = "一只猫, ピカソ風 Zeppelin犬 แมวน้ำ"  # whose words nobody can tell apart
    assert desk.vocabulary.unknown(unspaced) == ("Zeppelin",)
    session = replace(desk.first(), unknown=desk.vocabulary.unknown("a dinosaur"))
    assert "Not in its training: dinosaur" in desk.views.asked(session)


def test_examples_to_choose_from_share_few_words(desk):
    said = [p for n in desk.chosen(6) for p in desk.examples[n].answer.phrases.values()]
    assert max(map(said.count, said)) <= 2


def test_a_prompt_is_no_longer_than_the_settings_allow(desk):
    short = replace(desk, max_prompt=8)
    for asked in (lambda: short.draw("a woodcut", 7, print), lambda: short.attribute(desk.examples[0].image, "a woodcut", 7)):  # fmt: skip
        with pytest.raises(InputError, match="9 characters; the limit is 8"):
            asked()
    boxes = [c["props"] for c in create_demo(Hall(short)).get_config_file()["components"]]
    assert [each["max_length"] for each in boxes if each.get("label") == "Describe a picture"] == [
        8
    ]


def test_what_needs_a_visitors_session_is_no_tool(desk):
    for tools, named in ((True, {"/attribute", "/browse"}), (False, {"/generate", "/rank"})):
        demo = create_demo(Hall(desk), tools)
        found = set(demo.get_api_info()["named_endpoints"])
        assert found == named if tools else named < found and "/attribute" not in found
        if tools:
            offered = [fn for fn in demo.fns.values() if f"/{fn.api_name}" in found]
            assert not [
                c for fn in offered for c in fn.inputs + fn.outputs if isinstance(c, gr.State)
            ]


@pytest.mark.parametrize(
    "amounts",
    [{"style": float("nan")}, {"style": -1}, {"style": True}, {"style": "1"}, {"style": 0}],
)
def test_a_mix_is_of_numbers_from_0_to_1_and_not_empty(amounts):
    with pytest.raises(InputError):
        as_mix(amounts)


def test_hostile_words_in_the_collection_are_escaped(desk):
    hostile = "<img src=x onerror=alert(1)>"
    labels = [row | {"artist": hostile} for row in desk.collection.labels]
    captions = [hostile] * len(labels)
    collection = replace(desk.collection, labels=labels, captions=captions)
    session = desk.first()
    session = replace(session, answer=replace(session.answer, collection=collection))
    attributor = copy(desk.attributor)
    attributor.collection = collection
    views = Desk(attributor).views
    shown = views.ranked(session) + views.artists(session) + views.as_table(session)
    shown += views.browsed([0], 1, 1, 1, 0) + views.opened(0, [])
    assert hostile not in shown
    assert "&lt;img" in shown


def test_a_report_says_what_an_uploads_credentials_say_and_their_text_stays_text(
    hasty, monkeypatch
):
    hostile = "</td><script src=//example.org/a.js></script>"
    said = Credentials("untrusted", signer=hostile, actions=("made by AI",))
    monkeypatch.setattr("attribution.page.uploads.can_read", lambda: True)
    monkeypatch.setattr("attribution.page.uploads.read_credentials", lambda _: said)
    hall, collection, request = Hall(hasty), hasty.collection, gr.Request(session_hash="signed")
    upload = hall.uploads.put(collection.data(collection.files[0]), "here")
    asked = ask.Handlers(hall, hall.desk.joined).answer(upload, "a cat", None, [], "", 1, request)
    [(session, shown)] = asked
    assert session.credentials == said
    links = report.Handlers(hall).report(session, None, "", [], 1.0)
    data = re.search('text/html[^,]*,([^"]+)" download="report.html"', links)[1]
    for page in (shown, base64.b64decode(data).decode()):
        assert "anybody can sign" in page
        assert "made by AI" in page
        assert html.escape(hostile) in page
        assert hostile not in page
    drawn = replace(session, credentials=None)
    assert "Content Credentials" not in report_html(hall.desk.attributor, written(hall.desk, drawn))


def test_another_method_is_offered_where_its_cache_exists(desk, tmp_path):
    other = tmp_path / "das"
    shutil.copytree("assets/cache", other)
    header = json.loads((other / "header.json").read_text()) | {"method": "das"}
    # as if it had been made so
    header["features"] |= {"objective": "output_mean", "each_timestep": "unit", "residual": True}
    del header["checksum"]
    header["checksum"] = hash_of(header)
    (other / "header.json").write_text(json.dumps(header))
    weights = other / "weights.safetensors"
    about = metadata_of(weights, "")
    belongs_to = about["belongs_to"] | {"method": "das", "features": header["features"]}
    write_described(weights, load_tensors(weights), belongs_to, settings={}, fit=about["fit"])
    both = Desk(desk.attributor, (desk.attributor.with_cache(other),))
    page = create_demo(Hall(both)).get_config_file()
    method = next(
        c["props"]
        for c in page["components"]
        if c["props"].get("label", "").startswith("Method") and "choices" in c["props"]
    )
    assert method["visible"]
    assert [value for _, value in method["choices"]] == ["d-trak", "das"]
    image = desk.collection.image(0)
    assert both.attribute(image, "a cat", None, method="das").method == "das"
    with pytest.raises(InputError, match="no method 'trak'"):
        both.attribute(image, "a cat", None, method="trak")


def test_a_withheld_picture_is_nowhere_on_the_page(desk, tmp_path):
    best = desk.first().answer.rank(1)[0]
    path = tmp_path / "opt_out.json"
    path.write_text(json.dumps({"files": [best.file]}))
    its = desk.attributor
    withheld = replace(desk, attributor=type(its)(its.model, its.collection, its.cache, path))
    seen = withheld.seen(None, None, "", [], 1.0)
    assert best.index not in [source.index for source in seen.shown()]
    assert "1 withheld" in withheld.views.ranked(seen)
    assert best.index not in search(withheld, "", "", "")[0]
    with pytest.raises(InputError, match="withheld"):
        closer(withheld, seen, best.index)


def test_a_zerogpu_space_lends_its_gpu_to_the_heavy_handlers(monkeypatch):
    lent = []
    spaces = types.ModuleType("spaces")
    spaces.GPU = lambda duration: lambda handler: lent.append(handler.__name__) or handler
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    assert on_gpu(ask.Handlers.answer) is ask.Handlers.answer
    assert lent == ["answer"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ATTRIBUTION_MODEL", "nowhere"),
        ("GRADIO_SERVER_PORT", "http"),
        ("ATTRIBUTION_TIME_LIMIT", "-1"),
    ],
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
