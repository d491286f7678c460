"""Scores of other domains: the same calls, and a figure that is 1 for scores that are right."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import GPT2Config, GPT2LMHeadModel

from attribution.errors import InputError
from attribution.gradients.projector import GradientProjector
from precompute import tables
from precompute.evaluate import domains
from precompute.evaluate.elsewhere import digits, docstrings, halves
from precompute.evaluate.elsewhere.domain import losses, train
from precompute.evaluate.elsewhere.halves import HalvesConfig, ground_truth
from precompute.evaluate.statistics import linear_datamodeling_score, spearman

pytestmark = pytest.mark.slow

FEW = HalvesConfig(validation=4, evaluation=5, seeds=2)


@pytest.fixture(scope="module")
def linear_truth():
    draw = np.random.default_rng(0)
    scores, masks = draw.normal(size=(6, 40)), draw.random((20, 40)) < 0.5
    return scores, masks, -(masks @ scores.T)


def test_exact_scores_of_a_linear_truth_reach_one_and_their_negatives_minus_one(linear_truth):
    scores, masks, lost = linear_truth
    assert np.allclose(linear_datamodeling_score(scores, masks, lost), 1)
    assert np.allclose(linear_datamodeling_score(-scores, masks, lost), -1)
    assert np.allclose(linear_datamodeling_score(scores, masks, np.exp(lost)), 1)  # ranks alone


def test_constant_scores_and_constant_losses_give_zero(linear_truth):
    scores, masks, lost = linear_truth
    assert (linear_datamodeling_score(np.full_like(scores, 0.1), masks, lost) == 0).all()
    assert (linear_datamodeling_score(scores, masks, np.ones_like(lost)) == 0).all()


def test_ties_share_their_rank():
    first, second = np.array([[1.0, 2, 2, 3]]), np.array([[1.0, 2, 3, 4]])
    ranks = np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    assert np.allclose(spearman(first, second), ranks)


def test_masks_of_the_wrong_length_and_nan_are_refused(linear_truth):
    scores, masks, lost = linear_truth
    for wrong in (masks[:, 1:], masks[1:]):
        with pytest.raises(InputError, match="masks are"):
            linear_datamodeling_score(scores, wrong, lost)
    with pytest.raises(InputError, match="losses"):
        linear_datamodeling_score(scores[1:], masks, lost)
    with pytest.raises(InputError, match="NaN"):
        linear_datamodeling_score(scores * np.nan, masks, lost)


def test_a_gpt2s_features_keep_the_inner_products_of_its_gradients():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=24, n_positions=12, n_embd=8, n_layer=2, n_head=2,
                        tie_word_embeddings=False)  # fmt: skip
    network = GPT2LMHeadModel(config).eval()
    tokens = torch.randint(0, 24, (3, 12))
    projector = GradientProjector(network, 256, seed=0, parameters="all")  # no block is larger
    got = projector(lambda: docstrings.loss(network, tokens), 3)
    names = {n for n, _ in network.named_parameters() if not n.startswith("transformer.w")}
    assert {n if n.endswith(".bias") else f"{n.removesuffix('.weight')}.weight"
            for n in projector.layers} == names  # fmt: skip
    for place, layer in enumerate(projector.layers):
        name = layer if layer in names else f"{layer}.weight"
        exact = []
        for row in tokens:
            network.zero_grad()
            docstrings.loss(network, row[None]).sum().backward()
            exact.append(network.get_parameter(name).grad.flatten().clone())
        want = torch.stack(exact) @ torch.stack(exact).T
        assert torch.allclose(got[:, place] @ got[:, place].T, want, rtol=1e-3, atol=1e-7), layer


@pytest.fixture(scope="module", params=["digits", "docstrings"])
def small_domain(request, tmp_path_factory):
    truth = tmp_path_factory.mktemp("truth") / f"{request.param}.safetensors"
    if request.param == "digits":
        return digits.load(train=60, queries=10, epochs=4), truth
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, docstrings.VOCABULARY, (80, docstrings.LENGTH), generator=draw)
    return docstrings.dealt(tokens, train=60, queries=10, epochs=1), truth


def test_a_small_run_gives_rows_in_bounds(small_domain, monkeypatch):
    domain, path = small_domain
    monkeypatch.setattr(domains, "PROJ_DIM", 64)
    truth = ground_truth(domain, FEW, path, path.parent / "unfinished")
    rows = domains.measure_domain(domain, truth, seed=0)
    assert [(row["method"], row["weights"]) for row in rows] == [
        (method, weights)
        for method in ("tracin", "trak")
        for weights in ("plain", "equalised", "learned")
    ]
    for row in rows:
        assert -1 <= row["low"] <= row["high"] <= 1
        assert -1 <= row["ceiling"] <= 1
        assert row["weights"] != "equalised" or row["gain_over_equalised"] == 0
        assert (row["subsets"], row["seeds"], row["queries"]) == (5, 2, 10)
    assert tables.domains(rows).count("\n") == len(rows) + 1
    json.dumps(rows)


def test_ground_truth_is_read_again_goes_on_and_is_refused_for_another_recipe(
    small_domain, tmp_path, monkeypatch
):
    domain, _ = small_domain
    path = tmp_path / "truth.safetensors"
    few = HalvesConfig(validation=2, evaluation=2, seeds=2)
    whole = ground_truth(domain, few, tmp_path / "whole.safetensors", tmp_path / "work")
    trained = []

    def stop_at_the_sixth(*args):
        trained.append(args)
        if len(trained) == 6:
            raise KeyboardInterrupt
        return train(*args)

    monkeypatch.setattr(halves, "train", stop_at_the_sixth)
    monkeypatch.setattr(halves, "SAVE_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        ground_truth(domain, few, path, tmp_path / "work")
    trained.clear()
    again = ground_truth(domain, few, path, tmp_path / "work")
    assert len(trained) == 3
    for purpose in whole:
        assert torch.equal(whole[purpose].losses, again[purpose].losses)
    ground_truth(domain, few, path, tmp_path / "work")  # trains nothing
    assert len(trained) == 3
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["recipe"])["epochs"] == domain.epochs
    with pytest.raises(InputError, match="another recipe"):
        ground_truth(dataclasses.replace(domain, epochs=9), few, path, tmp_path / "work")


def test_halves_are_halves_and_training_is_repeatable(small_domain):
    domain, _ = small_domain
    masks = [halves.draw_half(domain, half) for half in range(3)]
    assert all(mask.sum() == len(mask) // 2 for mask in masks)
    assert not torch.equal(masks[0], masks[1])
    rows, queries = masks[0].nonzero()[:, 0], domain.queries["evaluation"]
    first, again, other = (losses(domain, train(domain, rows, s), queries) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pieces_are_whole_start_alike_and_say_what_the_text_says():
    texts = docstrings.docstrings()[:60]
    tokens = docstrings.pieces(texts)
    assert tokens.shape[1] == docstrings.LENGTH
    assert (tokens[:, 0] == docstrings.START).all()
    assert tokens[:, 1:].min() > docstrings.START
    assert tokens.max() < docstrings.VOCABULARY
