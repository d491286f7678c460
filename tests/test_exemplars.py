"""Exemplars are fine-tuned on alone, left out where they were not learned, and looked for in all words."""

import numpy as np
import pytest

from attribution.errors import InputError
from precompute import tables
from precompute.evaluate import EvaluateConfig, exemplars
from precompute.evaluate.truth import alone
from precompute.evaluate.truth.alone import AloneConfig
from precompute.evaluate.truth.plantings import EXEMPLARS, Planting

FEW = (
    Planting("subject", "cup", 2),
    Planting("subject", "anchor", 1),
    Planting("style", "crayon", 1),
    Planting("style", "bokeh", 1, "validation"),
)


def test_there_are_thirty_exemplars_of_one_to_five_pictures_and_six_choose_settings():
    assert len({p.word for p in EXEMPLARS}) == len(EXEMPLARS) == 30
    assert {p.count for p in EXEMPLARS} == {1, 2, 3, 4, 5}
    assert sum(p.purpose == "validation" for p in EXEMPLARS) == 6


def test_wrong_words_are_another_exemplars_of_the_concept():
    owners = [p for p in FEW[:3] for _ in range(2)]
    found = exemplars.exchanged(owners)
    assert [p.word for p in found] == ["anchor", "anchor", "cup", "cup", "crayon", "crayon"]


@pytest.mark.slow
def test_it_runs_end_to_end_and_does_not_train_again(
    small_model, small_collection, tmp_path, monkeypatch
):
    names = (str(small_model), str(small_collection), "", str(tmp_path))
    config, settings = EvaluateConfig("exemplars", *names), AloneConfig(steps=2, batch_size=2)
    monkeypatch.setattr(alone, "KNOWN_BY", 8)
    monkeypatch.setattr(exemplars, "RECOGNISED", 5)  # of four
    with pytest.raises(InputError, match="none of 3 exemplars was learned in 2 steps"):
        exemplars.measure_exemplars(config, FEW, settings, "evaluation")
    monkeypatch.setattr(exemplars, "RECOGNISED", 0)
    monkeypatch.setattr(alone, "train_denoiser", lambda *_, **__: pytest.fail("trained again"))
    rows = exemplars.measure_exemplars(config, FEW, settings, "evaluation")
    asked = {(row["weights"], row["words"]) for row in rows if row["method"] == "d-trak"}
    assert {words for _, words in asked} == {"right", "wrong", "none"}
    assert len(rows) == 3 * (9 + 5)  # concepts x (ways to ask + baselines)
    for row in rows:
        assert 0 <= row["low"] <= row["recall_at_10"] <= row["high"] <= 1
        assert 0 < row["mean_average_precision"] <= 1
        assert all(np.isfinite(v) for v in row.values() if isinstance(v, float))
        assert "3 of 3 exemplars were learned" in row["measured_on"]
    assert tables.exemplars(rows).count("\n") == len(rows) + 1
