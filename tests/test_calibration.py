"""P-values are conformal, no words are no evidence, files of another model are refused, shares add up."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attribution.answer.answer import Answer
from attribution.answer.calibration import (
    Calibration,
    calibrated_for,
    described,
    evidence,
    p_value,
    read_calibration,
    write_calibration,
)
from attribution.answer.questions import query_features
from attribution.answer.shares import share_out
from attribution.concepts import denoising_losses, full_prompt, recognise
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import FeatureConfig
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import load_collection
from precompute.__main__ import main
from precompute.evaluate.statistics import clopper_pearson
from precompute.made import EverythingConfig, World, weights_made
from precompute.unrelated import FAMILIES, FOREIGN, draw_unrelated


@pytest.fixture(scope="module")
def model(small_model):
    return DiffusionModel.from_pretrained(small_model)


@pytest.fixture(scope="module")
def collection(small_collection):
    return load_collection(small_collection)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.5])
def test_one_more_of_the_null_is_called_evidence_at_most_so_often(level):
    values = torch.randn(500, generator=torch.Generator().manual_seed(0))
    rest = [torch.cat([values[:i], values[i + 1 :]]) for i in range(len(values))]
    alarms = [p_value(null, v.item()) <= level for null, v in zip(rest, values, strict=True)]
    assert sum(alarms) == int(level * 500)  # exactly, as the ranks of 500 numbers are 1 to 500


def test_ties_are_no_evidence_and_no_p_value_is_zero():
    null = torch.full((9,), 0.5)
    assert p_value(null, 0.5) == 1
    assert p_value(null, 1.0) == 0.1


def test_a_concept_must_pass_both_nulls():
    calibration = Calibration(torch.arange(99.0), {"style": torch.arange(99.0)})
    both = calibration.p_values({"general": 200.0, "style": 200.0})
    assert both == {"general": 0.01, "style": 0.01}
    assert calibration.p_values({"general": 1.5, "style": 200.0})["style"] == pytest.approx(0.98)
    assert calibration.p_values({"general": 200.0, "style": 1.5})["style"] == pytest.approx(0.98)


def test_no_words_are_no_evidence(model, collection):
    image = collection.image(0)
    seen = Encoded(model, [image])
    found = evidence(seen, {"general": "", "style": "a woodcut"})
    assert set(found) == {"style"}
    assert abs(found["style"]) > 1e-5
    null = Calibration(torch.full((99,), -1.0), {"style": torch.full((99,), -1.0)})
    assert null.p_values(evidence(seen, {"general": ""})) == {"general": 1.0}
    with pytest.raises(InputError, match="no loss"):
        null.p_values({"general": float("nan")})


def test_losses_do_not_depend_on_which_phrases_go_together(model, collection):
    image, phrases = collection.image(0), list(collection.concepts["style"].values())
    together = denoising_losses(Encoded(model, [image]), phrases, draws=3)
    alone = torch.cat([denoising_losses(Encoded(model, [image]), [p], draws=3) for p in phrases])
    assert together.shape == (len(phrases), 3)
    assert torch.allclose(together, alone, rtol=1e-4)


def chosen(model, image, phrases):
    """Choose as a few draws and then all of them do, of phrases that were all tried under all draws."""
    losses = denoising_losses(Encoded(model, [image]), phrases)
    few = losses[:, [2, 6]].mean(1)
    left = few <= few.sort().values[:3][-1]
    return phrases[int(losses.mean(1).where(left, torch.inf).argmin())], float(few.min())


@pytest.mark.parametrize(
    "known", [{}, {"subject": "a cat"}, {"subject": "a cat", "background": "at night"}]
)
def test_the_concept_that_explains_least_is_asked_in_the_sentence_of_the_others(
    model, collection, monkeypatch, known
):
    image, rows, predict = collection.image(3), [], model.predict
    named = {c: list(v.values()) for c, v in collection.concepts.items() if c not in known}
    alone = {concept: chosen(model, image, phrases) for concept, phrases in named.items()}
    *clear, least = sorted(alone, key=lambda concept: alone[concept][1])
    told = {concept: alone[concept][0] for concept in clear} | known
    sentences = {full_prompt(told | {least: p}): p for p in named[least]}
    told[least] = sentences[chosen(model, image, list(sentences))[0]]
    monkeypatch.setattr(model, "predict", lambda *some: rows.append(len(some[0])) or predict(*some))
    wanted = {c: v for c, v in collection.concepts.items() if c not in known}
    assert recognise(Encoded(model, [image]), wanted, known=known) | known == told
    values = [len(each) for each in named.values()]
    assert sum(rows) == sum(2 * n + 6 * 3 for n in values) + 2 * len(named[least])


def test_one_concept_is_asked_alone(model, collection):
    image, style = collection.image(3), collection.concepts["style"]
    found = recognise(Encoded(model, [image]), {"style": style}, "a picture like {style}")
    assert found == {"style": chosen(model, image, list(style.values()))[0]}


def test_a_concepts_evidence_is_what_its_phrase_adds_to_the_sentence(model, collection):
    seen = Encoded(model, [collection.image(0)])
    texts = ["", "a woodcut of a cat", "a woodcut", "a cat", "seen: a cat"]
    none, both, style, subject, _ = denoising_losses(seen, texts).log().unbind()
    words = {"general": "a woodcut of a cat", "style": "a woodcut", "subject": "a cat"}
    wanted = {"general": none - both, "style": subject - both, "subject": style - both}
    wanted = {name: pytest.approx(float(each.mean()), abs=1e-6) for name, each in wanted.items()}
    assert evidence(seen, words) == wanted
    assert evidence(seen, {"style": "a woodcut"})["style"] == pytest.approx(
        float((none - style).mean()), abs=1e-6
    )


def test_a_picture_is_encoded_once_and_no_words_twice(model, collection, monkeypatch):
    pictures, words = [], []
    latents, conditions = model.latents, model.conditions
    monkeypatch.setattr(
        model, "latents", lambda some, *at: pictures.extend(some) or latents(some, *at)
    )
    monkeypatch.setattr(model, "conditions", lambda some: words.extend(some) or conditions(some))
    seen = Encoded(model, [collection.image(0)])
    asked = described(recognise(seen, collection.concepts))
    evidence(seen, asked)
    extractor = FeatureExtractor(model, FeatureConfig(timesteps=2, proj_dim=6))
    query_features(extractor, seen, {name: [phrase] for name, phrase in asked.items()})
    assert len(pictures) == 1
    assert len(words) == len(set(words))


def test_what_was_asked_in_other_words_does_not_fit_any_more(attributor):
    places = {n: "a" for n in ("pretrained_model_name_or_path", "train_data_dir", "output_dir")}
    its, config = attributor, EverythingConfig(**places, queries=4)
    world = World(its.model, its.collection, its.cache.folder, config)
    assert weights_made(world) == "general, subject, style, background; from 4 drawings"
    concepts = its.collection.concepts
    subjects = {value: f"no {phrase}" for value, phrase in concepts["subject"].items()}
    for changed in (
        {"sentence": "{style}, {subject}"},
        {"concepts": concepts | {"subject": subjects}},
    ):
        other = replace(its.collection, **changed)
        assert weights_made(replace(world, collection=other)) is None
        both = [calibrated_for(its.model, c.concepts, c.sentence) for c in (its.collection, other)]
        assert both[0] != both[1]


@pytest.mark.slow
def test_the_step_writes_what_is_read_again_and_nobody_else_may_read(
    small_model, small_collection, model, collection, tmp_path
):
    names = ["--pretrained_model_name_or_path", str(small_model)]
    names += ["--train_data_dir", str(small_collection), "--cache_dir", str(tmp_path)]
    assert main(["calibrate", *names, "--unrelated", "19", "--draws", "19"]) == 0
    belongs_to = calibrated_for(model, collection.concepts)
    found = read_calibration(tmp_path, belongs_to)
    assert len(found.unrelated) == 19
    assert {c: len(null) for c, null in found.unshown.items()} == dict.fromkeys(
        collection.concepts, 19
    )
    with pytest.raises(InputError, match="another model"):
        read_calibration(tmp_path, belongs_to | {"model": "other"})
    (tmp_path / "calibration.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="missing or damaged"):
        read_calibration(tmp_path, belongs_to)
    (tmp_path / "calibration.safetensors").unlink()
    assert read_calibration(tmp_path, belongs_to) is None


def test_a_null_that_is_not_finite_is_refused(tmp_path):
    broken = Calibration(torch.tensor([1.0, float("nan")]), {})
    with pytest.raises(InputError, match="not finite"):
        write_calibration(tmp_path, broken, {}, {})
    assert not list(tmp_path.iterdir())


def test_unrelated_pictures_come_from_every_family_and_only_their_seed_decides():
    count = len(FAMILIES | FOREIGN)
    images, names = draw_unrelated(2 * count, 1, (64, 64))
    assert names == 2 * list(FAMILIES | FOREIGN)
    assert {(image.size, image.mode) for image in images} == {((64, 64), "RGB")}
    again, other = draw_unrelated(count, 1, (64, 64))[0], draw_unrelated(count, 2, (64, 64))[0]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(images, again, strict=False))
    assert all(a.tobytes() != b.tobytes() for a, b in zip(again, other, strict=True))


@pytest.mark.parametrize("name", ["gradient", "shapes", "flat fill", "two-tone", "out of focus"])
def test_a_larger_unrelated_picture_is_the_same_with_more_detail(name):
    draw = (FAMILIES | FOREIGN)[name]
    small, large = (draw(np.random.default_rng(3), side) for side in (64, 192))
    assert large.size == (192, 192)
    shrunk = large.resize((64, 64), Image.Resampling.BOX)
    assert np.abs(np.subtract(small, shrunk, dtype=float)).mean() < 3  # of 255


def planted():
    """Give scores in which forty images of one artist and ten of another stand out of two thousand."""
    scores = torch.randn(2000, generator=torch.Generator().manual_seed(0)) * 0.3
    scores[:50] += 5
    return scores, ["Kiri"] * 40 + ["Gouge"] * 10 + ["Tube"] * 1950


def test_shares_are_a_plain_loop_add_up_and_lie_in_their_intervals():
    scores, names = planted()
    found = share_out(scores, names)
    z = (scores - scores.mean()) / scores.std(correction=0)
    for entry in found:
        mine = sum(
            max(v - 2, 0) for v, n in zip(z.tolist(), names, strict=True) if n == entry.artist
        )
        assert entry.share == pytest.approx(mine / (z - 2).clamp_min(0).sum().item(), abs=1e-4)
        assert entry.low <= entry.share <= entry.high
    assert sum(entry.share for entry in found) == pytest.approx(1, abs=1e-5)
    assert [entry.artist for entry in found] == ["Kiri", "Gouge", "Tube"]
    assert found[0].share == pytest.approx(0.8, abs=0.02)
    assert found == share_out(scores, names)


def test_an_interval_of_shares_holds_what_another_sample_gives():
    random.seed(0)
    wide = share_out(*planted())[0]
    scores, names = planted()
    hits = 0
    for _ in range(40):  # other samples: images drawn with replacement
        rows = random.choices(range(2000), k=2000)
        found = share_out(scores[rows], [names[row] for row in rows])
        share = next(entry.share for entry in found if entry.artist == "Kiri")
        hits += wide.low <= share <= wide.high
    assert hits >= 34


def test_scores_without_any_spread_have_no_shares():
    assert share_out(torch.ones(20), ["a"] * 20) == []


def test_a_collection_without_artists_is_told_so(collection):
    answer = Answer({"general": torch.arange(30.0)}, {}, collection)
    assert {share.artist for share in answer.artists()} <= {
        labels["artist"] for labels in collection.labels
    }
    with pytest.raises(InputError, match="no column 'painter'"):
        answer.artists("painter")
    with pytest.raises(InputError, match="no p-value for general; run python -m precompute"):
        answer.stands_out()


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1), (5, 512, 0.0032, 0.0226)],
)
def test_exact_intervals_are_those_of_the_tables(hits, count, low, high):
    assert clopper_pearson(hits, count) == pytest.approx((low, high), abs=2e-4)
