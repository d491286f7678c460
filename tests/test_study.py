"""The study: trainings that differ only by what they keep, and what is measured on them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.gradients.methods import METHODS
from attribution.looks.unlearning import UnlearnConfig
from precompute.__main__ import main
from precompute.evaluate import studied
from precompute.evaluate.captions import before
from precompute.evaluate.lds import ensemble_scores
from precompute.evaluate.truth.study import Study

pytestmark = pytest.mark.slow

ASSETS = ["--pretrained_model_name_or_path", "assets/model"]
SMALL = ["--subsets", "3", "--validation_subsets", "3", "--queries", "4", "--validation_queries", "2",
         "--steps", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """Copy thirty pictures of different combinations, of three subjects in two styles, into an imagefolder."""
    folder, source = tmp_path_factory.mktemp("thirty"), Path("assets/collection")
    concepts = json.loads((source / "concepts.json").read_text())
    for concept, count in (("subject", 3), ("style", 2)):
        concepts[concept] = dict(list(concepts[concept].items())[:count])

    def is_known(row):
        return all(row[concept] in values for concept, values in concepts.items())

    lines = (source / "metadata.jsonl").read_text().splitlines()[:420]
    rows = [row for row in map(json.loads, lines) if is_known(row)][:30]
    (folder / "images").mkdir()
    for row in rows:
        shutil.copy(source / row["file_name"], folder / row["file_name"])
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "concepts.json").write_text(json.dumps(concepts))
    held_out = json.loads((source / "held_out.json").read_text())
    (folder / "held_out.json").write_text(json.dumps([row for row in held_out if is_known(row)]))
    return folder


@pytest.fixture(scope="module")
def small_study(thirty, tmp_path_factory):
    """Run `retrain` with two steps a training on thirty pictures."""
    work = tmp_path_factory.mktemp("runs")
    truth = work / "truth/study.safetensors"
    arguments = [
        *ASSETS,
        "--train_data_dir",
        str(thirty),
        "--work_dir",
        str(work / "study"),
    ]
    assert main(["retrain", *arguments, "--output_file", str(truth), *SMALL]) == 0
    return work, truth, arguments


def test_trainings_of_one_seed_that_keep_the_same_are_the_same(small_study):
    study = Study.open("assets/model", small_study[0] / "study/collection")
    kept = torch.ones(len(study.collection), dtype=torch.bool)
    first, again = (study.train(kept, 5, 2).conv_in.weight for _ in range(2))
    assert torch.equal(first, again)
    kept[:15] = False
    assert not torch.equal(first, study.train(kept, 5, 2).conv_in.weight)
    assert not torch.equal(first, study.train(~kept, 5, 2).conv_in.weight)


def test_what_is_not_kept_changes_nothing(small_study):
    study = Study.open("assets/model", small_study[0] / "study/collection")
    kept = torch.arange(len(study.collection)) % 2 == 0
    trained = study.train(kept, 5, 2).conv_in.weight
    study.latents[~kept] = torch.nan
    assert torch.equal(trained, study.train(kept, 5, 2).conv_in.weight)


def test_a_finished_retrain_trains_nothing_again_and_refuses_other_settings(small_study, capsys):
    work, truth, arguments = small_study
    finished = {p: p.stat().st_mtime_ns for p in (work / "study/losses").iterdir()}
    assert len(finished) == (3 + 3) * 2
    assert main(["retrain", *arguments, "--output_file", str(truth), *SMALL]) == 0
    assert finished == {p: p.stat().st_mtime_ns for p in (work / "study/losses").iterdir()}
    assert main(["retrain", *arguments, "--output_file", str(truth), *SMALL, "--seed", "1"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["lds", "counterfactual", "artists"])
def test_the_study_is_measured(what, small_study, monkeypatch, capsys, tmp_path):
    work, truth, arguments = small_study
    monkeypatch.setattr(studied, "GROUND_TRUTH", truth)
    monkeypatch.setattr(studied, "PROJ_DIM", 4)
    monkeypatch.setattr("precompute.evaluate.refuse_impossible", lambda _: None)
    monkeypatch.setattr(studied, "UNLABELLED", 2)
    monkeypatch.setattr("precompute.evaluate.rivals.PROJ_DIM", 4)
    monkeypatch.setattr(
        "precompute.evaluate.rivals.GROUP", "subject"
    )  # an artist has more than half
    monkeypatch.setattr("precompute.evaluate.rivals.UNLEARNING", UnlearnConfig(steps=1))
    few = {name: METHODS[name] for name in ("tracin", "das", "ekfac")}
    monkeypatch.setattr("precompute.evaluate.lds.METHODS", few)
    monkeypatch.setattr("precompute.evaluate.counterfactual.REMOVED", 5)
    monkeypatch.setattr("precompute.evaluate.counterfactual.EACH", 1)
    capsys.readouterr()
    options = [*arguments[:4], "--work_dir", str(work), "--json"]
    options += ["--queries", "2"] if what != "lds" else []
    assert main(["evaluate", what, *options, "--results", str(tmp_path / "rows.json")]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    figure = {"lds": "lds", "counterfactual": "loss_change", "artists": "top_1"}[what]
    assert all(np.isfinite(row[figure]) and row["low"] <= row["high"] for row in rows)
    expected = {"tracin", "das", "ekfac", "nda", "pixels", "textures", "latents", "captions", "encoded ensemble",
                "data value embedding", "group unlearning"}  # fmt: skip
    if what == "counterfactual":
        expected = {
            "learned",
            "d-trak",
            "latents",
            "random",
            "seed",
            "style removed",
            "subject removed",
        }
    if what == "artists":
        expected = {
            "shares above 2",
            "shares above 1",
            "positive",
            "sums",
            "latents above 2",
            "latents summed",
            "size",
            "retrained",
        }
    assert {row["method"] for row in rows} == expected


def test_without_ground_truth_the_command_says_how_to_make_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(studied, "GROUND_TRUTH", tmp_path / "none.safetensors")
    assert main(["evaluate", "lds", "--work_dir", str(tmp_path)]) == 2
    assert "run python -m precompute retrain" in capsys.readouterr().err


def test_the_ensemble_credits_what_lowers_the_loss_of_the_models_that_saw_it():
    masks = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
    losses = torch.tensor([[1.0], [1.0], [3.0], [3.0]])  # the first picture alone helps
    assert ensemble_scores(masks, losses).tolist() == [[2.0, 0.0]]


def test_before_gives_the_chance_that_a_flipped_caption_ranks_first():
    scores = torch.tensor([0.5, 3.0, 1.0, 2.0])
    assert before(scores, [1]).tolist() == [1.0]
    assert before(scores, [0]).tolist() == [0.0]
    assert before(torch.ones(4), [2]).tolist() == [0.5]


def test_a_loras_layers_are_compared_on_what_it_learned(thirty, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studied, "PROJ_DIM", 4)
    for name, few in (("HALVES", 3), ("SEEDS", 2), ("BASE_STEPS", 2), ("STEPS", 2), ("TIMED", 1)):
        monkeypatch.setattr(f"precompute.evaluate.adapters.{name}", few)
    results = str(tmp_path / "rows.json")
    options = [*ASSETS, "--train_data_dir", str(thirty), "--work_dir", str(tmp_path), "--queries", "3"]  # fmt: skip
    monkeypatch.setattr("precompute.evaluate.refuse_impossible", lambda _: None)
    assert main(["evaluate", "adapters", *options, "--json", "--results", results]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {(r["layers"], r["weights"]) for r in rows} == {
        (layers, weights)
        for layers in ("adapter", "attention", "all")
        for weights in ("plain", "equalised")
    }
    numbers = {r["layers"]: r["numbers"] for r in rows if r["method"] == "d-trak"}
    assert numbers["adapter"] + numbers["attention"] < numbers["all"]
    assert all(np.isfinite(r["lds"]) and -1 <= r["low"] <= r["high"] <= 1 for r in rows)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "adapters/halves").iterdir()}
    assert len(kept) == 3 * 2
    assert main(["evaluate", "adapters", *options, "--json", "--results", results]) == 0
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
