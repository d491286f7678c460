"""Contributions under every kernel are a plain inverse's, and weights that are fitted on the truth find it."""

import numpy as np
import pytest
import torch

from attribution.gradients.features import unit
from attribution.gradients.methods import METHODS
from precompute.evaluate import lds
from precompute.evaluate.truth.datamodels import (
    OTHER,
    Chosen,
    Features,
    Truth,
    choose,
    rows_of_chosen,
)
from precompute.evaluate.truth.kernels import contributions_under
from precompute.evaluate.truth.oracle import fit_oracle

TRAIN, GROUPS, DIM, HALVES, QUERIES = 40, 3, 5, 24, 12


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def halves(seed):
    order = torch.rand(HALVES, TRAIN, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order < TRAIN // 2


def linear_truth(parts, weights, seed):
    """Losses of a world in which a half's loss is the weighted sum of its contributions, negated."""
    masks = halves(seed)
    scores = torch.einsum("g,qgn->qn", weights, parts)
    return Truth(masks, -(masks.float() @ scores.T)[None])


@pytest.mark.parametrize("kernel", ["I", "block", "full"])
def test_contributions_are_those_of_a_plain_inverse_in_float64(kernel):
    train, queries = unit(drawn(TRAIN, GROUPS, DIM)), drawn(4, GROUPS, DIM, seed=1)
    damping = None if kernel == "I" else 0.3
    got = contributions_under(train, kernel, damping)(queries)
    phi = train.double().flatten(1)
    moment, size = phi.T @ phi / TRAIN, GROUPS * DIM
    inverse = torch.eye(size, dtype=torch.float64)
    if kernel == "block":
        own = torch.block_diag(*(torch.ones(DIM, DIM) for _ in range(GROUPS))).double()
        inverse = torch.linalg.inv(
            moment * own + 0.3 / DIM * inverse
        )  # rows of each group: norm one
    if kernel == "full":
        among = (phi @ phi.T).diagonal().mean() / TRAIN
        inverse = torch.linalg.inv(moment + 0.3 * among * inverse)
    solved = (phi @ inverse).view(TRAIN, GROUPS, DIM)
    want = torch.einsum("qgd,ngd->qgn", queries.double(), solved)
    assert torch.allclose(got.double(), want, rtol=1e-3, atol=1e-3)


def test_the_oracle_finds_the_one_group_that_tells():
    parts, weights = drawn(QUERIES, GROUPS, TRAIN), torch.tensor([0.0, 1.0, 0.0])
    known = linear_truth(parts, weights, 1)
    found = fit_oracle(parts, known.masks, known.losses[0])
    assert torch.isclose(found.mean(), torch.tensor(1.0))
    assert found[1] > 5 * found[[0, 2]].max()


def test_the_oracle_stays_near_equal_weights_where_there_is_nothing_to_find():
    parts = drawn(QUERIES, GROUPS, TRAIN)
    found = fit_oracle(parts, halves(1), drawn(HALVES, QUERIES, seed=2))
    assert (found - 1).abs().max() < 0.5


@pytest.mark.slow
def test_each_kernel_gives_a_row_for_each_set_of_weights_and_the_right_scores_reach_one():
    train = unit(drawn(TRAIN, GROUPS, DIM))
    asked = {
        name: unit(drawn(QUERIES, GROUPS, DIM, seed=s))
        for s, name in enumerate(("evaluation", "validation"), 5)
    }
    parts = {n: torch.einsum("qgd,ngd->qgn", rows, train) for n, rows in asked.items()}
    telling = torch.tensor([0.0, 3.0, 0.0])
    truth = {name: linear_truth(parts[name], telling, s) for s, name in enumerate(parts)}
    truth[OTHER] = linear_truth(parts["evaluation"], telling, 9)
    features = Features(train, unit(drawn(8, GROUPS, DIM, seed=7)), asked)
    rows = rows_of_chosen(choose(features, truth, ("I", "block")), truth["evaluation"], 0)
    assert [(row["kernel"], row["weights"]) for row in rows] == [
        (kernel, weights)
        for kernel in ("I", "block")
        for weights in ("plain", "equalised", "learned", "oracle")
    ]
    figure = {(row["kernel"], row["weights"]): row["lds"] for row in rows}
    assert figure["I", "oracle"] > 0.95 > figure["I", "equalised"]
    assert all(row["gain_over_equalised"] == 0 for row in rows if row["weights"] == "equalised")


def test_a_mix_is_of_scores_that_are_one_in_size():
    def of(scale, seed):
        return [Chosen("block", "plain", 0.1, scale * drawn(2, 6, seed=seed)),
                Chosen("full", "plain", 0.1, drawn(2, 6))]  # fmt: skip

    found = {("d-trak", "own"): of(7.0, 1), ("trak", "shared"): of(0.01, 2)}
    [mix] = lds.mixed(found)
    sizes = [drawn(2, 6, seed=s) for s in (1, 2)]
    one, other = (each / each.square().mean(1, keepdim=True).sqrt() for each in sizes)
    assert np.allclose(mix.scores, 0.25 * one + 0.75 * other, atol=1e-6)


def test_tracin_is_trak_without_a_kernel():
    assert lds.kernels_of(METHODS["tracin"]) + lds.kernels_of(METHODS["trak"]) == (
        "I",
        "block",
        "full",
    )
    assert lds.kernels_of(METHODS["ekfac"]) == ("I",)
    assert lds.kernels_of(METHODS["d-trak"]) == ("I", "block", "full")
