"""Alikeness is a plain loop, p-values keep their level, and answers, reports and own concepts hold them."""

import json
import shutil
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from attribution.answer.lists import (
    DRAWN,
    FILE,
    FIRST,
    FOLDS,
    RIDGE,
    Discriminant,
    Judge,
    alikeness,
    of_kinds,
    read_lists,
    write_lists,
)
from attribution.answer.questions import WORDLESS, query_features
from attribution.answer.verdict import Judged, p_value_of
from attribution.cache.weights import Fitted, write_weights
from attribution.errors import InputError
from attribution.looks.own import learn_concept, with_concept
from attribution.looks.phrases import prompts_without
from attribution.models.encoded import Encoded
from attribution.pictures.collection import load_collection
from attribution.report.report import make_report, read_report
from attribution.report.verification import verify_report
from precompute.lists import OTHER, calibrate_lists, other_words, taken

PROMPT = "a woodcut of a cat"


def drawn_from(*key, count=40, parts=12, shift=0.0):
    """Draw made-up alikeness of so many pictures."""
    draw = torch.Generator().manual_seed(zlib.crc32(repr((key, shift)).encode()))
    return 0.1 * torch.randn(count, parts, generator=draw) + shift


def test_alikeness_is_a_plain_loop_and_a_silent_group_says_nothing():
    draw = torch.Generator().manual_seed(0)
    asked = torch.randn(2, 5, 3, generator=draw)
    asked[:, 4] = 0
    ten = torch.randn(4, 5, 3, generator=draw)
    half = torch.randn(5, 3, 3, generator=draw)
    kernel = half @ half.transpose(1, 2)
    found = alikeness(asked, ten, kernel).reshape(2, 5)
    for way in range(2):
        for j in range(4):
            f, k = asked[way, j].double(), kernel[j].double()
            products = sum(float(f @ k @ g.double()) for g in ten[:, j]) / 4
            theirs = sum(float(g.double() @ k @ g.double()) for g in ten[:, j]) / 4
            expected = products / (float(f @ k @ f) * theirs) ** 0.5
            assert found[way, j] == pytest.approx(expected, abs=1e-4)
    assert (found[:, 4] == 0).all()


def test_a_picture_is_as_alike_as_can_be_to_itself():
    one = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))
    kernel = torch.eye(3).expand(5, 3, 3)
    assert torch.allclose(alikeness(one, one, kernel), torch.ones(5))


@pytest.mark.parametrize("parts", [6, 60])  # fewer than pictures, and more
def test_the_discriminant_is_fishers_with_a_raised_diagonal(parts):
    nulls = drawn_from("n", count=30, parts=parts)
    drawn = drawn_from("d", count=20, parts=parts, shift=0.1)
    place = Discriminant.between(nulls, drawn)
    within = torch.cat([nulls - nulls.mean(0), drawn - drawn.mean(0)]).double()
    spread = within.std(0, correction=0)
    correlation = (within / spread).T @ (within / spread) / 50
    apart = (drawn.mean(0) - nulls.mean(0)).double() / spread
    direction = torch.linalg.inv(correlation + RIDGE * torch.eye(parts).double()) @ apart / spread
    cosine = torch.nn.functional.cosine_similarity(direction.float(), place.direction, dim=0)
    assert cosine == pytest.approx(1, abs=1e-4)
    assert place(nulls).mean() == pytest.approx(0, abs=1e-4)
    assert place(drawn).mean() == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_told_apart_is_refused():
    same = drawn_from("s")
    with pytest.raises(InputError, match="no nearer"):
        Discriminant.between(same, same)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_one_more_of_a_null_is_called_evidence_about_so_often_and_what_is_drawn_is_found(level):
    """Discriminants have more parts than pictures, and so would fit the nulls that they are learned from."""
    alarms, hits = [], []
    for number in range(6):
        judge = Judge(
            {
                DRAWN: drawn_from("d", number, count=60, parts=80, shift=0.06),
                "one": drawn_from("one", number, count=60, parts=80),
                "other": drawn_from("other", number, count=60, parts=80, shift=-0.02),
            }
        )
        more = drawn_from("more", number, count=60, parts=80)
        alarms += [judge.p_value(each) <= level for each in more]
        new = drawn_from("new", number, count=60, parts=80, shift=0.06)
        hits += [judge.p_value(each) <= level for each in new]
    assert np.mean(alarms) <= level + 3 * (level * (1 - level) / len(alarms)) ** 0.5
    assert np.mean(alarms) > level / 4
    assert np.mean(hits) > 0.9


def test_the_largest_p_value_of_the_kinds_counts_and_none_is_zero():
    far, near = drawn_from("far"), drawn_from("near", shift=0.3)
    alone = Judge({DRAWN: drawn_from("d", shift=0.4), "far": far})
    both = Judge({DRAWN: drawn_from("d", shift=0.4), "far": far, "near": near})
    best, middling = torch.full((12,), 2.0), torch.full((12,), 0.3)
    assert both.p_value(best) == 1 / 41
    assert alone.p_value(middling) < 0.1
    assert both.p_value(middling) > 0.2


def test_nulls_are_placed_by_what_was_learned_without_them():
    judge = Judge({DRAWN: drawn_from("d", shift=0.1), "null": drawn_from("n")})
    placed = [(place, nulls["null"]) for place, nulls in judge.folds]
    assert len(placed) == FOLDS
    assert sum(len(nulls) for _, nulls in placed) == 40
    for place, nulls in placed:
        where = torch.isclose(place(judge.kinds["null"])[:, None], nulls, atol=1e-6).any(1)
        rest = Discriminant.between(judge.kinds["null"][~where], judge.kinds[DRAWN][~where])
        assert torch.allclose(rest.direction, place.direction, atol=1e-4)


def made_up(attributor, count=20):
    """Make up what lists are compared with, for every question."""
    known, parts = {}, 2 * len(attributor.cache.groups)
    for question in ("general", *attributor.collection.concepts):
        known[f"{question}: {DRAWN}"] = drawn_from(question, count=count, parts=parts, shift=0.3)
        for kind in ("one", "other"):
            known[f"{question}: {kind}"] = drawn_from(question, kind, count=count, parts=parts)
    return known


@pytest.fixture
def cache(attributor, tmp_path):
    """The cache, in a folder of its own for what is written here."""
    shutil.copytree(attributor.cache.folder, tmp_path, dirs_exist_ok=True)
    return replace(attributor.cache, folder=tmp_path)


def test_what_is_written_is_read_again_and_for_other_weights_is_not_there(
    attributor, cache, caplog
):
    assert read_lists(cache) is None
    known = made_up(attributor)
    write_lists(cache, known, {})
    found = read_lists(cache)
    assert found.known.keys() == known.keys()
    name = f"style: {DRAWN}"
    assert torch.allclose(found.known[name], known[name], atol=1e-3)
    assert not caplog.records
    ones = torch.ones(len(cache.groups))
    write_weights(cache, {"general": Fitted(ones, ones.clone(), [0.0])}, {})
    assert read_lists(cache) is None
    assert "(another weights); run python -m precompute calibrate; until then" in caplog.text


def test_damage_and_too_few_are_refused(attributor, cache):
    known = made_up(attributor)
    with pytest.raises(InputError, match="fewer than 10"):
        write_lists(cache, made_up(attributor, count=9), {})
    with pytest.raises(InputError, match="not finite"):
        write_lists(cache, known | {"style: one": known["style: one"] * float("nan")}, {})
    assert not (cache.folder / FILE).exists()
    for left_out in (f"style: {DRAWN}", "general: "):
        lacking = {name: alike for name, alike in known.items() if not name.startswith(left_out)}
        write_lists(cache, lacking, {})
        with pytest.raises(InputError, match="its kinds of pictures cannot be so"):
            read_lists(cache)
    (cache.folder / FILE).write_bytes(b"damaged")
    with pytest.raises(InputError, match="missing or damaged"):
        read_lists(cache)


@pytest.fixture
def judge(attributor, monkeypatch):
    monkeypatch.setattr(attributor, "lists", of_kinds(made_up(attributor)))
    return attributor


def test_an_answer_holds_a_p_value_for_every_question_by_its_own_first_ten(judge):
    image = judge.collection.image(3)
    answer = judge.attribute(image, PROMPT)
    assert answer.list_p_values.keys() == answer.scores.keys()
    phrases = {"general": [PROMPT], "style": [answer.phrases["style"]]}
    features = query_features(
        judge.extractor, Encoded(judge.model, [image]), phrases, wordless=True
    )
    ten = answer.scores["style"].topk(FIRST).indices.tolist()
    alike = alikeness(
        torch.cat([features["style"], features[WORDLESS]]),
        torch.stack([judge.feature(row) for row in ten]),
        judge.cache.kernel,
    )
    assert answer.list_p_values["style"] == judge.lists.judges["style"].p_value(alike)


def test_without_words_stands_beside_the_questions_and_changes_none(judge):
    seen = Encoded(judge.model, [judge.collection.image(0)])
    asked = {"general": [PROMPT], "style": ["a woodcut"]}
    plain = query_features(judge.extractor, seen, asked)
    both = query_features(judge.extractor, seen, asked, wordless=True)
    bare = both.pop(WORDLESS)
    assert plain.keys() == both.keys()
    assert all(torch.allclose(plain[name], both[name], atol=1e-5) for name in plain)
    alone = query_features(judge.extractor, seen, {"general": [""]})["general"]
    assert torch.allclose(alone, bare, atol=1e-4)


def test_a_mix_is_as_sure_as_its_least_sure_part(judge):
    answer = judge.attribute(judge.collection.image(3), PROMPT)
    known = {"general": 0.2, "style": 0.05, "subject": 0.01}
    answer = replace(answer, list_p_values=known)
    assert answer.list_p_value() == 0.2
    assert answer.list_p_value(style=1, subject=3) == 0.05
    assert answer.list_p_value(general=0, subject=3) == 0.01
    assert answer.list_p_value(subject=1, background=1) is None
    assert replace(answer, list_p_values={}).list_p_value() is None


def test_without_what_to_compare_with_nothing_is_said(attributor):
    answer = attributor.attribute(attributor.collection.image(0), PROMPT)
    assert (answer.list_p_values, answer.list_p_value()) == ({}, None)
    report = make_report(attributor, attributor.collection.image(0), answer, date=datetime.now(UTC))
    assert "lists" not in report["calibration"]


def test_a_report_holds_them_and_what_was_changed_is_found(judge, tmp_path):
    image = judge.collection.image(3)
    answer = judge.attribute(image, PROMPT)
    report = make_report(judge, image, answer, prompt=PROMPT, date=datetime.now(UTC))
    assert report["calibration"]["lists"] == {
        name: round(p, 6) for name, p in answer.list_p_values.items()
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert verify_report(judge, read_report(path)) == []
    report["calibration"]["lists"]["style"] = 0.5 + answer.list_p_values["style"] / 3
    assert [each.path for each in verify_report(judge, report)] == [
        ("calibration", "lists", "style")
    ]
    report["calibration"]["lists"]["style"] = 0.0
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match="the p-values of lists cannot be so"):
        read_report(path)


@pytest.mark.parametrize(
    ("mix", "of_words", "found"),
    [
        ({"general": 1.0}, {}, 0.005),
        ({"general": 1.0, "style": 0.5}, {}, 0.3),
        ({"own:phrase": 1.0}, {}, None),
        (
            {"general": 1.0},
            {"general": 0.002},
            0.004,
        ),  # of two that are known, the less counts twice
        ({"general": 1.0, "style": 0.5}, {"general": 0.8, "style": 0.9}, 0.6),
        ({"style": 1.0}, {"style": 0.9}, 0.6),
    ],
)
def test_the_verdict_takes_lists_and_words_together(mix, of_words, found):
    lists = {"general": 0.005, "style": 0.3}
    judged = Judged(mix, of_words, of_words, {"general": "a cat"}, True, None, lists=lists)
    assert p_value_of(judged) == found


@pytest.mark.slow  # draws 20 pictures
def test_an_own_concept_is_compared_with_pictures_that_do_not_name_it(judge):
    concept = learn_concept(judge, "thick outlines", queries=10, top_k=3)
    assert concept.others.shape == (10, 2 * len(judge.cache.groups))
    image = Image.new("RGB", (64, 64), "teal")
    answer = judge.attribute(image, PROMPT)
    more = with_concept(judge, image, answer, "own:thick", concept)
    assert more.list_p_values["own:thick"] >= max(1 / 11, answer.list_p_values["general"])
    assert more.list_p_values.items() >= answer.list_p_values.items()
    silent = with_concept(judge, image, answer, "own:thick", replace(concept, others=None))
    assert "own:thick" not in silent.list_p_values


def test_among_others_the_p_value_counts_them(judge):
    parts = 2 * len(judge.cache.groups)
    others, best = drawn_from("o", count=19, parts=parts), torch.full((parts,), 9.0)
    assert judge.lists.p_value_among(others, best) == 1 / 20
    assert judge.lists.p_value_among(others, -best) == 1


def test_prompts_without_a_phrase_do_not_name_it(small_collection):
    collection = load_collection(small_collection)
    found = prompts_without("a woodcut", collection, 12, 0)
    assert len(found) == 12
    assert not any("woodcut" in prompt for prompt in found)
    bare = replace(collection, concepts={}, captions=["a cat", "a woodcut of a cat"] * 15)
    assert set(prompts_without("a woodcut", bare, 5, 0)) == {"a cat"}


def test_other_words_are_never_those_that_are_shown(small_collection):
    concepts = load_collection(small_collection).concepts
    words = {c: next(iter(phrases.values())) for c, phrases in concepts.items()}
    for seed in range(20):
        other = other_words(concepts, words, np.random.default_rng(seed))
        assert other.keys() == words.keys()
        assert all(other[c] != words[c] and other[c] in concepts[c].values() for c in words)


@pytest.mark.slow  # draws and asks 20 pictures
def test_the_step_takes_every_kind_once(attributor, cache, monkeypatch):
    monkeypatch.setattr(attributor, "cache", cache)
    calibrate_lists(attributor, 10, 0)
    asked = attributor.collection.asked
    assert taken(attributor) == {"lists": 10, "seed": 0, "asked": asked}
    found = read_lists(cache)
    assert found.judges["general"].kinds.keys() == {DRAWN, "guessed words", "typed words"}
    for concept in attributor.collection.concepts:
        assert found.judges[concept].kinds.keys() == {DRAWN, "unrelated", OTHER}
    assert {len(alike) for alike in found.known.values()} == {10}
    written = (cache.folder / FILE).read_bytes()
    monkeypatch.setattr("precompute.lists.of_drawn", None)
    calibrate_lists(attributor, 10, 0)
    assert (cache.folder / FILE).read_bytes() == written
