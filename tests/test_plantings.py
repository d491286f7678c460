"""Plantings are drawn alike every time, join a collection, and are found as their measures say."""

import itertools
from pathlib import Path

import pytest
import torch

from attribution.concepts import full_prompt
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection
from precompute.evaluate.statistics import average_precision, chance_precision, recall
from precompute.evaluate.truth.plantings import (
    EXEMPLARS,
    Planting,
    combinations,
    draw_planting,
    phrases,
    plant,
)

pytestmark = pytest.mark.slow

ASSETS = Path(__file__).parents[1] / "assets"
FEW = (
    Planting("subject", "key", 3),
    Planting("style", "mosaic", 2),
    Planting("style", "relief", 1),
    Planting("subject", "bell", 1, "validation"),
)


def test_plantings_are_drawn_the_same_twice_and_no_two_pictures_are_alike():
    pictures = [image.tobytes() for p in EXEMPLARS for image, _ in draw_planting(p, seed=0)]
    assert len(set(pictures)) == sum(p.count for p in EXEMPLARS)
    again = [image.tobytes() for p in EXEMPLARS[:2] for image, _ in draw_planting(p, seed=0)]
    assert again == pictures[: len(again)]


def test_a_caption_names_what_was_planted_and_no_prompt_is_cut():
    tokenizer = DiffusionModel.from_pretrained(ASSETS / "model").pipeline.tokenizer
    for planting in EXEMPLARS:
        captions = [row["text"] for _, row in draw_planting(planting, seed=0)]
        assert all(planting.word in caption for caption in captions)
        prompts = [full_prompt(phrases(planting, v)) for v in combinations(planting, seed=0)]
        tokens = tokenizer(captions + prompts).input_ids
        assert max(map(len, tokens)) <= tokenizer.model_max_length


def test_words_are_new_and_those_that_choose_settings_are_not_measured():
    words = [p.word for p in EXEMPLARS]
    assert len(set(words)) == len(words)
    captions = load_collection(ASSETS / "collection").captions
    assert not set(words) & {word for caption in captions for word in caption.split()}


def test_what_cannot_be_planted_is_refused():
    with pytest.raises(InputError, match="no new subject 'mosaic'"):
        Planting("subject", "mosaic", 3)
    with pytest.raises(InputError, match="at least 1"):
        Planting("style", "mosaic", 0)


def test_a_planted_folder_is_the_collection_and_the_plantings(small_collection, tmp_path):
    plant(small_collection, tmp_path / "planted", FEW, seed=0)
    before, after = load_collection(small_collection), load_collection(tmp_path / "planted")
    assert after.concepts == before.concepts
    assert set(before.rows) < set(after.rows)
    for planting in FEW:
        shown = [row for row in after.labels if row[planting.concept] == planting.word]
        assert len(shown) == planting.count
        asked = combinations(planting, seed=0)[planting.count :]
        keys = ("subject", "style", "background")
        assert not {tuple(r[k] for k in keys) for r in shown} & {tuple(v.values()) for v in asked}


def test_recall_and_average_precision_of_a_ranking_made_by_hand():
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    wanted = torch.tensor([[True, False, True, False, True]])
    assert recall(scores, wanted, 1).tolist() == [1.0]  # one place, one wanted in it
    assert recall(scores, wanted, 2).tolist() == [0.5]
    assert recall(scores, wanted, 4).tolist() == pytest.approx([2 / 3])
    assert average_precision(scores, wanted).tolist() == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3])
    assert average_precision(-scores, wanted).tolist() == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3])
    last = torch.tensor([[False, False, False, False, True]])
    assert average_precision(scores, last).tolist() == pytest.approx([1 / 5])


def test_chance_precision_is_the_mean_of_all_rankings():
    rows = torch.tensor(list(itertools.combinations(range(9), 3)))
    wanted = torch.zeros(len(rows), 9, dtype=torch.bool).scatter_(1, rows, True)
    every = average_precision(torch.arange(9.0).expand(len(rows), 9), wanted)
    assert chance_precision(3, 9) == pytest.approx(every.mean())
