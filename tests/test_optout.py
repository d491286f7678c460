"""Who asks to be left out is never ranked, shown or named, from the moment the file says so."""

import ast
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from attribution.answer.answer import Answer, standardise
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.page.desk import Desk
from attribution.page.views import Views
from attribution.pictures.collection import load_collection
from attribution.pictures.optout import WITHHELD, OptOut, Requests, Visible, plain, read_opt_out
from attribution.report.document import thumbnails
from attribution.report.report import make_report

ROOT = Path(__file__).parents[1]
ROWS = {"files", "captions", "labels", "image"}  # what a collection says of single images


@pytest.fixture(scope="module")
def collection(small_collection):
    return load_collection(small_collection)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "opt_out.json"


@pytest.fixture
def answered(collection, file):
    """Answer a picture for which images and artists, given by name, are left out."""
    scores = torch.randn(1, len(collection), generator=torch.Generator().manual_seed(0)) ** 3
    scores = {"general": standardise(scores)[0], "style": standardise(-scores)[0]}

    def answer(**requests):
        file.write_text(json.dumps(requests))
        return Answer(scores, {}, collection, requests=Requests(collection, file))

    return answer


def test_a_hidden_image_is_never_ranked_and_the_others_keep_their_order(answered):
    everybody = [source.file for source in answered().rank(30)]
    some = everybody[0], everybody[4]
    sources = answered(files=some).rank(30)
    assert [source.file for source in sources] == [f for f in everybody if f not in some]
    assert [source.rank for source in sources] == list(range(1, 29))


def test_what_is_hidden_among_the_first_is_counted(answered):
    first = [source.file for source in answered().rank(30)]
    answer = answered(files=[first[0], first[4], first[20]])
    assert [answer.hidden_among(count) for count in (1, 4, 5, 30, 100)] == [1, 1, 2, 3, 3]
    assert answer.hidden_among(9, style=1) == 0 + (first[20] in first[::-1][:9])
    assert answered().hidden_among(30) == 0


def test_an_artists_share_is_withheld_with_the_name(answered):
    before = answered().artists()
    gone = before[0]
    after = answered(artists=[f" {gone.artist.upper()}  "]).artists()
    assert gone.artist not in {share.artist for share in after}
    assert {s.share for s in after if s.artist == WITHHELD} == {gone.share}
    assert sum(share.share for share in after) == pytest.approx(1)


def test_a_change_takes_effect_at_the_next_question_and_an_unchanged_file_is_not_read(
    collection, file, monkeypatch
):
    requests = Requests(collection, file)
    file.write_text("{}")
    assert not requests.hidden().any()
    file.write_text(json.dumps({"files": collection.files[:2]}))
    assert requests.hidden().nonzero()[:, 0].tolist() == [0, 1]
    monkeypatch.setattr("attribution.pictures.optout.read_json", None)
    assert requests.hidden().sum() == 2


def test_without_a_file_nobody_is_hidden_and_one_that_vanishes_shows_nobody(
    small_collection, collection, file
):
    assert not Requests(collection).hidden().any()
    with pytest.raises(InputError, match="cannot be read"):
        Requests(collection, file).hidden()
    beside = small_collection / "opt_out.json"
    requests = Requests(collection)
    beside.write_text(json.dumps({"files": [collection.files[5]]}))
    try:
        assert requests.hidden()[5]
    finally:
        os.remove(beside)
    with pytest.raises(InputError, match="cannot be read"):
        requests.hidden()


def test_names_that_match_nothing_are_reported(collection, file, caplog):
    file.write_text(json.dumps({"files": ["images/nowhere.png"], "artists": ["Nobody"]}))
    requests = Requests(collection, file)
    assert not requests.hidden().any()
    assert read_opt_out(file).unmatched(collection) == ["images/nowhere.png", "nobody"]
    assert "images/nowhere.png" in caplog.text
    assert "nobody" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "[" * 100_000, '{"files": "a.png"}', '{"files": [1]}', '{"artists": null}',
        '{"artist": ["Ann"]}', '{"artists": [["Ann"]]}', '{"artists": {"Ann": 1}}', '{"artists": [" "]}',
        "{" + "\n" * 50 + '"\\n\\n": []}', "\xff",
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_understood_is_refused_in_one_sentence(file, text):
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InputError) as caught:
        read_opt_out(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.fixture
def asked(collection, file):
    """Give the collection as it may be shown to whoever comes after these requests."""

    def visible(**requests):
        file.write_text(json.dumps(requests))
        return Visible(collection, Requests(collection, file))

    return visible


def test_every_fact_of_a_withheld_row_is_refused_and_no_list_holds_it(collection, asked):
    visible = asked(files=[collection.files[3]])
    for fact in (visible.file, visible.caption, visible.labels, visible.image, visible.shown):
        fact(4)
        with pytest.raises(InputError, match="withheld"):
            fact(3)
    rest = [row for row in range(30) if row != 3]
    assert visible.rows() == rest
    assert [row for row, _, _ in visible.described()] == rest
    assert visible.best(-torch.arange(30.0), 5) == [0, 1, 2, 4, 5]
    assert (visible.withheld(), len(visible)) == (1, 30)


def test_a_name_or_a_style_that_only_withheld_rows_have_is_in_no_list(collection, asked):
    names, styles = asked().names("artist"), asked().names("style")
    visible = asked(artists=[names[0]])
    assert visible.names("artist") == names[1:]
    assert not visible.by(names[0]).any()
    theirs = [f for f, about in zip(collection.files, collection.labels, strict=True) if about["style"] == styles[0]]  # fmt: skip
    assert asked(files=theirs[1:]).names("style") == styles
    assert asked(files=theirs).names("style") == styles[1:]


def test_spelling_and_company_do_not_keep_a_request_from_being_honoured(collection):
    names = ["Jos\u00e9", "Ann, Bob", "Ann", "Bobby"]
    labels = [{"artist": name} for name in names]
    some = replace(collection, files=collection.files[:4], labels=labels)
    asked = OptOut(artists=frozenset(map(plain, ["Jose\u0301", " BOB"])))
    assert asked.hidden(some).tolist() == [True, True, False, False]
    assert asked.unmatched(some) == []


def test_an_answer_that_is_kept_honours_requests_that_come_later(collection, file):
    file.write_text("{}")
    scores = {"general": torch.arange(30.0)}
    answer = Answer(scores, {}, collection, requests=Requests(collection, file))
    assert answer.rank(1)[0].index == 29
    file.write_text(json.dumps({"files": [collection.files[29]]}))
    assert answer.rank(1)[0].index == 28
    assert answer.hidden_among(1) == 1


def test_all_caches_and_the_long_jobs_ask_the_same_list(attributor, tmp_path):
    path = tmp_path / "opt_out.json"
    path.write_text("{}")
    its = Attributor(attributor.model, attributor.collection, attributor.cache, path)
    assert its.with_cache(its.cache.folder).requests is its.requests
    assert Desk(its).worker(its.method).requests is its.requests


def test_a_report_that_was_made_before_shows_no_thumbnail_after(attributor, tmp_path):
    path = tmp_path / "opt_out.json"
    path.write_text("{}")
    its = Attributor(attributor.model, attributor.collection, attributor.cache, path)
    image = its.collection.image(0)
    report = make_report(its, image, its.attribute(image, "a cat"), date=datetime.now(UTC))
    files = [source["file"] for source in report["sources"]]
    assert [*thumbnails(its, report)] == files
    path.write_text(json.dumps({"files": files[:2]}))
    assert [*thumbnails(its, report)] == files[2:]


def test_a_thumbnail_that_is_kept_is_not_shown_again(attributor, tmp_path):
    path = tmp_path / "opt_out.json"
    path.write_text("{}")
    its = Attributor(attributor.model, attributor.collection, attributor.cache, path)
    views = Views(its)
    views.about(3)
    path.write_text(json.dumps({"files": [its.collection.files[3]]}))
    with pytest.raises(InputError, match="withheld"):
        views.about(3)
    assert "29 pictures" in views.welcome()
    assert "1 that are withheld" in views.welcome()


def test_what_cannot_be_read_is_told_in_full_only_before_the_page_is_served(collection, file):
    requests = Requests(collection, file)
    file.write_text('{"photographers": ["Ann"]}')
    with pytest.raises(InputError, match="photographers"):
        requests.read()
    with pytest.raises(InputError, match="cannot be read, so nothing is") as caught:
        requests.hidden()
    assert str(file) not in str(caught.value)


def test_page_and_reports_read_single_images_through_the_door_alone():
    """Of the collection itself they may ask how large it is, and what its concepts are."""
    for path in [*(ROOT / "attribution/page").rglob("*.py"), ROOT / "attribution/report/document.py", ROOT / "app.py"]:  # fmt: skip
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ROWS:
                owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
                assert owner != "collection", f"{path}:{node.lineno}"
