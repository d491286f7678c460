"""Who asks to be left out is never ranked, shown or named, from the moment the file says so."""

import json
import os

import pytest
import torch

from attribution.attribution import Attribution, standardise
from attribution.collection import load_collection
from attribution.errors import InputError
from attribution.optout import WITHHELD, Requests, read_opt_out


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
        return Attribution(scores, {}, collection, requests=Requests(collection, file))

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
    monkeypatch.setattr("attribution.optout.read_json", None)
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
