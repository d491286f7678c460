"""A concept of one's own: the same phrase gives the same weights, and nothing else of an answer changes."""

import itertools
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image

from attribution.answer.answer import standardise
from attribution.answer.calibration import Calibration, evidence
from attribution.answer.questions import query_features
from attribution.attributor import Attributor
from attribution.cache.scoring import weighted
from attribution.cache.weights import FitConfig, fit_weights, read_weights, take_statistics
from attribution.errors import InputError
from attribution.gradients.kernel import apply_kernel
from attribution.looks.own import (
    MAX_QUERIES,
    OwnConcept,
    learn_concept,
    own_p_value,
    with_concept,
)
from attribution.looks.phrases import known_words, plain_phrase, prompts_with, unknown_words
from attribution.models.encoded import Encoded
from attribution.page.hall import Superseded
from attribution.page.panels import ranking
from attribution.pictures.collection import Collection
from attribution.seeds import FIRST_SEED
from precompute.evaluate.own import PHRASES, means

FEW = {"queries": 10, "top_k": 3}  # a whole batch and a part of one
NAME = "own:thick outlines"


@pytest.fixture(scope="module")
def attributor(attributor):
    """The small model with a made-up calibration."""
    found = Attributor(attributor.model, attributor.collection, attributor.cache)
    concepts = found.collection.concepts
    nulls = {c: torch.linspace(-1, 1, 19) for c in concepts}
    found.calibration = Calibration(torch.linspace(-1, 1, 39), nulls)
    return found


@pytest.fixture(scope="module")
def concept(attributor):
    return learn_concept(attributor, "thick outlines", **FEW)


@pytest.fixture(scope="module")
def answer(attributor):
    picture = Image.new("RGB", (64, 64), "teal")
    return picture, attributor.attribute(picture, "a woodcut of a cat", {"background": "at night"})


@pytest.mark.slow
def test_the_same_phrase_gives_the_same_weights_and_another_phrase_others(attributor, concept):
    again = learn_concept(attributor, "  thick \n outlines ", **FEW)
    assert torch.equal(again.weights, concept.weights)
    assert (again.phrase, again.report) == (concept.phrase, concept.report)
    other = learn_concept(attributor, "a woodcut", **FEW)
    assert not torch.allclose(other.weights, concept.weights, rtol=1e-3)
    elsewhere = learn_concept(attributor, "thick outlines", seed=1, **FEW)
    assert not torch.allclose(elsewhere.weights, concept.weights, rtol=1e-3)


def test_weights_are_the_plain_fit_to_the_drawn_pictures(attributor, concept):
    prompts = prompts_with("thick outlines", attributor.collection, 10, 0)
    seeds = [FIRST_SEED["own"] + i for i in range(10)]
    images = attributor.model.generate(prompts[:8], seeds[:8])
    images += attributor.model.generate(prompts[8:], seeds[8:])
    asked = query_features(
        attributor.extractor, Encoded(attributor.model, images), {"x": ["thick outlines"] * 10}
    )["x"]
    parts = attributor.contributions(apply_kernel(asked, attributor.cache.kernel))
    scales = 1 / read_weights(attributor.cache)["equalised"]

    def passes():
        yield 0, parts

    want, curve = fit_weights(passes, take_statistics(passes), scales, FitConfig(top_k=3))
    assert torch.allclose(concept.weights * scales, want, atol=0.02)
    assert (concept.weights * scales).mean().item() == pytest.approx(1, abs=1e-3)
    assert concept.report["loss"] == pytest.approx(curve[-1], abs=1e-3)
    assert concept.report["loss"] < concept.report["loss_at_uniform"]
    assert concept.queries == 10


def test_one_question_joins_and_the_others_stay_as_they_are(attributor, concept, answer):
    picture, before = answer
    after = with_concept(attributor, picture, before, NAME, concept)
    for part in ("scores", "phrases", "p_values", "evidence", "asked", "weights"):
        old, new = getattr(before, part), getattr(after, part)
        assert set(new) == {*old, NAME}, part
        assert all(new[name] is old[name] for name in old), part
    assert NAME not in before.scores
    parts = attributor.contributions(after.asked[NAME][None])
    want = standardise(weighted(parts, concept.weights))[0]
    assert torch.allclose(after.scores[NAME], want, atol=1e-5)
    assert after.rank(3, **{NAME: 1.0})[0].index == int(want.argmax())
    assert torch.allclose(after.mix(**{NAME: 1, "style": 1}), (want + before.scores["style"]) / 2)


def test_a_known_phrase_with_the_caches_weights_scores_as_the_cache_does(
    attributor, concept, answer
):
    picture, before = answer
    same = replace(concept, phrase="a woodcut", weights=attributor.weights["style"], others=None)
    after = with_concept(attributor, picture, before, "own:a woodcut", same)
    assert torch.allclose(after.scores["own:a woodcut"], before.scores["style"], atol=1e-4)
    alone = evidence(Encoded(attributor.model, [picture]), {"own:a woodcut": "a woodcut"})
    assert after.evidence["own:a woodcut"] == pytest.approx(alone["own:a woodcut"], abs=1e-5)


def test_maps_know_the_own_concept_too(attributor, concept, answer):
    picture, before = answer
    after = with_concept(attributor, picture, before, NAME, concept)
    regions = attributor.regions(picture, after)
    assert set(regions.cells) == {"subject", "style", "background", NAME}
    assert torch.isfinite(regions.map(3, **{NAME: 1.0})).all()
    known = attributor.regions(picture, before)
    assert torch.allclose(regions.map(3, style=1.0), known.map(3, style=1.0), atol=1e-4)


@pytest.mark.slow
def test_progress_only_grows_and_ends_complete(attributor):
    told = []
    learn_concept(attributor, "a cat", lambda *step: told.append(step), **FEW)
    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert (done[0], done[-1]) == (0, totals[0])
    assert len(set(done)) >= 6  # two batches drawn and asked, and passes over the cache


@pytest.mark.parametrize("stop_at", [0, 3, 7])
def test_what_progress_raises_stops_and_changes_nothing(attributor, concept, answer, stop_at):
    picture, before = answer
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) > stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_concept(attributor, "thick outlines", stop, **FEW)
    assert len(calls) == stop_at + 1
    assert set(attributor.weights) == {"general", "subject", "style", "background"}
    again = attributor.attribute(picture, "a woodcut of a cat", {"background": "at night"})
    assert all(torch.equal(again.scores[name], before.scores[name]) for name in before.scores)


def test_a_phrase_that_asks_nothing_is_refused_before_any_picture(attributor):
    def never(done, total):
        raise AssertionError("work began")

    for phrase, problem in (
        ("", "no words"),
        ("  \n", "no words"),
        ("?! ... --_", "no words"),
        ("a" * 1001, "1001 characters; the limit is 1000"),
    ):
        with pytest.raises(InputError, match=problem):
            learn_concept(attributor, phrase, never, **FEW)
    for count in (0, MAX_QUERIES + 1):
        with pytest.raises(InputError, match=f"queries is {count}"):
            learn_concept(attributor, "a cat", never, queries=count)
    assert plain_phrase("a" * 1000) == "a" * 1000


def test_a_phrase_that_the_model_cannot_tell_from_silence_is_refused(attributor, monkeypatch):
    deaf = attributor.model.conditions
    monkeypatch.setattr(attributor.model, "conditions", lambda prompts: deaf([""] * len(prompts)))
    with pytest.raises(InputError, match="'a cat' makes no difference to the model"):
        learn_concept(attributor, "a cat", **FEW)


def test_names_of_the_cache_and_concepts_of_another_model_are_refused(attributor, concept, answer):
    with pytest.raises(InputError, match="'style' is a question of the cache"):
        with_concept(attributor, *answer, "style", concept)
    other = type(concept)("a cat", concept.weights[:-1], {}, 1, 0.0, ())
    for wrong in (other, replace(concept, phrase="a cat", method="trak")):
        with pytest.raises(InputError, match="'a cat' was learned with another model or method"):
            with_concept(attributor, *answer, NAME, wrong)


def test_a_picture_that_is_opened_is_asked_what_was_learned_before(hall):
    desk, method = hall.desk, hall.desk.attributor.method
    learned = OwnConcept("at dusk", desk.attributor.weights["style"], {}, 8, 1.0, (), method)
    of_another = replace(learned, phrase="in oil", method="trak")
    own, shown = [learned, of_another], [0.0] * len(desk.choices.questions)
    opened = desk.opened(desk.chosen(2)[1])
    rank, looking = ranking.Handlers(hall).rank, (None, "", own, *shown)
    assert "not asked about its at dusk" in rank([], opened, *looking, 1.0)[0]
    request = gr.Request(session_hash="opener")
    session = hall.opened(opened, own, desk.joined, request, 1)
    with pytest.raises(Superseded):  # another question came meanwhile
        hall.opened(
            opened, own, lambda *asked: hall.newest(request, 3) or desk.joined(*asked), request, 2
        )
    assert (
        hall.opened(session, own, lambda *_: pytest.fail("asked"), request, 4) is session
    )  # nothing is asked twice
    assert session.answer.scores.keys() - opened.answer.scores.keys() == {"own:at dusk"}
    assert "not asked" not in rank([], session, *looking, 1.0)[0]
    assert "not asked about its in oil" in rank([], session, *looking, 1.0, 1.0)[0]
    assert rank([], session, *looking, 0.0, 1.0)[1:] == ("", "", "")  # nothing of another picture


def test_words_that_no_caption_contains_are_listed_once_in_order():
    captions = ["a woodcut of a cat, by the sea"]
    collection = Collection(Path(), ["0.png"], captions, [{}], {}, [])
    assert unknown_words("Thick cats, thick SEA outlines!", known_words(collection)) == [
        "thick",
        "cats",
        "outlines",
    ]
    assert unknown_words("A Woodcut", known_words(collection)) == []


def test_prompts_name_the_phrase_and_no_rival_of_it(attributor):
    collection = attributor.collection
    styles = collection.concepts["style"].values()
    prompts = prompts_with("a woodcut", collection, 40, 0)
    assert all(p.startswith("a woodcut, a ") for p in prompts)
    rests = [p.removeprefix("a woodcut, ") for p in prompts]
    assert not any(style in rest for rest in rests for style in styles)
    assert len(set(rests)) > 20
    assert all(
        any(s in p for s in styles) for p in prompts_with("thick outlines", collection, 9, 0)
    )
    bare = Collection(collection.folder, ["0.png"], ["a cat"], [{}], {}, [])
    assert prompts_with("thick outlines", bare, 2, 0) == ["thick outlines, a cat"] * 2


def test_the_p_value_is_the_largest_of_all_nulls_and_the_whole():
    narrow, wide = torch.linspace(0, 1, 99), torch.linspace(0, 2, 99)
    calibration = Calibration(narrow, {"subject": narrow, "style": wide})
    assert own_p_value(calibration, {"general": 0.01}, 1.5) == pytest.approx(26 / 100)
    assert own_p_value(calibration, {"general": 0.4}, 1.5) == 0.4
    assert own_p_value(calibration, {"general": 0.01}, 3.0) == pytest.approx(0.01)
    bare = Calibration(narrow, {})  # of a collection without concepts
    assert own_p_value(bare, {"general": 0.01}, 0.5) == pytest.approx(0.51)
    assert own_p_value(calibration, {}, 3.0) == 1.0  # nobody judged the whole
    with pytest.raises(InputError, match="NaN"):
        own_p_value(calibration, {}, float("nan"))


def test_without_a_calibration_there_is_no_p_value(attributor, concept, answer, monkeypatch):
    monkeypatch.setattr(attributor, "calibration", None)
    picture, _ = answer
    plain = attributor.attribute(picture, "a woodcut")
    after = with_concept(attributor, picture, plain, NAME, concept)
    assert (after.p_values, after.evidence) == ({}, {})


def test_seeds_are_of_no_other_purpose():
    firsts = sorted(FIRST_SEED.values())
    assert min(b - a for a, b in itertools.pairwise(firsts)) >= 10_000_000


def test_what_phrases_mean_is_in_the_collection(attributor):
    concepts = attributor.collection.concepts
    for phrase, meaning in PHRASES.items():
        assert all(value in concepts[concept] for concept, value in meaning.items()), phrase
        assert any(means(meaning, row) for row in attributor.collection.held_out), phrase
