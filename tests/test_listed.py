"""An answer that a search lists is the whole answer's first part, says so, and refuses what needs every score."""

import copy
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch

from attribution.answer.queries import Query
from attribution.attributor import Attributor
from attribution.cache.index import build_index
from attribution.cache.search import Exact
from attribution.cache.store import open_cache
from attribution.errors import InputError
from attribution.looks.depth import depth
from attribution.looks.examples import leaning_on
from attribution.looks.stability import stability
from attribution.page import looking, programs
from attribution.page.desk import Desk
from attribution.page.settings import Settings
from attribution.pictures.optout import Requests
from attribution.report.document import report_html
from attribution.report.report import make_report, read_report
from attribution.report.verification import verify_report
from precompute.evaluate import EvaluateConfig, unlearning

CAPTION = "a watercolour of a dog at night"


@pytest.fixture(scope="module")
def both(attributor, tmp_path_factory):
    """The same cache, answered by a pass and by an index that looks at every row."""
    folder = tmp_path_factory.mktemp("indexed") / "cache"
    shutil.copytree(attributor.cache.folder, folder)
    build_index(open_cache(folder, {}), candidates=30)
    names = attributor.model.name, folder, attributor.collection.folder
    return [Attributor.from_pretrained(*names, search=search) for search in ("exact", "index")]


@pytest.fixture(scope="module")
def answers(both):
    image = both[0].collection.image(7)
    return [each.attribute(image, CAPTION) for each in both]


MIXES = ({"general": 1}, {"style": 1}, {"general": 0.5, "style": 2, "subject": 0.1})


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_a_list_is_the_first_part_of_the_whole_answer(answers, mix):
    whole, listed = (answer.rank(10, **mix) for answer in answers)
    assert [s.index for s in listed] == [s.index for s in whole]
    assert [s.score for s in listed] == pytest.approx([s.score for s in whole], rel=1e-3, abs=1e-3)
    for row in (0, 7, 29):
        one, other = (answer.score(row, **mix) for answer in answers)
        assert other == pytest.approx(one, rel=1e-3, abs=1e-3)


def test_what_does_not_need_every_score_is_the_same(both, answers):
    whole, listed = answers
    assert listed.p_values == whole.p_values
    assert listed.phrases == whole.phrases
    assert set(listed.scores) == set(whole.scores)
    parts = [
        depth(each, answer, 3, style=1).parts for each, answer in zip(both, answers, strict=True)
    ]
    assert torch.allclose(*parts, atol=1e-3)
    leaning = [leaning_on([answer], 3, 1, style=1)[0][1] for answer in answers]
    assert leaning[0] == pytest.approx(leaning[1], abs=1e-3)
    image = both[0].collection.image(7)
    stays = [
        stability(each, image, answer, seeds=(1,)).stays(3)
        for each, answer in zip(both, answers, strict=True)
    ]
    assert torch.equal(*stays)


def test_what_needs_every_score_is_refused_in_a_sentence(answers):
    _, listed = answers
    for asked in (
        lambda: listed.mix(style=1),
        listed.artists,
        lambda: listed.scores["general"],
        lambda: listed.rank(3, listed.visible.by(listed.collection.labels[0]["artist"])),
        lambda: max(map(torch.max, listed.scores.values())),
    ):
        with pytest.raises(InputError, match="needs the score of every training picture"):
            asked()
    with pytest.raises(InputError, match="no scores for magic"):
        listed.first(3, magic=1)


def test_an_answer_says_who_answered(answers):
    whole, listed = (answer.searched for answer in answers)
    assert (whole["by"], whole["whole"]) == ("exact", True)
    assert (listed["by"], listed["whole"]) == ("index", False)
    assert "may miss some" in listed["said"]


def test_withheld_pictures_leave_no_gap(both, answers, tmp_path):
    whole, listed = answers
    first = [source.file for source in whole.rank(12)]
    path = tmp_path / "opt_out.json"
    path.write_text(f'{{"files": ["{first[0]}", "{first[2]}", "{first[3]}"]}}')
    requests = Requests(both[0].collection, path)
    left = [replace(answer, requests=requests).rank(3) for answer in answers]
    assert [s.file for s in left[1]] == [s.file for s in left[0]] == [first[1], first[4], first[5]]
    assert [s.rank for s in left[1]] == [1, 2, 3]
    assert replace(listed, requests=requests).hidden_among(4) == 3


def test_a_report_of_a_list_says_so_and_is_verified_by_a_pass(both, answers):
    image = both[0].collection.image(7)
    report = make_report(both[1], image, answers[1], prompt=CAPTION, date=datetime.now(UTC))
    assert report["searched"]["by"] == "index"
    assert report["artists"] == []
    assert "found by an index, which may miss some" in report_html(both[1], report)
    assert verify_report(both[0], report) == []
    assert verify_report(both[1], report) == []


def test_a_report_of_a_list_that_names_artists_is_made_up(both, answers, tmp_path):
    import json

    image = both[0].collection.image(7)
    report = make_report(both[1], image, answers[1], prompt=CAPTION, date=datetime.now(UTC))
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert read_report(path) == report
    report["artists"] = [{"artist": "x", "share": 1.0, "low": 1.0, "high": 1.0}]
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match="the artists cannot be so"):
        read_report(path)


def test_the_page_says_what_it_cannot_tell(both):
    desk = Desk(both[1])
    session = desk.attribute(both[1].collection.image(7), CAPTION, None)
    seen = desk.seen(session, None, "", [], *([1.0] + [0.0] * (len(desk.choices.questions) - 1)))
    assert "found by an index, which may miss some" in desk.views.ranked(seen)
    assert "shares need the score of every training picture" in desk.views.artists(seen)
    assert "%</td>" not in desk.views.as_table(seen)
    assert looking.closer(desk, seen, 3)
    told = programs.as_json(desk, seen, 5)
    assert told["artists"] is None
    assert told["sources"][0]["share"] is None
    assert told["searched"]["by"] == "index"
    whole = Desk(both[0])
    session = whole.attribute(both[0].collection.image(7), CAPTION, None)
    others = programs.as_json(whole, whole.seen(session, None, "", [], 1.0), 5)
    assert [s["row"] for s in others["sources"]] == [s["row"] for s in told["sources"]]
    assert others["searched"]["whole"] is True
    assert others["artists"]


class Losing:
    """A cluster that loses a part after some calls."""

    name, said, left = "ray://x", "by a stand-in", 9

    def __init__(self, cache):
        self.exact = Exact(cache)

    def first(self, asked, count):
        self.left -= 1
        if self.left < 0:
            raise InputError("part 2 of the 3 of the cluster did not answer")
        return self.exact.first(asked, count)

    def moments(self, asked):
        return self.exact.moments(asked)


def test_an_answer_whose_search_loses_a_part_is_refused_on_the_page_and_by_its_programs(both):
    attributor, image = copy.copy(both[1]), both[1].collection.image(7)
    attributor.search = search = Losing(attributor.cache)
    desk = Desk(attributor)
    session = desk.attribute(image, CAPTION, None)
    seen = desk.seen(session, None, "", [], 1.0)
    assert programs.as_json(desk, seen, 5)["searched"]["by"] == "ray://x"
    search.left = 0
    moved = desk.seen(session, None, "", [], 0.5, 0.5)
    for told in (
        lambda: desk.views.ranked(moved),
        lambda: programs.as_json(desk, moved, 5),
        lambda: desk.attribute(image, CAPTION, None),
    ):
        with pytest.raises(InputError, match="part 2 of the 3"):
            told()


def test_an_evaluation_takes_the_first_from_who_answers(both):
    query = Query(both[0].collection.image(7), {}, CAPTION)
    asked = [unlearning.Asked(query, 0, {"subject": "a dog"}, query)]
    by_pass, by_index = (unlearning.lists(each, asked, 0) for each in both)
    assert by_pass == by_index
    with pytest.raises(InputError, match="factors needs the score of every training picture"):
        EvaluateConfig("factors", search="index")
    with pytest.raises(InputError, match="name one with --results"):
        EvaluateConfig("unlearning", search="index", update=True)


def test_a_page_answers_by_what_its_setting_names(monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_SEARCH", "index")
    assert Settings.from_environment().search == "index"
    monkeypatch.setenv("ATTRIBUTION_SEARCH", "magic")
    with pytest.raises(
        InputError, match="ATTRIBUTION_SEARCH is 'magic'; give auto, exact, index or ray"
    ):
        Settings.from_environment()
